"""Junction trees: which cliques a graph over features needs so that its model can be computed exactly.

The class (the target's groups, or one class where there is no target) is in every clique and is not a node
here. Public structure only; this module knows neither data nor counts.

"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

Pair = tuple[int, int]
Clique = tuple[int, ...]


@dataclass(frozen=True)
class Link:
    """A clique below another: `shared` are the nodes of both."""

    above: int
    below: int
    shared: Clique


@dataclass(frozen=True)
class Junction:
    """cliques, the first is a root; links in an order in which each `above` comes before its `below`.

    Cliques of separate components are linked with nothing shared but the class.
    """

    cliques: tuple[Clique, ...]
    links: tuple[Link, ...]

    def holder(self, nodes: Iterable[int]) -> int:
        """The first clique that has all these nodes."""
        wanted = set(nodes)
        return next(at for at, clique in enumerate(self.cliques) if wanted <= set(clique))


def spanning_tree(weights: Mapping[Pair, float]) -> list[Pair]:
    """The edges of a maximum spanning forest; edges of weight 0 or less are left out (Kruskal)."""
    root: dict[int, int] = {}

    def find(node: int) -> int:
        while root.setdefault(node, node) != node:
            root[node] = root[root[node]]
            node = root[node]
        return node

    chosen = []
    for pair in sorted(weights, key=lambda p: (-weights[p], p)):
        if weights[pair] > 0 and find(pair[0]) != find(pair[1]):
            root[find(pair[0])] = find(pair[1])
            chosen.append(pair)
    return chosen


def cliques_of(nodes: Sequence[int], edges: Iterable[Pair], sizes: Mapping[int, int]) -> list[Clique]:
    """The maximal cliques of the graph made chordal; next out is the node whose clique has the fewest
    cells.
    """
    near: dict[int, set[int]] = {node: set() for node in nodes}
    for a, b in edges:
        near[a].add(b)
        near[b].add(a)
    found: list[set[int]] = []
    waiting = set(nodes)
    cost = {node: _cells(near[node] | {node}, sizes) for node in nodes}
    while waiting:
        out = min(waiting, key=lambda node: (cost[node], node))
        around = near[out]
        clique = around | {out}
        if not any(clique <= other for other in found):
            found.append(clique)
        waiting.discard(out)
        for node in around:
            near[node] |= around - {node}
            near[node].discard(out)
        for node in around:
            cost[node] = _cells(near[node] | {node}, sizes)
    return [tuple(sorted(clique)) for clique in found]


def _cells(nodes: Iterable[int], sizes: Mapping[int, int]) -> int:
    return prod(sizes[node] for node in nodes)


def junction(nodes: Sequence[int], edges: Iterable[Pair], sizes: Mapping[int, int]) -> Junction:
    """The junction tree of a graph: cliques joined where they share most (Prim)."""
    cliques = sorted(cliques_of(nodes, edges, sizes), key=lambda clique: (-_cells(clique, sizes), clique))
    sets = [set(clique) for clique in cliques]
    links: list[Link] = []
    best = {at: (len(sets[0] & sets[at]), 0) for at in range(1, len(cliques))}
    while best:
        below = max(best, key=lambda at: (best[at][0], -at))
        _, above = best.pop(below)
        links.append(Link(above, below, tuple(sorted(sets[above] & sets[below]))))
        for at, (shared, _) in best.items():
            more = len(sets[below] & sets[at])
            if more > shared:
                best[at] = (more, below)
    return Junction(tuple(cliques), tuple(links))
