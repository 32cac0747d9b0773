"""Every list and every count goes by an index, whatever is stored: the planner's choice is pinned."""

from pathlib import Path
from typing import Any

import pytest

from passbox.state import resources
from passbox.state.database import Database, Transaction


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "db.sqlite")


PLANS: list[tuple[dict[str, Any], str]] = [
    ({"account": "x"}, "resource_by_account"),
    ({"account": "x", "statuses": ["x", "y"]}, "resource_by_account"),
    ({"account": "x", "collaboration": "x"}, "resource_by_collaboration"),
    ({"collaboration": "x", "accounts": ["x", "y"]}, "resource_by_collaboration"),
    ({"membership": "x"}, "resource_by_membership"),
    ({"membership": "x", "statuses": ["x", "y"]}, "resource_by_membership"),
    ({"membership": "x", "name": "x"}, "resource_by_membership_name"),
    ({"membership": "x", "name": "x", "statuses": ["x", "y"]}, "resource_by_membership_name"),
    ({"parent": "x"}, "resource_by_parent"),
    ({"parent": "x", "name": "x"}, "resource_by_parent"),
    ({"parents": ["x", "y"]}, "resource_by_parent"),
]


@pytest.mark.parametrize("paged", [False, True], ids=["first", "next"])
@pytest.mark.parametrize("what", ["row", "place"])
@pytest.mark.parametrize(("bounds", "index"), PLANS, ids=["+".join(bounds) for bounds, _ in PLANS])
def test_every_list_goes_by_its_index(
    database: Database, bounds: dict[str, Any], index: str, what: str, paged: bool
) -> None:
    wanted: Any = {**bounds, "after": 1} if paged else bounds
    with database.read() as tx:
        [step, *rest] = plan(tx, what, wanted)
    assert f"INDEX {index} " in step
    assert rest == (["USE TEMP B-TREE FOR ORDER BY"] if "parents" in bounds else [])


@pytest.mark.parametrize("paged", [False, True], ids=["first", "next"])
@pytest.mark.parametrize("what", ["row", "place", "count"])
@pytest.mark.parametrize(
    "bounds",
    [{}, {"membership": "x"}, {"collaboration": "x", "accounts": ["x", "y"]}, {"statuses": ["x", "y"]}],
    ids="+".join,
)
def test_an_arn_is_found_by_its_end(
    database: Database, bounds: dict[str, Any], what: str, paged: bool
) -> None:
    """By the identifier that it ends in, or by the index of those that end in no identifier of their row."""
    wanted: Any = {"arn": "x", **bounds, **({"after": 1} if paged else {})}
    with database.read() as tx:
        steps = [
            step for step in plan(tx, what, wanted) if step.startswith(("SEARCH", "SCAN resource", "USE"))
        ]
    assert steps == [
        "SEARCH resource USING INTEGER PRIMARY KEY (rowid=?)",
        "SEARCH resource USING COVERING INDEX sqlite_autoindex_resource_1 (id=?)",
        "SEARCH resource USING INDEX resource_by_arn_end (<expr>=?)",
    ]


@pytest.mark.parametrize("column", ["account", "membership"])
def test_a_quota_is_counted_by_status(database: Database, column: str) -> None:
    bounds: Any = {column: "x", "statuses": ["x", "y"]}
    with database.read() as tx:
        assert f"resource_by_{column}_status" in " ".join(plan(tx, "count", bounds))


def plan(tx: Transaction, what: str, bounds: Any) -> list[str]:
    statement, parameters = resources._query(what, "kind", 100, bounds)
    text, values = statement.text(parameters)
    return [step["detail"] for step in tx._connection.execute(f"EXPLAIN QUERY PLAN {text}", values)]
