"""uvicorn's HTTP protocol with a bound on a request's head while it is still arriving, and with answers that
leave in one piece.

uvicorn collects headers for as long as they come and waits for them as long as it takes; the application
sees a request only when its head is complete, so it cannot bound either. And it sends an answer's head and
its body one by one. Knows uvicorn and bytes; must not know what a request means.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from passbox.wire.intake import Limits


def http_protocol(limits: Limits) -> type[asyncio.Protocol]:
    """The class for `uvicorn.Config(http=…)`."""
    return type(
        "BoundedHttpProtocol",
        (_Bounded,),
        {"most": limits.header_bytes + limits.target_bytes, "patience": limits.head_seconds},
    )


class _Bounded(HttpToolsProtocol):
    most: int
    patience: float

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head: int | None = 0  # bytes of an unfinished head; None while there is none
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(_Gathering(transport, self.loop))  # type: ignore[arg-type]
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head is not None:
            self._head += len(data)
            if self._head > self.most:
                self._refuse(b"431 Request Header Fields Too Large", "The head of the request is too large.")
            elif self._timer is None:
                self._wait()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._arrived()
        self._head = 0  # most heads come in one piece, and need no timer

    def on_headers_complete(self) -> None:
        self._arrived()
        super().on_headers_complete()

    def _wait(self) -> None:
        self._timer = self.loop.call_later(self.patience, self._late)

    def _arrived(self) -> None:
        self._head = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._refuse(b"408 Request Timeout", "The head of the request did not arrive in time.")

    def _refuse(self, status: bytes, message: str) -> None:
        self._arrived()
        if self.transport.is_closing():
            return
        body = b'{"message":"%s"}' % message.encode()
        head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d" % (status, len(body))
        self.transport.write(head + b"\r\nconnection: close\r\n\r\n" + body)
        self.transport.close()


class _Gathering:
    """A transport that sends in one piece what is written in one turn of the loop."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._written: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._written:
            self._loop.call_soon(self._send)
        self._written.append(data)

    def close(self) -> None:
        self._send()
        self._transport.close()

    def _send(self) -> None:
        written, self._written = self._written, []
        if written and not self._transport.is_closing():
            self._transport.write(b"".join(written))
