"""Differential privacy of the custom rule: the query with bounds, of which noise may then be told.

A query that reads a table under differential privacy is WITH queries that keep the user identifier
(`user_level`) and one last SELECT of COUNT, COUNT DISTINCT, SUM, AVG and STDDEV. It becomes a query of which
the engine tells integers only, for cells that the text spells out:

    rows      of the last FROM and WHERE, without those that name no user
    keys      GROUP BY values that the text lists (IN, =, CASE): nobody's presence shows by a group's
    bounds    of SUM, AVG and STDDEV stand in the text: least(greatest(x, 0), 100); values beyond are clipped
    limit     of each user the same few rows count, chosen by their own content

This module knows the last SELECT and its bounds; it must not know noise, epsilon or policies.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sqlglot import exp

from passbox.analysis import text, total
from passbox.analysis.bounded import GRAIN, ROWS_PER_USER, Aggregate, Bounded, Key, Type, Value
from passbox.analysis.lineage import Lineage
from passbox.analysis.plan import Parameter, Purpose, Table
from passbox.analysis.total import RULE, refused
from passbox.analysis.user_level import Joined, Reader, conjuncts, output, plain
from passbox.errors import QueryRefused

MAX_CELLS = 10_000
_LARGEST = 1e15  # of a bound; beyond, doubles no longer tell integers apart
_USER_TYPES = ("string", "tinyint", "smallint", "int", "integer", "bigint")
_FUNCTIONS: Mapping[str, Type] = {
    "count": "COUNT", "sum": "SUM", "try_sum": "SUM", "avg": "AVG", "mean": "AVG", "try_avg": "AVG",
    "std": "STDDEV", "stddev": "STDDEV", "stddev_samp": "STDDEV", "stddev_pop": "STDDEV",
}  # fmt: skip
_FORM = (
    "The last SELECT must be aggregates, COUNT, COUNT DISTINCT, SUM, AVG or STDDEV, each alone, and columns "
    "of its GROUP BY"
)


def bound(
    tree: exp.Query,
    facts: Lineage,
    tables: Mapping[str, Table],
    purpose: Purpose,
    parameters: Mapping[str, str | Parameter],
) -> tuple[exp.Query, Bounded] | None:
    """The bounded query of a resolved tree, which is used up; None where it reads no protected table.

    Raises QueryRefused with the rule `custom.differentialPrivacy`.
    """
    read = {table.name: table for table in tables.values() if table.name in facts.reads}
    protected = {name: table for name, table in read.items() if (table.rule or {}).get("differentialPrivacy")}
    if not protected:
        return None
    user = _user(read, protected, purpose)
    kinds = {
        name: total.of_type(value.type) if isinstance(value, Parameter) else total.TEXT
        for name, value in parameters.items()
    }
    _no_subqueries(tree)
    reader = Reader(read, frozenset(protected), user, kinds)
    reader.read(tree)
    if not isinstance(tree, exp.Select):
        raise refused(f"{_FORM}; a set operation may stand in a WITH query.", tree)
    return _Last(tree, reader).bounded()


def _no_subqueries(tree: exp.Query) -> None:
    """Every query in the tree is the tree, a WITH query, or a side of a set operation."""
    for node in tree.find_all(exp.Query):
        inside = node.parent
        while isinstance(inside, exp.SetOperation | exp.Subquery):
            inside = inside.parent
        if inside is not None and not isinstance(inside, exp.CTE):
            raise refused("Subqueries are not allowed under differential privacy; write a WITH query.", node)


def user_column(table: Table) -> str:
    """The user identifier of a protected table, lower-case."""
    [column] = (table.rule or {})["differentialPrivacy"]["columns"]
    return str(column["name"]).lower()


def _user(read: Mapping[str, Table], protected: Mapping[str, Table], purpose: Purpose) -> str:
    first = next(iter(protected.values()))
    if purpose.additional_analysis is not None:
        raise QueryRefused(
            f"{first.name} is under differential privacy: its data may not feed a model, only be told with "
            "noise. Its owner can turn differential privacy off in the table's rule.",
            rule=RULE,
            table=first.name,
        )
    for table in read.values():
        for other in ("aggregationThresholds", "comparisonControls"):
            if (table.rule or {}).get(other):
                raise QueryRefused(
                    f"The rule of {table.name} has {other}, which cannot be combined with differential "
                    f"privacy ({first.name}); query them apart.",
                    rule=RULE,
                    table=table.name,
                )
    types: dict[str, str] = {}
    for table in protected.values():
        user = user_column(table)
        found = next((column.type.lower() for column in table.columns if column.name.lower() == user), None)
        if found not in _USER_TYPES:
            raise QueryRefused(
                f"The user identifier {user} of {table.name} must be an allowed column of type "
                f"{', '.join(_USER_TYPES)}.",
                rule=RULE,
                table=table.name,
                column=user,
            )
        if user != user_column(first) or (types and found not in types.values()):
            raise QueryRefused(
                f"{table.name} and {first.name} must have the same user identifier, of the same type: "
                f"{user} and {user_column(first)}.",
                rule=RULE,
                table=table.name,
                column=user,
            )
        types[table.name] = found
    return user_column(first)


@dataclass
class _Last:
    """The last SELECT in the making: what its rows must carry, and what is measured of them."""

    select: exp.Select
    reader: Reader
    carried: dict[str, str] = field(
        default_factory=dict
    )  # SQL of a value of a row → its column `x0`, `x1`, …
    measured: dict[str, int] = field(default_factory=dict)  # SQL of a measure → its sensitivity

    def bounded(self) -> tuple[exp.Query, Bounded]:
        select = self.select
        self.joined: Joined = self.reader.joined(select)
        self.checker = self.reader.checker(self.joined)
        self._shape()
        grouped = [output(item, select) for item in _expressions(select, "group")]
        groups = tuple(self._values(item) for item in grouped)
        self.cells = math.prod(map(len, groups))
        if self.cells > MAX_CELLS:
            raise refused(f"The keys spell out {self.cells} groups; at most {MAX_CELLS} are allowed.", select)
        self.limit = 1 if self.joined.single else ROWS_PER_USER
        alias, column = self.joined.users[0]
        self.user = text.render(exp.column(column, table=alias, quoted=True))
        outputs: list[Key | Aggregate] = []
        for item in select.expressions:
            value = plain(item.this)
            place = next((i for i, key in enumerate(grouped) if plain(key) == value), None)
            outputs.append(self._aggregate(item.alias, value) if place is None else Key(item.alias, place))
        if not self.measured:
            raise refused(f"{_FORM}; this one has no aggregate.", select)
        result = Bounded(tuple(outputs), groups, tuple(self.measured.values()), self.limit)
        return self._query(grouped, groups), result

    def _shape(self) -> None:
        for part in ("having", "order", "limit", "offset", "distinct"):
            if self.select.args.get(part) is not None:
                raise refused(
                    f"{part.upper()} of the last SELECT is not allowed under differential privacy: it would "
                    "look at values without noise. Filter and sort what you receive.",
                    self.select,
                )
        if not self.joined.users:
            raise refused(
                "The last SELECT must read rows with protected data, each with its user identifier.",
                self.select,
            )
        if (where := self.select.args.get("where")) is not None:
            self.checker.condition(where.this)

    # ---- keys ------------------------------------------------------------------------------------------

    def _values(self, key: exp.Expr) -> tuple[Value, ...]:
        """The values that the text spells out for a key of GROUP BY."""
        kind = self.checker.kind(key)
        key = plain(key) or key
        if kind == total.BOOLEAN:
            return (True, False, None)
        if isinstance(key, exp.Case):
            results: list[exp.Expr] = [when.args["true"] for when in key.args.get("ifs") or ()]
            results.append(key.args.get("default") or exp.Null())
            return self._spelt(results, key)
        where = self.select.args.get("where")
        for condition in conjuncts(where.this if where is not None else None):
            if isinstance(condition, exp.In) and plain(condition.this) == key:
                return self._spelt(condition.expressions, key)
            if isinstance(condition, exp.EQ) and plain(condition.this) == key:
                return self._spelt([condition.expression], key)
        raise self._data_derived(key)

    def _spelt(self, nodes: Iterable[exp.Expr], key: exp.Expr) -> tuple[Value, ...]:
        values = [_value(node) for node in nodes]
        if any(value is _NO_VALUE for value in values):
            raise self._data_derived(key)
        kinds = {type(value) for value in values if value is not None}
        if len(kinds) > 1:
            raise self._data_derived(key)
        return tuple(dict.fromkeys(values))  # type: ignore[arg-type]

    def _data_derived(self, key: exp.Expr) -> QueryRefused:
        shown = text.label(key)
        return refused(
            f"GROUP BY {shown}: which groups there are would depend on the data, and a group's presence "
            f"would tell of its users. Spell them out: WHERE {shown} IN ('…', '…'), or CASE WHEN … THEN 'a' "
            "ELSE 'b' END, with texts or whole numbers. Each is then told, also where it is empty.",
            key,
        )

    # ---- aggregates ------------------------------------------------------------------------------------

    def _aggregate(self, name: str, node: exp.Expr | None) -> Aggregate:
        type = _FUNCTIONS.get(str(node.this)) if isinstance(node, exp.Anonymous) else None
        if type is None or not isinstance(node, exp.Anonymous) or len(node.expressions) != 1:
            raise refused(f"{_FORM}; {name} is something else.", node)
        argument, limit = node.expressions[0], self.limit
        shown = text.label(node)
        if isinstance(argument, exp.Distinct):
            if type != "COUNT" or len(argument.expressions) != 1:
                raise refused(f"{_FORM}; of DISTINCT values there is only COUNT, of one.", node)
            value = argument.expressions[0]
            self._known(value)
            users = self.joined.is_user(value)
            column = "u" if users else self._carry(text.render(value))
            change = min(limit, self.cells) if users else limit
            measure = self._measure(f"count(DISTINCT b.{column})", change)
            return Aggregate(name, "COUNT_DISTINCT", shown, (measure,))
        if type == "COUNT":
            if isinstance(argument, exp.Star):
                return Aggregate(name, type, shown, (self._measure("count(*)", limit),))
            self._known(argument)
            return Aggregate(name, type, shown, (self._count(text.render(argument)),))
        low, high = self._bounds(argument, shown, single=type == "SUM")
        value = text.render(argument)
        measures: tuple[int, ...]
        if type == "SUM":
            measures = (self._total(value, low, high, 0.0, max(-low, high)),)
        else:
            middle, half = (low + high) / 2, (high - low) / 2
            measures = (self._total(value, low, high, middle, half), self._count(value))
            if type == "STDDEV":
                measures += (self._total(value, low, high, middle, half, squared=True),)
        return Aggregate(name, type, shown, measures, low, high, sample=node.this != "stddev_pop")

    def _known(self, node: exp.Expr) -> None:
        if self.checker.kind(node) == total.OTHER:
            raise refused("Only texts, numbers, booleans, dates and times can be counted here.", node)

    def _bounds(self, node: exp.Expr, shown: str, *, single: bool) -> tuple[float, float]:
        if self.checker.kind(node) not in total.NUMBERS:
            raise refused(f"{shown} needs numbers.", node)
        low, high = _interval(node)
        sound = low < high or (single and low == high != 0)
        if not (sound and max(abs(low), abs(high)) <= _LARGEST):
            inner = text.label(node)
            raise refused(
                f"{shown} needs bounds that do not come from the data, two different numbers in the text: "
                f"least(greatest({inner}, 0), 100) for values from 0 to 100. Values beyond them are clipped.",
                node,
            )
        return low, high

    def _count(self, value: str) -> int:
        return self._measure(f"count(b.{self._carry(value)})", self.limit)

    def _total(
        self, value: str, low: float, high: float, middle: float, half: float, *, squared: bool = False
    ) -> int:
        """The sum of a value in units of half its range from its middle, clipped twice."""
        number = f"nanvl(CAST({value} AS DOUBLE), {_double(low)})"
        inside = f"least(greatest({number}, {_double(low)}), {_double(high)})"
        unit = f"({inside} - {_double(middle)}) * {_double(1 / half)}"
        unit = f"({unit}) * ({unit})" if squared else unit
        whole = f"CAST(round(({unit}) * {_double(GRAIN)}) AS BIGINT)"
        clipped = f"CASE WHEN ({value}) IS NOT NULL THEN least(greatest({whole}, -{GRAIN}), {GRAIN}) END"
        column = self._carry(clipped)
        return self._measure(f"coalesce(sum(b.{column}), 0)", self.limit * GRAIN)

    def _carry(self, value: str) -> str:
        return self.carried.setdefault(value, f"x{len(self.carried)}")

    def _measure(self, sql: str, sensitivity: int) -> int:
        self.measured.setdefault(sql, sensitivity)
        return list(self.measured).index(sql)

    # ---- the query that runs -----------------------------------------------------------------------------

    def _query(self, grouped: list[exp.Expr], groups: tuple[tuple[Value, ...], ...]) -> exp.Query:
        names = [f"k{i}" for i in range(len(groups))]
        indices = [_index(key, values) for key, values in zip(grouped, groups, strict=True)]
        columns = [*names, *self.carried.values()]
        carried = [
            f"{self.user} AS u",
            *(f"{sql} AS {name}" for sql, name in zip(indices, names, strict=True)),
            *(f"{sql} AS {name}" for sql, name in self.carried.items()),
        ]
        listed = "".join(f", s.{name}" for name in columns)
        order = f"xxhash64({listed[2:]}){listed}" if columns else "s.u"
        kept = " AND ".join(f"s.{name} IS NOT NULL" for name in ("u", *names))
        measures = ", ".join(f"{sql} AS m{i}" for i, sql in enumerate(self.measured))
        told = "".join(f"b.{name} AS {name}, " for name in names)
        group = f" GROUP BY {', '.join(f'b.{name}' for name in names)}" if names else ""
        # texts of trees that passed the gate, and what is parsed here passes it again
        limited = f"row_number() OVER (PARTITION BY s.u ORDER BY {order}) AS n"
        rows = f"SELECT s.u{listed}, {limited} FROM (SELECT {', '.join(carried)}) AS s WHERE {kept}"  # noqa: S608
        sql = f"SELECT {told}{measures} FROM ({rows}) AS b WHERE b.n <= {self.limit}{group}"  # noqa: S608
        outer = text.parse(sql, limited=False)
        inner = next(one.this for one in outer.find_all(exp.Subquery) if one.alias == "s")
        for part in ("from_", "joins", "where"):
            inner.set(part, self.select.args.get(part))
        outer.set("with_", self.select.args.get("with_"))
        return outer


_NO_VALUE = object()


def _value(node: exp.Expr) -> object:
    """The text, whole number or boolean that a node spells out."""
    node = plain(node) or node
    if isinstance(node, exp.Null):
        return None
    if isinstance(node, exp.Boolean):
        return bool(node.this)
    if isinstance(node, exp.Neg) and isinstance(_value(node.this), int):
        return -int(_value(node.this))  # type: ignore[call-overload]
    if isinstance(node, exp.Literal) and node.is_string:
        return node.name
    if isinstance(node, exp.Literal) and node.name.isdigit() and int(node.name) < 2**63:
        return int(node.name)
    return _NO_VALUE


def _index(key: exp.Expr, values: tuple[Value, ...]) -> str:
    """The index of a row's value among those that are spelt out, NULL for none."""
    sql = text.render(key)
    cases = []
    for index, value in enumerate(values):
        if value is None:
            condition = f"({sql}) IS NULL"
        else:
            shown = exp.Literal.string(value) if isinstance(value, str) else exp.convert(value)
            condition = f"({sql}) = {text.render(shown)}"
        cases.append(f"WHEN {condition} THEN {index}")
    return f"CASE {' '.join(cases)} END"


def _interval(node: exp.Expr | None) -> tuple[float, float]:
    """Bounds of an expression that follow from its text, as far as NULL does not undo them."""
    node = plain(node)
    anything = (-math.inf, math.inf)
    if isinstance(node, exp.Cast) and total.of_type(node.args["to"].this.name) == total.DOUBLE:
        return _interval(node.this)
    if isinstance(node, exp.Literal) and not node.is_string:
        return float(node.name), float(node.name)
    if isinstance(node, exp.Neg):
        low, high = _interval(node.this)
        return -high, -low
    if isinstance(node, exp.Case):
        results = [when.args["true"] for when in node.args.get("ifs") or ()]
        return _hull([*results, *([node.args["default"]] if node.args.get("default") else [])])
    if isinstance(node, exp.Anonymous) and node.this in ("coalesce", "ifnull", "nvl", "if"):
        return _hull(node.expressions[1:] if node.this == "if" else node.expressions)
    if isinstance(node, exp.Anonymous) and node.this in ("least", "greatest"):
        spans = [_interval(part) for part in node.expressions]
        # least and greatest skip NULLs, so only what is never NULL bounds for sure
        sure = [span for span in spans if span[0] == span[1]] or [anything]
        if node.this == "least":
            return min(low for low, _ in spans), min(high for _, high in [*sure, max(spans, key=_high)])
        return max(low for low, _ in [*sure, min(spans)]), max(high for _, high in spans)
    return anything


def _high(span: tuple[float, float]) -> float:
    return span[1]


def _hull(nodes: Iterable[exp.Expr]) -> tuple[float, float]:
    spans = [_interval(node) for node in nodes if not isinstance(plain(node), exp.Null)]
    return min((low for low, _ in spans), default=0.0), max((high for _, high in spans), default=0.0)


def _double(value: float) -> str:
    return f"CAST({value!r} AS DOUBLE)"


def _expressions(select: exp.Select, part: str) -> list[exp.Expr]:
    found = select.args.get(part)
    return list(found.expressions) if found is not None else []
