"""Starts shepherds: the service's side of the process that they are forked from (`forkserver.py`).

Knows how to start that process, again where it has died or this process is itself a fork, and how to hold a
process that is nobody's child here; must not know what a shepherd does.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from passbox.backends.runtimes.forkserver import MOST_DESCRIPTORS
from passbox.errors import Misconfigured

_SOURCE = str(Path(__file__).parents[3])
_ANSWER_SECONDS = 20.0


class ShepherdProcess:
    """A shepherd, held by its pidfd, so that its number is never taken for another's."""

    def __init__(self, pid: int, handle: int) -> None:
        self.pid = pid
        self._handle = handle
        self._let_go = weakref.finalize(self, os.close, handle)

    def kill(self) -> None:
        """SIGKILL; nothing where it has ended."""
        if self._let_go.alive:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def wait(self) -> None:
        """Returns once it has ended."""
        if self._let_go.alive:
            waiting = select.poll()
            waiting.register(self._handle, select.POLLIN)
            waiting.poll()
            self._let_go()


class Shepherds:
    """boot: the Python text that serves, its source directory in sys.argv[1]. Safe to use from threads."""

    def __init__(self, boot: str) -> None:
        self._boot = boot
        self._lock = threading.Lock()
        self._server: socket.socket | None = None
        self._owner = 0
        self._end: Any = None

    def start(self, plan: Mapping[str, Any], passed: Sequence[tuple[str, int]]) -> ShepherdProcess:
        """A shepherd that lives `plan`, completed with descriptors, which stay the caller's as well."""
        file = os.memfd_create("plan", os.MFD_CLOEXEC)
        try:
            os.write(file, json.dumps(plan).encode())
            os.lseek(file, 0, os.SEEK_SET)
            names, descriptors = ["plan", *(name for name, _ in passed)], [file, *(one for _, one in passed)]
            if len(descriptors) > MOST_DESCRIPTORS:
                raise Misconfigured(f"a sandbox cannot be given {len(descriptors)} descriptors")
            with self._lock:
                return self._ask(json.dumps(names).encode(), descriptors)
        finally:
            os.close(file)

    def close(self) -> None:
        """Ends the process that shepherds are forked from, not those that there are."""
        with self._lock:
            self._let_go()

    def _ask(self, request: bytes, descriptors: list[int]) -> ShepherdProcess:
        if self._server is None or self._owner != os.getpid():
            self._serve()
        try:
            self._send(request, descriptors)
        except OSError:  # it was killed; nobody has heard the request
            self._let_go()
            self._serve()
            self._send(request, descriptors)
        try:
            answer, handles, _, _ = socket.recv_fds(self._running, 64, 1, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            answer, handles = b"", []
        if not handles:
            self._let_go()
            raise Misconfigured("the sandbox did not start: the process that shepherds come from has ended")
        return ShepherdProcess(int(answer), handles[0])

    @property
    def _running(self) -> socket.socket:
        if self._server is None:  # not between _serve and _let_go
            raise AssertionError
        return self._server

    def _send(self, request: bytes, descriptors: list[int]) -> None:
        socket.send_fds(self._running, [request], descriptors)

    def _serve(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", self._boot, _SOURCE],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={},
                cwd="/",
                start_new_session=True,
            )
        ours.settimeout(_ANSWER_SECONDS)
        self._server, self._owner = ours, os.getpid()
        self._end = weakref.finalize(self, _end, ours, process)

    def _let_go(self) -> None:
        if self._end is not None:
            self._end()
        self._server = None


def _end(server: socket.socket, process: "subprocess.Popen[bytes]") -> None:
    server.close()
    process.wait()
