"""Relations whose every row belongs to one user: what WITH queries over protected tables must give.

A relation is user-level when the rows of one user depend on that user's rows of the protected tables alone,
and each names its user. Then a user who comes or goes changes no other rows, and bounding what one user
contributes bounds everything. Selecting, joining on the user identifier, joining with what is not protected,
grouping by the user identifier and windows within it keep that; whatever else reads a protected table is
refused. This module knows relations; it must not know noise.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sqlglot import exp

from passbox.analysis import total
from passbox.analysis.plan import Table
from passbox.analysis.total import Checker, refused
from passbox.errors import QueryRefused

_NEXT = "Every WITH query over it must select the user identifier {0} as a bare column."


@dataclass(frozen=True)
class Relation:
    """A table or a WITH query.

    kinds:     column → kind of its values
    protected: whether it holds data of users under differential privacy
    users:     the columns that hold the identifier of the row's user
    single:    whether it has at most one row for each user
    """

    kinds: Mapping[str, str]
    protected: bool = False
    users: frozenset[str] = frozenset()
    single: bool = False


@dataclass
class Joined:
    """What a SELECT reads: relations by alias, and the (alias, column)s that name the row's user."""

    sources: dict[str, Relation] = field(default_factory=dict)
    users: list[tuple[str, str]] = field(default_factory=list)
    protected: bool = False

    def kind(self, column: exp.Column) -> str:
        """The kind of a resolved column."""
        return self.sources[column.table].kinds[column.name.lower()]

    def is_user(self, node: exp.Expr | None) -> bool:
        """Whether a node is the user identifier, bare."""
        node = plain(node)
        return isinstance(node, exp.Column) and (node.table, node.name.lower()) in self.users

    @property
    def single(self) -> bool:
        """Whether each user has at most one row."""
        return len(self.sources) == 1 and all(source.single for source in self.sources.values())


class Reader:
    """Reads the WITH queries of a resolved tree, one after the other.

    tables:     those of the query, by name
    user:       the user identifier, lower-case; protected: the names of the tables that have it
    parameters: the kinds of the parameters by name
    """

    def __init__(
        self, tables: Mapping[str, Table], protected: frozenset[str], user: str, parameters: Mapping[str, str]
    ) -> None:
        self.user, self.parameters = user, parameters
        self.relations: dict[str, Relation] = {}
        for table in tables.values():
            kinds = {column.name.lower(): total.of_type(column.type) for column in table.columns}
            under = table.name in protected
            users = frozenset({user}) if under else frozenset[str]()
            self.relations[table.name.lower()] = Relation(kinds, under, users)

    def read(self, tree: exp.Query) -> None:
        """Reads every WITH query of a tree."""
        for cte in tree.ctes:
            self.relations[cte.alias.lower()] = self._query(cte.this)

    def checker(self, joined: Joined, outputs: Mapping[str, exp.Expr] | None = None) -> Checker:
        """What tells kinds in a SELECT; outputs: name → expression, for clauses that may name an output."""

        def columns(node: exp.Column) -> str:
            if node.table:
                return joined.kind(node)
            return checker.kind((outputs or {})[node.name.lower()], aggregates=True)

        def window(node: exp.Window) -> None:
            if joined.protected and not any(map(joined.is_user, node.args.get("partition_by") or ())):
                raise refused(
                    f"A window over protected data must be PARTITION BY the user identifier {self.user}, so "
                    "that no row depends on another user's.",
                    node,
                )

        checker = Checker(columns, self.parameters, window)
        return checker

    def joined(self, select: exp.Select) -> Joined:
        """The FROM clause of a SELECT."""
        result = Joined()
        from_ = select.args.get("from_")
        if from_ is None:
            return result
        alias, relation = self._source(from_.this)
        result.sources[alias] = relation
        result.users = [(alias, column) for column in sorted(relation.users)]
        result.protected = relation.protected
        for join in select.args.get("joins") or ():
            self._join(result, join)
        return result

    def _source(self, node: exp.Expr) -> tuple[str, Relation]:
        if not isinstance(node, exp.Table):
            raise refused("Subqueries are not allowed under differential privacy; write a WITH query.", node)
        return node.alias, self.relations[node.name.lower()]

    def _join(self, left: Joined, join: exp.Join) -> None:
        alias, right = self._source(join.this)
        side, kind = (str(join.args.get(part) or "").upper() for part in ("side", "kind"))
        on = join.args.get("on")
        users = [(alias, column) for column in sorted(right.users)]
        if left.protected or right.protected:
            if side in ("RIGHT", "FULL") or (
                right.protected and not left.protected and not _inner(side, kind)
            ):
                raise refused(
                    "Beside protected data only INNER and CROSS JOIN are allowed, and LEFT, LEFT SEMI and "
                    "LEFT ANTI JOIN with the protected data on the left: each row must keep its user.",
                    join,
                )
            if left.protected and right.protected and not _equal(on, left.users, users):
                raise refused(
                    f"Two relations with protected data must be joined ON the user identifier {self.user} of "
                    "both, by = and AND.",
                    join,
                )
        left.sources[alias] = right
        if _inner(side, kind):
            left.users += users
            left.protected = left.protected or right.protected
        if on is not None:
            self.checker(left).condition(on)

    def _query(self, node: exp.Expr) -> Relation:
        if isinstance(node, exp.Subquery):
            return self._query(node.this)
        if isinstance(node, exp.SetOperation):
            return self._set_operation(node)
        if not isinstance(node, exp.Select):
            raise refused("A query in this form is not allowed under differential privacy.", node)
        return self._select(node)

    def _set_operation(self, node: exp.SetOperation) -> Relation:
        left, right = self._query(node.this), self._query(node.expression)
        if left.protected != right.protected:
            raise refused("Both sides of a set operation must hold protected data, or neither.", node)
        names = list(left.kinds)
        pairs = list(zip(names, right.kinds, strict=True))
        users = frozenset(a for a, b in pairs if a in left.users and b in right.users)
        if left.protected and not users:
            raise self._nameless(node)
        if left.protected:
            self._unsorted(node)
        for a, b in pairs:
            if left.kinds[a] != right.kinds[b] or left.kinds[a] in total.UNSETTLED:
                raise refused(
                    f"The column {a} is {left.kinds[a]} on one side and {right.kinds[b]} on the other; cast "
                    "both to one type.",
                    node,
                )
        return Relation(left.kinds, left.protected, users)

    def _select(self, node: exp.Select) -> Relation:
        joined = self.joined(node)
        named = {item.alias.lower(): item.this for item in node.expressions}
        checker = self.checker(joined, named)
        grouped = [output(item, node) for item in _items(node, "group")]
        if joined.protected:
            self._unsorted(node)
            if grouped and not any(map(joined.is_user, grouped)):
                raise refused(
                    f"A WITH query over protected data may be grouped only by the user identifier "
                    f"{self.user}, alone or with more.",
                    node,
                )
        aggregates = bool(grouped) or not joined.protected
        if (where := node.args.get("where")) is not None:
            checker.condition(where.this)
        for item in grouped:
            checker.kind(item)
        if (having := node.args.get("having")) is not None:
            if not aggregates:
                raise refused("HAVING without GROUP BY is not allowed here.", node)
            checker.kind(having.this, aggregates=True)
        for item in _items(node, "order"):
            checker.kind(item.this, aggregates=aggregates)
        kinds = {name: checker.kind(value, aggregates=aggregates) for name, value in named.items()}
        users = frozenset(name for name, value in named.items() if joined.is_user(value))
        if joined.protected and not users:
            raise self._nameless(node)
        single = joined.protected and (
            len(grouped) == 1 if grouped else joined.single or (_distinct(node) and len(users) == len(named))
        )
        return Relation(kinds, joined.protected, users, single)

    def _unsorted(self, node: exp.Query) -> None:
        for part in ("order", "limit", "offset"):
            if node.args.get(part) is not None:
                raise refused(
                    f"{part.upper()} is not allowed over protected data: which rows stay would depend on "
                    "other users.",
                    node.args[part],
                )

    def _nameless(self, node: exp.Expr) -> QueryRefused:
        return refused(
            "This WITH query reads a table under differential privacy but does not say whose rows it "
            "gives. " + _NEXT.format(self.user),
            node,
        )


def plain(node: exp.Expr | None) -> exp.Expr | None:
    """A node without the brackets around it."""
    while isinstance(node, exp.Paren):
        node = node.this
    return node


def output(item: exp.Expr, select: exp.Select) -> exp.Expr:
    """What an item of GROUP BY stands for: an output by its name or position, or itself."""
    if isinstance(item, exp.Literal) and not item.is_string:
        return select.expressions[int(item.name) - 1].this  # type: ignore[no-any-return]
    if isinstance(item, exp.Column) and not item.table:
        found: dict[str, exp.Expr] = {one.alias.lower(): one.this for one in select.expressions}
        return found[item.name.lower()]
    return item


def conjuncts(node: exp.Expr | None) -> Iterator[exp.Expr]:
    """The conditions that must all hold."""
    node = plain(node)
    if isinstance(node, exp.And):
        yield from conjuncts(node.this)
        yield from conjuncts(node.expression)
    elif node is not None:
        yield node


def _items(node: exp.Select, part: str) -> list[exp.Expr]:
    found = node.args.get(part)
    return list(found.expressions) if found is not None else []


def _inner(side: str, kind: str) -> bool:
    return not side and kind in ("", "INNER", "CROSS")


def _distinct(node: exp.Select) -> bool:
    return node.args.get("distinct") is not None


def _equal(on: exp.Expr | None, left: list[tuple[str, str]], right: list[tuple[str, str]]) -> bool:
    """Whether a condition surely holds only between rows of one user."""
    for condition in conjuncts(on):
        if isinstance(condition, exp.EQ):
            sides = [plain(condition.this), plain(condition.expression)]
            names = [
                (side.table, side.name.lower()) if isinstance(side, exp.Column) else None for side in sides
            ]
            if (names[0] in left and names[1] in right) or (names[1] in left and names[0] in right):
                return True
    return False
