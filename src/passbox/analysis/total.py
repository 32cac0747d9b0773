"""Expressions that cannot fail, whatever the rows hold, and the kind of value that each gives.

Under differential privacy a query that fails would tell of the one row that made it fail. So a division by
zero, a number out of range or a text that is no number must not be possible: comparisons are between values
of one kind, so that nothing is cast behind the writer's back, sums of integers are `try_` ones or doubles,
casts are TRY_CAST. What is not known to be total is refused with what to write instead. Calendars end: of
dates and times only what was tried at the first and last moment of 64 bits is allowed. This module knows
expressions; it must not know tables or users.
"""

from collections.abc import Callable, Iterable, Mapping

from sqlglot import exp

from passbox.analysis import parameters, place
from passbox.errors import QueryRefused

RULE = "custom.differentialPrivacy"
TEXT, INTEGER, FRACTION, DOUBLE, DECIMAL = "text", "integer", "fraction", "double", "decimal"
# decimal columns of more than 18 digits, and number literals beyond 18 digits or 6 after the point: what
# they meet may not fit into the 38 digits that both are brought to
WIDE, LONG = "wide decimal", "long decimal literal"
BOOLEAN, DATE, TIME, LOCAL, NULL = "boolean", "date", "timestamp", "timestamp_ntz", "null"
OTHER = "other"
NUMBERS = frozenset({INTEGER, FRACTION, DOUBLE, DECIMAL, WIDE, LONG})
TIMES = frozenset({DATE, TIME, LOCAL})
UNSETTLED = frozenset({OTHER, FRACTION, DECIMAL, WIDE, LONG})  # kinds of more than one type
_DECIMALS = frozenset({FRACTION, DECIMAL, WIDE, LONG})
_DIGITS, _SCALE = 18, 6

_TYPES = {
    "string": TEXT, "varchar": TEXT, "text": TEXT, "boolean": BOOLEAN, "tinyint": INTEGER, "bigint": INTEGER,
    "smallint": INTEGER, "int": INTEGER, "integer": INTEGER, "float": DOUBLE, "double": DOUBLE,
    "decimal": DECIMAL, "date": DATE, "timestamp": TIME,
    "timestamp_ntz": LOCAL, "timestampntz": LOCAL, "timestamptz": TIME,
    "timestampltz": TIME,
}  # fmt: skip
_COMPARISONS = (
    exp.EQ,
    exp.NEQ,
    exp.GT,
    exp.GTE,
    exp.LT,
    exp.LTE,
    exp.NullSafeEQ,
    exp.NullSafeNEQ,
    exp.Between,
)
_LITERALS = (exp.Literal, exp.RawString, exp.Placeholder, exp.Boolean, exp.Null)
_TEXT_TO_TEXT = ("lower", "upper", "lcase", "ucase", "trim", "ltrim", "rtrim", "btrim", "reverse")
# year, weekofyear, date_trunc and datediff are not among them: far from our years they fail
_DATE_PARTS = ("quarter", "month", "day", "dayofmonth", "dayofweek", "dayofyear", "hour", "minute")
_CALENDAR = ("year", "weekofyear", "date_trunc", "trunc", "datediff", "date_diff", "to_date", "to_timestamp",
             "date_add", "date_sub", "add_months", "last_day", "months_between", "date_part")  # fmt: skip
# what TRY_CAST makes NULL of where it does not fit; from other kinds it may fail all the same
_TRIED = {
    TEXT: frozenset({TEXT, BOOLEAN}) | NUMBERS | TIMES,
    INTEGER: frozenset({TEXT, BOOLEAN}) | NUMBERS,
    DOUBLE: frozenset({TEXT, BOOLEAN}) | NUMBERS,
    DECIMAL: frozenset({TEXT}) | NUMBERS,
    WIDE: frozenset({TEXT}) | NUMBERS,
    BOOLEAN: frozenset({TEXT, BOOLEAN}) | NUMBERS,
    DATE: frozenset({TEXT, DATE, INTEGER}),
    TIME: frozenset({TEXT, INTEGER}) | TIMES,
    LOCAL: frozenset({TEXT}) | TIMES,
}
_MOMENTS = {DATE: "DATE", TIME: "TIMESTAMP", LOCAL: "TIMESTAMP_NTZ"}  # kind → the type of such a literal
_TRIES = ("try_add", "try_subtract", "try_multiply", "try_divide")
_FLOATING = ("abs", "sqrt", "exp", "round")
_FIRST_KNOWN = ("coalesce", "ifnull", "nvl", "least", "greatest", "nullif")
_LENGTHS = ("length", "char_length", "character_length", "len")
_PIECES = ("substring", "substr", "left", "right")
_DEVIATIONS = ("std", "stddev", "stddev_samp", "stddev_pop", "variance", "var_samp", "var_pop", "median")
Columns = Callable[[exp.Column], str]


def of_type(name: str) -> str:
    """The kind of a column of a Spark type."""
    base, _, digits = name.lower().partition("(")
    kind = _TYPES.get(base.strip(), OTHER)
    if kind == DECIMAL and digits and int(digits.rstrip(") ").partition(",")[0]) > _DIGITS:
        return WIDE
    return kind


def _to(node: exp.Cast) -> str:
    """The kind that a cast gives."""
    to = node.args["to"]
    digits = ",".join(str(one.name) for one in to.expressions)
    return of_type(f"{to.this.name}({digits})" if digits else to.this.name)


def _number(written: str) -> str:
    """The kind of a number as it is written."""
    if "e" in written.lower():
        return DOUBLE
    whole, point, rest = written.partition(".")
    if len(whole) + len(rest) > _DIGITS or len(rest) > _SCALE:
        return LONG
    return FRACTION if point else INTEGER


def literal(node: exp.Expr) -> bool:
    """Whether a node is a value that the query brings."""
    while isinstance(node, exp.Paren | exp.Neg):
        node = node.this
    return isinstance(node, _LITERALS)


def refused(message: str, node: exp.Expr | None) -> QueryRefused:
    """A refusal by differential privacy."""
    return QueryRefused(message, rule=RULE, at=place.at(node))


class Checker:
    """Asks an expression's kind; refuses what could fail.

    columns:    the kind of a column
    parameters: the kind of a parameter by its name
    window:     called with each window; refuses where windows are not allowed
    """

    def __init__(
        self, columns: Columns, parameters: Mapping[str, str], window: Callable[[exp.Window], None]
    ) -> None:
        self._columns, self._parameters, self._window = columns, parameters, window

    def condition(self, node: exp.Expr) -> None:
        """Refuses what is not a condition."""
        if self.kind(node) not in (BOOLEAN, NULL):
            raise refused("A condition must be a comparison, or AND, OR and NOT of some.", node)

    def kind(self, node: exp.Expr, *, aggregates: bool = False) -> str:
        """The kind of a value. aggregates: whether it may be aggregated, under GROUP BY"""
        match node:
            case exp.Paren() | exp.Alias():
                return self.kind(node.this, aggregates=aggregates)
            case exp.Column():
                if node.args.get("db") is not None:
                    raise refused("Fields of structs are not allowed under differential privacy.", node)
                return self._columns(node)
            case exp.Literal():
                if node.is_string:
                    return TEXT
                return _number(node.name)
            case exp.RawString():
                return TEXT
            case exp.Placeholder():
                return self._parameters.get(node.this, OTHER)
            case exp.Boolean():
                return BOOLEAN
            case exp.Null():
                return NULL
            case exp.Anonymous():
                return self._function(node, aggregates)
            case exp.Window():
                return self._over(node)
        return self._operator(node, aggregates)

    def _operator(self, node: exp.Expr, aggregates: bool) -> str:
        inner = [self.kind(part, aggregates=aggregates) for part in _operands(node)]
        match node:
            case exp.And() | exp.Or() | exp.Not():
                if set(inner) - {BOOLEAN, NULL}:
                    raise refused("AND, OR and NOT combine conditions.", node)
                return BOOLEAN
            case exp.Is():
                if isinstance(node.expression, exp.Boolean) and inner[0] not in (BOOLEAN, NULL):
                    raise refused("IS TRUE and IS FALSE ask for a condition.", node)
                return BOOLEAN
            case exp.In():
                if node.args.get("query") is None:
                    self._common(_operands(node), inner, node, comparing=True)
                    return BOOLEAN
            case exp.Like() | exp.ILike():
                if set(inner) <= {TEXT, NULL} and literal(node.expression):
                    return BOOLEAN
                raise refused("LIKE compares text with a pattern that the query spells out.", node)
            case exp.Case():
                return self._case(node, aggregates)
            case exp.Cast():  # Spark's CAST is parsed as one that is not safe
                return self._cast(node, inner[0])
            case exp.Add() | exp.Sub() | exp.Mul():
                if set(inner) <= NUMBERS and DOUBLE in inner:
                    return DOUBLE
                raise refused(
                    "Sums and products of integers and decimals may be out of range; write try_add, "
                    "try_subtract or try_multiply, or CAST(… AS DOUBLE) one of them.",
                    node,
                )
            case exp.Neg():
                if inner[0] == DOUBLE or literal(node.this):
                    return inner[0]
                raise refused("-x of an integer may be out of range; write try_subtract(0, x).", node)
            case exp.DPipe():
                if set(inner) <= {TEXT, NULL}:
                    return TEXT
                raise refused("|| joins texts; CAST(… AS STRING) the rest.", node)
        if isinstance(node, _COMPARISONS):
            self._common(_operands(node), inner, node, comparing=True)
            return BOOLEAN
        if isinstance(node, exp.Div):
            raise refused("A division may be by zero; write try_divide(a, b).", node)
        raise _unknown(type(node).__name__, node)

    def _case(self, node: exp.Case, aggregates: bool) -> str:
        whens = node.args.get("ifs") or []
        subject = node.args.get("this")
        for when in whens:
            if subject is None:
                self.condition(when.this) if not aggregates else self._aggregate_condition(when.this)
        if subject is not None:
            compared = [subject, *(when.this for when in whens)]
            kinds = [self.kind(part, aggregates=aggregates) for part in compared]
            self._common(compared, kinds, node, comparing=True)
        results = [when.args["true"] for when in whens]
        if (default := node.args.get("default")) is not None:
            results.append(default)
        return self._common(
            results, [self.kind(part, aggregates=aggregates) for part in results], node, comparing=False
        )

    def _aggregate_condition(self, node: exp.Expr) -> None:
        if self.kind(node, aggregates=True) not in (BOOLEAN, NULL):
            raise refused("A condition must be a comparison, or AND, OR and NOT of some.", node)

    def _cast(self, node: exp.Cast, kind: str) -> str:
        target = _to(node)
        if node.args.get("safe"):
            if kind == NULL or kind in _TRIED.get(target, ()):
                return target
            raise refused(f"TRY_CAST of {kind} to {target} may fail on some values.", node)
        if target in TIMES and isinstance(node.this, exp.Literal) and node.this.is_string:
            try:
                parameters.value("literal", _MOMENTS[target], node.this.name)
            except QueryRefused:
                raise refused(
                    f"{node.this.name!r} is no {_MOMENTS[target]}; write 2026-01-31, and of times also "
                    "2026-01-31 09:30:00.",
                    node,
                ) from None
            return target
        plain = node.args["to"].this.name.lower() in ("double", "text", "timestamp", "timestamptz")
        total = (
            (target == DOUBLE and kind in (*NUMBERS, NULL))
            or (target == TEXT and kind != OTHER)
            or (target == TIME and kind in (TIME, LOCAL, NULL))
        )
        if plain and total:
            return target
        raise refused("This CAST may fail on some values; write TRY_CAST.", node)

    def _function(self, node: exp.Anonymous, aggregates: bool) -> str:
        name, arguments = str(node.this), list(node.expressions)
        if name in _AGGREGATES:
            if not aggregates:
                raise refused(f"The aggregate {name} is not allowed in this place.", node)
            return self._aggregate(name, node)
        kinds = [self.kind(part, aggregates=aggregates) for part in arguments]
        known = set(kinds) - {NULL}
        first = kinds[0] if kinds else NULL
        constant = all(literal(part) for part in arguments[1:])
        if name in _FIRST_KNOWN:
            return self._common(arguments, kinds, node, comparing=name == "nullif")
        if name == "if":
            self._common(arguments[:1], kinds[:1], node, comparing=False)
            if kinds[0] in (BOOLEAN, NULL):
                return self._common(arguments[1:], kinds[1:], node, comparing=False)
        if name in ("isnull", "isnotnull"):
            return BOOLEAN
        if name == "concat" and known <= {TEXT}:
            return TEXT
        if name in _TEXT_TO_TEXT and len(kinds) == 1 and known <= {TEXT}:
            return TEXT
        if name in _LENGTHS and known <= {TEXT}:
            return INTEGER
        if name in _PIECES and first in (TEXT, NULL) and constant and set(kinds[1:]) <= {INTEGER}:
            if any(not isinstance(part, exp.Literal) for part in arguments[2:]):
                raise refused(
                    "A length below 0 fails where there is a text; write the length as a number.", node
                )
            return TEXT
        if name in ("startswith", "endswith", "contains") and known <= {TEXT}:
            return BOOLEAN
        if name in _DATE_PARTS and known <= TIMES:
            return INTEGER
        if name in _CALENDAR:
            raise refused(
                f"{name}() fails on days that its calendar does not have, far from ours. Compare instead: "
                "visited >= TIMESTAMP '2026-01-01 00:00:00' AND visited < TIMESTAMP '2027-01-01 00:00:00'.",
                node,
            )
        if name in _TRIES and known <= {INTEGER, DOUBLE}:
            return DOUBLE if DOUBLE in known or name == "try_divide" else INTEGER
        if name in _FLOATING and first == DOUBLE and constant and set(kinds[1:]) <= {INTEGER}:
            return DOUBLE
        if name in ("nanvl",) and known <= {DOUBLE}:
            return DOUBLE
        if name == "isnan" and known <= {DOUBLE}:
            return BOOLEAN
        raise _unknown(f"{name}() of {', '.join(kinds) or 'nothing'}", node)

    def _aggregate(self, name: str, node: exp.Anonymous) -> str:
        [argument, *more] = node.expressions
        distinct = isinstance(argument, exp.Distinct)
        parts = argument.expressions if distinct else [argument]
        if name == "count" and not more:
            for part in parts:
                if not isinstance(part, exp.Star):
                    self.kind(part)
            return INTEGER
        kind = self.kind(parts[0])
        if len(parts) == 1 and not more:
            if name in ("min", "max") and kind != OTHER:
                return kind
            if name in ("bool_and", "bool_or", "every", "any", "some") and kind == BOOLEAN:
                return BOOLEAN
            if name in ("sum", *_DEVIATIONS) and kind == DOUBLE:
                return DOUBLE
            if name in ("avg", "mean") and kind in (INTEGER, DOUBLE):
                return DOUBLE
            if name == "try_sum" and kind == INTEGER:
                return INTEGER
        raise refused(
            f"{name}() of {kind} may fail or is not known here; allowed are COUNT, MIN, MAX, AVG, "
            "SUM and STDDEV of doubles (CAST(… AS DOUBLE)), and try_sum of integers.",
            node,
        )

    def _over(self, node: exp.Window) -> str:
        self._window(node)
        frame = node.args.get("spec")
        if (
            frame is not None
            and str(frame.args.get("kind")).upper() == "RANGE"
            and any(isinstance(frame.args.get(part), exp.Expr) for part in ("start", "end"))
        ):
            raise refused("A RANGE that adds to the value of a row may be out of range; write ROWS.", node)
        for part in (*(node.args.get("partition_by") or ()), *_ordered(node)):
            self.kind(part)
        function = node.this
        if not isinstance(function, exp.Anonymous):
            raise _unknown("this form of a window function", node)
        name, arguments = str(function.this), function.expressions
        if name in ("row_number", "rank", "dense_rank"):
            return INTEGER
        if name in ("lag", "lead") and all(literal(part) for part in arguments[1:]):
            return self._common(
                [arguments[0], *arguments[2:]],
                [self.kind(part) for part in (arguments[0], *arguments[2:])],
                node,
                comparing=False,
            )
        if name in _AGGREGATES:
            return self._aggregate(name, function)
        raise _unknown(f"the window function {name}()", node)

    def _common(
        self, nodes: Iterable[exp.Expr], kinds: Iterable[str], node: exp.Expr, *, comparing: bool
    ) -> str:
        """The one kind of values that are compared or chosen from."""
        pairs = [pair for pair in zip(nodes, kinds, strict=True) if pair[1] != NULL]
        known = {kind for _, kind in pairs}
        if not known:
            return NULL
        if known == {DECIMAL, INTEGER}:
            if all(literal(part) for part, kind in pairs if kind == INTEGER):
                return DECIMAL
        elif known <= {INTEGER, FRACTION}:
            return FRACTION if FRACTION in known else INTEGER
        elif DOUBLE in known and known <= {DOUBLE, INTEGER}:
            return DOUBLE
        elif DOUBLE in known and known <= {DOUBLE, INTEGER, FRACTION, LONG} and not comparing:
            return DOUBLE  # in comparisons the engine would make a decimal of the double
        elif len(known) == 1 and OTHER not in known and (not known & _DECIMALS or len(pairs) == 1):
            return known.pop()
        raise refused(
            f"Values of {' and '.join(sorted(known))} meet here, and to make them one kind may fail; "
            f"{_advice(known)}.",
            node,
        )


def _advice(known: set[str]) -> str:
    """What to write where values of several kinds meet."""
    if known & TIMES:
        return (
            "compare with the column's own type: DATE '2026-01-31', TIMESTAMP '2026-01-31 09:30:00' or "
            "TIMESTAMP_NTZ '2026-01-31 09:30:00', or a parameter that a template declares as such"
        )
    if DOUBLE in known and known & {FRACTION, LONG}:
        return "write the number as a double, 0.5D"
    if LONG in known:
        return f"write a number of at most {_DIGITS} digits, {_SCALE} of them after the point"
    return "TRY_CAST them first (CAST decimals AS DOUBLE, and write 0.5D)"


_AGGREGATES = frozenset(
    {"count", "min", "max", "avg", "mean", "sum", "try_sum", "bool_and", "bool_or", "every", "any", "some"}
    | set(_DEVIATIONS)
)


def _operands(node: exp.Expr) -> list[exp.Expr]:
    """The parts of an operator that are values."""
    if isinstance(node, exp.Case | exp.Query):
        return []
    if isinstance(node, exp.Is):
        return [node.this]
    return [part for part in node.iter_expressions() if not isinstance(part, exp.DataType)]


def _ordered(node: exp.Window) -> list[exp.Expr]:
    order = node.args.get("order")
    return [item.this for item in order.expressions] if order is not None else []


def _unknown(what: str, node: exp.Expr) -> QueryRefused:
    if isinstance(node, exp.Query | exp.Subquery | exp.Exists | exp.In):
        return refused("Subqueries are not allowed under differential privacy; write a WITH query.", node)
    return refused(
        f"{what} is not allowed under differential privacy: it may fail on some values, or is not known "
        "not to.",
        node,
    )
