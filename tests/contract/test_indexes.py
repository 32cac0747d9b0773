"""Every list and every count goes by an index, whatever is stored: the planner's choice is pinned."""

from pathlib import Path
from typing import Any

import pytest

from passbox.state import jobs, resources, transfers
from passbox.state.database import Database, Statement, Transaction


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


@pytest.mark.parametrize(
    ("statement", "parameters", "index"),
    [
        (jobs._GET, ["id"], "job USING PRIMARY KEY"),
        (jobs._OF_RESOURCE, ["of"], "job USING INDEX ix_job_resource_sequence"),
        (jobs._REQUEST_CANCEL, ["of", "updated"], "job USING INDEX ix_job_resource_sequence"),
        (jobs._QUEUED, ["now"], "job USING INDEX job_to_claim"),
        (jobs._LAPSED, ["now"], "job USING INDEX job_to_claim"),
        (transfers._OF_JOB, ["job"], "transfer USING INDEX sqlite_autoindex_transfer_1 (id>? AND id<?)"),
    ],
    ids=["job", "jobs of a resource", "cancel", "queued", "lapsed", "transfers of a job"],
)
def test_every_job_and_transfer_goes_by_its_index(
    database: Database, statement: Statement, parameters: list[str], index: str
) -> None:
    with database.read() as tx:
        assert explained(tx, statement, dict.fromkeys(parameters, "x"))[0].startswith(f"SEARCH {index}")


@pytest.mark.parametrize("other", ["j/", "j0", "j/x", "J", "j-"])
def test_the_transfers_of_a_job_are_its_own(database: Database, other: str) -> None:
    with database.write() as tx:
        for job in ("j", other):
            for kind in ("reserve", "post"):
                entry = [
                    f"{job}/t/{kind}",
                    kind,
                    "d",
                    "c",
                    "u",
                    1,
                    job,
                    "c",
                    "p",
                    "t",
                    "m",
                    1,
                    "q",
                    1,
                    1,
                    0.0,
                ]
                assert transfers.add(tx, transfers.Transfer(*entry))
        assert [found.id for found in transfers.of_job(tx, "j")] == ["j/t/reserve", "j/t/post"]


def plan(tx: Transaction, what: str, bounds: Any) -> list[str]:
    return explained(tx, *resources._query(what, "kind", 100, bounds))


def explained(tx: Transaction, statement: Statement, parameters: dict[str, Any]) -> list[str]:
    text, values = statement.text(parameters)
    return [step["detail"] for step in tx._connection.execute(f"EXPLAIN QUERY PLAN {text}", values)]
