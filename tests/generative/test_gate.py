"""No text makes the gate raise anything but QueryRefused, and what it approves is its own regeneration."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from passbox.analysis import ApprovedPlan, Column, Purpose, Table, approve
from passbox.analysis.collaboration_rule import matches
from passbox.errors import QueryRefused

RUNNER = "444444444444"
RULE = {
    "allowedAnalyses": ["ANY_QUERY"],
    "allowedAnalysisProviders": [RUNNER],
    "disallowedOutputColumns": ["tailnum"],
}
PURPOSE = Purpose(RUNNER, receivers=(RUNNER,))


def _table(name: str, columns: str) -> Table:
    return Table(
        name,
        RUNNER,
        tuple(Column(column, "string") for column in columns.split()),
        "CUSTOM",
        RULE,
        {"allowedResultReceivers": [RUNNER]},
    )


TABLES = {
    "flights": _table("flights", "carrier origin tailnum delay"),
    "planes": _table("planes", "tailnum seats year"),
}

QUERIES = [
    "SELECT f.carrier, max(p.seats) AS seats FROM flights f JOIN planes p ON f.tailnum = p.tailnum "
    "WHERE f.delay > 3 GROUP BY f.carrier HAVING count(*) > 1 ORDER BY seats DESC LIMIT 3",
    "WITH a AS (SELECT carrier, tailnum AS t FROM flights) SELECT carrier FROM a WHERE t IN "
    "(SELECT tailnum FROM planes WHERE year BETWEEN 1 AND 2 OR NOT seats IS NULL)",
    "SELECT CASE WHEN delay > 1 THEN 'x' ELSE 'it\\'s' END AS late, `carrier` || '-' AS c FROM flights "
    "UNION ALL SELECT CAST(seats AS STRING), upper(year) FROM planes",
    "SELECT row_number() OVER (PARTITION BY carrier ORDER BY delay ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) "
    "AS r FROM flights LEFT SEMI JOIN planes USING (tailnum)",
    "SELECT (SELECT max(seats) FROM planes p WHERE p.year = f.delay) AS s, * FROM (SELECT carrier, delay "
    "FROM flights) f WHERE EXISTS (SELECT * FROM planes) AND delay RLIKE r'\\d'",
]
PIECES = [
    *"""( ) [ ] { } , . ; : * ' " ` \\ + - / % | || & ^ ~ < > = <=> != ? @ $ # 0 -1 1e999 0x 10L \x00 ſ İ 🛫
    SELECT FROM WHERE AND OR NOT IN IS NULL AS ON BY DISTINCT UNION ALL WITH OVER CASE WHEN END LIMIT ANY
    flights planes carrier tailnum seats f p a f.* count(*) tailnum) (SELECT :x 'now' -- /* */ /*+ -> =>
    LATERAL VIEW explode( TABLESAMPLE INTERVAL DATE CAST( struct(*) QUALIFY GROUP current_date EXISTS VALUES
    PIVOT USING NATURAL JOIN VERSION OF""".split(),  # noqa: SIM905 (a hundred quoted strings read worse)
]


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A valid query with some of its words dropped, doubled, swapped or replaced."""
    words = draw(st.sampled_from(QUERIES)).replace("(", " ( ").replace(")", " ) ").split(" ")
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(words) - 1))
        other = draw(st.one_of(st.sampled_from(PIECES), st.sampled_from(words), st.text(max_size=4)))
        how = draw(st.sampled_from(("replace", "insert", "drop", "swap")))
        if how == "replace":
            words[place] = other
        elif how == "insert":
            words.insert(place, other)
        elif how == "drop" and len(words) > 1:
            del words[place]
        else:
            second = draw(st.integers(0, len(words) - 1))
            words[place], words[second] = words[second], words[place]
    return " ".join(words)


def _ask(query: str) -> ApprovedPlan | None:
    try:
        return approve(query, {}, TABLES, PURPOSE)
    except QueryRefused:
        return None


@settings(max_examples=300, deadline=None)
@given(mutated())
@example("SELECT " + "(" * 500 + "1" + ")" * 500 + " FROM flights")
@example("SELECT " + "NOT " * 3000 + "carrier FROM flights")
@example("SELECT " + "- " * 3000 + "1 AS x FROM flights")
@example("SELECT carrier FROM flights WHERE " + " OR ".join(["carrier = 'a'"] * 2000))
@example("SELECT carrier FROM flights WHERE delay > " + " + 1 - ".join("1" * 500))
@example(" UNION ALL ".join(["SELECT carrier FROM flights"] * 500))
@example("SELECT * FROM " + "(SELECT * FROM " * 200 + "flights" + ")" * 200)
@example("SELECT a.* " + "'" * 1001 + " FROM flights a")
@example("\x00")
@example("SELECT carrier FROM flights WHERE carrier = '" + "x" * 499_000 + "'")
@example("SELECT carrier FROM flights -- " + "x" * 500_000)
def test_only_refusals_and_plans_come_out(query: str) -> None:
    plan = _ask(query)
    if plan is not None:
        again = _ask(plan.sql)
        assert again == plan


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_a_refusal_or_a_plan(query: str) -> None:
    _ask(query)


@settings(deadline=None)
@given(st.lists(st.text("ab:/", max_size=4), min_size=1, max_size=6), st.data())
def test_a_pattern_matches_what_it_was_filled_with(pieces: list[str], data: st.DataObject) -> None:
    filled = pieces[0]
    for piece in pieces[1:]:
        filled += data.draw(st.text("abc:/", max_size=5)) + piece
    assert matches("*".join(pieces), filled)


def test_a_pattern_cannot_be_made_slow() -> None:
    assert not matches("a*" * 120 + "b", "a" * 100_000)
