"""The exam of engines, sat by a real Spark: answers, refusals, the time limit, and nothing left on it."""

import time
import uuid

import pyarrow.parquet as parquet
import pytest

from contract.test_engine import ORDERS, PEOPLE
from lib import spark
from lib.engine import Exam
from passbox.analysis import spark_properties
from passbox.analysis.spark_properties import PARTITIONS, PROPERTIES
from passbox.backends.engines import connect
from passbox.backends.engines.base import Resources, Target
from passbox.backends.engines.spark import Spark
from passbox.backends.runtimes.unsafe import UnsafeRuntime
from passbox.errors import JobFailed, Misconfigured

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def remote():
    if (reason := spark.unavailable()) is not None:
        pytest.skip(reason)
    with spark.server() as found:
        yield found


class OnSpark(Exam):
    """The exam's tables and plans, run by Spark."""

    remote = ""

    def run(self, plan, format="parquet", **resources):
        run = self.directory / uuid.uuid4().hex
        for part in ("out", "scratch"):
            (run / part).mkdir(parents=True)
        given = Resources(**{"memory_bytes": 1 << 30, "cpus": 2.0, "seconds": 60.0, **resources})
        tables = {name: self.tables[name] for name in plan.tables}
        written = Spark(self.remote).run(
            plan, tables, [Target(run / "out", format)], given, run / "scratch", self.said.append
        )
        return written, sorted((run / "out").iterdir())


@pytest.fixture
def exam(remote, tmp_path):
    made = OnSpark(UnsafeRuntime(), tmp_path)
    made.remote = remote
    made.parquet("people", PEOPLE)
    made.csv("my-orders", ORDERS)
    return made


def test_types_and_nulls(exam) -> None:
    rows = exam.rows("SELECT id, name, owed, owed * 2 AS twice FROM people ORDER BY id")
    assert [row["name"] for row in rows] == ["Ada", 'O\'Hara, "Bo"', None]
    assert [str(row["twice"]) for row in rows] == ["2.20", "-4.50", "None"]
    joined = exam.rows(
        "SELECT p.id, o.amount, o.paid FROM people p JOIN `my-orders` o ON p.id = o.person "
        "ORDER BY p.id, o.placed"
    )
    assert [tuple(row.values()) for row in joined] == [(1, 2.0, False), (1, 1.5, True), (2, None, None)]


def test_parameters_are_bound_never_spliced(exam) -> None:
    for value in ("it's", "x' OR 1=1 --", "\\", ":p", "`id`"):
        rows = exam.rows("SELECT count(*) AS n, max(:p) AS p FROM people WHERE name = :p OR id = 1", p=value)
        assert rows == [{"n": 1, "p": value}]


def test_only_the_columns_of_the_plan_are_there(exam) -> None:
    with pytest.raises(JobFailed) as caught:
        exam.run(exam.hostile("SELECT secret FROM people", {"people": ("id", "name")}))
    assert caught.value.code == "MALFORMED_QUERY"


def test_a_failure_on_values_tells_no_value(exam) -> None:
    with pytest.raises(JobFailed) as caught:
        exam.run(exam.hostile("SELECT cast(secret AS int) AS x FROM people", {"people": ("secret",)}))
    assert (caught.value.code, "s1" in caught.value.message) == ("MALFORMED_QUERY", False)


def test_time_is_limited_and_the_server_goes_on(exam) -> None:
    forever = "SELECT count(*) AS c FROM range(3000000) a, range(3000000) b WHERE a.id * b.id % 7 = 3"
    begun = time.monotonic()
    with pytest.raises(JobFailed, match=r"longer than the 3 s") as caught:
        exam.run(exam.hostile(forever, {}), seconds=3.0)
    assert caught.value.code == "TIMED_OUT"
    assert exam.rows("SELECT count(*) AS n FROM people") == [{"n": 3}]
    assert time.monotonic() - begun < 60


def test_properties_hold_for_their_own_run_alone(exam) -> None:
    asks = exam.hostile(f"SET {PARTITIONS}", {})

    def told(**resources):
        _, (file,) = exam.run(asks, **resources)
        return parquet.read_table(file)["value"].to_pylist()

    before = told()
    assert told(properties={PARTITIONS: "37"}) == ["37"] != before
    assert told() == before
    cross = exam.hostile("SELECT count(*) AS n FROM people a, people b", {"people": ("id",)})
    written, _ = exam.run(cross)
    assert written.rows == 1
    with pytest.raises(JobFailed):
        exam.run(cross, properties={"spark.sql.crossJoin.enabled": "false"})


def test_what_a_session_can_set_is_what_spark_says(remote) -> None:
    """The table's first column, and both bounds of every value, asked of Spark."""
    connect.preload()
    from pyspark.sql.connect.session import SparkSession

    session = SparkSession(remote)
    try:
        for name, known in PROPERTIES.items():
            if known.effect in "SF":
                assert session.conf.isModifiable(name) is (known.effect == "S"), name
            if known.effect == "S":
                texts = {"boolean": ("true", "false"), "utc": ("UTC",)}.get(
                    known.kind, (known.least, known.most)
                )
                for text in texts:
                    session.conf.set(name, spark_properties.session({name: text}, "spark", "CR.1X", 2)[name])
    finally:
        session.stop()


def test_what_is_no_address_is_refused() -> None:
    for remote in ("host:1", "https://host", "sc://", "sc://host/;token=x"):
        with pytest.raises(Misconfigured, match="sc://host:port"):
            Spark(remote)
