"""The shape that list and aggregation rules demand: one SELECT over INNER JOINs of tables, nothing nested.

Joins compare join columns by `=` only, combined by the operators that every table of the query allows.
`pairs` keeps which tables are surely joined: both sides of an AND hold, of an OR only what both branches
share, so that a condition that is always true joins nothing. This module knows shapes and join columns; it
must not know what else a rule allows.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from passbox.analysis import place
from passbox.analysis.lineage import Lineage
from passbox.analysis.plan import Purpose, Table
from passbox.errors import QueryRefused

Pair = frozenset[str]


@dataclass(frozen=True)
class FlatQuery:
    """A resolved query of one SELECT.

    kind:    `list` or `aggregation`, the first word of a refusal's rule
    sources: alias → table, for every table of the FROM clause
    pairs:   pairs of aliases that are surely joined by equal join columns
    """

    kind: str
    select: exp.Select
    sources: Mapping[str, Table]
    pairs: frozenset[Pair]

    def table(self, column: exp.Column) -> Table:
        """The table that a resolved column belongs to."""
        return self.sources[column.table]

    def named(self, alias: str) -> exp.Expr | None:
        """Where the FROM clause names the table of an alias."""
        found = self.select.find_all(exp.Table)
        return next((table for table in found if table.alias == alias), None)

    def connected(self, purpose: Purpose) -> frozenset[str]:
        """The aliases joined with a table of the runner, directly or through others; its own included."""
        reached = {alias for alias, table in self.sources.items() if table.owner == purpose.runner}
        grew = True
        while grew:
            more = {alias for pair in self.pairs if pair & reached for alias in pair}
            grew = not more <= reached
            reached |= more
        return frozenset(reached)

    def refuse(
        self,
        rule: str,
        message: str,
        node: exp.Expr | None,
        table: Table | None = None,
        column: str | None = None,
        allowed: Iterable[object] = (),
    ) -> QueryRefused:
        """A refusal by a member of this rule, for example `listColumns`, of what is at `node`."""
        return QueryRefused(
            message,
            rule=f"{self.kind}.{rule}",
            table=table.name if table else None,
            column=column,
            allowed=sorted(map(str, allowed)),
            at=place.at(node),
        )


def names(table: Table, member: str) -> frozenset[str]:
    """A list of column names in a table's rule, lower-case."""
    return frozenset(str(name).lower() for name in (table.rule or {}).get(member) or ())


def flatten(
    tree: exp.Query, facts: Lineage, tables: Mapping[str, Table], kind: str, clauses: Iterable[str]
) -> FlatQuery:
    """Refuse any other shape; `clauses` are the parts that a SELECT may have beside its list and FROM."""
    shape = _Shape(kind)
    if not isinstance(tree, exp.Select):
        raise shape.refused("UNION, INTERSECT and EXCEPT are not allowed", tree.expression)
    for node in tree.find_all(exp.Query):
        if node is not tree:
            raise shape.refused("Subqueries and WITH are not allowed", node)
    allowed = {"expressions", "from_", "joins", *clauses}
    for part, value in tree.args.items():
        if value and part not in allowed:
            name = "SELECT DISTINCT" if part == "distinct" else part.rstrip("_").upper()
            raise shape.refused(f"{name} is not allowed", value if isinstance(value, exp.Expr) else tree)
    if window := tree.find(exp.Window):
        raise shape.refused("Window functions are not allowed", window)
    sources = {alias: tables[name] for alias, name in facts.aliases.items()}
    plain = FlatQuery(kind, tree, sources, frozenset())
    pairs: set[Pair] = set()
    for join in tree.args.get("joins") or ():
        joined = str(join.args.get("kind") or "").upper()
        if join.args.get("side") or joined not in ("", "INNER") or join.args.get("on") is None:
            raise shape.refused("Only INNER JOIN … ON is allowed between tables", join)
        pairs |= _condition(join.args["on"], plain)
    return FlatQuery(kind, tree, sources, frozenset(pairs))


_FORMS = {
    "list": "SELECT DISTINCT … FROM … INNER JOIN … ON … WHERE … LIMIT …",
    "aggregation": "SELECT … FROM … INNER JOIN … ON … WHERE … GROUP BY … HAVING … ORDER BY …",
}


@dataclass(frozen=True)
class _Shape:
    kind: str

    def refused(self, what: str, node: exp.Expr) -> QueryRefused:
        return QueryRefused(
            f"{what} under {self.kind} analysis rules; allowed is {_FORMS[self.kind]}.",
            rule=f"{self.kind}.querySyntax",
            at=place.at(node),
        )


def _condition(on: exp.Expr, query: FlatQuery) -> set[Pair]:
    if isinstance(on, exp.Paren):
        return _condition(on.this, query)
    if isinstance(on, exp.And | exp.Or):
        operator = "AND" if isinstance(on, exp.And) else "OR"
        for table in query.sources.values():
            _operator(operator, on, table, query)
        branches = [_condition(branch, query) for branch in on.flatten()]
        if operator == "AND":
            return set().union(*branches)
        return set.intersection(*branches)
    if not isinstance(on, exp.EQ):
        raise query.refuse("joinColumns", "A JOIN condition may only compare join columns by =.", on)
    sides = (on.this, on.expression)
    for side in sides:
        if not isinstance(side, exp.Column):
            raise query.refuse(
                "joinColumns", "A JOIN condition may only compare bare columns, one with another.", side
            )
        table = query.table(side)
        if side.args.get("db") is not None or side.name not in names(table, "joinColumns"):
            raise query.refuse(
                "joinColumns",
                f"{table.name}.{side.name} may not be used in a JOIN; its join columns are: "
                f"{listed(names(table, 'joinColumns'))}.",
                side,
                table,
                side.name,
                names(table, "joinColumns"),
            )
    pair = frozenset(side.table for side in sides)
    if len(pair) != 2:
        raise query.refuse(
            "joinColumns", "A JOIN condition must compare columns of two different tables.", on
        )
    return {pair}


def _operator(operator: str, node: exp.Expr, table: Table, query: FlatQuery) -> None:
    rule: Mapping[str, Any] = table.rule or {}
    allowed = rule.get("allowedJoinOperators")
    # the service model says: default is AND; an empty list is the owner's own word
    allowed = ["AND"] if allowed is None else allowed
    if operator not in allowed:
        raise query.refuse(
            "allowedJoinOperators",
            f"{operator} in a JOIN condition is not allowed by {table.name}; it allows: {listed(allowed)}.",
            node,
            table,
            allowed=allowed,
        )


def columns(node: exp.Expr) -> Iterator[exp.Column]:
    """The columns under a node that belong to a table (an output's alias has none)."""
    for column in node.find_all(exp.Column):
        if column.table:
            yield column


def listed(values: Iterable[object]) -> str:
    """Values for a message."""
    return ", ".join(sorted(map(str, values))) or "none"
