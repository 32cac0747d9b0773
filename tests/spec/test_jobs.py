"""Every row of `tests/spec/jobs.md` is decided as written there."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from passbox.analysis import Column, Purpose, Table, approve, approve_job
from passbox.analysis.plan import ApprovedJob
from passbox.errors import QueryRefused

DOCUMENT = Path(__file__).parent / "jobs.md"
PURPOSE = Purpose(runner="4", receivers=("2",), template=("T", "2"))
METHODS = {"Q": "DIRECT_QUERY", "J": "DIRECT_JOB"}


class Row(NamedTuple):
    """A row of the document."""

    methods: str
    rule: str
    association: str
    verdict: str
    details: str

    def table(self, name: str = "people") -> Table:
        kind, _, rule = self.rule.partition(" ")
        own = self.association
        return Table(
            name=name,
            owner="1",
            columns=tuple(Column(column, "string") for column in ("id", "name", "salary")),
            rule_type=None if kind == "none" else kind,  # type: ignore[arg-type]
            rule=None if kind == "none" else json.loads(rule),
            collaboration_rule=None if own == "none" else json.loads(own),
            methods=frozenset(METHODS[one] for one in self.methods),
        )


def rows() -> list[Row]:
    """The rows of the table."""
    lines = [line.strip("|").split("|") for line in DOCUMENT.read_text().splitlines() if line[:2] == "| "]
    return [Row(*(cell.strip() for cell in line)) for line in lines[1:]]


ROWS = rows()
GIVEN = ROWS[0]


def decided(row: Row) -> ApprovedJob:
    return approve_job(["people"], {"people": row.table()}, PURPOSE)


@pytest.mark.parametrize("row", ROWS, ids=range(1, len(ROWS) + 1))
def test_a_table_is_decided_as_written(row: Row) -> None:
    if row.verdict.startswith("refused: "):
        with pytest.raises(QueryRefused) as refusal:
            decided(row)
        assert refusal.value.rule == row.verdict.removeprefix("refused: ")
        assert refusal.value.table == "people"
        assert "people" in refusal.value.message
        return
    made = decided(row)
    plan = made.tables["people"]
    assert " ".join(plan.outputs) == row.verdict
    assert set(plan.columns["people"]) == set(plan.outputs)
    assert {source for found in plan.sources.values() for source in found} == {
        ("people", column) for column in plan.outputs
    }
    assert plan.sql == f"SELECT {', '.join(f'`{column}`' for column in plan.outputs)} FROM `people`"
    assert made.detailed == (row.details == "yes")


def test_both_verdicts_are_there() -> None:
    refused = [row for row in ROWS if row.verdict.startswith("refused")]
    assert len(refused) >= 15
    assert len(ROWS) - len(refused) >= 8


def test_one_refusal_refuses_the_job() -> None:
    allowed, refused = GIVEN.table("a"), GIVEN._replace(methods="Q").table("b")
    with pytest.raises(QueryRefused) as refusal:
        approve_job(["a", "b"], {"a": allowed, "b": refused}, PURPOSE)
    assert refusal.value.table == "b"
    assert list(approve_job(["a"], {"a": allowed, "b": refused}, PURPOSE).tables) == ["a"]


def test_details_need_every_owner() -> None:
    wildcard = ROWS[2]
    assert wildcard.details == "no"
    tables = {"a": GIVEN.table("a"), "b": wildcard.table("b")}
    assert not approve_job(["a", "b"], tables, PURPOSE).detailed
    assert approve_job(["a"], tables, PURPOSE).detailed


def test_tables_are_found_whatever_their_case_and_named_as_the_template_does() -> None:
    made = approve_job(["PEOPLE"], {"people": GIVEN.table()}, PURPOSE)
    assert {name: plan.tables for name, plan in made.tables.items()} == {"PEOPLE": ("people",)}
    with pytest.raises(QueryRefused) as refusal:
        approve_job(["persons"], {"people": GIVEN.table()}, PURPOSE)
    assert refusal.value.rule == "job.referencedTables"


def test_queries_may_not_read_tables_of_jobs() -> None:
    rule = '{"allowedAnalyses": ["ANY_QUERY"], "allowedAnalysisProviders": ["4"]}'
    row = GIVEN._replace(rule=f"CUSTOM {rule}")
    purpose: Any = Purpose(runner="4", receivers=("2",))
    with pytest.raises(QueryRefused) as refusal:
        approve("SELECT id FROM people", {}, {"people": row.table()}, purpose)
    assert refusal.value.rule == "analysisMethod"
    assert approve("SELECT id FROM people", {}, {"people": row._replace(methods="QJ").table()}, purpose)


def test_only_the_rules_make_an_approved_job() -> None:
    with pytest.raises(TypeError):
        ApprovedJob({}, detailed=True)
