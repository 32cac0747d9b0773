"""Figures of likeness: what they are for tables whose difference is known."""

import builtins
import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from passbox.synthesis.learning import learn
from passbox.synthesis.request import Column
from passbox.synthesis.utility import compare

ROWS = 6000
COLUMNS = [
    Column("kind", "categorical"),
    Column("size", "numerical"),
    Column("weight", "numerical"),
    Column("kept", "categorical"),
]


def drawn(seed: int, shuffled: bool = False) -> pa.Table:
    """Columns that go together, or, shuffled, each as before but on its own."""
    draw = np.random.default_rng(seed)
    kind = draw.integers(0, 4, ROWS)
    size = draw.normal(kind * 2.0, 1)
    kept = size + draw.normal(0, 1, ROWS) > 3
    columns = [
        pa.array([["ash", "beech", None, "<elm>"][k] for k in kind]),
        pa.array(size, mask=draw.random(ROWS) < 0.05),
        pa.array(np.round(size * 10 + draw.normal(0, 3, ROWS)).astype(np.int64)),
        pa.array(kept),
    ]
    if shuffled:
        columns = [column.take(pa.array(draw.permutation(ROWS))) for column in columns]
    return pa.table(dict(zip(["kind", "size", "weight", "kept"], columns, strict=True)))


REAL, LIKE, SHUFFLED, TEST = drawn(1), drawn(2), drawn(3, shuffled=True), drawn(4)


def test_equal_tables_do_not_differ() -> None:
    found = compare(REAL, REAL, COLUMNS)
    assert [each.mean for each in found.marginals] == [0, 0, 0]
    assert all(column.variation == column.divergence == 0 for column in found.columns)


def test_tables_of_one_kind_differ_by_the_floor() -> None:
    for each in compare(REAL, LIKE, COLUMNS).marginals:
        assert each.low < each.floor < each.high or each.mean == pytest.approx(each.floor, rel=0.25)


def test_columns_on_their_own_differ_in_pairs_only() -> None:
    one, two, three = compare(REAL, SHUFFLED, COLUMNS).marginals
    assert one.mean < 2 * one.floor
    assert two.mean > 0.2
    assert three.mean > two.mean
    assert two.low < two.mean < two.high
    assert (one.looked_at, two.looked_at, three.looked_at) == (4, 6, 4)


def test_a_known_difference() -> None:
    """60 to 40 against 50 to 50: one row in ten would have to change."""
    real = pa.table({"a": ["x"] * 600 + ["y"] * 400})
    made = pa.table({"a": ["x"] * 500 + ["y"] * 500})
    found = compare(real, made, [Column("a", "categorical")])
    assert found.marginals[0].mean == pytest.approx(0.1)
    assert found.columns[0].divergence == pytest.approx(0.6 * np.log(1.2) + 0.4 * np.log(0.8), rel=0.02)
    assert found.columns[0].picture.labels == ("x", "y")
    assert found.columns[0].picture.real == (0.6, 0.4)


def test_intervals_hold_what_many_rows_show() -> None:
    """The mean over 40 pairs of tables lies in most of their intervals."""
    found = []
    for seed in range(40):
        draw = np.random.default_rng(seed)
        tables = [pa.table({"a": draw.random(2000) < p, "b": draw.random(2000) < p}) for p in (0.5, 0.6)]
        found.append(compare(*tables, [Column("a", "categorical"), Column("b", "categorical")]).marginals[0])
    truth = float(np.mean([each.mean for each in found]))
    assert truth == pytest.approx(0.1, abs=0.01)
    assert sum(each.low <= truth <= each.high for each in found) >= 34


def test_wide_tables_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("passbox.synthesis.utility.MARGINALS", {1: 1000, 2: 20, 3: 30})
    draw = np.random.default_rng(5)
    table = pa.table({f"c{i}": draw.integers(0, 3, 500) for i in range(60)})
    found = compare(table, table, [Column(f"c{i}", "categorical") for i in range(60)])
    assert [(each.looked_at, each.all) for each in found.marginals] == [(60, 60), (20, 1770), (30, 34220)]


@pytest.mark.parametrize(
    "values",
    [
        [datetime.date(2020, 1, 1 + i % 28) for i in range(200)],
        [datetime.datetime(2020, 1, 1, i % 24) for i in range(200)],
        [Decimal(i % 90) / 100 for i in range(200)],
        [float("nan") if i % 7 == 0 else i / 3 for i in range(200)],
        [None] * 200,
    ],
    ids=["date", "timestamp", "decimal", "NaN", "all null"],
)
def test_every_numerical_type_has_a_picture(values: list[Any]) -> None:
    kind = pa.float64() if values[0] is None else None
    table = pa.table({"a": pa.array(values, kind)})
    picture = compare(table, table, [Column("a", "numerical")]).columns[0].picture
    assert sum(picture.real) == pytest.approx(1)
    assert picture.ordered


def test_a_model_learns_from_synthetic_rows_what_it_learns_from_real_ones() -> None:
    like, apart = (learn(REAL, made, TEST, COLUMNS, "kept") for made in (LIKE, SHUFFLED))
    assert like.real is not None
    assert like.synthetic is not None
    assert apart.synthetic is not None
    assert like.measure == "AUC"
    assert like.real.low < like.real.value < like.real.high
    assert like.synthetic.value == pytest.approx(like.real.value, abs=0.02)
    assert apart.synthetic.value < 0.65


@pytest.mark.parametrize(("target", "measure"), [("kind", "AUC"), ("weight", "R²")])
def test_classes_and_numbers(target: str, measure: str) -> None:
    found = learn(REAL, LIKE, TEST, COLUMNS, target)
    assert found.measure == measure
    assert found.real is not None
    assert found.synthetic is not None
    assert found.real.value > 0.7
    assert found.synthetic.value > 0.7


def test_what_cannot_be_measured_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    constant = LIKE.set_column(3, "kept", pa.array([True] * ROWS))
    assert "one value only in the rows to train on" in learn(REAL, constant, TEST, COLUMNS, "kept").note
    same = TEST.set_column(2, "weight", pa.array([3] * ROWS))
    assert "one value only in the rows to test on" in learn(REAL, LIKE, same, COLUMNS, "weight").note
    assert "fewer than 20" in learn(REAL, LIKE, TEST.slice(0, 5), COLUMNS, "kept").note
    real_import = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "sklearn":
            raise ImportError(name)
        return real_import(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "pip install 'passbox[synthetic]'" in learn(REAL, LIKE, TEST, COLUMNS, "kept").note
