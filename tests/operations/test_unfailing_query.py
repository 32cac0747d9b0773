"""Whether a query under minima fails tells nothing of one row: the same queries with and without the row."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.queries import Desk, s3
from lib.room import Room, running
from lib.workshop import work
from passbox.analysis import unfailing
from passbox.backends.engines.sail import Sail
from passbox.backends.runtimes.base import Isolation
from passbox.backends.runtimes.bubblewrap import BubblewrapRuntime

RULE = {
    "aggregateColumns": [{"columnNames": ["k"], "function": "COUNT_DISTINCT"}],
    "joinColumns": ["k"],
    "dimensionColumns": ["s"],
    "scalarFunctions": ["CAST", "TO_TIMESTAMP"],
    "outputConstraints": [{"columnName": "k", "minimum": 2, "type": "COUNT_DISTINCT"}],
}
THRESHOLD = {
    "identityColumns": ["k"],
    "minimumIdentityCount": 2,
    "type": "COUNT_DISTINCT",
    "allowedAggregateExpressionType": "ANY_EXPRESSION",
}
COMMON = "k,s,n\na,7,1\nb,7,1\nc,7,1\n"
AGGREGATED = (
    "SELECT CAST({}.s AS INT) AS v, COUNT(DISTINCT {}.k) AS n FROM {} GROUP BY 1",
    "SELECT COUNT(DISTINCT {}.k) AS n FROM {} WHERE {}.s = 7",
)
COUNTED = (
    "SELECT s, sum(6 / (n - 9)) AS q FROM {} GROUP BY s",
    "SELECT s, sum(9223372036854775806 + n - n) AS q FROM {} GROUP BY s",
    "SELECT count(CAST(s AS INT)) AS q FROM {} WHERE s < 9",
    # whose writer makes them fail where the row is
    "SELECT count(CASE WHEN s = 'x' THEN CAST('abc' AS INT) END) AS q FROM {}",
    "SELECT sum(CASE WHEN s = 'x' THEN CAST(n - 9223372036854775807 - 10 AS BIGINT) DIV -1 END) AS q FROM {}",
    "SELECT sum(CASE WHEN s = 'x' THEN -CAST(n - 9223372036854775807 - 10 AS BIGINT) END) AS q FROM {}",
    "SELECT sum(CASE WHEN s = 'x' THEN abs(CAST(n - 9223372036854775807 - 10 AS BIGINT)) END) AS q FROM {}",
)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with running(tmp_path / "home") as room:
        yield room


@pytest.fixture
def desk(room: Room) -> Desk:
    """With tables that differ in one row, alone in its group, so that nothing else can tell of it."""
    desk = Desk(room)
    custom = {**desk.any_query(), "aggregationThresholds": [THRESHOLD]}
    for name, row in (("plain", "d,7,1\n"), ("odd", "d,x,9\n")):
        desk.bring(f"{name}sum", COMMON + row, "AGGREGATION", RULE)
        desk.bring(f"{name}any", COMMON + row, "CUSTOM", custom)
    return desk


@pytest.fixture(scope="module")
def sail() -> Sail:
    runtime = BubblewrapRuntime()
    if runtime.check().isolation is Isolation.NONE:
        pytest.skip("this machine cannot seal")
    return Sail(runtime)


def ends(desk: Desk, sail: Sail, name: str) -> list[str]:
    """How the queries end on the tables of this name."""
    queries = [query.replace("{}", f"{name}sum") for query in AGGREGATED]
    found = []
    for query in (*queries, *(query.replace("{}", f"{name}any") for query in COUNTED)):
        id = desk.start(query, s3())["id"]
        work(desk.room, engine=sail)
        found.append(desk.get(id)["status"])
    return found


def test_one_row_makes_nothing_fail(desk: Desk, sail: Sail) -> None:
    assert ends(desk, sail, "odd") == ends(desk, sail, "plain") == ["SUCCESS"] * 9


def test_it_would_without_what_the_gate_writes(
    desk: Desk, sail: Sail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unfailing, "settle", lambda *_: None)
    assert ends(desk, sail, "odd") == ["FAILED"] * 9
