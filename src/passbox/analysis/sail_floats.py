"""Doubles and floats on Sail: what compares, orders, groups or hashes them sees NaN and zeros as Spark does.

To Spark all NaN are one value, the greatest, and -0.0 is 0.0. Sail tells a NaN with a sign, which `sqrt(-1)`
and many files hold, from one without, puts it below all numbers, leaves any NaN out of `max`, and sorts -0.0
before 0.0. So every place where two values meet is written with a key: one NaN, one zero. What cannot be
written so, because its type is not known or an array holds the numbers, is refused. `sail` asks `Floats`,
which writes in place.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Set
from functools import cache
from typing import cast

from sqlglot import exp

from passbox.analysis import text
from passbox.analysis.tree import copied, nodes, put
from passbox.analysis.types import UNKNOWN, Type, Types
from passbox.errors import QueryRefused

MAX_COPIED = 40_000  # nodes: where calls are nested, a form that holds its argument twice doubles the text
FLOATING = frozenset({"float", "double"})
_NESTED = frozenset({"array", "map", "struct"})
_KEY = "(nanvl(:x, CAST('NaN' AS {type})) + {zero})"
_ONE_NAN = "nanvl(:x, CAST('NaN' AS {type}))"
_NUMBER = "nanvl(:x, {null})"  # null for NaN
# These fail on what they do not allow: no infinity, or neither an infinity nor NaN.
_FAILING = (
    "CASE WHEN {what} = CAST('Infinity' AS {type}) THEN CAST(CAST(:x AS DECIMAL(38, 0)) AS {type}) "
    "ELSE {form} END"
)
_NOT_INFINITE = _FAILING.replace("{what}", "abs(:x)").replace("{form}", ":x")
_FINITE_KEY = _FAILING.replace("{what}", "abs(:x)").replace("{form}", _KEY)
_NUMBERS = _FAILING.replace("{what}", "abs(nanvl(:x, CAST('Infinity' AS {type})))").replace("{form}", ":x")
_CLAMPED = (
    f"CASE WHEN {_NUMBER} IS NOT NULL THEN least(greatest(:x, CAST(-1E308 AS DOUBLE)), "
    "CAST(1E308 AS DOUBLE)) END"
)
_LOOSE = re.compile(r"\b(?:float|double|unknown)\b")
_CALLS = {
    "nullifzero": "CASE WHEN :x = CAST(0 AS DOUBLE) THEN NULL ELSE :x END",
    "round": "(:call + {zero})",
    "format_number": "replace(:call, 'inf', '∞')",
    "isnan": "coalesce(:call, false)",
}
_AGGREGATES = {
    "max": "CASE WHEN :count_number < :count THEN CAST('NaN' AS {type}) ELSE :number END",
    "min": "CASE WHEN :count_number = 0 AND :count > 0 THEN CAST('NaN' AS {type}) ELSE :number END",
    "corr": "coalesce(:whole, CASE WHEN :pairs > 1 THEN CAST('NaN' AS DOUBLE) END)",
}
# function → the places of the arguments that it compares or hashes, and what they are written as
_ARGUMENTS: Mapping[str, tuple[slice, str]] = {
    "max_by": (slice(1, 2), _KEY),
    "min_by": (slice(1, 2), _KEY),
    "collect_set": (slice(None), _KEY),
    "hash": (slice(None), _KEY),
    "xxhash64": (slice(None), _KEY),
    "atan2": (slice(None), _KEY),
    **dict.fromkeys(["ln", "log", "log10", "log1p", "log2"], (slice(None), _ONE_NAN)),
    **dict.fromkeys(["covar_pop", "covar_samp", "regr_sxy"], (slice(None), _NOT_INFINITE)),
    "greatest": (slice(None), _ONE_NAN),
    "least": (slice(None), _ONE_NAN),
    "median": (slice(None), _NUMBERS),
    "percentile": (slice(0, 1), _NUMBERS),
    "width_bucket": (slice(0, 1), _CLAMPED),
}
_ELEMENTS = frozenset([
    "array_distinct", "array_intersect", "array_max", "array_min", "array_position", "array_remove",
    "array_sort", "array_union", "element_at", "map", "map_contains_key", "map_from_arrays", "sort_array",
])  # fmt: skip
_UNSURE = "not known to hold no doubles or floats, whose NaN and zeros it tells apart; cast them"
Refused = Callable[[str, str], QueryRefused]


class Floats:
    """What is written into one query. refused: makes the refusal of what only Spark answers."""

    def __init__(self, types: Types, refused: Refused) -> None:
        self._types, self._refused = types, refused
        self._written: dict[int, exp.Expr] = {}  # with the nodes themselves, so that their ids stay theirs
        self._keys: set[int] = set()
        self._copied = 0

    def wrote(self, node: exp.Expr) -> bool:
        """Whether a node is of this module's making, which nobody need look at again."""
        return id(node) in self._written

    # ---- before anything else is written -------------------------------------------------------------

    def prepare(self, tree: exp.Query) -> None:
        """Keys of GROUP BY, DISTINCT, set operations and IN, where several places must stay the same text."""
        for node in nodes(tree, leave=(exp.Column,)):
            if isinstance(node, exp.Select):
                if node.args.get("group") is not None:
                    self._group(node)
                if node.args.get("distinct") is not None:
                    self._outputs(node, "DISTINCT")
            elif isinstance(node, exp.SetOperation) and _distinct(node):
                self._outputs(node, "The set operation")
            elif isinstance(node, exp.In) and node.args.get("query") is not None:
                self._membership(node)

    def _group(self, select: exp.Select) -> None:
        named = {one.alias.lower(): one.this for one in select.expressions}
        meant = [_meant(select, named, item) for item in select.args["group"].expressions]
        wanted = {one.copy() for one in meant if not self._settled("GROUP BY", one)}
        parts = [*select.expressions, *(select.args.get(part) for part in ("group", "having", "order"))]
        for found in [one for part in parts if wanted and part is not None for one in _within(part, wanted)]:
            self._key(found)

    def _outputs(self, query: exp.Expr, what: str) -> None:
        """The columns of a query, in all the SELECTs that they come from."""
        if isinstance(query, exp.Subquery):
            self._outputs(query.this, what)
        elif isinstance(query, exp.SetOperation):
            self._outputs(query.this, what)
            self._outputs(query.expression, what)
        elif isinstance(query, exp.Select):
            for item in query.expressions:
                self.meet(what, item.this)

    def _membership(self, node: exp.In) -> None:
        query = node.args["query"]
        if any(one.family in FLOATING for one in self._types.outputs(query)):
            if isinstance(node.parent, exp.Not):
                raise self._refused("NOT IN of a subquery", "of doubles or floats it differs; use NOT EXISTS")
            self._outputs(query, "IN")

    # ---- as everything else is written ----------------------------------------------------------------

    def meet(self, what: str, node: exp.Expr, *, zeros: bool = True) -> None:
        """Where a value meets others, of which some may be `zeros`: a double or float is written as a key."""
        if not self._settled(what, node):
            if zeros:
                self._key(node)
            else:
                self._write(node, _ONE_NAN, x=node)

    def call(self, node: exp.Anonymous) -> None:
        """A function that compares, hashes or shows numbers; of aggregates, `aggregate`."""
        name, what = str(node.this), f"The function {node.this}"
        first = node.expressions[0] if node.expressions else None
        if first is None:
            return
        if isinstance(first, exp.Distinct):
            for item in list(first.expressions):
                self.meet(f"DISTINCT inside {name}", item)
            return
        if name in _ELEMENTS:
            self._nested(node, what)
        places, form = _ARGUMENTS.get(name, (slice(0), ""))
        for item in node.expressions[places]:
            if not self._settled(what, item):
                self._write(item, form, x=item)
        if self._types.of(first).family not in FLOATING:
            return
        if name == "nullif":
            one, other = (self._form(_KEY, self._types.of(item), x=item) for item in node.expressions)
            same = exp.EQ(this=one, expression=other)
            self._write(node, "CASE WHEN :same THEN NULL ELSE :x END", x=first, same=same)
        elif name in _CALLS:
            self._write(node, _CALLS[name], x=first, call=node)

    def _nested(self, node: exp.Anonymous, what: str) -> None:
        """Functions that compare the elements of arrays or the keys of maps."""
        held = self._types.of(node.expressions[0])
        if node.this == "map":
            inner = " ".join(self._types.of(key).name for key in node.expressions[::2])
        elif node.this == "element_at" and held.family == "array":
            return
        else:
            inner = held.name.partition(",")[0] if held.family == "map" else held.name
        if _LOOSE.search(inner):
            raise self._refused(what, f"what it compares is {_UNSURE}")

    def aggregate(self, node: exp.Expr) -> None:
        """max, min and corr; `node` is the whole of it, with its FILTER or OVER."""
        inner = _inner(node)
        name = str(inner.this) if isinstance(inner, exp.Anonymous) else ""
        if name not in _AGGREGATES or (
            isinstance(node.parent, exp.Filter | exp.Window) and node.arg_key == "this"
        ):
            return

        def over(name: str, *arguments: exp.Expr) -> exp.Expr:
            call = exp.Anonymous(this=name, expressions=[self._copy(one) for one in arguments])
            if inner is node:
                return call
            whole = self._copy(node)
            put(_inner(whole), call)
            return whole

        if name == "corr":
            self._write(node, _AGGREGATES[name], whole=node, pairs=over("regr_count", *inner.expressions))
            return
        value = inner.expressions[0]
        value = value.expressions[0] if isinstance(value, exp.Distinct) else value
        if not self._settled(f"The function {name}", value):
            given = self._types.of(value)
            number = self._form(_NUMBER, given, x=value)
            counts = {"count": over("count", value), "count_number": over("count", number)}
            self._write(node, _AGGREGATES[name], type=given, number=over(name, number), **counts)

    def window(self, node: exp.Window) -> None:
        """PARTITION BY; its ORDER BY is in `ordered`."""
        for item in list(node.args.get("partition_by") or []):
            self.meet("PARTITION BY", item)

    def ordered(self, node: exp.Ordered) -> None:
        """ORDER BY of a window or a group; that of a query is in `order`."""
        around = node.parent.parent if node.parent is not None else None
        interpolated = isinstance(around, exp.WithinGroup) and str(around.this.this) == "percentile_cont"
        if not isinstance(around, exp.Query) and not self._settled("ORDER BY", node.this):
            self._write(node.this, _FINITE_KEY if interpolated else _KEY, x=node.this)

    # ---- after everything under a query is written ------------------------------------------------------

    def order(self, query: exp.Query) -> None:
        """ORDER BY of a query, which may name an output by its place or its alias."""
        order = query.args.get("order")
        for item in order.expressions if order is not None else []:
            self._order(query, item)

    def _order(self, query: exp.Query, item: exp.Ordered) -> None:
        number = _ordinal(item.this)
        if number is None and not (isinstance(item.this, exp.Column) and not item.this.table):
            self.meet("ORDER BY", item.this)
            return
        select = _first(query)
        output = next(
            one
            for place, one in enumerate(select.expressions, 1)
            if place == number or (number is None and one.alias.lower() == item.this.name.lower())
        )
        type = self._types.outputs(query)[select.expressions.index(output)]
        if type.family not in FLOATING:
            self._settled("ORDER BY", item.this, type)
        elif not (isinstance(query, exp.SetOperation) and _distinct(query)) and not self._is_key(output.this):
            # the output's own text means the same to every engine; what is computed once stays a name
            plain = isinstance(query, exp.Select) and output.find(exp.Window, exp.Query) is None
            meant = self._copy(output.this) if plain else exp.Column(this=output.args["alias"].copy())
            self._types.know(meant, type)
            item.set("this", meant)
            self._key(meant)

    # ---- writing --------------------------------------------------------------------------------------

    def _is_key(self, node: exp.Expr) -> bool:
        return id(node) in self._keys

    def _settled(self, what: str, node: exp.Expr, type: Type | None = None) -> bool:
        """Whether a value may be compared as it is; refuses what cannot be told."""
        given = type or self._types.of(node)
        if given.family in FLOATING:
            return self._is_key(node) or self._never_nan(node)
        if given.name == UNKNOWN.name or (given.family in _NESTED and _LOOSE.search(given.name)):
            raise self._refused(what, f"its values are {_UNSURE}")
        return True

    def _never_nan(self, node: exp.Expr) -> bool:
        """Whether a value is a number whatever the row."""
        while isinstance(node, exp.Paren | exp.Neg):
            node = node.this
        given = self._types.of(node.this) if isinstance(node, exp.Cast) else self._types.of(node)
        if isinstance(node, exp.Cast):
            return given.whole or given.family == "decimal" or self._never_nan(node.this)
        literal = isinstance(node, exp.Literal | exp.Placeholder)
        return literal and given.family not in ("string", UNKNOWN.name)

    def _key(self, node: exp.Expr) -> None:
        """Writes a double or float so that all NaN are one value, the greatest, and both zeros another."""
        if not self._is_key(node):
            self._keys.add(id(self._write(node, _KEY, x=node)))

    def _write(self, node: exp.Expr, form: str, type: Type | None = None, **parts: exp.Expr) -> exp.Expr:
        """Puts a form in the place of a node, which may be part of it."""
        own = self._types.of(node)
        given = type or self._types.of(parts.get("x", node))
        hole = exp.Null()
        put(node, hole)
        written = self._form(form, given, **parts)
        put(hole, written)
        self._types.know(written, own)
        return written

    def _form(self, form: str, type: Type, **parts: exp.Expr) -> exp.Expr:
        """A form with its parts: those that stand nowhere yet are moved into it, the others copied."""
        written: exp.Expr = copied(_parsed(form, type.name.upper()))
        holes = [one for one in nodes(written) if isinstance(one, exp.Placeholder)]
        self._written |= {id(node): node for node in nodes(written)}
        for hole in holes:
            part = parts[hole.name]
            put(hole, part if part.parent is None else self._copy(part))
        return written

    def _copy(self, node: exp.Expr) -> exp.Expr:
        self._copied += len(nodes(node))
        if self._copied > MAX_COPIED:
            raise self._refused(
                "The query",
                "calls inside calls are written with their arguments several times, which makes it too long",
            )
        return copied(node)


@cache
def _parsed(form: str, type: str) -> exp.Expr:
    """A form for a type. Zero and null are doubles without a cast, which every later step would read too."""
    zero, null = ("0E0", "NULL") if type == "DOUBLE" else (f"CAST(0 AS {type})", f"CAST(NULL AS {type})")
    query = "SELECT " + form.replace("{zero}", zero).replace("{null}", null).replace("{type}", type)
    [parsed] = text.parse(query).expressions
    return cast(exp.Expr, parsed)


def is_number_but_zero(node: exp.Expr) -> bool:
    """Whether a number is written here that is no zero, not even as a double."""
    while isinstance(node, exp.Paren | exp.Neg):
        node = node.this
    return isinstance(node, exp.Literal) and not node.is_string and float(node.name) != 0


def _inner(node: exp.Expr) -> exp.Expr:
    """The call under FILTER and OVER."""
    while isinstance(node, exp.Filter | exp.Window):
        node = node.this
    return node


def _distinct(query: exp.SetOperation) -> bool:
    """Whether it compares rows: all but UNION ALL do."""
    return not isinstance(query, exp.Union) or bool(query.args.get("distinct"))


def _first(query: exp.Expr) -> exp.Select:
    """The SELECT that names the columns of a query."""
    while not isinstance(query, exp.Select):
        query = query.this
    return query


def _ordinal(node: exp.Expr) -> int | None:
    return (
        int(node.name)
        if isinstance(node, exp.Literal) and not node.is_string and node.name.isdigit()
        else None
    )


def _meant(select: exp.Select, named: Mapping[str, exp.Expr], item: exp.Expr) -> exp.Expr:
    """What an item of GROUP BY stands for: an output by its place or its alias, or itself."""
    number = _ordinal(item)
    if number is not None:
        return cast(exp.Expr, select.expressions[number - 1].this)
    if isinstance(item, exp.Column) and not item.table:
        return named[item.name.lower()]
    return item


def _within(node: exp.Expr, wanted: Set[exp.Expr]) -> Iterator[exp.Expr]:
    """The parts of a clause that are one of `wanted`, those of subqueries left out."""
    stack = [node]
    while stack:
        current = stack.pop()
        if current in wanted:
            yield current
        elif not isinstance(current, exp.Query):
            stack.extend(current.iter_expressions())
