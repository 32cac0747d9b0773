"""Discrete Gaussian noise on integer counts, by a table of exact thresholds.

A draw is one 128-bit number looked up among the cumulative probabilities, which are computed in 256-bit
integers, so no float is near what is released (Mironov 2012). How far a table is from the ideal is `error`,
an upper bound that the budget charges to δ. This module knows neither what is counted nor where the bits
come from.
"""

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
_BITS = 256
_ONE = 1 << 128
_WIDEST = 1 << 11  # the standard deviation of a table, at most; wider noise is put together from several
_SCALE = _WIDEST**2 // 8  # squared: what the outer of two parts is multiplied by, at most
_TAIL = 150  # a weight below 2⁻¹⁵⁰ of the greatest is left out


@dataclass(frozen=True)
class Source:
    """Where randomness comes from. draw: n → n random bytes. private: unpredictable, as `os.urandom` is."""

    draw: Callable[[int], bytes]
    private: bool

    def words(self, count: int) -> npt.NDArray[np.uint64]:
        """`count` uniform 64-bit numbers."""
        return np.frombuffer(self.draw(8 * count), dtype=np.uint64)

    def generator(self) -> np.random.Generator:
        """A fast generator seeded from here, for what needs no secrecy: drawing rows from a private model."""
        return np.random.Generator(np.random.PCG64([int(word) for word in self.words(4)]))


def seeded(seed: int) -> Source:
    """A source that repeats itself. What it makes is not private: whoever knows the seed can take the
    noise off.
    """
    return Source(np.random.Generator(np.random.PCG64(seed)).bytes, private=False)


@dataclass(frozen=True)
class Table:
    """Cumulative probabilities in 2⁻¹²⁸ of −bound … bound, their upper halves in an array.

    error: total variation from the ideal distribution, at most.
    """

    exact: tuple[int, ...]
    upper: npt.NDArray[np.uint64]
    bound: int
    error: Fraction

    def sample(self, count: int, source: Source) -> Integers:
        """`count` independent draws. Where 64 bits do not decide, which is all but never, 64 more are
        drawn.
        """
        words = source.words(count)
        found = np.searchsorted(self.upper, words, side="right")
        for at in np.nonzero((found > 0) & (self.upper[found - 1] == words))[0]:
            found[at] = bisect_right(self.exact, int(words[at]) << 64 | int(source.words(1)[0]))
        return found.astype(np.int64) - self.bound

    def above(self, threshold: int) -> Fraction:
        """P(noise ≥ threshold) of the table itself, exactly."""
        if threshold > self.bound:
            return Fraction(0)
        if threshold <= -self.bound:
            return Fraction(1)
        return 1 - Fraction(self.exact[threshold + self.bound - 1], _ONE)


@dataclass(frozen=True)
class Wide:
    """Noise too wide for one table: scale·outer + inner, of which the variances add up. The outer part may
    itself be put together.

    The sum is a discrete Gaussian to within a factor 1 ± 4·exp(−2π²τ²), τ² = 1/(1/σ²outer + scale²/σ²inner)
    > 7, by Poisson's summation formula (Peikert 2010, Theorem 3.1), beside the tables' own errors.

    """

    outer: "Table | Wide"
    inner: Table
    scale: int
    variance: Fraction

    @property
    def bound(self) -> int:
        """The greatest draw."""
        return self.scale * self.outer.bound + self.inner.bound

    @property
    def error(self) -> Fraction:
        """Total variation from the ideal distribution, at most."""
        return self.outer.error + self.inner.error + Fraction(4, 2**195)

    def sample(self, count: int, source: Source) -> Integers:
        """`count` independent draws."""
        return self.scale * self.outer.sample(count, source) + self.inner.sample(count, source)

    def above(self, threshold: int) -> Fraction:
        """P(noise ≥ threshold), or more: exp(−x²/2σ²), rounded up."""
        if threshold <= 0:
            return Fraction(1)
        return Fraction(math.exp(-float(threshold**2 / (2 * self.variance))) * (1 + 1e-9)) + self.error


def noise(variance: Fraction) -> Table | Wide:
    """What draws discrete Gaussian noise with parameter σ² = `variance`: P(x) ∝ exp(−x²/2σ²), x a whole
    number.
    """
    if variance <= _WIDEST**2:
        return table(variance)
    scale = math.isqrt(min(math.isqrt(int(variance)) // 3, _SCALE))
    return Wide(noise(variance / scale**2 - 8), table(Fraction(8 * scale**2)), scale, variance)


@lru_cache(maxsize=64)
def table(variance: Fraction) -> Table:
    """The table of the discrete Gaussian with parameter σ² = `variance`: P(x) ∝ exp(−x²/2σ²)."""
    # w(j+1) = w(j)·q(j) and q(j+1) = q(j)·r, with q(0) = exp(−1/2σ²), r = exp(−1/σ²), in fixed point
    step, ratio = _exp(1 / (2 * variance)), _exp(1 / variance)
    weights = [1 << _BITS]
    while weights[-1] >> (_BITS - _TAIL):
        weights.append(weights[-1] * step >> _BITS)
        step = step * ratio >> _BITS
    bound = len(weights) - 1
    halves = weights[:0:-1] + weights
    total, running, exact = sum(halves), 0, []
    for weight in halves[:-1]:
        running += weight
        exact.append(min(running * _ONE // total, _ONE - 1))
    error = Fraction(2 * bound + 1, _ONE) + Fraction(4 * (bound + 1), 2**_TAIL)
    return Table(tuple(exact), np.array([value >> 64 for value in exact], dtype=np.uint64), bound, error)


def _exp(power: Fraction) -> int:
    """exp(−power) in 256-bit fixed point, by halving and Taylor's series in integers; off by far below
    2⁻²⁰⁰.
    """
    halvings = max(0, math.ceil(math.log2(float(power) + 1e-300)) + 8) if power > Fraction(1, 256) else 0
    small = (power.numerator << _BITS) // (power.denominator << halvings)
    term = result = 1 << _BITS
    for k in range(1, 60):
        term = -(term * small >> _BITS) // k
        result += term
    for _ in range(halvings):
        result = result * result >> _BITS
    return result


def add(counts: Any, variance: Fraction, source: Source) -> tuple[Integers, Fraction]:
    """The counts with noise of this variance, and the total variation of one draw from the ideal."""
    exact = np.asarray(counts, dtype=np.int64)
    chosen = noise(variance)
    return exact + chosen.sample(exact.size, source).reshape(exact.shape), chosen.error
