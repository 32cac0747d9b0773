"""The door of the room: what goes in comes out with the same schema, from a closed domain, within the
budget.
"""

import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from passbox.errors import JobFailed, ValidationException
from passbox.synthesis import Column, Dependency, Person, Request, seeded, synthesize
from passbox.synthesis.accounting import Budget
from passbox.synthesis.discovery import bounds
from passbox.synthesis.measurement import Meter

ROWS = 4000


def mixed(rows: int = ROWS) -> pa.Table:
    """A table of every kind of type, with nulls; `late` and `age` depend on `city`."""
    draw = np.random.default_rng(1)
    day = datetime.date(2020, 1, 1)
    moment = datetime.datetime(2020, 1, 1)
    group = draw.integers(0, 3, rows)
    seconds = [moment + datetime.timedelta(seconds=int(d)) for d in draw.integers(0, 10**6, rows)]
    return pa.table(
        {
            "city": pa.array([["Bonn", "Lyon", None][g] for g in group]),
            "age": pa.array((group * 20 + draw.integers(0, 9, rows)).astype(np.int16)),
            "paid": pa.array(
                [Decimal(int(c)) / 100 for c in draw.integers(0, 5000, rows)], pa.decimal128(9, 2)
            ),
            "born": pa.array([day + datetime.timedelta(days=int(d)) for d in draw.integers(0, 900, rows)]),
            "seen": pa.array(seconds, pa.timestamp("us")),
            "rate": pa.array(draw.normal(size=rows), pa.float32(), mask=draw.random(rows) < 0.3),
            "late": pa.array(draw.random(rows) < 0.2 + 0.3 * group),
        }
    )


LABELS = ("city", "late", "kind", "code")


def asked(table: pa.Table, epsilon: int = 5, **more: Any) -> Request:
    """Every column discovered."""
    names = [name for name in table.schema.names if name != "who"]
    columns = tuple(Column(name, "categorical" if name in LABELS else "numerical") for name in names)
    return Request(columns, Fraction(epsilon), **more)


def spent(made: Any) -> Fraction:
    return sum((spend.epsilon for spend in made.spends), Fraction(0))


@pytest.mark.parametrize("target", [None, "late", "city", "age", "rate", "born"])
def test_schema_and_budget_are_exact_whatever_the_target(target: str | None) -> None:
    table = mixed()
    made = synthesize(table, asked(table, target=target), seeded(1))
    assert made.table.schema == table.schema
    assert made.table.validate(full=True) is None
    assert not made.private
    assert abs(made.table.num_rows - ROWS) < 200
    assert Fraction(99, 100) * 5 < spent(made) <= 5
    assert set(made.table["city"].unique().to_pylist()) <= {"Bonn", "Lyon", None}
    assert made.table["born"].null_count == 0
    assert 0.2 < made.table["rate"].null_count / made.table.num_rows < 0.4
    mean = {city: _mean(made.table, city) for city in ("Bonn", "Lyon")}
    assert mean["Bonn"] < mean["Lyon"] - 12


def _mean(table: pa.Table, city: str) -> float:
    ages = table.filter(pc.equal(table["city"], city))["age"]
    return float(pc.mean(ages).as_py())


def test_the_target_is_predicted_by_what_predicts_it() -> None:
    table = mixed()
    made = synthesize(table, asked(table, target="late"), seeded(2)).table
    for source in (table, made):
        rates = [
            pc.mean(source.filter(pc.equal(source["city"], c))["late"].cast("int8")).as_py()
            for c in ("Bonn", "Lyon")
        ]
        assert rates[0] == pytest.approx(0.2, abs=0.06)
        assert rates[1] == pytest.approx(0.5, abs=0.06)


def test_a_seed_repeats_and_the_ledger_names_what_was_bought() -> None:
    table = mixed(2000)
    request = asked(table, target="late", rows=500, score=Fraction(1, 10))
    first, second = (synthesize(table, request, seeded(7)) for _ in range(2))
    assert first.table.equals(second.table)
    assert first.table.num_rows == 500
    assert {spend.what: spend.epsilon for spend in first.spends}["score"] == Fraction(1, 2)
    assert not synthesize(table, request, seeded(8)).table.equals(first.table)


def test_declared_domains_are_closed() -> None:
    draw = np.random.default_rng(3)
    table = pa.table({"kind": draw.choice(["a", "b", "secret"], 3000), "n": draw.integers(-50, 500, 3000)})
    columns = (
        Column("kind", "categorical", values=("a", "b", "c")),
        Column("n", "numerical", low=0, high=9, step=3),
    )
    made = synthesize(table, Request(columns, Fraction(1)), seeded(1))
    assert set(made.table["kind"].unique().to_pylist()) <= {"a", "b", "c"}
    assert set(made.table["n"].unique().to_pylist()) <= {0, 3, 6, 9}


def test_rare_values_become_the_rest() -> None:
    draw = np.random.default_rng(3)
    kind = np.where(
        draw.random(5000) < 0.1, draw.integers(0, 400, 5000).astype(str), draw.choice(["x", "y"], 5000)
    )
    table = pa.table({"kind": kind, "n": draw.integers(0, 9, 5000)})
    made = synthesize(table, asked(table, 1), seeded(1))
    assert set(made.table["kind"].unique().to_pylist()) == {"x", "y", "OTHER"}
    assert sorted(made.domain["kind"]["values"]) == ["x", "y"]


@pytest.mark.parametrize(
    ("kind", "ends"),
    [
        (pa.int8(), (-128, 127)),
        (pa.uint8(), (0, 255)),
        (pa.uint64(), (0, 2**64 - 1)),
        (pa.int64(), (-(2**63), 2**63 - 1)),
        (pa.decimal128(5, 2), (Decimal("-999.99"), Decimal("999.99"))),
        (pa.decimal128(38, 0), (-(10**37), 10**37)),
        (pa.time32("s"), (datetime.time(0), datetime.time(23, 59, 59))),
        (pa.date32(), (datetime.date(1, 1, 1), datetime.date(9999, 12, 31))),
        (pa.float16(), (np.float16(-60000), np.float16(60000))),
        (pa.float64(), (float("-inf"), 1e300)),
        (pa.duration("s"), (datetime.timedelta(0), datetime.timedelta(days=9))),
    ],
)
def test_the_ends_of_a_type_are_neither_crossed_nor_an_error(
    kind: pa.DataType, ends: tuple[Any, Any]
) -> None:
    values = pa.array([*ends, None] * 1000, kind)
    table = pa.table({"n": values, "late": pa.array([True, False, False] * 1000)})
    made = synthesize(table, asked(table, 9, target="late"), seeded(1)).table
    made.validate(full=True)
    assert made.schema == table.schema
    assert 900 < made["n"].null_count < 1100


def test_one_rare_value_does_not_show_in_the_domain() -> None:
    usual = ["x", "y"] * 1000
    for last in ("x", "somebody"):
        table = pa.table({"kind": [*usual, last], "n": [1, 2, 3] * 667})
        made = synthesize(table, asked(table, 1), seeded(1))
        assert sorted(made.domain["kind"]["values"]) == ["x", "y"]
        assert made.domain["kind"]["rest"] is None
        assert set(made.table["kind"].unique().to_pylist()) == {"x", "y"}


@pytest.mark.parametrize("epsilon", [Fraction(1, 10_000), Fraction(10)])
def test_the_ends_of_epsilon_work(epsilon: Fraction) -> None:
    table = mixed(2000).select(["age", "late"])
    columns = (
        Column("age", "numerical", low=0, high=60),
        Column("late", "categorical", values=(True, False)),
    )
    made = synthesize(table, Request(columns, epsilon, target="late", rows=100), seeded(1))
    assert made.table.num_rows == 100
    assert made.epsilon == epsilon
    assert epsilon * 99 / 100 < spent(made) <= epsilon


@pytest.mark.parametrize(
    ("kind", "words"), [("categorical", "fewer than [0-9,]+ rows"), ("numerical", "budget is too small")]
)
def test_where_epsilon_is_too_small_to_find_a_domain_epsilon_is_named(kind: Any, words: str) -> None:
    table = pa.table({"age": np.arange(4000) % 50, "late": [True, False] * 2000})
    columns = (Column("age", kind), Column("late", "categorical", values=(True, False)))
    with pytest.raises(JobFailed, match=f"{words}.* raise epsilon"):
        synthesize(table, Request(columns, Fraction(1, 1000), rows=4000, fewest=0), seeded(2))


@pytest.mark.parametrize("target", [None, "late"])
@pytest.mark.parametrize("columns", [2, 3, 4, 5])
def test_few_columns_spend_all_of_epsilon(columns: int, target: str | None) -> None:
    table = mixed().select(["late", "city", "age", "born", "rate"][:columns])
    assert Fraction(999, 1000) * 5 < spent(synthesize(table, asked(table, target=target), seeded(1))) <= 5


def test_all_columns_may_follow_from_the_target() -> None:
    table = mixed().select(["late"])
    table = table.append_column("kind", pc.if_else(table["late"], "slow", "quick"))
    request = asked(table, target="late", dependencies=(Dependency(("late",), "kind"),))
    made = synthesize(table, request, seeded(1))
    assert made.table["kind"].equals(pc.if_else(made.table["late"], "slow", "quick"))
    assert abs(pc.mean(made.table["late"]).as_py() - pc.mean(table["late"]).as_py()) < 0.01
    assert Fraction(999, 1000) * 5 < spent(made) <= 5


def test_without_a_target_more_than_sixty_columns_go_together() -> None:
    draw = np.random.default_rng(6)
    table = pa.table(
        {f"{side}{at}": values for at in range(40) for values in [draw.integers(0, 4, 8000)] for side in "ab"}
    )
    columns = tuple(Column(name, "categorical", values=(0, 1, 2, 3)) for name in table.schema.names)
    made = synthesize(table, Request(columns, Fraction(10)), seeded(1)).table
    alike = [pc.mean(pc.equal(made[f"a{at}"], made[f"b{at}"]).cast("double")).as_py() for at in range(40)]
    assert min(alike) > 0.9


@pytest.mark.slow
def test_a_thousand_columns() -> None:
    draw = np.random.default_rng(5)
    group = draw.integers(0, 2, 3000)
    columns = {f"c{at}": group * (at % 3) + draw.integers(0, 4, 3000) for at in range(999)}
    table = pa.table({**columns, "late": group == 1})
    specs = tuple(Column(name, "numerical", low=0, high=6) for name in columns)
    request = Request(
        (*specs, Column("late", "categorical", values=(True, False))), Fraction(10), target="late"
    )
    made = synthesize(table, request, seeded(1)).table
    assert made.schema == table.schema
    means = [pc.mean(made.filter(made["late"])[name]).as_py() for name in ("c0", "c2")]
    assert means[0] < means[1]


def test_dependencies_are_kept_exactly() -> None:
    draw = np.random.default_rng(4)
    code = draw.integers(0, 6, 6000)
    table = pa.table(
        {"kind": np.array(list("abcdef"))[code], "n": code * 1000 + 7, "age": draw.integers(0, 90, 6000)}
    )
    request = asked(table, 3, target="age", dependencies=(Dependency(("kind",), "n"),))
    made = synthesize(table, request, seeded(1)).table
    pairs = set(zip(made["kind"].to_pylist(), made["n"].to_pylist(), strict=True))
    assert len(pairs) == 6
    assert sum(abs(n - ("abcdef".index(kind) * 1000 + 7)) <= 60 for kind, n in pairs) == 6


def test_a_person_has_at_most_cap_rows_and_noise_for_as_many() -> None:
    table = mixed().append_column("who", pa.array(np.arange(ROWS) // 8))
    request = asked(table, 10, person=Person("who", 3))
    made = synthesize(table, request, seeded(1))
    assert abs(made.table.num_rows - ROWS * 3 / 8) < 300
    assert "who" not in made.table.schema.names
    assert made.unit == "all rows of one who, of which 3 count"


def test_dictionaries_come_back_and_metadata_does_not() -> None:
    table = mixed().set_column(0, "city", mixed()["city"].dictionary_encode())
    told = [field.with_metadata({"rows": str(ROWS)}) for field in table.schema]
    table = table.cast(pa.schema(told, metadata={"rows": str(ROWS)}))
    made = synthesize(table, asked(table), seeded(1)).table
    assert made.schema.equals(table.schema)
    assert made.schema.metadata is None
    assert {field.metadata for field in made.schema} == {None}


def numbers_made(values: Any, **declared: Any) -> list[Any]:
    """The different values that are made of one column, in order."""
    table = pa.table({"n": values, "late": [True, False] * (len(values) // 2)})
    columns = (
        Column("n", "numerical", **declared),
        Column("late", "categorical", values=(True, False)),
    )
    made = synthesize(table, Request(columns, Fraction(5)), seeded(1)).table
    return sorted(made["n"].unique().to_pylist())


@pytest.mark.parametrize(
    ("step", "low", "high"), [(1.0, 0.0, 6.0), (0.1, 0.0, 0.6), (0.25, 0.125, 1.625), (10.0, -30.0, 30.0)]
)
def test_floats_lie_on_their_steps(step: float, low: float, high: float) -> None:
    steps = np.random.default_rng(2).integers(0, 7, ROWS)
    expected = [round(low + step * at, 9) for at in range(7)]
    values = np.array(expected)[steps]
    assert numbers_made(values, low=low, high=high, step=step) == expected
    assert numbers_made(values, low=low, high=high - step / 2, step=step) == expected[:-1]
    if step in (1.0, 0.1):
        assert numbers_made(values) == expected


def test_many_steps_stay_steps_within_the_declared_bounds() -> None:
    draw = np.random.default_rng(2)
    whole = numbers_made(draw.integers(0, 10**9, ROWS), low=1, high=10**9, step=7)
    assert {value % 7 for value in whole} == {1}
    assert 1 <= whole[0] < whole[-1] <= 10**9
    floats = numbers_made(draw.random(ROWS) * 1e6, low=0.5, high=1e6, step=0.5)
    assert {value % 0.5 for value in floats} == {0.0}
    assert 0.5 <= floats[0] < floats[-1] <= 1e6


@pytest.mark.parametrize("kind", [pa.timestamp("s"), pa.timestamp("us"), pa.date64(), pa.date32()])
def test_a_sentinel_of_the_year_9999_stays_within_what_a_date_can_be(kind: pa.DataType) -> None:
    draw = np.random.default_rng(2)
    usual = datetime.datetime(2020, 1, 1)
    values = [
        datetime.datetime(9999, 12, 31) if draw.random() < 0.4 else usual + datetime.timedelta(days=int(day))
        for day in draw.integers(0, 900, ROWS)
    ]
    made = numbers_made(pa.array(values).cast(kind))
    assert (made[0].year, made[-1].year) in ((2019, 9999), (2020, 9999))


def test_bounds_of_few_rows_cut_nothing_large_off() -> None:
    # one octave, evenly: each of its parts has 62 rows, and noise of 40
    values = 1024 + np.arange(ROWS) * 1024 // ROWS
    column, rho = pa.chunked_array([pa.array(values)]), Fraction(1, 1600)
    for seed in range(30):
        meter = Meter(Budget(Fraction(1), Fraction(1, 10**9)), seeded(seed), lambda _line: None)
        low, high = bounds(Column("n", "numerical"), column, rho, meter)
        assert np.mean((values < low) | (values > high)) < 0.1
        assert 1024 <= low < high <= 2048
        assert meter.budget.rho - meter.budget.left == rho


@pytest.mark.parametrize(
    ("values", "kind"),
    [(pa.array([f"P{i}" for i in range(ROWS)]), "categorical"), (pa.array(range(ROWS)), "numerical")],
)
def test_a_column_that_identifies_is_refused_by_name(values: pa.Array, kind: Any) -> None:
    table = mixed().append_column("passport", values)
    columns = (*asked(mixed()).columns, Column("passport", kind))
    with pytest.raises(JobFailed, match="passport has a value of its own") as refusal:
        synthesize(table, Request(columns, Fraction(5)), seeded(1))
    assert "Leave it out of the query" in refusal.value.message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"columns": (Column("city", "numerical"),)}, "not classified"),
        ({"epsilon": Fraction(0)}, "epsilon must be above 0"),
        ({"delta": Fraction(1)}, "delta must lie"),
        ({"target": "size"}, "no column size"),
        ({"rows": 0}, "rows must be 1"),
        ({"person": Person("age", 0)}, "cap must be 1"),
        ({"dependencies": (Dependency(("age",), "late"),), "target": "late"}, "target late"),
        ({"dependencies": (Dependency(("age",), "late"), Dependency(("late",), "city"))}, "depend on none"),
    ],
)
def test_a_request_that_does_not_fit_says_why(changes: dict[str, Any], words: str) -> None:
    table = mixed(100)
    plain = asked(table)
    request = Request(**{"columns": plain.columns, "epsilon": plain.epsilon} | changes)
    with pytest.raises(ValidationException, match=words):
        synthesize(table, request, seeded(1))


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (Column("age", "numerical", low=0, high=60, step=0), "age declares a `step` of 0"),
        (Column("age", "numerical", low=0, high=60, step=-1), "age declares a `step` of -1"),
        (Column("age", "categorical", values=(1, 2, 1)), "age declares one of its `values` more than once"),
    ],
)
def test_a_declared_domain_that_is_none_says_why(column: Column, words: str) -> None:
    table = mixed(100)
    columns = (column, *(each for each in asked(table).columns if each.name != "age"))
    with pytest.raises(ValidationException, match=words):
        synthesize(table, Request(columns, Fraction(1)), seeded(1))


def test_a_label_is_no_number() -> None:
    table = mixed(100)
    columns = (Column("city", "numerical"), *asked(table).columns[1:])
    with pytest.raises(ValidationException, match="city holds no numbers"):
        synthesize(table, Request(columns, Fraction(1)), seeded(1))


TYPES = {
    "categorical": [pa.string(), pa.bool_(), pa.int8(), pa.large_string()],
    "numerical": [
        pa.int32(),
        pa.float64(),
        pa.decimal128(12, 3),
        pa.date32(),
        pa.timestamp("ms"),
        pa.time32("s"),
    ],
}


WIDTHS = {pa.date32(): pa.int32(), pa.time32("s"): pa.int32(), pa.timestamp("ms"): pa.int64()}


@st.composite
def tables(draw: st.DrawFn) -> tuple[pa.Table, Request]:
    """A small table of random types, some columns null in part, and a request with declared domains."""
    numbers = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = draw(st.integers(1, 300))
    columns, arrays = [], {}
    for at in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(sorted(TYPES)))
        type_ = draw(st.sampled_from(TYPES[kind]))
        first = 2 if type_ == pa.bool_() else 5
        pool = pa.array([at % first for at in range(5)], WIDTHS.get(type_, pa.int8())).cast(type_)
        mask = numbers.random(rows) < draw(st.sampled_from([0, 0.5, 1]))
        picked = pool.take(pa.array(numbers.integers(0, 5, rows), mask=mask))
        arrays[f"c{at}"] = picked
        known = tuple(pool.unique().to_pylist())
        more = {"values": known} if kind == "categorical" else {"low": known[0], "high": known[-1]}
        columns.append(Column(f"c{at}", kind, **more))  # type: ignore[arg-type]
    target = draw(st.sampled_from([None, *arrays])) if len(arrays) > 1 else None
    epsilon = Fraction(draw(st.sampled_from([1, 10, 100])), 10)
    return pa.table(arrays), Request(tuple(columns), epsilon, target=target)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables(), st.integers(0, 2**32))
def test_any_table_comes_back_with_its_schema_and_within_its_domain(
    case: tuple[pa.Table, Request], seed: int
) -> None:
    table, request = case
    made = synthesize(table, request, seeded(seed))
    assert made.table.schema == table.schema
    assert spent(made) <= request.epsilon
    for column in request.columns:
        values = set(made.table[column.name].drop_null().to_pylist())
        if column.values is not None:
            assert values <= set(column.values)
        elif values:
            assert column.low <= min(values)
            assert max(values) <= column.high
