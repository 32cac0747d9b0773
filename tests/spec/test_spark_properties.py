"""Spark properties: which values each takes, what is said of a refused one, and the page that lists them."""

import os
from pathlib import Path

import pytest

from passbox.analysis.spark_properties import (
    PARTITIONS,
    PROPERTIES,
    TIME_ZONE,
    PropertyRefused,
    session,
    takes,
)

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "spark-properties.md"
HEAD = """# Spark properties

Rendered from `passbox.analysis.spark_properties`; a test holds this page to it. These are the names that AWS
Clean Rooms documents for `computeConfiguration.worker.properties.spark`, of protected queries and of ML input
channels. All others are refused. The embedded engine has no such settings and refuses every one but a
`spark.sql.session.timeZone` that is UTC; the first table is what a room on a Spark (`PASSBOX_SPARK_REMOTE`)
sets on the session of that query alone. Without a `spark.sql.shuffle.partitions` of its own,
a query's shuffles are cut for the cores of the workers that it asks for (4 of a CR.1X, 16 of a
CR.4X, 32 of a CR.8X).
"""
REFUSED = {
    "F": "Spark reads it when it starts; the operator sets it on the server",
    "A": "it would change what queries answer, which was verified under Spark's own rules only",
    "O": "of AWS's own build of Spark, an older one, Hive, or files that the room writes itself",
}


def render() -> str:
    lines = [HEAD, "| property | takes |", "|---|---|"]
    lines += [f"| `{n}` | {takes(p)} |" for n, p in sorted(PROPERTIES.items()) if p.effect == "S"]
    lines += ["\n## Refused\n", "| property | because |", "|---|---|"]
    lines += [f"| `{n}` | {REFUSED[p.effect]} |" for n, p in sorted(PROPERTIES.items()) if p.effect != "S"]
    return "\n".join(lines) + "\n"


def test_the_page_is_the_table() -> None:
    if "PASSBOX_REWRITE_GOLDEN" in os.environ:
        REFERENCE.write_text(render())
    assert REFERENCE.read_text() == render()


# property (spark.sql. left out) | text | what the session is told, or - where the text is refused
VALUES = """
shuffle.partitions | 8 | 8
shuffle.partitions | 10000 | 10000
shuffle.partitions | 0 | -
shuffle.partitions | 10001 | -
shuffle.partitions | -1 | -
shuffle.partitions | 8.0 | -
shuffle.partitions | ٨ | -
shuffle.partitions | | -
adaptive.enabled | TRUE | true
adaptive.enabled | false | false
adaptive.enabled | yes | -
autoBroadcastJoinThreshold | -1 | -1
autoBroadcastJoinThreshold | 10MB | 10485760
autoBroadcastJoinThreshold | 10 mb | 10485760
autoBroadcastJoinThreshold | 10485760b | 10485760
autoBroadcastJoinThreshold | 1g | 1073741824
autoBroadcastJoinThreshold | 1073741825 | -
autoBroadcastJoinThreshold | -2 | -
files.maxPartitionBytes | -1 | -
files.maxPartitionBytes | 128MB | 134217728
files.maxPartitionBytes | 1k | -
broadcastTimeout | 300s | 300
broadcastTimeout | 300 | 300
broadcastTimeout | 1h | -
adaptive.skewJoin.skewedPartitionFactor | 5 | 5
adaptive.skewJoin.skewedPartitionFactor | 2.5 | 2.5
adaptive.skewJoin.skewedPartitionFactor | nan | -
adaptive.skewJoin.skewedPartitionFactor | 0.5 | -
session.timeZone | UTC | UTC
session.timeZone | +00:00 | UTC
session.timeZone | America/Los_Angeles | -
"""


@pytest.mark.parametrize("line", VALUES.strip().splitlines())
def test_values(line: str) -> None:
    name, text, told = (part.strip() for part in line.split("|"))
    name = f"spark.sql.{name}"
    if told == "-":
        with pytest.raises(PropertyRefused) as caught:
            session({name: text}, "spark", "CR.1X", 2)
        assert (caught.value.name, takes(PROPERTIES[name]) in str(caught.value)) == (name, True)
    else:
        assert session({name: text}, "spark", "CR.1X", 2)[name] == told


def test_every_bound_is_a_value_itself() -> None:
    for name, known in PROPERTIES.items():
        for text in filter(None, (known.least, known.most)):
            assert name in session({name: text}, "spark", "CR.1X", 2)


def test_workers_cut_the_shuffles_unless_the_request_does() -> None:
    assert session({}, "spark", "CR.4X", 3) == {PARTITIONS: "48"}
    assert session({PARTITIONS: "7"}, "spark", "CR.4X", 3) == {PARTITIONS: "7"}
    assert session({TIME_ZONE: "Z"}, "sail", "CR.4X", 3) == {}


@pytest.mark.parametrize(
    ("name", "engine", "words"),
    [
        ("spark.sql.shufle.partitions", "spark", "nearest is spark.sql.shuffle.partitions"),
        ("spark.sql.warehouse.dir", "spark", "no Spark property that can be set"),
        ("", "sail", "the nearest is spark."),
        ("spark.task.maxFailures", "spark", "when it starts"),
        ("spark.sql.legacy.timeParserPolicy", "spark", "change what the query answers"),
        ("spark.emr-serverless.allocation.batch.size", "spark", "nothing here that it could set"),
        ("spark.sql.shuffle.partitions", "sail", "embedded engine has no such setting"),
    ],
)
def test_refusals_say_which_and_why(name: str, engine: str, words: str) -> None:
    with pytest.raises(PropertyRefused, match=words) as caught:
        session({name: "1"}, engine, "CR.1X", 2)  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"{name}: ")
