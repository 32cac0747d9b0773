"""Whether synthetic rows give away which rows they were made from: DISTANCE_TO_CLOSEST_RECORD_V1, and two
more.

Members (the rows of the fit) and held-out rows are compared by their Gower distance to the closest
synthetic row. Where members are closer than rows that the fit never saw, somebody could tell them apart.
One number does not see
every leak: a few verbatim rows among many hardly move the score, so the excess of exact copies and the
share of members found at 1 % false positives are looked at too. This module knows no fit.

Figures are of real rows. With `Noise` all of them come from counts that carry discrete Gaussian noise, so
they and the verdict cost budget and may be told to every member; without, they are exact and for the owners
of the data only.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from passbox.synthesis import attack, encoding, noise
from passbox.synthesis.closest import MISSING, Points, closest
from passbox.synthesis.hold_out import ONE_IN, chosen
from passbox.synthesis.request import Column, Person
from passbox.synthesis.unit import bounded

ATTACK_VERSION = "DISTANCE_TO_CLOSEST_RECORD_V1"
PAIRS = 2_500_000_000  # of a row and a synthetic row that are compared, about
FEWEST, MOST_MEMBERS, MOST_HELD_OUT = 5_000, 50_000, 25_000


@dataclass(frozen=True)
class Thresholds:
    """What is allowed. score: 0.5 … 1, maxMembershipInferenceAttackScore; equal passes.

    copies: the excess of exact copies, found: the share of members found at 1 % false positives. Each fails
    only when it is also above what happens by chance once in 200 times.
    """

    score: float
    copies: float = 0.005
    found: float = 0.02


@dataclass(frozen=True)
class Noise:
    """What the figures may cost, in ρ of zero-concentrated differential privacy, and where randomness comes
    from.

    Every row is counted once in its group, so each group's counts cost what they are given. A held-out row
    is in nothing else: `held_out` may be all of the budget. `members` is a share of it beside the fit.
    rows: how many rows the fit has, as the budget has told it. person: whose rows are one unit of privacy;
    no more of them than its cap are looked at.
    """

    members: Fraction
    held_out: Fraction
    rows: int
    source: noise.Source
    person: Person | None = None


@dataclass(frozen=True)
class Score:
    """One score: its figure, what is allowed, and how often data that leaks nothing fails it, at most.

    harmless: what such data exceeds once in 200 times; a smaller limit makes the verdict a lottery.
    """

    name: str
    value: float
    low: float
    high: float
    limit: float
    false_alarm: float
    harmless: float
    passed: bool


@dataclass(frozen=True)
class Failure:
    """A score that failed: its name, what is wrong, and what to change."""

    score: str
    message: str


@dataclass(frozen=True)
class Scores:
    """All scores. noisy: whether they carry noise; private: whether nobody can take it off, which a seed
    lets one do; error: how far the noise is from the ideal (total variation).

    members, held_out: how many rows of each were compared with `synthetic` rows.
    """

    attack: Score
    copies: Score
    found: Score
    members: int
    held_out: int
    synthetic: int
    noisy: bool
    private: bool
    error: Fraction = Fraction(0)
    failures: tuple[Failure, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the data may be handed out."""
        return not self.failures


def judge(
    members: pa.Table,
    held_out: pa.Table,
    synthetic: pa.Table,
    columns: Sequence[Column],
    thresholds: Thresholds,
    *,
    key: bytes,
    budget: Noise | None = None,
) -> Scores:
    """Compares both groups with the synthetic rows and says whether these may be handed out.

    members, held_out: the two parts of `hold_out`. columns: those that are compared; a numerical one that
    declares no bounds is measured by the range of its synthetic values. key: secret; decides which rows are
    compared where there are too many (the intervals tell). ValueError: a group without rows.
    """
    if not members.num_rows or not held_out.num_rows:
        raise ValueError("both groups need rows; a table of 1,500 rows or more has them")
    if budget:
        members, held_out = bounded(members, budget.person), bounded(held_out, budget.person)
    most = max(FEWEST, PAIRS // max(1, synthetic.num_rows))
    expected = (budget.rows, budget.rows / (ONE_IN - 1)) if budget else (members.num_rows, held_out.num_rows)
    limits = (min(most, MOST_MEMBERS), min(most, MOST_HELD_OUT))
    asked = (
        _sample(members, key, b"members", limits[0], expected[0]),
        _sample(held_out, key, b"held out", limits[1], expected[1]),
    )
    points = _points([*asked, synthetic], columns)
    numeric = [column.kind == "numerical" for column in columns]
    distances = closest(np.concatenate(points[:2]), points[2], numeric)
    split = asked[0].num_rows
    sizes = [min(pair) for pair in zip(limits, expected, strict=True)]
    ours, theirs, error = _groups([distances[:split], distances[split:]], sizes, len(columns), budget)
    scores = _scores(ours, theirs, thresholds)
    return Scores(
        *scores,
        members=round(ours.size),
        held_out=round(theirs.size),
        synthetic=synthetic.num_rows,
        noisy=budget is not None,
        private=budget is not None and budget.source.private,
        error=error,
        failures=tuple(_failure(score) for score in scores if not score.passed),
    )


def _sample(table: pa.Table, key: bytes, purpose: bytes, most: int, expected: float) -> pa.Table:
    """Each row with the chance that leaves about `most` of the expected number; all where that is 1."""
    if expected <= most:
        return table
    return table.filter(pa.array(chosen(key, purpose, table.num_rows, most / expected)))


def _points(tables: list[pa.Table], columns: Sequence[Column]) -> list[Points]:
    """The tables' rows as points that `closest` takes, alike for all of them."""
    made = [np.empty((table.num_rows, len(columns))) for table in tables]
    for place, column in enumerate(columns):
        parts = [table.column(column.name) for table in tables]
        if column.kind == "numerical":
            low, high = _range(column, parts[-1])
            for points, part in zip(made, parts, strict=True):
                given = encoding.numbers(part)
                scaled = (np.clip(given.values, low, high) - low) / (high - low if high > low else 1)
                points[:, place] = scaled if given.nulls is None else np.where(given.nulls, MISSING, scaled)
        else:
            codes = _codes(parts)
            for points, code in zip(
                made, np.split(codes, np.cumsum([len(p) for p in parts])[:-1]), strict=True
            ):
                points[:, place] = code
    return made


def _range(column: Column, synthetic: pa.ChunkedArray) -> tuple[Any, Any]:
    """The public range of a numerical column: as declared, else where its synthetic values lie."""
    if column.low is not None:
        return encoding.number(column.low, synthetic.type), encoding.number(column.high, synthetic.type)
    given = encoding.numbers(synthetic)
    known = given.values if given.nulls is None else given.values[~given.nulls]
    return (known.min(), known.max()) if len(known) else (0, 1)


def _codes(parts: list[pa.ChunkedArray]) -> Any:
    """Whole numbers that are equal where the values are; NULL is a value."""
    kind = parts[0].type.value_type if pa.types.is_dictionary(parts[0].type) else parts[0].type
    whole = pa.concat_arrays([chunk for part in parts for chunk in part.cast(kind).chunks])
    return np.asarray(pc.dictionary_encode(whole, null_encoding="encode").indices, dtype=np.float64)


def _groups(
    distances: list[Any], expected: list[float], columns: int, budget: Noise | None
) -> tuple[attack.Group, attack.Group, Fraction]:
    """The counts of both groups, with noise where there is a budget, and how far the noise is from the
    ideal.
    """
    if budget is None:
        ours, theirs = (attack.exact(counts) for counts in attack.cells(*distances))
        return ours, theirs, Fraction(0)
    groups, errors = [], []
    unit = budget.person.cap if budget.person else 1
    for each, number, rho in zip(distances, expected, (budget.members, budget.held_out), strict=True):
        variance = Fraction(unit**2) / (2 * rho)
        counts, error = noise.add(attack.public_cells(each, columns), variance, budget.source)
        groups.append(attack.noisy(counts.astype(np.float64), float(variance), number))
        errors.append(error)
    return groups[0], groups[1], max(errors)


def _scores(members: attack.Group, held_out: attack.Group, allowed: Thresholds) -> tuple[Score, Score, Score]:
    area = attack.area(members, held_out)
    value, low, high = (max(0.5, each) for each in (area.value, area.low, area.high))
    spread = attack.chance_error(members, held_out)
    alarm = 0.0 if allowed.score >= 1 else 1 - NormalDist(0.5, spread).cdf(allowed.score)
    main = Score("attack", value, low, high, allowed.score, alarm, area.alarm, passed=value <= allowed.score)
    others = []
    for name, limit, measure in (
        ("copies", allowed.copies, attack.copies),
        ("found", allowed.found, attack.found),
    ):
        figure = measure(members, held_out)
        bound = max(limit, figure.alarm)
        others.append(
            Score(
                name,
                figure.value,
                figure.low,
                figure.high,
                bound,
                attack.FALSE_ALARM,
                figure.alarm,
                passed=figure.value <= bound,
            )
        )
    return main, others[0], others[1]


def _failure(score: Score) -> Failure:
    return Failure(score.name, _SENTENCES[score.name](score))


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _attack_sentence(score: Score) -> str:
    """What to change depends on whether the figure could be chance: then it is not the data."""
    said = (
        f"The membership inference attack score ({ATTACK_VERSION}) is {score.value:.3f} "
        f"({score.low:.3f} to {score.high:.3f}), above the allowed {score.limit:.3f}."
    )
    advice = "Lower epsilon, round or group rare values in the query, or select fewer columns."
    if score.false_alarm <= 0.01:
        return f"{said} {advice}"
    needed = min(1.0, math.ceil(score.harmless * 100) / 100)
    lottery = (
        f"Data that gives nothing away would fail this threshold in {_percent(score.false_alarm)} of runs"
    )
    if score.value > score.harmless:
        return f"{said} {advice} {lottery}; below {needed:.2f} the verdict is chance."
    return (
        f"{said} That may be chance. {lottery}: raise maxMembershipInferenceAttackScore to {needed:.2f}, "
        "bring more rows, or, as the score carries noise, raise epsilon."
    )


_SENTENCES: dict[str, Callable[[Score], str]] = {
    "attack": _attack_sentence,
    "copies": lambda score: (
        f"Exact copies: {_percent(score.value)} more of the rows that were used than of those held out "
        f"appear as they are in the synthetic data; {_percent(score.limit)} are allowed. "
        "Lower epsilon, or round and group what is nearly unique in the query."
    ),
    "found": lambda score: (
        f"At 1 % false positives an attacker finds {_percent(score.value)} of the rows that were used; "
        f"{_percent(score.limit)} are allowed. "
        "Lower epsilon, or remove rare rows and round what makes them stand out in the query."
    ),
}


def smallest_threshold(members: int, held_out: int) -> float:
    """The threshold that data which gives nothing away fails once in 200 times, for groups of these sizes."""
    spread = math.sqrt((members + held_out + 1) / (12 * members * held_out))
    return min(1.0, NormalDist(0.5, spread).inv_cdf(1 - attack.FALSE_ALARM))
