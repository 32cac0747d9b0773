"""The Spark type of every expression of a resolved query, and how many bits its whole numbers can need.

Asked after `lineage.trace`, when every column is written as `alias`.`column`. A type is Spark's name of it
(`int`, `decimal(10,2)`, `array<string>`), or `UNKNOWN`, which is always a safe answer. This module knows
syntax and types; it must not know rules or engines.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sqlglot import exp

from passbox.analysis import functions
from passbox.analysis.plan import Parameter, Table
from passbox.analysis.tree import nodes


@dataclass(frozen=True)
class Type:
    """A type. bits: of a whole number, how many bits the greatest magnitude can need."""

    name: str
    bits: int = 0

    @property
    def family(self) -> str:
        """The name without its parameters: `decimal`, `array`."""
        return self.name.partition("(")[0].partition("<")[0]

    @property
    def whole(self) -> bool:
        return self.name in WHOLE


UNKNOWN = Type("unknown")
WHOLE = {"tinyint": 7, "smallint": 15, "int": 31, "bigint": 63}  # → the bits that it holds
_RANK = [*WHOLE, "decimal", "float", "double"]
_NAMES = {
    "TEXT": "string",
    "VARCHAR": "string",
    "TIMESTAMPTZ": "timestamp",
    "TIMESTAMPLTZ": "timestamp",
    "TIMESTAMPNTZ": "timestamp_ntz",
    "integer": "int",
    "long": "bigint",
    "short": "smallint",
    "byte": "tinyint",
    "real": "float",
}
_TRUTHS = (
    exp.Predicate, exp.And, exp.Or, exp.Not, exp.Boolean, exp.Exists, exp.In, exp.Between, exp.Is
)  # fmt: skip
_TRANSPARENT = (exp.Paren, exp.Alias, exp.Filter, exp.IgnoreNulls, exp.Distinct, exp.Ordered)
_ARITHMETIC = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod)
Columns = Mapping[str, Type]


def named(name: str) -> Type:
    """The type that a table's owner or a parameter calls so."""
    plain = name.strip().lower()
    plain = _NAMES.get(plain, plain)
    if plain in ("decimal", "dec", "numeric"):
        plain = "decimal(10,0)"
    return Type(plain.replace(", ", ","), WHOLE.get(plain, 0))


class Types:
    """The types of one query's expressions; `of` answers for every node below it."""

    def __init__(
        self, tree: exp.Query, tables: Mapping[str, Table], parameters: Mapping[str, str | Parameter]
    ) -> None:
        self._known: dict[int, Type] = {}
        self._outputs: dict[int, list[Type]] = {}
        self._parameters = parameters
        self._sources: dict[str, Columns] = {
            table.name.lower(): {column.name.lower(): named(column.type) for column in table.columns}
            for table in tables.values()
        }
        for cte in tree.ctes:
            self._sources[cte.alias.lower()] = self._query(cte.this, {})
        self._query(tree, {})

    def of(self, node: exp.Expr) -> Type:
        """UNKNOWN where it cannot be told."""
        return self._known.get(id(node), UNKNOWN)

    def know(self, node: exp.Expr, type: Type) -> None:
        """Notes the type of a node that was put in."""
        self._known[id(node)] = type

    def outputs(self, query: exp.Expr) -> list[Type]:
        """The types of the columns of a query under the tree, in order."""
        return self._outputs[id(query)]

    # ---- queries -------------------------------------------------------------------------------------

    def _query(self, node: exp.Expr, outer: Mapping[str, Columns]) -> Columns:
        """Output name → type, in order."""
        found = self._select(node, outer)
        self._outputs[id(node)] = list(found.values())
        return found

    def _select(self, node: exp.Expr, outer: Mapping[str, Columns]) -> Columns:
        if isinstance(node, exp.Subquery):
            return self._query(node.this, outer)
        if isinstance(node, exp.SetOperation):
            left = self._query(node.this, outer)
            right = self._query(node.expression, outer)
            merged = (common([a, b]) for a, b in zip(left.values(), right.values(), strict=True))
            found = dict(zip(left, merged, strict=True))
            for part in ("order", "limit", "offset"):
                self._part(node.args.get(part), {"": found})
            return found
        visible = {**outer, **self._from(node, outer)}
        outputs: dict[str, Type] = {}
        for item in node.expressions:
            self._expression(item, visible)
            one = self.of(item)
            outputs[item.alias_or_name.lower()] = Type(one.name, min(one.bits, WHOLE.get(one.name, 0)))
        for name, part in node.args.items():
            if name not in ("expressions", "from_", "with_"):
                for one in part if isinstance(part, list) else [part]:
                    self._part(one, {**visible, "": outputs})
        return outputs

    def _from(self, node: exp.Expr, outer: Mapping[str, Columns]) -> dict[str, Columns]:
        found: dict[str, Columns] = {}
        from_ = node.args.get("from_")
        items = [from_.this] if from_ is not None else []
        items += [join.this for join in node.args.get("joins") or []]
        for item in items:
            if isinstance(item, exp.Table):
                found[item.alias.lower()] = self._sources.get(item.name.lower(), {})
            elif isinstance(item, exp.Subquery):
                found[item.alias.lower()] = self._query(item.this, outer)
        return found

    def _part(self, node: object, visible: Mapping[str, Columns]) -> None:
        if isinstance(node, exp.Join):
            self._part(node.args.get("on"), visible)
        elif isinstance(node, exp.Expr):
            self._expression(node, visible)

    # ---- expressions ---------------------------------------------------------------------------------

    def _expression(self, node: exp.Expr, visible: Mapping[str, Columns]) -> None:
        for current in reversed(nodes(node, leave=(exp.Query, exp.Column))):
            self._known[id(current)] = self._one(current, visible)

    def _one(self, node: exp.Expr, visible: Mapping[str, Columns]) -> Type:
        match node:
            case exp.Query():
                return next(iter(self._query(node, visible).values()), UNKNOWN)
            case exp.Column():
                return _column(node, visible)
            case exp.Literal():
                return _literal(node)
            case exp.RawString():
                return Type("string")
            case exp.Null():
                return Type("void")
            case exp.Placeholder():
                given = self._parameters.get(node.name)
                return named(given.type if isinstance(given, Parameter) else "string")
            case exp.Cast() | exp.TryCast():
                return _cast(node.to, self.of(node.this))
            case exp.Neg():
                return self.of(node.this)
            case exp.Interval():
                return Type("interval")
            case exp.Extract():
                return _extracted(str(node.this.name).lower())
            case exp.Case():
                branches = [item.args["true"] for item in node.args["ifs"]]
                default = node.args.get("default")
                return common([self.of(item) for item in (*branches, *([default] if default else []))])
            case exp.Bracket():
                return element(self.of(node.this))
            case exp.BitwiseAnd() | exp.BitwiseOr() | exp.BitwiseXor():
                return common([self.of(node.this), self.of(node.expression)])
            case exp.BitwiseNot():
                return self.of(node.this)
            case exp.Anonymous():
                return self._call(node)
            case exp.WithinGroup():
                return Type("double") if node.this.name.startswith("percentile") else UNKNOWN
        return self._by_kind(node)

    def _by_kind(self, node: exp.Expr) -> Type:
        if isinstance(node, _ARITHMETIC):
            return arithmetic(node, self.of(node.this), self.of(node.expression))
        if isinstance(node, (*_TRANSPARENT, exp.Window)):
            inner = node.this if isinstance(node.this, exp.Expr) else next(iter(node.expressions), None)
            return self.of(inner) if inner is not None else UNKNOWN
        if isinstance(node, exp.DPipe):
            sides = {self.of(node.this).family, self.of(node.expression).family}
            return Type("string") if not sides & {"array", "binary", "unknown"} else UNKNOWN
        return Type("boolean") if isinstance(node, _TRUTHS) else UNKNOWN

    def _call(self, node: exp.Anonymous) -> Type:
        given = [self.of(item) for item in node.expressions]
        name = str(node.this).lower()
        result = functions.RESULTS.get(name)
        match result:
            case None:
                return UNKNOWN
            case "first":
                return given[0] if given else UNKNOWN
            case "tried":  # bits of what fits at all; a decimal's digits are left open
                found = common(given)
                return Type("decimal") if found.family == "decimal" else named(found.name)
            case "common":
                return common(given[1:] if name in ("if", "nvl2") else given)
            case "element":
                return element(given[0]) if given else UNKNOWN
            case "array" | "keys" | "values":
                return _array(result, given if name == "array" else given[:1])
            case "total":
                return _total(given[0]) if given else UNKNOWN
            case "rounded":
                return _rounded(given, name == "round")
            case "mean":
                return _mean(given[0]) if given else UNKNOWN
        bits = functions.SMALL.get(name)
        return named(result) if bits is None else Type(result, bits)


def arithmetic(node: exp.Expr, left: Type, right: Type) -> Type:
    """What an operator gives. Bits may be more than the type holds: then it may overflow."""
    if isinstance(node, exp.IntDiv):
        return Type("bigint", left.bits if left.whole and right.whole else 63)
    if isinstance(node, exp.Div):
        both_exact = all(side.whole or side.family == "decimal" for side in (left, right))
        decimal = both_exact and "decimal" in (left.family, right.family)
        return Type("decimal") if decimal else Type("double")
    if {left.family, right.family} & {"date", "timestamp", "timestamp_ntz", "interval"}:
        return _moved(left, right, isinstance(node, exp.Sub))
    found = common([left, right])
    if found.family == "decimal":
        return exact(node, left, right) or Type("decimal")
    if not found.whole:
        return found
    left, right = (Type(one.name, min(one.bits, WHOLE.get(one.name, 63))) for one in (left, right))
    if isinstance(node, exp.Mul):
        return Type(found.name, left.bits + right.bits)
    if isinstance(node, exp.Mod):
        return Type(found.name, min(left.bits, right.bits))
    return Type(found.name, max(left.bits, right.bits) + 1)


def _moved(left: Type, right: Type, minus: bool) -> Type:
    names = (left.family, right.family)
    if "interval" in names:
        return left if right.family == "interval" else right
    if minus and names[0] in ("date", "timestamp") and names[1] in ("date", "timestamp"):
        return Type("interval")
    return left if left.family == "date" else UNKNOWN


def common(types: list[Type]) -> Type:
    """The type that Spark brings several to; bits are the most of any."""
    known = [one for one in types if one.name != "void"]
    if not known:
        return types[0] if types else UNKNOWN
    bits = max(one.bits for one in known)
    if len({one.name for one in known}) == 1:
        return Type(known[0].name, bits)
    if not all(one.family in _RANK for one in known):
        return UNKNOWN
    top = max(known, key=lambda one: _RANK.index(one.family))
    if top.name == "float" and any(not one.whole for one in known if one.name != "float"):
        return Type("double")
    if top.family == "decimal":
        return _widest([digits(one) for one in known])
    return Type(top.name, bits if top.whole else 0)


def _widest(sizes: list[tuple[int, int] | None]) -> Type:
    """The decimal that holds all of them; without its digits where they are not known or too many."""
    known = [size for size in sizes if size is not None]
    scale = max((s for _, s in known), default=0)
    precision = max((p - s for p, s in known), default=38) + scale
    return Type(
        f"decimal({precision},{scale})" if len(known) == len(sizes) and precision <= 38 else "decimal"
    )


def element(type: Type) -> Type:
    """What an array holds, or a map's values."""
    inner = type.name[type.name.find("<") + 1 : -1]
    if type.family == "array":
        return named(inner)
    if type.family == "map" and "<" not in inner and "," in inner:
        return named(inner.split(",", 1)[1])
    return UNKNOWN


def _array(kind: str, given: list[Type]) -> Type:
    """An array of what is given, or of a map's keys or values."""
    held = common(given)
    if kind != "array":
        keys, _, values = held.name.removeprefix("map<").removesuffix(">").partition(",")
        held = named(keys if kind == "keys" else values) if held.family == "map" else UNKNOWN
    return held if held is UNKNOWN or held.family == "void" else Type(f"array<{held.name}>")


def _rounded(given: list[Type], double: bool) -> Type:
    """What round, or else ceil and floor, give; a decimal's digits are left open."""
    if not given or given[0].family not in _RANK:
        return UNKNOWN
    if given[0].family == "decimal" or (len(given) > 1 and not double):
        return Type("decimal")
    return named(given[0].name) if double else named("bigint")


def _total(type: Type) -> Type:
    if type.whole:
        return named("bigint")
    size = digits(type)
    if size is not None:
        return Type(f"decimal({min(size[0] + 10, 38)},{size[1]})")
    return Type("double") if type.family in ("float", "double") else UNKNOWN


def _mean(type: Type) -> Type:
    size = digits(type)
    if type.family == "decimal":
        return Type(f"decimal({size[0] + 4},{size[1] + 4})" if size and size[0] <= 34 else "decimal")
    return Type("double")


def _column(node: exp.Column, visible: Mapping[str, Columns]) -> Type:
    alias, *path = (part.name.lower() for part in node.parts)
    if not path:  # an output, in ORDER BY, GROUP BY or HAVING
        return visible.get("", {}).get(alias, UNKNOWN)
    found = visible.get(alias, {}).get(path[0], UNKNOWN)
    for field in path[1:]:
        inner = re.search(rf"[<,]{re.escape(field)}:([a-z_]+(?:\(\d+,\d+\))?)(?=[,>])", found.name)
        found = named(inner[1]) if inner else UNKNOWN
    return found


def _literal(node: exp.Literal) -> Type:
    text = str(node.this)
    if node.is_string:
        return Type("string")
    if text.isdigit():
        bits = int(text).bit_length() if len(text) < 30 else 99
        return Type("int" if bits <= 31 else "bigint" if bits <= 63 else "decimal", bits if bits <= 63 else 0)
    if "e" in text.lower():
        return Type("double")
    before, _, after = text.partition(".")
    return Type(f"decimal({len(before.lstrip('0')) + len(after) or 1},{len(after)})")


def _cast(to: exp.Expr, given: Type) -> Type:
    word = str(to.this.name)
    name = _NAMES.get(word, word.lower())
    if name == "decimal":
        sizes = [item.name for item in to.expressions] or ["10", "0"]
        return Type(f"decimal({','.join([*sizes, '0'][:2])})")
    bits = WHOLE.get(name, 0)
    return Type(name, min(bits, given.bits) if given.whole else bits)


def _extracted(unit: str) -> Type:
    bits = functions.SMALL.get(unit, WHOLE["int"])
    return Type("decimal(8,6)") if unit.startswith("second") else Type("int", bits)


def digits(type: Type) -> tuple[int, int] | None:
    """Precision and scale, as a number of an exact type is brought to a decimal; None where not known."""
    if type.name in _DIGITS:
        return _DIGITS[type.name], 0
    found = re.fullmatch(r"decimal\((\d+),(\d+)\)", type.name)
    return (int(found[1]), int(found[2])) if found else None


_DIGITS = {"tinyint": 3, "smallint": 5, "int": 10, "bigint": 20}


def exact(node: exp.Expr, left: Type, right: Type) -> Type | None:
    """The decimal that + - or * of two exact numbers gives; None where not known or beyond 38 digits."""
    one, other = exact_digits(node.this, left), exact_digits(node.expression, right)
    if one is None or other is None:
        return None
    (p, s), (q, r) = one, other
    if isinstance(node, exp.Mul):
        whole, scale = p + q + 1, s + r
    else:
        scale = max(s, r)
        whole = max(p - s, q - r) + scale + 1
    return Type(f"decimal({whole},{scale})") if whole <= 38 else None


def exact_digits(node: exp.Expr, type: Type) -> tuple[int, int] | None:
    """As `digits`; a literal has those that it is written with."""
    literal = isinstance(node, exp.Literal) and str(node.this).isdigit()
    return (len(str(int(node.this))), 0) if literal else digits(type)
