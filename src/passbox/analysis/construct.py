"""The constructs that a query may be built from: an allow-list of syntax nodes, their parts and functions.

What is not listed is refused, so a construct that sqlglot learns to parse tomorrow is refused tomorrow too.
This module knows syntax; it must not know tables, columns or rules.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from sqlglot import exp

from passbox.analysis import functions, place
from passbox.analysis.text import too_deep
from passbox.analysis.tree import children
from passbox.errors import QueryRefused

MAX_DEPTH = 100
MAX_HEIGHT = 200  # the engine recurses too: it ends at 400 UNIONs or 600 operators one above the other
MAX_LITERAL = 32_000  # the engine's parser takes time by the square of it

_BINARY = frozenset({"this", "expression"})
_CHAINS = frozenset(
    {exp.And, exp.Or, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.DPipe, exp.BitwiseAnd, exp.BitwiseOr}
    | {exp.BitwiseXor, exp.Union, exp.Except, exp.Intersect}
)

# node → the parts it may have; a part that is None, False or empty does not count
NODES: Mapping[type[exp.Expr], frozenset[str]] = {
    exp.Select: frozenset(
        {
            "expressions",
            "from_",
            "joins",
            "where",
            "group",
            "having",
            "order",
            "limit",
            "offset",
            "distinct",
            "with_",
        }
    ),
    exp.Union: _BINARY | {"distinct", "order", "limit", "offset", "with_"},
    exp.Except: _BINARY | {"distinct", "order", "limit", "offset", "with_"},
    exp.Intersect: _BINARY | {"distinct", "order", "limit", "offset", "with_"},
    exp.With: frozenset({"expressions"}),
    exp.CTE: frozenset({"this", "alias"}),
    exp.Subquery: frozenset({"this", "alias"}),
    exp.From: frozenset({"this"}),
    exp.Table: frozenset({"this", "alias"}),
    exp.TableAlias: frozenset({"this"}),
    exp.Join: frozenset({"this", "on", "using", "side", "kind"}),
    exp.Where: frozenset({"this"}),
    exp.Group: frozenset({"expressions"}),
    exp.Having: frozenset({"this"}),
    exp.Order: frozenset({"expressions"}),
    exp.Ordered: frozenset({"this", "desc", "nulls_first"}),
    exp.Limit: frozenset({"expression"}),
    exp.Offset: frozenset({"expression"}),
    exp.Alias: frozenset({"this", "alias"}),
    exp.Column: frozenset({"this", "table", "db", "catalog"}),
    exp.Dot: _BINARY,
    exp.Identifier: frozenset({"this", "quoted"}),
    exp.Star: frozenset(),
    exp.Literal: frozenset({"this", "is_string"}),
    exp.RawString: frozenset({"this"}),
    exp.Boolean: frozenset({"this"}),
    exp.Null: frozenset(),
    exp.Placeholder: frozenset({"this"}),
    exp.Paren: frozenset({"this"}),
    exp.Tuple: frozenset({"expressions"}),
    exp.And: _BINARY,
    exp.Or: _BINARY,
    exp.Not: frozenset({"this"}),
    exp.EQ: _BINARY,
    exp.NEQ: _BINARY,
    exp.GT: _BINARY,
    exp.GTE: _BINARY,
    exp.LT: _BINARY,
    exp.LTE: _BINARY,
    exp.NullSafeEQ: _BINARY,
    exp.NullSafeNEQ: _BINARY,
    exp.Is: _BINARY,
    exp.In: frozenset({"this", "expressions", "query"}),
    exp.Between: frozenset({"this", "low", "high"}),
    exp.Like: _BINARY | {"negate"},
    exp.ILike: _BINARY | {"negate"},
    exp.RegexpLike: _BINARY,
    exp.Escape: _BINARY,
    exp.Exists: frozenset({"this"}),
    exp.Add: _BINARY,
    exp.Sub: _BINARY,
    exp.Mul: _BINARY,
    exp.Div: _BINARY | {"safe", "typed"},
    exp.IntDiv: _BINARY,
    exp.Mod: _BINARY,
    exp.Neg: frozenset({"this"}),
    exp.DPipe: _BINARY | {"safe"},
    exp.BitwiseAnd: _BINARY,
    exp.BitwiseOr: _BINARY,
    exp.BitwiseXor: _BINARY,
    exp.BitwiseNot: frozenset({"this"}),
    exp.Case: frozenset({"this", "ifs", "default"}),
    exp.If: frozenset({"this", "true"}),
    exp.Cast: frozenset({"this", "to"}),
    exp.TryCast: frozenset({"this", "to", "safe"}),
    exp.DataType: frozenset({"this", "expressions", "nested"}),
    exp.DataTypeParam: frozenset({"this"}),
    exp.Interval: frozenset({"this", "unit"}),
    exp.IntervalSpan: _BINARY,
    exp.Var: frozenset({"this"}),
    exp.Extract: _BINARY,
    exp.Bracket: frozenset({"this", "expressions"}),
    exp.Anonymous: frozenset({"this", "expressions"}),
    exp.Distinct: frozenset({"expressions"}),
    exp.IgnoreNulls: frozenset({"this"}),
    exp.Filter: _BINARY,
    exp.WithinGroup: _BINARY,
    exp.Window: frozenset({"this", "partition_by", "order", "spec", "over"}),
    exp.WindowSpec: frozenset({"kind", "start", "start_side", "end", "end_side"}),
}

# nodes that are harmless only in their proper place
_ONLY_UNDER: Mapping[type[exp.Expr], tuple[type[exp.Expr], ...]] = {
    exp.Identifier: (exp.Column, exp.Alias, exp.TableAlias, exp.Table, exp.Dot, exp.Join),
    exp.Var: (exp.Interval, exp.IntervalSpan, exp.Extract),
    exp.Star: (exp.Select, exp.Column, exp.Anonymous),
    exp.Distinct: (exp.Select, exp.Anonymous),
    exp.Alias: (exp.Select, exp.Anonymous),
    exp.Tuple: (exp.In, exp.Tuple),
    exp.DataType: (exp.Cast, exp.TryCast),
    exp.DataTypeParam: (exp.DataType,),
    exp.Table: (exp.From, exp.Join),
    exp.Where: (exp.Select, exp.Filter),
    exp.Order: (exp.Select, exp.Union, exp.Except, exp.Intersect, exp.Window, exp.WithinGroup),
    exp.Ordered: (exp.Order,),
}

_TYPES = frozenset(
    {
        "BOOLEAN",
        "TINYINT",
        "SMALLINT",
        "INT",
        "BIGINT",
        "FLOAT",
        "DOUBLE",
        "DECIMAL",
        "TEXT",
        "BINARY",
        "DATE",
        "TIMESTAMP",
        "TIMESTAMPTZ",
        "TIMESTAMPLTZ",
        "TIMESTAMPNTZ",
    }
)
_UNITS = frozenset(
    {
        "YEAR",
        "YEARS",
        "QUARTER",
        "MONTH",
        "MONTHS",
        "WEEK",
        "WEEKS",
        "DAY",
        "DAYS",
        "HOUR",
        "HOURS",
        "MINUTE",
        "MINUTES",
        "SECOND",
        "SECONDS",
        "DAYOFWEEK",
        "DOW",
        "DOY",
        "MILLISECOND",
        "MILLISECONDS",
        "MICROSECOND",
        "MICROSECONDS",
    }
)
# Spark reads these words in a date or timestamp as a moment of the run
_MOMENTS = frozenset({"now", "today", "tomorrow", "yesterday", "epoch"})
# one case only and no character that two engines could fold differently
NAME = re.compile(r"[\x20-\x5f\x61-\x7e]{1,128}")
_CONSTRUCT_NAMES = {
    "Hint": "a hint", "TableSample": "TABLESAMPLE", "Lateral": "LATERAL", "Pivot": "PIVOT",
    "Values": "VALUES",
    "Lambda": "a lambda", "QueryTransform": "TRANSFORM", "Version": "time travel", "Insert": "INSERT",
    "Any": "ANY", "All": "ALL", "Cube": "CUBE", "Rollup": "ROLLUP", "GroupingSets": "GROUPING SETS",
    "Sort": "SORT BY", "Distribute": "DISTRIBUTE BY", "Cluster": "CLUSTER BY", "Qualify": "QUALIFY",
    "hint": "a hint", "sample": "TABLESAMPLE", "laterals": "LATERAL VIEW", "pivots": "PIVOT",
    "recursive": "WITH RECURSIVE", "windows": "a named window", "by_name": "BY NAME",
    "method": "NATURAL JOIN",
    "when": "time travel", "version": "time travel", "columns": "a list of column names after an alias",
    "except_": "* EXCEPT", "qualify": "QUALIFY", "sort": "SORT BY", "distribute": "DISTRIBUTE BY",
    "cluster": "CLUSTER BY", "db": "a name with a catalog or database before it",
}  # fmt: skip


def check(tree: exp.Query, *, written: int = 1) -> frozenset[str]:
    """Refuse every construct that is not on the list; returns the names of the parameters used.

    written: how many levels of our own stand for one of a member's
    """
    parameters: set[str] = set()
    stack: list[tuple[exp.Expr, exp.Expr | None, int, int]] = [(tree, None, 1, 1)]
    while stack:
        node, parent, depth, height = stack.pop()
        kind = type(node)
        try:
            if depth > MAX_DEPTH * written:
                raise too_deep()
            if height > MAX_HEIGHT * written:
                raise too_high()
            _check_parts(node, kind, parent)
            special = _SPECIAL.get(kind)
            if special is not None:
                special(node)
        except QueryRefused as refusal:
            refusal.at = place.at(node)
            raise
        if kind is exp.Placeholder:
            parameters.add(node.this)
        chained = kind if kind in _CHAINS else None
        for child in children(node):
            # a chain of one operator (a AND b AND …) is one level: it is walked, not recursed
            stack.append((child, node, depth if type(child) is chained else depth + 1, height + 1))
    return frozenset(parameters)


def refused(what: str, hint: str = "") -> QueryRefused:
    """The refusal of a construct, named as the field names it."""
    return QueryRefused(
        f"{what} is not allowed in a query." + (f" {hint}" if hint else ""), rule="sql.construct"
    )


def too_high() -> QueryRefused:
    """The refusal of a chain of operators that the engine, which recurses, could not follow."""
    return QueryRefused(
        f"More than about {MAX_HEIGHT} operators follow one another; cut the chain by brackets into parts, "
        "and write IN (…) for a list of values.",
        rule="limits.chain",
    )


def _check_parts(node: exp.Expr, kind: type[exp.Expr], parent: exp.Expr | None) -> None:
    parts = NODES.get(kind)
    if parts is None:
        name = kind.__name__
        raise refused(_CONSTRUCT_NAMES.get(name, f"The construct {name}"))
    for part, value in node.args.items():
        if part in parts or value is None or value is False or value == []:
            continue
        name = _CONSTRUCT_NAMES.get(part, f"{part} of {kind.__name__}")
        raise refused(name[0].upper() + name[1:])
    under = _ONLY_UNDER.get(kind)
    if under is not None and not isinstance(parent, under):
        raise refused(f"{kind.__name__} in this place")


def _check_function(node: exp.Expr) -> None:
    name = node.this
    if not isinstance(name, str):
        raise QueryRefused("A function must be called by its plain name.", rule="sql.function")
    name = name.lower()
    span = functions.ALLOWED.get(name)
    if span is None:
        reason = functions.REFUSED.get(name, "is not on the list of functions that are known to be safe")
        raise QueryRefused(
            f"The function {name} is not allowed: it {reason}. Allowed are Spark's functions whose result "
            "depends on their arguments alone.",
            rule="sql.function",
        )
    node.set("this", name)
    arguments = node.expressions
    for argument in arguments:
        if isinstance(argument, exp.Star):
            if name != "count" or len(arguments) != 1:
                raise QueryRefused(
                    f"A star is not allowed inside {name}(); name the columns.", rule="sql.star"
                )
        elif isinstance(argument, exp.Column) and isinstance(argument.this, exp.Star):
            raise QueryRefused(f"A star is not allowed inside {name}(); name the columns.", rule="sql.star")
        elif isinstance(argument, exp.Distinct):
            if name not in functions.AGGREGATES or len(arguments) != 1:
                raise refused(f"DISTINCT inside {name}()")
            arguments = argument.expressions
        elif isinstance(argument, exp.Alias) and name != "struct":
            raise refused(f"An alias inside {name}()")
    if not span[0] <= len(arguments) <= span[1]:
        raise QueryRefused(
            f"The function {name} takes {functions.arity_text(name)}, not {len(arguments)}.",
            rule="sql.function",
        )


def _check_identifier(node: exp.Expr) -> None:
    if not isinstance(node.this, str) or not NAME.fullmatch(node.this):
        raise QueryRefused(
            "A name may hold 1 to 128 printable ASCII characters and no backtick.", rule="sql.name"
        )


def _check_alias(node: exp.Expr) -> None:
    if not isinstance(node.args.get("alias"), exp.Identifier):
        raise refused("An alias that is not a name")


def _check_table_alias(node: exp.Expr) -> None:
    if not isinstance(node.args.get("this"), exp.Identifier):
        raise refused("An alias that is not a name")


def _check_column(node: exp.Expr) -> None:
    if isinstance(node.this, exp.Star):
        if not isinstance(node.parent, exp.Select):
            raise QueryRefused("A star is allowed only in a SELECT list.", rule="sql.star")
    elif not isinstance(node.this, exp.Identifier):
        raise refused("A column that is not a name")


def _check_dot(node: exp.Expr) -> None:
    if not isinstance(node.expression, exp.Identifier) or not isinstance(node.this, exp.Column | exp.Dot):
        raise refused("A dot after anything but a column", "Write column.field.")


def _check_type(node: exp.Expr) -> None:
    kind = getattr(node.this, "name", None)
    if kind not in _TYPES or (node.expressions and kind != "DECIMAL"):
        raise QueryRefused(
            "Allowed types of CAST are boolean, tinyint, smallint, int, bigint, float, double, "
            "decimal(p, s), string, binary, date, timestamp and timestamp_ntz.",
            rule="sql.type",
            allowed=(
                "boolean",
                "tinyint",
                "smallint",
                "int",
                "bigint",
                "float",
                "double",
                "decimal(p, s)",
                "string",
                "binary",
                "date",
                "timestamp",
                "timestamp_ntz",
            ),
        )


def _check_cast(node: exp.Expr) -> None:
    value = node.this
    if isinstance(value, exp.Literal) and value.is_string and value.name.strip().lower() in _MOMENTS:
        raise QueryRefused(
            f"The value '{value.name}' depends on the time of the run; write a date.", rule="sql.function"
        )


def _check_literal(node: exp.Expr) -> None:
    if len(node.name) > MAX_LITERAL:
        raise QueryRefused(
            f"A value has {len(node.name)} characters; at most {MAX_LITERAL} are allowed.",
            rule="limits.literal",
        )


def _check_var(node: exp.Expr) -> None:
    if str(node.this).upper() not in _UNITS:
        raise refused(f"The unit {node.this}")


def _check_placeholder(node: exp.Expr) -> None:
    if not isinstance(node.this, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", node.this):
        raise QueryRefused("A parameter is written :name.", rule="sql.parameter")


def _check_distinct(node: exp.Expr) -> None:
    if isinstance(node.parent, exp.Anonymous) and not node.expressions:
        raise refused("DISTINCT without a column")


def _check_interval(node: exp.Expr) -> None:
    if not isinstance(node.this, exp.Literal):
        raise refused("An interval of a computed length", "Write INTERVAL '1' DAY.")


def _check_count(node: exp.Expr) -> None:
    value = node.expression
    if not isinstance(value, exp.Placeholder) and not (
        isinstance(value, exp.Literal) and value.name.isdigit()
    ):
        raise refused("LIMIT or OFFSET with anything but a whole number or a parameter")


def _check_window(node: exp.Expr) -> None:
    for part in ("start", "end"):
        value = node.args.get(part)
        if value is not None and not isinstance(value, str | exp.Literal):
            raise refused("A window frame with a computed bound")


def _check_over(node: exp.Expr) -> None:
    if str(node.args.get("over") or "OVER").upper() != "OVER" or not isinstance(
        node.this, exp.Anonymous | exp.Filter | exp.IgnoreNulls | exp.WithinGroup
    ):
        raise refused("A window over anything but a function")


def _check_filter(node: exp.Expr) -> None:
    if not isinstance(node.this, exp.Anonymous | exp.WithinGroup):
        raise refused("FILTER or WITHIN GROUP on anything but a function")


def _check_is(node: exp.Expr) -> None:
    if not isinstance(node.expression, exp.Null | exp.Boolean):
        raise refused("IS with anything but NULL, TRUE or FALSE")


def _check_exists(node: exp.Expr) -> None:
    if not isinstance(node.this, exp.Query):
        raise refused("EXISTS of anything but a subquery")


def _check_in(node: exp.Expr) -> None:
    if bool(node.expressions) == bool(node.args.get("query")):
        raise refused("IN without values or a subquery")


_SPECIAL: Mapping[type[exp.Expr], Callable[[Any], None]] = {
    exp.Anonymous: _check_function,
    exp.Identifier: _check_identifier,
    exp.Alias: _check_alias,
    exp.TableAlias: _check_table_alias,
    exp.Column: _check_column,
    exp.Dot: _check_dot,
    exp.DataType: _check_type,
    exp.Cast: _check_cast,
    exp.TryCast: _check_cast,
    exp.Literal: _check_literal,
    exp.RawString: _check_literal,
    exp.Var: _check_var,
    exp.Placeholder: _check_placeholder,
    exp.Distinct: _check_distinct,
    exp.Interval: _check_interval,
    exp.Limit: _check_count,
    exp.Offset: _check_count,
    exp.WindowSpec: _check_window,
    exp.Window: _check_over,
    exp.Filter: _check_filter,
    exp.WithinGroup: _check_filter,
    exp.Is: _check_is,
    exp.Exists: _check_exists,
    exp.In: _check_in,
}
