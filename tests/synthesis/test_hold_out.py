"""One row in twenty is held out, by a key, and a person is never on both sides."""

import math

import numpy as np
import pyarrow as pa

from passbox.synthesis.hold_out import chosen, hold_out

TABLE = pa.table(
    {"row": range(20_000), "person": [None if i % 50 == 0 else f"p{i % 4000}" for i in range(20_000)]}
)


def test_the_parts_are_the_table() -> None:
    fit, held = hold_out(TABLE, b"key")
    assert sorted(fit["row"].to_pylist() + held["row"].to_pylist()) == list(range(20_000))
    assert fit["row"].to_pylist() == sorted(fit["row"].to_pylist())
    assert abs(held.num_rows - 1000) < 4 * math.sqrt(950)


def test_the_key_alone_decides() -> None:
    assert hold_out(TABLE, b"key")[1].equals(hold_out(TABLE, b"key")[1])
    ours, others = (set(hold_out(TABLE, key)[1]["row"].to_pylist()) for key in (b"key", b"kez"))
    assert len(ours & others) < 100  # 50 by chance


def test_what_is_drawn_does_not_follow_from_what_a_row_holds() -> None:
    changed = TABLE.set_column(0, "row", pa.array(np.zeros(20_000)))
    assert hold_out(TABLE, b"key")[1].num_rows == hold_out(changed, b"key")[1].num_rows


def test_all_rows_of_a_person_are_on_one_side() -> None:
    fit, held = hold_out(TABLE, b"key", person="person")
    assert not set(fit["person"].to_pylist()) & set(held["person"].to_pylist())
    assert 100 < len(set(held["person"].to_pylist())) < 300


def test_purposes_do_not_share_what_they_draw() -> None:
    both = chosen(b"key", b"one", 100_000, 0.5) & chosen(b"key", b"other", 100_000, 0.5)
    assert abs(both.mean() - 0.25) < 0.01
    assert chosen(b"key", b"one", 100, 1.0).all()
