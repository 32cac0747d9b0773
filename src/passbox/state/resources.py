"""Resources: one row for everything that has an identifier, whatever its kind.

The columns are what rows are found by; `body` holds the rest of the modelled record. Rows carry a version:
an update of a row that somebody else changed meanwhile raises ConflictException and changes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypedDict, Unpack, cast

import orjson
from sqlalchemy import (
    ColumnElement,
    Select,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    select,
    text,
    union_all,
    update,
)

from passbox import names
from passbox.errors import ConflictException
from passbox.state import events
from passbox.state.database import Insertion, Statement, Transaction
from passbox.state.tables import ARN_END
from passbox.state.tables import resource as table


class Resource(NamedTuple):
    """A row. Times in seconds since the epoch; `body` must not be changed in place: see `change`.

    sequence: the order in which rows were committed, given by the database; pages go by it. A tuple,
    because a page makes a hundred of them.
    """

    kind: str
    id: str
    arn: str
    account: str
    created: float
    updated: float
    collaboration: str | None = None
    membership: str | None = None
    parent: str | None = None
    name: str | None = None
    status: str | None = None
    version: int = 1
    sequence: int = 0
    body: Mapping[str, Any] = MappingProxyType({})


# (sequence, version): a row as it was committed. Neither a sequence nor a version of it is ever given twice.
Place = tuple[int, int]


class Filters(TypedDict, total=False):
    """What rows can be found by, each by equality."""

    id: str
    arn: str
    account: str
    collaboration: str
    membership: str
    parent: str
    name: str


class Bounds(Filters, total=False):
    """And what else bounds them.

    statuses, parents, accounts: the row's must be among them. after: the last sequence of the page before.
    """

    statuses: Iterable[str] | None
    parents: Iterable[str] | None
    accounts: Iterable[str] | None
    after: int | None


_FIELDS = Resource._fields
_INSERT = Insertion(insert(table), [name for name in _FIELDS if name != "sequence"])
_DELETE = Statement(
    delete(table).where(table.c.id == bindparam("row_id"), table.c.version == bindparam("row_version"))
)
_UPDATE = Statement(
    update(table)
    .where(table.c.id == bindparam("row_id"), table.c.version == bindparam("row_version"))
    .values({name: bindparam(name) for name in ("name", "status", "updated", "version", "body")})
)


def _row(columns: tuple[Any, ...]) -> Resource:
    return Resource._make((*columns[:-1], orjson.loads(columns[-1])))


_READ = {
    "row": [table.c[name] for name in _FIELDS],
    "place": [table.c.sequence, table.c.version],
    "count": [table.c.id],
}
_arn_end = func.substr(bindparam("arn"), text("-36"))
_OF_ARN = union_all(
    select(table.c.sequence).where(table.c.id == _arn_end),
    select(table.c.sequence).where(literal_column(ARN_END) == _arn_end, text(f"{ARN_END} <> resource.id")),
)
_AMONG = {"statuses": "status", "parents": "parent", "accounts": "account"}


@lru_cache(maxsize=512)
def _numbered(name: str, number: int) -> list[str]:
    return [f"{name}_{n}" for n in range(number)]


@lru_cache(maxsize=512)
def _select(
    what: str, filters: tuple[str, ...], among: tuple[tuple[str, int], ...] = (), *, paged: bool = False
) -> Statement:
    """filters: columns that must equal; among: columns and of how many values theirs must be one."""
    statement: Select[Any] = select(*_READ[what])
    columns: Mapping[str, ColumnElement[Any]] = dict(table.c)
    if "arn" in filters:
        statement = statement.where(table.c.sequence.in_(_OF_ARN))
        columns = {name: literal_column(f"+resource.{name}") for name in _FIELDS}  # no index but that one
    statement = statement.where(*(columns[name] == bindparam(name) for name in filters))
    for name, number in among:
        statement = statement.where(columns[name].in_(map(bindparam, _numbered(name, number))))
    if paged:
        statement = statement.where(table.c.sequence > bindparam("after"))
    if what == "count":
        some = statement.limit(bindparam("limit")).subquery()
        return Statement(select(func.count()).select_from(some))
    return Statement(statement.order_by(table.c.sequence).limit(bindparam("limit")))


def _query(what: str, kind: str, limit: int, bounds: Bounds) -> tuple[Statement, dict[str, Any]]:
    """The statement that finds rows within bounds, and its parameters."""
    values: dict[str, Any] = {"kind": kind, "limit": limit}
    filters, among = ["kind"], []
    for name, wanted in bounds.items():
        if wanted is None:
            continue
        if name in _AMONG:
            column, every = _AMONG[name], tuple(cast(Iterable[str], wanted))
            values.update(zip(_numbered(column, len(every)), every, strict=True))
            among.append((column, len(every)))
            continue
        values[name] = wanted
        if name != "after":
            filters.append(name)
    return _select(what, tuple(filters), tuple(among), paged="after" in values), values


def add(tx: Transaction, resource: Resource) -> Resource:
    """Adds a new row and its first event."""
    _forget(tx, resource)
    tx.insert(_INSERT, (*resource[:-2], orjson.dumps(dict(resource.body))))
    events.record(tx, resource.id, resource.kind, None, resource.status or "CREATED")
    return resource


def get(tx: Transaction, kind: str, id: str) -> Resource | None:
    """The row with this identifier, if it is of this kind."""
    return _see(tx, kind, "id", id)


def by_arn(tx: Transaction, kind: str, arn: str) -> Resource | None:
    """The oldest row of a kind with this ARN."""
    return _see(tx, kind, "arn", arn)


def _see(tx: Transaction, kind: str, column: str, value: str) -> Resource | None:
    """The oldest row where the column has this value; read once."""
    found: Resource | None = tx.seen.get((kind, column, value))
    if found is None:
        rows = tx.tuples(_select("row", ("kind", column)), {"kind": kind, column: value, "limit": 1})
        if rows:
            found = tx.seen[kind, column, value] = _row(rows[0])
    return found


def all_in(tx: Transaction, kind: str, collaboration: str) -> tuple[Resource, ...]:
    """All rows of a kind in a collaboration, oldest first; read once. For kinds of which there are few."""
    return _see_all(tx, kind, "collaboration", collaboration)


def all_under(tx: Transaction, kind: str, parent: str) -> tuple[Resource, ...]:
    """All rows of a kind with this parent, oldest first; read once. For kinds of which there are few."""
    return _see_all(tx, kind, "parent", parent)


def _see_all(
    tx: Transaction, kind: str, column: Literal["collaboration", "parent"], value: str
) -> tuple[Resource, ...]:
    found: tuple[Resource, ...] | None = tx.seen.get((kind, column, value))
    if found is None:
        bounds: Bounds = {"collaboration": value} if column == "collaboration" else {"parent": value}
        found = tx.seen[kind, column, value] = tuple(find(tx, kind, **bounds))
    return found


def _forget(tx: Transaction, resource: Resource) -> None:
    """What was read of a row that is about to change, and of a list that it is in or will be in."""
    for column in ("id", "arn", "collaboration", "parent"):
        tx.seen.pop((resource.kind, column, getattr(resource, column)), None)


def by_id(tx: Transaction, id: str) -> Resource | None:
    """The row with this identifier, of whatever kind."""
    rows = tx.tuples(_select("row", ("id",)), {"id": id, "limit": 1})
    return _row(rows[0]) if rows else None


def require(tx: Transaction, kind: str, id: str) -> Resource:
    """The row that must be there; its absence is a fault of ours."""
    found = get(tx, kind, id)
    if found is None:
        raise LookupError(f"no {kind} {id}")
    return found


def find(tx: Transaction, kind: str, *, limit: int = 10_000, **bounds: Unpack[Bounds]) -> list[Resource]:
    """Rows of a kind within bounds, oldest first."""
    return [_row(row) for row in tx.tuples(*_query("row", kind, limit, bounds))]


def places(tx: Transaction, kind: str, *, limit: int, **bounds: Unpack[Bounds]) -> tuple[Place, ...]:
    """Where the rows are that `find` would give."""
    return tuple(tx.tuples(*_query("place", kind, limit, bounds)))


def at(tx: Transaction, places: Sequence[Place]) -> list[Resource]:
    """The rows at places that the same transaction gave."""
    values = {f"sequence_{n}": sequence for n, (sequence, _) in enumerate(places)}
    statement = _select("row", (), (("sequence", len(values)),))
    return [_row(row) for row in tx.tuples(statement, {**values, "limit": len(values)})]


def first(tx: Transaction, kind: str, **bounds: Unpack[Bounds]) -> Resource | None:
    """The oldest of `find`, or None."""
    found = find(tx, kind, limit=1, **bounds)
    return found[0] if found else None


def count(tx: Transaction, kind: str, *, most: int, **bounds: Unpack[Bounds]) -> int:
    """How many rows `find` would give, counted up to `most`."""
    return int(tx.value(*_query("count", kind, most, bounds)))


def change(
    tx: Transaction,
    resource: Resource,
    *,
    status: str | None = None,
    name: str | None = None,
    body: Mapping[str, Any] | None = None,
) -> Resource:
    """Writes a new status, name or body entries (a None entry is removed) and the event of a transition."""
    merged = {key: value for key, value in {**resource.body, **(body or {})}.items() if value is not None}
    changed = resource._replace(
        status=status or resource.status,
        name=name or resource.name,
        body=merged,
        updated=max(names.now(), resource.updated),
        version=resource.version + 1,
    )
    values = {key: getattr(changed, key) for key in ("name", "status", "updated", "version")}
    values |= {"body": orjson.dumps(merged), "row_id": resource.id, "row_version": resource.version}
    _forget(tx, resource)
    if tx.execute(_UPDATE, values) != 1:
        raise ConflictException(
            "The resource was changed by another request meanwhile; read it and try again."
        )
    if changed.status != resource.status:
        events.record(tx, resource.id, resource.kind, resource.status, changed.status)
    return changed


def remove(tx: Transaction, resource: Resource) -> None:
    """Deletes the row; its events stay."""
    _forget(tx, resource)
    if tx.execute(_DELETE, {"row_id": resource.id, "row_version": resource.version}) != 1:
        raise ConflictException(
            "The resource was changed by another request meanwhile; read it and try again."
        )
    events.record(tx, resource.id, resource.kind, resource.status, "DELETED")
