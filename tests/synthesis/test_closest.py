"""The closest rows are those that comparing every pair finds, to the last digit."""

import numpy as np
import pytest

from passbox.synthesis.closest import MISSING, Points, closest


def slowly(points: Points, rows: Points) -> np.ndarray:
    """Every pair, column by column."""
    return np.array([np.minimum(np.abs(rows - point), 1).sum(axis=1).min() for point in points])


def drawn(seed: int, count: int, kinds: list[bool], labels: int = 6) -> Points:
    """Numbers in 0…1, some exactly at the ends, categories as whole numbers, and NULLs among the numbers."""
    draw = np.random.default_rng(seed)
    columns = []
    for numeric in kinds:
        numbers = np.round(np.clip(draw.normal(0.5, 0.4, count), 0, 1), 3)
        numbers[draw.random(count) < 0.1] = MISSING
        columns.append(numbers if numeric else draw.integers(0, labels, count).astype(float))
    return np.stack(columns, axis=1)


@pytest.mark.parametrize(
    ("columns", "labels"),
    [(1, 6), (5, 6), (15, 3), (15, 500), (32, 6), (33, 6), (120, 4)],
    ids=lambda value: str(value),
)
def test_exact_for_any_number_of_columns_and_labels(columns: int, labels: int) -> None:
    kinds = [bool(i % 2) for i in range(columns)]
    points, rows = drawn(1, 300, kinds, labels), drawn(2, 1000, kinds, labels)
    rows[:20] = points[:20]
    found = closest(points, rows, kinds)
    np.testing.assert_allclose(found, slowly(points, rows), rtol=0, atol=1e-12)
    assert not found[:20].any()


def test_exact_over_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("passbox.synthesis.closest._BLOCK", 64)
    monkeypatch.setattr("passbox.synthesis.closest._PAIRS", 16)
    monkeypatch.setattr("passbox.synthesis.closest._LINES", 1000)
    kinds = [True, False, True, False, False, True]
    points, rows = drawn(3, 200, kinds, 100), drawn(4, 3000, kinds, 100)
    np.testing.assert_allclose(closest(points, rows, kinds), slowly(points, rows), rtol=0, atol=1e-12)


def test_what_is_a_hair_apart_is_told_apart() -> None:
    kinds = [True] * 3
    rows = np.full((9, 3), 0.5)
    rows[:, 0] += np.arange(9) * 1e-9
    assert closest(np.array([[0.5 + 4.4e-9, 0.5, 0.5]]), rows, kinds)[0] == pytest.approx(0.4e-9, rel=1e-3)


def test_null_is_a_value_of_its_own() -> None:
    rows = np.array([[MISSING, 1.0]])
    points = np.array([[MISSING, 1.0], [MISSING, 0.0], [1.0, 1.0], [0.0, 0.0]])
    assert closest(points, rows, [True, False]).tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize("columns", [2, 5, 17])
def test_rows_that_share_nothing_are_as_far_as_can_be(columns: int) -> None:
    points, rows = np.zeros((3, columns)), np.full((9, columns), 7.0)
    assert closest(points, rows, [False] * columns).tolist() == [columns] * 3


def test_nothing_to_be_close_to() -> None:
    assert closest(np.zeros((2, 3)), np.zeros((0, 3)), [True] * 3).tolist() == [3, 3]
    assert not len(closest(np.zeros((0, 3)), np.zeros((2, 3)), [True] * 3))
