"""What an attacker gains who guesses that rows close to a synthetic one were among those it was made from.

Distances of members and of held-out rows are counted in cells, from near to far, the first being distance
0. From the two rows of counts follow the area under the curve of true against false positives, the excess
of exact copies, and the share of members found at 1 % false positives, each with an interval. Counts may
carry noise of a known variance; intervals and tests take it into account. This module knows no tables.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]
FALSE_POSITIVES = 0.01
FALSE_ALARM = 0.005  # how often, at most, a test for leaks fails data that leaks nothing
_INTERVAL = NormalDist().inv_cdf(0.975)
_ALARM = NormalDist().inv_cdf(1 - FALSE_ALARM)


@dataclass(frozen=True)
class Group:
    """How many rows of a group lie in each cell, and how many there are, 1 at least.

    variance: of the noise on each count, 0 for none. With noise `size` need not be the sum of the counts.
    """

    counts: Counts
    size: float
    variance: float = 0.0

    @property
    def shares(self) -> Counts:
        """The share of the group in each cell; noise may leave some below 0."""
        return self.counts / self.size

    def ranks(self) -> Counts:
        """For each cell half of: the share of the group that is nearer, less the share that is farther."""
        centred: Counts = 2 * np.cumsum(self.counts) - self.counts - self.counts.sum()
        return centred / (2 * self.size)

    def error(self, share: float, cells: int = 1) -> float:
        """The variance of a share of the group that lies in so many cells: of who was drawn, and of the
        noise.
        """
        share = min(1.0, max(0.0, share))
        noise = self.variance * (cells + share**2 * len(self.counts)) / self.size**2
        return share * (1 - share) / self.size + noise


def exact(counts: Counts) -> Group:
    """A group whose counts carry no noise."""
    return Group(counts, max(1.0, float(counts.sum())))


def noisy(counts: Counts, variance: float, expected: float) -> Group:
    """A group with noise. Its size is what its counts add up to, drawn towards the `expected` number, by
    precision.
    """
    summed = 1 / (variance * len(counts))
    drawn = 1 / max(1.0, expected)
    size = (float(counts.sum()) * summed + expected * drawn) / (summed + drawn)
    return Group(counts, max(1.0, size), variance)


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval; alarm: what it reaches by chance with less than FALSE_ALARM."""

    value: float
    low: float
    high: float
    alarm: float


def cells(members: NDArray[np.float64], held_out: NDArray[np.float64]) -> tuple[Counts, Counts]:
    """The counts of both groups at every distance that occurs, 0 first: nothing is lost."""
    edges, places = np.unique(np.concatenate([[0.0], members, held_out]), return_inverse=True)
    split = len(members) + 1
    return tuple(
        np.bincount(part, minlength=len(edges)).astype(np.float64)
        for part in (places[1:split], places[split:])
    )  # type: ignore[return-value]


def public_cells(distances: NDArray[np.float64], columns: int) -> NDArray[np.int64]:
    """The counts in cells that depend on nothing but the number of columns, so that noise can be added to
    them.
    """
    step = columns / 64
    edges = np.array([0.0, *(step / 2**k for k in range(6, 0, -1)), *(step * k for k in range(1, 33))])
    return np.bincount(np.searchsorted(edges, distances, side="left"), minlength=len(edges) + 1)


def area(members: Group, held_out: Group) -> Figure:
    """P(a member is nearer than a held-out row), ties counted half, with DeLong's variance."""
    nearer, farther = members.ranks(), -held_out.ranks()
    value = 0.5 + float(held_out.shares @ nearer)
    variance = sum(
        _spread(group, placed) + group.variance * float((placed**2).sum()) / group.size**2
        for group, placed in ((held_out, nearer), (members, farther))
    )
    error = math.sqrt(max(variance, (0.5 / held_out.size) ** 2))
    return Figure(
        value=_share(value),
        low=_share(value - _INTERVAL * error),
        high=_share(value + _INTERVAL * error),
        alarm=0.5 + _ALARM * chance_error(members, held_out),
    )


def _spread(group: Group, placed: Counts) -> float:
    """The variance of the mean of `placed` over the group."""
    weights = np.maximum(group.counts, 0)
    total = max(2.0, float(weights.sum()))
    mean = float(weights @ placed) / total
    return float(weights @ (placed - mean) ** 2) / (total - 1) / total


def chance_error(members: Group, held_out: Group) -> float:
    """The standard deviation of the area where the two groups do not differ."""
    drawn = (members.size + held_out.size + 1) / (12 * members.size * held_out.size)
    noise = sum(
        group.variance * float((other.ranks() ** 2).sum()) / group.size**2
        for group, other in ((members, held_out), (held_out, members))
    )
    return math.sqrt(drawn + noise)


def copies(members: Group, held_out: Group) -> Figure:
    """By how much the share of members with an exact copy exceeds that of held-out rows with one."""
    ours, theirs = float(members.shares[0]), float(held_out.shares[0])
    error = math.sqrt(members.error(ours) + held_out.error(theirs))
    together = float(members.counts[0] + held_out.counts[0]) / (members.size + held_out.size)
    alike = math.sqrt(members.error(together) + held_out.error(together))
    excess = ours - theirs
    return Figure(
        value=max(-1.0, min(1.0, excess)),
        low=max(-1.0, excess - _INTERVAL * max(error, alike)),
        high=min(1.0, excess + _INTERVAL * max(error, alike)),
        alarm=_ALARM * alike,
    )


def found(members: Group, held_out: Group) -> Figure:
    """The share of members that are found when 1 % of the others are taken for members."""
    number = FALSE_POSITIVES * held_out.size
    wobble = math.sqrt(number + 1 + held_out.variance * len(held_out.counts) / 2)
    value = _reach(members, held_out, number)
    low, high = (_reach(members, held_out, number + side * _INTERVAL * wobble) for side in (-1, 1))
    spare = _ALARM * math.sqrt(held_out.variance * len(held_out.counts) / 2)
    limit = _order_limit(math.floor(number + spare), max(1, round(held_out.size)))
    own = math.sqrt(members.error(limit, len(members.counts) // 2))
    return Figure(
        value=value,
        low=_share(low - _INTERVAL * math.sqrt(members.error(low))),
        high=_share(high + _INTERVAL * math.sqrt(members.error(high))),
        alarm=_share(limit + _ALARM * own),
    )


def _reach(members: Group, held_out: Group, number: float) -> float:
    """The share of members nearer than where `number` held-out rows are nearer; within a cell in
    proportion.
    """
    theirs = np.concatenate([[0.0], np.maximum.accumulate(np.cumsum(held_out.counts))])
    ours = np.concatenate([[0.0], np.cumsum(members.shares)])
    if number <= 0:
        return 0.0
    after = int(np.searchsorted(theirs, number, side="right"))
    if after >= len(theirs):
        return 1.0
    part = (number - theirs[after - 1]) / (theirs[after] - theirs[after - 1])
    return _share(float(ours[after - 1] + part * (ours[after] - ours[after - 1])))


def _order_limit(nearer: int, size: int) -> float:
    """What share of its own kind is nearer than the (`nearer` + 1)th of `size` rows, but for FALSE_ALARM /
    2.
    """
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(nearer, size, middle) > FALSE_ALARM / 2 else (low, middle)
    return high


def _at_most(successes: int, trials: int, chance: float) -> float:
    """P(a binomial variable is at most `successes`)."""
    if successes >= trials or chance <= 0:
        return 1.0
    if chance >= 1:
        return 0.0
    k = np.arange(successes + 1)
    steps: Any = np.log((trials - k[:-1]) / (k[:-1] + 1) * chance / (1 - chance))
    logs = trials * math.log1p(-chance) + np.concatenate([[0.0], np.cumsum(steps)])
    top = float(logs.max())
    return min(1.0, math.exp(top) * float(np.exp(logs - top).sum())) if top > -700 else 0.0


def _share(value: float) -> float:
    return min(1.0, max(0.0, value))
