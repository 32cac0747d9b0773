"""Resources: one row for everything that has an identifier, whatever its kind.

The columns are what rows are found by; `body` holds the rest of the modelled record. Rows carry a version:
an update of a row that somebody else changed meanwhile raises ConflictException and changes nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, TypedDict, Unpack

import orjson
from sqlalchemy import Select, and_, bindparam, delete, func, insert, or_, select, update

from passbox import names
from passbox.errors import ConflictException
from passbox.state import events
from passbox.state.database import Transaction
from passbox.state.tables import resource as table


@dataclass(frozen=True)
class Resource:
    """A row. Times in seconds since the epoch; `body` must not be changed in place: see `update`."""

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
    body: Mapping[str, Any] = field(default_factory=dict)


class Filters(TypedDict, total=False):
    """What rows can be found by, each by equality."""

    id: str
    arn: str
    account: str
    collaboration: str
    membership: str
    parent: str
    name: str


_COLUMNS = [column.name for column in table.columns]
_INSERT = insert(table)
_DELETE = delete(table).where(table.c.id == bindparam("row_id"), table.c.version == bindparam("row_version"))
_UPDATE = (
    update(table)
    .where(table.c.id == bindparam("row_id"), table.c.version == bindparam("row_version"))
    .values({name: bindparam(name) for name in ("name", "status", "updated", "version", "body")})
)


def _row(row: Any) -> Resource:
    values = dict(row._mapping)
    values["body"] = orjson.loads(values["body"])
    return Resource(**values)


@lru_cache(maxsize=512)
def _select(filters: tuple[str, ...], among: tuple[str, ...], paged: bool, counted: bool) -> Select[Any]:
    statement: Select[Any] = select(func.count()) if counted else select(table)
    statement = statement.where(*(table.c[name] == bindparam(name) for name in filters))
    for name in among:
        statement = statement.where(table.c[name].in_(bindparam(f"among_{name}", expanding=True)))
    if paged:
        created: Any = bindparam("after_created")
        later = and_(table.c.created == created, table.c.id > bindparam("after_id"))
        # the first, implied, bound lets the index seek to the page instead of scanning to it
        statement = statement.where(table.c.created >= created, or_(table.c.created > created, later))
    if not counted:
        statement = statement.order_by(table.c.created, table.c.id).limit(bindparam("limit"))
    return statement


def add(tx: Transaction, resource: Resource) -> Resource:
    """Adds a new row and its first event."""
    values = {name: getattr(resource, name) for name in _COLUMNS}
    values["body"] = orjson.dumps(resource.body)
    tx.execute(_INSERT, values)
    events.record(tx, resource.id, resource.kind, None, resource.status or "CREATED")
    return resource


def get(tx: Transaction, kind: str, id: str) -> Resource | None:
    """The row with this identifier, if it is of this kind."""
    row = tx.execute(_select(("kind", "id"), (), False, False), {"kind": kind, "id": id, "limit": 1}).first()
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
    after: tuple[float, str] | None = None,
    limit: int = 10_000,
    **filters: Unpack[Filters],
) -> list[Resource]:
    """Rows of a kind, oldest first, by equality on account, collaboration, membership, parent, arn or name.

    statuses, parents: the row's must be among them. after: (created, id) of the last row of the page before.
    """
    values: dict[str, Any] = {"kind": kind, "limit": limit, **filters}
    among = {"status": statuses, "parent": parents}
    given = {name: list(wanted) for name, wanted in among.items() if wanted is not None}
    values |= {f"among_{name}": wanted for name, wanted in given.items()}
    if after is not None:
        values["after_created"], values["after_id"] = after
    statement = _select(("kind", *sorted(filters)), tuple(given), after is not None, False)
    return [_row(row) for row in tx.execute(statement, values)]


def first(
    tx: Transaction, kind: str, *, statuses: Iterable[str] | None = None, **filters: Unpack[Filters]
) -> Resource | None:
    """The oldest of `find`, or None."""
    found = find(tx, kind, statuses=statuses, limit=1, **filters)
    return found[0] if found else None


def count(
    tx: Transaction, kind: str, *, statuses: Iterable[str] | None = None, **filters: Unpack[Filters]
) -> int:
    """How many rows `find` would give without a limit."""
    values: dict[str, Any] = {"kind": kind, **filters}
    if statuses is not None:
        values["among_status"] = list(statuses)
    among = () if statuses is None else ("status",)
    statement = _select(("kind", *sorted(filters)), among, False, True)
    return int(tx.execute(statement, values).scalar_one())


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
    changed = replace(
        resource,
        status=status or resource.status,
        name=name or resource.name,
        body=merged,
        updated=max(names.now(), resource.updated),
        version=resource.version + 1,
    )
    values = {key: getattr(changed, key) for key in ("name", "status", "updated", "version")}
    values |= {"body": orjson.dumps(merged), "row_id": resource.id, "row_version": resource.version}
    if tx.execute(_UPDATE, values).rowcount != 1:
        raise ConflictException(
            "The resource was changed by another request meanwhile; read it and try again."
        )
    if changed.status != resource.status:
        events.record(tx, resource.id, resource.kind, resource.status, changed.status)
    return changed


def remove(tx: Transaction, resource: Resource) -> None:
    """Deletes the row; its events stay."""
    if tx.execute(_DELETE, {"row_id": resource.id, "row_version": resource.version}).rowcount != 1:
        raise ConflictException(
            "The resource was changed by another request meanwhile; read it and try again."
        )
    events.record(tx, resource.id, resource.kind, resource.status, "DELETED")
