"""Going through a syntax tree, and comparing two: sqlglot's own ways take a generator for every node.

This module knows that a tree has nodes; it must not know what they mean.
"""

from sqlglot import exp


def children(node: exp.Expr) -> list[exp.Expr]:
    """The nodes right under one, in order."""
    found: list[exp.Expr] = []
    for part in node.args.values():
        if isinstance(part, exp.Expr):
            found.append(part)
        elif isinstance(part, list):
            found += [one for one in part if isinstance(one, exp.Expr)]
    return found


def nodes(tree: exp.Expr, leave: tuple[type[exp.Expr], ...] = ()) -> list[exp.Expr]:
    """All nodes, level by level, each before what is under it; nothing of what is under one to `leave`."""
    found = [tree]
    for node in found:  # grows as it is read
        if not (leave and isinstance(node, leave)):
            found += children(node)
    return found


def copied(node: exp.Expr) -> exp.Expr:
    """A tree like the one under a node, which stands nowhere; its places in the text are kept."""
    parts = {
        name: copied(part)
        if isinstance(part, exp.Expr)
        else [copied(one) if isinstance(one, exp.Expr) else one for one in part]
        if isinstance(part, list)
        else part
        for name, part in node.args.items()
    }
    made = type(node)(**parts)
    if (start := node.meta_get("start")) is not None:
        made.meta["start"] = start
    return made


def put(node: exp.Expr, other: exp.Expr) -> None:
    """Puts another node in the place of one, in constant time: sqlglot's `replace` visits all siblings."""
    parent, part, index = node.parent, node.arg_key, node.index
    if parent is None or part is None:
        return
    if index is None:
        parent.args[part] = other
    else:
        parent.args[part][index] = other
    node.parent = node.arg_key = node.index = None
    other.parent, other.arg_key, other.index = parent, part, index


def same(one: exp.Expr, other: exp.Expr) -> bool:
    """Whether two trees are node for node the same, so that they have the same text.

    Whether a name was quoted does not count, nor does a part that is there but empty.
    """
    stack: list[tuple[object, object]] = [(one, other)]
    while stack:
        left, right = stack.pop()
        if type(left) is not type(right):
            return False
        if isinstance(left, exp.Expr) and isinstance(right, exp.Expr):
            parts, others = left.args, right.args
            for part, value in parts.items():
                meant = others.get(part)
                if value is not meant and (value or meant) and part != "quoted":
                    stack.append((value, meant))
            if any(others[part] for part in others if part not in parts and part != "quoted"):
                return False
        elif isinstance(left, list) and isinstance(right, list):
            if len(left) != len(right):
                return False
            stack += zip(left, right, strict=True)
        elif left != right:
            return False
    return True
