"""A model that agrees with all measured marginals: iterative proportional fitting on a junction tree.

Every array has the class as its first axis and a clique's nodes, in order, as the others. A sweep walks the
tree once, down and up again; at each clique it moves the clique's own table towards each target inside it
(Jiroušek and Přeučil 1995). For a table of non-negative, consistent targets of a tree one sweep is exact.
Post-processing only: this module sees released numbers.

"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from passbox.synthesis.encoding import Array
from passbox.synthesis.junction import Clique, Junction

_SMALL = 1e-12


@dataclass(frozen=True)
class Target:
    """A released marginal of the class and `nodes`, without negative cells."""

    nodes: tuple[int, int]
    table: Array


@dataclass
class Model:
    """A junction tree and the table of each clique; all tables agree where they overlap and add up to the
    rows.
    """

    tree: Junction
    tables: list[Array]

    def marginal(self, nodes: Sequence[int]) -> Array:
        """The model's counts of (class, *nodes), for nodes that share a clique; nodes sorted."""
        at = self.tree.holder(nodes)
        return _onto(self.tables[at], self.tree.cliques[at], nodes)


def _onto(table: Array, clique: Clique, nodes: Sequence[int]) -> Array:
    """The sum of a table over the nodes that are not wanted."""
    axes = tuple(1 + at for at, node in enumerate(clique) if node not in nodes)
    summed: Array = table.sum(axis=axes) if axes else table
    return summed


def _along(factor: Array, clique: Clique, nodes: Sequence[int]) -> Array:
    """A table of fewer nodes in a shape that multiplies a clique's."""
    sizes = iter(factor.shape[1:])
    return factor.reshape(factor.shape[0], *(next(sizes) if node in nodes else 1 for node in clique))


def fit(
    tree: Junction,
    prior: Mapping[int, Array],
    targets: Sequence[Target],
    sweeps: int,
) -> Model:
    """The model nearest to independence (given the class) that meets the targets.

    prior: node → its table with the class, which the model starts from.
    """
    tables = []
    for clique in tree.cliques:
        table = np.ones(tuple(1 for _ in range(len(clique) + 1)))
        for node in clique:
            start = prior[node]
            share = start / np.maximum(start.sum(axis=1, keepdims=True), _SMALL)
            table = table * _along(share, clique, (node,))
        classes = prior[clique[0]].sum(axis=1)
        tables.append(np.ascontiguousarray(table * classes.reshape(-1, *[1] * len(clique))))
    held: dict[int, list[Target]] = {}
    for target in targets:
        held.setdefault(tree.holder(target.nodes), []).append(target)
    model = Model(tree, tables)
    for _ in range(sweeps):
        _sweep(model, held)
    _settle(model)
    return model


def _sweep(model: Model, held: Mapping[int, Sequence[Target]]) -> None:
    """Down the tree, each clique towards its targets as it is reached; then up, so that all agree again."""
    tree, tables = model.tree, model.tables
    _meet(tables, tree, 0, held)
    for link in tree.links:
        _pass(model, link.above, link.below, link.shared)
        _meet(tables, tree, link.below, held)
    for link in reversed(tree.links):
        _pass(model, link.below, link.above, link.shared)


def _meet(tables: list[Array], tree: Junction, at: int, held: Mapping[int, Sequence[Target]]) -> None:
    clique = tree.cliques[at]
    for target in held.get(at, ()):
        now = _onto(tables[at], clique, target.nodes)
        factor = (target.table + _SMALL) / (now + _SMALL)
        tables[at] *= _along(factor, clique, target.nodes)


def _pass(model: Model, giver: int, taker: int, shared: Clique) -> None:
    """The taker's table gets the giver's marginal of what they share."""
    tree, tables = model.tree, model.tables
    new = _onto(tables[giver], tree.cliques[giver], shared)
    old = _onto(tables[taker], tree.cliques[taker], shared)
    tables[taker] *= _along((new + _SMALL) / (old + _SMALL), tree.cliques[taker], shared)


def _settle(model: Model) -> None:
    """One more way down, so that every table agrees with the root's."""
    for link in model.tree.links:
        _pass(model, link.above, link.below, link.shared)
