"""gRPC calls over one connected socket, as much of HTTP/2 as Spark Connect's client needs.

gRPC's own client opens its connections itself and takes no descriptor, but a descriptor is all that a
sandbox hands over. So `Channel` offers what the generated stubs ask of a channel, over a socket that is
there already. Beside that it is a smaller thing to point at a process that reads members' data: no threads
(a worker may fork), nothing native that parses what the server says, and half the CPU of a gRPC channel
behind a relay.

One call at a time. Flow control of what comes is TCP's: the windows are opened wide and the socket is read
only when the caller asks for more. Compression is never offered: the server would gzip every batch, at four
times the cost of the query. Must not know Spark.
"""

import base64
import socket
import struct
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

import grpc
import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
ENABLE_PUSH, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 2, 4, 5
WINDOW = (1 << 31) - 1
DEFAULT_WINDOW = 65535
# How much may come before the server is told that it may send as much again.
REFILL = 1 << 28
BUFFER = 1 << 16
# What the other side may make us hold. A batch of wide rows can be large; headers never are.
MESSAGE_LIMIT = 1 << 30
HEADERS_LIMIT = 1 << 20
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_Serialize = Callable[[Any], bytes]
_Parse = Callable[[Any], Any]


class Failure(grpc.RpcError):  # type: ignore[misc]  # grpc has no types
    """A call that failed, with what Spark Connect's client asks of one."""

    def __init__(self, code: grpc.StatusCode, details: str, trailers: Iterable[tuple[str, Any]] = ()) -> None:
        super().__init__(f"{code.name}: {details}")
        self._code, self._details, self._trailers = code, details, tuple(trailers)

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> tuple[tuple[str, Any], ...]:
        return self._trailers


class Channel:
    """What a generated stub asks of a channel. Owns the socket, which blocks and has no timeout."""

    def __init__(self, stream: socket.socket) -> None:
        self._connection = _Connection(stream)

    def unary_unary(
        self, path: str, request_serializer: _Serialize, response_deserializer: _Parse, **_: Any
    ) -> Callable[..., Any]:
        """A call with one answer."""

        def call(request: Any, metadata: Iterable[tuple[str, str]] = (), **_: Any) -> Any:
            answers = self._connection.call(path, request_serializer(request), metadata)
            parsed = [response_deserializer(answer) for answer in answers]
            if len(parsed) != 1:
                raise Failure(grpc.StatusCode.INTERNAL, f"{len(parsed)} answers to a call that has one")
            return parsed[0]

        return call

    def unary_stream(
        self, path: str, request_serializer: _Serialize, response_deserializer: _Parse, **_: Any
    ) -> Callable[..., Any]:
        """A call with a stream of answers, each read when it is asked for."""

        def call(request: Any, metadata: Iterable[tuple[str, str]] = (), **_: Any) -> Iterator[Any]:
            answers = self._connection.call(path, request_serializer(request), metadata)
            return map(response_deserializer, answers)

        return call

    def stream_unary(self, path: str, *_: Any, **__: Any) -> Callable[..., Any]:
        """Only uploads stream, and the engine is given no files."""

        def call(*_: Any, **__: Any) -> NoReturn:
            raise Failure(grpc.StatusCode.UNIMPLEMENTED, f"{path} is not offered here")

        return call

    def close(self) -> None:
        """Closes the socket; a call in progress ends. Idempotent."""
        self._connection.close()


class _Connection:
    """The two directions of an HTTP/2 connection, from the client's side."""

    def __init__(self, stream: socket.socket) -> None:
        self._socket = stream
        self._decoder = hpack.Decoder(max_header_list_size=HEADERS_LIMIT)
        self._number = -1
        self._window = DEFAULT_WINDOW  # what may still be sent, on the connection …
        self._stream_window = DEFAULT_WINDOW  # … and on the call's stream
        self._first_window = DEFAULT_WINDOW
        self._frame_size = 16384
        self._unacknowledged = 0  # on the connection …
        self._stream_unacknowledged = 0  # … and on the call's stream, not there for what came before
        wanted = {
            ENABLE_PUSH: 0,
            INITIAL_WINDOW_SIZE: WINDOW,
            MAX_FRAME_SIZE: (1 << 24) - 1,
        }
        settings = b"".join(struct.pack(">HI", key, value) for key, value in wanted.items())
        opening = struct.pack(">I", WINDOW - DEFAULT_WINDOW)
        self._send(PREFACE + _frame(SETTINGS, 0, 0, settings) + _frame(WINDOW_UPDATE, 0, 0, opening))

    def close(self) -> None:
        self._socket.close()

    def call(self, path: str, message: bytes, metadata: Iterable[tuple[str, str]]) -> Iterator[memoryview]:
        """One call: its messages as they come, each good until the next. Raises Failure if it failed."""
        self._number += 2
        self._stream_unacknowledged = 0
        number = self._number
        self._stream_window = self._first_window
        fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *metadata,
        ]
        self._send(_frame(HEADERS, END_HEADERS, number, b"".join(_literal(*field) for field in fields)))
        early = self._send_message(number, struct.pack(">xI", len(message)) + message)
        yield from self._answers(number, early)

    def _send_message(self, number: int, body: bytes) -> list[tuple[str, str]] | None:
        """Sends a request's body as the server's windows allow. The trailers, if it answered before the
        end.
        """
        rest = memoryview(body)
        while rest:
            size = min(len(rest), self._window, self._stream_window, self._frame_size)
            if size > 0:
                last = END_STREAM if size == len(rest) else 0
                self._send(_frame(DATA, last, number, rest[:size]))
                self._window -= size
                self._stream_window -= size
                rest = rest[size:]
                continue
            kind, flags, length = self._next(number)
            if kind == HEADERS:
                fields = self._fields(flags, length)
                if flags & END_STREAM:
                    return fields
            else:
                raise _broken("an answer before the end of the question")
        return None

    def _answers(self, number: int, trailers: list[tuple[str, str]] | None) -> Iterator[memoryview]:
        message = _Message(self._fill)
        while trailers is None:
            kind, flags, length = self._next(number)
            if kind == HEADERS:
                fields = self._fields(flags, length)
                trailers = fields if flags & END_STREAM else None
            else:
                padding = self._read(1)[0] if flags & PADDED else 0
                yield from message.take(length - padding - (1 if flags & PADDED else 0))
                self._read(padding)
                self._refill(number, length)
                if flags & END_STREAM:
                    raise _broken("an answer without a status")
        _judge(trailers)

    def _next(self, number: int) -> tuple[int, int, int]:
        """The next frame of a call that is DATA or HEADERS, its payload unread; others are dealt with
        here.
        """
        while True:
            head = self._read(9)
            length = int.from_bytes(head[:3], "big")
            kind, flags = head[3], head[4]
            target = int.from_bytes(head[5:9], "big") & WINDOW
            if kind in (DATA, HEADERS) and target == number:
                return kind, flags, length
            if length > MESSAGE_LIMIT >> 6 or kind in (DATA, HEADERS, CONTINUATION):
                raise _broken(f"an unexpected frame of kind {kind}")
            payload = self._read(length)
            if kind == SETTINGS and not flags & ACK:
                self._settings(payload)
            elif kind == PING and not flags & ACK:
                self._send(_frame(PING, ACK, 0, payload))
            elif kind == WINDOW_UPDATE and length == 4:
                increment = int.from_bytes(payload, "big") & WINDOW
                if target == 0:
                    self._window += increment
                elif target == number:
                    self._stream_window += increment
            elif kind == GOAWAY or (kind == RST_STREAM and target == number):
                raise _broken(f"the server gave the call up ({payload[-4:].hex()})")

    def _settings(self, payload: bytes) -> None:
        for at in range(0, len(payload) - 5, 6):
            key, value = struct.unpack_from(">HI", payload, at)
            if key == INITIAL_WINDOW_SIZE:
                self._stream_window += value - self._first_window
                self._first_window = value
            elif key == MAX_FRAME_SIZE:
                self._frame_size = max(16384, min(value, (1 << 24) - 1))
        self._send(_frame(SETTINGS, ACK, 0, b""))

    def _fields(self, flags: int, length: int) -> list[tuple[str, str]]:
        """The headers of a HEADERS frame and of the CONTINUATION frames after it."""
        if length > HEADERS_LIMIT:
            raise _broken("too many headers")
        block = self._read(length)
        if flags & PADDED:
            block = block[1 : len(block) - block[0]]
        if flags & PRIORITY:
            block = block[5:]
        while not flags & END_HEADERS:
            head = self._read(9)
            more = int.from_bytes(head[:3], "big")
            if head[3] != CONTINUATION or len(block) + more > HEADERS_LIMIT:
                raise _broken("headers that do not end")
            block += self._read(more)
            flags = head[4]
        try:
            return [(str(name), str(value)) for name, value in self._decoder.decode(block)]
        except (hpack.HPACKError, UnicodeDecodeError):
            raise _broken("headers that cannot be read") from None

    def _refill(self, number: int, count: int) -> None:
        """Counts what came; gives the windows back once in a while."""
        self._unacknowledged += count
        self._stream_unacknowledged += count
        if self._unacknowledged >= REFILL:
            whole, own = (struct.pack(">I", n) for n in (self._unacknowledged, self._stream_unacknowledged))
            self._send(_frame(WINDOW_UPDATE, 0, 0, whole) + _frame(WINDOW_UPDATE, 0, number, own))
            self._unacknowledged = self._stream_unacknowledged = 0

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise _broken(f"the connection broke: {error}") from None

    def _read(self, count: int) -> bytes:
        data = bytearray(count)
        self._fill(memoryview(data))
        return bytes(data)

    def _fill(self, target: memoryview) -> None:
        """Reads exactly as much as `target` holds, in one call where the kernel can."""
        try:
            while target:
                count = self._socket.recv_into(target, 0, socket.MSG_WAITALL)
                if not count:
                    raise _broken("the connection ended")
                target = target[count:]
        except OSError as error:
            raise _broken(f"the connection broke: {error}") from None


class _Message:
    """Puts gRPC's messages together from the payloads of DATA frames.

    Every message of a call is read into the same memory, which so is mapped and zeroed once.
    """

    def __init__(self, fill: Callable[[memoryview], None]) -> None:
        self._fill = fill
        self._memory = memoryview(bytearray(BUFFER))
        self._start()

    def _start(self) -> None:
        self._target, self._at, self._is_prefix = self._memory[:5], 0, True

    def take(self, length: int) -> Iterator[memoryview]:
        """Reads `length` bytes and yields every message that they complete, good until the next is asked
        for.
        """
        while length > 0:
            count = min(length, len(self._target) - self._at)
            self._fill(self._target[self._at : self._at + count])
            self._at += count
            length -= count
            if self._at == len(self._target) and self._is_prefix:
                compressed, size = struct.unpack(">BI", self._target)
                if compressed or size > MESSAGE_LIMIT:
                    raise _broken("a message that is compressed or too large")
                if size > len(self._memory):
                    self._memory = memoryview(bytearray(size + size // 4))
                self._target, self._at, self._is_prefix = self._memory[:size], 0, False
            if self._at == len(self._target):
                whole = self._target
                self._start()
                yield whole


def _frame(kind: int, flags: int, stream: int, payload: bytes | memoryview) -> bytes:
    return struct.pack(">I", len(payload) << 8 | kind) + struct.pack(">BI", flags, stream) + payload


def _literal(name: str, value: str) -> bytes:
    """A header as HPACK's literal without indexing."""
    return b"\x00" + _text(name.lower().encode()) + _text(value.encode())


def _text(data: bytes) -> bytes:
    """HPACK's string: a length with a 7-bit prefix, no Huffman code."""
    size = len(data)
    if size < 127:
        return bytes((size,)) + data
    size -= 127
    head = bytearray((127,))
    while size >= 128:
        head.append(size & 127 | 128)
        size >>= 7
    head.append(size)
    return bytes(head) + data


def _judge(trailers: list[tuple[str, str]]) -> None:
    """Raises the Failure that the trailers tell, if they do."""
    fields = dict(trailers)
    status = fields.get("grpc-status", "")
    code = _CODES.get(int(status)) if status.isdecimal() and len(status) < 3 else None
    if code is grpc.StatusCode.OK:
        return
    if code is None:
        raise _broken(f"an answer that is not gRPC (HTTP {fields.get(':status', '?')})")
    details = urllib.parse.unquote(fields.get("grpc-message", ""), errors="replace")
    raise Failure(code, details, [(name, _metadata(name, value)) for name, value in trailers])


def _metadata(name: str, value: str) -> str | bytes:
    if not name.endswith("-bin"):
        return value
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4))
    except ValueError:
        return b""


def _broken(what: str) -> Failure:
    return Failure(grpc.StatusCode.UNAVAILABLE, what)
