"""What ε and δ buy: against OpenDP's conversion, against the exact privacy loss, and to the last digit."""

import math
from fractions import Fraction

import opendp.prelude as dp
import pytest
from scipy import stats

from passbox.synthesis.accounting import Budget, delta_of, rho_of

DELTA = Fraction(1, 10**9)
CASES = [(Fraction(1, 10000), DELTA), (Fraction(1, 10), DELTA), (Fraction(1), DELTA), (Fraction(3), DELTA)]
CASES += [(Fraction(10), DELTA), (Fraction(3), Fraction(1, 10**5)), (Fraction(1), Fraction(1, 10**15))]


@pytest.mark.parametrize(("epsilon", "delta"), CASES)
def test_rho_is_what_opendp_says_to_four_digits(epsilon: Fraction, delta: Fraction) -> None:
    dp.enable_features("contrib")
    rho = rho_of(epsilon, delta)
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="i64")
    gaussian = dp.m.make_gaussian(*space, scale=math.sqrt(1 / (2 * float(rho))))
    theirs = dp.c.make_fix_delta(dp.c.make_zCDP_to_approxDP(gaussian), delta=float(delta)).map(1)[0]
    assert float(epsilon) == pytest.approx(theirs, rel=2e-3)


@pytest.mark.parametrize(("epsilon", "delta"), CASES)
def test_the_exact_loss_of_a_gaussian_is_within_the_claim(epsilon: Fraction, delta: Fraction) -> None:
    rho = rho_of(epsilon, delta)
    mu, e = math.sqrt(2 * float(rho)), float(epsilon)
    exact = stats.norm.cdf(mu / 2 - e / mu) - math.exp(e) * stats.norm.cdf(-mu / 2 - e / mu)
    assert exact <= float(delta)
    assert delta_of(rho, epsilon) <= delta
    assert delta_of(rho * 1001 / 1000, epsilon) > delta


def test_a_ledger_adds_up_and_never_overdraws() -> None:
    budget = Budget(Fraction(3), DELTA)
    for _ in range(7):
        budget.spend("a", budget.rho / 14)
    budget.spend("b", budget.left)
    assert [spend.what for spend in budget.spends] == ["a", "b"]
    assert sum(spend.epsilon for spend in budget.spends) == 3
    assert sum(spend.rho for spend in budget.spends) == budget.rho
    with pytest.raises(ValueError, match="not within"):
        budget.spend("c", Fraction(1, 10**30))


def test_delta_is_a_budget_too() -> None:
    budget = Budget(Fraction(1), DELTA)
    budget.tell(DELTA / 10)
    with pytest.raises(ValueError, match="delta"):
        budget.tell(DELTA / 10**6)
    budget.err(Fraction(1, 2**100), 1000)
    with pytest.raises(ValueError, match="delta"):
        budget.err(Fraction(1, 2**30), 1)
