"""Real engines for the exam: a dockerd and a podman of the tests' own, each with directories of its own.

They need root and the packages of INSTALL. Where they are not there, tests skip and say so; with
PASSBOX_REQUIRE_ENGINES set, as CI does, they fail instead.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lib.runtime import processes_with

INSTALL = "apt-get install --no-install-recommends docker.io podman runc"
_SECONDS = 60
_COMMANDS: dict[str, Callable[[Path], list[str]]] = {
    "docker": lambda place: [
        "dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none", "--data-root", f"{place}/data",
        "--exec-root", f"{place}/exec", "--pidfile", f"{place}/pid", "-H", f"unix://{place}/socket",
    ],
    # crun refuses hybrid control groups, and there may be no systemd to ask for one
    "podman": lambda place: [
        "podman", "--root", f"{place}/data", "--runroot", f"{place}/exec", "--runtime", "runc",
        "--cgroup-manager", "cgroupfs", "--events-backend", "file", "system", "service", "--time=0",
        f"unix://{place}/socket",
    ],
}  # fmt: skip


def missing(reason: str) -> None:
    """Skips, or fails where engines are required."""
    if os.environ.get("PASSBOX_REQUIRE_ENGINES"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextlib.contextmanager
def running(name: str) -> Iterator[str]:
    """The address of a fresh engine, which is stopped and removed at the end."""
    if os.geteuid() != 0:
        missing(f"{name} is started for the tests as root only")
    place = Path(tempfile.mkdtemp(prefix="passbox-engine-"))
    command = _COMMANDS[name](place)
    if not shutil.which(command[0]) or not shutil.which("runc"):
        missing(f"{command[0]} and runc are not installed: {INSTALL}")
    dies_with_us = ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []
    with (place / "log").open("wb") as log:
        daemon = subprocess.Popen([*dies_with_us, *command], stdout=log, stderr=log, cwd=place)
    try:
        _await(place / "socket", daemon, place / "log")
        yield f"unix://{place}/socket"
    finally:
        daemon.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            daemon.wait(_SECONDS)
        daemon.kill()
        daemon.wait()
        _end_helpers(str(place))
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            if line.split()[1].startswith(f"{place}/"):
                subprocess.run(["umount", "--lazy", line.split()[1]], check=False)
        shutil.rmtree(place, ignore_errors=True)


def _end_helpers(place: str) -> None:
    """What Podman leaves to tidy up after a container outlives its service, and would mount again."""
    deadline = time.monotonic() + 5
    while (left := processes_with(place)) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, 9)
        time.sleep(0.02)


def _await(address: Path, daemon: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline and daemon.poll() is None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as stream:
            stream.connect(str(address))
            stream.settimeout(_SECONDS)
            stream.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            if b" 200 " in stream.recv(64):
                return
        time.sleep(0.05)
    said = log.read_text(errors="replace")[-2000:]
    pytest.fail(f"the engine did not start: {said}")
