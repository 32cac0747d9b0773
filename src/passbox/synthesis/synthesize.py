"""The door of the room: a table and a request in, synthetic rows and the ledger of what they cost out.

The order of the work: rows that count, domains, the class with each column, which columns go together,
their tables, a model of all of it, and rows drawn from the model. Only `Meter.release` lets numbers out of
the data.

"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa

from passbox.errors import JobFailed
from passbox.synthesis import dependency, modelling, sampling
from passbox.synthesis.accounting import Budget, Spend
from passbox.synthesis.encoding import Array, labels_only
from passbox.synthesis.feature import Feature, features
from passbox.synthesis.hold_out import ONE_IN
from passbox.synthesis.measurement import CHUNK, Meter
from passbox.synthesis.noise import Source
from passbox.synthesis.request import Request
from passbox.synthesis.target import Classes, classes
from passbox.synthesis.unit import bounded

COUNT, SCORE = "row count", "score"
ROW = "one row of the input"  # of a channel, that is the result of its query
COUNT_SHARE, DEPENDENCY_SHARE = Fraction(1, 200), Fraction(2, 100)


@dataclass(frozen=True)
class Synthetic:
    """table:   the synthetic rows: names, types and nullability of the input, a person's column aside,
    and no metadata.
    spends:  what the budget went for; the lines' ε add up to at most the ε asked, nearly all of it.
    epsilon, delta, rho: the claim, for the table, the domains and this ledger together; ρ is what zCDP it
    is.
    rows:    how many rows of the input counted, to within noise.
    unit:    what the claim protects, in words.
    domain:  column → what is public of it: values, or bounds, step and number of cells.
    private: False where the randomness could be repeated; then nothing is claimed.

    """

    table: pa.Table
    spends: tuple[Spend, ...]
    epsilon: Fraction
    delta: Fraction
    rho: Fraction
    rows: int
    unit: str
    domain: Mapping[str, Mapping[str, Any]]
    private: bool


def synthesize(
    table: pa.Table, request: Request, source: Source, progress: Callable[[str], None] = lambda _: None
) -> Synthetic:
    """Synthetic rows for a table.

    source: `Source(os.urandom, private=True)`, or `seeded(n)` to repeat a run, which is then not private.
    progress: called with a sentence as each part of the work begins; the sentences hold nothing of the
    data. Raises ValidationException for a request that does not fit the table and JobFailed for a column
    that cannot be synthesized.

    """
    plain = _plain(table)
    request.check({field.name: labels_only(field.type) for field in plain.schema})
    person = request.person
    meter = Meter(Budget(request.epsilon, request.delta, person.cap if person else 1), source, progress)
    budget = meter.budget
    if request.score:
        budget.spend(SCORE, budget.rho * request.score)
    counted = bounded(plain, person)
    noisy, _ = meter.release(COUNT, np.array([counted.num_rows]), budget.left * COUNT_SHARE)
    rows = max(1, int(noisy[0]))
    if rows < request.fewest * (ONE_IN - 1) / ONE_IN:
        raise JobFailed(
            "INVALID_SYNTHETIC_DATA_INPUT",
            f"Synthetic data is made from {request.fewest:,} rows or more; there are about "
            f"{rows * ONE_IN // (ONE_IN - 1):,}, as far as epsilon lets it be told. "
            "Select more, or raise epsilon.",
        )
    progress("Finding the domains of the columns.")
    every = features(counted, request, rows, meter)
    codes = {feature.name: feature.domain.encode(counted[feature.name]) for feature in every}
    made = _made(every, codes, request, rows, meter)
    # metadata may hold anything of the input, such as its number of rows
    out = [table.schema.field(name).remove_metadata() for name in table.schema.names if name in made]
    return Synthetic(
        pa.Table.from_arrays(
            [made[field.name].cast(field.type) for field in out],
            schema=pa.schema(out),
        ),
        tuple(budget.spends),
        request.epsilon,
        request.delta,
        budget.rho,
        rows,
        f"all rows of one {person.column}, of which {person.cap} count" if person else ROW,
        {feature.name: feature.domain.described() for feature in every},
        source.private,
    )


def _plain(table: pa.Table) -> pa.Table:
    """The table without dictionaries: the values themselves."""
    for at, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            plain = pa.field(field.name, field.type.value_type, field.nullable)
            table = table.set_column(at, plain, table[field.name].cast(field.type.value_type))
    return table


def _made(
    every: Sequence[Feature], codes: Mapping[str, Array], request: Request, rows: int, meter: Meter
) -> dict[str, pa.Array]:
    """Column → its synthetic values."""
    budget, generator = meter.budget, meter.source.generator()
    each = budget.left * DEPENDENCY_SHARE
    mapped = [dependency.learn(declared, every, codes, each, meter) for declared in request.dependencies]
    dependent = {known.dependent.name for known in mapped}
    target = next((feature for feature in every if feature.name == request.target), None)
    count = len(codes[every[0].name])
    given = classes(target, codes, rows, meter) if target else Classes.none(count)
    others = [f for f in every if f is not target and f.name not in dependent]
    learned = modelling.learn([codes[f.name] for f in others], others, given, rows, meter)
    meter.progress("Drawing rows.")
    drawn = _drawn(others, learned, request.rows or rows, generator)
    class_of = drawn.pop("")
    made = {f.name: f.decode(drawn[f.name], generator) for f in others}
    if target:
        drawn[target.name] = given.codes(target, class_of, generator)
        made[target.name] = target.decode(drawn[target.name], generator)
    return made | {known.dependent.name: known.values(drawn, generator) for known in mapped}


def _drawn(
    others: Sequence[Feature], learned: modelling.Learned, rows: int, generator: np.random.Generator
) -> dict[str, Array]:
    """Feature → the code of each row; under "" its class. Drawn in parts that the processor's caches hold,
    so that time grows with rows no faster than they do.
    """
    parts = [_part(others, learned, min(CHUNK, rows - start), generator) for start in range(0, rows, CHUNK)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _part(
    others: Sequence[Feature], learned: modelling.Learned, rows: int, generator: np.random.Generator
) -> dict[str, Array]:
    of = sampling.conditional(np.zeros(rows, np.uint8), learned.classes[None, :], generator)
    groups = sampling.rows(learned.model, of, generator) if learned.model else {}
    drawn = {"": of}
    for at, feature in enumerate(others):
        star = learned.stars[at]
        if at in learned.treed:
            group = groups[learned.treed.index(at)]
            drawn[feature.name] = sampling.below(group, feature.groups, star, of, generator)
        else:
            drawn[feature.name] = sampling.conditional(of, star, generator)
    return drawn
