"""Where everything comes from: resolves every name of a query in place and follows each output to its base
columns.

After `trace` every column of the tree is written as `alias`.`column`, every star is spelled out, every output
has a name and every table has an alias, so that an engine has nothing left to resolve. An output's lineage
holds every base column that its expression mentions, through aliases, functions, windows, subqueries in the
expression with all their clauses, set operations (by position), WITH queries and FROM subqueries. What only
filters, joins, groups or sorts is kept apart, as influences. Whatever cannot be resolved is refused.

This module knows names and lineage; it must not know rules.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import NamedTuple

from sqlglot import exp

from passbox.analysis import place, text
from passbox.analysis.construct import NAME, refused
from passbox.analysis.plan import Table
from passbox.analysis.scope import BaseColumn, Output, Scope, Source, Sources, resolve, unknown
from passbox.analysis.tree import children
from passbox.errors import QueryRefused

MAX_TABLES = 15
MAX_SCANS = 200  # how often tables are read in all, a WITH query as often as it is used: engines write it out
_LONGEST_LABEL = 64


class Mention(NamedTuple):
    """A node of the resolved tree and the base columns whose values it may hold; none for a constant."""

    node: exp.Expr
    sources: Sources


@dataclass(frozen=True)
class Lineage:
    """What a query reads and gives out.

    outputs:    in order, with the base columns each may hold
    influences: base columns that filter, join, group or sort anywhere in the query
    reads:      table → the columns it must be given with, sorted
    aliases:    alias → table for the sources of the outermost SELECT that are base tables
    mentions:   what stands for a column in the resolved tree, an output's name or position included
    """

    outputs: tuple[Output, ...]
    influences: Sources
    reads: Mapping[str, tuple[str, ...]]
    aliases: Mapping[str, str]
    mentions: tuple[Mention, ...] = field(compare=False, repr=False)

    def node(self, output: Output, source: BaseColumn) -> exp.Expr:
        """Where the expression of an output mentions one of its sources."""
        found = (mention for span in output.spans for mention in self.mentions[span])
        return next(mention.node for mention in found if source in mention.sources)


def trace(tree: exp.Query, tables: Mapping[str, Table]) -> Lineage:
    """Resolve `tree` in place against `tables` (association name → table)."""
    tracer = _Tracer(tables)
    try:
        outputs = tracer.root(tree)
    except QueryRefused as refusal:
        refusal.at = place.at(tracer.here)
        raise
    if not tracer.reads:
        raise QueryRefused("The query reads no table of the collaboration.", rule="sql.table")
    if len(tracer.reads) > MAX_TABLES:
        raise QueryRefused(
            f"The query reads {len(tracer.reads)} tables; at most {MAX_TABLES} are allowed.",
            rule="limits.tables",
        )
    return Lineage(
        outputs=tuple(outputs),
        influences=frozenset(tracer.influences),
        reads={name: tuple(sorted(columns)) for name, columns in sorted(tracer.reads.items())},
        aliases=tracer.aliases,
        mentions=tuple(tracer.mentions),
    )


class _Tracer:
    def __init__(self, tables: Mapping[str, Table]) -> None:
        self.tables: dict[str, list[Table]] = {}
        for table in tables.values():
            self.tables.setdefault(table.name.lower(), []).append(table)
        self.ctes: dict[str, list[Output]] = {}
        self.scans = 0
        self.scans_of: dict[str, int] = {}
        self.reads: dict[str, set[str]] = {}
        self.influences: set[BaseColumn] = set()
        self.aliases: dict[str, str] = {}
        self.mentioned: set[BaseColumn] = set()
        self.mentions: list[Mention] = []
        self.here: exp.Expr | None = None  # what is looked at, for refusals

    # ---- queries -------------------------------------------------------------------------------------

    def root(self, tree: exp.Query) -> list[Output]:
        with_ = tree.args.get("with_")
        declared: set[str] = set()
        for cte in with_.expressions if with_ is not None else ():
            self.here = cte.args["alias"]
            name = _lower(cte.args["alias"].this)
            if name in self.tables or name in declared:
                raise QueryRefused(
                    f"The WITH query {name} has the name of "
                    f"{'a table' if name in self.tables else 'another'}; give it a name of its own.",
                    rule="sql.name",
                    table=self.tables[name][0].name if name in self.tables else None,
                )
            declared.add(name)
            before = self.scans
            outputs = self.query(cte.this, None)
            self.scans_of[name] = self.scans - before
            _unique(outputs, f"The WITH query {name}")
            self.ctes[name] = outputs
        outputs = self.query(tree, None, root=True)
        _unique(outputs, "The result")
        return outputs

    def query(self, node: exp.Expr, parent: Scope | None, *, root: bool = False) -> list[Output]:
        self.here = node
        if node.args.get("with_") is not None and not root:
            raise refused("WITH inside a subquery", "Move it to the start of the query.")
        if isinstance(node, exp.Select):
            return self.select(node, parent, root=root)
        if isinstance(node, exp.SetOperation):
            return self.set_operation(node, parent)
        if (
            isinstance(node, exp.Subquery)
            and node.args.get("alias") is None
            and isinstance(node.this, exp.Query)
        ):
            return self.query(node.this, parent)
        raise refused("A query in this form")

    def set_operation(self, node: exp.SetOperation, parent: Scope | None) -> list[Output]:
        left = self.query(node.this, parent)
        right = self.query(node.expression, parent)
        if len(left) != len(right):
            self.here = node.expression
            raise QueryRefused(
                f"The two sides of {type(node).__name__.upper()} have {len(left)} and {len(right)} columns.",
                rule="sql.column",
            )
        # for EXCEPT and INTERSECT too: a row that stays tells that its value is, or is not, on the right
        outputs = [
            Output(a.name, a.sources | b.sources, a.spans + b.spans) for a, b in zip(left, right, strict=True)
        ]
        self.order(node, Scope(), outputs, only_outputs=True)
        return outputs

    def select(self, node: exp.Select, parent: Scope | None, *, root: bool) -> list[Output]:
        scope = Scope(parent)
        from_ = node.args.get("from_")
        if from_ is not None:
            scope.add(self.source(from_.this, 0))
            self.joins(node, scope)
        elif node.args.get("joins"):
            raise refused("JOIN without FROM")
        if root:
            self.aliases = {s.alias: s.table for s in scope.sources.values() if s.table is not None}
        if (where := node.args.get("where")) is not None:
            self.influences |= self.expression(where.this, scope)
        distinct = node.args.get("distinct")
        if distinct is not None and distinct.expressions:
            raise refused("DISTINCT ON")
        outputs = self.projections(node, scope)
        if (group := node.args.get("group")) is not None:
            for item in group.expressions:
                self.influences |= self.grouped(item, scope, outputs)
        if (having := node.args.get("having")) is not None:
            self.influences |= self.expression(having.this, scope, outputs)
        self.order(node, scope, outputs, only_outputs=distinct is not None)
        return outputs

    # ---- FROM ----------------------------------------------------------------------------------------

    def source(self, node: exp.Expr, number: int) -> Source:
        self.here = node
        alias_node = node.args.get("alias")
        alias = _lower(alias_node.this) if alias_node is not None else None
        if isinstance(node, exp.Subquery):
            if not isinstance(node.this, exp.Query):
                raise refused("A join in brackets", "Write the joins one after the other.")
            outputs = self.query(node.this, None)
            if alias is None:
                alias = f"__source_{number}"  # nothing can name it; two engines need not invent one
                node.set("alias", exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))
            _unique(outputs, f"The subquery {alias}")
            return Source(alias, _by_name(outputs))
        if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
            raise refused("A table function or anything else but a table or a subquery in FROM")
        name = _lower(node.this)
        self.scans += self.scans_of.get(name, 1)
        if self.scans > MAX_SCANS:
            raise QueryRefused(
                f"The query reads tables more than {MAX_SCANS} times, counting a WITH query as often as it "
                f"is used; "
                "use fewer joins, or use it less often.",
                rule="limits.tables",
            )
        if name in self.ctes:
            source = Source(alias or name, _by_name(self.ctes[name]))
            written = name
        else:
            table = self.table(name, node.this.name)
            self.reads.setdefault(table.name, set())
            source = Source(
                alias or name,
                {
                    c.name.lower(): Output(c.name, frozenset({BaseColumn(table.name, c.name)}))
                    for c in table.columns
                },
                table.name,
                frozenset(c.name.lower() for c in table.columns if c.type.lower() not in _FLAT_TYPES),
            )
            written = table.name
        origin = node if alias_node is None else alias_node.this
        node.set("alias", exp.TableAlias(this=place.name(source.alias, origin)))
        node.set("this", place.name(written, node.this))
        return source

    def table(self, name: str, written: str) -> Table:
        found = self.tables.get(name, [])
        if len(found) != 1:
            known = ", ".join(sorted(table.name for group in self.tables.values() for table in group)[:30])
            raise QueryRefused(
                f"There is no table {written} in the collaboration"
                + (" whose name is its own without regard to case" if found else "")
                + f"; there are: {known}.",
                rule="sql.table",
                table=written,
                allowed=sorted(table.name for group in self.tables.values() for table in group),
            )
        return found[0]

    def joins(self, node: exp.Select, scope: Scope) -> None:
        joins = node.args.get("joins") or []
        sides = {_word(join, "side") for join in joins}
        for number, join in enumerate(joins, 1):
            self.here = join
            kind, side = _word(join, "kind"), _word(join, "side")
            on, using = join.args.get("on"), join.args.get("using") or []
            if kind not in _JOIN_KINDS or side not in _JOIN_SIDES:
                raise refused(f"{side} {kind} JOIN".strip())
            if on is None and not using:
                if side or kind in ("OUTER", "SEMI", "ANTI"):
                    raise refused("A join of this kind without ON or USING")
                if sides & {"RIGHT", "FULL"}:
                    # a comma binds more weakly than JOIN, which matters beside these two
                    raise refused("A join without ON beside a RIGHT or FULL JOIN")
            source = self.source(join.this, number)
            names = [_lower(name) for name in using]
            if names:
                if side in ("RIGHT", "FULL"):
                    raise refused(f"USING in a {side} JOIN", "Write ON.")
                join.set("using", None)
                join.set("on", self.using(names, using, scope, source))
            self.here = join.this
            scope.add(source, using=names)
            if on is not None:
                self.influences |= self.expression(on, scope)
            if kind in ("SEMI", "ANTI"):
                scope.hide(source)

    def using(self, names: list[str], written: list[exp.Expr], scope: Scope, right: Source) -> exp.Expr:
        pairs: list[exp.Expr] = []
        for name, origin in dict(zip(names, written, strict=True)).items():
            self.here = origin
            found = resolve((name,), Scope(None, scope.sources, scope.visible, scope.places))
            if found is None:
                raise unknown(name, scope.sources.values())
            column = right.columns.get(name)
            if column is None:
                raise unknown(name, [right])
            for alias, output in ((found.alias, found.column), (right.alias, column)):
                self.influences |= self.read(output)
                pairs.append(_column((alias, output.name), origin))
                self.mentions.append(Mention(pairs[-1], output.sources))
        equal: list[exp.Expr] = [
            exp.EQ(this=left, expression=right) for left, right in zip(pairs[::2], pairs[1::2], strict=True)
        ]
        on = equal[0]
        for condition in equal[1:]:
            on = exp.And(this=on, expression=condition)
        return on

    # ---- SELECT list and the clauses after it ----------------------------------------------------------

    def projections(self, node: exp.Select, scope: Scope) -> list[Output]:
        written: list[exp.Expr] = []
        outputs: list[Output] = []
        taken: set[str] = {item.alias.lower() for item in node.expressions if isinstance(item, exp.Alias)}
        for item in node.expressions:
            self.here = item
            for projection in self.spell_out(item, scope):
                if not isinstance(projection, exp.Alias):
                    name = self.name(projection, scope, taken, len(outputs))
                    projection = exp.Alias(this=projection, alias=exp.to_identifier(name))
                taken.add(projection.alias.lower())
                start = len(self.mentions)
                sources = self.expression(projection.this, scope)
                outputs.append(Output(projection.alias, sources, (slice(start, len(self.mentions)),)))
                written.append(projection)
        node.set("expressions", written)
        return outputs

    def spell_out(self, item: exp.Expr, scope: Scope) -> Iterable[exp.Expr]:
        """The projections that a star stands for; anything else stands for itself."""
        if isinstance(item, exp.Star):
            if not scope.visible:
                raise QueryRefused("A star needs a FROM.", rule="sql.star")
            return [
                _column((alias, scope.sources[alias].columns[name].name), item)
                for alias, name in scope.visible
            ]
        if isinstance(item, exp.Column) and isinstance(item.this, exp.Star):
            alias = item.table.lower()
            source = scope.source(alias)
            if source is None or item.args.get("db") is not None:
                raise QueryRefused(
                    f"There is no table {item.table} in this FROM to take every column of.", rule="sql.star"
                )
            return [_column((alias, output.name), item.args["table"]) for output in source.columns.values()]
        return [item]

    def name(self, projection: exp.Expr, scope: Scope, taken: set[str], number: int) -> str:
        if isinstance(projection, exp.Column):
            found = resolve(_parts(projection), scope)
            if found is None:
                raise unknown(_parts(projection)[0].lower(), scope.sources.values(), _NO_ALIAS)
            return found.fields[-1] if found.fields else found.column.name
        if isinstance(projection, exp.Dot):
            return str(projection.expression.name)
        label = text.label(projection)
        fits = len(label) <= _LONGEST_LABEL and NAME.fullmatch(label) and label.lower() not in taken
        return label if fits else f"_c{number}"

    def grouped(self, item: exp.Expr, scope: Scope, outputs: list[Output]) -> Sources:
        self.here = item
        if (ordinal := _ordinal(item, outputs, "GROUP BY")) is not None:
            self.mentions.append(Mention(item, ordinal.sources))
            return ordinal.sources
        return self.expression(item, scope, outputs)

    def order(self, node: exp.Query, scope: Scope, outputs: list[Output], *, only_outputs: bool) -> None:
        order = node.args.get("order")
        for item in order.expressions if order is not None else ():
            self.here = item
            if (ordinal := _ordinal(item.this, outputs, "ORDER BY")) is not None:
                self.mentions.append(Mention(item.this, ordinal.sources))
                self.influences |= ordinal.sources
            else:
                self.influences |= self.expression(
                    item.this, Scope() if only_outputs else scope, outputs, outputs_first=True
                )

    # ---- expressions -----------------------------------------------------------------------------------

    def expression(
        self,
        node: exp.Expr,
        scope: Scope,
        outputs: list[Output] | None = None,
        *,
        outputs_first: bool = False,
    ) -> Sources:
        """Resolve every name under `node` in place and return every base column that it mentions.

        `outputs`: those of the same SELECT, where its clause may name them (GROUP BY, HAVING, ORDER BY).
        """
        mentioned: set[BaseColumn] = set()
        stack = [node]
        while stack:
            current = stack.pop()
            if isinstance(current, exp.Column):
                mentioned |= self.column(current, scope, outputs, outputs_first and current is node)
            elif isinstance(current, exp.Query):
                mentioned |= self.subquery(current, scope)
            else:
                stack += children(current)
        return frozenset(mentioned)

    def column(
        self, node: exp.Column, scope: Scope, outputs: list[Output] | None, outputs_first: bool
    ) -> Sources:
        self.here = node
        parts = _parts(node)
        alias = _output(parts[0].lower(), outputs) if outputs and len(parts) == 1 else None
        found = resolve(parts, scope)
        if alias is not None and (found is None or (outputs_first and alias.sources == found.column.sources)):
            # stays a bare name: the engine's own rule finds the output, as no source has the name
            _write(node, (alias.name,))
            self.mentions.append(Mention(node, alias.sources))
            return alias.sources
        if found is None:
            raise unknown(parts[0].lower(), scope.sources.values(), _NO_ALIAS)
        if alias is not None and alias.sources != found.column.sources:
            raise QueryRefused(
                f"The name {parts[0]} is both an output and a column here; give the output another alias or "
                f"write {found.alias}.{found.column.name}.",
                rule="sql.name",
                column=found.column.name,
            )
        _write(node, (found.alias, found.column.name, *found.fields))
        self.mentions.append(Mention(node, found.column.sources))
        return self.read(found.column)

    def subquery(self, node: exp.Query, scope: Scope) -> Sources:
        """A subquery inside an expression: its value depends on every column that it mentions anywhere."""
        before, self.mentioned = self.mentioned, set()
        if isinstance(node.parent, exp.Exists):
            _without_projections(node)
        outputs = self.query(node, scope)
        if not isinstance(node.parent, exp.Exists) and len(outputs) != 1:
            self.here = node
            raise QueryRefused(
                f"A subquery inside an expression must have one column; this one has {len(outputs)}.",
                rule="sql.column",
            )
        inside = frozenset(self.mentioned)
        self.mentioned = before | inside
        return inside

    def read(self, output: Output) -> Sources:
        """Note that the query reads a column of one of its sources."""
        self.mentioned |= output.sources
        for table, column in output.sources:
            self.reads[table].add(column)
        return output.sources


# a type that is not here, decimal(10,2) too, counts as one that may have fields
_FLAT_TYPES = frozenset(
    {"boolean", "tinyint", "smallint", "int", "integer", "bigint", "float", "double", "decimal"}
    | {"string", "binary", "date", "timestamp", "timestamp_ntz"}
)
_JOIN_KINDS = ("", "INNER", "CROSS", "OUTER", "SEMI", "ANTI")
_JOIN_SIDES = ("", "LEFT", "RIGHT", "FULL")
_COLUMN_PARTS = ("this", "table", "db", "catalog")
_NO_ALIAS = " An alias of a SELECT list cannot be used in the same list or in its WHERE; use a subquery."


def _lower(identifier: exp.Expr) -> str:
    return str(identifier.name).lower()


def _word(join: exp.Expr, part: str) -> str:
    return str(join.args.get(part) or "").upper()


def _parts(column: exp.Column) -> tuple[str, ...]:
    return tuple(part.this for part in column.parts)


def _column(written: tuple[str, str], origin: exp.Expr) -> exp.Column:
    alias, name = written
    return exp.Column(this=place.name(name, origin), table=place.name(alias, origin))


def _write(column: exp.Column, written: tuple[str, ...]) -> None:
    """Writes a column in full; what was there already keeps its place in the text."""
    if len(written) > len(_COLUMN_PARTS):
        raise refused("A struct field this deep")
    parts = column.parts
    for part, name, old in zip_longest(_COLUMN_PARTS[: len(written)], reversed(written), reversed(parts)):
        if old is not None and old.this == name:
            old.set("quoted", True)
        else:
            column.set(part, place.name(name, old or parts[0]))


def _by_name(outputs: Iterable[Output]) -> dict[str, Output]:
    return {output.name.lower(): output for output in outputs}


def _unique(outputs: Iterable[Output], what: str) -> None:
    seen: set[str] = set()
    for output in outputs:
        name = output.name.lower()
        if name in seen:
            raise QueryRefused(
                f"{what} has two columns called {output.name}; give each its own alias.",
                rule="sql.name",
                column=output.name,
            )
        seen.add(name)


def _output(name: str, outputs: list[Output]) -> Output | None:
    found = [output for output in outputs if output.name.lower() == name]
    if len(found) > 1:
        raise QueryRefused(
            f"Two outputs are called {name}; give each its own alias.", rule="sql.name", column=name
        )
    return found[0] if found else None


def _ordinal(item: exp.Expr, outputs: list[Output], clause: str) -> Output | None:
    if not isinstance(item, exp.Literal) or item.is_string or not item.name.isdigit():
        return None
    place = int(item.name[:9])
    if not 1 <= place <= len(outputs):
        raise QueryRefused(f"{clause} {item.name}: the query has {len(outputs)} outputs.", rule="sql.column")
    return outputs[place - 1]


def _without_projections(node: exp.Query) -> None:
    """EXISTS asks for rows, not values: what it selects is replaced by 1 where that changes no row."""
    plain = isinstance(node, exp.Select) and not any(
        node.args.get(part) for part in ("group", "having", "order", "distinct", "limit", "offset")
    )
    if plain and all(isinstance(item, exp.Star | exp.Column | exp.Literal) for item in node.expressions):
        node.set("expressions", [exp.Literal.number(1)])
