"""Hard limits for a whole tree of processes: one cgroup per job and controller, version 1 or 2.

Knows the two cgroup file systems; must not know bubblewrap or specs. The service finds its places once
(`Places.find`), makes a Group per job, and hands its directories to the shepherd, which joins, reads and
removes them. Where no place is writable the group is empty and the runtime reports DEGRADED, never SEALED.

Version 1: one directory per controller beneath the service's own, so that its limits still hold above ours.
Version 2: beneath the service's own cgroup where that is delegated (the service then moves itself to a leaf,
because a group with processes may not hand out controllers), else, as root, beneath the top.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence

NEEDED = ("memory", "pids", "cpu")
_V1 = (*NEEDED, "cpuacct", "freezer")
_PARENT = "passbox"
_LEAF = "passbox-service"


def _read(*parts: str) -> str:
    try:
        with open(os.path.join(*parts)) as file:
            return file.read()
    except OSError:
        return ""


def _write(value: str, *parts: str) -> bool:
    try:
        with open(os.path.join(*parts), "w") as file:
            file.write(value)
    except OSError:
        return False
    return True


def _makedir(path: str) -> bool:
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return os.access(path, os.W_OK)
    except OSError:
        return False
    return True


def _settings(memory_bytes: int, processes: int, cpus: float) -> list[tuple[str, str, str, bool]]:
    """(controller, file, value, whether the kernel must take it) of a group's limits."""
    quota = max(1000, int(cpus * 100_000))
    return [
        ("memory", "memory.limit_in_bytes", str(memory_bytes), True),
        ("memory", "memory.memsw.limit_in_bytes", str(memory_bytes), False),
        ("pids", "pids.max", str(processes), True),
        ("cpu", "cpu.cfs_period_us", "100000", True),
        ("cpu", "cpu.cfs_quota_us", str(quota), True),
        ("v2", "memory.max", str(memory_bytes), True),
        ("v2", "memory.swap.max", "0", False),
        ("v2", "memory.oom.group", "1", False),
        ("v2", "pids.max", str(processes), True),
        ("v2", "cpu.max", f"{quota} 100000", True),
    ]


def _within(there: str, wanted: str) -> bool:
    return there.isdigit() and int(there) <= int(wanted)


class Group:
    """The cgroup directories of one job: {controller: directory}, with "v2" for the unified one.

    Plain strings, so that it crosses to the shepherd.
    """

    def __init__(self, directories: Mapping[str, str]) -> None:
        self.directories = dict(directories)

    def _each(self) -> Sequence[str]:
        return sorted(set(self.directories.values()))

    def limit(self, memory_bytes: int, processes: int, cpus: float) -> None:
        """Sets the limits; OSError when the kernel refuses one of them."""
        for controller, file, value, required in _settings(memory_bytes, processes, cpus):
            directory = self.directories.get(controller)
            if directory and not _write(value, directory, file) and required:
                raise OSError(f"cannot write {value} to {directory}/{file}")

    def slack(self, process: int, memory_bytes: int, processes: int, cpus: float) -> list[str]:
        """Where `process` is held less tightly than by these limits, as sentences."""
        found = []
        for directory in self._each():
            if str(process) not in _read(directory, "cgroup.procs").split():
                found.append(f"is not in the control group {directory}")
        for controller, file, value, required in _settings(memory_bytes, processes, cpus):
            directory = self.directories.get(controller, "")
            if not directory or not required:
                continue
            held = _read(directory, file).split()
            # "max" and -1 mean no limit; a kernel rounds down to whole pages
            if not all(_within(there, wanted) for there, wanted in zip(held, value.split(), strict=False)):
                found.append(f"is not held to {file} {value}")
        return found

    def take(self, *processes: int) -> None:
        """Moves these processes in; their later children are born inside."""
        for directory in self._each():
            for process in processes:
                with open(os.path.join(directory, "cgroup.procs"), "w") as file:
                    file.write(str(process))

    def _first_number(self, *candidates: tuple[str, str, str]) -> int | None:
        for controller, file, key in candidates:
            text = _read(self.directories.get(controller, "/nonexistent"), file)
            for line in text.splitlines():
                words = line.split()
                if words and (not key or words[0] == key) and words[-1].isdigit():
                    return int(words[-1])
        return None

    def limits_memory(self) -> bool:
        """Whether the kernel holds the memory limit here."""
        return "memory" in self.directories or "v2" in self.directories

    def out_of_memory_kills(self) -> int:
        """How many processes the kernel killed here for want of memory."""
        return (
            self._first_number(
                ("memory", "memory.oom_control", "oom_kill"), ("v2", "memory.events", "oom_kill")
            )
            or 0
        )

    def peak_memory_bytes(self) -> int | None:
        """The most memory in use at once, page cache and tmpfs included."""
        return self._first_number(("memory", "memory.max_usage_in_bytes", ""), ("v2", "memory.peak", ""))

    def memory_bytes(self) -> int | None:
        """The memory in use now, page cache and tmpfs included."""
        return self._first_number(("memory", "memory.usage_in_bytes", ""), ("v2", "memory.current", ""))

    def cpu_seconds(self) -> float | None:
        """CPU time of every process that ever lived here."""
        nanoseconds = self._first_number(("cpuacct", "cpuacct.usage", ""))
        if nanoseconds is not None:
            return nanoseconds / 1e9
        microseconds = self._first_number(("v2", "cpu.stat", "usage_usec"))
        return None if microseconds is None else microseconds / 1e6

    def processes(self) -> list[int]:
        """Who is in it, as the reader's process ids."""
        found: set[int] = set()
        for directory in self._each():
            found.update(int(word) for word in _read(directory, "cgroup.procs").split())
        return sorted(found)

    def kill(self) -> None:
        """SIGKILL to everything inside, at once where the kernel can (version 2)."""
        directory = self.directories.get("v2")
        if directory and _write("1", directory, "cgroup.kill"):
            return
        frozen = self.directories.get("freezer")
        if frozen:
            _write("FROZEN", frozen, "freezer.state")
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, 9)
        if frozen:
            _write("THAWED", frozen, "freezer.state")

    def remove(self) -> None:
        """Removes the directories; one that is still in use stays and is swept later."""
        for directory in self._each():
            with contextlib.suppress(OSError):
                os.rmdir(directory)


class Measured(Group):
    """A group with the numbers that it had last, for when it is gone."""

    def __init__(self, group: Group) -> None:
        super().__init__(group.directories)
        self._kills = group.out_of_memory_kills()
        self._peak = group.peak_memory_bytes()
        self._cpu = group.cpu_seconds()

    def out_of_memory_kills(self) -> int:
        return self._kills

    def peak_memory_bytes(self) -> int | None:
        return self._peak

    def cpu_seconds(self) -> float | None:
        return self._cpu


def of_process(process: int) -> Group:
    """The groups that somebody else put a process into."""
    mounts = _mounted()
    found = {
        name: os.path.normpath(mounts[name] + "/" + path)
        for name, path in _own(str(process))
        if name in mounts
    }
    # beside version 1 the unified hierarchy has no controllers of its own
    chosen = {"v2"} if _has_controllers(mounts.get("v2")) else set(found) - {"v2"}
    return Group({name: directory for name, directory in found.items() if name in chosen})


class Places:
    """Where groups can be made here: {controller: parent directory}."""

    def __init__(self, parents: Mapping[str, str]) -> None:
        self.parents = dict(parents)

    @property
    def missing(self) -> tuple[str, ...]:
        """The controllers that limits need and that are not to be had."""
        if "v2" in self.parents:
            return ()
        return tuple(name for name in NEEDED if name not in self.parents)

    def make(self, name: str) -> Group:
        """A fresh group; `name` must not be in use."""
        made = {controller: os.path.join(parent, name) for controller, parent in self.parents.items()}
        for directory in set(made.values()):
            os.mkdir(directory, 0o755)
        return Group(made)

    def sweep(self) -> None:
        """Removes what a killed service and shepherd left: empty groups whose service is gone."""
        for parent in set(self.parents.values()):
            with contextlib.suppress(OSError):
                for name in os.listdir(parent):
                    owner = name.split("-")[0]
                    if owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
                        with contextlib.suppress(OSError):
                            os.rmdir(os.path.join(parent, name))

    @classmethod
    def find(cls) -> "Places":
        """Looks for writable places, version 2 with all controllers first."""
        mounts = _mounted()
        own = dict(_own())
        unified = mounts.get("v2")
        if unified:
            parent = _v2_parent(unified, own.get("v2", "/"))
            if parent:
                return cls({"v2": parent})
        parents = {}
        for controller in _V1:
            mounted = mounts.get(controller)
            if mounted:
                base = _beneath(mounted, own.get(controller, "/"))
                parent = os.path.join(base, _PARENT)
                if _makedir(parent) and _writable(parent):
                    parents[controller] = parent
        return cls(parents)


def _writable(directory: str) -> bool:
    probe = os.path.join(directory, f"{os.getpid()}-probe")
    try:
        os.mkdir(probe)
        os.rmdir(probe)
    except OSError:
        return False
    return True


def _beneath(mounted: str, own: str) -> str:
    """The service's own directory, or the mount's top where a cgroup namespace hides it."""
    path = os.path.normpath(mounted + "/" + own)
    return path if os.path.isdir(path) else mounted


def _mounted() -> dict[str, str]:
    """{controller or "v2": where it is mounted}."""
    found: dict[str, str] = {}
    for line in _read("/proc/self/mounts").splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup2":
            found.setdefault("v2", where)
        elif kind == "cgroup":
            for name in options.split(","):
                if name in _V1:
                    found.setdefault(name, where)
    return found


def _own(process: str = "self") -> list[tuple[str, str]]:
    """(controller or "v2", the cgroup path of a process)."""
    found = []
    for line in _read(f"/proc/{process}/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            found.append(("v2", path))
        found += [(name, path) for name in controllers.split(",") if name]
    return found


def _has_controllers(mounted: str | None) -> bool:
    """Whether a unified hierarchy has all needed controllers."""
    return mounted is not None and set(NEEDED) <= set(_read(mounted, "cgroup.controllers").split())


def _v2_parent(mounted: str, own: str) -> str | None:
    """A directory whose children may have all needed controllers, or None."""
    if not _has_controllers(mounted):
        return None
    base = _beneath(mounted, own)
    if os.path.basename(base) == _LEAF:
        base = os.path.dirname(base)
    for candidate in dict.fromkeys((base, mounted)):
        parent = os.path.join(candidate, _PARENT)
        if not (_hand_out(candidate) or (candidate == base and _step_aside(candidate))):
            continue
        if _makedir(parent) and _hand_out(parent) and _writable(parent):
            return parent
    return None


def _hand_out(directory: str) -> bool:
    """Whether children of the directory get every needed controller, enabling them if need be."""
    wanted = set(NEEDED)
    if not wanted <= set(_read(directory, "cgroup.subtree_control").split()):
        for name in NEEDED:
            _write(f"+{name}", directory, "cgroup.subtree_control")
    return wanted <= set(_read(directory, "cgroup.subtree_control").split())


def _step_aside(directory: str) -> bool:
    """Moves every process of a delegated cgroup into a leaf, then tries again.

    Delegated: systemd marked it so (Delegate=yes), or it is the top of this container's cgroup namespace.
    A cgroup that is not ours alone, such as a login session's, is left as it is.
    """
    marks = ("user.delegate", "trusted.delegate")
    delegated = False
    for mark in marks:
        with contextlib.suppress(OSError):
            delegated = delegated or os.getxattr(directory, mark) == b"1"
    top_of_container = not os.path.exists(os.path.join(directory, "..", "cgroup.procs")) and bool(
        _read(directory, "cgroup.type")
    )
    if not (delegated or top_of_container):
        return False
    leaf = os.path.join(directory, _LEAF)
    if not _makedir(leaf):
        return False
    for process in _read(directory, "cgroup.procs").split():
        _write(process, leaf, "cgroup.procs")
    return _hand_out(directory)
