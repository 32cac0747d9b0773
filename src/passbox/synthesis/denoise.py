"""Released tables made consistent: one estimate of what several of them say, and less noise where little is
known.

Post-processing only. Tables have the class as their first axis.

"""

from collections.abc import Sequence

import numpy as np

from passbox.synthesis.encoding import Array
from passbox.synthesis.measurement import project

_SURE = 1.0  # standard deviations, squared, beyond which a cell speaks for itself
_FAR = 9.0  # the same, for cells that say nothing of the others
_FAR = 9.0  # the same, for cells that say nothing of the others
_SMALL = 1e-9


def combined(tables: Sequence[Array], variances: Sequence[float]) -> tuple[Array, float]:
    """The average of unbiased estimates, weighted by 1/variance, and its variance."""
    weights = 1 / np.asarray(variances)
    total = float(weights.sum())
    mean: Array = (
        sum(w * np.asarray(t, dtype=np.float64) for w, t in zip(weights, tables, strict=True)) / total
    )
    return mean, 1 / total


def raked(table: Array, margins: Sequence[tuple[int, Array]], sweeps: int = 12) -> Array:
    """A non-negative table scaled until its sums over all axes but (0, axis) are the margins given."""
    result = np.maximum(np.asarray(table, dtype=np.float64), 0.0) + _SMALL
    for _ in range(sweeps):
        for axis, margin in margins:
            others = tuple(at for at in range(1, result.ndim) if at != axis)
            now = result.sum(axis=others)
            factor = (margin + _SMALL) / np.maximum(now, _SMALL)
            shape = [result.shape[0]] + [
                result.shape[at] if at == axis else 1 for at in range(1, result.ndim)
            ]
            result *= factor.reshape(shape)
    return result


def independent(left: Array, right: Array) -> Array:
    """The table of (class, a, b) in which a and b are independent given the class; both have the same
    classes.
    """
    classes = np.maximum(left.sum(axis=1), _SMALL)
    table: Array = left[:, :, None] * right[:, None, :] / classes[:, None, None]
    return table


def shrunk(noisy: Array, expected: Array, variance: float) -> Array:
    """Each cell between what was measured and what was expected without measuring, by how much each is
    worth.

    Cells differ from the expectation by about c times it; c is found from how far all of them differ beyond
    the noise. A cell that is far beyond the noise is believed by itself.

    """
    apart = noisy - expected
    near = apart**2 < _FAR * variance
    beyond = float((apart[near] ** 2).sum()) - variance * float(near.sum())
    spread = max(beyond, 0.0) / max(float((expected[near] ** 2).sum()), _SMALL) * expected**2
    weight = spread / (spread + variance)
    alone = 1 - _SURE * variance / np.maximum(apart**2, _SMALL)
    result: Array = expected + np.maximum(weight, alone) * apart
    return result


def settled(noisy: Array, possible: Array, total: float, classes: Array | None = None) -> Array:
    """A released (class, a) table without negative or impossible cells, with the classes given."""
    table = project(np.where(possible, noisy, -1e18), total) if possible.any() else np.zeros(noisy.shape)
    return table if classes is None else raked(table, []) * (classes / (table.sum(axis=1) + _SMALL))[:, None]
