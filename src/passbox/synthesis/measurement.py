"""Counting, and the one mechanism by which counts leave the data: discrete Gaussian noise, charged as it is
drawn.

Codes are arrays of small integers, one array for each column; a marginal is a histogram over the cells of
several columns. Nothing else in this room returns a number that depends on the rows without passing
`Meter.release`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from passbox.errors import JobFailed
from passbox.synthesis import noise
from passbox.synthesis.accounting import Budget
from passbox.synthesis.encoding import Array

WIDEST = 1 << 40  # the standard deviation of noise; far above it counts would not fit 64 bits
CHUNK = 1 << 20  # rows counted at a time: what is in memory beside the codes does not grow with the table


@dataclass(frozen=True)
class Meter:
    """The budget, the randomness and the voice of one synthesis."""

    budget: Budget
    source: noise.Source
    progress: Callable[[str], None]

    def release(
        self, what: str, counts: Any, rho: Fraction, together: int = 1
    ) -> tuple[noise.Integers, float]:
        """The counts with noise that costs `rho`, and its standard deviation.

        together: how many numbers one row changes by at most 1 each: 1 for a histogram, else the number of
        histograms or scores that are given in one array.
        """
        variance = Fraction(self.budget.sensitivity**2 * together) / (2 * rho)
        if variance > WIDEST**2:
            raise JobFailed(
                "INVALID_SYNTHETIC_DATA_INPUT",
                f"epsilon {float(self.budget.epsilon):g} is too small: a count would carry noise of more "
                f"than {WIDEST:,} rows. Raise epsilon, or let fewer rows of a person count.",
            )
        self.budget.spend(what, rho)
        noisy, error = noise.add(counts, variance, self.source)
        self.budget.err(error, self.budget.sensitivity * together)
        return noisy, math.sqrt(variance)

    def deviation(self, rho: Fraction, together: int = 1) -> float:
        """The standard deviation that `release` would have, without a release."""
        return math.sqrt(Fraction(self.budget.sensitivity**2 * together) / (2 * rho))


def histogram(codes: Sequence[Array], sizes: Sequence[int]) -> Array:
    """Exact counts, of shape `sizes`, of the combinations of codes. int64."""
    total = int(np.prod(sizes, dtype=np.int64))
    result = np.zeros(total, dtype=np.int64)
    for start in range(0, len(codes[0]), CHUNK):
        index = codes[0][start : start + CHUNK].astype(np.intp)
        for column, size in zip(codes[1:], sizes[1:], strict=True):
            index *= size
            index += column[start : start + CHUNK]
        result += np.bincount(index, minlength=total)
    return result.reshape(tuple(sizes))


def smallest(codes: Array, size: int) -> Array:
    """The codes in the narrowest unsigned type that holds `size` of them."""
    return codes.astype(np.uint8 if size <= 256 else np.uint16 if size <= 65536 else np.uint32, copy=False)


def project(noisy: Array, total: float) -> Array:
    """The nearest histogram (least squares) without negative cells and with this total: small noise
    becomes 0.
    """
    flat = np.asarray(noisy, dtype=np.float64).ravel()
    ordered = np.sort(flat)[::-1]
    sums = np.cumsum(ordered) - max(total, 1e-9)
    kept = np.nonzero(ordered - sums / np.arange(1, len(flat) + 1) > 0)[0][-1]
    nearest: Array = np.maximum(flat - sums[kept] / (kept + 1), 0.0).reshape(np.shape(noisy))
    return nearest
