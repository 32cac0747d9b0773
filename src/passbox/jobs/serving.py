"""A model server inside a sandbox, spoken to by SageMaker's batch transform: /ping and /invocations.

Knows HTTP over a connection that only the sandbox's owner can make; must not know jobs or files' meaning. The
server may be hostile: every exchange has a deadline that no trickle of bytes moves, answers are counted while
they are read, and nothing that it says goes into a message.
"""

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from passbox.backends.runtimes.base import Sandbox
from passbox.errors import JobFailed

PORT = 8080
_RETRY_SECONDS = (0.02, 0.25)  # between attempts, the first and the longest
_CHUNK = 1 << 18


@dataclass(frozen=True)
class Patience:
    """Seconds: until the server answers /ping with 200 at all, for one /ping, for one /invocations."""

    start: float = 240.0
    ping: float = 2.0
    answer: float = 600.0


class Server:
    """One server on port 8080 of a sandbox, over a connection that is kept while both sides keep it."""

    def __init__(self, sandbox: Sandbox, patience: Patience) -> None:
        self._sandbox = sandbox
        self._patience = patience
        self._connection: _Connection | None = None

    def await_ready(self) -> None:
        """Returns once /ping answers 200. JobFailed after `patience.start` seconds; Gone if it has ended."""
        deadline = time.monotonic() + self._patience.start
        pause, longest = _RETRY_SECONDS
        while not self._ping():
            if self._sandbox.wait(pause) is not None:
                raise Gone
            if time.monotonic() > deadline:
                raise JobFailed(
                    "SERVER_NOT_READY",
                    f"The container did not answer GET /ping on port {PORT} with 200 within "
                    f"{self._patience.start:.0f} seconds.",
                )
            pause = min(2 * pause, longest)

    def _ping(self) -> bool:
        try:
            with self._exchange(self._patience.ping) as connection:
                connection.request("GET", "/ping")
                answer = connection.answer()
                while answer.read(_CHUNK):
                    pass
                return answer.status == 200
        except (OSError, ValueError, http.client.HTTPException, RuntimeError, JobFailed):
            return False

    def invoke(self, body: bytes, headers: dict[str, str], target: BinaryIO, most_bytes: int) -> int:
        """POSTs one batch and appends the answer to `target`, ended by a newline; returns the bytes written.

        Busy for an answer of 429 or 5xx; JobFailed for another that is not 2xx, not HTTP, or too late;
        AnswerTooLarge beyond `most_bytes`; Gone where the server closed the connection without a whole
        answer, of which a part may have been written. A kept connection that the server had closed already
        is made anew once.
        """
        kept = self._connection is not None
        while True:
            try:
                return self._post(body, headers, target, most_bytes)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as error:
                # nothing of an answer had come, so nothing was written to the target
                if not kept or self._sandbox.wait(0) is not None:
                    raise Gone from error
                kept = False
            except OSError as error:
                raise Gone from error
            except (ValueError, http.client.HTTPException) as error:
                message = "The container answered /invocations with what is not HTTP."
                raise JobFailed("AlgorithmError", message) from error

    def _post(self, body: bytes, headers: dict[str, str], target: BinaryIO, most_bytes: int) -> int:
        with self._exchange(self._patience.answer) as connection:
            connection.request("POST", "/invocations", body, headers)
            answer = connection.answer()
            if answer.status == 429 or answer.status >= 500:
                raise Busy(answer.status)
            if not 200 <= answer.status < 300:
                raise JobFailed(
                    "AlgorithmError", f"The container answered /invocations with status {answer.status}."
                )
            if answer.length is None and not answer.chunked:
                # it would end with the connection, and a server that dies would have answered in full
                message = "The container answered /invocations without a Content-Length and not in chunks."
                raise JobFailed("AlgorithmError", message)
            return _copy(answer, target, most_bytes)

    @contextlib.contextmanager
    def _exchange(self, seconds: float) -> "Iterator[_Connection]":
        """The connection for one request and its whole answer, cut after `seconds`."""
        if self._connection is None:
            self._connection = _Connection(self._sandbox, seconds)
        connection = self._connection
        connection.seconds = seconds
        late = threading.Event()
        timer = threading.Timer(seconds, connection.cut, [late])
        timer.start()
        try:
            yield connection
            if late.is_set():  # a body without a length just ends when it is cut
                raise TimeoutError
        except BaseException as error:
            self.close()
            if late.is_set() or isinstance(error, TimeoutError):
                raise JobFailed(
                    "SERVER_TOO_SLOW", f"The container did not answer within {seconds:.0f} seconds."
                ) from error
            raise
        finally:
            timer.cancel()
            timer.join()

    def ended(self) -> bool:
        """Whether the sandbox has ended."""
        return self._sandbox.wait(0) is not None

    def close(self) -> None:
        """Lets go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Busy(JobFailed):
    """The server could not answer; it may later."""

    def __init__(self, status: int) -> None:
        super().__init__("AlgorithmError", f"The container answered /invocations with status {status}.")


class Gone(Exception):
    """The server has ended or closed the connection in the middle of an exchange."""


class _Connection(http.client.HTTPConnection):
    """HTTP/1.1 over a socket into the sandbox."""

    def __init__(self, sandbox: Sandbox, seconds: float) -> None:
        super().__init__("localhost", PORT)
        self._sandbox = sandbox
        self.seconds = seconds
        self._stream: socket.socket | None = None
        self._answer: http.client.HTTPResponse | None = None

    def connect(self) -> None:
        try:
            self.sock = self._stream = self._sandbox.connect(PORT, timeout=self.seconds)
        except RuntimeError as error:  # the sandbox has ended
            raise ConnectionResetError(str(error)) from error

    def answer(self) -> http.client.HTTPResponse:
        """The answer to the request; closed with the connection, whose socket it holds too."""
        self._answer = self.getresponse()
        return self._answer

    def close(self) -> None:
        super().close()
        if self._answer is not None:
            self._answer.close()

    def cut(self, late: threading.Event) -> None:
        """Ends the exchange from another thread: whoever reads or writes then meets the end."""
        late.set()
        # not `sock`, which http.client lets go of as soon as it expects the server to close
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.shutdown(socket.SHUT_RDWR)


def _copy(answer: http.client.HTTPResponse, target: BinaryIO, most_bytes: int) -> int:
    """The whole answer, with a newline at its end; an empty answer stays empty."""
    written, last = 0, b"\n"
    while chunk := _chunk(answer):
        written += len(chunk)
        if written > most_bytes:
            raise AnswerTooLarge
        target.write(chunk)
        last = chunk[-1:]
    if answer.length:  # http.client takes an early end for the end
        raise Gone
    if last != b"\n":
        target.write(b"\n")
        written += 1
    return written


def _chunk(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise Gone from error


class AnswerTooLarge(Exception):
    """The answers are larger than the results may be."""
