"""What an operation is given: who calls, what it calls upon, and the transaction it happens in.

A Call holds only what its caller may see: `fetch` put it there, and the policy allowed it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Unpack

from passbox.access.items import Items
from passbox.errors import ValidationException
from passbox.ledger.prices import RateCard
from passbox.names import PageTokens, Role
from passbox.state import resources
from passbox.state.database import Transaction
from passbox.state.resources import Resource
from passbox.state.transfers import Transfer

DEFAULT_PAGE = 50


class Catalog(Protocol):
    """What operations ask of a catalog (see `passbox.backends.catalogs.base`)."""

    def remembered(self, account: str, reference: Mapping[str, Any]) -> Any:
        """What `describe` gave, while it still holds; else None."""

    def describe(self, account: str, reference: Mapping[str, Any]) -> Any:
        """Columns of one account's table, with `name` and `type`."""


class Objects(Protocol):
    """What operations ask of an object store (see `passbox.backends.objects.base`)."""

    def check(self, account: str, uri: str, role: Role | None, /) -> None:
        """Raises ValidationException where the account cannot receive at `uri`, in this role."""

    def read(self, account: str, uri: str, role: Role, most_bytes: int, /) -> Iterable[bytes]:
        """One of the account's objects, in pieces."""


class Requests(Protocol):
    """What operations ask of the service models (see `passbox.wire.model`)."""

    def read(self, operation: str, document: Any) -> dict[str, Any]:
        """A request of `service.Operation` from one JSON object; checked, and refused, as a real one is."""


@dataclass(frozen=True)
class Room:
    """What is the same for every call: the region, the page tokens, and the contracts to the outside.

    requests: reads what comes as a document. quotas: name → limit, where the operator set another than AWS's
    default. rates: what runs cost. items: those that lists remember. engine: what the worker runs queries on.
    """

    region: str
    tokens: PageTokens
    catalog: Catalog
    objects: Objects
    requests: Requests
    quotas: Mapping[str, float]
    rates: RateCard
    items: Items
    engine: Literal["sail", "spark"] = "sail"


class Aside(Exception):
    """A call needs something slow. It is to be undone and made again once `settle` has been called."""

    def __init__(self, settle: Callable[[], None]) -> None:
        self.settle = settle


class Undone(Exception):
    """A call found its answer by doing what it must not leave behind: all that it did is to be undone."""

    def __init__(self, output: Mapping[str, Any]) -> None:
        self.output = output


@dataclass
class Call:
    """One authenticated, fetched and permitted call.

    known: what has been worked out for it aside. reserved: each reservation it made, and its basis in words
    """

    account: str
    operation: str
    tx: Transaction
    room: Room
    fetched: dict[str, Resource] = field(default_factory=dict)
    known: dict[Any, Any] = field(default_factory=dict)
    reserved: list[tuple[Transfer, str]] = field(default_factory=list)

    def aside(self, key: Any, work: Callable[[], Any]) -> Any:
        """The result of something slow, for which other writers do not wait.

        Raises Aside the first time; when the call is made again the result is there. What `work` goes by is
        in `key`, so that a result never answers for what has changed meanwhile.
        """
        if key not in self.known:
            raise Aside(lambda: self.known.update({key: work()}))
        return self.known[key]

    @property
    def membership(self) -> Resource:
        """The caller's membership that the request names."""
        return self.fetched["membership"]

    @property
    def collaboration(self) -> Resource:
        """The collaboration that the request or its membership names."""
        return self.fetched["collaboration"]

    @property
    def member(self) -> Resource:
        """The caller's own row among the collaboration's members."""
        return self.fetched["member"]

    @property
    def target(self) -> Resource:
        """The caller's own table, algorithm or tagged resource that the request names."""
        return self.fetched["target"]

    def page(
        self,
        params: Mapping[str, Any],
        kind: str,
        project: Callable[[Resource], dict[str, Any]],
        key: str,
        *,
        default: int = DEFAULT_PAGE,
        kept: bool = False,
        **bounds: Unpack[resources.Bounds],
    ) -> dict[str, Any]:
        """One page of rows of a kind, as the modelled list output under `key` with its nextToken.

        A token belongs to the account, the operation and what the request asks for, not to the rows that
        `statuses`, `parents` and `accounts` happen to name: those may change between two pages.
        kept: `project` goes by the row alone, not by other rows nor by who asks, so its items are made once.
        """
        limit = params.get("maxResults") or default
        listing = self.listing(params)
        token = params.get("nextToken")
        if token:
            bounds["after"] = self.room.tokens.read(listing, token)
        if kept:
            places = resources.places(self.tx, kind, limit=limit + 1, **bounds)
            output = {key: self.room.items.page(self.tx, self.operation, places[:limit], project)}
            sequences = [sequence for sequence, _ in places[limit - 1 :]]
        else:
            rows = resources.find(self.tx, kind, limit=limit + 1, **bounds)
            output = {key: [project(row) for row in rows[:limit]]}
            sequences = [row.sequence for row in rows[limit - 1 :]]
        if len(sequences) > 1:
            output["nextToken"] = self.room.tokens.issue(listing, sequences[0])
        return output

    def listing(self, params: Mapping[str, Any]) -> str:
        """What a page token is good for: this account, this operation and what the request asks for."""
        asked = {name: params[name] for name in sorted(params) if name not in ("maxResults", "nextToken")}
        return "|".join([self.account, self.operation, repr(asked)])


def invalid(field: str, message: str) -> ValidationException:
    """A ValidationException about one field."""
    return ValidationException(message, fields=[(field, message)])
