"""What the kernel says about a started sandbox, read from outside.

Knows /proc; must not know how the sandbox was made: it judges the result, not the recipe. Light enough for
the shepherd to import.
"""

from __future__ import annotations

import os

NAMESPACES = ("net", "pid", "mnt", "user", "ipc", "uts")
TYPE_CHECKING = False  # see shepherd.py
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def _status(process: int) -> dict[str, str]:
    with open(f"/proc/{process}/status") as file:
        lines = (line.split(":", 1) for line in file if ":" in line)
        return {name: value.strip() for name, value in lines}


def violations(process: int, uid: int, filtered: bool, namespaces: Sequence[str] = NAMESPACES) -> list[str]:
    """What is wrong with the seal of `process`, as sentences; empty means sealed.

    uid: the one host user that it must run as. filtered: whether its system-call filter must be in place yet.
    namespaces: those that it may not share with the service.
    OSError if the process is gone.
    """
    wrong = []
    for name in namespaces:
        if os.stat(f"/proc/{process}/ns/{name}").st_ino == os.stat(f"/proc/self/ns/{name}").st_ino:
            wrong.append(f"shares the {name} namespace of the service")
    status = _status(process)
    if status["Uid"].split() != [str(uid)] * 4 or uid == 0:
        wrong.append(f"runs as user {status['Uid']}")
    if status.get("NoNewPrivs") != "1":
        wrong.append("could gain privileges")
    for capabilities in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
        if int(status[capabilities], 16):
            wrong.append(f"has capabilities ({capabilities} {status[capabilities]})")
    if filtered and status.get("Seccomp") != "2":
        wrong.append("has no system-call filter")
    return wrong


def reachable_networks(process: int) -> list[str]:
    """The interfaces beside loopback that a process sees, as sentences."""
    with open(f"/proc/{process}/net/dev") as file:
        names = [line.split(":")[0].strip() for line in file if ":" in line]
    return [f"sees the network interface {name}" for name in names if name != "lo"]


def unlike(process: int, seen: Mapping[str, str]) -> list[str]:
    """Where a process does not see what it was given, as sentences. seen: {path inside: path of ours}"""
    wrong = []
    for inside, ours in seen.items():
        theirs, given = os.stat(f"/proc/{process}/root{inside}"), os.stat(ours)
        if (theirs.st_dev, theirs.st_ino) != (given.st_dev, given.st_ino):
            wrong.append(f"sees something else at {inside}")
    return wrong


def mounts(process: int) -> dict[str, set[str]]:
    """What a process sees mounted where, with the options of the mount on top, without what others hide."""
    found: dict[str, set[str]] = {}
    with open(f"/proc/{process}/mountinfo") as file:
        for line in file:
            fields = line.split()
            target = fields[4].encode().decode("unicode_escape").encode("latin-1").decode(errors="replace")
            hidden = [one for one in found if one.startswith(f"{target.rstrip('/')}/")]
            for one in hidden:
                del found[one]
            found[target] = set(fields[5].split(","))
    return found


def writable_mounts(process: int, granted: set[str]) -> list[str]:
    """The mounts that a process could write though they were not granted, as sentences."""
    seen = mounts(process)
    return [f"may write {target}" for target in seen if "rw" in seen[target] and target not in granted]
