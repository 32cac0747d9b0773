"""Codes into groups: neighbours that say the same of the class go together, so that cliques stay small.

Works on a released table of (class, code); costs no budget.
"""

import numpy as np

from passbox.synthesis.encoding import Array

_SHAPE = 0.05  # what a column's own distribution counts beside what it says of the class


def groups(table: Array, ordered: bool, most: int, least: float) -> Array:
    """code → group, from a non-negative table of (class, code).

    ordered: codes have an order and only neighbours are merged; else the class's share makes one. The last
    code, null, is at the end of either. most: how many groups at most; least: the rows that a group should
    have.

    """
    counts = np.asarray(table, dtype=np.float64)
    order = np.arange(counts.shape[1]) if ordered else _by_class(counts)
    parts = [counts[:, [at]] for at in order]
    columns = np.concatenate(parts, axis=1)
    members = [[int(at)] for at in order]
    costs = _costs(columns)
    while len(members) > 1:
        rows = columns.sum(axis=0)
        small = np.minimum(rows[:-1], rows[1:]) < least
        if len(members) <= most and not small.any():
            break
        at = int(np.argmin(np.where(small, costs, np.inf) if small.any() else costs))
        columns[:, at] += columns[:, at + 1]
        columns = np.delete(columns, at + 1, axis=1)
        members[at] += members.pop(at + 1)
        costs = np.delete(costs, at)
        for near in (at - 1, at):
            if 0 <= near < len(costs):
                costs[near] = _costs(columns[:, near : near + 2])[0]
    result = np.empty(counts.shape[1], dtype=np.intp)
    for group, codes in enumerate(members):
        result[codes] = group
    return result


def _by_class(counts: Array) -> Array:
    """Codes in the order of their class shares, along the direction in which these differ most; null last."""
    known = counts[:, :-1]
    rows = known.sum(axis=0)
    if len(counts) == 1:
        order = np.argsort(-rows, kind="stable")
    else:
        share = known / np.maximum(rows, 1e-9)
        middle = known.sum(axis=1, keepdims=True) / max(rows.sum(), 1e-9)
        apart = (share - middle) * np.sqrt(rows)
        direction = np.linalg.svd(apart @ apart.T)[0][:, 0]
        order = np.argsort(direction @ share, kind="stable")
    return np.append(order, len(rows))


def _costs(columns: Array) -> Array:
    """What is lost by merging each code with the next: nats of the class, and a little for the column
    itself.
    """
    left, right = columns[:, :-1], columns[:, 1:]
    apart = _nats(left).sum(axis=0) - _nats(left.sum(axis=0))
    apart += _nats(right).sum(axis=0) - _nats(right.sum(axis=0))
    both = left + right
    joined = _nats(both).sum(axis=0) - _nats(both.sum(axis=0))
    own = _nats(both.sum(axis=0)) - _nats(left.sum(axis=0)) - _nats(right.sum(axis=0))
    cost: Array = apart - joined + _SHAPE * own
    return cost


def _nats(counts: Array) -> Array:
    return counts * np.log(np.maximum(counts, 1e-12))
