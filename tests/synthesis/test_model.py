"""Junction trees and the fit on them: against brute force over the whole table, small enough to write out."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passbox.synthesis import denoise, sampling
from passbox.synthesis.inference import Target, fit
from passbox.synthesis.junction import cliques_of, junction, spanning_tree
from passbox.synthesis.measurement import histogram, project

NODES = range(5)
EDGES = [(a, b) for a in NODES for b in NODES if a < b]
SIZES = {0: 2, 1: 3, 2: 2, 3: 4, 4: 3}
CLASSES = 2
graphs = st.sets(st.sampled_from(EDGES), max_size=8)


def whole(seed: int) -> np.ndarray:
    """A positive table of the class and all five nodes."""
    return np.random.default_rng(seed).gamma(0.7, size=(CLASSES, *SIZES.values())) * 100 + 0.1


def onto(table: np.ndarray, nodes: tuple[int, ...]) -> np.ndarray:
    return table.sum(axis=tuple(1 + node for node in NODES if node not in nodes))


@settings(max_examples=60, deadline=None)
@given(graphs)
def test_a_junction_tree_holds_every_edge_and_runs_without_a_break(edges: set[tuple[int, int]]) -> None:
    tree = junction(list(NODES), edges, SIZES)
    for pair in edges:
        tree.holder(pair)
    assert set().union(*map(set, tree.cliques)) == set(NODES)
    assert len(tree.links) == len(tree.cliques) - 1
    reached = {0}
    for link in tree.links:
        assert link.above in reached
        reached.add(link.below)
    for node in NODES:  # the cliques of a node are one piece of the tree
        own = {at for at, clique in enumerate(tree.cliques) if node in clique}
        inside = [link for link in tree.links if node in link.shared]
        assert len(inside) == len(own) - 1
    assert not any(set(a) < set(b) for a, b in itertools.permutations(tree.cliques, 2))
    assert sorted(map(tuple, cliques_of(list(NODES), edges, SIZES))) == sorted(tree.cliques)


@settings(max_examples=40, deadline=None)
@given(graphs, st.integers(0, 1000))
def test_a_fit_meets_its_targets_and_its_tables_agree(edges: set[tuple[int, int]], seed: int) -> None:
    real = whole(seed)
    prior = {node: onto(real, (node,)) for node in NODES}
    targets = [Target(pair, onto(real, pair)) for pair in sorted(edges)]
    model = fit(junction(list(NODES), edges, SIZES), prior, targets, sweeps=60)
    for target in targets:
        assert (
            np.abs(model.marginal(target.nodes) - target.table).max() < 0.01 * real.sum() / target.table.size
        )
    for link in model.tree.links:
        sides = [
            model.tables[at].sum(
                axis=tuple(1 + i for i, node in enumerate(model.tree.cliques[at]) if node not in link.shared)
            )
            for at in (link.above, link.below)
        ]
        assert np.allclose(*sides, rtol=1e-6)
    assert model.marginal(()) == pytest.approx(real.sum(axis=(1, 2, 3, 4, 5)), rel=1e-6)


def test_a_tree_is_exact_and_nothing_is_added_to_it() -> None:
    real = whole(1)
    edges = [(0, 1), (1, 2), (1, 3), (3, 4)]
    prior = {node: onto(real, (node,)) for node in NODES}
    targets = [Target(pair, onto(real, pair)) for pair in edges]
    model = fit(junction(list(NODES), edges, SIZES), prior, targets, sweeps=2)
    (a, b), (c, d) = [(onto(real, (0, 1)), onto(real, (1,))), (onto(real, (1, 2)), None)]
    chain = a[:, :, :, None] * (c / b[:, :, None])[:, None]  # 0 and 2 are independent given 1 and the class
    drawn = sampling.rows(model, np.repeat([0, 1], [200_000, 200_000]), np.random.default_rng(0))
    classes = np.repeat([0, 1], [200_000, 200_000])
    found = histogram([classes, drawn[0], drawn[1], drawn[2]], [2, 2, 3, 2]) / 200_000
    assert d is None
    assert found == pytest.approx(chain / chain.sum(axis=(1, 2, 3), keepdims=True), abs=0.006)


def test_a_spanning_tree_is_the_heaviest_and_leaves_out_what_weighs_nothing() -> None:
    weights = {(0, 1): 5.0, (1, 2): 4.0, (0, 2): 4.5, (2, 3): -1.0}
    assert spanning_tree(weights) == [(0, 1), (0, 2)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30), st.floats(0, 500))
def test_a_projection_is_the_nearest_histogram(noisy: list[float], total: float) -> None:
    found = project(np.array(noisy), total)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(total, abs=1e-6)
    moved = np.array(noisy) - found  # optimal: the same shift wherever something is left, more below
    kept = found > 1e-9
    if kept.any():
        assert np.ptp(moved[kept]) < 1e-6
        assert (moved[~kept] <= moved[kept].max() + 1e-6).all()


def test_what_is_within_the_noise_is_expected_and_what_is_far_beyond_is_believed() -> None:
    expected = np.full((2, 30, 30), 20.0)
    noisy = expected + np.random.default_rng(0).normal(0, 10, expected.shape)
    noisy[0, 0, 0] = 500
    found = denoise.shrunk(noisy, expected, 100.0)
    assert found[0, 0, 0] > 480
    assert np.abs(found - expected)[1].mean() < 0.35 * np.abs(noisy - expected)[1].mean()


def test_strata_get_their_share_to_within_one() -> None:
    given = np.repeat([0, 1, 2], [1000, 300, 7])
    table = np.array([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    codes = sampling.conditional(given, table, np.random.default_rng(1))
    counts = histogram([given, codes], [3, 3])
    assert np.abs(counts[0] - [1000 / 6, 2000 / 6, 500]).max() <= 1
    assert counts[1].tolist() == [0, 300, 0]
    assert counts[2].max() <= 3
