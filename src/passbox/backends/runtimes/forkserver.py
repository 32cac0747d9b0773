"""A process kept warm beside the service: every shepherd is a fork of it, so none waits for an interpreter.

Run by the service (`shepherds.py`) as a program of its own with no variables and nothing of the service's
memory. It is single-threaded, as the namespaces of its children want it, and ends with the service, whose end
of standard input then closes; its children look after themselves. Knows descriptors and children; must not
know what a plan says. Light, because every child is a copy of it.

A request is a JSON list of names, with a descriptor for each: `answer`, a socket; `plan`, a file that holds a
JSON object; then those that the plan is completed with (where it has a list under the name, they are added to
it). The answer is the child's process id, with a pidfd and a pipe that says its exit code (negative: the
signal) at its end. Every request brings the socket for its answer, so that forks of the service may ask, too.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import socket

TYPE_CHECKING = False  # see shepherd.py
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

MOST_BYTES, MOST_DESCRIPTORS = 1 << 14, 128


def serve(live: Callable[[dict[str, Any]], None]) -> None:
    """Answers requests on standard input until the service lets go of it; each child lives its plan."""
    service = socket.socket(fileno=os.dup(0))
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    gc.freeze()  # children then share these pages for good
    children: dict[int, tuple[int, int]] = {}  # pidfd → number and pipe
    poll = select.poll()
    poll.register(service.fileno(), select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready in children:
                poll.unregister(ready)
                _tell(ready, *children.pop(ready))
                continue
            names, descriptors = _request(service)
            if not names:
                return
            child = os.fork()
            if child == 0:
                for other in (service.detach(), *children, *(pipe for _, pipe in children.values())):
                    os.close(other)
                _become(live, names, descriptors)
            handle = os.pidfd_open(child)
            for descriptor in descriptors[1:]:
                os.close(descriptor)
            heard, tell = os.pipe()
            children[handle] = child, tell
            poll.register(handle, select.POLLIN)
            with socket.socket(fileno=descriptors[0]) as answer, contextlib.suppress(BrokenPipeError):
                socket.send_fds(answer, [str(child).encode()], [handle, heard])
            os.close(heard)


def _tell(handle: int, child: int, pipe: int) -> None:
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(BrokenPipeError):
        os.write(pipe, str(os.waitstatus_to_exitcode(status)).encode())
    for descriptor in (handle, pipe):
        os.close(descriptor)


def _request(service: socket.socket) -> tuple[list[str], list[int]]:
    try:
        data, descriptors, _, _ = socket.recv_fds(
            service, MOST_BYTES, MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionResetError:
        return [], []
    return json.loads(data) if data else [], descriptors


def _become(live: Callable[[dict[str, Any]], None], names: Sequence[str], descriptors: Sequence[int]) -> None:
    """In the child: completes its plan and lives it. Never returns."""
    try:
        os.setsid()
        os.close(descriptors[0])
        with os.fdopen(descriptors[1]) as file:
            plan = json.load(file)
        for name, descriptor in zip(names[2:], descriptors[2:], strict=True):
            if isinstance(plan[name], list):
                plan[name].append(descriptor)
            else:
                plan[name] = descriptor
        live(plan)
    finally:
        os._exit(0)
