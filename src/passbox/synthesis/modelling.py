"""From codes to a model: the class with each column, the tree, further edges, and tables that agree with
all of it.

What is released here is charged by `Meter.release`; everything between two releases is post-processing.

"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from passbox.synthesis import denoise, inference, selection
from passbox.synthesis.encoding import Array
from passbox.synthesis.feature import Feature
from passbox.synthesis.grouping import groups
from passbox.synthesis.junction import Pair, cliques_of, junction, spanning_tree
from passbox.synthesis.measurement import Meter, histogram, project
from passbox.synthesis.target import Classes

STAR, CLIQUES = "class with each column", "cliques"
STAR_SHARE, TREE_SHARE, EDGES_SHARE = Fraction(24, 100), Fraction(6, 100), Fraction(4, 100)
HANGING_SHARE = Fraction(70, 100)
CLIQUE_CELLS, ALL_CELLS = 400_000, 2_000_000
MOST_GROUPS = 20
TREED = 60  # columns that may have cliques of their own; the others hang on the class alone
UNTARGETED = 150  # the same where there is no target: what columns say of each other is all there is to keep
SWEEPS = 12
EDGES = 2.5  # cliques for each column: one for the tree, the others for what the tree misses


@dataclass(frozen=True)
class Learned:
    """classes: rows of each class. stars: (class, code) of each feature. model: over the groups of the
    features in `treed`, in that order; None where there are none.
    """

    classes: Array
    stars: list[Array]
    treed: list[int]
    model: inference.Model | None


def learn(
    codes: Sequence[Array], features: Sequence[Feature], classes: Classes, rows: float, meter: Meter
) -> Learned:
    """The model of columns given the class; spends what is left.

    codes: of each feature's rows.
    """
    given, size = classes.of, classes.size
    meter.progress("Measuring the target with each column.")
    whole = meter.budget.left
    if not features:  # every other column follows from the target
        noisy, _ = meter.release(STAR, histogram([given], [size]), whole)
        return Learned(project(noisy, rows), [], [], None)
    most = _most_treed(size, rows, whole * TREE_SHARE, meter)
    hanging = max(0, len(features) - most)  # columns that have no other table
    share = STAR_SHARE + (HANGING_SHARE - STAR_SHARE) * hanging / len(features)
    if len(features) == 1:
        share = Fraction(1)  # there is nothing else to measure
    stars, variance = _stars(codes, features, given, size, rows, whole * share, meter)
    treed = _treed(stars, variance, most)
    if len(treed) < 2:
        return Learned(stars[0].sum(axis=1), stars, [], None)
    each = (whole - whole * (share + TREE_SHARE + EDGES_SHARE)) / int(len(treed) * EDGES)
    _group(features, stars, treed, rows, meter.deviation(each), size, variance)
    coarse = [features[at].groups[codes[at]].astype(np.uint8) for at in treed]
    singles = [_summed(stars[at], features[at].groups) for at in treed]
    model = _cliques(coarse, singles, given, each, whole, meter)
    for at, node in zip(treed, range(len(treed)), strict=True):
        stars[at] = _within(stars[at], features[at].groups, model.marginal((node,)))
    return Learned(model.marginal(()), stars, treed, model)


def _stars(
    codes: Sequence[Array],
    features: Sequence[Feature],
    given: Array,
    size: int,
    rows: float,
    rho: Fraction,
    meter: Meter,
) -> tuple[list[Array], float]:
    noisy, deviation = [], 0.0
    for feature, code in zip(features, codes, strict=True):
        counts = histogram([given, code], [size, feature.size])
        released, deviation = meter.release(STAR, counts, rho / len(features))
        noisy.append(released)
        ends = (-1, -2) if feature.shape is None else (-1,)  # null and, of labels, the rest
        for last in ends:
            if released[:, last].sum() < 3 * deviation * size**0.5:
                feature.possible[last] = False  # none, as far as can be told
    sums = [table.sum(axis=1) for table in noisy]
    classes, _ = denoise.combined(sums, [table.shape[1] for table in noisy])
    classes = project(classes, rows)
    return [
        denoise.settled(table, np.broadcast_to(feature.possible, table.shape), rows, classes)
        for table, feature in zip(noisy, features, strict=True)
    ], deviation**2


def _most_treed(size: int, rows: float, rho: Fraction, meter: Meter) -> int:
    """How many columns may have cliques. With one class, as many as keep the noise of the pairs' scores
    within a tenth of the rows; a target is worth more than further pairs.
    """
    if size > 1:
        return TREED
    pairs = rows**2 / (10 * meter.deviation(rho)) ** 2
    return int(np.clip((2 * pairs) ** 0.5, TREED, UNTARGETED))


def _treed(stars: Sequence[Array], variance: float, most: int) -> list[int]:
    """The columns that say most of the class, all of them where they are few; with one class, those with the
    fewest codes.
    """
    if len(stars) <= most:
        return list(range(len(stars)))
    classes = stars[0].sum(axis=1)
    gain = []
    for star in stars:
        flat = classes[:, None] * star.sum(axis=0) / max(classes.sum(), 1e-9)
        gain.append(np.abs(star - flat).sum() - star.size * variance**0.5)
    return sorted(int(at) for at in np.argsort(-np.array(gain), kind="stable")[:most])


def _group(
    features: Sequence[Feature],
    stars: Sequence[Array],
    treed: Sequence[int],
    rows: float,
    deviation: float,
    size: int,
    variance: float,
) -> None:
    """As many groups as the noise of a clique's cells allows."""
    most = int(np.clip((0.4 * rows / (deviation * size)) ** 0.5, 2, MOST_GROUPS))
    for at in treed:
        feature = features[at]
        feature.groups = groups(stars[at], feature.shape is not None, most, 2 * (variance * size) ** 0.5)


def _summed(star: Array, of: Array) -> Array:
    """(class, group) of (class, code)."""
    result = np.zeros((star.shape[0], int(of.max()) + 1))
    for code, group in enumerate(of):
        result[:, group] += star[:, code]
    return result


def _within(star: Array, of: Array, coarse: Array) -> Array:
    """(class, code) that adds up to (class, group)."""
    now = _summed(star, of)
    scaled: Array = star * (coarse / np.maximum(now, 1e-9))[:, of]
    return scaled


def _cliques(
    coarse: Sequence[Array],
    singles: list[Array],
    given: Array,
    each: Fraction,
    whole: Fraction,
    meter: Meter,
) -> inference.Model:
    """The tree, what else is worth its noise, and the model of both; a clique costs `each`."""
    meter.progress("Choosing which columns go together.")
    nodes = range(len(coarse))
    sizes = {node: singles[node].shape[1] for node in nodes}
    flat = {(a, b): denoise.independent(singles[a], singles[b]) for a in nodes for b in nodes if a < b}
    found = selection.scores(coarse, given, flat, whole * TREE_SHARE, meter)
    cost = {pair: 0.2 * meter.deviation(each) * flat[pair].size for pair in flat}
    net = {pair: found[pair] - cost[pair] for pair in flat}
    lowest = min(net.values())
    tree = spanning_tree(net) or spanning_tree({pair: net[pair] - lowest + 1 for pair in flat})
    raw = _released(coarse, given, {pair: flat[pair] for pair in sorted(tree)}, each, meter)
    targets = {target.nodes: target.table for target in _targets(raw, flat, singles)}
    known = {**flat, **selection.chained(tree, targets, singles)}
    rest = sorted((pair for pair in flat if pair not in raw), key=lambda pair: -net[pair])[: 4 * len(coarse)]
    more: list[Pair] = []
    if rest:
        open_pairs = {pair: known[pair] for pair in sorted(rest)}
        residual = selection.scores(coarse, given, open_pairs, whole * EDGES_SHARE, meter)
        classes, most = singles[0].shape[0], int(meter.budget.left / each)
        more = _further(residual, cost, list(raw), sizes, classes, most)
    bought = {pair: flat[pair] for pair in sorted(more or raw)}  # none worth it: the tree is measured again
    for pair, again in _released(coarse, given, bought, meter.budget.left / len(bought), meter).items():
        first = [raw[pair]] if pair in raw else []
        tables, variances = zip(*first, again, strict=True)
        raw[pair] = denoise.combined(tables, variances)
    meter.progress("Fitting the model.")
    prior = {node: singles[node] for node in nodes}
    return inference.fit(junction(list(nodes), raw, sizes), prior, _targets(raw, flat, singles), SWEEPS)


def _released(
    coarse: Sequence[Array], given: Array, shapes: dict[Pair, Array], each: Fraction, meter: Meter
) -> dict[Pair, tuple[Array, float]]:
    """Pair → its noisy (class, a, b) table and the variance of its cells; each costs `each`."""
    exact = selection.tables(coarse, given, shapes)
    variance = meter.deviation(each) ** 2
    return {
        pair: (meter.release(CLIQUES, counts, each)[0], variance)
        for pair, counts in zip(shapes, exact, strict=True)
    }


def _targets(
    raw: dict[Pair, tuple[Array, float]], flat: dict[Pair, Array], singles: list[Array]
) -> list[inference.Target]:
    """Consistent, denoised tables of the measured pairs."""
    targets = []
    for (a, b), (noisy, variance) in raw.items():
        table = denoise.shrunk(noisy, flat[a, b], variance)
        table = denoise.raked(table, [(1, singles[a]), (2, singles[b])])
        targets.append(inference.Target((a, b), table))
    return targets


def _further(
    gains: dict[Pair, float],
    cost: dict[Pair, float],
    edges: list[Pair],
    sizes: dict[int, int],
    classes: int,
    most: int,
) -> list[Pair]:
    """Edges worth their noise, best first, while the cliques stay within the caps."""
    chosen: list[Pair] = []
    for pair in sorted(gains, key=lambda p: cost[p] - gains[p]):
        if len(chosen) >= most or gains[pair] <= cost[pair]:
            break
        cliques = cliques_of(list(sizes), [*edges, *chosen, pair], sizes)
        cells = [classes * int(np.prod([sizes[node] for node in clique])) for clique in cliques]
        if max(cells) <= CLIQUE_CELLS and sum(cells) <= ALL_CELLS:
            chosen.append(pair)
    return chosen
