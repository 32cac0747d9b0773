"""The scores tell data that gives its rows away from data that does not, and how sure they are of it."""

import re
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest

from lib.audit import listening
from passbox.synthesis import attack
from passbox.synthesis.hold_out import hold_out
from passbox.synthesis.noise import seeded
from passbox.synthesis.request import Column, Person
from passbox.synthesis.score import Noise, Scores, Thresholds, judge, smallest_threshold

COLUMNS = [
    *(Column(f"label{i}", "categorical") for i in range(6)),
    *(Column(f"number{i}", "numerical", low=-3.0, high=8.0) for i in range(4)),
]
RHO = Fraction(1, 10)  # about ε = 3 at δ = 1e-9
ROWS = 5000


def drawn(seed: int, rows: int = ROWS) -> pa.Table:
    """Rows of five kinds of people."""
    draw = np.random.default_rng(seed)
    kind = draw.integers(0, 5, rows)
    labels = {f"label{i}": pa.array((draw.integers(0, 4, rows) + kind) % 8).cast("string") for i in range(6)}
    numbers = {
        f"number{i}": pa.array(np.round(draw.normal(kind, 1), 2), mask=draw.random(rows) < 0.05)
        for i in range(4)
    }
    return pa.table(labels | numbers)


TABLE = drawn(1)
FIT, HELD = hold_out(TABLE, b"key")
FRESH = drawn(2)


def some(table: pa.Table, count: int, seed: int = 3) -> pa.Table:
    """So many of its rows, with repetition."""
    return table.take(pa.array(np.random.default_rng(seed).integers(0, table.num_rows, count)))


def noisy(seed: int, rho: Fraction = RHO, rows: int = ROWS) -> Noise:
    """A twentieth of the budget for the members, all of it for those held out."""
    return Noise(rho / 20, rho, rows * 19 // 20, seeded(seed))


def scores(synthetic: pa.Table, budget: Noise | None = None, threshold: float = 0.6) -> Scores:
    """What the table's rows are judged to give away."""
    return judge(FIT, HELD, synthetic, COLUMNS, Thresholds(threshold), key=b"key", budget=budget)


BUDGETS = [pytest.param(None, id="exact"), pytest.param(noisy(4), id="with noise")]


@pytest.mark.parametrize("budget", BUDGETS)
def test_a_copy_is_caught_by_every_score(budget: Noise | None) -> None:
    found = scores(FIT, budget)
    assert found.attack.value > 0.95
    assert [failure.score for failure in found.failures] == ["attack", "copies", "found"]
    assert not found.passed


@pytest.mark.parametrize("budget", BUDGETS)
def test_a_bootstrap_is_caught(budget: Noise | None) -> None:
    found = scores(some(FIT, ROWS), budget)
    assert 0.75 < found.attack.value < 0.9
    assert {"attack", "copies"} <= {failure.score for failure in found.failures}


@pytest.mark.parametrize("budget", BUDGETS)
def test_a_tenth_of_verbatim_copies_is_caught_though_the_score_hardly_moves(budget: Noise | None) -> None:
    partly = pa.concat_tables([FRESH.slice(ROWS // 10), some(FIT, ROWS // 10)])
    found = scores(partly, budget)
    assert found.attack.passed
    assert found.attack.value < 0.6
    assert "copies" in [failure.score for failure in found.failures]
    assert found.copies.low < 0.1 < found.copies.high


def test_copies_with_a_little_noise_are_caught() -> None:
    """No row is verbatim: only distances tell."""
    near = some(FIT, ROWS // 5)
    for name in ("number0", "number1"):
        near = near.set_column(near.schema.names.index(name), name, pa.compute.add(near[name], 0.001))
    found = scores(pa.concat_tables([FRESH.slice(ROWS // 5), near]))
    assert found.copies.passed
    assert [failure.score for failure in found.failures] == ["found"]


@pytest.mark.parametrize("budget", BUDGETS)
def test_rows_made_without_the_members_pass(budget: Noise | None) -> None:
    found = scores(FRESH, budget)
    assert found.passed
    assert found.attack.low <= 0.5 + 1e-9 <= found.attack.high
    assert found.noisy is (budget is not None)
    assert not found.private  # a seed repeats the noise


def test_a_score_that_equals_its_threshold_passes() -> None:
    value = scores(some(FIT, ROWS)).attack.value
    assert scores(some(FIT, ROWS), threshold=value).attack.passed
    assert not scores(some(FIT, ROWS), threshold=value - 1e-9).attack.passed


def test_a_failure_says_what_failed_and_what_to_change() -> None:
    messages = [failure.message for failure in scores(FIT).failures]
    assert all("allowed" in message and "Lower epsilon" in message for message in messages)
    assert "DISTANCE_TO_CLOSEST_RECORD_V1" in messages[0]
    tight = scores(FIT, threshold=0.5)
    assert "Lower epsilon" in tight.failures[0].message
    assert f"below {tight.attack.harmless:.2f} the verdict is chance" in tight.failures[0].message


def test_what_may_be_chance_is_said_to_be_with_the_threshold_that_would_do() -> None:
    found = scores(FRESH, noisy(5), threshold=0.5)
    assert 0.5 < found.attack.value < found.attack.harmless
    [failure] = found.failures
    assert "That may be chance" in failure.message
    assert "Lower epsilon" not in failure.message
    needed = float(re.search(r"Score to (0\.\d\d), bring more rows", failure.message)[1])  # type: ignore[index]
    assert found.attack.harmless <= needed < found.attack.harmless + 0.01
    assert scores(FRESH, noisy(5), threshold=needed).attack.false_alarm <= 0.005


def test_noise_makes_wider_intervals_and_tells_its_error() -> None:
    exact, told = scores(FRESH), scores(FRESH, noisy(5))
    assert told.attack.false_alarm > exact.attack.false_alarm
    assert told.error > 0
    assert exact.error == 0
    assert told.members != FIT.num_rows


def test_a_score_with_noise_depends_on_one_row_in_one_count_only() -> None:
    """What the cost is reckoned from: a row more changes one cell of one group by one."""
    distances = np.random.default_rng(6).gamma(2, 1, 400)
    before = attack.public_cells(distances[:-1], 10)
    after = attack.public_cells(distances, 10)
    assert np.abs(after - before).sum() == 1
    assert attack.public_cells(np.array([0.0]), 10)[0] == 1
    assert attack.public_cells(np.array([1e-12]), 10)[0] == 0


def test_a_person_counts_for_no_more_rows_than_its_cap() -> None:
    """Somebody with a thousand rows changes the noisy counts by as many as the cap."""
    person = Person("person", 2)
    crowd = pa.array([f"p{i}" for i in range(ROWS)])
    one = pa.array(["the one"] * 1000)
    data = TABLE.append_column("person", crowd)
    more = pa.concat_tables([data, data.slice(0, 1000).drop_columns(["person"]).append_column("person", one)])
    heard = []
    for members in (data, more):
        with listening() as transcript:
            budget = Noise(RHO / 20, RHO, ROWS, seeded(1), person)
            judge(members, data, FRESH, COLUMNS, Thresholds(0.6), key=b"key", budget=budget)
        heard.append([exact for exact, _, _ in transcript.releases.values()])
    assert [int(np.abs(after - before).sum()) for before, after in zip(*heard, strict=True)] == [2, 0]


def test_many_rows_are_sampled_and_the_interval_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scores(FRESH)
    monkeypatch.setattr("passbox.synthesis.score.FEWEST", 100)
    monkeypatch.setattr("passbox.synthesis.score.PAIRS", ROWS * 120)
    part = scores(FRESH)
    assert part.members < 200
    assert part.held_out < 200
    assert part.attack.high - part.attack.low > whole.attack.high - whole.attack.low


def test_numbers_without_bounds_are_measured_by_the_synthetic_range() -> None:
    open_columns = [Column(column.name, column.kind) for column in COLUMNS]
    found = judge(FIT, HELD, FIT, open_columns, Thresholds(0.6), key=b"key")
    assert found.attack.value > 0.95


def test_a_group_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="both groups need rows"):
        judge(FIT, HELD.slice(0, 0), FRESH, COLUMNS, Thresholds(0.6), key=b"key")


def null_figures(draw: np.random.Generator, rows: int, rho: Fraction | None) -> list[attack.Figure]:
    """The figures of rows whose distances do not know the split, a part of them copies by chance."""
    distances = np.where(draw.random(rows) < 0.2, 0, np.clip(draw.normal(3, 0.7, rows), 0, None))
    held = draw.random(rows) < 0.05
    parts = [distances[~held], distances[held]]
    if rho is None:
        members, held_out = (attack.exact(counts) for counts in attack.cells(*parts))
    else:
        budget = noisy(int(draw.integers(2**32)), rho, rows)
        from passbox.synthesis import score

        members, held_out, _ = score._groups(parts, [rows * 0.95, rows * 0.05], 10, budget)
    return [measure(members, held_out) for measure in (attack.area, attack.copies, attack.found)]


@pytest.mark.parametrize("rho", [None, RHO], ids=["exact", "with noise"])
@pytest.mark.parametrize("rows", [1500, ROWS])
def test_data_that_leaks_nothing_fails_no_more_often_than_stated(rows: int, rho: Fraction | None) -> None:
    """1,000 runs; at most 1 in 200 each, and chance on top of that."""
    draw, runs = np.random.default_rng(7), 1000
    failed = np.zeros(3)
    for _ in range(runs):
        failed += [figure.value > figure.alarm for figure in null_figures(draw, rows, rho)]
    assert (failed <= 14).all(), failed  # P(more than 14 of 1,000 at 1 in 200) < 0.0003


def test_the_stated_chance_of_the_score_is_what_happens() -> None:
    draw = np.random.default_rng(8)
    values = [null_figures(draw, 1500, None)[0].value for _ in range(1000)]
    limit = smallest_threshold(1425, 75)
    assert 0.56 < limit < 0.6
    assert np.mean(np.array(values) > limit) < 0.014
    assert np.std(values) == pytest.approx((limit - 0.5) / 2.5758, rel=0.1)


def test_intervals_hold_what_is_true() -> None:
    """95 % of them; a shift of half a standard deviation has an area of 0.638."""
    draw, inside = np.random.default_rng(9), 0
    for _ in range(300):
        parts = draw.normal(0, 1, 1425), draw.normal(0.5, 1, 75)
        figure = attack.area(*(attack.exact(counts) for counts in attack.cells(*parts)))
        inside += figure.low <= 0.6382 <= figure.high
    assert 275 <= inside <= 297
