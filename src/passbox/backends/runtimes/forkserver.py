"""A process kept warm beside the service: every shepherd is a fork of it, so none waits for an interpreter.

Run by the service (`shepherds.py`) as a program of its own with no variables and nothing of the service's
memory. It is single-threaded, as the namespaces of its children want it, and ends with the service, whose end
of standard input then closes; its children look after themselves. Knows descriptors and children; must not
know what a plan says. Light, because every child is a copy of it.

A request is a JSON list of names, with a descriptor for each: `plan`, a file that holds a JSON object, then
those that the plan is completed with (where it has a list under the name, they are added to it). The answer
is the child's process id, with a pidfd.
"""

from __future__ import annotations

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
    children: dict[int, int] = {}
    poll = select.poll()
    poll.register(service.fileno(), select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready in children:
                poll.unregister(ready)
                os.waitpid(children.pop(ready), 0)
                os.close(ready)
                continue
            names, descriptors = _request(service)
            if not names:
                return
            child = os.fork()
            if child == 0:
                for other in (service.detach(), *children):
                    os.close(other)
                _become(live, names, descriptors)
            handle = os.pidfd_open(child)
            for descriptor in descriptors:
                os.close(descriptor)
            children[handle] = child
            poll.register(handle, select.POLLIN)
            socket.send_fds(service, [str(child).encode()], [handle])


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
        with os.fdopen(descriptors[0]) as file:
            plan = json.load(file)
        for name, descriptor in zip(names[1:], descriptors[1:], strict=True):
            if isinstance(plan[name], list):
                plan[name].append(descriptor)
            else:
                plan[name] = descriptor
        live(plan)
    finally:
        os._exit(0)
