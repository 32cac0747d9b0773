"""Names and what they stand for: sources of a FROM clause, their columns, and where each comes from.

Names resolve as Spark resolves them (without regard to case, inner query first), or not at all: wherever an
engine might read a name in another way than the gate, the query is refused. This module knows names and
lineage; it must not know rules.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from passbox.analysis import functions
from passbox.errors import QueryRefused


class BaseColumn(NamedTuple):
    """A column of a table of the collaboration: association name and lower-case column name."""

    table: str
    column: str


Sources = frozenset[BaseColumn]


@dataclass(frozen=True)
class Output:
    """A column that a query gives out.

    name:    as it is written
    sources: every base column whose value may be in it
    spans:   its parts of `Lineage.mentions`
    """

    name: str
    sources: Sources
    spans: tuple[slice, ...] = field(default=(), compare=False, repr=False)


@dataclass
class Source:
    """One item of a FROM clause.

    alias:   lower-case name by which the query calls it
    columns: lower-case column name → (name as it must be written, lineage)
    table:   the association name of a base table, None for a subquery or a WITH query
    nested:  the columns that may hold fields; None: any may
    """

    alias: str
    columns: dict[str, Output]
    table: str | None = None
    nested: frozenset[str] | None = None
    hidden: bool = False

    def may_nest(self, column: str) -> bool:
        """Whether `column` may have fields, so that `column.name` could mean one of them."""
        return self.nested is None or column in self.nested

    def describe(self) -> str:
        """The columns that may be used, for a message."""
        names = sorted(output.name for output in self.columns.values())
        shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
        return f"{self.table or self.alias} has: {shown}"


@dataclass
class Scope:
    """The sources that an expression of one SELECT can see.

    visible: what an unqualified name and `*` may mean, in order; differs from `sources` after USING
    places:  the same by name
    parent:  the scope around a subquery inside an expression, None for FROM subqueries and WITH queries
    """

    parent: "Scope | None" = None
    sources: dict[str, Source] = field(default_factory=dict)
    visible: list[tuple[str, str]] = field(default_factory=list)
    places: dict[str, list[str]] = field(default_factory=dict)

    def add(self, source: Source, *, using: Iterable[str] = ()) -> None:
        """Put a source into the scope; `using` names columns that merge with those already visible."""
        if source.alias in self.sources:
            raise QueryRefused(
                f"The name {source.alias} stands for two tables of one FROM; give each its own alias.",
                rule="sql.name",
            )
        self.sources[source.alias] = source
        merged = list(dict.fromkeys(using))
        if merged:
            keys = [item for item in self.visible if item[1] in merged]
            keys.sort(key=lambda item: merged.index(item[1]))
            self.visible = keys + [item for item in self.visible if item[1] not in merged]
            self._place()
        new = [(source.alias, name) for name in source.columns if name not in merged]
        self.visible += new
        for alias, name in new:
            self.places.setdefault(name, []).append(alias)

    def hide(self, source: Source) -> None:
        """Take a source out of sight, as the right side of a SEMI or ANTI JOIN is after its ON."""
        source.hidden = True
        self.visible = [item for item in self.visible if item[0] != source.alias]
        self._place()

    def _place(self) -> None:
        self.places = {}
        for alias, name in self.visible:
            self.places.setdefault(name, []).append(alias)

    def owners(self, name: str) -> list[str]:
        """The aliases of the sources that an unqualified column name may mean."""
        return self.places.get(name, [])

    def source(self, alias: str) -> Source | None:
        found = self.sources.get(alias)
        return None if found is None or found.hidden else found


class Found(NamedTuple):
    """A resolved column: the alias and the name to write, its lineage, and the struct fields after it."""

    alias: str
    column: Output
    fields: tuple[str, ...]


def resolve(parts: tuple[str, ...], scope: Scope) -> Found | None:
    """The column that dotted `parts` name, looking outwards from `scope`; None where there is none.

    Raises QueryRefused where the name is ambiguous, where its alias lacks the column, or where the alias to
    be written is taken by an inner source.
    """
    lowered = tuple(part.lower() for part in parts)
    passed: list[Scope] = []
    current: Scope | None = scope
    while current is not None:
        found = _resolve_here(parts, lowered, current)
        if found is not None:
            if any(found.alias in inner.sources for inner in passed):
                raise QueryRefused(
                    f"The name {found.alias} means one table inside a subquery and another outside it; give "
                    "each its own alias.",
                    rule="sql.name",
                )
            return found
        passed.append(current)
        current = current.parent
    return None


def _resolve_here(parts: tuple[str, ...], lowered: tuple[str, ...], scope: Scope) -> Found | None:
    owners = scope.owners(lowered[0])
    if len(lowered) > 1:
        source = scope.source(lowered[0])
        if source is not None:
            column = source.columns.get(lowered[1])
            if column is None:
                raise unknown(lowered[1], [source])
            if any(scope.sources[owner].may_nest(lowered[0]) for owner in owners):
                raise QueryRefused(
                    f"The name {lowered[0]} is both a table's alias and a column; give the table another "
                    "alias.",
                    rule="sql.name",
                )
            return Found(source.alias, column, parts[2:])
    if len(owners) > 1:
        raise QueryRefused(
            f"The column {lowered[0]} is in {' and in '.join(sorted(owners))}; write which, for example "
            f"{sorted(owners)[0]}.{lowered[0]}.",
            rule="sql.column",
            column=lowered[0],
        )
    if owners:
        return Found(owners[0], scope.sources[owners[0]].columns[lowered[0]], parts[1:])
    return None


def unknown(name: str, sources: Iterable[Source], hint: str = "") -> QueryRefused:
    """The refusal of a column that is not there: not allow-listed, absent or misspelt, all alike."""
    listed = list(sources)
    tables = [source.table for source in listed if source.table is not None]
    if name in functions.REFUSED:
        return QueryRefused(
            f"{name} is not a column, and the function of that name is not allowed: it "
            f"{functions.REFUSED[name]}.",
            rule="sql.function",
        )
    where = "; ".join(source.describe() for source in listed) or "there is no table here"
    return QueryRefused(
        f"There is no column {name} that this query may use here: {where}.{hint}",
        rule="sql.column",
        table=tables[0] if len(listed) == 1 and tables else None,
        column=name,
        allowed=(f"{source.alias}.{column.name}" for source in listed for column in source.columns.values()),
    )
