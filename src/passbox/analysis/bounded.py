"""A query under differential privacy after the gate: what the engine measures, and what is told of it.

The engine gives for every cell (a combination of key values) one integer for each measure, exactly. Adding or
removing one user changes all cells of a measure together by at most its sensitivity. What is told is reckoned
from the measures after noise, for every cell that the text of the query spells out, whether anybody is in it
or not. This module knows shapes; it must not know SQL or noise.
"""

from dataclasses import dataclass
from typing import Literal

GRAIN = 1_000_000  # a bound, counted in the integer units of a measure
ROWS_PER_USER = 10  # what one user may contribute to a query, where it does not have one row for each user

Value = str | int | bool | None
Type = Literal["COUNT", "COUNT_DISTINCT", "SUM", "AVG", "STDDEV"]
# how many measures an aggregate needs at most: a mean is a sum by a count, a deviation needs the squares too
MEASURES: dict[Type, int] = {"COUNT": 1, "COUNT_DISTINCT": 1, "SUM": 1, "AVG": 2, "STDDEV": 3}


@dataclass(frozen=True)
class Key:
    """An output that tells the group. column: which of `Bounded.groups` it is"""

    name: str
    column: int


@dataclass(frozen=True)
class Aggregate:
    """An output that is reckoned from noisy measures.

    expression: as written, for the record
    measures:   indices: the count; the sum; the sum and the count; the sum, the count and the squares
    low, high:  the bounds of the expression, None for counts
    sample:     whether a deviation is that of a sample (n - 1)
    """

    name: str
    type: Type
    expression: str
    measures: tuple[int, ...]
    low: float | None = None
    high: float | None = None
    sample: bool = True


@dataclass(frozen=True)
class Bounded:
    """What noise must know of an approved query.

    outputs:       in order
    groups:        the values of each key, as the text spells them out; the engine's columns `k0`, `k1`, …
                   hold their indices, and a cell is one of each
    sensitivities: of the measures, the engine's columns `m0`, `m1`, …
    rows_per_user: how many rows of one user the query counts
    """

    outputs: tuple[Key | Aggregate, ...]
    groups: tuple[tuple[Value, ...], ...]
    sensitivities: tuple[int, ...]
    rows_per_user: int

    @property
    def aggregates(self) -> tuple[Aggregate, ...]:
        """The outputs that noise is added to."""
        return tuple(output for output in self.outputs if isinstance(output, Aggregate))
