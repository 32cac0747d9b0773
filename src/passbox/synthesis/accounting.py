"""What a synthesis may spend, and what it spent: zero-concentrated differential privacy in exact
arithmetic.

Every measurement is a discrete Gaussian of variance s²/(2ρ) over integers of sensitivity s, so it costs
exactly ρ; costs add up; the sum becomes (ε, δ) by Canonne, Kamath and Steinke (2020), Proposition 12 of
arXiv:2004.00010v3. Rational numbers throughout; what is not rational is rounded towards less budget. This
module knows no data.

"""

import math
from dataclasses import dataclass, field
from decimal import Context, Decimal
from fractions import Fraction

# the parts of delta: the conversion from ρ, values that a single row could bring in, and the noise's own
# error
CONVERSION, DISCOVERY, SAMPLING = Fraction(89, 100), Fraction(10, 100), Fraction(1, 100)
_DIGITS = Context(prec=60)
_SLACK = Decimal("1e-40")  # of the conversion's result, far above what 60 digits lose
_GRID = 2**80


def delta_of(rho: Fraction, epsilon: Fraction) -> Fraction:
    """A δ, rounded up, such that ρ-zCDP implies (ε, δ)-differential privacy. Every order gives a bound."""
    order = Fraction(_best_order(float(rho), float(epsilon)))
    a, r, e = (_decimal(x) for x in (order, rho, epsilon))
    one = Decimal(1)
    power = _DIGITS.multiply(_DIGITS.subtract(a, one), _DIGITS.subtract(_DIGITS.multiply(a, r), e))
    ratio = _DIGITS.ln(_DIGITS.subtract(one, _DIGITS.divide(one, a)))
    power = _DIGITS.add(power, _DIGITS.multiply(a, ratio))
    bound = _DIGITS.divide(_DIGITS.exp(power), _DIGITS.subtract(a, one))
    return Fraction(bound) * (1 + Fraction(_SLACK)) + Fraction(_SLACK)


def rho_of(epsilon: Fraction, delta: Fraction) -> Fraction:
    """The greatest ρ, to within 2⁻⁸⁰ and never above, whose δ at this ε is at most `delta`."""
    low, high = 0, int(epsilon * _GRID) + 1
    while high - low > max(1, high >> 60):
        middle = (low + high) // 2
        if delta_of(Fraction(middle, _GRID), epsilon) <= delta:
            low = middle
        else:
            high = middle
    if not low:
        raise ValueError("epsilon and delta are too small for any measurement")
    return Fraction(low, _GRID)


def _decimal(value: Fraction) -> Decimal:
    return _DIGITS.divide(Decimal(value.numerator), Decimal(value.denominator))


def _best_order(rho: float, epsilon: float) -> float:
    """The order α > 1 at which the bound is least, found in floats: a bad α costs sharpness, not truth."""
    low, high = 1.0 + 1e-9, max(2.0, (epsilon + 1) / (2 * rho) + 2)
    for _ in range(200):
        middle = (low + high) / 2
        slope = (2 * middle - 1) * rho - epsilon + math.log1p(-1 / middle)
        low, high = (low, middle) if slope > 0 else (middle, high)
    return low


@dataclass(frozen=True)
class Spend:
    """One line of the ledger: what for, its ρ, and its share of the ε asked (pro rata, so the shares add
    up).
    """

    what: str
    rho: Fraction
    epsilon: Fraction


@dataclass
class Budget:
    """The whole of (ε, δ) and what has been taken of it.

    sensitivity: how many rows one unit of privacy has at most; a histogram changes by as much (L2).
    """

    epsilon: Fraction
    delta: Fraction
    sensitivity: int = 1
    spends: list[Spend] = field(default_factory=list)
    errors: Fraction = Fraction(0)
    told: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        self.rho = rho_of(self.epsilon, self.delta * CONVERSION)

    @property
    def left(self) -> Fraction:
        """The ρ that is not spent."""
        return self.rho - sum((spend.rho for spend in self.spends), Fraction(0))

    def spend(self, what: str, rho: Fraction) -> Fraction:
        """Takes ρ for a named purpose and returns it; lines of one purpose are added up."""
        if not 0 < rho <= self.left:
            raise ValueError(f"{what}: {float(rho)} is not within the {float(self.left)} that are left")
        before = [spend.rho for spend in self.spends if spend.what == what]
        total = rho + sum(before, Fraction(0))
        line = Spend(what, total, self.epsilon * total / self.rho)
        if before:
            self.spends = [line if spend.what == what else spend for spend in self.spends]
        else:
            self.spends.append(line)
        return rho

    def err(self, distance: Fraction, draws: int) -> None:
        """Charges δ for noise that is not ideal: `draws` that one unit reaches, each off by a total
        variation.

        A mechanism within total variation τ of an (ε, δ) one is (ε, δ + (1 + e^ε)·τ).
        """
        growth = Fraction(math.ceil(math.exp(float(self.epsilon)) * 1.001) + 1)
        self.errors += growth * distance * draws
        if self.errors > self.delta * SAMPLING:
            raise ValueError("the noise's error is above its part of delta")

    def tell(self, delta: Fraction) -> None:
        """Charges δ for values of the data that may be told."""
        self.told += delta
        if self.told > self.delta * DISCOVERY:
            raise ValueError("more values are discovered than delta has room for")
