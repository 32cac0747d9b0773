"""The values that a column can take, as codes: labels, or cells of an interval. Public once made.

A domain is declared by the request or discovered under the budget (`discovery`); from then on nothing
outside it is counted, and nothing outside it is ever made. The last code is null, the one before it, for
labels, the rest.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from passbox.synthesis.encoding import Array, Numbers, numbers, restored, told
from passbox.synthesis.measurement import smallest


@dataclass(frozen=True)
class Labels:
    """values: what each code stands for; rest: what stands for all others, None for nothing."""

    values: pa.Array
    rest: Any = None

    @property
    def size(self) -> int:
        """The number of codes: values, rest and null."""
        return len(self.values) + 2

    def encode(self, column: pa.ChunkedArray) -> Array:
        """The code of each row."""
        known = len(self.values)
        found: list[Array] = []
        for chunk in column.chunks:
            plain = pc.dictionary_decode(chunk) if pa.types.is_dictionary(chunk.type) else chunk
            code = pc.index_in(plain, value_set=self.values).fill_null(known)
            code = pc.if_else(pc.is_null(plain), pa.scalar(known + 1, pa.int32()), code)
            found.append(smallest(np.asarray(code), self.size))
        return np.concatenate(found) if found else np.zeros(0, np.uint8)

    def decode(self, codes: Array, generator: np.random.Generator) -> pa.Array:  # noqa: ARG002
        """The values of codes. The rest, where it has no name, has no code either (see `possible`)."""
        rest = pa.array([self.rest], self.values.type)
        every = pa.concat_arrays([self.values, rest, pa.nulls(1, self.values.type)])
        return every.take(pa.array(codes.astype(np.int64)))

    def possible(self, nullable: bool) -> Array:
        """Which codes may be made."""
        allowed = np.ones(self.size, dtype=bool)
        allowed[-2] = self.rest is not None
        allowed[-1] = nullable
        return allowed

    def described(self) -> dict[str, Any]:
        """What is public of the column."""
        return {"values": told(self.values), "rest": self.rest}


@dataclass(frozen=True)
class Cells:
    """Cell i holds the numbers edges[i] … edges[i+1], the upper one aside; `step`: the distance of
    values, 0: none. low, high: the least and the greatest number that is ever made.

    Of floats with a step the edges lie half a step below the values, which are not exact.
    """

    kind: pa.DataType
    edges: Array
    step: int | float
    low: int | float
    high: int | float

    @property
    def size(self) -> int:
        """The number of codes: cells and null."""
        return len(self.edges)

    def encode(self, column: pa.ChunkedArray) -> Array:
        """The cell of each row; numbers beyond the edges are in the first or last."""
        found = []
        for chunk in column.chunks:
            given = numbers(chunk)
            cell = np.searchsorted(self.edges[1:-1], given.values, side="right")
            if given.nulls is not None:
                cell[given.nulls] = self.size - 1
            found.append(smallest(cell, self.size))
        return np.concatenate(found) if found else np.zeros(0, np.uint8)

    def decode(self, codes: Array, generator: np.random.Generator) -> pa.Array:
        """A value of each cell, uniform among its steps."""
        nulls = codes == self.size - 1
        cell = np.where(nulls, 0, codes)
        low, width = self.edges[cell], self.edges[cell + 1] - self.edges[cell]
        share = generator.random(len(codes))
        if self.step:
            steps = np.maximum(np.rint(width / self.step), 1.0)
            inside = np.minimum(np.floor(share * steps), steps - 1)
            if self.edges.dtype == np.float64:
                values = self._on_steps(np.rint((low - self.edges[0]) / self.step) + inside)
            else:
                values = low + inside.astype(low.dtype) * self.step
        else:
            values = np.clip(low + share * width, self.low, self.high)
        return restored(Numbers(values, nulls if nulls.any() else None), self.kind)

    def _on_steps(self, place: Array) -> Array:
        """The float that is so many steps above `low`, without the digits that only the sum brought."""
        digits = 14 - int(np.floor(np.log10(max(abs(self.low), abs(self.high), self.step))))
        return np.clip(np.round(self.low + place * self.step, min(max(digits, 0), 300)), self.low, self.high)

    def possible(self, nullable: bool) -> Array:
        """Which codes may be made."""
        allowed = np.ones(self.size, dtype=bool)
        allowed[-1] = nullable
        return allowed

    def described(self) -> dict[str, Any]:
        """What is public of the column: bounds and step as values of its type, and the intervals told
        apart.
        """
        low, high = told(restored(Numbers(np.array([self.low, self.high]), None), self.kind))
        return {"low": low, "high": high, "step": self.step or None, "intervals": self.size - 1}


Domain = Labels | Cells


def merged(cells: Cells, starts: Array) -> Cells:
    """Coarser cells, each of which starts at one of these."""
    return Cells(cells.kind, cells.edges[[*starts, len(cells.edges) - 1]], cells.step, cells.low, cells.high)
