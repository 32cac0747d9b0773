"""The aggregation rule: COUNT, SUM and AVG along dimensions, with small groups dropped.

The rule of every table applies to its own columns, the runner's tables included. An aggregate takes one bare
column and is allowed column by column (aggregateColumns); dimension columns may be in SELECT, WHERE, GROUP BY
and ORDER BY, under at most one scalar function that every table of the query allows; HAVING compares
aggregates; join columns are only for INNER JOIN. Every output constraint of every table becomes a condition
of HAVING, the highest minimum of a column winning, whether or not the query uses the column: a group below
the minimum is left out and nothing says so. This module knows the aggregation rule; it must not know text.
"""

from collections.abc import Mapping
from typing import Any

from sqlglot import exp

from passbox.analysis.flat_query import FlatQuery, flatten, listed, names
from passbox.analysis.lineage import Lineage
from passbox.analysis.plan import Purpose, Table
from passbox.errors import QueryRefused

# the rule's name of a scalar function → Spark's functions that it covers; what depends on the time of the run
# (CURRENT_DATE, GETDATE) and what Spark does not have (CONVERT) covers none
_SCALAR: Mapping[str, tuple[str, ...]] = {
    "ABS": ("abs",),
    "CEILING": ("ceiling", "ceil"),
    "COALESCE": ("coalesce",),
    "DATEADD": ("dateadd", "date_add"),
    "EXTRACT": ("date_part", "datepart"),
    "FLOOR": ("floor",),
    "LN": ("ln",),
    "LOG": ("log",),
    "LOWER": ("lower", "lcase"),
    "ROUND": ("round",),
    "RTRIM": ("rtrim",),
    "SQRT": ("sqrt",),
    "SUBSTRING": ("substring", "substr"),
    "TO_CHAR": ("to_char",),
    "TO_DATE": ("to_date",),
    "TO_NUMBER": ("to_number",),
    "TO_TIMESTAMP": ("to_timestamp",),
    "TRIM": ("trim", "btrim"),
    "TRUNC": ("trunc",),
    "UPPER": ("upper", "ucase"),
}
_NAME_OF = {spark: name for name, covered in _SCALAR.items() for spark in covered}
_AGGREGATES = {
    ("count", False): "COUNT",
    ("count", True): "COUNT_DISTINCT",
    ("sum", False): "SUM",
    ("sum", True): "SUM_DISTINCT",
    ("avg", False): "AVG",
}
_VALUES = (exp.Literal, exp.RawString, exp.Placeholder, exp.Null, exp.Boolean)
_CONDITIONS = (exp.And, exp.Or, exp.Not, exp.Paren, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.In,
               exp.Between, exp.Like, exp.Is)  # fmt: skip


def enforce(tree: exp.Query, facts: Lineage, tables: Mapping[str, Table], purpose: Purpose) -> bool:
    """Refuse what the aggregation rule of a table refuses, and add its output constraints to HAVING."""
    query = flatten(tree, facts, tables, "aggregation", ("where", "group", "having", "order"))
    select = query.select
    aggregates = 0
    for item in select.expressions:
        if _is_aggregate(item.this):
            aggregates += 1
            _aggregate(item.this, query)
        else:
            _dimension(item.this, query, "SELECT")
    if aggregates == 0:
        raise query.refuse("querySyntax", "The query must select at least one COUNT, SUM or AVG.", select)
    if (where := select.args.get("where")) is not None:
        _conditions(where.this, query, "WHERE")
    if (group := select.args.get("group")) is not None:
        for item in group.expressions:
            _dimension(item, query, "GROUP BY")
    if (having := select.args.get("having")) is not None:
        _conditions(having.this, query, "HAVING")
    if (order := select.args.get("order")) is not None:
        for item in order.expressions:
            if _is_aggregate(item.this):
                _aggregate(item.this, query)
            else:
                _dimension(item.this, query, "ORDER BY")
    _joined(query, purpose)
    _constrain(query)
    return True


def _is_aggregate(node: exp.Expr) -> bool:
    return isinstance(node, exp.Anonymous) and node.this not in _NAME_OF


def _aggregate(node: exp.Expr, query: FlatQuery) -> None:
    arguments = node.expressions
    distinct = len(arguments) == 1 and isinstance(arguments[0], exp.Distinct)
    if distinct:
        arguments = arguments[0].expressions
    function = _AGGREGATES.get((node.this, distinct))
    if function is None:
        name = f"{node.this}(DISTINCT …)" if distinct else node.this
        raise query.refuse(
            "aggregateColumns",
            f"{name} is not allowed; allowed are COUNT, COUNT DISTINCT, SUM, SUM DISTINCT and AVG.",
            node,
            allowed=_AGGREGATES.values(),
        )
    if len(arguments) != 1 or not isinstance(arguments[0], exp.Column) or not arguments[0].table:
        raise query.refuse("aggregateColumns", f"{function} must be given exactly one bare column.", node)
    column = arguments[0]
    table = query.table(column)
    allowed: set[str] = set()
    for entry in (table.rule or {}).get("aggregateColumns") or ():
        if entry.get("function") == function:
            allowed |= {str(name).lower() for name in entry.get("columnNames") or ()}
    if column.args.get("db") is not None or column.name not in allowed:
        raise query.refuse(
            "aggregateColumns",
            f"{function} of {table.name}.{column.name} is not allowed; it is allowed for: {listed(allowed)}.",
            column,
            table,
            column.name,
            allowed,
        )


def _dimension(node: exp.Expr, query: FlatQuery, clause: str) -> None:
    """A dimension column, bare or under one scalar function; or an output's name or position."""
    if isinstance(node, exp.Paren):
        _dimension(node.this, query, clause)
    elif isinstance(node, exp.Column):
        _dimension_column(node, query, clause)
    elif isinstance(node, exp.Literal) and clause in ("GROUP BY", "ORDER BY"):
        return
    elif isinstance(node, exp.Anonymous | exp.Cast | exp.TryCast | exp.Extract):
        _scalar(node, query, clause)
    else:
        raise query.refuse(
            "dimensionColumns",
            f"In {clause} only dimension columns, under at most one scalar function, are allowed.",
            node,
        )


def _dimension_column(node: exp.Column, query: FlatQuery, clause: str) -> None:
    if not node.table:
        if clause == "HAVING":
            raise query.refuse(
                "querySyntax", f"In HAVING write the aggregate again instead of {node.name}.", node
            )
        return  # an output's name: the output itself is checked where it is selected
    table = query.table(node)
    if node.args.get("db") is not None or node.name not in names(table, "dimensionColumns"):
        raise query.refuse(
            "dimensionColumns",
            f"{table.name}.{node.name} may not be used in {clause}; its dimension columns are: "
            f"{listed(names(table, 'dimensionColumns'))}.",
            node,
            table,
            node.name,
            names(table, "dimensionColumns"),
        )


def _scalar(node: exp.Expr, query: FlatQuery, clause: str) -> None:
    if isinstance(node, exp.Anonymous):
        name, arguments = _NAME_OF.get(node.this, str(node.this).upper()), node.expressions
    elif isinstance(node, exp.Extract):
        name, arguments = "EXTRACT", [node.expression]
    elif node.args.get("safe"):
        name, arguments = "TRY_CAST", [node.this]
    else:
        name, arguments = "CAST", [node.this]
    for table in query.sources.values():
        allowed = (table.rule or {}).get("scalarFunctions") or ()
        if name not in allowed:
            raise query.refuse(
                "scalarFunctions",
                f"The function {name} is not allowed by {table.name}; it allows: {listed(allowed)}.",
                node,
                table,
                allowed=allowed,
            )
    found = False
    for argument in arguments:
        if isinstance(argument, exp.Column) and argument.table:
            _dimension_column(argument, query, clause)
            found = True
        elif not isinstance(argument, _VALUES) and not _is_number(argument):
            raise query.refuse(
                "scalarFunctions",
                f"{name} may only be given dimension columns and values, nothing nested.",
                argument,
            )
    if not found:
        raise query.refuse("scalarFunctions", f"{name} must be given a dimension column.", node)


def _is_number(node: exp.Expr) -> bool:
    return isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal)


def _conditions(node: exp.Expr, query: FlatQuery, clause: str) -> None:
    stack = [node]
    while stack:
        current = stack.pop()
        if isinstance(current, _CONDITIONS):
            stack.extend(current.iter_expressions())
        elif isinstance(current, _VALUES) or _is_number(current):
            continue
        elif clause == "HAVING" and _is_aggregate(current):
            _aggregate(current, query)
        elif clause == "HAVING":
            raise query.refuse(
                "querySyntax", "HAVING may only compare COUNT, SUM and AVG with values.", current
            )
        else:
            _dimension(current, query, clause)


def _joined(query: FlatQuery, purpose: Purpose) -> None:
    connected = query.connected(purpose)
    for alias, table in query.sources.items():
        if (table.rule or {}).get("joinRequired") and alias not in connected:
            raise query.refuse(
                "joinRequired",
                f"{table.name} must be joined, directly or through others, with a table of the member who "
                f"runs the query, on its join columns: {listed(names(table, 'joinColumns'))}.",
                query.named(alias),
                table,
                allowed=names(table, "joinColumns"),
            )


def _constrain(query: FlatQuery) -> None:
    conditions: list[exp.Expr] = []
    for alias, table in query.sources.items():
        for column, minimum in sorted(_constraints(table, query).items()):
            counted = exp.Distinct(expressions=[_column(alias, column)])
            conditions.append(
                exp.GTE(
                    this=exp.Anonymous(this="count", expressions=[counted]),
                    expression=exp.Literal.number(minimum),
                )
            )
    having = query.select.args.get("having")
    together = conditions[0] if having is None else exp.Paren(this=having.this)
    for condition in conditions[1:] if having is None else conditions:
        together = exp.And(this=together, expression=condition)
    query.select.set("having", exp.Having(this=together))


def _constraints(table: Table, query: FlatQuery) -> Mapping[str, int]:
    """Column → the least number of distinct values that a group must hold."""
    minima: dict[str, int] = {}
    entries: list[Mapping[str, Any]] = list((table.rule or {}).get("outputConstraints") or ())
    known = {column.name for column in table.columns}
    for entry in entries:
        column, minimum = str(entry.get("columnName")).lower(), entry.get("minimum")
        sound = entry.get("type") == "COUNT_DISTINCT" and isinstance(minimum, int) and minimum >= 2
        if not sound or not isinstance(minimum, int) or column not in known:
            raise _unsound(table, query, column)
        minima[column] = max(minimum, minima.get(column, 0))
    if not minima:
        raise _unsound(table, query, None)
    return minima


def _unsound(table: Table, query: FlatQuery, column: str | None) -> QueryRefused:
    return query.refuse(
        "outputConstraints",
        f"The output constraint on {table.name}.{column or '(none)'} cannot be enforced: a rule must have at "
        "least one COUNT_DISTINCT of an allowed column with a minimum of at least 2.",
        None,
        table,
        column,
    )


def _column(alias: str, name: str) -> exp.Column:
    return exp.Column(this=exp.to_identifier(name, quoted=True), table=exp.to_identifier(alias, quoted=True))
