"""The door of the room: a table and a request in, synthetic rows and the ledger of what they cost out.

A template of the work: domains, then the target with each column, then which columns go together, then those
cliques, then a model of all measurements, then rows drawn from it. Only `Meter.release` lets numbers out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa

from passbox.synthesis import accounting, discovery, feature, modelling, sampling
from passbox.synthesis.domain import Labels
from passbox.synthesis.encoding import labels_only
from passbox.synthesis.measurement import Meter
from passbox.synthesis.noise import Source
from passbox.synthesis.request import Request

COUNT, SCORE = "row count", "score"


@dataclass(frozen=True)
class Synthetic:
    """table:   the synthetic rows: names, types, nullability and metadata of the input, the person's column
    aside.
    spends:  what the budget went for; the lines' ε add up to at most the ε asked, nearly all of it.
    epsilon, delta: the claim, for the table, the domains and this ledger together.
    domain:  column → what is public of it: values, or bounds, step and number of cells.
    private: False where the randomness could be repeated; then nothing is claimed.
    """

    table: pa.Table
    spends: tuple[accounting.Spend, ...]
    epsilon: Fraction
    delta: Fraction
    domain: Mapping[str, Mapping[str, Any]]
    private: bool


def synthesize(
    table: pa.Table, request: Request, source: Source, progress: Callable[[str], None] = lambda _: None
) -> Synthetic:
    """Synthetic rows for a table.

    source: `Source(os.urandom, private=True)`, or `noise.seeded(n)` to repeat a run, which is then not
    private. Raises ValidationException for a request that does not fit the table and JobFailed for a column
    that cannot be synthesized.
    """
    request.check({field.name: labels_only(field.type) for field in table.schema})
    sensitivity = request.person.cap if request.person else 1
    budget = accounting.Budget(request.epsilon, request.delta, sensitivity)
    meter = Meter(budget, source, progress)
    if request.score:
        budget.spend(SCORE, budget.rho * request.score)
    whole = budget.left
    noisy, _ = meter.release(COUNT, np.array([table.num_rows]), whole / 200)
    rows = max(1, int(noisy[0]))
    features = _features(table, request, rows, whole / 10, meter)
    generator = source.generator()
    codes = {f.name: f.domain.encode(table[f.name]) for f in features}
    drawn = _draw(codes, features, request, rows, meter, generator)
    made = [drawn[name] for name in table.schema.names if name in drawn]
    kept = [table.schema.field(name) for name in table.schema.names if name in drawn]
    out = pa.Table.from_arrays(made, schema=pa.schema(kept, metadata=table.schema.metadata))
    domain = {f.name: {"size": f.size} for f in features}
    return Synthetic(out, tuple(budget.spends), request.epsilon, request.delta, domain, source.private)


def _features(
    table: pa.Table, request: Request, rows: int, rho: Fraction, meter: Meter
) -> list[feature.Feature]:
    found = []
    each = rho / (3 * len(request.columns))
    for spec in request.columns:
        column, field = table[spec.name], table.schema.field(spec.name)
        if spec.kind == "categorical":
            if spec.values is None:
                labels = discovery.labels(spec, column, rows, each, len(request.columns), meter)
            else:
                labels = Labels(pa.array(spec.values, field.type))
            found.append(feature.of_labels(spec.name, labels, field.nullable))
            continue
        if spec.low is None:
            low, high = discovery.bounds(spec, column, each, meter)
            floats = pa.types.is_floating(field.type)
            step = discovery.places(column, each, meter) if floats else 1
        else:
            low, high, step = discovery.declared(spec, field.type)
        fine = discovery.cells(field.type, low, high, step)
        shape = discovery.shape(column, fine, each, rows, meter)
        found.append(feature.of_numbers(spec.name, shape, field.nullable))
    return found


def _draw(
    codes: dict[str, Any],
    features: list[feature.Feature],
    request: Request,
    rows: int,
    meter: Meter,
    generator: np.random.Generator,
) -> dict[str, pa.Array]:
    """Learn, then draw."""
    wanted = request.rows or rows
    target = next((f for f in features if f.name == request.target), None)
    others = [f for f in features if f is not target]
    count = len(codes[features[0].name])
    given, size = np.zeros(count, dtype=np.uint8), 1
    if target is not None:
        given, size = codes[target.name], target.size
    learned = modelling.learn([codes[f.name] for f in others], others, given, size, rows, meter)
    classes = sampling.conditional(np.zeros(wanted, np.int64), learned.classes[None, :], generator)
    drawn: dict[str, pa.Array] = {}
    if target is not None:
        drawn[target.name] = target.decode(classes, generator)
    groups = sampling.rows(learned.model, classes, generator) if learned.model else {}
    place = {at: node for node, at in enumerate(learned.treed)}
    for at, f in enumerate(others):
        if at in place:
            new = sampling.below(groups[place[at]], f.groups, learned.stars[at], classes, generator)
        else:
            new = sampling.conditional(classes, learned.stars[at], generator)
        drawn[f.name] = f.decode(new, generator)
    return drawn
