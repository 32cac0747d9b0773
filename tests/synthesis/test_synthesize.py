"""The door of the room: what goes in comes out with the same schema, from a closed domain, within the
budget.
"""

import datetime
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest

from passbox.errors import JobFailed, ValidationException
from passbox.synthesis.noise import seeded
from passbox.synthesis.request import Column, Request
from passbox.synthesis.synthesize import synthesize

ROWS = 4000


def mixed(rows: int = ROWS) -> pa.Table:
    """A table of every kind of type, with nulls."""
    draw = np.random.default_rng(1)
    day = datetime.date(2020, 1, 1)
    moment = datetime.datetime(2020, 1, 1)
    group = draw.integers(0, 3, rows)
    return pa.table(
        {
            "city": pa.array([["Bonn", "Lyon", None][g] for g in group]),
            "age": pa.array((group * 20 + draw.integers(0, 9, rows)).astype(np.int16)),
            "paid": pa.array(
                [Decimal(int(c)) / 100 for c in draw.integers(0, 5000, rows)], pa.decimal128(9, 2)
            ),
            "born": pa.array([day + datetime.timedelta(days=int(d)) for d in draw.integers(0, 900, rows)]),
            "seen": pa.array(
                [moment + datetime.timedelta(seconds=int(d)) for d in draw.integers(0, 10**6, rows)],
                pa.timestamp("us"),
            ),
            "rate": pa.array(draw.normal(size=rows), pa.float32(), mask=draw.random(rows) < 0.3),
            "late": pa.array(draw.random(rows) < 0.2 + 0.2 * group),
        }
    )


KINDS = {"city": "categorical", "late": "categorical"}


def asked(table: pa.Table, epsilon: int = 5, **more: object) -> Request:
    """Every column discovered."""
    columns = tuple(Column(name, KINDS.get(name, "numerical")) for name in table.schema.names)  # type: ignore[arg-type]
    return Request(columns, Fraction(epsilon), **more)  # type: ignore[arg-type]


def test_schema_and_budget_are_exact() -> None:
    table = mixed()
    made = synthesize(table, asked(table, target="late"), seeded(1))
    assert made.table.schema == table.schema
    assert not made.private
    assert abs(made.table.num_rows - ROWS) < 200
    assert Fraction(99, 100) * 5 < sum(spend.epsilon for spend in made.spends) <= 5
    assert set(made.table["city"].unique().to_pylist()) == {"Bonn", "Lyon", None}
    assert made.table["born"].null_count == 0


def test_a_column_that_identifies_is_refused_by_name() -> None:
    table = mixed().append_column("passport", pa.array([f"P{i}" for i in range(ROWS)]))
    columns = (*asked(mixed()).columns, Column("passport", "categorical"))
    with pytest.raises(JobFailed, match="passport"):
        synthesize(table, Request(columns, Fraction(5)), seeded(1))


def test_a_request_that_does_not_fit_names_the_column() -> None:
    table = mixed()
    with pytest.raises(ValidationException, match="city"):
        synthesize(
            table, Request((Column("city", "numerical"), *asked(table).columns[1:]), Fraction(1)), seeded(1)
        )
    with pytest.raises(ValidationException, match="late"):
        synthesize(table, Request(asked(table).columns[:-1], Fraction(1)), seeded(1))
