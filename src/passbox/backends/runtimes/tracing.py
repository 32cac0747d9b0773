"""The moment between exec and the first instruction of a program, held while it is looked at.

By then everything about the process is as it will be, its system-call filter included, and nothing that it
was given has been read by code that is not ours. Knows ptrace; must not know what is looked at. Light enough
for the shepherd to import.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from passbox.backends.runtimes import linux

TYPE_CHECKING = False  # see shepherd.py
if TYPE_CHECKING:
    from collections.abc import Callable

_OPTIONS = linux.PTRACE_O_FORKS | linux.PTRACE_O_EXEC | linux.PTRACE_O_EXITKILL


def watch_exec(
    init: int, release: Callable[[], None], look: Callable[[int], None], seconds: float
) -> int | None:
    """Calls `release`, which lets `init` go on to fork the program; returns the program's process.

    look: called with the process at its exec; what it raises ends the process before its first instruction.
    None where it has ended without an exec. RuntimeError after `seconds`, or where nothing can be traced.
    """
    try:
        linux.ptrace(linux.PTRACE_SEIZE, init, _OPTIONS)
    except OSError as error:
        raise RuntimeError(
            "a started program cannot be looked at before it runs; kernel.yama.ptrace_scope must be below 3, "
            f"and a container that passbox runs in must allow ptrace: {error}"
        ) from error
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        release()
        return _follow(init, look, time.monotonic() + seconds)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def _follow(init: int, look: Callable[[int], None], deadline: float) -> int | None:
    """Follows `init` to the exec: its own, or that of its first child, which is traced from its birth."""
    program = init
    event = _run_to((*linux.PTRACE_EVENTS_FORK, linux.PTRACE_EVENT_EXEC), init, deadline)
    try:
        if event in linux.PTRACE_EVENTS_FORK:
            program = linux.traced_child(init)
            with contextlib.suppress(ProcessLookupError):
                linux.ptrace(linux.PTRACE_DETACH, init)
            event = _run_to((linux.PTRACE_EVENT_EXEC,), program, deadline)
        if event is None:
            return None
        look(program)
    except BaseException:
        _end(program)
        raise
    linux.ptrace(linux.PTRACE_DETACH, program)
    return program


def _end(process: int) -> None:
    """Kills a traced process and takes note of its death: process 1 of its pid namespace, which waits for all
    others, does not end before its tracer has."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(process, signal.SIGKILL)  # traced and not waited for, so the number is still its own
        os.waitpid(process, linux.WALL)


def _run_to(events: tuple[int, ...], process: int, deadline: float) -> int | None:
    """Lets a traced process run until one of these events stops it; None where it ends before."""
    while True:
        found, status = os.waitpid(process, os.WNOHANG | linux.WALL)
        if found == 0:
            left = deadline - time.monotonic()
            if left <= 0:
                raise RuntimeError("the program did not start in time")
            signal.sigtimedwait({signal.SIGCHLD}, left)
            continue
        if not os.WIFSTOPPED(status):
            return None
        event = status >> 16
        if event in events:
            return event
        linux.ptrace(linux.PTRACE_CONT, process, 0 if event else os.WSTOPSIG(status))
