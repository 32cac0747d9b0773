"""Which numbers of a container's log are metrics, and how exactly members are given them.

A metric definition is a name and a regular expression whose first group is the number; it is searched for in
each line, the first place counts. Numbers that are not finite are no metrics. A metric can carry anything
that the container read, so this is closed unless the association sets a `noiseLevel`. Where it is not set AWS
publishes them; here nothing is published, because an owner who said nothing has allowed nothing.

| noiseLevel | what members are given | standard deviation, as a share of the magnitude, times √values |
|---|---|---|
| NONE | the numbers as they are, while the job runs | |
| LOW | with noise, at the end | 1 % |
| MEDIUM | with noise, at the end | 5 % |
| HIGH | with noise, at the end | 20 % |

The magnitude of a metric is the smallest power of two that no value of it in this job exceeds in size. Values
are rounded to 1/1024 of it and get discrete Gaussian noise, so no digit below that says anything. Of a metric
with more values MOST_NOISY are given, evenly spread, the last among them; the noise grows with the root of
their number, so averaging a series tells no more than one value would. All members are given the same noisy
numbers. Pure: the noise is an argument.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from passbox.disclosure.outcome import NO_CONFIGURATION, SUCCEEDED, Outcome, refused
from passbox.disclosure.text import lines
from passbox.patterns import BadPattern, compile_pattern

MOST_VALUES = 10_000
MOST_NOISY = 25
SHARES = {"LOW": Fraction(1, 100), "MEDIUM": Fraction(1, 20), "HIGH": Fraction(1, 5)}
STEPS = 1024  # of a magnitude
_BITS = 1000
_LARGEST = 2.0**_BITS  # noise upon more would not be a number any more

# Whole numbers and a variance → the same with independent noise of this variance, unpredictable.
Noisy = Callable[[Sequence[int], Fraction], Sequence[int]]

NOT_OPENED = (
    "The algorithm association does not set containerMetrics.noiseLevel; metrics are published only where "
    "its owner has set it."
)
BAD_DEFINITIONS = (
    "The regular expression of {names} is not one with a group for the number (RE2 syntax); these metrics "
    "were not published."
)
NONE_FOUND = "No line of the log matches a metric definition."
CUT = f"Only the first {MOST_VALUES} values were published."


@dataclass(frozen=True)
class Metric:
    """One measured value, in the order of the log; line counts from 1, and is not told of a noisy one."""

    name: str
    value: float
    line: int | None = None

    def stored(self) -> dict[str, str | float | int]:
        """As a line of a metrics file."""
        place = {} if self.line is None else {"line": self.line}
        return {"name": self.name, "value": self.value, **place}


@dataclass(frozen=True)
class MetricRelease:
    """metrics: what the account is given; empty where the outcome says failed."""

    outcome: Outcome
    metrics: tuple[Metric, ...] = ()


def collect(
    log: bytes, definitions: Sequence[Mapping[str, str]]
) -> tuple[tuple[Metric, ...], tuple[str, ...]]:
    """The metrics of a log, MOST_VALUES + 1 at most, and the names of definitions that cannot be used.

    definitions: the algorithm's modelled `metricDefinitions`.
    """
    usable, bad = [], []
    for definition in definitions:
        try:
            pattern = compile_pattern(definition["regex"])
        except BadPattern:
            bad.append(definition["name"])
            continue
        if pattern.groups < 1:
            bad.append(definition["name"])
        else:
            usable.append((definition["name"], pattern))
    found: list[Metric] = []
    for number, line in enumerate(lines(log), start=1):
        for name, pattern in usable:
            value = _value(pattern.search(line))
            if value is not None:
                found.append(Metric(name, value, number))
        if len(found) > MOST_VALUES:
            break
    return tuple(found[: MOST_VALUES + 1]), tuple(bad)


def _value(match: Any) -> float | None:
    try:
        value = float(match.group(1))
    except (AttributeError, TypeError, ValueError):  # no match, the group is not part of it, no number
        return None
    return value if math.isfinite(value) else None


def noised(found: Sequence[Metric], share: Fraction, noisy: Noisy) -> tuple[Metric, ...]:
    """The metrics, by name, with noise of this share of their magnitudes."""
    series: dict[str, list[float]] = {}
    for metric in found:
        series.setdefault(metric.name, []).append(metric.value)
    told = []
    for name in sorted(series):
        values = [max(-_LARGEST, min(_LARGEST, value)) for value in _spread(series[name])]
        step = magnitude(values) / STEPS
        counts = [round(value / step) for value in values]
        variance = (share * STEPS) ** 2 * len(values)
        told += [Metric(name, count * step) for count in noisy(counts, variance)]
    return tuple(told)


def magnitude(values: Sequence[float]) -> float:
    """The smallest power of two that none exceeds in size; 1 where all are 0, never too small to divide."""
    largest = max(map(abs, values))
    if largest == 0:
        return 1.0
    mantissa, exponent = math.frexp(largest)
    return math.ldexp(1.0, max(-_BITS, exponent - (mantissa == 0.5)))


def _spread(values: Sequence[float]) -> list[float]:
    """At most MOST_NOISY of the values, evenly spread, the last among them."""
    most = min(len(values), MOST_NOISY)
    return [values[(index + 1) * len(values) // most - 1] for index in range(most)]


def release(
    log: bytes,
    definitions: Sequence[Mapping[str, str]],
    noise: str | None,
    members: Iterable[str],
    configured: Collection[str],
    noisy: Noisy,
) -> dict[str, MetricRelease]:
    """What each member is given of a log's metrics; nothing is said where the algorithm defines none.

    noise: the association's containerMetrics.noiseLevel, None where unset; members and configured as for logs
    """
    if not definitions:
        return {}
    if noise != "NONE" and noise not in SHARES:
        return {account: MetricRelease(refused(NOT_OPENED)) for account in members}
    found, bad = collect(log, definitions)
    notes = [BAD_DEFINITIONS.format(names=", ".join(bad))] if bad else []
    if not found:
        notes.append(NONE_FOUND)
    if len(found) > MOST_VALUES:
        notes.append(CUT)
    kept = found[:MOST_VALUES]
    if noise in SHARES:
        kept = noised(kept, SHARES[noise], noisy)
    given = MetricRelease(Outcome(SUCCEEDED, " ".join(notes) or None), kept)
    without = MetricRelease(refused(NO_CONFIGURATION.format(what="metrics")))
    return {account: given if account in configured else without for account in members}
