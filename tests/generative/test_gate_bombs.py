"""Query bombs at the gate: each is refused by a rule that says why, or allowed in a form that an engine can
read.

name → the rule that refuses it, or `allowed`; its text
"""

import time

import pytest

from passbox.analysis import Column, Purpose, Table, approve, chains
from passbox.analysis.construct import MAX_HEIGHT
from passbox.errors import QueryRefused

RUNNER = "444444444444"
RULE = {"allowedAnalyses": ["ANY_QUERY"], "allowedAnalysisProviders": [RUNNER]}
COLUMNS = (Column("a", "int"), Column("b", "string"), Column("c", "double"))
TABLES = {
    name: Table(name, RUNNER, COLUMNS, "CUSTOM", RULE, {"allowedResultReceivers": [RUNNER]})
    for name in ("t", *(f"t{number}" for number in range(20)))
}
PURPOSE = Purpose(RUNNER, receivers=(RUNNER,))
LONGEST_SECONDS = 8.0  # of CPU; about a second on a machine of its own

WHERE = "SELECT a FROM t WHERE "
DOUBLED = "WITH w0 AS (SELECT a FROM t)" + "".join(
    f", w{n} AS (SELECT x.a FROM w{n - 1} x CROSS JOIN w{n - 1} y)" for n in range(1, 30)
)
BOMBS: dict[str, tuple[str, str]] = {
    "800 terms of OR": ("allowed", WHERE + " OR ".join(f"a = {n}" for n in range(800))),
    "3,000 terms of AND": ("allowed", WHERE + " AND ".join(f"a <> {n}" for n in range(3000))),
    "ORs of ANDs": ("allowed", WHERE + " OR ".join(f"(a = {n} AND b = 'x')" for n in range(1000))),
    "9,000 values of IN": ("allowed", f"{WHERE} a IN ({', '.join(map(str, range(9000)))})"),
    "a literal of 32,000 characters": ("allowed", f"{WHERE} b = '{'x' * 32_000}'"),
    "a raw literal of 40,000 characters": ("limits.literal", f"{WHERE} b = r'{'x' * 40_000}'"),
    "a literal of 499,000 characters": ("limits.literal", f"{WHERE} b = '{'x' * 499_000}'"),
    "a number of 1,000 digits": ("allowed", f"{WHERE} a = {'9' * 1000}"),
    "100 UNIONs": ("allowed", " UNION ALL ".join(["SELECT a FROM t"] * 100)),
    "500 KB of comment": ("limits.characters", f"{WHERE} a = 1 -- {'x' * 500_000}"),
    "501 KB": ("limits.characters", f"{WHERE} b = '{'x' * 501_000}'"),
    "490 KB of brackets": ("limits.nesting", f"SELECT {'(' * 490_000}"),
    "4,000 comparisons of doubles": ("limits.tokens", WHERE + " AND ".join(["c <> c"] * 4000)),
    "4,000 keys of doubles": (
        "limits.tokens",
        f"SELECT count(*) AS n FROM t GROUP BY {', '.join(f'c + {n}' for n in range(4000))}",
    ),
    "490 KB of words": ("limits.tokens", f"SELECT {'a + ' * 120_000}a FROM t"),
    "thirty brackets": ("limits.nesting", f"SELECT {'(' * 30}a{')' * 30} AS x FROM t"),
    "thirty subqueries": ("limits.nesting", f"SELECT * FROM {'(SELECT * FROM ' * 30}t{')' * 30}"),
    "thirty functions": ("limits.nesting", f"SELECT {'abs(' * 30}a{')' * 30} AS x FROM t"),
    "thirty CASEs": ("limits.nesting", f"SELECT {'CASE WHEN a = 1 THEN ' * 30}1{' END' * 30} AS x FROM t"),
    "3,000 NOTs": ("limits.nesting", f"{WHERE}{'NOT ' * 3000}a = 1"),
    "3,000 signs": ("limits.nesting", f"SELECT {'- ' * 3000}a AS x FROM t"),
    "300 additions": ("limits.chain", f"SELECT {' + '.join(['a'] * 300)} AS x FROM t"),
    "300 concatenations": ("limits.chain", f"SELECT {' || '.join(['b'] * 300)} AS x FROM t"),
    "300 UNIONs": ("limits.chain", " UNION ALL ".join(["SELECT a FROM t"] * 300)),
    "recursion": (
        "sql.construct",
        "WITH RECURSIVE w AS (SELECT a FROM t UNION ALL SELECT a FROM w) SELECT a FROM w",
    ),
    "recursion without its word": (
        "sql.table",
        "WITH w AS (SELECT a FROM t UNION ALL SELECT a FROM w) SELECT a FROM w",
    ),
    "WITH queries that double": ("limits.tables", f"{DOUBLED} SELECT a FROM w29"),
    "a cross join of 300": ("limits.tables", "SELECT x0.a FROM " + ", ".join(f"t x{n}" for n in range(300))),
    "sixteen tables": ("limits.tables", "SELECT t0.a FROM " + ", ".join(f"t{n}" for n in range(16))),
    "rows made by a function": ("sql.function", "SELECT explode(sequence(1, 1000000000)) AS x FROM t"),
    "a table of a billion rows": ("sql.function", "SELECT * FROM range(1000000000)"),
    "a deep field": ("sql.construct", "SELECT a.b.c.d.e.f.g.h AS x FROM t"),
    "an open string of 400 KB": ("syntax", f"{WHERE} b = '{'x' * 400_000}"),
    "400 KB of quotes": ("syntax", f"SELECT {'`' * 400_001}"),
    "400 KB of nothing": ("sql.statement", " " * 400_000),
    # each is written for Sail with its argument more than once
    "twenty nullifs": ("sql.engine", f"SELECT {'nullif(' * 20}c{', 1D)' * 20} AS x FROM t"),
    "twenty nullifzeros": ("sql.engine", f"SELECT {'nullifzero(' * 20}c{')' * 20} AS x FROM t"),
    "ten maxima of maxima": (
        "sql.engine",
        f"SELECT {'max((SELECT ' * 10}max(c) AS c{' FROM t))' * 10} AS x FROM t",
    ),
    "800 keys of GROUP BY": (
        "allowed",
        "SELECT count(*) AS n FROM t GROUP BY " + ", ".join(f"c + {n}" for n in range(800)),
    ),
    "1,000 keys of ORDER BY": (
        "sql.engine",
        f"SELECT {' + '.join('c' * 40)} AS x FROM t ORDER BY {', '.join('x' * 1000)}",
    ),
    "a NUL": ("sql.name", "SELECT \x00 FROM t"),
    "half a character": ("syntax", "SELECT '\ud800' AS x FROM t"),
}


@pytest.mark.parametrize(("rule", "text"), BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_is_refused_by_name_or_disarmed(rule: str, text: str) -> None:
    begun = time.process_time()
    if rule == "allowed":
        sql = approve(text, {}, TABLES, PURPOSE).sql
        # no higher than an engine goes: brackets open, and terms side by side, are few
        assert max(part.count(" OR ") + part.count(" AND ") for part in sql.split("(")) <= chains.LONGEST
    else:
        with pytest.raises(QueryRefused) as refusal:
            approve(text, {}, TABLES, PURPOSE)
        assert refusal.value.rule == rule, refusal.value.message
        assert len(refusal.value.message) < 2_000
    assert time.process_time() - begun < LONGEST_SECONDS


def test_cutting_a_chain_changes_nothing_but_brackets() -> None:
    terms = [f"`t`.`a` = {n}" for n in range(500)]
    sql = approve(WHERE + " OR ".join(terms), {}, TABLES, PURPOSE).sql
    where = sql.partition(" WHERE ")[2]
    assert where.replace("(", "").replace(")", "").split(" OR ") == terms
    assert approve(sql, {}, TABLES, PURPOSE).sql == sql


def test_a_subquery_in_an_aggregate_is_copied_with_its_order() -> None:
    """What stands twice in the text is the same twice."""
    inner = "(SELECT c FROM t ORDER BY c LIMIT 1)"
    sql = approve(f"SELECT max({inner}) AS x FROM t", {}, TABLES, PURPOSE).sql
    ordered = "ORDER BY (nanvl(`t`.`c`, CAST('NaN' AS DOUBLE)) + 0E0) LIMIT 1"
    assert sql.count(ordered) == sql.count("ORDER BY") == 3


def test_a_chain_of_the_greatest_height_passes() -> None:
    for length, passes in ((MAX_HEIGHT - 5, True), (MAX_HEIGHT + 5, False)):
        text = f"SELECT {' + '.join(['1.5D'] * length)} AS x FROM t"
        if passes:
            approve(text, {}, TABLES, PURPOSE)
        else:
            with pytest.raises(QueryRefused, match="brackets into parts"):
                approve(text, {}, TABLES, PURPOSE)


def test_a_chain_of_whole_numbers_has_a_limit_of_its_own() -> None:
    approve(f"SELECT {' + '.join(['a'] * 40)} AS x FROM t", {}, TABLES, PURPOSE)
    with pytest.raises(QueryRefused, match="40 operators on whole numbers"):
        approve(f"SELECT {' + '.join(['a'] * 42)} AS x FROM t", {}, TABLES, PURPOSE)
