"""The distance from each of many rows to the closest of many others: exact, in numpy alone.

Rows come as points (float64, a row each): a numeric column lies within 0…1 of its public range, a category
is a whole number, and NULL is MISSING. The Gower distance, which counts a numeric column by |a − b| and any
other by 0 or 1, with NULL a value of its own, is then the same sum for every column: Σ min(|a − b|, 1).

A first look adds whole numbers of one byte (of two where there are many columns), which never say more than
the distance; only rows that could still be the closest are compared in float64. What one column adds for
one of its values to all rows is kept as a line, so that a column costs one addition of bytes; and points
are taken in the order of their values, so that what neighbours have in common is added once. Rows lie in
blocks of like values; a block that cannot hold the closest row of a point is left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
MISSING = 2.0  # farther than 1 from every place in a numeric range
_BLOCK = 1 << 16  # rows that are compared at once: what is added up stays in the cache
_LINES = 1 << 25  # bytes of lines that a block may keep
_PAIRS = 1 << 16  # pairs of a point and a row that are compared in float64 at once


@dataclass(frozen=True)
class _Column:
    """One column of the first look: `points` and `rows` hold codes, `cost[a, b]` what they are apart at
    least.

    Without `cost` the column is a category of many values: unlike codes are `unit` apart.
    """

    points: NDArray[np.intp]
    rows: NDArray[np.int32]
    cost: NDArray[np.unsignedinteger] | None


def closest(points: Points, rows: Points, numeric: list[bool]) -> NDArray[np.float64]:
    """For each of `points` the Gower distance (0 … number of columns) to the closest of `rows`.

    Both have a column per entry of `numeric`. No rows at all: every distance is the greatest, the number of
    columns.
    """
    best = np.full(len(points), float(len(numeric)))
    if not len(points) or not len(rows):
        return best
    unit, width = _unit(len(numeric))
    codes = [
        _code(points[:, i], rows[:, i], numeric=is_numeric, unit=unit, width=width)
        for i, is_numeric in enumerate(numeric)
    ]
    ordered = sorted(codes, key=lambda column: len(np.unique(column.points)))
    turn = np.lexsort([column.points for column in reversed(ordered)])
    layout = _layout(ordered)
    for start in range(0, len(rows), _BLOCK):
        chosen = layout[start : start + _BLOCK]
        _search(_Block(ordered, chosen, unit, width), points, rows[chosen], turn, best)
    return best


def _unit(columns: int) -> tuple[int, type[np.unsignedinteger]]:
    """What a mismatch weighs, so that all of them together stay below the greatest number of its type."""
    if columns <= 32:
        return 254 // columns, np.uint8
    return 65534 // columns, np.uint16


def _code(
    points: NDArray[np.float64],
    rows: NDArray[np.float64],
    *,
    numeric: bool,
    unit: int,
    width: type[np.unsignedinteger],
) -> _Column:
    """The column in codes. Cells of a numeric range are at least (cells between them) − 1 apart."""
    if numeric:
        ours, theirs = (
            np.where(v > 1, unit, np.clip(np.floor(v * unit), 0, unit - 1)).astype(np.int32)
            for v in (points, rows)
        )
        cells = np.arange(unit + 1)
        cost = np.maximum(np.abs(cells[:, None] - cells[None, :]) - 1, 0)
        cost[unit, :], cost[:, unit] = unit, unit
        cost[unit, unit] = 0
        return _Column(ours.astype(np.intp), theirs, cost.astype(width))
    values, own = np.unique(points, return_inverse=True)
    place = np.minimum(np.searchsorted(values, rows), len(values) - 1)
    codes = np.where(values[place] == rows, place, len(values)).astype(np.int32)
    if len(values) > 64:
        return _Column(own.astype(np.intp), codes, None)
    cost = np.full((len(values), len(values) + 1), unit, width)
    np.fill_diagonal(cost, 0)
    return _Column(own.astype(np.intp), codes, cost)


def _layout(columns: list[_Column]) -> NDArray[np.intp]:
    """An order of the rows in which those with like values lie together."""
    key, room = np.zeros(len(columns[0].rows), np.uint64), 1 << 64
    for column in columns:
        size = int(column.rows.max()) + 1
        if room < size:
            break
        key, room = key * np.uint64(size) + column.rows.astype(np.uint64), room // size
    return np.argsort(key, kind="stable")


class _Block:
    """Some rows, and what each value of each column adds to the sums of all of them."""

    def __init__(
        self, columns: list[_Column], chosen: NDArray[np.intp], unit: int, width: type[np.unsignedinteger]
    ) -> None:
        self.columns, self.unit, self.width, self.size = columns, unit, width, len(chosen)
        self.padded = -(-len(chosen) // 8) * 8
        self.rows = [column.rows[chosen] for column in columns]
        self.lines: list[dict[int, NDArray[np.unsignedinteger]]] = [{} for _ in columns]
        self.kept = 0
        self.sums = np.zeros((len(columns) + 1, self.padded), width)
        self.sums[0, self.size :] = np.iinfo(width).max  # no row: more than any sum
        self.near = np.zeros(self.padded, bool)
        self.eights = self.near.view(np.uint64)

    def bounds(self) -> NDArray[np.int64]:
        """What each point is apart from every row of the block at least, in units of the first look."""
        total = np.zeros(len(self.columns[0].points), np.int64)
        for column, rows in zip(self.columns, self.rows, strict=True):
            present = np.unique(rows)
            if column.cost is not None:
                total += column.cost[:, present].min(axis=1).astype(np.int64)[column.points]
            else:
                total += np.where(np.isin(column.points, present), 0, self.unit)
        return total

    def line(self, place: int, value: int) -> NDArray[np.unsignedinteger]:
        """What the value of the column in this place adds to each row's sum."""
        found = self.lines[place].get(value)
        if found is None:
            cost, found = self.columns[place].cost, np.zeros(self.padded, self.width)
            if cost is None:
                found[: self.size] = (self.rows[place] != value).view(np.uint8) * self.width(self.unit)
            else:
                found[: self.size] = cost[value][self.rows[place]]
            if self.kept < _LINES:
                self.lines[place][value] = found
                self.kept += found.nbytes
        return found

    def sweep(self, turn: NDArray[np.intp]) -> Iterator[tuple[int, NDArray[np.unsignedinteger]]]:
        """Each point of `turn` with the sums of all rows; the array is reused."""
        values = np.stack([column.points[turn] for column in self.columns], axis=1)
        fresh = np.ones(values.shape, bool)
        fresh[1:] = values[1:] != values[:-1]
        first = np.argmax(fresh, axis=1)
        first[~fresh.any(axis=1)] = len(self.columns)
        for point, start, codes in zip(turn.tolist(), first.tolist(), values.tolist(), strict=True):
            for place in range(start, len(codes)):
                np.add(self.sums[place], self.line(place, codes[place]), out=self.sums[place + 1])
            yield point, self.sums[-1]

    def within(self, sums: NDArray[np.unsignedinteger], limit: int) -> NDArray[np.intp]:
        """The rows whose sum is at most `limit`. Eight are looked at as one, as most have none."""
        np.less_equal(sums, self.width(limit), out=self.near)
        eights = self.eights.nonzero()[0]
        inside = self.near.reshape(-1, 8)[eights].ravel().nonzero()[0]
        found: NDArray[np.intp] = eights[inside >> 3] * 8 + (inside & 7)
        return found


def _search(
    block: _Block, points: Points, rows: Points, turn: NDArray[np.intp], best: NDArray[np.float64]
) -> None:
    """Lowers `best` to what the block's rows offer."""
    reach = np.floor(best * block.unit + 1e-6)
    turn = turn[block.bounds()[turn] <= reach[turn]]
    waiting: list[tuple[int, NDArray[np.intp]]] = []
    pairs = 0
    for point, sums in block.sweep(turn):
        first = int(sums.argmin())
        if sums[first] > best[point] * block.unit + 1e-6:
            continue
        found = float(np.minimum(np.abs(rows[first] - points[point]), 1).sum())
        if found < best[point]:
            best[point] = found
        waiting.append((point, block.within(sums, int(best[point] * block.unit + 1e-6))))
        pairs += len(waiting[-1][1])
        if pairs >= _PAIRS:
            _settle(waiting, points, rows, best)
            waiting, pairs = [], 0
    _settle(waiting, points, rows, best)


def _settle(
    waiting: list[tuple[int, NDArray[np.intp]]], points: Points, rows: Points, best: NDArray[np.float64]
) -> None:
    """Compares each waiting point with its rows in float64."""
    if not waiting:
        return
    near = np.concatenate([rows_near for _, rows_near in waiting])
    which = np.repeat([point for point, _ in waiting], [len(rows_near) for _, rows_near in waiting])
    apart = np.minimum(np.abs(rows[near] - points[which]), 1).sum(axis=1)
    np.minimum.at(best, which, apart)
