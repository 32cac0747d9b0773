"""How alike real and synthetic rows are: marginals of one, two and three columns, column by column, and as
pictures.

All figures are of real rows and carry no noise: they are for the owners of the data. This module knows no
privacy.

Marginals are compared by total variation, half of the sum of |real share − synthetic share|: the share of
rows that would have to change. Numbers are cut at 20 quantiles of the real rows, labels beyond the 30 most
frequent count as one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb, pi, sqrt
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from passbox.synthesis import encoding
from passbox.synthesis.request import Column

ROWS = 100_000  # of each table that are compared at most
MARGINALS = {
    1: 1000,
    2: 500,
    3: 300,
}  # columns in a marginal → how many are looked at, drawn where there are more
_LABELS, _QUANTILES, _BARS = 30, 20, 24
_GROUPS = 10  # of rows, left out in turn: how far the figures move gives their interval
_STUDENT = 2.262  # 97.5 % of Student's t with _GROUPS − 1 degrees of freedom


@dataclass(frozen=True)
class Coded:
    """A column of both tables in the same codes 0 … size − 1."""

    name: str
    real: NDArray[np.intp]
    synthetic: NDArray[np.intp]
    size: int


@dataclass(frozen=True)
class Picture:
    """Shares of real and synthetic rows by label or by interval; ordered: intervals of numbers, from low to
    high.
    """

    labels: tuple[str, ...]
    real: tuple[float, ...]
    synthetic: tuple[float, ...]
    ordered: bool


@dataclass(frozen=True)
class ColumnFigures:
    """Of one column: total variation, Kullback-Leibler divergence of synthetic from real rows in nats, and
    shares.
    """

    name: str
    variation: float
    divergence: float
    picture: Picture


@dataclass(frozen=True)
class Marginals:
    """The mean total variation over marginals of `ways` columns, with its 95 % interval.

    floor: what two samples of this size differ by where nothing differs. looked_at: how many of `all`
    marginals.
    """

    ways: int
    mean: float
    low: float
    high: float
    floor: float
    looked_at: int
    all: int


@dataclass(frozen=True)
class Utility:
    """All figures; pairs: the total variation of two columns, by their places."""

    columns: tuple[ColumnFigures, ...]
    marginals: tuple[Marginals, ...]
    pairs: tuple[tuple[int, int, float], ...]


def compare(real: pa.Table, synthetic: pa.Table, columns: Sequence[Column], seed: int = 0) -> Utility:
    """The figures of two tables of one schema; `seed` chooses rows and marginals where there are too many."""
    draw = np.random.default_rng(seed)
    parts = [_some(table, draw) for table in (real, synthetic)]
    coded = [_code(column, *(part.column(column.name) for part in parts)) for column in columns]
    groups = [draw.integers(0, _GROUPS, part.num_rows) for part in parts]
    marginals, pairs = [], []
    for ways in (1, 2, 3):
        chosen = _marginals(len(coded), ways, draw)
        found = [_variation([coded[i] for i in places], groups) for places in chosen]
        if not found:
            continue
        marginals.append(_summary(ways, found, comb(len(coded), ways)))
        if ways == 2:
            pairs = [(i, j, each[0]) for (i, j), each in zip(chosen, found, strict=True)]
        if ways == 1:
            singles = {places[0]: each[0] for places, each in zip(chosen, found, strict=True)}
    figures = tuple(
        ColumnFigures(
            column.name,
            singles[place],
            _divergence(coded[place]),
            _picture(column, *(part.column(column.name) for part in parts)),
        )
        for place, column in enumerate(columns)
    )
    return Utility(figures, tuple(marginals), tuple(pairs))


def _some(table: pa.Table, draw: np.random.Generator) -> pa.Table:
    if table.num_rows <= ROWS:
        return table
    return table.take(pa.array(np.sort(draw.choice(table.num_rows, ROWS, replace=False))))


def _marginals(columns: int, ways: int, draw: np.random.Generator) -> list[tuple[int, ...]]:
    """All sets of so many columns, or as many different ones as are looked at."""
    if columns < ways:
        return []
    if comb(columns, ways) <= MARGINALS[ways]:
        return list(combinations(range(columns), ways))
    found: set[tuple[int, ...]] = set()
    while len(found) < MARGINALS[ways]:
        found.add(tuple(sorted(draw.choice(columns, ways, replace=False).tolist())))
    return sorted(found)


def _code(column: Column, real: pa.ChunkedArray, synthetic: pa.ChunkedArray) -> Coded:
    if column.kind == "categorical":
        known = [str(value) for value in _frequent(real, _LABELS)]
        codes = [_labelled(part, known) for part in (real, synthetic)]
        return Coded(column.name, codes[0], codes[1], len(known) + 2)
    given = [encoding.numbers(part) for part in (real, synthetic)]
    inside = given[0].values if given[0].nulls is None else given[0].values[~given[0].nulls]
    cuts = (
        np.unique(np.quantile(inside, np.linspace(0, 1, _QUANTILES + 1)[1:-1]))
        if len(inside)
        else np.zeros(0)
    )
    codes = [_cut(part, cuts) for part in given]
    return Coded(column.name, codes[0], codes[1], len(cuts) + 2)


def _texts(part: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values as texts, as JSON and the page show them."""
    kind = part.type.value_type if pa.types.is_dictionary(part.type) else part.type
    return part.cast(kind).cast(pa.string())


def _frequent(real: pa.ChunkedArray, most: int) -> list[str]:
    counts = pc.value_counts(_texts(real).drop_null())
    order = np.argsort(-np.asarray(counts.field("counts")), kind="stable")[:most]
    return [str(value) for value in counts.field("values").take(pa.array(order)).to_pylist()]


def _labelled(part: pa.ChunkedArray, known: list[str]) -> NDArray[np.intp]:
    """Places among the known labels; then others; then null."""
    texts = _texts(part)
    places = pc.index_in(texts, value_set=pa.array(known, pa.string())).fill_null(len(known))
    return np.where(np.asarray(texts.is_null()), len(known) + 1, np.asarray(places)).astype(np.intp)


def _cut(given: encoding.Numbers, cuts: Any) -> NDArray[np.intp]:
    places = np.searchsorted(cuts, given.values, side="right")
    return places if given.nulls is None else np.where(given.nulls, len(cuts) + 1, places)


def _variation(columns: list[Coded], groups: list[Any]) -> tuple[float, float, Any]:
    """Total variation of one marginal, its floor, and what it is without each group of real, then
    synthetic, rows.
    """
    sizes = [column.size for column in columns]
    cells = int(np.prod(sizes))
    counts = []
    for codes, group in zip(([c.real for c in columns], [c.synthetic for c in columns]), groups, strict=True):
        place = np.ravel_multi_index(codes, sizes) * _GROUPS + group
        counts.append(np.bincount(place, minlength=cells * _GROUPS).reshape(cells, _GROUPS).astype(float))
    used = (counts[0].sum(axis=1) + counts[1].sum(axis=1)) > 0
    counts = [count[used] for count in counts]
    whole = [count.sum(axis=1) for count in counts]
    totals = [max(1.0, float(each.sum())) for each in whole]
    shares = [each / total for each, total in zip(whole, totals, strict=True)]
    without = []
    for count, each, other in zip(counts, whole, reversed(shares), strict=True):
        left = each[:, None] - count
        without.append(np.abs(left / np.maximum(1, left.sum(axis=0)) - other[:, None]).sum(axis=0) / 2)
    mixed = (whole[0] + whole[1]) / sum(totals)
    floor = float(np.sqrt(2 / pi * mixed * (1 - mixed) * sum(1 / total for total in totals)).sum() / 2)
    return float(np.abs(shares[0] - shares[1]).sum() / 2), floor, np.array(without)


def _summary(ways: int, found: list[tuple[float, float, Any]], everything: int) -> Marginals:
    """Means over marginals; the interval is of who is in the tables, and of which marginals were drawn."""
    values = np.array([each[0] for each in found])
    left_out = np.mean([each[2] for each in found], axis=0)  # real and synthetic, by group
    spread = (_GROUPS - 1) / _GROUPS * ((left_out - left_out.mean(axis=1, keepdims=True)) ** 2).sum()
    if len(found) < everything:
        spread += values.var(ddof=1) / len(found)
    mean, error = float(values.mean()), _STUDENT * sqrt(spread)
    floor = float(np.mean([each[1] for each in found]))
    return Marginals(
        ways, mean, max(0.0, mean - error), min(1.0, mean + error), floor, len(found), everything
    )


def _divergence(column: Coded) -> float:
    """Σ real · ln(real / synthetic), half a row added to every cell so that none is empty."""
    real, synthetic = (
        (np.bincount(codes, minlength=column.size) + 0.5) / (len(codes) + column.size / 2)
        for codes in (column.real, column.synthetic)
    )
    return max(0.0, float((real * np.log(real / synthetic)).sum()))


def _picture(column: Column, real: pa.ChunkedArray, synthetic: pa.ChunkedArray) -> Picture:
    if column.kind == "categorical":
        labels = _frequent(real, 12)
        codes = [_labelled(part, labels) for part in (real, synthetic)]
        names = [*labels, "(others)", "(null)"]
    else:
        given = [encoding.numbers(part) for part in (real, synthetic)]
        inside = given[0].values if given[0].nulls is None else given[0].values[~given[0].nulls]
        edges = _edges(inside)
        codes = [_cut(part, edges[1:-1]) for part in given]
        names = [*_interval_names(edges, real.type), "(null)"]
    counts = [np.bincount(each, minlength=len(names)) / max(1, len(each)) for each in codes]
    ends = len(names) - (2 if column.kind == "categorical" else 1)
    kept = [i for i in range(len(names)) if i < ends or counts[0][i] + counts[1][i] > 0]
    shown = [tuple(float(count[i]) for i in kept) for count in counts]
    return Picture(tuple(names[i] for i in kept), shown[0], shown[1], column.kind == "numerical")


def _edges(inside: Any) -> Any:
    """Bars of one width over all but the outermost hundredths, which the outer bars hold too."""
    if not len(inside):
        return np.array([0.0, 1.0])
    low, high = (float(edge) for edge in np.quantile(inside, [0.01, 0.99]))
    few = np.unique(inside)
    if len(few) <= _BARS:
        return np.append(few, few[-1] + 1)
    return np.linspace(low, high if high > low else low + 1, _BARS + 1)


def _interval_names(edges: Any, kind: pa.DataType) -> list[str]:
    whole = edges if pa.types.is_floating(kind) else np.round(edges)
    shown = [
        f"{value:.4g}" if isinstance(value, float) else str(value)
        for value in encoding.told(encoding.restored(encoding.Numbers(whole, None), kind))
    ]
    return [f"from {name}" for name in shown[:-1]]
