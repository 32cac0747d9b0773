"""An empty network that the sandboxes of one job share: nothing but lo, and on it an address for each host.

Knows network namespaces and interface addresses; must not know sandboxes. The namespace lives as long as
somebody holds its descriptors or runs in it, so a service that dies leaves nothing behind. A short-lived
process of its own makes it, because a threaded service cannot change namespaces. A container engine lets a
container join only the namespace of another container, so there it is that of one made for this and nothing
else; the rest is the same.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from passbox.backends.runtimes import linux

_SOURCE = str(Path(__file__).parents[3])
_BOOT = (
    "import sys; sys.path.append(sys.argv[1]); from passbox.backends.runtimes import network; network.hold()"
)
_SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x8914, 0x8916, 0x891C
_UP = 0x1 | 0x8 | 0x40  # IFF_UP, IFF_LOOPBACK, IFF_RUNNING
_ADDRESSES = "10.77.0."  # nobody routes there from inside


class EmptyNetwork:
    """hosts: name → address (base.Network). net, user: descriptors; no user where the service is root."""

    hosts: Mapping[str, str]

    def __init__(self, hosts: tuple[str, ...], within: int | None = None) -> None:
        """within: a process whose network namespace becomes this one, as root only; else a new one is made.
        OSError where this machine makes no network namespace."""
        self.hosts = {name: f"{_ADDRESSES}{number}" for number, name in enumerate(hosts, start=1)}
        privileged = os.geteuid() == 0
        joined = "" if within is None else f"/proc/{within}/ns/net"
        with subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _BOOT, _SOURCE, joined, *self.hosts.values()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={},
            cwd="/",
        ) as helper:
            if helper.stdout is None or helper.stderr is None:
                raise AssertionError
            if helper.stdout.read(1) != b"+":
                raise OSError(helper.stderr.read().decode(errors="replace")[-1000:])
            flags = os.O_RDONLY | os.O_CLOEXEC
            self.net = os.open(f"/proc/{helper.pid}/ns/net", flags)
            self.user = None if privileged else os.open(f"/proc/{helper.pid}/ns/user", flags)

    def close(self) -> None:
        """Lets go of it; sandboxes that run in it keep it."""
        os.close(self.net)
        if self.user is not None:
            os.close(self.user)


def hold() -> None:
    """In the helper: makes or enters the namespace, says so, and waits until it was taken over."""
    uid, gid = os.geteuid(), os.getegid()
    joined, *addresses = sys.argv[2:]
    if joined:
        linux.setns(os.open(joined, os.O_RDONLY | os.O_CLOEXEC), linux.CLONE_NEWNET)
    else:
        linux.unshare(linux.CLONE_NEWNET | (0 if uid == 0 else linux.CLONE_NEWUSER))
    if uid != 0:
        for name, text in (
            ("setgroups", "deny"),
            ("gid_map", f"{gid} {gid} 1"),
            ("uid_map", f"{uid} {uid} 1"),
        ):
            Path("/proc/self", name).write_text(text)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", _UP))
        for number, address in enumerate(addresses, start=1):
            label = f"lo:{number}".encode()
            for request, value in ((_SIOCSIFADDR, address), (_SIOCSIFNETMASK, "255.255.255.255")):
                packed = struct.pack("16sHH4s16x", label, socket.AF_INET, 0, socket.inet_aton(value))
                fcntl.ioctl(control, request, packed)
    os.write(1, b"+")
    os.read(0, 1)
