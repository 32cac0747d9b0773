"""Long chains of AND and OR, cut by brackets into parts, so that nothing that reads them must recurse deeply.

`a OR b OR c …` is a tree as high as it is long, and an engine that recurses ends on a few hundred terms. Both
operators are associative, NULLs included, so brackets change no answer. This module knows the two operators
only.
"""

import re
from collections.abc import Iterable

from sqlglot import exp

LONGEST = 64  # terms of a chain that is left alone
_OPERATORS = re.compile(r"(?i)\b(?:and|or)\b")


def cut(tree: exp.Query, query: str) -> None:
    """Write the chains of `tree`, that of the text `query`, in place as chains of at most LONGEST terms."""
    if len(_OPERATORS.findall(query)) < LONGEST:
        return
    found = [
        node
        for node in tree.find_all(exp.And, exp.Or)
        if type(node.parent) is not type(node) and _longer(node, LONGEST)
    ]
    for node in found:
        terms = _terms(node)
        while len(terms) > LONGEST:
            terms = [
                exp.Paren(this=_chain(type(node), terms[start : start + LONGEST]))
                for start in range(0, len(terms), LONGEST)
            ]
        node.replace(_chain(type(node), terms))


def _longer(node: exp.Expr, length: int) -> bool:
    current = node
    while type(current.this) is type(node) and length > 0:
        current, length = current.this, length - 1
    return length == 0


def _terms(node: exp.Expr) -> list[exp.Expr]:
    terms: list[exp.Expr] = []
    current = node
    while type(current) is type(node):
        terms.append(current.expression)
        current = current.this
    return [current, *reversed(terms)]


def _chain(kind: type[exp.Expr], terms: Iterable[exp.Expr]) -> exp.Expr:
    first, *rest = terms
    for term in rest:
        first = kind(this=first, expression=term)
    return first
