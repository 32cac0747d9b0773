"""What an approved plan holds: the exact text, the columns to register, the outputs; and the hard limits."""

import pytest

from passbox.analysis import ApprovedPlan, Column, Parameter, Purpose, Table, approve
from passbox.errors import QueryRefused
from spec.spec_text import Case, cases

RUNNER = "444444444444"


def _table(name: str, columns: str = "a int, b string, c double") -> Table:
    return Table(
        name,
        RUNNER,
        tuple(Column(*column.split(" ")) for column in columns.split(", ")),
        "CUSTOM",
        {"allowedAnalyses": ["ANY_QUERY"], "allowedAnalysisProviders": [RUNNER]},
        {"allowedResultReceivers": [RUNNER]},
    )


def _approve(query: str, *tables: Table, **parameters: str) -> ApprovedPlan:
    known = {table.name: table for table in tables or (_table("t"), _table("u"))}
    return approve(query, parameters, known, Purpose(RUNNER, receivers=(RUNNER,)))


def _case(text: str) -> Case:
    return next(case for case in cases() if text in (case.reason, case.query))


def test_the_demo_query_reads_the_columns_it_names_and_no_other() -> None:
    case = _case("the demo's query")
    plan = approve(case.query, {}, case.setup.tables, case.setup.purpose)
    assert plan.tables == ("flights", "planes", "weather")
    assert plan.columns == {
        "flights": ("arr_delay", "carrier", "day", "dep_delay", "dest", "distance", "hour", "month", "origin",
                    "tailnum", "time_hour"),
        "planes": ("engines", "seats", "tailnum", "year"),
        "weather": ("origin", "temp", "time_hour", "visib", "wind_speed"),
    }  # fmt: skip
    assert plan.outputs == (
        "month", "day", "hour", "carrier", "origin", "dest", "distance", "dep_delay", "temp", "wind_speed",
        "visib", "plane_year", "engines", "seats", "late",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("query", "sql"),
    [
        ("select A from T -- why", "SELECT `t`.`a` AS `a` FROM `t` AS `t`"),
        ("SELECT * FROM t x", "SELECT `x`.`a` AS `a`, `x`.`b` AS `b`, `x`.`c` AS `c` FROM `t` AS `x`"),
        ("SELECT t.a FROM t JOIN u USING (b)",
         "SELECT `t`.`a` AS `a` FROM `t` AS `t` JOIN `u` AS `u` ON `t`.`b` = `u`.`b`"),
        ("SELECT to_char(a, '9.9'), PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY a) AS m FROM t GROUP BY a",
         "SELECT to_char(`t`.`a`, '9.9') AS `to_char(a, '9.9')`, percentile_cont(0.5) WITHIN GROUP (ORDER BY "
         "`t`.`a`) AS `m` FROM `t` AS `t` GROUP BY `t`.`a`"),
        ("SELECT a FROM t WHERE EXISTS (SELECT * FROM u WHERE u.a = t.a)",
         "SELECT `t`.`a` AS `a` FROM `t` AS `t` WHERE EXISTS(SELECT 1 AS `1` FROM `u` AS `u` WHERE `u`.`a` = "
         "`t`.`a`)"),
        ("SELECT upper(b) AS x, count(*) AS n FROM t GROUP BY x ORDER BY n",
         "SELECT upper(`t`.`b`) AS `x`, count(*) AS `n` FROM `t` AS `t` GROUP BY `x` ORDER BY `n`"),
        ("SELECT a FROM t WHERE b = 'it\\'s; DROP TABLE t'",
         "SELECT `t`.`a` AS `a` FROM `t` AS `t` WHERE `t`.`b` = 'it\\'s; DROP TABLE t'"),
    ],
)  # fmt: skip
def test_the_text_that_runs(query: str, sql: str) -> None:
    assert _approve(query).sql == sql


def test_parameters_stay_placeholders() -> None:
    plan = _approve("SELECT a FROM t WHERE b = :name", name="' OR 1=1 --")
    assert plan.sql.endswith("WHERE `t`.`b` = :name")
    assert plan.parameters == {"name": Parameter("string", "' OR 1=1 --")}


def test_a_table_that_is_only_counted_still_gets_a_column() -> None:
    assert _approve("SELECT count(*) AS n FROM t").columns == {"t": ("a",)}


def test_small_groups_are_dropped_by_the_highest_minimum_of_every_table() -> None:
    case = _case("the plain case")
    plan = approve(case.query, {}, case.setup.tables, case.setup.purpose)
    assert plan.sql.endswith("HAVING count(DISTINCT `v`.`email`) >= 25 AND count(DISTINCT `s`.`email`) >= 2")


def test_a_condition_of_the_runner_cannot_get_around_the_minimum() -> None:
    case = _case("no join required")
    query = "SELECT kind, AVG(price) AS p FROM loose GROUP BY kind HAVING AVG(price) > 1 OR AVG(price) <= 1"
    plan = approve(query, {}, case.setup.tables, case.setup.purpose)
    assert plan.sql.endswith(
        "HAVING (avg(`loose`.`price`) > 1 OR avg(`loose`.`price`) <= 1) "
        "AND count(DISTINCT `loose`.`email`) >= 5"
    )
    assert plan.columns == {"loose": ("email", "kind", "price")}


def test_a_column_that_is_not_allowed_and_one_that_does_not_exist_are_refused_alike() -> None:
    messages = set()
    for name in ("ssn", "zzz"):
        with pytest.raises(QueryRefused) as refusal:
            _approve(f"SELECT {name} FROM t")
        messages.add(refusal.value.message.replace(name, "?"))
    assert len(messages) == 1


@pytest.mark.parametrize(
    ("query", "rule"),
    [
        ("SELECT a FROM t WHERE b = '" + "x" * 500_000 + "'", "limits.characters"),
        ("SELECT a FROM t WHERE a IN (" + "1," * 40_000 + "1)", "limits.tokens"),
        ("SELECT " + "(" * 25 + "a" + ")" * 25 + " AS x FROM t", "limits.nesting"),
        ("SELECT " + "NOT " * 5000 + "a AS x FROM t", "limits.nesting"),
        ("SELECT a FROM t WHERE a > " + " + 1 - ".join("1" * 300), "limits.nesting"),
        ("SELECT '\ud800' AS x FROM t", "syntax"),
    ],
)
def test_limits(query: str, rule: str) -> None:
    with pytest.raises(QueryRefused) as refusal:
        _approve(query)
    assert refusal.value.rule == rule


def test_at_most_fifteen_tables() -> None:
    tables = [_table(f"t{number}") for number in range(16)]
    joins = " CROSS JOIN ".join(table.name for table in tables)
    assert len(_approve(f"SELECT t1.a FROM {joins}".replace(" CROSS JOIN t15", ""), *tables).tables) == 15
    with pytest.raises(QueryRefused) as refusal:
        _approve(f"SELECT t1.a FROM {joins}", *tables)
    assert refusal.value.rule == "limits.tables"


def test_long_chains_of_one_operator_are_no_nesting() -> None:
    plan = _approve("SELECT a FROM t WHERE " + " OR ".join(f"a = {number}" for number in range(1000)))
    assert plan.outputs == ("a",)


def test_two_tables_that_differ_only_in_case_cannot_be_named() -> None:
    with pytest.raises(QueryRefused) as refusal:
        _approve("SELECT a FROM t", _table("t"), _table("T"))
    assert refusal.value.rule == "sql.table"


def test_only_the_gate_makes_a_plan() -> None:
    with pytest.raises(TypeError):
        ApprovedPlan("SELECT 1", {}, (), {}, ())
