"""aggregationThresholds of the custom rule: every row of a result must stand for enough distinct identities.

A query on such a table is one SELECT over joined tables that groups or aggregates, and to its HAVING is added
`COUNT(DISTINCT identity column) >= minimum` for every such table of its FROM: a group that stands for fewer
is left out and nothing says so. The minimum is the highest of those of the columns in the result:
outputColumnThresholds override the table's minimumIdentityCount column by column. A minimum of 0 exempts a
result only where no column of the table but exempt ones has any part in the query.

Whatever could hand out a single identity's values in spite of that is refused: other shapes (subqueries,
WITH, UNION, windows, SEMI and ANTI joins), aggregates over part of a group (FILTER), aggregates that give out
single values (MIN, MAX, FIRST, COLLECT_LIST and the like), and the identity column anywhere but in JOIN,
GROUP BY, WHERE and COUNT. Under COLUMNS_ONLY an aggregate takes a bare column or a constant. This module
knows thresholds; it must not know text.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlglot import exp

from passbox.analysis import functions, place
from passbox.analysis.comparisons import identity_column
from passbox.analysis.lineage import Lineage
from passbox.analysis.plan import Table
from passbox.errors import QueryRefused

_RULE = "custom.aggregationThresholds"
_SINGLE = (
    "SELECT … FROM … JOIN … WHERE … GROUP BY … HAVING … ORDER BY … LIMIT … with an aggregate or a GROUP BY"
)
# aggregates whose value is made of a whole group
_WHOLE = frozenset(
    """approx_count_distinct avg corr count count_if covar_pop covar_samp kurtosis mean regr_avgx regr_avgy
    regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy skewness std stddev stddev_pop
    stddev_samp sum try_avg try_sum var_pop var_samp variance""".split()  # noqa: SIM905 (as in functions.py)
)
_COUNTS = frozenset({"count", "approx_count_distinct"})
_TEXT_TYPES = ("string", "varchar", "char")


def enforce(tree: exp.Query, facts: Lineage, tables: Mapping[str, Table]) -> bool:
    """Refuse what a threshold cannot hold, and add those of all tables to HAVING; True where there were "
    "any."""
    held = {name: _threshold(table) for name, table in tables.items() if _has(table)}
    if not held:
        return False
    first = next(iter(held))
    select = _single(tree, first)
    aggregates = [node for node in select.find_all(exp.Anonymous) if node.this in functions.AGGREGATES]
    if not aggregates and select.args.get("group") is None:
        raise _refused(f"A query on {first} must group or aggregate: {_SINGLE}.", select, first)
    bare = any(threshold["allowedAggregateExpressionType"] != "ANY_EXPRESSION" for threshold in held.values())
    for node in aggregates:
        _aggregate(node, first, bare=bare)
    _identities(select, facts, tables)
    conditions = [
        condition
        for alias, name in facts.aliases.items()
        if name in held
        for condition in _conditions(alias, tables[name], held[name], facts, aggregates)
    ]
    _having(select, conditions)
    return bool(conditions)


def _has(table: Table) -> bool:
    return bool((table.rule or {}).get("aggregationThresholds"))


def _threshold(table: Table) -> Mapping[str, Any]:
    """The one threshold of a table, if it can be enforced."""
    [*thresholds] = (table.rule or {}).get("aggregationThresholds") or ()
    column = identity_column(table)
    types = {known.name.lower(): known.type.lower().partition("(")[0] for known in table.columns}
    sound = (
        len(thresholds) == 1
        and thresholds[0].get("type") == "COUNT_DISTINCT"
        and len(thresholds[0].get("identityColumns") or ()) == 1
        and types.get(str(column)) in _TEXT_TYPES
        and all(_whole(minimum, least) for minimum, least in _minima(thresholds[0]))
    )
    if not sound:
        raise _refused(
            f"The aggregation threshold of {table.name} on {column} cannot be enforced: it must be one "
            "COUNT_DISTINCT of one allowed column of type string with a minimum of at least 2.",
            None,
            table.name,
            column,
        )
    found: Mapping[str, Any] = {"allowedAggregateExpressionType": "COLUMNS_ONLY", **thresholds[0]}
    return found


def _minima(threshold: Mapping[str, Any]) -> Iterable[tuple[object, int]]:
    yield threshold.get("minimumIdentityCount"), 2
    for override in threshold.get("outputColumnThresholds") or ():
        yield override.get("minimumIdentityCount"), 0


def _whole(minimum: object, least: int) -> bool:
    return isinstance(minimum, int) and minimum >= least and minimum != 1


def _single(tree: exp.Query, table: str) -> exp.Select:
    """The query, if it is one SELECT over joined tables."""
    other: exp.Expr | None = tree if not isinstance(tree, exp.Select) else None
    other = other or next((node for node in tree.find_all(exp.Query) if node is not tree), None)
    other = other or tree.find(exp.Window, exp.Filter, exp.WithinGroup)
    other = other or next(
        (join for join in tree.find_all(exp.Join) if str(join.args.get("kind")).upper() in ("SEMI", "ANTI")),
        None,
    )
    if other is not None or not isinstance(tree, exp.Select):
        raise _refused(
            f"The aggregation threshold of {table} needs a query without subqueries, WITH, UNION, windows, "
            f"FILTER, "
            f"SEMI and ANTI joins: {_SINGLE}.",
            other,
            table,
        )
    return tree


def _aggregate(node: exp.Anonymous, table: str, *, bare: bool) -> None:
    if node.this not in _WHOLE:
        raise _refused(
            f"{node.this}() gives out values of single rows, which the aggregation threshold of {table} "
            f"does not "
            f"allow; allowed are {', '.join(sorted(_WHOLE))}.",
            node,
            table,
            allowed=sorted(_WHOLE),
        )
    for argument in node.expressions:
        for part in argument.expressions if isinstance(argument, exp.Distinct) else (argument,):
            if bare and part.find(exp.Column) is not None and not isinstance(part, exp.Column):
                raise _refused(
                    f"The aggregation threshold of {table} allows only bare columns and constants inside an "
                    f"aggregate, for example {node.this}(column).",
                    part,
                    table,
                )


def _identities(select: exp.Select, facts: Lineage, tables: Mapping[str, Table]) -> None:
    """Identity columns leave only as counts of themselves."""
    identities = {name: column for name in tables if (column := identity_column(tables[name])) is not None}
    parts = [*select.expressions, select.args.get("having"), select.args.get("order")]
    within = {id(node) for part in parts if part is not None for node in part.walk()}
    for mention in facts.mentions:
        if (
            id(mention.node) not in within
            or not isinstance(mention.node, exp.Column)
            or not mention.node.table
        ):
            continue
        for source in sorted(mention.sources):
            if source.column.lower() == identities.get(source.table) and not _counted(mention.node):
                raise _refused(
                    f"{source.table}.{source.column} is the identity column of an aggregation threshold and "
                    f"may "
                    f"only be counted in a result: COUNT(DISTINCT {source.column}).",
                    mention.node,
                    source.table,
                    source.column,
                )


def _counted(node: exp.Expr) -> bool:
    parent = node.parent.parent if isinstance(node.parent, exp.Distinct) else node.parent
    return isinstance(parent, exp.Anonymous) and parent.this in _COUNTS and len(parent.expressions) == 1


def _conditions(
    alias: str,
    table: Table,
    threshold: Mapping[str, Any],
    facts: Lineage,
    aggregates: Iterable[exp.Anonymous],
) -> Iterable[exp.Expr]:
    minimum = _minimum(table, threshold, facts, aggregates)
    if minimum:
        names = {column.name.lower(): column.name for column in table.columns}
        column = exp.Column(
            this=exp.to_identifier(names[str(identity_column(table))], quoted=True),
            table=exp.to_identifier(alias, quoted=True),
        )
        counted = exp.Anonymous(this="count", expressions=[exp.Distinct(expressions=[column])])
        yield exp.GTE(this=counted, expression=exp.Literal.number(minimum))


def _minimum(
    table: Table, threshold: Mapping[str, Any], facts: Lineage, aggregates: Iterable[exp.Anonymous]
) -> int:
    """The least number of identities of one table that each row of this result must stand for."""
    default = int(threshold["minimumIdentityCount"])
    own = {
        str(override.get("outputColumnName")).lower(): int(override["minimumIdentityCount"])
        for override in threshold.get("outputColumnThresholds") or ()
    }
    minima = {
        own.get(source.column.lower(), default)
        for output in facts.outputs
        for source in output.sources
        if source.table == table.name
    }
    for node in aggregates:
        # COUNT(*), and a sum over a table that this one is joined with: each row of this table weighs in
        if table.name not in {facts.aliases.get(column.table) for column in node.find_all(exp.Column)}:
            minima.add(default)
    if max(minima, default=0):
        return max(minima)
    columns = facts.reads[table.name]
    return 0 if columns and all(own.get(column.lower()) == 0 for column in columns) else default


def _having(select: exp.Select, conditions: list[exp.Expr]) -> None:
    having = select.args.get("having")
    terms = [exp.Paren(this=having.this), *conditions] if having is not None else conditions
    together = terms[0] if conditions else None
    for term in terms[1:]:
        together = exp.And(this=together, expression=term)
    if together is not None:
        select.set("having", exp.Having(this=together))


def _refused(
    message: str,
    node: exp.Expr | None,
    table: str,
    column: str | None = None,
    allowed: Iterable[object] = (),
) -> QueryRefused:
    return QueryRefused(message, rule=_RULE, table=table, column=column, allowed=allowed, at=place.at(node))
