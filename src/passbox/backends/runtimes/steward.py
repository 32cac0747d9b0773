"""The shepherd of a container: the engine starts it, everything else is the shepherd's as ever.

Run by the engine runtime as a program of its own, beside every container. It stages in the host's mount
namespace, because that is where an engine looks for what it binds, says so, and is told the process id of the
container's process 1, which waits at its gate (`gate.py`). It looks at the seal from outside, opens the gate,
and then watches, ends, measures and reports like every shepherd. With the service's end it ends the
container, by the kernel and not by the engine, which may be gone too.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import sys
import time

from passbox.backends.runtimes import attest, cgroup, linux, staging
from passbox.backends.runtimes.shepherd import Shepherd, live

TYPE_CHECKING = False  # see shepherd.py
if TYPE_CHECKING:
    from typing import Any

_CONTAINER_SECONDS = 60.0
_PIPES = ("gate", "log", "status")
# rootful engines have no user namespace of their own; the job's user is nobody else's
_NAMESPACES = ("net", "pid", "mnt", "ipc", "uts")


class Steward(Shepherd):
    """The state of one container."""

    def __init__(self, plan: dict[str, Any], control: socket.socket, events: socket.socket) -> None:
        super().__init__(plan, control, events)
        self.gate = self.status = -1
        self.ends: select.epoll | None = None
        self.spared = False

    def start(self) -> None:
        """Stages, waits for the container, checks its seal and lets it begin; RuntimeError where that cannot
        be, Unsealed where the seal does not hold."""
        stage = self.plan["stage"]
        os.makedirs(stage, 0o700)
        staging.stage(stage, self.plan, self.uid, self.gid, self.privileged)
        linux.hide_from_tracers()
        self._bring(f"{stage}/bin")
        self._make_pipes(f"{stage}/io")
        self.events.send(b'{"staged": true}')
        self._await_container()
        self._close_mounts()
        if self.plan["network"] is not None:
            self._name_host()
        attest.require_sealed(self.init, self._container())
        self.started = time.monotonic()
        os.write(self.gate, b"go\n")

    def _container(self) -> attest.Granted:
        own = attest.namespaces()
        seen = {target: _identity(source) for target, source in self.plan["seen"].items()}
        return attest.Granted(
            service={name: own[name] for name in _NAMESPACES},
            network=self.plan["network"],
            uid=self.uid,
            gid=self.gid,
            shown={target: one for target, one in seen.items() if target not in self.plan["targets"]},
            writable={target: one for target, one in seen.items() if target in self.plan["targets"]},
            rlimits=self.plan["rlimits"],
            group=self.group if self.plan["limits"] else cgroup.Group({}),
            limits=self.plan["limits"] or (0, 0, 0.0),
            devices=self.plan["devices"],
            alone=False,
        )

    def _bring(self, directory: str) -> None:
        """Copies the gate's programs and the filter into the staging area, which nobody mounted noexec."""
        os.mkdir(directory, 0o755)
        for name, original in self.plan["programs"].items():
            with open(original, "rb") as source, open(f"{directory}/{name}", "wb") as target:
                target.write(source.read())
                os.fchmod(target.fileno(), 0o755)
        with open(f"{self.plan['stage']}/seccomp.json", "w") as file:
            file.write(self.plan["filter"])

    def _make_pipes(self, directory: str) -> None:
        os.mkdir(directory, 0o755)
        for name in _PIPES:
            os.mkfifo(f"{directory}/{name}", 0o600)
            os.chown(f"{directory}/{name}", self.uid, self.gid)
        reading = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        self.log_read = os.open(f"{directory}/log", reading)
        self.status = os.open(f"{directory}/status", reading)
        # both ends: process 1 then waits for a line instead of meeting the end of the pipe
        self.gate = os.open(f"{directory}/gate", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def _await_container(self) -> None:
        if not select.select([self.control], [], [], _CONTAINER_SECONDS)[0]:
            raise RuntimeError("the engine started no container in time")
        data = self.control.recv(4096)
        if not data:
            raise RuntimeError("the service gave up on its container")
        self.init = json.loads(data)["process"]
        self.init_handle = os.pidfd_open(self.init)
        self.network = os.open(f"/proc/{self.init}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.namespace = os.stat(f"/proc/{self.init}/ns/pid").st_ino
        self.group = cgroup.of_process(self.init)

    def _close_mounts(self) -> None:
        """Makes every mount but the granted ones read-only, and none obey set-uid bits or hold devices.

        An engine's own read-only root leaves /proc and /dev writable, and Podman's brings unlimited tmpfs.
        """
        mounts = attest.mounts(self.init)

        def close() -> None:
            for target, options in mounts.items():
                granted = target in self.plan["targets"]
                devices = f"{target}/".startswith("/dev/") and not granted
                read_only = not granted and target != "/dev/pts"
                linux.restrict_mount(target, options, read_only=read_only, devices=devices)

        linux.within(self.init, "mnt", close)

    def _name_host(self) -> None:
        """Engines name a container that shares a network after the one whose network it is."""
        linux.within(self.init, "uts", lambda: socket.sethostname(self.plan["host"]))

    def _end_handle(self) -> int:
        self.ends = select.epoll()
        for descriptor in (self.status, self.init_handle):
            self.ends.register(descriptor, select.EPOLLIN)
        return self.ends.fileno()

    def _ended(self) -> tuple[int, float]:
        self._remember()
        told = b""
        with contextlib.suppress(BlockingIOError):
            told = os.read(self.status, 16)
        if told.strip().isdigit():
            return int(told) & 0xFF, 0.0
        # process 1 itself is gone: by us, by the engine's operator, or for want of memory
        self.cause = self.cause or ("out of memory" if self.group.out_of_memory_kills() else "killed")
        return 137, 0.0

    def _tick(self) -> None:
        if not self.spared and self._members()[1:]:
            # its memory is nothing, and its death would hide why the program died
            with contextlib.suppress(OSError), open(f"/proc/{self.init}/oom_score_adj", "w") as file:
                file.write("-1000")
            self.spared = True
        super()._tick()

    def _remember(self) -> None:
        """The engine removes the control group with the container, and its numbers with it."""
        if not isinstance(self.group, cgroup.Measured):
            self.group = cgroup.Measured(self.group)

    def _strike(self) -> None:
        self._remember()
        super()._strike()

    def leave(self) -> None:
        """Takes the staging area away."""
        with contextlib.suppress(OSError):
            linux.unmount(self.plan["stage"])
        with contextlib.suppress(OSError):
            os.rmdir(self.plan["stage"])


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def main() -> None:
    """Reads the plan from standard input and lives one container's life."""
    live(json.load(sys.stdin), Steward)
