"""Which numbers of a container's log are metrics, and whether members are given them.

A metric definition is a name and a regular expression whose first group is the number; it is searched for in
each line, the first place counts. Numbers that are not finite are no metrics. A metric can carry anything
that the container read, so this is closed unless the association opens it: only `noiseLevel` NONE, said
explicitly, lets exact numbers out. Where it is not said AWS publishes them; here nothing is published,
because an owner who said nothing has allowed nothing. LOW, MEDIUM and HIGH ask for noise that this version
does not have, and are never met by the exact numbers. Pure.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from passbox.disclosure.outcome import NO_CONFIGURATION, SUCCEEDED, Outcome, refused
from passbox.disclosure.patterns import BadPattern, compile_pattern, lines

MOST_VALUES = 10_000

NOT_OPENED = (
    "The algorithm association does not set containerMetrics.noiseLevel; metrics are published only where "
    "its owner has set it."
)
NO_NOISE = (
    "The algorithm association asks for metrics with noiseLevel {level}, which is not available in this "
    "version; nothing was published."
)
BAD_DEFINITIONS = (
    "The regular expression of {names} is not one with a group for the number (RE2 syntax); these metrics "
    "were not published."
)
NONE_FOUND = "No line of the log matches a metric definition."
CUT = f"Only the first {MOST_VALUES} values were published."


@dataclass(frozen=True)
class Metric:
    """One measured value, in the order of the log; line counts from 1."""

    name: str
    value: float
    line: int


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


def release(
    log: bytes,
    definitions: Sequence[Mapping[str, str]],
    noise: str | None,
    members: Iterable[str],
    configured: Collection[str],
) -> dict[str, MetricRelease]:
    """What each member is given of a log's metrics; nothing is said where the algorithm defines none.

    noise: the association's containerMetrics.noiseLevel, None where unset; members and configured as for logs
    """
    if not definitions:
        return {}
    if noise != "NONE":
        closed = refused(NOT_OPENED if noise is None else NO_NOISE.format(level=noise))
        return {account: MetricRelease(closed) for account in members}
    found, bad = collect(log, definitions)
    notes = [BAD_DEFINITIONS.format(names=", ".join(bad))] if bad else []
    if not found:
        notes.append(NONE_FOUND)
    if len(found) > MOST_VALUES:
        notes.append(CUT)
    given = MetricRelease(Outcome(SUCCEEDED, " ".join(notes) or None), found[:MOST_VALUES])
    without = MetricRelease(refused(NO_CONFIGURATION.format(what="metrics")))
    return {account: given if account in configured else without for account in members}
