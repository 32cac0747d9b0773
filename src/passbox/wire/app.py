"""The API as a raw ASGI application. A request walks down this file once:

    head within limits → plain route? → claim of the signature → route → body within limits
    → signature → implemented? → content type → params → dispatch → answer

What is short runs on the event loop: a thread would cost more than it does. That is everything up to the
params, the operations named as `inline`, and those that change something, which run `together`. What is slow,
also what one of these needs first (`Later`), runs in a bounded pool of threads. Knows HTTP and the models;
must not know what an operation does.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from time import time
from typing import Any, Protocol, TypeVar

from passbox.errors import PassboxError
from passbox.names import new_id
from passbox.wire.canonical import Request
from passbox.wire.errors import (
    NO_SERVICE,
    NOT_IMPLEMENTED,
    TOO_BUSY,
    ErrorShapes,
    Refused,
    Response,
    is_internal,
    json_response,
    respond,
)
from passbox.wire.intake import Disconnected, Intake, Limits, Message, Receive, Send, read_head, require_json
from passbox.wire.model import Service
from passbox.wire.route import Route, Router, unknown_path
from passbox.wire.sigv4 import Claim, FindKey, Key, Verifier
from passbox.wire.together import Group, Later, Together

Output = Mapping[str, Any] | None
Dispatch = Callable[[str, str, dict[str, Any]], Output]

T = TypeVar("T")

SHORT_BODY = 64 * 1024  # bytes that are hashed and read on the event loop

_log = logging.getLogger(__name__)

__all__ = ["Application", "Dispatch", "FindKey", "Key", "Limits"]


class Changes(Protocol):
    """Operations that change something, made in groups."""

    def begin(self) -> Group:
        """Starts a group; may wait."""

    def begin_at_once(self) -> Group | None:
        """Starts a group, or gives None where that would be to wait."""

    def change(self, account: str, operation: str, params: dict[str, Any]) -> Callable[[Any], Output]:
        """What makes the call in a group, perhaps more than once: see `Later`."""


class Application:
    """All services on one address.

    find_key:      access key id → Key, or None. Called once a request: keep it in memory.
    dispatch:      (account, "cleanrooms.CreateCollaboration", params) → output. Synchronous; raises
                   passbox.errors, or Later where it is inline and not so short this time. Must be safe to
                   call from several threads.
    implemented:   the operations that `dispatch` knows; the others of the models answer 501.
    inline:        operations so short that a thread would cost more than they do.
    changes:       makes the operations that are not inline, in place of `dispatch`.
    plain_routes:  unsigned GET paths, for example "/health", and what makes their JSON.
    clock:         seconds since the epoch, for the signature
    """

    def __init__(
        self,
        services: Sequence[Service],
        find_key: FindKey,
        dispatch: Dispatch,
        *,
        implemented: frozenset[str],
        region: str,
        limits: Limits | None = None,
        plain_routes: Mapping[str, Callable[[], Mapping[str, Any]]] | None = None,
        inline: frozenset[str] = frozenset(),
        changes: Changes | None = None,
        clock: Callable[[], float] = time,
    ) -> None:
        self._limits = limits or Limits()
        self._errors = {service.signing_name: service.errors for service in services}
        self._router = Router(services)
        self._verifier = Verifier(find_key, region=region, services=tuple(self._errors), clock=clock)
        self._dispatch = dispatch
        self._implemented = implemented
        self._inline = inline
        self._changes = changes
        self._together = None if changes is None else Together(changes.begin, changes.begin_at_once)
        self._plain = {path.encode(): make for path, make in (plain_routes or {}).items()}
        self._intake = Intake(self._limits)
        self._pool = ThreadPoolExecutor(self._limits.threads, thread_name_prefix="wire")
        self._in_flight = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._exchange(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                self._pool.shutdown(wait=True)
                if self._together is not None:
                    self._together.shutdown()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return

    async def _exchange(self, scope: Message, receive: Receive, send: Send) -> None:
        request_id = new_id()
        errors = NO_SERVICE
        arrived = False
        try:
            request = read_head(scope, self._limits)
            make = self._plain.get(request.path) if request.method == "GET" else None
            if make is not None:
                response = json_response(200, await self._counted(self._run(make)), request_id)
            else:
                claim = self._claim(request)
                errors = self._errors[claim.service]
                route = self._router.route(claim.service, request.method, request.path)
                body = await self._intake.read_body(request, receive)
                arrived = True
                response = await self._answer(claim, route, request, body, request_id)
        except Disconnected:
            return
        except Exception as error:  # the edge: everything that is raised becomes a response here
            response = self._refuse(error, errors, request_id, scope)
        if not arrived and _may_have_body(scope):
            # The rest of the body is unread: the connection cannot carry another request.
            response.headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": response.status, "headers": response.headers})
        await send({"type": "http.response.body", "body": response.body})

    def _claim(self, request: Request) -> Claim:
        try:
            return self._verifier.claim(request)
        except Refused:
            # What nobody could have signed for is told apart from a bad signature: the models are public.
            if not self._router.knows(request.path):
                raise unknown_path() from None
            raise

    async def _answer(
        self, claim: Claim, route: Route, request: Request, body: bytes, request_id: str
    ) -> Response:
        operation = route.operation

        def understand() -> tuple[str, dict[str, Any]]:
            account = self._verifier.account(claim, request, body)
            if operation.full_name not in self._implemented:
                raise Refused(
                    NOT_IMPLEMENTED, 501, f"{operation.full_name} is not implemented by this service."
                )
            if body and operation.takes_body:
                require_json(request)
            return account, operation.decode(route.labels, request.query, body)

        short = len(body) <= SHORT_BODY
        account, params = understand() if short else await self._counted(self._run(understand))
        if operation.full_name in self._inline:
            output = await self._read(account, operation.full_name, params)
        else:
            output = await self._counted(self._perform(account, operation.full_name, params))
        return operation.respond(output, request_id)

    async def _read(self, account: str, name: str, params: dict[str, Any]) -> Output:
        while True:
            try:
                return self._dispatch(account, name, params)
            except Later as later:
                await self._counted(self._run(later.work))

    async def _perform(self, account: str, name: str, params: dict[str, Any]) -> Output:
        if self._changes is None or self._together is None:
            return await self._run(lambda: self._dispatch(account, name, params))
        change = self._changes.change(account, name, params)
        while True:
            try:
                return await self._together.run(change)
            except Later as later:
                await self._run(later.work)

    async def _counted(self, work: Coroutine[Any, Any, T]) -> T:
        """Refuses what would wait behind too many others."""
        if self._in_flight >= self._limits.in_flight:
            work.close()
            raise Refused(TOO_BUSY, 429, "The service is busy. Try again.")
        self._in_flight += 1
        try:
            return await work
        finally:
            self._in_flight -= 1

    async def _run(self, work: Callable[[], T]) -> T:
        """Does it in a thread of the pool."""
        run = asyncio.get_running_loop().run_in_executor
        return await run(self._pool, copy_context().run, work)

    def _refuse(self, error: Exception, errors: ErrorShapes, request_id: str, scope: Message) -> Response:
        place = {
            "request_id": request_id,
            "method": scope["method"],
            "path": scope["raw_path"].decode("latin-1"),
        }
        if is_internal(error):
            _log.error("request %s failed", request_id, exc_info=error, extra=place)
        elif isinstance(error, PassboxError) and error.detail:
            _log.info("request %s refused: %s", request_id, error.detail, extra=place)
        return respond(error, errors, request_id)


def _may_have_body(scope: Message) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )
