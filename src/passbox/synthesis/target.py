"""The classes: what every clique holds. Labels of a categorical target, intervals of a numeric one, one
without.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

import numpy as np

from passbox.synthesis import sampling
from passbox.synthesis.encoding import Array
from passbox.synthesis.feature import Feature
from passbox.synthesis.grouping import groups
from passbox.synthesis.measurement import Meter, project

CLASSES = "classes of the target"
SHARE = Fraction(2, 100)
MOST = 100
INTERVALS = 10  # of a numeric target


@dataclass(frozen=True)
class Classes:
    """of: the class of each row. groups: which group of the target's codes each class is.

    weights: of a numeric target's codes, for drawing one within a class.
    """

    of: Array
    groups: Array
    weights: Array | None = None

    @property
    def size(self) -> int:
        """The number of classes."""
        return len(self.groups)

    @classmethod
    def none(cls, rows: int) -> Self:
        """One class for all rows."""
        return cls(np.zeros(rows, dtype=np.uint8), np.zeros(1, dtype=np.intp))

    def codes(self, target: Feature, drawn: Array, generator: np.random.Generator) -> Array:
        """A code of the target for each row's class."""
        if self.weights is None:
            return self.groups[drawn]
        return sampling.below(
            self.groups[drawn],
            target.groups,
            self.weights[None, :],
            np.zeros(len(drawn), np.uint8),
            generator,
        )


def classes(target: Feature, codes: Mapping[str, Array], rows: float, meter: Meter) -> Classes:
    """The classes that surely have rows, at most 100; what is in none counts in the largest."""
    rho = meter.budget.left * SHARE
    weights = None
    if target.shape is not None and target.starts is not None:
        known = np.add.reduceat(target.shape.weights, target.starts)
        inner = groups(np.append(known, 0.0)[None, :], True, INTERVALS, 3 * meter.deviation(rho))[:-1]
        target.groups = np.append(inner, inner.max() + 1)
        weights = np.append(known, 1.0)
    possible = np.zeros(target.coarse, dtype=bool)
    possible[target.groups[target.possible]] = True
    exact = np.bincount(target.groups[codes[target.name]], minlength=target.coarse)
    noisy, deviation = meter.release(CLASSES, exact, rho)
    counts = project(np.where(possible, noisy, -1e18), rows)
    order = np.argsort(-counts, kind="stable")[:MOST]
    names = order[: max(1, int((counts[order] > 3 * deviation).sum()))]
    to = np.zeros(target.coarse, dtype=np.uint8)
    to[names] = np.arange(len(names))
    return Classes(to[target.groups][codes[target.name]], names, weights)
