"""The contract of a runtime: it starts a sealed process and says truly how it ended.

1.  A runtime accepts a SandboxSpec and nothing else. What the spec does not grant, the process does not have:
    no network but its own loopback, no file but the root and the mounts, no variable but `environment` and
    PWD.
2.  The root and every mount are read-only, except `outputs` and the sized /tmp and /dev/shm.
3.  The process is not root, on the host or inside, has no capability and cannot gain one.
4.  `start` returns once the process runs; `start` that cannot seal raises Misconfigured, saying what to
    install. It never falls back to a weaker seal by itself. What it started it compares with the spec from
    outside, before any code that is not the runtime's own runs with the mounts in sight; where they differ
    it ends the process and raises Unsealed.
5.  Limits hold for the whole tree of processes. Which limit ended it is said by `Exit.cause`.
6.  `kill` ends the whole tree within two seconds and is idempotent; a dead supervisor ends it too.
7.  `wait` may be called again after the end and gives the same Exit.
8.  Standard output and error go to `log` (bytes, capped at `limits.log_bytes`, then cut with a note).
9.  `connect` gives a stream socket to a port inside the sandbox's own network; nobody else can reach it.
10. Outputs are host directories that are empty at the start and hold what the process left at the end;
    `harvest` rules on links, devices and sizes, not the runtime. Where they cannot be taken over (deeper than
    100 directories, longer than max_bytes with their holes) the cause is DISK.
11. A program that does not exist is an Exit with status 127, not an error of `start`.
12. Sandboxes of one Network reach each other by the names of its hosts, and nothing else of it or of the
    machine. A runtime that has no such network raises Misconfigured when asked for
    one; `start` raises ValueError for who is no host of it.
13. Several threads may use one runtime and one sandbox. A sandbox that nobody holds any more is ended.
14. `usage` tells CPU and memory of the whole tree where the runtime's check says SEALED; elsewhere it may be
    None. It is None once the sandbox has ended.
15. `gpus` is how many GPUs of the machine the process has. With 0 it sees no device node but those that every
    program has (null, zero, full, random, urandom, tty and its own pts); with N also the nodes of N GPUs and
    the control nodes of their driver, and no other. No two sandboxes have the same GPU at once, whoever
    started them on this machine and however they end; where too few are free `start` raises Busy, where there
    are too few Misconfigured. An image gets the driver's libraries, read-only, at /usr/local/nvidia/lib64,
    last on its LD_LIBRARY_PATH. What a job left in a GPU's memory is the driver's to clear.
"""

import enum
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from passbox.errors import Misconfigured


@dataclass(frozen=True)
class Root:
    """The read-only file system of a sandbox.

    image:   a directory to be `/` (an unpacked container image), or None for the host's own programs: /usr
             with its /lib and /bin links, minimal /etc, and the Python prefixes in `prefixes`
    prefixes: host directories made visible under their own path, read-only (only with image None)
    """

    image: Path | None = None
    prefixes: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Mount:
    """A host file or directory made visible, read-only, at `target`.

    The process reads it as if it owned it, so files of the service may stay 0600 (where the file system or
    the kernel, before 5.12, cannot do that, their own modes decide). Targets are normal absolute paths, and
    none of /, /proc, /dev, /dev/shm, /tmp, /sys, /run; `start` raises ValueError for others and for sources
    that do not exist.
    """

    source: Path
    target: str


@dataclass(frozen=True)
class Output:
    """A directory that the process may write, and what of it may leave.

    host:      an existing, empty host directory that receives the files
    target:    where the process sees it, for example /opt/ml/model
    max_bytes, max_files: what it may hold; more is ENOSPC where the runtime can, DISK otherwise. Outputs that
               together fit half of limits.memory_bytes are held in memory and copied at the end
    disclosed: whether anything of it may leave the room at all; False means the service's own use
    """

    host: Path
    target: str
    max_bytes: int
    max_files: int = 100_000
    disclosed: bool = False


@dataclass(frozen=True)
class Limits:
    """What the whole tree of processes may use. memory_bytes includes tmpfs; seconds is wall time."""

    memory_bytes: int
    seconds: float
    cpus: float = 2.0
    processes: int = 512
    open_files: int = 4096
    tmp_bytes: int = 1 << 30
    log_bytes: int = 16 << 20


class Network(Protocol):
    """An empty network for the sandboxes of one job. hosts: name → address."""

    hosts: Mapping[str, str]

    def close(self) -> None:
        """Lets go of it; sandboxes that run in it keep it."""


@dataclass(frozen=True)
class SandboxSpec:
    """Everything a sealed process is given.

    network: None for one of its own, with nobody else in it; gpus: how many GPUs
    """

    arguments: tuple[str, ...]
    root: Root
    limits: Limits
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    outputs: tuple[Output, ...] = ()
    directory: str = "/"
    log: Path | None = None
    host: str = "algo-1"
    network: Network | None = None
    gpus: int = 0


class Cause(enum.Enum):
    """Why a sandbox ended."""

    EXITED = "exited"
    KILLED = "killed"
    TIMED_OUT = "timed out"
    OUT_OF_MEMORY = "out of memory"
    DISK = "disk full"


@dataclass(frozen=True)
class Exit:
    """How a sandbox ended. status: the exit code, or 128 + signal; peak_memory_bytes where measured;
    detail: for the operator, where the cause alone does not tell."""

    cause: Cause
    status: int
    seconds: float
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    detail: str | None = None


class Unsealed(Misconfigured):
    """A started process had more than its spec grants, and was ended before it ran.

    properties: which (attest.py has the list); detail: what was found, for the operator
    """

    def __init__(self, properties: tuple[str, ...], detail: str | None = None) -> None:
        super().__init__(f"its sandbox was not sealed ({', '.join(properties)})", detail=detail)
        self.properties = properties


class Lost(Misconfigured):
    """What looks after a sandbox was ended from outside before the sandbox ran; another start may succeed."""


class Busy(Misconfigured):
    """What was asked for is there, and all in use: later it may be had."""


class Isolation(enum.Enum):
    """How well a runtime seals here: everything, everything but hard limits, nothing."""

    SEALED = "sealed"
    DEGRADED = "degraded"
    NONE = "none"


@dataclass(frozen=True)
class Report:
    """A runtime's self-test: what it reaches here, and for `doctor` what is missing and how to fix it.

    gpus: how many it can give to sandboxes
    """

    name: str
    isolation: Isolation
    version: str
    missing: tuple[tuple[str, str], ...] = ()
    gpus: int = 0


@dataclass(frozen=True)
class Usage:
    """What a process tree has used so far: CPU seconds of all its processes, bytes of memory now."""

    cpu_seconds: float
    memory_bytes: int


class Sandbox(Protocol):
    """A started process tree."""

    def connect(self, port: int, timeout: float = 10.0) -> socket.socket:
        """A connected stream socket (TCP_NODELAY) to 127.0.0.1:port inside; ConnectionRefusedError if
        nobody listens there, RuntimeError once it has ended."""

    def wait(self, timeout: float | None = None) -> Exit | None:
        """The Exit, or None after `timeout` seconds."""

    def kill(self, grace: float = 0.0) -> Exit:
        """SIGTERM to all, `grace` seconds, then SIGKILL to all."""

    def usage(self) -> Usage | None:
        """What it uses now; None where that is not measured here, or once it has ended. At once."""


class Runtime(Protocol):
    """A way to seal."""

    def check(self) -> Report:
        """Really starts a sandbox and looks; cached by the caller, not by the runtime."""

    def start(self, spec: SandboxSpec) -> Sandbox:
        """Starts it."""

    def network(self, hosts: tuple[str, ...]) -> Network:
        """An empty network for several sandboxes, each the host of one of these names."""
