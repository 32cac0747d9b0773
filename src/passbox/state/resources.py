"""Resources: one row for everything that has an identifier, whatever its kind.

The columns are what rows are found by; `body` holds the rest of the modelled record. Rows carry a version:
an update of a row that somebody else changed meanwhile raises ConflictException and changes nothing.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple, TypedDict, Unpack

import orjson
from sqlalchemy import Select, bindparam, delete, func, insert, select, update

from passbox import names
from passbox.errors import ConflictException
from passbox.state import events
from passbox.state.database import Row, Statement, Transaction
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


class Filters(TypedDict, total=False):
    """What rows can be found by, each by equality."""

    id: str
    arn: str
    account: str
    collaboration: str
    membership: str
    parent: str
    name: str


_FIELDS = Resource._fields
_COLUMNS = [name for name in _FIELDS if name != "sequence"]
_READ = [table.c[name] for name in _FIELDS]
_INSERT = Statement(insert(table))
_DELETE = Statement(
    delete(table).where(table.c.id == bindparam("row_id"), table.c.version == bindparam("row_version"))
)
_UPDATE = Statement(
    update(table)
    .where(table.c.id == bindparam("row_id"), table.c.version == bindparam("row_version"))
    .values({name: bindparam(name) for name in ("name", "status", "updated", "version", "body")})
)


def _row(row: Row) -> Resource:
    columns = tuple(row)
    return Resource._make((*columns[:-1], orjson.loads(columns[-1])))


@lru_cache(maxsize=512)
def _select(
    filters: tuple[str, ...], among: tuple[tuple[str, int], ...], paged: bool, counted: bool
) -> Statement:
    """filters: columns that must equal; among: columns and of how many values theirs must be one."""
    statement: Select[Any] = select(*_READ)
    statement = statement.where(*(table.c[name] == bindparam(name) for name in filters))
    for name, number in among:
        statement = statement.where(table.c[name].in_([bindparam(f"{name}_{n}") for n in range(number)]))
    if paged:
        statement = statement.where(table.c.sequence > bindparam("after"))
    if counted:
        some = statement.with_only_columns(table.c.id).limit(bindparam("limit")).subquery()
        return Statement(select(func.count()).select_from(some))
    return Statement(statement.order_by(table.c.sequence).limit(bindparam("limit")))


def add(tx: Transaction, resource: Resource) -> Resource:
    """Adds a new row and its first event."""
    values = {name: getattr(resource, name) for name in _COLUMNS}
    values["body"] = orjson.dumps(dict(resource.body))
    tx.execute(_INSERT, values)
    events.record(tx, resource.id, resource.kind, None, resource.status or "CREATED")
    return resource


def get(tx: Transaction, kind: str, id: str) -> Resource | None:
    """The row with this identifier, if it is of this kind."""
    row = tx.row(_select(("kind", "id"), (), False, False), {"kind": kind, "id": id, "limit": 1})
    return None if row is None else _row(row)


def by_id(tx: Transaction, id: str) -> Resource | None:
    """The row with this identifier, of whatever kind."""
    row = tx.row(_select(("id",), (), False, False), {"id": id, "limit": 1})
    return None if row is None else _row(row)


def require(tx: Transaction, kind: str, id: str) -> Resource:
    """The row that must be there; its absence is a fault of ours."""
    found = get(tx, kind, id)
    if found is None:
        raise LookupError(f"no {kind} {id}")
    return found


def find(
    tx: Transaction,
    kind: str,
    *,
    statuses: Iterable[str] | None = None,
    parents: Iterable[str] | None = None,
    accounts: Iterable[str] | None = None,
    after: int | None = None,
    limit: int = 10_000,
    **filters: Unpack[Filters],
) -> list[Resource]:
    """Rows of a kind, oldest first, by equality on account, collaboration, membership, parent, arn or name.

    statuses, parents, accounts: the row's must be among them. after: the sequence of the last row of the page
    before.
    """
    values: dict[str, Any] = {"kind": kind, "limit": limit, **filters}
    among = _among(values, status=statuses, parent=parents, account=accounts)
    if after is not None:
        values["after"] = after
    statement = _select(("kind", *sorted(filters)), among, after is not None, False)
    return [_row(row) for row in tx.rows(statement, values)]


def _among(values: dict[str, Any], **wanted: Iterable[str] | None) -> tuple[tuple[str, int], ...]:
    """Binds the values of which a column's must be one; how many each column has."""
    found = []
    for name, given in wanted.items():
        if given is not None:
            numbered = {f"{name}_{index}": value for index, value in enumerate(given)}
            values.update(numbered)
            found.append((name, len(numbered)))
    return tuple(found)


def first(
    tx: Transaction, kind: str, *, statuses: Iterable[str] | None = None, **filters: Unpack[Filters]
) -> Resource | None:
    """The oldest of `find`, or None."""
    found = find(tx, kind, statuses=statuses, limit=1, **filters)
    return found[0] if found else None


def count(
    tx: Transaction,
    kind: str,
    *,
    most: int,
    statuses: Iterable[str] | None = None,
    **filters: Unpack[Filters],
) -> int:
    """How many rows `find` would give, counted up to `most`."""
    values: dict[str, Any] = {"kind": kind, "limit": most, **filters}
    among = _among(values, status=statuses)
    return int(tx.value(_select(("kind", *sorted(filters)), among, False, True), values))


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
    if tx.execute(_UPDATE, values) != 1:
        raise ConflictException(
            "The resource was changed by another request meanwhile; read it and try again."
        )
    if changed.status != resource.status:
        events.record(tx, resource.id, resource.kind, resource.status, changed.status)
    return changed


def remove(tx: Transaction, resource: Resource) -> None:
    """Deletes the row; its events stay."""
    if tx.execute(_DELETE, {"row_id": resource.id, "row_version": resource.version}) != 1:
        raise ConflictException(
            "The resource was changed by another request meanwhile; read it and try again."
        )
    events.record(tx, resource.id, resource.kind, resource.status, "DELETED")
