"""Domains found under the budget: labels that are common enough, bounds, the distance of values, and fine
cells.

Every answer is computed from noisy counts over cells that are public beforehand; the one exception, labels
that only the data knows, is told above a threshold that a single unit passes with less than its part of δ.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from passbox.errors import JobFailed
from passbox.synthesis import request as asked
from passbox.synthesis.accounting import DISCOVERY
from passbox.synthesis.domain import Cells, Labels
from passbox.synthesis.encoding import Array, distance, limits, number, numbers, plain, whole_step
from passbox.synthesis.measurement import CHUNK, Meter, project
from passbox.synthesis.noise import noise

DOMAINS, SHAPES = "domains", "numeric shapes"
_PARTS = 64  # of an octave, in which bounds are looked for, once the octaves are known
_OCTAVES = (-40, 62)
_COARSE = 512  # cells of a numeric column's first histogram
_FINEST = 1 << 17  # the most cells that are looked at one by one, for values that many rows share
_TINY = 1e-9
_PLACES = 7  # of a float: 0 … 6 digits after the point, or more


@dataclass(frozen=True)
class Shape:
    """A column of numbers: its finest cells, and a noisy histogram of them (null aside) that adds up to
    its rows.
    """

    cells: Cells
    weights: Array
    nulls: float


def labels(
    spec: asked.Column, column: pa.ChunkedArray, rows: float, rho: Fraction, columns: int, meter: Meter
) -> Labels:
    """The values that are common enough. `columns`: how many columns share the δ for discoveries.

    A value that one unit alone brought has at most `sensitivity` rows; one unit can bring as many such
    values.
    """
    sensitivity = meter.budget.sensitivity
    each = rho * 7 / 8
    variance = Fraction(sensitivity**2) / (2 * each)
    delta = meter.budget.delta * DISCOVERY / columns
    chosen = noise(variance)
    low, high = 0, chosen.bound + 1
    while low < high:
        middle = (low + high) // 2
        if chosen.above(middle) * sensitivity <= delta:
            high = middle
        else:
            low = middle + 1
    meter.budget.tell(delta)
    threshold = low + sensitivity
    counts = pc.value_counts(column.drop_null())
    found = counts.field("values")
    noisy, _ = meter.release(DOMAINS, counts.field("counts"), each)
    kept = noisy >= threshold
    if not kept.any() or noisy[kept].sum() < 0.02 * rows:
        more = ", or raise epsilon, so that fewer rows are enough" if threshold > 0.02 * rows else ""
        raise JobFailed(
            "SYNTHESIS_COLUMN_REFUSED",
            f"Almost every row of {spec.name} has a value of its own, or one of fewer than {threshold:,} "
            "rows: such a column identifies and cannot be synthesized. Leave it out of the query, group "
            f"its values, or declare them in the template{more}.",
        )
    order = np.argsort(-noisy[kept], kind="stable")
    values = found.filter(pa.array(kept)).take(pa.array(order))
    text = pa.types.is_string(found.type) or pa.types.is_large_string(found.type)
    # that there are rare values at all could be told by one row, so it is measured too
    rare = np.asarray(counts.field("counts"))[~kept].sum()
    told, deviation = meter.release(DOMAINS, np.array([rare]), rho - each)
    rest = spec.rest if text and told[0] > 3 * deviation else None
    if rest is not None and rest in values.to_pylist():
        values = values.filter(pc.not_equal(values, rest))
    return Labels(values, rest)


def bounds(spec: asked.Column, column: pa.ChunkedArray, rho: Fraction, meter: Meter) -> tuple[Any, Any]:
    """Two numbers between which almost all of the column's lie: the outermost octaves, then parts of
    those two.
    """
    half = _OCTAVES[1] - _OCTAVES[0]
    fine = np.zeros((2 * half + 1) * _PARTS, dtype=np.int64)
    for values in _known(column):
        fine += np.bincount(_octave_cells(values.astype(np.float64), half), minlength=len(fine))
    parts = fine.reshape(-1, _PARTS)
    noisy, deviation = meter.release(DOMAINS, parts.sum(axis=1), rho / 2)
    sure = np.nonzero(noisy > deviation * (2 * np.log(len(noisy)) + 12) ** 0.5)[0]
    if not len(sure):
        _too_small(spec, "its bounds", "low and high")
    outer = np.unique([sure[0], sure[-1]])
    noisy, deviation = meter.release(DOMAINS, parts[outer], rho / 2)
    limit = deviation * (2 * np.log(noisy.size) + 6) ** 0.5
    edges = _octave_edges(half)
    least, most = limits(column.type)
    low = edges[sure[0] * _PARTS + _outside(noisy[0], limit, deviation)]
    high = edges[(sure[-1] + 1) * _PARTS - _outside(noisy[-1][::-1], limit, deviation)]
    # as Python's numbers, which compare and stay exact where a type holds more than 53 bits
    return max(float(low), least), min(float(high), most)


def _outside(noisy: Array, limit: float, deviation: float) -> int:
    """How many parts of an outermost octave, from its outer end, surely hold next to nothing.

    Where parts are so thin that which is the first above the limit is chance, those before it hold more
    than their noise together, and the whole octave counts.
    """
    above = np.nonzero(noisy > limit)[0]
    first = int(above[0]) if len(above) else 0
    return first if noisy[:first].sum() <= 3 * deviation * first**0.5 else 0


def repeats(spec: asked.Column, column: pa.ChunkedArray, rows: float, rho: Fraction, meter: Meter) -> None:
    """Raises JobFailed for whole numbers that look like an identifier: a value of its own for each row."""
    distinct = pc.count_distinct(column, mode="only_valid").as_py()
    noisy, deviation = meter.release(DOMAINS, np.array([distinct]), rho)
    if noisy[0] > max(0.99 * rows, rows - 3 * deviation) - deviation:
        if 8 * deviation > rows:
            _too_small(spec, "whether every row has a value of its own", "low and high")
        raise JobFailed(
            "SYNTHESIS_COLUMN_REFUSED",
            f"Almost every row of {spec.name} has a value of its own: such a column identifies and cannot be "
            "synthesized. Leave it out of the query, round it, or declare its low and high in the template.",
        )


def _too_small(spec: asked.Column, what: str, declared: str) -> NoReturn:
    """Refuses to discover; what the sentence depends on is public: ε and the noisy row count."""
    raise JobFailed(
        "SYNTHESIS_COLUMN_REFUSED",
        f"The budget is too small to find of {spec.name} {what}. Declare its {declared} in the template, "
        "raise epsilon, or select more rows.",
    )


def _known(column: pa.ChunkedArray) -> Any:
    """The numbers of a column that are not null, in chunks."""
    for chunk in column.chunks:
        for start in range(0, len(chunk), CHUNK):
            given = numbers(chunk.slice(start, CHUNK))
            yield given.values if given.nulls is None else given.values[~given.nulls]


def _octave_cells(values: Array, half: int) -> Array:
    """The cell of each number: 64 parts of each octave on both sides of 0, which fills 64 cells alone."""
    mantissa, exponent = np.frexp(np.abs(values))
    part = np.floor((mantissa - 0.5) * 2 * _PARTS).astype(np.int64)
    cell = np.clip((exponent.astype(np.int64) - 1 - _OCTAVES[0]) * _PARTS + part, 0, half * _PARTS - 1)
    zero = half * _PARTS
    return np.where(values == 0, zero, np.where(values > 0, zero + _PARTS + cell, zero - 1 - cell))


def _octave_edges(half: int) -> Array:
    """The lower edges of those cells, and one more."""
    place = np.arange(half * _PARTS + 1)
    up = np.ldexp(1 + (place % _PARTS) / _PARTS, _OCTAVES[0] + place // _PARTS)
    return np.concatenate([-up[::-1], np.zeros(_PARTS - 1), up])


def places(column: pa.ChunkedArray, rho: Fraction, meter: Meter) -> float:
    """The distance of neighbouring values of a column of floats: 1, .1, …, or 0 where they have many
    digits.
    """
    counts = np.zeros(_PLACES + 1, dtype=np.int64)
    for values in _known(column):
        need = np.zeros(len(values), dtype=np.int64)
        for digits in range(_PLACES):
            need += np.abs(np.round(values, digits) - values) > _TINY * np.maximum(1, np.abs(values))
        counts += np.bincount(need, minlength=_PLACES + 1)
    noisy, deviation = meter.release(DOMAINS, counts, rho)
    beyond = noisy[::-1].cumsum()[::-1]
    for digits in range(_PLACES):
        if beyond[digits + 1] < 0.002 * noisy.sum() + 3 * deviation:
            return float(10.0**-digits)
    return 0.0


def on_steps(low: Any, high: Any, step: int | float) -> tuple[Any, Any]:
    """The outermost multiples of a step between two numbers; those around them where none lies between."""
    if not step:
        return low, high
    if isinstance(step, int):  # exact beyond 53 bits
        first, last = -(-math.ceil(low) // step), math.floor(high) // step
    else:
        first, last = math.ceil(low / step - _TINY), math.floor(high / step + _TINY)
    if first > last:
        first, last = last, first
    return plain(first * step), plain(last * step)


def cells(kind: pa.DataType, low: Any, high: Any, step: int | float) -> Cells:
    """The finest cells between two numbers: one for each value where they are few, else at most 131,072.

    Values lie at low, low + step, … as far as high; numbers are exact where the type's are.
    """
    whole = not pa.types.is_floating(kind)
    if whole:
        low, high, step = math.floor(low), math.ceil(high), max(int(step), 1)
    if not step:
        edges = np.linspace(low, high, _COARSE * 8 + 1)
        return Cells(kind, edges, step, float(low), float(high))
    count = ((high - low) // step if whole else math.floor((high - low) / step + _TINY)) + 1
    parts = count if count <= _FINEST else _COARSE * 8
    # a float's values stand in the middle of their cells
    start = low if whole else low - step / 2
    edges = np.array(
        [start + count * part // parts * step for part in range(parts + 1)],
        dtype=np.int64 if whole else np.float64,
    )
    return Cells(kind, edges, step, low, min(plain(low + (count - 1) * step), high))


def declared(spec: asked.Column, kind: pa.DataType) -> tuple[Any, Any, int | float]:
    """low, high and step of a declaration, as numbers."""
    step = 0 if spec.step is None else distance(spec.step, kind)
    if not pa.types.is_floating(kind):
        step = max(step, whole_step(kind))
    return number(spec.low, kind), number(spec.high, kind), step


def shape(column: pa.ChunkedArray, fine: Cells, rho: Fraction, rows: float, meter: Meter) -> Shape:
    """A noisy histogram of the finest cells: what many rows share is seen cell by cell, the rest in 512
    parts.
    """
    codes = fine.encode(column)
    counts = np.bincount(codes, minlength=fine.size)
    known = fine.size - 1
    if known <= _COARSE:
        noisy, deviation = meter.release(SHAPES, counts, rho)
        weights = project(noisy, rows)
        return Shape(fine, weights[:-1], float(weights[-1]) * (noisy[-1] > 3 * deviation))
    part = (np.arange(known) * _COARSE) // known
    coarse = np.append(np.bincount(part, weights=counts[:-1], minlength=_COARSE).astype(np.int64), counts[-1])
    rough, _ = meter.release(SHAPES, coarse, rho / 2)
    single, deviation = meter.release(SHAPES, counts, rho / 2)
    absent = float(rough[-1])
    rough = project(rough, rows)[:-1]
    spikes = np.where(single[:-1] > deviation * (2 * np.log(known)) ** 0.5, single[:-1], 0).astype(np.float64)
    inside = np.bincount(part, weights=spikes, minlength=_COARSE)
    spikes *= np.minimum(1.0, rough / np.maximum(inside, 1.0))[part]
    spread = np.maximum(rough - inside, 0.0) / np.bincount(part, minlength=_COARSE)
    return Shape(fine, spikes + spread[part], absent * (absent > 3 * deviation))
