"""The list rule: SELECT DISTINCT of list columns over the overlap with the runner's tables, nothing else.

The rule of every table applies to its own columns, the runner's tables included: joinColumns only in JOIN
conditions, listColumns only in SELECT and WHERE. There must be at least one INNER JOIN, and every table of
somebody else must be joined, directly or through others, with a table of the runner. A result that feeds a
model is held to exactly the same. This module knows the list rule; it must not know text.
"""

from collections.abc import Mapping

from sqlglot import exp

from passbox.analysis.flat_query import FlatQuery, flatten, listed, names
from passbox.analysis.lineage import Lineage
from passbox.analysis.plan import Purpose, Table

_MATHS = (exp.Column, exp.Literal, exp.Placeholder, exp.Paren, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv,
          exp.Mod, exp.Neg)  # fmt: skip
_CONDITIONS = (*_MATHS, exp.And, exp.Or, exp.Not, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.In,
               exp.Between, exp.Like, exp.Is, exp.Null, exp.Boolean, exp.RawString)  # fmt: skip


def enforce(tree: exp.Query, facts: Lineage, tables: Mapping[str, Table], purpose: Purpose) -> bool:
    """Refuse what the list rule of a table refuses; never changes the tree."""
    query = flatten(tree, facts, tables, "list", ("distinct", "where", "limit"))
    if query.select.args.get("distinct") is None:
        raise query.refuse("querySyntax", "A list query must be SELECT DISTINCT.", query.select)
    for item in query.select.expressions:
        _only(item.this, _MATHS, query, "SELECT")
        if item.find(exp.Column) is None:
            raise query.refuse("querySyntax", f"The output {item.alias} has no column in it.", item)
    where = query.select.args.get("where")
    if where is not None:
        _only(where.this, _CONDITIONS, query, "WHERE")
    if not query.select.args.get("joins"):
        first = next(iter(query.sources.values()))
        raise query.refuse(
            "joinColumns",
            f"A query on {first.name} must have an INNER JOIN with a table of the member who runs it, on its "
            f"join columns: {listed(names(first, 'joinColumns'))}.",
            query.select.args["from_"],
            first,
            allowed=names(first, "joinColumns"),
        )
    connected = query.connected(purpose)
    for alias, table in query.sources.items():
        if alias not in connected:
            raise query.refuse(
                "joinColumns",
                f"{table.name} must be joined, directly or through others, with a table of the member who "
                f"runs the query, on its join columns: {listed(names(table, 'joinColumns'))}.",
                query.named(alias),
                table,
                allowed=names(table, "joinColumns"),
            )
    return False


def _only(node: exp.Expr, allowed: tuple[type[exp.Expr], ...], query: FlatQuery, clause: str) -> None:
    stack = [node]
    while stack:
        current = stack.pop()
        if not isinstance(current, allowed):
            what = (
                f"the function {current.this}"
                if isinstance(current, exp.Anonymous)
                else type(current).__name__
            )
            raise query.refuse(
                "querySyntax",
                f"In {clause} only columns and mathematical operators are allowed, not {what}.",
                current,
            )
        if not isinstance(current, exp.Column):
            stack.extend(current.iter_expressions())
            continue
        table = query.table(current)
        if current.args.get("db") is not None:
            raise query.refuse("listColumns", "A field of a struct is not a list column.", current, table)
        if current.name not in names(table, "listColumns"):
            raise query.refuse(
                "listColumns",
                f"{table.name}.{current.name} may not be used in {clause}; its list columns are: "
                f"{listed(names(table, 'listColumns'))}.",
                current,
                table,
                current.name,
                names(table, "listColumns"),
            )
