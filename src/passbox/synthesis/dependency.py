"""Columns that follow from others: a noisy table of both says which value goes with which; so it stays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pyarrow as pa

from passbox.synthesis.encoding import Array
from passbox.synthesis.feature import Feature
from passbox.synthesis.measurement import Meter, histogram
from passbox.synthesis.request import Dependency, refused

DEPENDENCIES = "dependencies"
MOST_CELLS = 1 << 24


@dataclass(frozen=True)
class Mapped:
    """determinants: features; codes: for each combination of their codes, the code of the dependent
    feature.
    """

    determinants: tuple[Feature, ...]
    dependent: Feature
    codes: Array

    def values(self, drawn: Mapping[str, Array], generator: np.random.Generator) -> pa.Array:
        """The dependent's values for drawn codes of the determinants: one value for each combination."""
        once = self.dependent.decode(self.codes, generator)
        sizes = [feature.size for feature in self.determinants]
        at = np.ravel_multi_index(tuple(drawn[feature.name] for feature in self.determinants), sizes)
        return once.take(pa.array(at))


def learn(
    declared: Dependency, features: Sequence[Feature], codes: Mapping[str, Array], rho: Fraction, meter: Meter
) -> Mapped:
    """The mapping of one declared dependency; combinations with next to no rows get the most common value."""
    by_name = {feature.name: feature for feature in features}
    determinants = tuple(by_name[name] for name in declared.determinants)
    dependent = by_name[declared.dependent]
    sizes = [*(feature.size for feature in determinants), dependent.size]
    if int(np.prod(sizes, dtype=object)) > MOST_CELLS:
        raise refused(
            "dependencies",
            f"{declared.dependent} and what it depends on have too many combinations ({sizes}): "
            "declare fewer determinants.",
        )
    exact = histogram([codes[name] for name in (*declared.determinants, declared.dependent)], sizes)
    noisy, deviation = meter.release(DEPENDENCIES, exact, rho)
    table = np.where(dependent.possible, noisy.reshape(-1, dependent.size).astype(np.float64), -np.inf)
    best = np.where(table.max(axis=1) > 2 * deviation, table.argmax(axis=1), table.sum(axis=0).argmax())
    return Mapped(determinants, dependent, best)
