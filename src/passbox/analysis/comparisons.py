"""comparisonControls of the custom rule: which columns a query may compare, and with what.

A column of allowedLiteralComparisonColumns may be compared with a value that the query brings (a literal, a
parameter, NULL), one of allowedColumnComparisonColumns with another column; a column in both is free. Any
other column may only pass through: bare, cast, under arithmetic, as the argument of SUM and the like or of a
function of one argument, as a branch of CASE, or as what is sorted beside. COUNT takes a column as the table
has it; of an expression it would tell where that is null, as of `ln(n - 3)`, so that to count one is to
compare its columns with a value. To group, sort, deduplicate, rank or partition by a column, to take its
least or greatest value, and to join on it, is to compare it with columns; a function of several arguments
compares what it is given with the rest. What is not known here counts as both.

Constants count as values wherever they come from: `'x' AS k` in a WITH query compared with a column is a
comparison with a literal. Every mention is judged where it stands, by the base columns it may hold. The
identity column of an aggregation threshold may never be compared with a value, controls or not. This module
knows comparisons; it must not know text.
"""

from collections.abc import Mapping

from sqlglot import exp

from passbox.analysis import functions, place
from passbox.analysis.lineage import Lineage, Mention
from passbox.analysis.plan import Table
from passbox.errors import QueryRefused

_LITERAL, _COLUMN = "allowedLiteralComparisonColumns", "allowedColumnComparisonColumns"
_BOTH = frozenset({_LITERAL, _COLUMN})
_WORDS = {_LITERAL: "a value", _COLUMN: "another column"}
# what hands a value on, alone or mixed with others, and says nothing about how two of them relate
_CARRIERS = (
    exp.Paren, exp.Alias, exp.Cast, exp.TryCast, exp.Neg, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Extract,
    exp.Dot, exp.DPipe, exp.Subquery, exp.IgnoreNulls, exp.Tuple, exp.And, exp.Or, exp.Not, exp.Where,
    exp.Having, exp.Join, exp.Exists,
)  # fmt: skip
_MIXERS = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.DPipe, exp.Tuple)
_COMPARISONS = (
    exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ, exp.NullSafeNEQ, exp.Is, exp.In,
    exp.Between, exp.Like, exp.ILike, exp.RegexpLike, exp.Escape,
)  # fmt: skip
_VALUES = (exp.Literal, exp.RawString, exp.Placeholder, exp.Null, exp.Boolean)
# aggregates that compare no value with another
_PLAIN = frozenset(
    """avg count mean std stddev stddev_pop stddev_samp sum try_avg try_sum var_pop var_samp
    variance""".split()  # noqa: SIM905 (as in functions.py)
)


def enforce(facts: Lineage, tables: Mapping[str, Table]) -> None:
    """Refuse a comparison that the controls of a table do not allow."""
    controls = {table.name: found for table in tables.values() if (found := _controls(table)) is not None}
    if not controls:
        return
    columns = {id(mention.node): bool(mention.sources) for mention in facts.mentions}
    for mention in facts.mentions:
        held = [source for source in sorted(mention.sources) if source.table in controls]
        for kind in sorted(_needs(mention, columns)) if held else ():
            for source in held:
                allowed = controls[source.table][kind]
                if source.column.lower() not in allowed:
                    identity = source.column.lower() == identity_column(tables[source.table])
                    member = "aggregationThresholds" if identity else f"comparisonControls.{kind}"
                    raise QueryRefused(
                        f"{source.table}.{source.column} may not be compared with {_WORDS[kind]}; the "
                        f"columns "
                        f"of {source.table} that may be are: {', '.join(sorted(allowed)) or 'none'}.",
                        rule=f"custom.{member}",
                        table=source.table,
                        column=source.column,
                        allowed=sorted(allowed),
                        at=place.at(mention.node),
                    )


def identity_column(table: Table) -> str | None:
    """The identity column of the table's aggregation threshold, lower-case; None where it has none."""
    for threshold in (table.rule or {}).get("aggregationThresholds") or ():
        for column in threshold.get("identityColumns") or ():
            return str(column).lower()
    return None


def _controls(table: Table) -> Mapping[str, frozenset[str]] | None:
    """The columns that may be compared with values and with columns; None where nothing is controlled."""
    controls = (table.rule or {}).get("comparisonControls")
    identity = identity_column(table)
    if controls is None and identity is None:
        return None
    every = frozenset(column.name.lower() for column in table.columns)
    asked = {
        kind: every
        if controls is None
        else every & frozenset(str(name).lower() for name in controls.get(kind) or ())
        for kind in (_LITERAL, _COLUMN)
    }
    return {**asked, _LITERAL: asked[_LITERAL] - {identity}}


def _needs(mention: Mention, columns: Mapping[int, bool]) -> frozenset[str]:
    """Every control that a mention needs, from where it stands outwards."""
    needs: set[str] = set()
    mixed: set[str] = set()  # with what it is mixed before it is compared
    child, node = mention.node, mention.node.parent
    while node is not None:
        if isinstance(node, exp.CTE) or (isinstance(node, exp.Subquery) and _in_from(node)):
            break  # what goes on from here is mentioned again where it is used
        if isinstance(node, _MIXERS):
            mixed |= _others(node, child, columns)
        found = _asked(node, child, columns)
        bare = isinstance(node, exp.Where | exp.Having | exp.Join | exp.If) and child in (
            node.this,
            node.args.get("on"),
        )
        if bare and not needs:
            found = found | {_LITERAL}  # a bare condition is compared with TRUE
        if found:
            needs |= found | mixed
        if isinstance(node, exp.Anonymous) and node.this == "count":
            if not _untouched(mention.node, node):
                needs |= {_LITERAL} | mixed  # the count tells where the expression is null
            break  # how many of a column there are says nothing of one of them
        if isinstance(node, exp.Select) and child.arg_key != "expressions":
            break  # it chooses rows, and is not what they hold
        child, node = node, node.parent
    return frozenset(needs)


def _untouched(node: exp.Expr, call: exp.Expr | None = None) -> bool:
    """Whether a node is a column as a table has it, by itself in `call`, through any subqueries before."""
    outer = node.parent
    while call is not None and outer is not call and isinstance(outer, exp.Paren | exp.Distinct):
        outer = outer.parent
    if (call is not None and outer is not call) or not isinstance(node, exp.Column) or len(node.parts) < 2:
        return False
    alias, name = (part.name.lower() for part in node.parts[:2])
    source = _source(node, alias)
    if isinstance(source, exp.Table):
        ctes = {cte.alias.lower(): cte.this for cte in source.root().ctes}  # type: ignore[attr-defined]
        query = ctes.get(source.name.lower())
        return query is None or _given_untouched(query, name)
    return isinstance(source, exp.Subquery) and _given_untouched(source.this, name)


def _source(node: exp.Expr, alias: str) -> exp.Expr | None:
    """What a query around a node reads under an alias; the nearest where there are several."""
    select = node.find_ancestor(exp.Select)
    while select is not None:
        from_ = select.args.get("from_")
        for part in ([from_] if from_ is not None else []) + (select.args.get("joins") or []):
            if str(part.this.alias_or_name).lower() == alias:
                return part.this  # type: ignore[no-any-return]
        select = select.find_ancestor(exp.Select)
    return None


def _given_untouched(query: exp.Expr, name: str) -> bool:
    """Whether an output of a query is, in every part of a set operation, a column as a table has it."""
    parts = [query]
    selects: list[exp.Select] = []
    while parts:
        part = parts.pop()
        if isinstance(part, exp.SetOperation):
            parts += [part.expression, part.this]
        elif isinstance(part, exp.Subquery):
            parts.append(part.this)
        elif isinstance(part, exp.Select):
            selects.append(part)
    names = [item.alias_or_name.lower() for item in selects[0].expressions] if selects else []
    return name in names and all(
        _untouched(one.expressions[names.index(name)].unalias().unnest()) for one in selects
    )


def _in_from(node: exp.Expr) -> bool:
    return isinstance(node.parent, exp.From | exp.Join)


def _asked(node: exp.Expr, child: exp.Expr, columns: Mapping[int, bool]) -> frozenset[str]:
    """What one node on the way outwards asks of a column under its part `child`."""
    if isinstance(node, exp.Select):
        held = child.arg_key == "expressions"
        return frozenset({_COLUMN}) if held and node.args.get("distinct") else frozenset()
    if isinstance(node, exp.SetOperation):
        plain = isinstance(node, exp.Union) and not node.args.get("distinct")
        return frozenset() if plain else frozenset({_COLUMN})
    if isinstance(node, exp.Order | exp.Group | exp.Distinct | exp.Ordered):
        return frozenset({_COLUMN})
    if isinstance(node, exp.Window):
        return frozenset() if child is node.this else frozenset({_COLUMN})
    if isinstance(node, exp.Anonymous):
        return _call(node, child, columns)
    if isinstance(node, _COMPARISONS):
        return _others(node, child, columns)
    if isinstance(node, exp.Case):
        # CASE x WHEN …: x is compared; a branch only goes on
        return _others(node, child, columns) if child is node.this else frozenset()
    if isinstance(node, exp.If):
        compared = node.parent.this if isinstance(node.parent, exp.Case) else None
        return _kinds(compared, columns) if compared is not None and child is node.this else frozenset()
    return frozenset() if isinstance(node, _CARRIERS) else _BOTH


def _call(node: exp.Anonymous, child: exp.Expr, columns: Mapping[int, bool]) -> frozenset[str]:
    if node.this in _PLAIN:
        return frozenset()
    if node.this in functions.AGGREGATES or node.this in functions.WINDOW_ONLY:
        return frozenset({_COLUMN}) | _others(node, child, columns)
    return _others(node, child, columns)


def _others(node: exp.Expr, child: exp.Expr, columns: Mapping[int, bool]) -> frozenset[str]:
    """What the other parts of a comparison are: columns, values, or both."""
    found: frozenset[str] = frozenset()
    for part in node.iter_expressions():
        if part is not child:
            found |= _kinds(part, columns)
    return found


def _kinds(node: exp.Expr, columns: Mapping[int, bool]) -> frozenset[str]:
    """Whether the value of an expression comes from columns, from the query itself, or from both."""
    kinds: set[str] = set()
    stack = [node]
    while stack:
        part = stack.pop()
        if id(part) in columns:
            kinds.add(_COLUMN if columns[id(part)] else _LITERAL)
        elif isinstance(part, exp.Select):
            stack += part.expressions  # of a subquery only what it gives out
        elif isinstance(part, _VALUES):
            kinds.add(_LITERAL)
        else:
            stack += part.iter_expressions()
    return frozenset(kinds or {_LITERAL})
