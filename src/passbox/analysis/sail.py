"""What the embedded engine, Sail, may be asked: only what is known to be answered as Spark answers it.

`fit` looks at every call and operator of a resolved query with the types of its operands. Where Sail would
answer otherwise it writes the expression so that it does not (whole numbers that may overflow are computed in
a wider type and cast back, which raises as Spark's ANSI rules do), and where it cannot, it refuses with the
reason. What it writes is left alone when it comes by again. This module knows Sail's differences, most of
them as tables in `functions` and `sail_forms`; it must not know rules.
"""

from collections.abc import Mapping
from functools import cache

from sqlglot import exp

from passbox.analysis import functions, sail_forms
from passbox.analysis.plan import Parameter, Table
from passbox.analysis.sail_floats import FLOATING, Floats, is_number_but_zero
from passbox.analysis.tree import copied, nodes, put
from passbox.analysis.types import UNKNOWN, WHOLE, Type, Types, common, exact, named
from passbox.errors import QueryRefused

_MERGING = frozenset(["coalesce", "ifnull", "nvl", "if", "nvl2", "nullif", "greatest", "least", "array"])
_DAYS = {"DAY", "DAYS", "WEEK", "WEEKS", "MONTH", "MONTHS", "QUARTER", "QUARTERS", "YEAR", "YEARS"}
_NESTED = frozenset({"array", "map", "struct"})
_LOOSE = frozenset({"FLOAT", "DOUBLE", "DECIMAL", "DATE"})
_COMPARED = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ, exp.NullSafeNEQ)
_NUMBERS = frozenset({*WHOLE, *FLOATING, "decimal", "string"})  # text is read as a number beside one
_LEAVES = (exp.Column, exp.Identifier, exp.Literal)
_AS_INT = frozenset({"datediff", "date_diff", "regexp_count"})  # Sail gives a bigint


def fit(tree: exp.Query, tables: Mapping[str, Table], parameters: Mapping[str, str | Parameter]) -> exp.Query:
    """The query in a form that Sail answers as Spark does; QueryRefused where there is none."""
    types = Types(tree, tables, parameters)
    floats = Floats(types, refused)
    floats.prepare(tree)
    for node in reversed(nodes(tree, leave=_LEAVES)):  # operands before what they are operands of
        if floats.wrote(node) or isinstance(node, _LEAVES):
            continue
        if isinstance(node, exp.Anonymous):
            _call(node, types, floats)
        elif isinstance(node, exp.Add | exp.Sub | exp.Mul | exp.Mod | exp.Div):
            _arithmetic(node, types)
        elif isinstance(node, exp.Neg):
            _negative(node, types)
        elif isinstance(node, exp.Predicate):
            _predicate(node, types, floats)
        elif isinstance(node, exp.Case):
            if node.this is not None:
                _compare("CASE", [node.this, *(one.this for one in node.args["ifs"])], types, floats)
            _merge(
                "CASE",
                [item for one in node.args["ifs"] for item in [one.args["true"]]]
                + [item for item in [node.args.get("default")] if item is not None],
                types,
            )
        else:
            _other(node, types, floats)
        floats.aggregate(node)
        if isinstance(node, exp.Query):  # before what is around it, which may be written with copies of it
            floats.order(node)
    return tree


def refused(what: str, reason: str) -> QueryRefused:
    """The refusal of something that Spark would answer and Sail would not, or would otherwise."""
    return QueryRefused(
        f"{what}: {reason}. The embedded engine is not verified to answer this as Spark does; write it "
        "another way or run this on Spark.",
        rule="sql.engine",
    )


def _call(node: exp.Anonymous, types: Types, floats: Floats) -> None:
    name = str(node.this)
    what = f"The function {name}"
    if (reason := functions.SPARK_ONLY.get(name)) is not None:
        raise refused(what, reason)
    given = [types.of(item) for item in node.expressions]
    reason = sail_forms.reason(name, node.expressions, given)
    if reason is not None:
        raise refused(what, reason)
    if name in _MERGING:
        _merge(what, node.expressions[1:] if name in ("if",) else node.expressions, types)
    elif name in ("sum", "abs") and given and given[0].whole:
        _widen_call(node, given[0], types)
    elif name == "equal_null":
        _compare(what, node.expressions, types, floats)
    elif name in _AS_INT and not _casts(node.parent, "INT"):
        _cast(node, "INT", types)
    floats.call(node)


def _widen_call(node: exp.Anonymous, given: Type, types: Types) -> None:
    """sum(bigint) and abs(…) of what may be the least of its type."""
    total = node.this == "sum"
    if given.bits <= WHOLE["int"] if total else given.bits < WHOLE[given.name]:
        return
    inner = node.expressions[0]
    inner = inner.expressions[0] if isinstance(inner, exp.Distinct) else inner
    _cast(inner, "DECIMAL(20, 0)", types)
    outer: exp.Expr = node
    while isinstance(outer.parent, exp.Filter | exp.Window) and outer.parent.this is outer:
        outer = outer.parent
    _cast(outer, "BIGINT" if total else given.name.upper(), types)


def _arithmetic(node: exp.Binary, types: Types) -> None:
    left, right = types.of(node.this), types.of(node.expression)
    sign = {"Add": "+", "Sub": "-", "Mul": "*", "Mod": "%", "Div": "/"}[type(node).__name__]
    what = f"The operator {sign}"
    families = {left.family, right.family}
    if UNKNOWN.name in families:
        raise refused(what, "the type of an operand is not known; cast it")
    if families & {"string", "boolean", "binary"}:
        raise refused(what, "an operand is no number; cast it to one")
    if families & {"date", "timestamp", "timestamp_ntz", "interval"}:
        _time(node, left, right, what)
    elif "float" in families and families - {"float", "double"}:
        raise refused(what, "a float with a number of another type gives a float, not a double; cast it")
    elif "decimal" in families and "double" not in families:
        _decimal(node, what, types)
    elif left.whole and right.whole and isinstance(node, exp.Add | exp.Sub | exp.Mul):
        found = types.of(node)
        if found.bits > WHOLE[found.name]:
            wide = "BIGINT" if found.bits <= WHOLE["bigint"] else "DECIMAL(19, 0)"
            _cast(node.this, wide, types)
            _cast(node.expression, wide, types)
            _cast(_leaning_right(node), found.name.upper(), types)


def _leaning_right(node: exp.Binary) -> exp.Binary:
    """A chain of operators with its long side last: Sail takes twice as long for each one on the left."""
    left, right = node.this, node.expression
    if sum(1 for _ in left.find_all(exp.Binary)) <= sum(1 for _ in right.find_all(exp.Binary)):
        return node
    if isinstance(node, exp.Sub):  # a - b is -b + a, in a type that holds all of it
        turned: exp.Binary = exp.Add(this=exp.Neg(this=right), expression=left)
        put(node, turned)
        return turned
    node.set("this", right)
    node.set("expression", left)
    return node


def _decimal(node: exp.Binary, what: str, types: Types) -> None:
    if isinstance(node, exp.Div):
        raise refused(what, "a division of decimals is rounded and typed in another way; cast to double")
    if isinstance(node, exp.Mod):
        raise refused(what, "the remainder of decimals has another type; cast to double")
    if exact(node, types.of(node.this), types.of(node.expression)) is None:
        raise refused(what, "the digits of a decimal operand are not known, or their result has more than 38")
    for side in (node.this, node.expression):
        if isinstance(side, exp.Literal) and str(side.this).isdigit():
            _cast(side, f"DECIMAL({len(str(int(side.this)))}, 0)", types)


def _time(node: exp.Binary, left: Type, right: Type, what: str) -> None:
    families = (left.family, right.family)
    if (families[0] == "date" and families[1] in ("date", "timestamp")) or families == ("timestamp", "date"):
        raise refused(what, "between dates it gives days as a number, not an interval; use datediff")
    if "date" in families and "interval" in families:
        span = node.expression if families[1] == "interval" else node.this
        unit = span.args.get("unit") if isinstance(span, exp.Interval) else None
        if not isinstance(unit, exp.Var) or str(unit.this).upper() not in _DAYS:
            raise refused(what, "a date and an interval below a day give a date; cast it to a timestamp")


def _negative(node: exp.Neg, types: Types) -> None:
    given = types.of(node.this)
    if isinstance(node.this, exp.Literal):
        if given.whole and str(node.this.this) in ("2147483648", "9223372036854775808"):
            raise refused("The least whole number of a type", "it is read as one of the next type")
    elif given.whole and given.bits >= WHOLE[given.name]:
        wide = "DECIMAL(20, 0)" if given.name == "bigint" else "BIGINT"
        _cast(node.this, wide, types)
        _cast(node, given.name.upper(), types)
    elif given.family in (UNKNOWN.name, "string"):
        raise refused("The sign -", "the type of its operand is not known to be a number; cast it")


def _merge(what: str, items: list[exp.Expr], types: Types) -> None:
    """Several values become one column: all must have one type, or be brought to it."""
    found = [types.of(item) for item in items]
    names = {one.name for one in found if one.name != "void"}
    if len(names) <= 1 and UNKNOWN.name not in names:
        return
    merged = common(found)
    families = {one.family for one in found if one.name != "void"}
    if what.endswith(" nullif"):
        raise refused(what, "of two types it gives their common one; cast the second to the first's")
    if families == {"string"} or merged is UNKNOWN or "float" in families or merged.name == "decimal":
        raise refused(what, "its values are not of one type; cast them to one")
    for item, one in zip(items, found, strict=True):
        if one.name not in (merged.name, "void"):
            _cast(item, merged.name.upper(), types)


def _predicate(node: exp.Predicate, types: Types, floats: Floats) -> None:
    if isinstance(node, _COMPARED):
        _compare("The comparison", [node.this, node.expression], types, floats)
    elif isinstance(node, exp.Between):
        _compare("BETWEEN", [node.this, node.args["low"], node.args["high"]], types, floats)
    elif isinstance(node, exp.In) and node.args.get("query") is None:
        _compare("IN", [node.this, *node.expressions], types, floats, together=True)
    elif isinstance(node, exp.In):
        given = node.this.expressions if isinstance(node.this, exp.Tuple) else [node.this]
        for item, other in zip(given, types.outputs(node.args["query"]), strict=False):
            one = types.of(item)
            if _as_doubles({one.family, other.family}) and other.name != "double":
                raise refused("IN", "a number is compared with a column of another type; cast both to double")
            if UNKNOWN.name in (one.name, other.name) and one.family != "string" != other.family:
                raise refused("IN", "the type of a side is not known; cast it")
            if _as_doubles({one.family, other.family}):
                item = _cast(item, "DOUBLE", types)
            floats.meet("IN", item)
    elif isinstance(node, exp.RegexpLike):
        reason = sail_forms.pattern(node.expression)
        if reason is not None:
            raise refused("RLIKE", reason)


def _as_doubles(families: set[str]) -> bool:
    """Whether Spark compares these as doubles and Sail as decimals, as floats or as text."""
    others = families - {"void"}
    return ("decimal" in others and bool(others & {*FLOATING, "string"})) or (
        "float" in others and len(others) > 1
    )


def _compare(
    what: str, items: list[exp.Expr], types: Types, floats: Floats, *, together: bool = False
) -> None:
    """The first is compared with each of the rest; `together`: all are brought to one type before."""
    found = [_held(item, types) for item in items]
    other, *others = (not is_number_but_zero(item) for item in items)
    zeros = [any(others), *(other for _ in others)]  # whether what each is compared with may be one
    first, *rest = (one.family for one in found)
    families = {first, *rest} - {"void"}
    if UNKNOWN.name in families and (len(families) == 1 or families & {*FLOATING, *WHOLE, "decimal"}):
        raise refused(what, "the type of a side is not known; cast it")
    if families & _NESTED and len({one.name for one in found} - {"void"}) > 1:
        raise refused(what, "its sides are not of one type; cast them to one")
    if not _as_doubles(families) or not families <= _NUMBERS:
        for item, one, zero in zip(items, found, zeros, strict=True):
            if one.family in {*FLOATING, *_NESTED}:
                floats.meet(what, item, zeros=zero)
        return
    double = FLOATING | {"string"} if first == "decimal" else FLOATING
    if not (together or len(rest) == 1 or first in FLOATING or double.issuperset(rest)):
        raise refused(what, "some of its values are compared as doubles and some are not; cast them all")
    for item, one, zero in zip(items, found, zeros, strict=True):
        if one.name != "void":
            written = item if one.name == "double" else _cast(item, "DOUBLE", types)
            floats.meet(what, written, zeros=zero)


def _held(node: exp.Expr, types: Types) -> Type:
    """As `Types.of`; an array that is written out has the type of what is in it."""
    if isinstance(node, exp.Anonymous) and node.this == "array":
        inner = common([types.of(item) for item in node.expressions])
        return inner if inner is UNKNOWN else Type(f"array<{inner.name}>")
    return types.of(node)


def _other(node: exp.Expr, types: Types, floats: Floats) -> None:
    if isinstance(node, exp.DPipe):
        for side in (node.this, node.expression):
            _text("The operator ||", types.of(side))
    elif isinstance(node, exp.Cast | exp.TryCast):
        _check_cast(node, types.of(node.this))
    elif isinstance(node, exp.SetOperation):
        left, right = types.outputs(node.this), types.outputs(node.expression)
        for one, other in zip(left, right, strict=True):
            if one.name != other.name or one.name in (UNKNOWN.name, "decimal"):
                raise refused(
                    "The set operation", "the two sides' columns are not known to be of one type; cast them"
                )
    elif isinstance(node, exp.WithinGroup):
        if any(types.of(item).family == "float" for item in node.find_all(exp.Ordered)):
            raise refused(f"{node.this.name} of floats", "it is computed in floats; cast to double")
    elif isinstance(node, exp.Extract) and str(node.this.name).upper() not in sail_forms.PARTS:
        raise refused(f"EXTRACT of {node.this.name}", "it counts in another way or is not there")
    elif isinstance(node, exp.Window):
        inner = node.this
        if isinstance(inner, exp.Filter):
            raise refused("FILTER before OVER", "it is not there; use CASE inside the function")
        if str(inner.name).lower() in ("collect_list", "collect_set", "array_agg"):
            raise refused(f"{inner.name} OVER", "it keeps nulls")
        floats.window(node)
    elif isinstance(node, exp.Ordered):
        floats.ordered(node)
    elif isinstance(node, exp.IntDiv):
        if FLOATING & {types.of(node.this).family, types.of(node.expression).family}:
            raise refused("The operator div", "it takes doubles and floats")
    elif isinstance(node, exp.Interval) and not isinstance(node.parent, exp.Add | exp.Sub | exp.Anonymous):
        raise refused("An interval as a value", "it has another type")
    elif isinstance(node, exp.Select):
        _twins(node)


def _check_cast(node: exp.Cast | exp.TryCast, given: Type) -> None:
    to = str(node.to.this.name)
    if to == "TEXT":
        _text("A cast to string", given, timestamp=True)
    elif node.args.get("safe") and given.family in ("string", UNKNOWN.name) and to in _LOOSE:
        raise refused(
            f"TRY_CAST of text to {to.lower()}",
            "some forms that Spark takes, such as 1d or a date with spaces, become null; CAST fails on them",
        )
    elif to == "BOOLEAN" and given.family in ("string", UNKNOWN.name):
        raise refused("A cast of text to boolean", "it takes words that Spark refuses; compare with 'true'")


def _text(what: str, given: Type, *, timestamp: bool = False) -> None:
    if given.family in sail_forms.AS_TEXT or (timestamp and given.family == "timestamp"):
        return
    raise refused(what, f"a value of the type {given.name} has another text; cast it to decimal, or leave it")


def _twins(node: exp.Select) -> None:
    """Two aggregates of one column, of which only one casts it, have one name inside Sail."""
    calls: dict[str, list[exp.Expr]] = {}
    for item in node.expressions:
        for call in nodes(item, leave=_LEAVES):
            if isinstance(call, exp.Anonymous) and call.this in functions.AGGREGATES:
                calls.setdefault(str(call.this), []).append(call)
    for same in calls.values():
        if len(same) == 1:
            continue
        casts = [any(isinstance(one, exp.Cast) for one in nodes(call, leave=_LEAVES)) for call in same]
        if not any(casts):
            continue
        seen: dict[exp.Expr, exp.Expr] = {}  # without its casts → as it is; sqlglot compares by structure
        for call, cast in zip(same, casts, strict=True):
            bare = call
            if cast:
                bare = copied(call).transform(
                    lambda one: one.this if isinstance(one, exp.Cast) else one, copy=False
                )
            if seen.setdefault(bare, call) != call:
                raise refused("Two aggregates", "they differ by a cast alone; cast in a subquery")


def _casts(node: exp.Expr | None, to: str) -> bool:
    return isinstance(node, exp.Cast) and str(node.to.this.name) == to


@cache
def _type(name: str) -> exp.DataType:
    return exp.DataType.build(name, dialect="spark")


def _cast(node: exp.Expr, to: str, types: Types) -> exp.Expr:
    """Puts a cast around a node, in its place; the cast."""
    cast = exp.Cast(to=copied(_type(to)))
    put(node, cast)
    cast.set("this", exp.Paren(this=node) if isinstance(node, exp.Binary | exp.Neg) else node)
    types.know(cast, named(to.lower()))
    return cast
