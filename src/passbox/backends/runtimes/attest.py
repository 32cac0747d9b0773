"""What the kernel says about a started sandbox, read from outside and compared with what was granted.

Knows /proc and control groups; must not know how the sandbox was made: it judges the result, not the recipe.
Light enough for the shepherd to import.

What was granted comes as `Granted`. A violation is a property and a sentence for the operator; the property
alone is for everybody, because a sentence may name a path of the host.

| property | what is read |
|---|---|
| namespaces | /proc/PID/ns: net, pid, mnt, user, ipc, uts: none the service's, net the one that was given |
| network | /proc/PID/net: no interface but lo, no route |
| user | /proc/PID/status: the job's own user and group, no other group |
| capabilities | every set of them empty, no_new_privs set |
| seccomp | one filter more than the service itself runs under |
| mounts | /proc/PID/mountinfo: what was granted, the very files, read-only but for the outputs, and no more |
| devices | /dev: the nodes that every program has and the granted ones, by number, and no other |
| limits | rlimits; control groups: that it is inside, and what they hold it to |
"""

from __future__ import annotations

import os
import stat

from passbox.backends.runtimes.cgroup import Group

TYPE_CHECKING = False  # see shepherd.py
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Violation = tuple[str, str]

NAMESPACES = ("net", "pid", "mnt", "user", "ipc", "uts")
_CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
_DEVICES = {  # what every program has under /dev → major, minor
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
    "ptmx": (5, 2),
    "pts/ptmx": (5, 2),
}
_OVERFLOW = "65534"
_ESCAPED = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"))  # in mountinfo; the last, last


class Granted:
    """What a process may have. Plain values, made by the shepherd from its plan.

    service:  the service's own namespaces (`namespaces`)
    network:  the inode of the network namespace that it must be in, or None for one of its own
    uid, gid: its host user and group
    shown:    target → (device, inode) of what must be there read-only, None where only the place is known
    writable: target → (device, inode)
    rlimits:  name → the most; group: its control groups, and what they hold it to
    devices:  path → number of the device nodes that it has beside those that every program has
    alone:    whether nothing but the root and what was granted may be mounted, which engines do not keep to
    """

    def __init__(
        self,
        *,
        service: Mapping[str, int],
        network: int | None,
        uid: int,
        gid: int,
        shown: Mapping[str, tuple[int, int] | None],
        writable: Mapping[str, tuple[int, int]],
        rlimits: Mapping[str, Sequence[int]],
        group: Group,
        limits: tuple[int, int, float],
        devices: Mapping[str, int] | None = None,
        alone: bool = True,
    ) -> None:
        self.service = service
        self.network = network
        self.uid, self.gid = uid, gid
        self.shown, self.writable = shown, writable
        self.rlimits, self.group, self.limits = rlimits, group, limits
        self.devices = devices or {}
        self.alone = alone


class Unsealed(Exception):
    """The seal does not hold: properties, and what is wrong with each."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        sentences = "; it ".join(sentence for _, sentence in violations)
        super().__init__(f"the sandbox is not sealed: it {sentences}")
        self.properties = sorted({name for name, _ in violations})


def require_sealed(process: int, granted: Granted) -> None:
    """Unsealed where `process` has more than it was granted. OSError if it is gone."""
    found = violations(process, granted)
    if found:
        raise Unsealed(found)


def violations(process: int, granted: Granted) -> list[Violation]:
    """Where the seal of `process` is less than granted; empty means sealed. OSError if it is gone."""
    status = _status(process)
    return [
        *_namespaces(process, granted),
        *_network(process),
        *_identity(status, granted),
        *_powers(status),
        *_mounts(process, granted),
        *_devices(process, granted),
        *_limits(process, granted),
    ]


def _status(process: int | str) -> dict[str, str]:
    with open(f"/proc/{process}/status") as file:
        lines = (line.split(":", 1) for line in file if ":" in line)
        return {name: value.strip() for name, value in lines}


def namespaces(process: int | str = "self") -> dict[str, int]:
    """The inode of each namespace of a process."""
    return {name: os.stat(f"/proc/{process}/ns/{name}").st_ino for name in NAMESPACES}


def _namespaces(process: int, granted: Granted) -> Iterator[Violation]:
    shepherd = namespaces()
    inside = namespaces(process)
    for name, theirs in granted.service.items():
        own = inside[name]
        given = granted.network if name == "net" else None
        if given is not None and own != given:
            yield "namespaces", "is in another network than the one of its job"
        if own == theirs or (given is None and own == shepherd[name]):
            yield "namespaces", f"shares the {name} namespace of the service"


def _network(process: int) -> Iterator[Violation]:
    with open(f"/proc/{process}/net/dev") as file:
        interfaces = [line.split(":")[0].strip() for line in file if ":" in line]
    if set(interfaces) - {"lo"}:
        yield "network", f"has the interfaces {', '.join(sorted(interfaces))}"
    with open(f"/proc/{process}/net/route") as file:
        if len([line for line in file if line.strip()]) > 1:
            yield "network", "has a route"


def _identity(status: Mapping[str, str], granted: Granted) -> Iterator[Violation]:
    if granted.uid == 0 or status["Uid"].split() != [str(granted.uid)] * 4:
        yield "user", f"runs as user {status['Uid']}"
    if granted.gid == 0 or status["Gid"].split() != [str(granted.gid)] * 4:
        yield "user", f"runs as group {status['Gid']}"
    if granted.uid >= _FIRST_OF_OWN and set(status["Groups"].split()) - {str(granted.gid), _OVERFLOW}:
        yield "user", f"is in the groups {status['Groups']}"


_FIRST_OF_OWN = 1 << 20  # without root it keeps the service's groups, which a user namespace cannot drop


def _powers(status: Mapping[str, str]) -> Iterator[Violation]:
    for name in _CAPABILITIES:
        if int(status[name], 16):
            yield "capabilities", f"has capabilities ({name} {status[name]})"
    if status.get("NoNewPrivs") != "1":
        yield "capabilities", "could gain privileges"
    # kernels before 5.9 do not count
    filters, own = status.get("Seccomp_filters"), _status("self").get("Seccomp_filters")
    counted = filters is not None and own is not None
    if status.get("Seccomp") != "2" or (counted and int(filters or 0) <= int(own or 0)):
        yield "seccomp", "has no system-call filter of its own"


def mounts(process: int) -> dict[str, set[str]]:
    """What a process sees mounted where, with the options of the mount on top, without what others hide."""
    found: dict[str, set[str]] = {}
    with open(f"/proc/{process}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split()
            target = fields[4]
            for code, character in _ESCAPED if "\\" in target else ():
                target = target.replace(code, character)
            hidden = [one for one in found if one.startswith(f"{target.rstrip('/')}/")]
            for one in hidden:
                del found[one]
            found[target] = set(fields[5].split(","))
    return found


def _mounts(process: int, granted: Granted) -> Iterator[Violation]:
    allowed = {"/", "/proc", "/dev", *granted.shown}
    whole = allowed - {"/", "/dev"}  # with what is mounted beneath
    devices = {f"/dev/{name}" for name in (*_DEVICES, "pts")} | set(granted.devices)
    seen = mounts(process)
    for place, options in seen.items():
        if place in granted.writable or place in devices:
            quiet = {"nosuid"} if place in devices else {"nosuid", "nodev"}
            if not quiet <= options:
                yield "mounts", f"has {place} without {', '.join(sorted(quiet - options))}"
        elif "ro" not in options:
            yield "mounts", f"could write to {place}"
        elif granted.alone and not (place in allowed or any(place.startswith(f"{one}/") for one in whole)):
            yield "mounts", f"shows {place}, which was not granted"
    for place, identity in {**granted.shown, **granted.writable}.items():
        if identity is None:
            continue
        try:
            found = os.stat(f"/proc/{process}/root{place}")
        except OSError:
            found = None
        if found is None or place not in seen:
            yield "mounts", f"does not show {place}"
        elif (found.st_dev, found.st_ino) != tuple(identity):
            yield "mounts", f"shows something else at {place}"


def _devices(process: int, granted: Granted) -> Iterator[Violation]:
    root = f"/proc/{process}/root"
    common = {f"/dev/{name}": os.makedev(*number) for name, number in _DEVICES.items()}
    seen = {node.removeprefix(root): number for node, number in _nodes(f"{root}/dev")}
    for path, number in seen.items():
        if {**common, **granted.devices}.get(path) != number:
            yield "devices", f"has the device {path}, which was not granted"
    for path in set(granted.devices) - set(seen):
        yield "devices", f"does not have the device {path}"


def _nodes(directory: str) -> Iterator[tuple[str, int]]:
    """Device nodes in a directory and those in it, and their numbers."""
    for entry in os.scandir(directory):
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            yield from _nodes(entry.path)
        elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            # a block device has its numbers for itself
            yield entry.path, status.st_rdev if stat.S_ISCHR(status.st_mode) else -1


# as /proc/PID/limits calls them; prlimit(2) would want CAP_SYS_RESOURCE
_RLIMITS = {
    "RLIMIT_CORE": "Max core file size",
    "RLIMIT_NOFILE": "Max open files",
    "RLIMIT_FSIZE": "Max file size",
    "RLIMIT_MEMLOCK": "Max locked memory",
    "RLIMIT_MSGQUEUE": "Max msgqueue size",
    "RLIMIT_RTPRIO": "Max realtime priority",
    "RLIMIT_NPROC": "Max processes",
}
_NAME_WIDTH = 26


def _limits(process: int, granted: Granted) -> Iterator[Violation]:
    with open(f"/proc/{process}/limits") as file:
        held = {line[:_NAME_WIDTH].strip(): line[_NAME_WIDTH:].split() for line in file}
    for name, wanted in granted.rlimits.items():
        hard = held[_RLIMITS[name]][1]
        if not hard.isdigit() or int(hard) > wanted[1]:
            yield "limits", f"is not held to {name} {wanted[1]}"
    for sentence in granted.group.slack(process, *granted.limits):
        yield "limits", sentence
