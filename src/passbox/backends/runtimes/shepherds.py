"""Starts shepherds: the service's side of the process that they are forked from (`forkserver.py`).

Knows how to start that process, again where it has died, and how to hold a process that is nobody's child
here; must not know what a shepherd does.
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

from passbox.backends.runtimes.base import Lost
from passbox.backends.runtimes.forkserver import MOST_DESCRIPTORS
from passbox.errors import Misconfigured

_SOURCE = str(Path(__file__).parents[3])
_ANSWER_SECONDS = 20.0


class ShepherdProcess:
    """A shepherd, held by its pidfd, so that its number is never taken for another's."""

    def __init__(self, pid: int, handle: int, heard: int) -> None:
        self.pid = pid
        self._handle, self._heard = handle, heard
        self._let_go = weakref.finalize(self, _close, handle, heard)
        self._code = 0

    def kill(self) -> None:
        """SIGKILL; nothing where it has ended."""
        if self._let_go.alive:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Returns once it has ended: its exit code, negative for a signal. TimeoutExpired after `timeout`
        seconds."""
        if self._let_go.alive:
            waiting = select.poll()
            waiting.register(self._handle, select.POLLIN)
            if not waiting.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired("a shepherd", timeout or 0.0)
            # where nobody is left to tell, somebody has killed what it comes from and it, too
            self._code = int(os.read(self._heard, 16) or -signal.SIGKILL)
            self._let_go()
        return self._code


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class Shepherds:
    """boot: the Python text that serves, its source directory in sys.argv[1].

    Safe to use from threads, and from forks of this process, which go on asking the same server.
    """

    def __init__(self, boot: str) -> None:
        self._boot = boot
        self._lock = threading.Lock()
        self._server: socket.socket | None = None
        self._end: Any = None

    def start(self, plan: Mapping[str, Any], passed: Sequence[tuple[str, int]]) -> ShepherdProcess:
        """A shepherd that lives `plan`, completed with descriptors, which stay the caller's as well.

        Misconfigured where too many are passed, Lost where what it would have come from was ended meanwhile.
        """
        answers, answer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        file = os.memfd_create("plan", os.MFD_CLOEXEC)
        with answers, os.fdopen(file, "w+b") as text:
            with answer:
                text.write(json.dumps(plan).encode())
                text.seek(0)
                given = [("answer", answer.fileno()), ("plan", file), *passed]
                if len(given) > MOST_DESCRIPTORS:
                    raise Misconfigured(f"a sandbox cannot be given {len(given)} descriptors")
                self._ask(json.dumps([name for name, _ in given]).encode(), [one for _, one in given])
            answers.settimeout(_ANSWER_SECONDS)
            with contextlib.suppress(OSError):
                said, handles, _, _ = socket.recv_fds(answers, 64, 2, socket.MSG_CMSG_CLOEXEC)
                if said:
                    return ShepherdProcess(int(said), *handles)
        raise Lost("what looks after a sandbox was ended from outside while it started")

    def _ask(self, request: bytes, descriptors: list[int]) -> None:
        with self._lock:
            server = self._server or self._serve()
            try:
                socket.send_fds(server, [request], descriptors)
            except OSError:  # it was killed; nobody has heard the request
                self._end()
                socket.send_fds(self._serve(), [request], descriptors)

    def _serve(self) -> socket.socket:
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
        self._server = ours
        self._end = weakref.finalize(self, _end, ours, process, os.getpid())
        return ours


def _end(server: socket.socket, process: "subprocess.Popen[bytes]", owner: int) -> None:
    if owner == os.getpid():
        with contextlib.suppress(OSError):  # forks may hold it as well
            server.shutdown(socket.SHUT_RDWR)
        server.close()
        process.wait()
    else:
        server.close()
