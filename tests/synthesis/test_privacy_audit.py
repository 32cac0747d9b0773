"""The privacy claim, attacked: bounds from many runs stay below it, and rise above it for what is broken on
purpose.

Neighbours differ in one row, the worst we know: it has a value that no other row has, or fills an empty
cell.
"""

from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lib.audit import Bound, References, Run, Transcript, listening, lower_bound
from passbox.synthesis import accounting, discovery, feature
from passbox.synthesis.accounting import Budget
from passbox.synthesis.domain import Labels
from passbox.synthesis.measurement import Meter
from passbox.synthesis.noise import seeded
from passbox.synthesis.request import Column, Person, Request
from passbox.synthesis.score import Noise, Thresholds, judge
from passbox.synthesis.synthesize import synthesize

DELTA = Fraction(1, 10**9)


@pytest.fixture(autouse=True)
def reckoned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ε and δ allow is the same in every run; what is audited is the noise."""
    monkeypatch.setattr(accounting, "rho_of", lru_cache(accounting.rho_of))


Spoil = Callable[[int, Any, Any, Fraction], Any]

# --- the harness itself


def responses(epsilon: float) -> Run:
    """Randomized response: its ε is known exactly."""
    draw = np.random.default_rng(1)
    honest = np.exp(epsilon) / (1 + np.exp(epsilon))
    return lambda neighbour, _: {"answer": float((draw.random() < honest) == neighbour)}


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0, 3.0])
def test_a_known_mechanism_is_bounded_from_below_and_closely(epsilon: float) -> None:
    bound = lower_bound(responses(epsilon), 20_000, 0.0)
    assert 0.8 * epsilon < bound.epsilon <= epsilon


def test_what_does_not_depend_on_the_data_gives_nothing_away() -> None:
    draw = np.random.default_rng(2)
    assert (
        lower_bound(lambda *_: {"a": draw.normal(), "b": float(draw.random() < 0.1)}, 4000, 0.0).epsilon == 0
    )


def test_bounds_are_wrong_no_more_often_than_stated() -> None:
    """A mechanism that is exactly at its ε, 200 times, at a confidence of 90 %."""
    draw = np.random.default_rng(3)
    honest = np.exp(1) / (1 + np.exp(1))

    def run(neighbour: bool, _: int) -> Mapping[str, float]:
        return {"answer": float((draw.random() < honest) == neighbour)}

    wrong = sum(lower_bound(run, 400, 0.0, confidence=0.9).epsilon > 1 for _ in range(200))
    assert wrong <= 32  # P(more of 200 at 1 in 10) < 0.003


# --- one measurement


def measured(epsilon: int, spoil: Spoil | None = None) -> Run:
    """All of a budget on one marginal; the row of the neighbour fills an empty cell."""
    cells = [np.array([40, 25, 0, 7]), np.array([40, 25, 1, 7])]

    def release(neighbour: bool, seed: int) -> Transcript:
        with listening(spoil) as heard:
            budget = Budget(Fraction(epsilon), DELTA)
            Meter(budget, seeded(seed), lambda _: None).release("marginal", cells[neighbour], budget.left)
        return heard

    references = References(release(False, 0), release(True, 0))
    return lambda neighbour, number: references.statistics(release(neighbour, 2 * number + neighbour + 1))


def exactly(which: int) -> Spoil:
    """No noise on one marginal."""
    return lambda place, exact, noisy, _: exact if place == which else noisy


def in_floats(_place: int, exact: Any, _noisy: Any, variance: Fraction) -> Any:
    """Noise as other libraries add it: a float Gaussian of the same deviation."""
    return exact + _FLOATS.normal(0, float(variance) ** 0.5, np.shape(exact))


_FLOATS = np.random.default_rng(4)


def bounded(run: Run, runs: int) -> Bound:
    return lower_bound(run, runs, float(DELTA))


@pytest.mark.parametrize("epsilon", [1, 5])
def test_a_measurement_stays_below_its_claim(epsilon: int) -> None:
    bound = bounded(measured(epsilon), 2000)
    assert bound.epsilon <= epsilon, bound


def test_the_audit_sees_noise_that_is_too_small() -> None:
    """A tenth of the deviation that ε = 1 needs."""
    bound = bounded(measured(1, lambda _, exact, noisy, __: exact + np.rint((noisy - exact) / 10)), 3000)
    assert bound.epsilon > 1, bound


def test_no_noise_is_refuted() -> None:
    assert bounded(measured(1, exactly(0)), 400).epsilon > 1


def test_float_noise_is_refuted() -> None:
    """Its last digits tell a count of 0 from 1 in some of the runs, with certainty."""
    bound = bounded(measured(1, in_floats), 4000)
    assert bound.epsilon > 1, bound
    assert "digits" in bound.event


# --- the whole synthesis


def table(neighbour: bool, rows: int, odd: Mapping[str, Any]) -> pa.Table:
    """A small table; the neighbour has one more row."""
    columns = {
        "tree": ["ash", "elm", "elm"] * (rows // 3),
        "size": [1, 2, 3] * (rows // 3),
        "sick": [i % 2 == 0 for i in range(rows // 3 * 3)],
        "owner": [f"o{i // 2}" for i in range(rows // 3 * 3)],
    }
    return pa.table({name: [*values, odd[name]] if neighbour else values for name, values in columns.items()})


DECLARED = (
    Column("tree", "categorical", values=("ash", "elm", "yew")),
    Column("size", "numerical", low=0, high=9),
    Column("sick", "categorical", values=(True, False)),
)
ODD = {"tree": "yew", "size": 9, "sick": True, "owner": "o-odd"}


def synthesized(request: Request, rows: int, spoil: Spoil | None = None, odd: Mapping[str, Any] = ODD) -> Run:
    """Statistics of all that is measured, of the public domains, and of the synthetic rows."""
    kept = [column.name for column in request.columns] + ([request.person.column] if request.person else [])
    tables = [table(neighbour, rows, odd).select(kept) for neighbour in (False, True)]

    def once(neighbour: bool, seed: int) -> tuple[Transcript, dict[str, float]]:
        with listening(spoil) as heard:
            made = synthesize(tables[neighbour], request, seeded(seed))
        told = {"rows": float(made.table.num_rows)}
        for name, domain in made.domain.items():
            told |= {f"domain of {name}: {key} {value}": 1.0 for key, value in domain.items()}
            told |= {f"domain of {name} has {value}": 1.0 for value in domain.get("values", ())}
            told |= {
                f"{name} is {each['values']}": float(each["counts"])
                for each in made.table[name].value_counts().to_pylist()
            }
        return heard, told

    references = References(*(once(neighbour, 0)[0] for neighbour in (False, True)))

    def run(neighbour: bool, number: int) -> Mapping[str, float]:
        heard, told = once(neighbour, 2 * number + neighbour + 1)
        return {**references.statistics(heard), **told}

    return run


REQUESTS = {
    "target": Request(DECLARED, Fraction(1), DELTA, target="sick"),
    "no target": Request(DECLARED, Fraction(1), DELTA),
    "people": Request(DECLARED, Fraction(1), DELTA, target="sick", person=Person("owner", 2)),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_synthesis_stays_below_its_claim(name: str) -> None:
    bound = bounded(synthesized(REQUESTS[name], 60), 120)
    assert bound.epsilon <= 1, bound


@pytest.mark.slow
@pytest.mark.parametrize("name", REQUESTS)
def test_a_synthesis_stays_below_its_claim_in_many_runs(name: str) -> None:
    bound = bounded(synthesized(REQUESTS[name], 60), 1000)
    assert bound.epsilon <= 1, bound


def test_a_synthesis_with_one_marginal_without_noise_is_refuted() -> None:
    bound = bounded(synthesized(REQUESTS["target"], 60, exactly(3)), 120)
    assert bound.epsilon > 1, bound
    assert "vector 3" in bound.event


DISCOVERED = Request(
    (Column("tree", "categorical"), Column("sick", "categorical", values=(True, False))), Fraction(1), DELTA
)
ALONE = {**ODD, "tree": "the only ginkgo"}


def every_value(spec: Column, column: pa.ChunkedArray, *_: Any) -> Labels:
    """A domain as it is often made: whatever values there are."""
    return Labels(column.drop_null().unique())


def test_a_discovered_domain_stays_below_its_claim() -> None:
    bound = bounded(synthesized(DISCOVERED, 3000, odd=ALONE), 120)
    assert bound.epsilon <= 1, bound


def test_a_category_that_leaks_through_the_domain_is_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "labels", every_value)
    assert feature.discovery is discovery
    bound = bounded(synthesized(DISCOVERED, 3000, odd=ALONE), 120)
    assert bound.epsilon > 1, bound
    assert "domain of tree" in bound.event


# --- the score


def judged(spoil: Spoil | None = None) -> Run:
    """The scores' counts; the row of the neighbour is held out, far from every synthetic row."""
    columns = [Column("size", "numerical", low=0, high=9), Column("tree", "categorical")]
    data = table(False, 300, ODD).select(["size", "tree"])
    odd = table(True, 300, ODD).select(["size", "tree"])
    budget = Budget(Fraction(1), DELTA)

    def once(neighbour: bool, seed: int) -> tuple[Transcript, dict[str, float]]:
        with listening(spoil) as heard:
            priced = Noise(budget.rho / 20, budget.rho, 600, seeded(seed))
            found = judge(
                data, odd if neighbour else data, data, columns, Thresholds(0.9), key=b"k", budget=priced
            )
        return heard, {score.name: score.value for score in (found.attack, found.copies, found.found)}

    references = References(*(once(neighbour, 0)[0] for neighbour in (False, True)))

    def run(neighbour: bool, number: int) -> Mapping[str, float]:
        heard, told = once(neighbour, 2 * number + neighbour + 1)
        return {**references.statistics(heard), **told}

    return run


def test_the_scores_stay_below_their_claim() -> None:
    bound = bounded(judged(), 120)
    assert bound.epsilon <= 1, bound


def test_scores_without_noise_are_refuted() -> None:
    assert bounded(judged(exactly(1)), 120).epsilon > 1
