"""The service's handle on a sandbox that a shepherd looks after.

Knows the shepherd's two sockets; must not know namespaces or how a sandbox is made. Safe to use from
several threads.
"""

import contextlib
import json
import select
import socket
import subprocess
import threading
import time
from typing import Protocol

from passbox.backends.runtimes.base import Cause, Exit, Lost, Unsealed, Usage
from passbox.backends.runtimes.cgroup import Group
from passbox.backends.runtimes.gpus import Reservation
from passbox.backends.runtimes.handover import receive_connection
from passbox.errors import Misconfigured

_START_SECONDS = 30.0
_MARGIN_SECONDS = 5.0
_CLOSING_SECONDS = 1.0  # from the end of a process's sockets to its own


class Process(Protocol):
    """A shepherd: its number, its end by force, and waiting for its end."""

    @property
    def pid(self) -> int: ...

    def kill(self) -> None: ...

    def wait(self, timeout: float | None = None) -> int: ...


class ShepherdedSandbox:
    """A started process tree (base.Sandbox)."""

    def __init__(
        self,
        process: Process,
        control: socket.socket,
        events: socket.socket,
        group: Group,
        held: Reservation,
    ) -> None:
        self._process = process
        self._held = held
        self._group = group
        self._control = control
        self._events = events
        self._requests = threading.Lock()
        self._ending = threading.Lock()
        self._exit: Exit | None = None
        self._began = time.monotonic()

    def await_start(self) -> None:
        """Returns once the program runs sealed; Misconfigured if it does not, Unsealed if not sealed."""
        self._await("started")

    def _await(self, what: str) -> None:
        self._events.settimeout(_START_SECONDS)
        try:
            answer = self._events.recv(1 << 16)
        except TimeoutError:
            answer = b""
        self._events.settimeout(None)
        message = json.loads(answer) if answer else {"failed": "the shepherd is gone"}
        lost = not answer and self._struck()
        if what not in message:
            self._process.kill()
            self._close()
            if message.get("unsealed"):
                raise Unsealed(tuple(message["unsealed"]), detail=message["failed"])
            if lost:
                raise Lost("the sandbox was ended from outside while it started")
            raise Misconfigured(
                "the sandbox did not start; `passbox doctor` says what is missing",
                detail=message.get("failed"),
            )

    def _struck(self) -> bool:
        """Whether a signal has ended the shepherd, which by itself always says something first."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(_CLOSING_SECONDS) < 0
        return False

    def connect(self, port: int, timeout: float = 10.0) -> socket.socket:
        """A connected stream socket to 127.0.0.1:port inside (base.Sandbox)."""
        with self._requests:
            if self._exit is not None:
                raise RuntimeError("the sandbox has ended")
            try:
                self._control.send(json.dumps({"do": "connect", "port": port, "timeout": timeout}).encode())
                self._control.settimeout(timeout + _MARGIN_SECONDS)
                return receive_connection(self._control, port)
            except (BrokenPipeError, ConnectionResetError) as error:
                raise RuntimeError("the sandbox has ended") from error

    def wait(self, timeout: float | None = None) -> Exit | None:
        """The Exit, or None after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._exit is None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._ending.acquire(timeout=-1 if left is None else left):
                return None
            try:
                if self._exit is None:
                    left = None if deadline is None else max(0.0, deadline - time.monotonic())
                    if not select.select([self._events], [], [], left)[0]:
                        return None
                    self._finish(self._events.recv(1 << 16))
            finally:
                self._ending.release()
        return self._exit

    def kill(self, grace: float = 0.0) -> Exit:
        """SIGTERM to all, `grace` seconds, then SIGKILL to all."""
        if self._exit is None:
            # without the lock: a connection in the making must not delay it; it may have ended by itself,
            # and then its report waits in the other socket
            with contextlib.suppress(OSError):
                self._control.send(json.dumps({"do": "kill", "grace": grace}).encode())
        ended = self.wait()
        if ended is None:  # not without a timeout
            raise AssertionError
        return ended

    def usage(self) -> Usage | None:
        """What it uses now, where control groups count it (base.Sandbox)."""
        cpu, memory = self._group.cpu_seconds(), self._group.memory_bytes()
        return None if cpu is None or memory is None or self._exit is not None else Usage(cpu, memory)

    def _finish(self, data: bytes) -> None:
        report = json.loads(data).get("exit") if data else None
        if report is None:  # the shepherd was killed, and with it everything that it looked after
            self._sweep()
            self._exit = Exit(Cause.KILLED, 137, time.monotonic() - self._began)
        else:
            self._exit = Exit(
                cause=Cause(report["cause"]),
                status=report["status"],
                seconds=report["seconds"],
                cpu_seconds=report["cpu_seconds"],
                peak_memory_bytes=report["peak_memory_bytes"],
                detail=report["detail"],
            )
        self._close()

    def _sweep(self) -> None:
        """What the shepherd does at its end, where it did not get there itself."""
        deadline = time.monotonic() + _MARGIN_SECONDS
        while self._group.processes() and time.monotonic() < deadline:
            self._group.kill()
            time.sleep(0.002)
        self._group.remove()

    def _close(self) -> None:
        self._process.wait()
        with self._requests:  # whoever waits for a connection has been told by now that there is none
            self._control.close()
        self._events.close()
        self._held.close()
