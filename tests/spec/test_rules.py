"""Every case of `tests/spec/rules/*.md` is decided as written there, by the rule, table and column named."""

import re

import pytest

from passbox.analysis import approve
from passbox.errors import QueryRefused
from spec.spec_text import Case, cases

CASES = cases()


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_case_is_decided_as_written(case: Case) -> None:
    arguments = (case.query, case.setup.parameters, case.setup.tables, case.setup.purpose)
    if case.allowed:
        plan = approve(*arguments)
        if least := re.match(r">= (\w+): ", case.reason):
            added = re.findall(r"DISTINCT `\w+`\.`user_id`\) >= (\d+)", plan.sql)
            assert added == ([] if least[1] == "none" else [least[1]])
        # what runs is allowed too, and is its own regeneration, but for what rules add to it
        elif plan.privacy is None and all(t.rule_type != "AGGREGATION" for t in case.setup.tables.values()):
            assert approve(plan.sql, *arguments[1:]).sql == plan.sql
        return
    with pytest.raises(QueryRefused) as refusal:
        approve(*arguments)
    error = refusal.value
    assert error.rule == case.rule, error.message
    assert error.place == case.place, error.message
    if case.table:
        assert error.table == case.table, error.message
        assert error.table in error.message
    if case.column:
        assert error.column == case.column, error.message
        assert error.column in error.message


def test_there_are_enough_cases_of_both_kinds() -> None:
    allowed = sum(case.allowed for case in CASES)
    assert allowed >= 40
    assert len(CASES) - allowed >= 80
