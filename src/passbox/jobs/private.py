"""Results under differential privacy: exact integers from the engine, noise, and then the receivers' files.

The exact integers are one small file in the job's scratch, which nothing delivers from, and are gone before
the job has a result. Every measure of every cell gets noise; what is told follows from noisy integers alone,
so nothing after that can cost privacy.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from passbox.analysis.bounded import GRAIN, Aggregate, Bounded, Key, Value
from passbox.backends import trees
from passbox.backends.engines import writer
from passbox.backends.engines.base import Target, Written
from passbox.disclosure import noise

Cell = tuple[int, ...]
Sampler = Callable[[Sequence[int], int, int], list[int]]  # exact values, sensitivity, micro-epsilon → noisy


def tell(bounded: Bounded, exact: Path, targets: Sequence[Target], epsilon: int, written: Written) -> Written:
    """Reads the exact integers that the engine wrote (Parquet), removes them, and writes noisy rows.

    epsilon: of each measure, in millionths. Returns what was written, with what the engine used.
    """
    import pyarrow as pa

    try:
        integers = _read(bounded, exact)
    finally:
        trees.remove(exact)
    rows = disclose(bounded, integers, epsilon)
    names, types = zip(*columns(bounded), strict=True)
    schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in zip(names, types, strict=True)])
    arrays = [pa.array(values, schema.field(i).type) for i, values in enumerate(zip(*rows, strict=True))]
    results = []
    for target in targets:
        writer.check(schema, target.format)
        file_bytes = None if target.single_file else writer.FILE_BYTES
        options = writer.Options(file_bytes=file_bytes)
        results.append(writer.Parts(schema, target.directory, target.format, options))
    counted = writer.fill([pa.RecordBatch.from_arrays(arrays, schema=schema)], results)
    return replace(written, rows=counted.rows, files=counted.files, bytes=counted.bytes)


def _read(bounded: Bounded, exact: Path) -> dict[Cell, list[int]]:
    """cell → measures."""
    import pyarrow.parquet as parquet

    names = [f"k{i}" for i in range(len(bounded.groups))]
    measures = [f"m{i}" for i in range(len(bounded.sensitivities))]
    cells = {}
    for file in sorted(exact.iterdir()):
        for row in parquet.read_table(file).to_pylist():
            cells[tuple(int(row[name]) for name in names)] = [int(row[name]) for name in measures]
    return cells


def disclose(
    bounded: Bounded, exact: Mapping[Cell, Sequence[int]], epsilon: int, sampler: Sampler = noise.laplace
) -> list[tuple[Any, ...]]:
    """The rows that may be told: one for every cell, in the order in which the query spells the keys out.

    exact: cell → its measures, cells without rows left out. epsilon: of each measure, in millionths.
    """
    zeros = [0] * len(bounded.sensitivities)
    places = cells(bounded)
    table = [exact.get(place, zeros) for place in places]
    noisy = [
        sampler([int(row[i]) for row in table], sensitivity, epsilon)
        for i, sensitivity in enumerate(bounded.sensitivities)
    ]
    return [
        tuple(
            bounded.groups[output.column][cell[output.column]]
            if isinstance(output, Key)
            else _value(output, [noisy[i][number] for i in output.measures])
            for output in bounded.outputs
        )
        for number, cell in enumerate(places)
    ]


def cells(bounded: Bounded) -> list[Cell]:
    """Every cell that the query spells out, in order."""
    return list(itertools.product(*(range(len(values)) for values in bounded.groups)))


def columns(bounded: Bounded) -> Iterator[tuple[str, str]]:
    """Name and Arrow type of what `disclose` gives."""
    for output in bounded.outputs:
        if isinstance(output, Key):
            yield output.name, _arrow(bounded.groups[output.column])
        else:
            yield output.name, "int64" if output.type in ("COUNT", "COUNT_DISTINCT") else "float64"


def _arrow(values: Sequence[Value]) -> str:
    kinds = {type(value) for value in values if value is not None}
    return {bool: "bool", int: "int64"}.get(kinds.pop(), "string") if kinds else "string"


def _value(aggregate: Aggregate, measures: Sequence[int]) -> float | int:
    """An aggregate from its noisy measures."""
    if aggregate.low is None or aggregate.high is None:
        return measures[0]
    low, high = aggregate.low, aggregate.high
    if aggregate.type == "SUM":
        return measures[0] * max(-low, high) / GRAIN
    middle, half = (low + high) / 2, (high - low) / 2
    count = max(1, measures[1])
    mean = max(-1.0, min(1.0, measures[0] / GRAIN / count))
    if aggregate.type == "AVG":
        return middle + half * mean
    spread = max(0.0, min(1.0, measures[2] / GRAIN / count) - mean * mean)
    if aggregate.sample:
        spread *= count / max(1, count - 1)
    return half * math.sqrt(spread)
