"""A Unix socket for gRPC to dial, in front of a port inside a sandbox.

gRPC's Python client opens its connections itself and takes no descriptor. So it dials a socket in a
directory of mode 0700, and every connection accepted there is moved, both ways, to a descriptor that the
sandbox hands over. Knows sockets and nothing of what flows through them.
"""

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

# As much as one call moves through a pipe; /proc/sys/fs/pipe-max-size allows it to everybody.
CHUNK = 1 << 20


class Bridge:
    """`address` is what gRPC dials, until `close`.

    dial: gives a fresh, connected stream socket to the port inside the sandbox
    """

    def __init__(self, directory: Path, dial: Callable[[], socket.socket]) -> None:
        self._dial = dial
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._closed = False
        directory.mkdir(mode=0o700, exist_ok=True)
        self._path = directory / "sail.sock"
        # A socket's path may have 107 bytes; by way of the open directory any directory will do.
        self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        short = f"/proc/self/fd/{self._directory}/{self._path.name}"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(short)
        self._listener.listen()
        self.address = f"unix:{short}"
        self._start(self._accept)

    def __enter__(self) -> "Bridge":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends every connection, waits for the threads and removes the socket. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for end in [self._listener, *self._sockets]:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits on it
        for thread in self._threads:
            thread.join()
        for end in [self._listener, *self._sockets]:
            end.close()
        self._path.unlink(missing_ok=True)
        os.close(self._directory)

    def _start(self, target: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=target, args=arguments, name="engine-bridge", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = self._dial()
            except (OSError, RuntimeError):
                near.close()  # the sandbox is gone: gRPC sees a connection that ends at once
                continue
            far.settimeout(None)
            with self._lock:
                if self._closed:
                    near.close()
                    far.close()
                    return
                self._sockets += [near, far]
                self._start(_move, near, far)
                self._start(_move, far, near)


def _move(source: socket.socket, target: socket.socket) -> None:
    """Moves bytes from source to target until source ends; through a pipe, so that they stay in the
    kernel.
    """
    read, write = os.pipe()
    try:
        with contextlib.suppress(OSError):
            while count := os.splice(source.fileno(), write, CHUNK):
                while count:
                    count -= os.splice(read, target.fileno(), count)
    finally:
        os.close(read)
        os.close(write)
        for end, how in ((source, socket.SHUT_RD), (target, socket.SHUT_WR)):
            with contextlib.suppress(OSError):
                end.shutdown(how)
