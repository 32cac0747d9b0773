"""A lower bound on what a mechanism gives away, from many runs on two neighbouring data sets.

A run returns statistics: numbers, by name, that somebody could compute from what the mechanism lets out. An
event is a statistic at or above a value, or at or below it. One half of the runs chooses the event that
tells the two data sets apart best, the other half measures it (Clopper and Pearson's exact intervals): with
the stated confidence the mechanism is not (ε, δ)-differentially private for any ε below the bound. After
Jagielski, Ullman and Oprea (2020) and Nasr et al. (2021); a bound below the claim proves nothing, one above
it refutes the claim.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from scipy.stats import beta

from passbox.synthesis import noise

# (whether the data set is the neighbour, the run's number) → statistics; one that is missing is 0
Run = Callable[[bool, int], Mapping[str, float]]
_EVENTS = 60  # values of one statistic that are tried


@dataclass(frozen=True)
class Bound:
    """ε is at least `epsilon`, but for a chance of 1 − confidence; event: what showed it."""

    epsilon: float
    event: str


@dataclass(frozen=True)
class _Event:
    """`name` times `sign` at or above `value` is likelier on the neighbour, or, turned, on the data set
    itself.
    """

    name: str
    sign: int
    value: float
    turned: bool


def lower_bound(run: Run, runs: int, delta: float, confidence: float = 0.999) -> Bound:
    """Runs the mechanism `runs` times on each data set."""
    found = [[run(neighbour, number) for number in range(runs)] for neighbour in (False, True)]
    names = sorted({name for each in found for statistics in each for name in statistics})
    values = {name: [np.array([one.get(name, 0.0) for one in each]) for each in found] for name in names}
    half, miss = runs // 2, (1 - confidence) / 2
    best, chosen = -math.inf, None
    for event in _events(values, half):
        bound = _bound(event, values, slice(0, half), delta, miss)
        if bound > best:
            best, chosen = bound, event
    if chosen is None:
        return Bound(0.0, "nothing differs")
    measured = _bound(chosen, values, slice(half, None), delta, miss)
    return Bound(
        max(0.0, measured), f"{chosen.name} {'≥' if chosen.sign > 0 else '≤'} {chosen.sign * chosen.value:g}"
    )


def _events(values: Mapping[str, list[Any]], half: int) -> Iterator[_Event]:
    for name, both in values.items():
        pooled = np.unique(np.concatenate([each[:half] for each in both]))
        if len(pooled) > _EVENTS:
            pooled = np.unique(np.quantile(pooled, np.linspace(0, 1, _EVENTS)))
        for sign in (1, -1):
            for value in pooled:
                yield from (_Event(name, sign, sign * float(value), turned) for turned in (False, True))


def _bound(event: _Event, values: Mapping[str, list[Any]], part: slice, delta: float, miss: float) -> float:
    hits = [int((event.sign * each[part] >= event.value).sum()) for each in values[event.name]]
    runs = len(values[event.name][0][part])
    rare, often = hits if not event.turned else hits[::-1]
    least = beta.ppf(miss, often, runs - often + 1) if often else 0.0
    most = beta.ppf(1 - miss, rare + 1, runs - rare) if rare < runs else 1.0
    return math.log((least - delta) / most) if least > delta else -math.inf


@dataclass
class Transcript:
    """Every vector of counts that had noise added in one run: (place, shape) → exact and noisy, and its
    variance.
    """

    releases: dict[tuple[int, tuple[int, ...]], tuple[Any, Any, float]] = field(default_factory=dict)
    spoil: Callable[[int, Any, Any, Fraction], Any] | None = None

    def add(self, counts: Any, variance: Fraction, source: noise.Source) -> Any:
        """Instead of `noise.add`; `spoil`, where there is one, breaks it on purpose."""
        noisy, error = _ADD(counts, variance, source)
        exact, place = np.array(counts), len(self.releases)
        if self.spoil:
            noisy = self.spoil(place, exact, noisy, variance)
        self.releases[place, exact.shape] = (exact, noisy, float(variance))
        return noisy, error


_ADD = noise.add


@contextmanager
def listening(spoil: Callable[[int, Any, Any, Fraction], Any] | None = None) -> Iterator[Transcript]:
    """Hears all noise that is added meanwhile."""
    heard = Transcript(spoil=spoil)
    noise.add = heard.add
    try:
        yield heard
    finally:
        noise.add = _ADD


@dataclass(frozen=True)
class References:
    """One run on each data set, which tell where the two differ: what somebody who knows both would look
    at.
    """

    plain: Transcript
    neighbour: Transcript

    def statistics(self, heard: Transcript) -> dict[str, float]:
        """Of each vector how much it looks like the neighbour's; of all together; and digits that betray a
        count.
        """
        found, together = {}, 0.0
        for key, (_, noisy, variance) in heard.releases.items():
            if key not in self.plain.releases or key not in self.neighbour.releases:
                continue
            one, other = (np.asarray(each.releases[key][0], float) for each in (self.plain, self.neighbour))
            differ = one != other
            score = float(((noisy - (one + other) / 2) * (other - one)).sum())
            found[f"vector {key[0]} of shape {key[1]}"] = score
            together += score / variance
            if noisy.dtype.kind == "f" and differ.any():
                scaled = np.asarray(noisy[differ], float) * 2.0**53
                found[f"digits of vector {key[0]}"] = float((scaled != np.floor(scaled)).any())
        return {**found, "all vectors": together}
