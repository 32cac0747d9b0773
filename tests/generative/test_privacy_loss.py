"""The privacy loss of a query, estimated from what it tells on two neighbouring tables.

The two tables differ in one user, who has many rows and extreme values. The query goes through the real gate,
what the engine says is reckoned in a slow, obvious way (rows in Python), and the noise is added thousands of
times. From how often an event happens on each side follows, with a confidence bound, the least epsilon that
explains the difference: it may not be above what the book charges. Mechanisms that are broken on purpose must
be caught by the same test.
"""

import math
from collections.abc import Callable, Sequence

import pytest

from passbox.analysis import Column, Purpose, Table, approve
from passbox.analysis.bounded import GRAIN, Aggregate, Bounded
from passbox.disclosure import noise
from passbox.jobs import private
from passbox.ledger import epsilon

SAMPLES = 20_000
USERS = 10  # the least noise that a policy may ask for
CONFIDENCE = 1e-6  # that a sound mechanism fails by chance, for each event and side
RULE = {
    "allowedAnalyses": ["ANY_QUERY"],
    "allowedAnalysisProviders": ["444444444444"],
    "differentialPrivacy": {"columns": [{"name": "id"}]},
}
TABLES = {
    "visits": Table(
        "visits",
        "111111111111",
        (Column("id", "string"), Column("page", "string"), Column("spent", "double")),
        "CUSTOM",
        RULE,
        {"allowedResultReceivers": ["444444444444"]},
    )
}
PURPOSE = Purpose("444444444444", receivers=("444444444444",))
CALM = [(f"u{number}", "a", 1.0) for number in range(20)]
EXTREME = [("loud", page, 1e9) for page in "abab" * 50]
Row = tuple[str, str, float]
Mechanism = Callable[[Sequence[int], int, int], list[int]]


def bounded(query: str) -> Bounded:
    plan = approve(query, {}, TABLES, PURPOSE)
    assert plan.privacy is not None
    return plan.privacy


def measured(query: Bounded, rows: Sequence[Row], *, limit: int, clip: bool) -> dict[private.Cell, list[int]]:
    """What the engine says of a COUNT, COUNT DISTINCT or SUM of spent from 0 to 100, by page or in all.

    limit and clip are what the bounded query does; a broken one does not.
    """
    kept: dict[str, int] = {}
    groups: dict[private.Cell, list[Row]] = {}
    for row in rows:
        kept[row[0]] = kept.get(row[0], 0) + 1
        if kept[row[0]] <= limit:
            cell = tuple(values.index(row[1]) for values in query.groups)
            groups.setdefault(cell, []).append(row)
    [aggregate] = query.aggregates

    def value(group: list[Row]) -> int:
        if aggregate.type == "COUNT":
            return len(group)
        if aggregate.type == "COUNT_DISTINCT":
            return len({row[0] for row in group})
        return sum(round((min(row[2], 100.0) if clip else row[2]) * GRAIN / 100) for row in group)

    return {cell: [value(group)] for cell, group in groups.items()}


def estimated(mechanism: Mechanism, query: Bounded, *, limit: int | None = None, clip: bool = True) -> float:
    """A lower bound of epsilon, in millionths, that holds but for CONFIDENCE."""
    limit = query.rows_per_user if limit is None else limit
    price = epsilon.of_measure(USERS)
    [sensitivity] = query.sensitivities
    sides = []
    for rows in (CALM, CALM + EXTREME):
        cells = measured(query, rows, limit=limit, clip=clip)
        flat = [cells.get(cell, [0])[0] for cell in private.cells(query)]
        drawn = mechanism(flat * SAMPLES, sensitivity, price)
        # the sum over all cells sees all that the user adds
        sides.append(
            sorted(sum(drawn[start : start + len(flat)]) for start in range(0, len(drawn), len(flat)))
        )
    pooled = sorted(sides[0] + sides[1])
    best = -math.inf
    for share in (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98):
        cut = pooled[int(share * len(pooled))]
        for below in (True, False):
            counts = [sum((one < cut) == below for one in side) for side in sides]
            for one, other in (counts, counts[::-1]):
                best = max(best, _log_ratio(one, other))
    return best * epsilon.MICRO


def _log_ratio(one: int, other: int) -> float:
    """A lower bound of ln(p/q) for the probabilities behind two counts of SAMPLES."""
    low, high = _bound(one, below=True), _bound(other, below=False)
    return math.log(low / high) if low > 0 else -math.inf


def _bound(count: int, *, below: bool) -> float:
    """Chernoff's bound of a probability: where its relative entropy makes the count that unlikely."""
    share, limit = count / SAMPLES, math.log(1 / CONFIDENCE) / SAMPLES

    def entropy(p: float) -> float:
        parts = [(share, p), (1 - share, 1 - p)]
        return sum(a * math.log(a / b) if a > 0 else 0.0 for a, b in parts if a > 0 or b > 0)

    inside, outside = share, 0.0 if below else 1.0
    for _ in range(60):
        middle = (inside + outside) / 2
        if 0 < middle < 1 and entropy(middle) <= limit:
            inside = middle
        else:
            outside = middle
    return inside


COUNT = "SELECT count(*) AS n FROM visits"
SUM = "SELECT sum(least(greatest(spent, 0), 100)) AS s FROM visits"
USERS_BY_PAGE = "SELECT page, count(DISTINCT id) AS n FROM visits WHERE page IN ('a', 'b') GROUP BY page"


@pytest.mark.parametrize("query", [COUNT, SUM, USERS_BY_PAGE])
def test_no_query_tells_more_than_it_is_charged(query: str) -> None:
    loss = estimated(noise.laplace, bounded(query))
    assert loss <= epsilon.of_measure(USERS)


def test_the_estimate_is_not_idle() -> None:
    """The user of a COUNT is as loud as is allowed, so much of what is charged can be seen."""
    assert estimated(noise.laplace, bounded(COUNT)) > 0.3 * epsilon.of_measure(USERS)


def _half(values: Sequence[int], sensitivity: int, price: int) -> list[int]:
    return noise.laplace(values, sensitivity, 2 * price)


def _none(values: Sequence[int], _sensitivity: int, _price: int) -> list[int]:
    return list(values)


@pytest.mark.parametrize(
    ("mechanism", "limit", "clip", "query"),
    [
        pytest.param(_half, None, True, COUNT, id="half the noise"),
        pytest.param(_half, None, True, SUM, id="half the noise of a sum"),
        pytest.param(_none, None, True, COUNT, id="no noise"),
        pytest.param(noise.laplace, 10**6, True, COUNT, id="no limit of rows"),
        pytest.param(noise.laplace, None, False, SUM, id="values are not clipped"),
    ],
)
def test_a_broken_mechanism_is_caught(
    mechanism: Mechanism, limit: int | None, clip: bool, query: str
) -> None:
    loss = estimated(mechanism, bounded(query), limit=limit, clip=clip)
    assert loss > epsilon.of_measure(USERS)


def test_what_is_charged_covers_every_output() -> None:
    """Each output is reckoned from measures that are each charged once."""
    found = bounded(
        "SELECT count(*) AS n, avg(least(greatest(spent, 0), 9)) AS a, stddev(least(greatest(spent, 0), 9)) "
        "AS d, sum(least(greatest(spent, 0), 9)) AS s FROM visits"
    )
    used = {measure for one in found.outputs if isinstance(one, Aggregate) for measure in one.measures}
    assert used == set(range(len(found.sensitivities)))
    assert found.sensitivities == (10, 10 * GRAIN, 10, 10 * GRAIN, 10 * GRAIN)
