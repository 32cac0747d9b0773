"""Train on synthetic rows, test on real ones: whether a model learns from the synthetic what it learns from
the real.

The learner is scikit-learn's histogram gradient boosting with its defaults, on one thread: strong on
tables, quick, and it takes categories and nulls as they are. It is an extra (`pip install
'passbox[synthetic]'`); without it nothing is measured. The test rows are those that were held out from the
fit. Figures carry no noise. This module knows no privacy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from passbox.synthesis import encoding
from passbox.synthesis.request import Column

ROWS = 100_000  # to train on at most
_CATEGORIES = 250  # the learner takes 255
_RESAMPLES = 200


@dataclass(frozen=True)
class Result:
    """What a model reaches on the test rows, with a 95 % interval from resampling them."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Learned:
    """measure: `AUC` (of more than two classes: the mean of one against the rest), or `R²` of numbers.

    real, synthetic: trained on the rows of the fit and on the synthetic ones; None with a `note` that says
    why.
    """

    target: str
    measure: str
    tested: int
    real: Result | None
    synthetic: Result | None
    note: str = ""


def learn(
    real: pa.Table, synthetic: pa.Table, test: pa.Table, columns: Sequence[Column], target: str, seed: int = 0
) -> Learned:
    """Trains twice and tests twice. Rows whose target is null are left out."""
    goal = next(column for column in columns if column.name == target)
    measure = "AUC" if goal.kind == "categorical" else "R²"
    known = [_known(table, target) for table in (real, synthetic, test)]
    try:
        from sklearn import ensemble
        from threadpoolctl import threadpool_limits
    except ImportError:
        return _untold(target, measure, "scikit-learn is not installed: pip install 'passbox[synthetic]'")
    if any(table.num_rows < 20 for table in known):
        return _untold(target, measure, "There are fewer than 20 rows whose target is not null.")
    features, categories = _features(known, [column for column in columns if column.name != target])
    if goal.kind == "categorical":
        labels, learner = (
            _labels([table.column(target) for table in known]),
            ensemble.HistGradientBoostingClassifier,
        )
    else:
        labels = [_numbers(table.column(target)) for table in known]
        learner = ensemble.HistGradientBoostingRegressor
    results = []
    for trained in (0, 1):
        if goal.kind == "categorical" and len(np.unique(labels[trained])) < 2:
            return _untold(target, measure, "The target has one value only in the rows to train on.")
        model = learner(categorical_features=categories, random_state=seed)
        # threads that wait for each other on a busy machine cost more than they bring
        with threadpool_limits(1):
            model.fit(features[trained], labels[trained])
            results.append(_tested(model, features[2], labels[2], goal.kind == "categorical", seed))
    if results[0] is None or results[1] is None:
        return _untold(target, measure, "The target has one value only in the rows to test on.")
    return Learned(target, measure, known[2].num_rows, results[0], results[1])


def _untold(target: str, measure: str, note: str) -> Learned:
    return Learned(target, measure, 0, None, None, note)


def _known(table: pa.Table, target: str) -> pa.Table:
    rows = table.filter(pc.is_valid(table.column(target)))
    return rows.slice(0, ROWS)


def _features(tables: list[pa.Table], columns: Sequence[Column]) -> tuple[list[Any], list[bool]]:
    """Matrices of float64 for each table; a category is its place among the first table's most frequent
    ones.
    """
    made = [np.empty((table.num_rows, len(columns))) for table in tables]
    for place, column in enumerate(columns):
        parts = [table.column(column.name) for table in tables]
        if column.kind == "categorical":
            counts = pc.value_counts(pc.drop_null(_plain(parts[0])))
            order = np.argsort(-np.asarray(counts.field("counts")), kind="stable")[:_CATEGORIES]
            values = counts.field("values").take(pa.array(order))
            codes = [pc.index_in(_plain(part), value_set=values).cast(pa.float64()) for part in parts]
            filled = [np.asarray(code.fill_null(float("nan"))) for code in codes]
        else:
            filled = [_numbers(part) for part in parts]
        for matrix, values in zip(made, filled, strict=True):
            matrix[:, place] = values
    return made, [column.kind == "categorical" for column in columns]


def _plain(part: pa.ChunkedArray) -> pa.ChunkedArray:
    return part.cast(part.type.value_type) if pa.types.is_dictionary(part.type) else part


def _numbers(part: pa.ChunkedArray) -> Any:
    given = encoding.numbers(part)
    values = given.values.astype(np.float64)
    return values if given.nulls is None else np.where(given.nulls, np.nan, values)


def _labels(parts: list[pa.ChunkedArray]) -> list[Any]:
    whole = pa.concat_arrays([chunk for part in parts for chunk in _plain(part).chunks])
    codes = np.asarray(pc.dictionary_encode(whole).indices)
    return np.split(codes, np.cumsum([len(part) for part in parts])[:-1])


def _tested(model: Any, features: Any, truth: Any, classes: bool, seed: int) -> Result | None:
    if classes:
        # a class that the model never saw has the score 0 for every row
        found = model.predict_proba(features)
        known = {int(label): found[:, place] for place, label in enumerate(model.classes_)}
        labels = np.unique(truth)
        if len(labels) < 2:
            return None
        # of two classes one is enough: the other's curve is the same
        asked = labels[1:] if len(labels) == 2 else labels
        columns = [(truth == label, known.get(int(label), np.zeros(len(truth)))) for label in asked]

        def measure(rows: Any) -> float:
            areas = [_area(hit[rows], score[rows]) for hit, score in columns]
            return float(np.nanmean(areas)) if not np.isnan(areas).all() else float("nan")
    else:
        predicted = model.predict(features)
        if (truth == truth[0]).all():
            return None

        def measure(rows: Any) -> float:
            around = ((truth[rows] - truth[rows].mean()) ** 2).sum()
            missed = ((truth[rows] - predicted[rows]) ** 2).sum()
            return float(1 - missed / around) if around > 0 else float("nan")

    return _resampled(measure, len(truth), seed)


def _resampled(measure: Callable[[Any], float], rows: int, seed: int) -> Result:
    draw = np.random.default_rng(seed)
    values = [measure(draw.integers(0, rows, rows)) for _ in range(_RESAMPLES)]
    low, high = np.nanquantile(values, [0.025, 0.975])
    return Result(measure(np.arange(rows)), float(low), float(high))


def _area(hit: Any, score: Any) -> float:
    """P(a hit has the higher score), ties counted half."""
    if hit.all() or not hit.any():
        return float("nan")
    _, places, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    hits = int(hit.sum())
    return float((ranks[hit].sum() - hits * (hits + 1) / 2) / hits / (len(hit) - hits))
