"""The runtime without a seal: the same spec as a plain process, for machines that cannot seal.

Made only where the operator passed --unsafe-no-sandbox, and it says Isolation.NONE of itself. Knows
processes; must not be mistaken for a sandbox: the process sees the host's files and network as the
service's own user.

What it can keep of the contract: exactly the given environment, the log with its cap, wall time, the end of
the whole process group, and outputs. The process dies with the service; children that it has left behind
may not. Without a mount namespace /opt/ml/model and the like do not exist, so every mount and output is
linked or placed under a directory of the job, and every environment value and argument that starts with a
target path is rewritten to where it really lies. Programs that read the paths from SM_MODEL_DIR and
SM_CHANNEL_* run unchanged; programs with /opt/ml written into them do not.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from passbox.backends.runtimes.base import Cause, Exit, Isolation, Network, Report, SandboxSpec, Usage
from passbox.errors import Misconfigured

_NOTE = b"\n[passbox: the log is longer than its limit and was cut here]\n"


class UnsafeRuntime:
    """Runs without any isolation."""

    def check(self) -> Report:
        """Never anything but NONE."""
        why = "jobs run unsealed, as the service's user, with the host's files and network in reach"
        return Report("unsafe", Isolation.NONE, "-", ((why, "start without --unsafe-no-sandbox"),))

    def network(self, hosts: tuple[str, ...]) -> Network:
        """Misconfigured: without a seal there are no hosts of those names."""
        raise Misconfigured(f"{len(hosts)} instances of one job need a sandbox; use one instance")

    def start(self, spec: SandboxSpec) -> "UnsafeProcess":
        """Starts it. Misconfigured for an image, which needs a sandbox to be run."""
        if not spec.arguments:
            raise ValueError("a sandbox needs a command")
        if spec.gpus:
            raise Misconfigured("GPUs are given to sandboxes only")
        if spec.root.image is not None:
            raise Misconfigured("a container image cannot run without a sandbox; a folder of programs can")
        home = Path(tempfile.mkdtemp(prefix="passbox-unsafe-"))
        try:
            return UnsafeProcess(spec, home)
        except BaseException:
            shutil.rmtree(home, ignore_errors=True)
            raise


def _place(spec: SandboxSpec, home: Path) -> dict[str, str]:
    """Links every mount and output under `home`; {target: where it lies}."""
    placed = {}
    items = [(mount.target, mount.source) for mount in spec.mounts]
    items += [(out.target, out.host) for out in spec.outputs]
    for target, source in sorted(items):
        where = home / target.strip("/")
        where.parent.mkdir(parents=True, exist_ok=True)
        where.unlink(missing_ok=True)  # a file that only holds the place in the mount around it
        where.symlink_to(source.resolve())
        placed[target.rstrip("/")] = str(where)
    return placed


def _rewrite(value: str, placed: Mapping[str, str]) -> str:
    """The value, its leading target path replaced by where it lies; PATH-like lists entry by entry."""
    return ":".join(_rewrite_one(part, placed) for part in value.split(":"))


def _rewrite_one(value: str, placed: Mapping[str, str]) -> str:
    for target in sorted(placed, key=len, reverse=True):
        if value == target or value.startswith(target + "/"):
            return placed[target] + value[len(target) :]
    return value


# a program of its own, because Python code between fork and exec of a threaded service can lock up
_LAUNCH = """
import ctypes, json, os, resource, sys
plan = json.loads(sys.argv[1])
for name, value in plan["limits"].items():
    which = getattr(resource, name)
    ceiling = resource.getrlimit(which)[1]
    value = value if ceiling == resource.RLIM_INFINITY else min(value, ceiling)
    resource.setrlimit(which, (value, value))
if sys.platform == "linux":
    # ends with the service's thread that looks after it; where that is over already, at once
    ctypes.CDLL(None).prctl(1, ctypes.c_ulong(9), 0, 0, 0)
    if os.getppid() != plan["service"]:
        sys.exit(1)
try:
    os.chdir(plan["directory"])
    os.execvpe(plan["command"][0], plan["command"], plan["environment"])
except OSError as error:
    print(plan["command"][0] + ": " + str(error), file=sys.stderr)
    sys.exit(127)
"""


def _plan(spec: SandboxSpec, placed: Mapping[str, str]) -> str:
    longest = max([spec.limits.tmp_bytes, *(out.max_bytes for out in spec.outputs)])
    environment = {name: _rewrite(value, placed) for name, value in spec.environment.items()}
    return json.dumps(
        {
            "limits": {
                "RLIMIT_CORE": 0,
                "RLIMIT_NOFILE": spec.limits.open_files,
                "RLIMIT_FSIZE": longest,
            },
            "service": os.getpid(),
            "directory": _rewrite(spec.directory, placed),
            "command": [_rewrite(argument, placed) for argument in spec.arguments],
            "environment": {"PWD": spec.directory, **environment},
        }
    )


class UnsafeProcess:
    """A process group (base.Sandbox)."""

    def __init__(self, spec: SandboxSpec, home: Path) -> None:
        self._spec = spec
        self._home = home
        self._cause = Cause.EXITED
        self._exit: Exit | None = None
        self._ending = threading.Lock()
        self._plan = _plan(spec, _place(spec, home))
        self._began = time.monotonic()
        self._written = (spec.log or Path(os.devnull)).open("wb")
        self._log_end, self._log = os.pipe()
        self._process: subprocess.Popen[bytes] | None = None
        self._started = threading.Event()
        self._done = threading.Event()
        self._drained = threading.Thread(target=self._drain, daemon=True)
        self._drained.start()
        threading.Thread(target=self._watch, daemon=True).start()
        self._started.wait()

    def _drain(self) -> None:
        left = self._spec.limits.log_bytes
        with self._written as log, os.fdopen(self._log_end, "rb", buffering=0) as source:
            while chunk := source.read(1 << 16):
                if left > 0:
                    log.write(chunk[:left] + (_NOTE if len(chunk) > left else b""))
                left -= len(chunk)
                log.flush()

    def _watch(self) -> None:
        """Starts the process, waits for it and tidies up, all in the one thread whose end would end it."""
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _LAUNCH, self._plan],
                env={},
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,
            )
        finally:
            os.close(self._log)
            self._started.set()
        try:
            status = self._process.wait(self._spec.limits.seconds)
        except subprocess.TimeoutExpired:
            self._end(Cause.TIMED_OUT)
            status = self._process.wait()
        self._signal(signal.SIGKILL)  # whoever of the group is left
        over = any(_holds(out.host) > out.max_bytes for out in self._spec.outputs)
        cause = Cause.DISK if over and self._cause is Cause.EXITED else self._cause
        code = 128 - status if status < 0 else status
        shutil.rmtree(self._home, ignore_errors=True)
        self._drained.join(5)
        self._exit = Exit(cause, code, time.monotonic() - self._began)
        self._done.set()

    def _end(self, cause: Cause) -> None:
        with self._ending:
            if self._exit is None and self._cause is Cause.EXITED:
                self._cause = cause
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def connect(self, port: int, timeout: float = 10.0) -> socket.socket:
        """A connection to the host's own loopback: nothing keeps others away from that port."""
        if self._exit is not None:
            raise RuntimeError("the process has ended")
        stream = socket.create_connection(("127.0.0.1", port), timeout)
        stream.settimeout(None)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return stream

    def wait(self, timeout: float | None = None) -> Exit | None:
        """The Exit, or None after `timeout` seconds."""
        self._done.wait(timeout)
        return self._exit

    def usage(self) -> Usage | None:
        """Not measured without a sandbox."""
        return None

    def kill(self, grace: float = 0.0) -> Exit:
        """SIGTERM to all, `grace` seconds, then SIGKILL to all."""
        if grace > 0 and not self._done.is_set():
            with self._ending:
                self._cause = Cause.KILLED
            self._signal(signal.SIGTERM)
            self._done.wait(grace)
        if not self._done.is_set():
            self._end(Cause.KILLED)
        self._done.wait()
        if self._exit is None:
            raise AssertionError
        return self._exit


def _holds(directory: Path) -> int:
    return sum(
        path.lstat().st_size for path in directory.rglob("*") if path.is_file() and not path.is_symlink()
    )
