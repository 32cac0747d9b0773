"""The attack score's distances: 50,000 rows against 50,000 synthetic ones, 15 mixed columns, exact.

CPU seconds of ours in whole, and of two brute forces on a sample, scaled up: numpy, pair by pair, and
scikit-learn's nearest neighbours by the Manhattan distance with one column for each label (two halves are a
mismatch). All three answers are compared on the sample. Rows are independent in every column, which is the
hardest case, or of 40 kinds.

    python -m bench.score
"""

import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from passbox.synthesis.closest import closest

ROWS, LABELS, NUMBERS, VALUES = 50_000, 8, 7, 8
SAMPLE = 300
NUMERIC = [False] * LABELS + [True] * NUMBERS


def independent(draw: np.random.Generator) -> Any:
    """Every column on its own."""
    return np.hstack([draw.integers(0, VALUES, (ROWS, LABELS)).astype(float), draw.random((ROWS, NUMBERS))])


def kinds(draw: np.random.Generator) -> Any:
    """Rows of 40 kinds: a fifth of the labels differ from the kind's, numbers lie around its own."""
    fixed = np.random.default_rng(1)
    labels, numbers = fixed.integers(0, VALUES, (40, LABELS)), fixed.random((40, NUMBERS))
    kind = draw.integers(0, 40, ROWS)
    other = draw.random((ROWS, LABELS)) < 0.2
    labelled = np.where(other, draw.integers(0, VALUES, (ROWS, LABELS)), labels[kind])
    return np.hstack([labelled, np.clip(numbers[kind] + draw.normal(0, 0.1, (ROWS, NUMBERS)), 0, 1)])


def brute(points: Any, rows: Any) -> Any:
    """Every pair, in numpy."""
    return np.array([np.minimum(np.abs(rows - point), 1).sum(axis=1).min() for point in points])


def neighbours(points: Any, rows: Any) -> Any:
    """scikit-learn's brute force; a label is as many columns as it has values, of 0 and ½."""
    from sklearn.neighbors import NearestNeighbors

    def spread(table: Any) -> Any:
        hot = (table[:, :LABELS, None] == np.arange(VALUES)).reshape(len(table), -1) / 2
        return np.hstack([hot, table[:, LABELS:]])

    search = NearestNeighbors(n_neighbors=1, algorithm="brute", metric="manhattan").fit(spread(rows))
    return search.kneighbors(spread(points))[0][:, 0]


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns and its CPU seconds, of all threads."""
    begin = time.process_time()
    return work(), time.process_time() - begin


def main() -> None:
    """Prints the figures."""
    print(f"{ROWS:,} × {ROWS:,} × {len(NUMERIC)} columns, CPU s; others on {SAMPLE} rows, scaled")
    print(f"{'':24}{'ours':>8}{'numpy':>10}{'sklearn':>10}{'greatest difference':>22}")
    for name, made in (("independent columns", independent), ("rows of 40 kinds", kinds)):
        points, rows = (made(np.random.default_rng(seed)) for seed in (2, 3))
        neighbours(points[:2], rows[:2])  # its import is not its work
        found, ours = _timed(lambda points=points, rows=rows: closest(points, rows, NUMERIC))
        chosen = np.random.default_rng(4).choice(ROWS, SAMPLE, replace=False)
        sample = points[chosen]
        others = [
            _timed(lambda work=work, sample=sample, rows=rows: work(sample, rows))
            for work in (brute, neighbours)
        ]
        apart = max(float(np.abs(answer - found[chosen]).max()) for answer, _ in others)
        scaled = [seconds * ROWS / SAMPLE for _, seconds in others]
        print(f"{name:24}{ours:>8.2f}{scaled[0]:>10.0f}{scaled[1]:>10.0f}{apart:>22.1e}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of the process {peak:,.0f} MB")


if __name__ == "__main__":
    main()
