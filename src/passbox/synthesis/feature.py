"""A column as the model sees it, at three grains: finest cells, codes, and groups of codes.

Values of a column become codes (labels, or intervals of at most some hundred); codes are grouped by what
they say of the target, so that cliques of several columns stay small. What is below a group is drawn from
the noisy table of (target, code); what is below a code from the noisy histogram of the finest cells.
"""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from passbox.synthesis.discovery import Shape
from passbox.synthesis.domain import Cells, Labels, merged
from passbox.synthesis.encoding import Array
from passbox.synthesis.sampling import within

PARTS = 48  # into which codes cut a numeric column, spikes aside
SPIKE = 1 / 400  # of the rows: a single value that is as common has a code of its own
MOST_SPIKES = 80


@dataclass
class Feature:
    """domain: of the codes. possible: which may be made. groups: code → group. shape, starts: of numbers,
    which
    finest cell each code starts at."""

    name: str
    domain: Labels | Cells
    possible: Array
    shape: Shape | None = None
    starts: Array | None = None
    groups: Array = field(default_factory=lambda: np.zeros(0, np.intp))

    def __post_init__(self) -> None:
        if not len(self.groups):
            self.groups = np.arange(self.size)

    @property
    def size(self) -> int:
        """The number of codes."""
        return self.domain.size

    @property
    def coarse(self) -> int:
        """The number of groups."""
        return int(self.groups.max()) + 1

    def decode(self, codes: Array, generator: np.random.Generator) -> pa.Array:
        """Values of codes: of numbers, a finest cell within the code's interval first."""
        if self.shape is None or self.starts is None:
            return self.domain.decode(codes, generator)
        fine = self.shape.cells
        ends = np.append(self.starts[1:], fine.size - 1)
        cell = np.full(len(codes), fine.size - 1, dtype=np.int64)
        known = codes < len(self.starts)
        cell[known] = within(codes[known], self.starts, ends, self.shape.weights, generator)
        return fine.decode(cell, generator)


def of_labels(name: str, labels: Labels, nullable: bool) -> Feature:
    """The feature of a categorical column."""
    return Feature(name, labels, labels.possible(nullable))


def of_numbers(name: str, shape: Shape, nullable: bool) -> Feature:
    """The feature of a numerical column: intervals of about the same weight, and common values by
    themselves.
    """
    weights = shape.weights
    total = max(float(weights.sum()), 1e-9)
    middle = np.cumsum(weights) - weights / 2
    part = np.floor(middle / total * PARTS)
    spikes = np.nonzero(weights > total * SPIKE)[0]
    spikes = spikes[np.argsort(-weights[spikes], kind="stable")[:MOST_SPIKES]]
    starts = np.unique(np.concatenate([[0], np.nonzero(np.diff(part))[0] + 1, spikes, spikes + 1]))
    starts = starts[starts < len(weights)]
    coarse = merged(shape.cells, starts)
    return Feature(name, coarse, coarse.possible(nullable), shape, starts)
