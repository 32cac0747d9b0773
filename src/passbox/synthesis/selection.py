"""Which columns go together: scores of pairs, released together, and the tree and further edges chosen by
them.

The score of a pair is by how many rows the exact table of (class, a, b) differs from what was already known
of it, which is public by then and rounded to whole numbers; so one row more or less changes a score by at
most 1.

"""

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from passbox.synthesis.encoding import Array
from passbox.synthesis.junction import Pair
from passbox.synthesis.measurement import CHUNK, Meter

SELECTION = "selection"


def scores(
    codes: Sequence[Array],
    classes: Array,
    known: Mapping[Pair, Array],
    rho: Fraction,
    meter: Meter,
) -> dict[Pair, float]:
    """Pair → noisy number of rows in which data and `known` (class, a, b) differ."""
    pairs = list(known)
    exact = np.zeros(len(pairs), dtype=np.int64)
    for at, (pair, counts) in enumerate(zip(pairs, tables(codes, classes, known), strict=True)):
        exact[at] = np.abs(counts - np.rint(known[pair]).astype(np.int64)).sum()
    noisy, _ = meter.release(SELECTION, exact, rho, together=len(pairs))
    return {pair: float(value) for pair, value in zip(pairs, noisy, strict=True)}


def tables(codes: Sequence[Array], classes: Array, shapes: Mapping[Pair, Array]) -> list[Array]:
    """The exact (class, a, b) tables of pairs; the class and a are put into one code once for all b."""
    found = [np.zeros(shape.size, dtype=np.int64) for shape in shapes.values()]
    for start in range(0, max(len(classes), 1), CHUNK):
        stop = start + CHUNK
        last, left = -1, np.zeros(0, dtype=np.intp)
        for at, ((a, b), shape) in enumerate(shapes.items()):
            _, size_a, size_b = shape.shape
            if a != last:
                left = classes[start:stop].astype(np.intp) * size_a + codes[a][start:stop]
                last = a
            found[at] += np.bincount(left * size_b + codes[b][start:stop], minlength=shape.size)
    return [counts.reshape(shape.shape) for counts, shape in zip(found, shapes.values(), strict=True)]


def chained(
    tree: Sequence[Pair], tables: Mapping[Pair, Array], singles: Sequence[Array]
) -> dict[Pair, Array]:
    """What a tree of (class, a, b) tables says of every pair: the tables multiplied along the path."""
    near: dict[int, list[int]] = {}
    for a, b in tree:
        near.setdefault(a, []).append(b)
        near.setdefault(b, []).append(a)
    found: dict[Pair, Array] = {}
    for start in range(len(singles)):
        reached = {start}
        edge: list[tuple[int, Array | None]] = [(start, None)]
        while edge:
            here, joint = edge.pop()
            for there in near.get(here, []):
                if there in reached:
                    continue
                reached.add(there)
                table = tables[(here, there)] if here < there else tables[(there, here)].transpose(0, 2, 1)
                share = table / np.maximum(table.sum(axis=2, keepdims=True), 1e-9)
                new = table if joint is None else joint @ share
                edge.append((there, new))
                if start < there:
                    found[(start, there)] = new
    return found
