"""Expressions of a query under minima are written so that no single row's value makes the query fail.

Under an aggregation rule or a threshold what leaves stands for many. A query that fails or succeeds with the
value of one row (a text that is no number, a division by zero, a sum out of range) would tell of that row,
and in a group that is left out as well. So CAST becomes TRY_CAST, a sum that may overflow TRY_SUM, a divisor
NULL where it is 0. Where Spark answers, the answer is the same; where Spark fails, the value is NULL. What
has no such form and may fail, or is not known not to, is refused. The least number of a type, whose ABS and
negative do not fit, is NULL there. Both engines run what is written here. Not covered: dates that tables hold
and no calendar has. This module knows expressions and their types; it must not know rules.
"""

import re
from collections.abc import Iterable

from sqlglot import exp

from passbox.analysis import parameters, place
from passbox.analysis.tree import put
from passbox.analysis.types import UNKNOWN, WHOLE, Type, Types, digits, exact_digits
from passbox.errors import QueryRefused

_FLOATING = frozenset({"float", "double"})
_NUMBERS = frozenset({*WHOLE, *_FLOATING, "decimal"})
_TIMES = frozenset({"date", "timestamp", "timestamp_ntz"})
_PLAIN = frozenset({*_NUMBERS, *_TIMES, "string", "boolean", "binary", "void"})
_COMPARED = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ, exp.NullSafeNEQ)
# what text is brought to beside a value of another family
_MET = {
    **dict.fromkeys(WHOLE, "BIGINT"),
    **dict.fromkeys((*_FLOATING, "decimal"), "DOUBLE"),
    "date": "DATE",
    "timestamp": "TIMESTAMP",
    "timestamp_ntz": "TIMESTAMP_NTZ",
    "boolean": "BOOLEAN",
}
_CLOSED = 28  # digits of a decimal column whose sum of 10^10 rows still fits

# Functions that fail for no value of the named families; arguments beyond the first are literals, or, where
# `every` says so, of the same families.
_EVERY = {
    "text": """lower lcase upper ucase trim btrim ltrim rtrim reverse length char_length character_length len
        octet_length bit_length concat startswith endswith contains replace translate md5 sha sha1 ascii instr
        soundex levenshtein""",
    "number": "abs sqrt ln exp cbrt sign signum sin cos tan atan radians degrees log log10 log2 log1p",
    "time": """year quarter month day dayofmonth dayofweek dayofyear weekday weekofyear hour minute second
        last_day datediff date_diff months_between""",
    "same": "coalesce ifnull nvl nullif greatest least equal_null",
    "any": "isnull isnotnull",
    "double": "isnan nanvl",
}
_FIRST = {
    "text": "substring substr left right regexp_like rlike regexp_replace regexp_count like sha2",
    "number": "round ceil ceiling floor to_char",
    "time": "trunc date_format to_char",
}
_LATER = {  # the argument that the others are about comes second
    "time": "date_part datepart date_trunc",
}
_FAMILIES = {
    "text": frozenset({"string", "void"}),
    "number": _NUMBERS | {"void"},
    "double": _FLOATING | {"void"},
    "time": _TIMES | {"void"},
}
_BY_NAME = {
    name: (kind, form)
    for form, kinds in (("later", _LATER), ("first", _FIRST), ("every", _EVERY))
    for kind, names in kinds.items()
    for name in names.split()
}
_TRIED = {
    "to_timestamp": "try_to_timestamp",
    "to_number": "try_to_number",
    "try_to_number": "try_to_number",
    "element_at": "try_element_at",
}
_SAFE = frozenset(
    """try_to_timestamp try_element_at get count min max approx_count_distinct""".split()  # noqa: SIM905 (as in functions.py)
)
_NUMERIC = frozenset(
    """try_add try_subtract try_multiply try_divide try_mod try_sum try_avg
    corr covar_pop covar_samp kurtosis regr_avgx regr_avgy regr_count regr_intercept
    regr_r2 regr_slope regr_sxx regr_sxy regr_syy skewness std stddev stddev_pop stddev_samp var_pop var_samp
    variance""".split()  # noqa: SIM905 (as in functions.py)
)
_ASKED = frozenset({"if", "count_if", "bool_and", "bool_or"})  # whose first argument is a condition
_STEPS = {  # → the most of its units that a date may be moved by: from our years no calendar ends there
    **dict.fromkeys(("date_add", "date_sub", "dateadd"), 100_000),
    "add_months": 1_200,
}
# what a cast to a type is tried from: TRY_CAST makes NULL of what does not fit there, and may fail elsewhere
_CASTS = {
    **dict.fromkeys(WHOLE, frozenset({"string", "boolean", *_NUMBERS})),
    "bigint": frozenset({"string", "boolean", "timestamp", *_NUMBERS}),
    **dict.fromkeys(_FLOATING, frozenset({"string", "boolean", "timestamp", *_NUMBERS})),
    "decimal": frozenset({"string", *_NUMBERS}),
    "boolean": frozenset({"string", "boolean", *WHOLE, *_FLOATING}),
    **dict.fromkeys(_TIMES, frozenset({"string", *_TIMES})),
    "binary": frozenset({"string", "binary"}),
    "char": _PLAIN,
}
_LEAST = frozenset({str(2**31), str(2**63)})  # written with -, the least int and bigint
_ROUNDING = ("round", "ceil", "ceiling", "floor")
# what a pattern of a date may hold, as runs of one letter; of others Spark fails at the first row
_RUNS = (
    *("yyyy", "yy", "MMMM", "MMM", "MM", "M", "dd", "d", "HH", "H", "hh", "h", "mm", "m", "ss", "s", "a"),
    *("S" * count for count in range(1, 10)),
)
_LIKE = re.compile(r"(?:[^\\]|\\[_%\\])*", re.DOTALL)  # ends with no half of an escape
_OPERATORS = {"Add": "try_add", "Sub": "try_subtract", "Mul": "try_multiply"}
_SIGNS = {"Add": "+", "Sub": "-", "Mul": "*", "Div": "/", "Mod": "%", "IntDiv": "div"}


def settle(trees: Iterable[exp.Expr], types: Types) -> None:
    """Rewrites what may fail below each tree; QueryRefused where that cannot be done.

    types: of the query that the trees are parts of
    """
    for tree in trees:
        for node in reversed(list(tree.walk(bfs=True))):  # operands before what they are operands of
            _conditions(node, types)
            if isinstance(node, exp.Cast):
                _cast(node, types)
            elif isinstance(node, exp.Anonymous):
                _call(node, types)
            elif isinstance(node, exp.Add | exp.Sub | exp.Mul):
                _arithmetic(node, types)
            elif isinstance(node, exp.Div | exp.IntDiv | exp.Mod):
                _division(node, types)
            elif isinstance(node, exp.Like | exp.ILike | exp.RegexpLike):
                _like(node, node.expression)
            elif isinstance(node, exp.Neg):
                _negative(node, types)
            elif isinstance(node, _COMPARED):
                _meet([node.this, node.expression], node, types)
            elif isinstance(node, exp.Between):
                _meet([node.this, node.args["low"], node.args["high"]], node, types)
            elif isinstance(node, exp.In):
                _meet([node.this, *node.expressions], node, types)
            elif isinstance(node, exp.Case):
                _case(node, types)
            elif isinstance(node, exp.Bracket):
                raise _refused("An element by its place may not be there; write get(…, place).", node)
            elif isinstance(node, exp.Extract) and types.of(node.expression).family not in _TIMES:
                raise _refused("EXTRACT takes a date or a timestamp here, not a text.", node)


def _conditions(node: exp.Expr, types: Types) -> None:
    """Refuses what a node asks for the truth of and is known to be no boolean, as a text may be none."""
    asked: list[exp.Expr] = []
    if isinstance(node, exp.And | exp.Or):
        asked = [node.this, node.expression]
    elif isinstance(node, exp.Not | exp.Where | exp.Having) or (
        isinstance(node, exp.Is) and isinstance(node.expression, exp.Boolean)
    ):
        asked = [node.this]
    elif isinstance(node, exp.Join) and node.args.get("on") is not None:
        asked = [node.args["on"]]
    elif isinstance(node, exp.Case) and node.this is None:
        asked = [when.this for when in node.args.get("ifs") or []]
    elif isinstance(node, exp.Anonymous) and str(node.this).lower() in _ASKED:
        asked = _inside(node.expressions[0])
    for one in asked:
        if types.of(one).family not in ("unknown", "void", "boolean"):
            raise _refused(f"A condition is a comparison, not {types.of(one).name}; TRY_CAST it.", one)


def _cast(node: exp.Cast, types: Types) -> None:
    to, given = types.of(node), types.of(node.this)
    if to.family == "string" or (to.family in _TIMES and _moment(node.this, to)):
        return
    may = _CASTS.get(to.family, frozenset())
    if given.family not in may | {"void"} and (given is not UNKNOWN or to.family in _TIMES or not may):
        raise _refused(f"A cast of {given.name} to {to.name} may fail on some rows.", node)
    node.set("safe", True)
    if not isinstance(node, exp.TryCast):
        _replace(node, exp.TryCast(this=node.this, to=node.to, safe=True), types)


def _moment(node: exp.Expr, to: Type) -> bool:
    """Whether a text that the query spells out is a date or a time, as in DATE '2026-01-31'."""
    if not (isinstance(node, exp.Literal) and node.is_string):
        return False
    try:
        parameters.value("literal", to.name.upper(), node.name)
    except QueryRefused:
        return False
    return True


def _like(node: exp.Expr, pattern: exp.Expr) -> None:
    if not _literal(pattern):
        raise _refused("A pattern must be spelled out in the query.", node)
    own = isinstance(node, exp.Like | exp.ILike) and not isinstance(node.parent, exp.Escape)
    if own and isinstance(pattern, exp.Literal) and not _LIKE.fullmatch(pattern.name):
        raise _refused("In a pattern of LIKE a backslash stands before _, % or a backslash.", node)


def _by_text(given: list[Type]) -> bool:
    return given[0].family != "map" and not given[1].whole


def _dated(name: str, moment: Type, format: list[exp.Expr], node: exp.Expr) -> None:
    """Refuses dates that are read from numbers, and patterns that no date is read or written by."""
    if moment.family not in {"string", "void", *_TIMES}:
        raise _refused(f"{name}() of {moment.name} may fail on some rows.", node)
    for one in format:
        written = re.sub("'[^']*'", "", one.name)
        runs = {found[0] for found in re.finditer(r"([A-Za-z])\1*", written)}
        if not isinstance(one, exp.Literal) or not runs <= {*_RUNS} or set(written) & set("'[]{}#"):
            raise _refused(
                f"{name}() takes a pattern of {', '.join(_RUNS[:18])} here, spelled out in the query, as "
                "'yyyy-MM-dd'.",
                node,
            )


def _call(node: exp.Anonymous, types: Types) -> None:
    name = str(node.this).lower()
    arguments = [part for one in node.expressions for part in _inside(one)]
    given = [types.of(part) for part in arguments]
    if name in ("to_date", "to_timestamp", "try_to_timestamp", "date_format") or (
        name == "to_char" and given[0].family in _TIMES
    ):
        _dated(name, given[0], arguments[1:], node)
    if name in ("like", "ilike", "rlike", "regexp_like") and len(arguments) > 1:
        _like(node, arguments[1])
    if name in ("sum", "avg", "mean"):
        _aggregate(node, name, arguments[0], given[0], types)
    elif name in _STEPS:
        _step(node, name, given[0], arguments[1])
    elif name.endswith("to_number") and not _literal(arguments[1]):
        raise _refused(f"The format of {name}() must be spelled out in the query.", node)
    elif name == "abs" and (given[0].whole or _literal(arguments[0])):
        _above_least(arguments[0], types)
    elif name == "round" and given[0].whole and any(isinstance(one, exp.Neg) for one in arguments[1:]):
        raise _refused("round() of a whole number to tens and more may be out of range.", node)
    elif name in ("get", "element_at", "try_element_at") and _by_text(given):
        raise _refused(f"{name}() takes a place in an array as a whole number; TRY_CAST it.", node)
    elif name in _TRIED:
        _replace(node, exp.Anonymous(this=_TRIED[name], expressions=node.expressions), types)
    elif name == "to_date":
        moment = node.expressions[0]
        if len(node.expressions) > 1:
            moment = exp.Anonymous(this="try_to_timestamp", expressions=node.expressions)
        date = exp.DataType.build("DATE", dialect="spark")
        _replace(node, exp.TryCast(this=moment, to=date, safe=True), types)
    elif name == "if":
        _same(arguments[1:], node, types)
    elif name not in _ASKED and not (_numeric(name, given) or _total(name, arguments, node, types)):
        kinds = ", ".join(one.name for one in given) or "nothing"
        raise _refused(f"{name}() of {kinds} may fail on some rows, or is not known not to.", node)


def _step(node: exp.Anonymous, name: str, moment: Type, amount: exp.Expr) -> None:
    """A date may be moved by a number that the query spells out and that leads beyond no calendar."""
    inner = amount
    while isinstance(inner, exp.Paren | exp.Neg):
        inner = inner.this
    most = _STEPS[name]
    if moment.family not in _FAMILIES["time"]:
        raise _refused(f"{name}() takes a date or a timestamp here, not {moment.name}.", node)
    if not (isinstance(inner, exp.Literal) and inner.name.isdigit() and int(inner.name) <= most):
        raise _refused(f"{name}() takes a whole number of at most {most:,} here, as in {name}(day, 7).", node)


def _negative(node: exp.Neg, types: Types) -> None:
    kind = types.of(node.this)
    if kind.family not in (*_NUMBERS, "void", "unknown"):
        raise _refused(f"- of {kind.name} may fail on some rows.", node)
    if not isinstance(node.this, exp.Literal) and (kind.whole or _literal(node.this)):
        _above_least(node.this, types)


def _above_least(node: exp.Expr, types: Types) -> None:
    """NULL where a whole number is the least of its type, which has no positive of its own."""
    kind = types.of(node)
    if _literal(node):
        inner = node.find(exp.Literal)
        if inner is not None and inner.name in _LEAST:
            raise _refused(f"-{inner.name} has no positive of its own type; CAST it AS DECIMAL(20, 0).", node)
        return
    if kind.bits < WHOLE[kind.name]:
        return
    least: exp.Expr = exp.Neg(this=exp.Literal.number(2 ** WHOLE[kind.name]))
    least = exp.TryCast(this=least, to=exp.DataType.build(kind.name, dialect="spark"), safe=True)
    types.know(least, kind)
    call = exp.Anonymous(this="nullif")
    put(node, call)
    call.set("expressions", [node.this if isinstance(node, exp.Paren) else node, least])
    types.know(call, kind)


def _numeric(name: str, given: list[Type]) -> bool:
    """Whether a function fails for nothing, or for no number and is given numbers."""
    return name in _SAFE or (name in _NUMERIC and all(one.family in _NUMBERS for one in given))


def _total(name: str, arguments: list[exp.Expr], node: exp.Expr, types: Types) -> bool:
    kind, form = _BY_NAME.get(name, ("", ""))
    if kind == "same":
        _same(arguments, node, types)
        return True
    if kind == "any":
        return True
    if form == "later":
        arguments = arguments[::-1]
    checked = arguments if form == "every" else arguments[:1]
    rest = arguments[len(checked) :]
    return (
        bool(form)
        and all(types.of(one).family in _FAMILIES[kind] for one in checked)
        and all(_literal(one) for one in rest)
    )


def _aggregate(node: exp.Anonymous, name: str, argument: exp.Expr, given: Type, types: Types) -> None:
    if given.family == "string":
        _try(argument, "DOUBLE", types)
    elif given.family not in _NUMBERS:
        raise _refused(f"{name}() of {given.name} is not known to be of numbers.", node)
    elif given.family == "decimal" and (digits(given) or (38, 0))[0] > _CLOSED:
        raise _refused(f"{name}() of {given.name} may be out of range; CAST it AS DECIMAL(28, …).", node)
    elif name == "sum" and given.whole and given.bits > WHOLE["int"]:
        node.set("this", "try_sum")


def _arithmetic(node: exp.Binary, types: Types) -> None:
    sides = [types.of(node.this), types.of(node.expression)]
    found = types.of(node)
    families = {one.family for one in sides}
    if families <= _NUMBERS and (families & _FLOATING or _fits(found)):
        return
    name = type(node).__name__
    if not families <= _NUMBERS:
        raise _refused(f"{_SIGNS[name]} of {' and '.join(sorted(families))} may fail on some rows.", node)
    call = exp.Anonymous(this=_OPERATORS[name], expressions=[node.this, node.expression])
    _replace(node, call, types)


def _fits(found: Type) -> bool:
    """Whether a type holds every value that its operands could give."""
    if found.family == "decimal":
        return digits(found) is not None
    return found.whole and found.bits <= WHOLE[found.name]


def _division(node: exp.Binary, types: Types) -> None:
    divisor = node.expression
    families = {types.of(node.this).family, types.of(divisor).family}
    if not families <= _NUMBERS:
        sign = _SIGNS[type(node).__name__]
        raise _refused(f"{sign} of {' and '.join(sorted(families))} may fail on some rows.", node)
    if isinstance(node, exp.Div) and "decimal" in families and not families & _FLOATING:
        # of decimals the quotient may be out of range as well
        _replace(node, exp.Anonymous(this="try_divide", expressions=[node.this, divisor]), types)
        return
    if isinstance(node, exp.IntDiv) and not families <= {*WHOLE, "void"}:
        raise _refused("DIV of what is no whole number may be out of range; divide by / instead.", node)
    if isinstance(divisor, exp.Literal) and float(divisor.name):
        return
    if isinstance(node, exp.IntDiv) and types.of(node.this).name == "bigint":
        _above_least(node.this, types)
    kind = types.of(divisor)
    inner = divisor.this if isinstance(divisor, exp.Paren) else divisor
    zero: exp.Expr = exp.Literal.number(0)
    types.know(zero, Type("int"))
    if kind.name != "int":  # of the divisor's own type, which it stays
        zero = exp.Cast(this=zero, to=exp.DataType.build(kind.name, dialect="spark"))
        types.know(zero, Type(kind.name))
    call = exp.Anonymous(this="nullif", expressions=[inner, zero])
    node.set("expression", call)
    types.know(call, kind)


def _case(node: exp.Case, types: Types) -> None:
    whens = node.args.get("ifs") or []
    if node.this is not None:
        _meet([node.this, *(when.this for when in whens)], node, types)
    results = [when.args["true"] for when in whens]
    default = node.args.get("default")
    _same([*results, *([default] if default is not None else [])], node, types)


def _meet(nodes: list[exp.Expr], node: exp.Expr, types: Types) -> None:
    """Values that are compared: text beside another family is read as a value of it, or as NULL."""
    others = {types.of(one).family for one in nodes} - {"string", "void"}
    _fit(nodes, node, types)
    texts = [one for one in nodes if types.of(one).family == "string"]
    _known(nodes, node, types)
    _alike(others, node)
    if not texts or not others:
        return
    to = "DOUBLE" if len({_MET.get(one) for one in others}) > 1 else _MET.get(min(others))
    for one in texts:
        if to is not None and not _moment(one, Type(to.lower())):
            _try(one, to, types)


def _same(nodes: list[exp.Expr], node: exp.Expr, types: Types) -> None:
    """Values that one is chosen from are of one family, so that none has to be read as another."""
    _known(nodes, node, types)
    families = {types.of(one).family for one in nodes} - {"void"}
    if "string" in families and len(families) > 1:
        raise _refused("Text and other values meet here, and text may be no such value; TRY_CAST it.", node)
    _alike(families, node)
    _fit(nodes, node, types)


def _fit(nodes: list[exp.Expr], node: exp.Expr, types: Types) -> None:
    """Decimals that meet have a type that holds all of them."""
    numbers = [one for one in nodes if types.of(one).family in _NUMBERS]
    families = {types.of(one).family for one in numbers}
    if "decimal" not in families or families & _FLOATING or len(numbers) < 2:
        return
    sizes = [_size(one, types) for one in numbers]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes) or max(p - s for p, s in known) + max(s for _, s in known) > 38:
        raise _refused("Decimals that meet here may need more than 38 digits; TRY_CAST them AS DOUBLE.", node)


def _size(node: exp.Expr, types: Types) -> tuple[int, int] | None:
    """The most digits that an exact number has, and those after its point; None where not known."""
    while isinstance(node, exp.Paren | exp.Neg):
        node = node.this
    size = exact_digits(node, types.of(node))
    if size is not None or not isinstance(node, exp.Anonymous):
        return size
    inner = [_size(one, types) for one in node.expressions]
    known = [one for one in inner if one is not None]
    name = str(node.this).lower()
    if name in _ROUNDING and inner[0] is not None:
        return inner[0][0] + 1, inner[0][1]
    if name == "try_divide" and len(known) == 2:
        return _quotient(*known)
    return None


def _quotient(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    """Precision and scale of Spark's quotient: beyond 38 digits it drops some after the point."""
    (p, s), (q, r) = one, other
    scale = max(6, s + q + 1)
    whole = p - s + r
    if whole + scale <= 38:
        return whole + scale, scale
    return 38, max(38 - whole, min(scale, 6))


def _known(nodes: list[exp.Expr], node: exp.Expr, types: Types) -> None:
    if len({types.of(one).name for one in nodes} - {"void"}) > 1 or len(nodes) == 1:
        for one in nodes:
            if types.of(one) is UNKNOWN or types.of(one).family not in _PLAIN:
                raise _refused("The type of a value here is not known; CAST it.", node)


def _alike(families: set[str], node: exp.Expr) -> None:
    groups = [_NUMBERS, _TIMES]
    if len(families) > 1 and not any(families <= group for group in groups):
        raise _refused(f"Values of {' and '.join(sorted(families))} meet here; TRY_CAST them.", node)


def _try(node: exp.Expr, to: str, types: Types) -> None:
    tried = exp.TryCast(to=exp.DataType.build(to, dialect="spark"), safe=True)
    put(node, tried)
    tried.set("this", exp.Paren(this=node) if isinstance(node, exp.Binary | exp.Neg) else node)
    types.know(tried, Type(to.lower(), WHOLE.get(to.lower(), 0)))


def _replace(node: exp.Expr, other: exp.Expr, types: Types) -> None:
    kind = types.of(node)
    put(node, other)
    types.know(other, kind)


def _inside(node: exp.Expr) -> list[exp.Expr]:
    return list(node.expressions) if isinstance(node, exp.Distinct) else [node]


def _literal(node: exp.Expr) -> bool:
    while isinstance(node, exp.Paren | exp.Neg):
        node = node.this
    return isinstance(node, exp.Literal | exp.RawString | exp.Placeholder | exp.Null | exp.Boolean)


def _refused(message: str, node: exp.Expr) -> QueryRefused:
    return QueryRefused(
        f"{message} Where results stand for many rows a query must not fail for the value of one.",
        rule="sql.unfailing",
        at=place.at(node),
    )
