"""A column as the model sees it, at three grains: finest cells, codes, and groups of codes.

Values of a column become codes (labels, or intervals of at most some hundred); codes are grouped by what
they say of the target, so that cliques of several columns stay small. What is below a group is drawn from
the noisy table of (target, code); what is below a code from the noisy histogram of the finest cells.
"""

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pyarrow as pa

from passbox.synthesis import discovery
from passbox.synthesis import request as asked
from passbox.synthesis.discovery import Shape
from passbox.synthesis.domain import Cells, Labels, merged
from passbox.synthesis.encoding import Array, whole_step
from passbox.synthesis.measurement import Meter
from passbox.synthesis.request import Request
from passbox.synthesis.sampling import within

PARTS = 48  # into which codes cut a numeric column, spikes aside
SPIKE = 1 / 1000  # of the rows: a single value that is as common has a code of its own
MOST_SPIKES = 80


DOMAIN_SHARE, DOMAIN_EACH = Fraction(15, 100), Fraction(1, 100)  # of the budget: at most, and for each column


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


def of_numbers(name: str, shape: Shape, nullable: bool, least: float) -> Feature:
    """The feature of a numerical column: common values by themselves, and intervals of about the same
    weight.

    least: the rows that a code should have, so that it stands out of the noise.

    """
    weights = shape.weights
    total = max(float(weights.sum()), 1e-9)
    spikes = np.nonzero(weights > max(total * SPIKE, least))[0]
    spikes = spikes[np.argsort(-weights[spikes], kind="stable")[:MOST_SPIKES]]
    rest = weights.copy()
    rest[spikes] = 0
    middle = np.cumsum(rest) - rest / 2
    part = np.floor(middle / max(float(rest.sum()) / PARTS, least))
    starts = np.unique(np.concatenate([[0], np.nonzero(np.diff(part))[0] + 1, spikes, spikes + 1]))
    starts = starts[starts < len(weights)]
    coarse = merged(shape.cells, starts)
    return Feature(name, coarse, coarse.possible(nullable and shape.nulls > 0), shape, starts)


def features(table: pa.Table, request: Request, rows: int, meter: Meter) -> list[Feature]:
    """Domains and shapes of all columns, declared or discovered."""
    fields = {spec.name: table.schema.field(spec.name) for spec in request.columns}
    needs = {spec.name: _need(spec, fields[spec.name].type) for spec in request.columns}
    whole = meter.budget.left
    every = sum(needs.values())
    if every:
        whole = min(whole * DOMAIN_SHARE, whole * DOMAIN_EACH * every)
    discovered = sum(spec.kind == "categorical" and spec.values is None for spec in request.columns)
    found = []
    for spec in request.columns:
        column, field = table[spec.name], fields[spec.name]
        each = whole / max(every, 1)
        if spec.kind == "categorical":
            if spec.values is None:
                labels = discovery.labels(spec, column, rows, each, discovered, meter)
            else:
                labels = Labels(pa.array(spec.values, field.type))
            found.append(of_labels(spec.name, labels, field.nullable))
            continue
        if spec.low is None:
            if pa.types.is_integer(field.type):
                discovery.repeats(spec, column, rows, each / 8, meter)
            low, high = discovery.bounds(spec, column, each, meter)
            floats = pa.types.is_floating(field.type)
            step = discovery.places(column, each / 4, meter) if floats else whole_step(field.type)
            low, high = discovery.on_steps(low, high, step)
        else:
            low, high, step = discovery.declared(spec, field.type)
        fine = discovery.cells(field.type, low, high, step)
        shape = discovery.shape(column, fine, each * 3 / 2, rows, meter)
        least = 2 * meter.deviation(meter.budget.left / (5 * len(fields)))
        found.append(of_numbers(spec.name, shape, field.nullable, least))
    return found


def _need(spec: asked.Column, kind: pa.DataType) -> Fraction:
    """In how many parts of the domains' budget a column takes part."""
    if spec.kind == "categorical":
        return Fraction(spec.values is None)
    bounds = Fraction(0) if spec.low is not None else Fraction(10 if pa.types.is_floating(kind) else 9, 8)
    return Fraction(3, 2) + bounds
