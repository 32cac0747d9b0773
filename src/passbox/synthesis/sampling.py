"""Drawing rows from a private model, stratified: a share p of n rows gets n·p of them, to within one. Tables
of more than a million rows are drawn in parts.

Everything here works on what has been released, so it costs no budget and needs no secrecy. This module
knows arrays only.

"""

import numpy as np

from passbox.synthesis import inference
from passbox.synthesis.encoding import Array
from passbox.synthesis.measurement import smallest


def conditional(given: Array, table: Array, generator: np.random.Generator) -> Array:
    """One code for each row from the distribution table[given[row]]; table: non-negative, rows need not add
    to 1.

    Rows with the same `given` take the quantiles (rank + u)/n of their distribution in random order.
    """
    strata, size = table.shape
    weights = np.where(table.sum(axis=1, keepdims=True) > 0, table, 1.0)
    cumulative = np.cumsum(weights, axis=1)
    cumulative /= cumulative[:, -1:]
    cumulative[:, -1] = 1.0
    quantile = _quantiles(given, strata, generator)
    flat = (cumulative + np.arange(strata)[:, None]).ravel()
    found = np.searchsorted(flat, given + quantile, side="right")
    codes: Array = np.minimum(found - given.astype(np.int64) * size, size - 1)
    return codes


def rows(model: inference.Model, classes: Array, generator: np.random.Generator) -> dict[int, Array]:
    """node → group of each row, given the class of each row: from the root of the tree downwards."""
    tree, drawn = model.tree, dict[int, Array]()
    for at, clique in enumerate([tree.cliques[0], *(tree.cliques[link.below] for link in tree.links)]):
        table = model.tables[0] if at == 0 else model.tables[tree.links[at - 1].below]
        new = [node for node in clique if node not in drawn]
        known = [node for node in clique if node in drawn]
        axes = [0, *(1 + clique.index(node) for node in known), *(1 + clique.index(node) for node in new)]
        ordered = table.transpose(axes)
        given = classes.astype(np.int64)
        for place, node in enumerate(known):
            given = given * ordered.shape[1 + place] + drawn[node]
        sizes = ordered.shape[1 + len(known) :]
        found = conditional(given, ordered.reshape(-1, int(np.prod(sizes, dtype=np.int64))), generator)
        for node, codes in zip(new, np.unravel_index(found, sizes), strict=True):
            drawn[node] = codes.astype(np.uint8)
    return drawn


def below(groups: Array, of: Array, star: Array, classes: Array, generator: np.random.Generator) -> Array:
    """A code for each row within its group, by the (class, code) table. of: code → group."""
    order = np.argsort(of, kind="stable")
    first = np.searchsorted(of[order], np.arange(int(of.max()) + 1))
    size, count = len(of), len(first)
    starts = (np.arange(len(star))[:, None] * size + first).ravel()
    ends = np.append(starts[1:], len(star) * size)
    chosen = within(
        classes.astype(np.int64) * count + groups, starts, ends, star[:, order].ravel(), generator
    )
    codes: Array = order[chosen % size]
    return codes


def _quantiles(given: Array, strata: int, generator: np.random.Generator) -> Array:
    """(rank + u)/n of each row among the n with the same `given`, ranks in random order, u shared by them."""
    shuffled = generator.permutation(len(given))
    order = shuffled[np.argsort(smallest(given[shuffled], strata), kind="stable")]  # narrow: a radix sort
    counts = np.bincount(given, minlength=strata)
    first = np.cumsum(counts) - counts
    rank = np.arange(len(given)) - np.repeat(first, counts)
    quantile = np.empty(len(given))
    quantile[order] = (rank + np.repeat(generator.random(strata), counts)) / np.repeat(
        np.maximum(counts, 1), counts
    )
    below: Array = np.minimum(quantile, 1 - 2**-30)
    return below


def within(codes: Array, starts: Array, ends: Array, weights: Array, generator: np.random.Generator) -> Array:
    """A cell of starts[code] … ends[code]−1 for each row, by weight; where all weights are 0, any of them."""
    length = ends - starts
    blank = np.add.reduceat(weights, starts) <= 0
    filled = weights + np.repeat(blank, length)
    before = np.concatenate([[0.0], np.cumsum(filled)])
    low, high = before[starts], before[ends]
    place = low[codes] + generator.random(len(codes)) * (high - low)[codes]
    found = np.searchsorted(before, place, side="right") - 1
    cells: Array = np.clip(found, starts[codes], ends[codes] - 1)
    return cells
