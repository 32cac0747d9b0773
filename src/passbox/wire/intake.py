"""What comes in from the network, within limits: the head, the body, and how long it may take to arrive.

Knows ASGI messages and sizes; must not know what they mean.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from passbox.wire.canonical import Request
from passbox.wire.errors import NOT_JSON, TOO_BUSY, TOO_LARGE, TOO_SLOW, Headers, Refused

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True)
class Limits:
    """What one request, and all of them together, may take.

    body, buffered:   bytes of one body, and of all bodies that are being received
    headers:          how many; header_bytes their total; target_bytes the path and query
    body_seconds:     from the first byte awaited to the last; head_seconds the same for the head
    threads:          operations that run at once; in_flight: those and the ones that wait for a thread
    """

    body: int = 6 * 1024 * 1024
    buffered: int = 128 * 1024 * 1024
    headers: int = 100
    header_bytes: int = 32 * 1024
    target_bytes: int = 32 * 1024
    head_seconds: float = 10.0
    body_seconds: float = 20.0
    threads: int = 8
    in_flight: int = 256


class Disconnected(Exception):
    """The client went away; nobody is left to answer."""


def read_head(scope: Message, limits: Limits) -> Request:
    """The request without its body. Raises Refused."""
    headers: Headers = scope["headers"]
    path: bytes = scope["raw_path"]
    query: bytes = scope["query_string"]
    if len(path) + len(query) > limits.target_bytes:
        raise Refused(TOO_LARGE, 414, f"The path and query are longer than {limits.target_bytes} bytes.")
    if len(headers) > limits.headers:
        raise Refused(TOO_LARGE, 431, f"The request has more than {limits.headers} headers.")
    if sum(len(name) + len(value) for name, value in headers) > limits.header_bytes:
        raise Refused(TOO_LARGE, 431, f"The headers are larger than {limits.header_bytes} bytes.")
    return Request(scope["method"], path, query, headers)


class Intake:
    """Receives bodies; counts what all requests together hold in memory."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buffered = 0

    async def read_body(self, request: Request, receive: Receive) -> bytes:
        """The whole body. Raises Refused and Disconnected."""
        length, chunked = _announced(request.headers)
        if length > self._limits.body:
            raise self._too_large()
        if not length and not chunked:
            return b""
        chunks: list[bytes] = []
        held = 0
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Disconnected
                    chunk: bytes = message.get("body", b"")
                    chunks.append(chunk)
                    held += len(chunk)
                    self._buffered += len(chunk)
                    if held > self._limits.body:
                        raise self._too_large()
                    if self._buffered > self._limits.buffered:
                        raise Refused(TOO_BUSY, 429, "Too many bodies are being received. Try again.")
                    if not message.get("more_body", False):
                        return b"".join(chunks)
        except TimeoutError:
            told = f"The body did not arrive within {self._limits.body_seconds:g} seconds."
            raise Refused(TOO_SLOW, 408, told) from None
        finally:
            self._buffered -= held

    def _too_large(self) -> Refused:
        return Refused(TOO_LARGE, 413, f"The body is larger than {self._limits.body} bytes.")


def require_json(request: Request) -> None:
    """A body that is not declared as JSON is refused, as Smithy's restJson1 does, with 415."""
    types = [value for name, value in request.headers if name == b"content-type"]
    encodings = [value for name, value in request.headers if name == b"content-encoding"]
    if encodings and encodings != [b"identity"]:
        raise Refused(NOT_JSON, 415, "The body must not be encoded.")
    media = types[0].split(b";")[0].strip().lower() if len(types) == 1 else b""
    if media not in (b"application/json", b"application/x-amz-json-1.0", b"application/x-amz-json-1.1"):
        raise Refused(NOT_JSON, 415, "The body must be sent as application/json.")


def _announced(headers: Any) -> tuple[int, bool]:
    """(content-length, whether the body is chunked). The HTTP server has refused lengths that contradict."""
    length, chunked = 0, False
    for name, value in headers:
        if name == b"content-length":
            length = int(value) if value.isdigit() and len(value) < 19 else 1 << 62
        elif name == b"transfer-encoding":
            chunked = True
    return length, chunked
