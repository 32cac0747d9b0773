"""Noise is the discrete Gaussian that was paid for: against its formula, and against OpenDP's own draws."""

import math
import os
from fractions import Fraction

import numpy as np
import opendp.prelude as dp
import pytest
from scipy import stats

from passbox.synthesis.noise import Source, add, noise, seeded, table

CRYPTOGRAPHIC = Source(os.urandom, private=True)


def ideal(variance: Fraction, bound: int) -> np.ndarray:
    weights = np.exp(-(np.arange(-bound, bound + 1) ** 2) / (2 * float(variance)))
    return weights / weights.sum()


@pytest.mark.parametrize(
    "variance", [Fraction(1, 50), Fraction(1, 3), Fraction(2), Fraction(1234, 7), Fraction(10**6)]
)
def test_a_table_holds_the_formula(variance: Fraction) -> None:
    chosen = table(variance)
    edges = np.array([0, *(float(Fraction(value, 2**128)) for value in chosen.exact), 1])
    assert np.abs(np.diff(edges) - ideal(variance, chosen.bound)).max() < 1e-12
    assert chosen.error < Fraction(1, 2**100)
    assert chosen.above(1) == pytest.approx(
        float((1 - ideal(variance, chosen.bound)[chosen.bound]) / 2), abs=1e-12
    )
    assert chosen.above(chosen.bound + 1) == 0
    assert chosen.above(-chosen.bound) == 1


@pytest.mark.parametrize("variance", [Fraction(3, 4), Fraction(40), Fraction(5 * 10**7)])
def test_draws_are_those_of_opendp(variance: Fraction) -> None:
    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="i64")
    theirs = np.array(dp.m.make_gaussian(*space, scale=float(variance) ** 0.5)([0] * 8000))
    ours = noise(variance).sample(40_000, seeded(5))
    width = max(1, math.isqrt(int(variance)) // 4)
    places = np.arange(-3 * 4 * width, 3 * 4 * width + 1, width) if width > 1 else np.arange(-3, 5)
    counts = np.array([np.histogram(side, [-(10**9), *places, 10**9])[0] for side in (ours, theirs)])
    _, chance, _, _ = stats.chi2_contingency(counts[:, counts.sum(axis=0) > 20])
    assert chance > 1e-4


@pytest.mark.parametrize("power", [13, 17, 22])
def test_wide_noise_has_its_variance_and_tails(power: int) -> None:
    chosen, deviation = noise(Fraction(10**power)), 10 ** (power / 2)
    drawn = chosen.sample(50_000, seeded(3))
    assert drawn.astype(float).var() == pytest.approx(10**power, rel=0.03)
    assert stats.kstest(drawn / deviation, "norm").pvalue > 1e-4
    for lattice in (97, 724, 1000):  # none shows
        assert stats.chisquare(np.bincount(drawn % lattice, minlength=lattice)).pvalue > 1e-4
    assert chosen.above(int(3 * deviation)) > (drawn >= 3 * deviation).mean()
    assert chosen.error < Fraction(1, 2**100)
    while not hasattr(chosen, "exact"):  # every table is one that is worth its making
        assert len(chosen.inner.exact) < 60_000
        chosen = chosen.outer
    assert len(chosen.exact) < 60_000


def test_what_64_bits_leave_open_is_decided_by_64_more() -> None:
    chosen = table(Fraction(2))
    edge = chosen.exact[chosen.bound]  # P(x ≤ 0)
    upper, lower = edge >> 64, edge & (2**64 - 1)
    for low, drawn in ((lower - 1, 0), (lower, 1)):
        words = iter([upper.to_bytes(8, "little"), low.to_bytes(8, "little")])
        assert chosen.sample(1, Source(lambda _, words=words: next(words), private=True))[0] == drawn


def test_counts_come_back_with_noise_in_their_shape() -> None:
    counts = np.arange(6).reshape(2, 3) * 10**6
    noisy, error = add(counts, Fraction(9), CRYPTOGRAPHIC)
    assert noisy.shape == (2, 3)
    assert np.abs(noisy - counts).max() < 60
    assert error < Fraction(1, 2**100)


def test_a_seed_repeats_and_says_that_it_is_not_private() -> None:
    assert not seeded(1).private
    assert seeded(1).words(5).tolist() == seeded(1).words(5).tolist() != seeded(2).words(5).tolist()
