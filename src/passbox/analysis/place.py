"""Where in the text a node of the tree was written.

sqlglot notes on names, literals, stars and function calls at which character they start; every other node
starts where the first of these under it does. Offsets count characters from 0, lines and columns from 1.
This module knows positions; it must not know tables, columns or rules.
"""

from sqlglot import exp


def at(node: exp.Expr | None) -> int | None:
    """The offset at which a node starts, or else the nearest node around it that has one."""
    while node is not None:
        starts: list[int] = [
            part.meta["start"]
            for part in node.walk()
            # a hint is a comment, read as a text of its own
            if "start" in part.meta and part.find_ancestor(exp.Hint) is None
        ]
        if starts:
            return min(starts)
        node = node.parent
    return None


def of(query: str, offset: int) -> tuple[int, int]:
    """The line and the column of a character of the text."""
    before = query[:offset]
    return before.count("\n") + 1, offset - before.rfind("\n")


def name(written: str, origin: exp.Expr) -> exp.Identifier:
    """A quoted name that stands where `origin` stood."""
    identifier = exp.Identifier(this=written, quoted=True)
    start = origin.meta.get("start")
    if start is not None:
        identifier.meta["start"] = start
    return identifier
