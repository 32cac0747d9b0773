"""The shepherd's own mount namespace: every source under STAGE, sized file systems for what may be written.

Knows mount and tmpfs; must not know bubblewrap or how a job is judged. Everything here vanishes with the last
process of the namespace, so a crash leaves no mount behind. Light enough for the shepherd to import.
"""

from __future__ import annotations

import os
import stat

from passbox.backends.runtimes import linux

TYPE_CHECKING = False  # see shepherd.py
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_STAGE_OPTIONS = "mode=0755,size=16m"
_DEPTH = 100
_CHUNK = 1 << 24
_QUIET = linux.MS_NOSUID | linux.MS_NODEV


def enter_namespace(privileged: bool, shared: Sequence[int] = ()) -> None:
    """A private mount namespace; without privileges inside a user namespace of our own, that maps only us.

    shared: descriptors of a network to enter, and of the user namespace that owns it, which is then ours
    """
    if len(shared) > 1:
        linux.setns(shared[1], linux.CLONE_NEWUSER)
    if shared:
        linux.setns(shared[0], linux.CLONE_NEWNET)
    if len(shared) > 1:
        linux.unshare(linux.CLONE_NEWNS)
        linux.mount("none", "/", None, linux.MS_REC | linux.MS_SLAVE)
        return
    uid, gid = os.getuid(), os.getgid()
    linux.unshare(linux.CLONE_NEWNS | (0 if privileged else linux.CLONE_NEWUSER))
    if not privileged:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
    linux.mount("none", "/", None, linux.MS_REC | linux.MS_SLAVE)


def stage(
    where: str, plan: Mapping[str, Any], uid: int, gid: int, privileged: bool
) -> dict[str, tuple[int, int]]:
    """Mounts the staging area over `where` and fills it; `uid` owns what may be written.

    Returns name in the staging area → (device, inode), by which it is known again wherever it is shown.
    """
    binds = dict(plan["binds"])
    for item in plan["writable"]:
        if item["host"] is not None:
            # opened before the staging area hides what lies under it
            item["handle"] = os.open(item["host"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            if not item["sized"]:
                binds[item["name"]] = item["host"]
    opened = {name: os.open(source, os.O_PATH | os.O_CLOEXEC) for name, source in binds.items()}
    identities = {name: _identity(os.fstat(descriptor)) for name, descriptor in opened.items()}
    linux.mount("passbox", where, "tmpfs", _QUIET, _STAGE_OPTIONS)
    for name, content in plan["files"].items():
        with open(f"{where}/{name}", "w", opener=_readable) as file:
            file.write(content)
            identities[name] = _identity(os.fstat(file.fileno()))
    lent = _Lent(uid) if privileged else None
    for name, descriptor in opened.items():
        _bind(descriptor, f"{where}/{name}", lent if name in plan["lent"] else None)
    for item in plan["writable"]:
        place = f"{where}/{item['name']}"
        _writable(place, item, uid, gid)
        identities[item["name"]] = _identity(os.stat(place))
    return identities


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _bind(descriptor: int, target: str, lent: _Lent | None) -> None:
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.makedirs(target, exist_ok=True)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    if lent is None or not lent.bind(descriptor, target):
        linux.mount(f"/proc/self/fd/{descriptor}", target, None, linux.MS_BIND | linux.MS_REC)
    os.close(descriptor)


def _writable(target: str, item: Mapping[str, Any], uid: int, gid: int) -> None:
    if item["sized"]:
        os.mkdir(target)
        options = f"size={item['bytes']},nr_inodes={item['inodes'] + 1},mode={item['mode']:o}"
        linux.mount("passbox", target, "tmpfs", _QUIET, f"{options},uid={uid},gid={gid}")
    else:
        os.chown(target, uid, gid)


class _Lent:
    """Lets the job's user read the service's files whatever their mode, as if it owned them, by an id-mapped
    mount; on the host they stay the service's alone."""

    def __init__(self, uid: int) -> None:
        self.uid = uid
        self.namespaces: dict[int, int] = {}

    def bind(self, descriptor: int, target: str) -> bool:
        """False where the file system cannot; the files' own modes decide then."""
        owner = os.fstat(descriptor).st_uid
        try:
            if owner not in self.namespaces:
                self.namespaces[owner] = linux.users_namespace(owner, self.uid)
            linux.bind_as(descriptor, target, self.namespaces[owner])
        except OSError:
            return False
        return True


def _readable(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o644)


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def used_bytes(where: str, writable: Sequence[Mapping[str, Any]]) -> int:
    """What lies in the sized file systems, which is memory."""
    found = [os.statvfs(f"{where}/{item['name']}") for item in writable if item["sized"]]
    return sum((one.f_blocks - one.f_bfree) * one.f_frsize for one in found)


def over_limit(where: str, writable: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a directory that no file system caps holds more than it may."""
    return any(
        not item["sized"] and not _fits(f"{where}/{item['name']}", item["bytes"], item["inodes"])
        for item in writable
    )


def _fits(directory: str, size: int, inodes: int) -> bool:
    pending = [directory]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except OSError:
            continue
        inodes -= len(entries)
        for entry in entries:
            try:
                size -= entry.stat(follow_symlinks=False).st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
            except OSError:
                continue
        if size < 0 or inodes < 0:
            return False
    return True


def collect(where: str, writable: Sequence[Mapping[str, Any]], uid: int, gid: int) -> None:
    """Hands the outputs to the service: copies what lies in a tmpfs, takes back what was lent.

    The tree is dead by now, so nothing moves under our feet. Links are copied as links and never followed; no
    bit that could lend somebody's rights survives; what is neither file, directory nor link becomes a FIFO,
    so that the harvest still sees and refuses it. OSError where files claim more bytes than the output may
    hold (holes count: they cost nothing in a tmpfs and everything in a copy) or lie too deep.
    """
    for item in writable:
        source = f"{where}/{item['name']}"
        if item["host"] is None:
            continue
        if item["sized"]:
            _Copy(item["bytes"], uid, gid).tree(source, f"/proc/self/fd/{item['handle']}", 0)
        else:
            os.chown(source, uid, gid)
            for directory, names, files in os.walk(source):
                for name in names + files:
                    os.chown(f"{directory}/{name}", uid, gid, follow_symlinks=False)


class _Copy:
    """One copy of a tree into a directory of the service."""

    def __init__(self, size: int, uid: int, gid: int) -> None:
        self.left = size
        self.uid = uid
        self.gid = gid
        self.seen: dict[int, str] = {}

    def tree(self, source: str, target: str, depth: int) -> None:
        if depth > _DEPTH:
            raise OSError(f"an output is nested deeper than {_DEPTH} directories")
        for entry in os.scandir(source):
            self._entry(entry, f"{target}/{entry.name}", depth)

    def _entry(self, entry: os.DirEntry[str], copy: str, depth: int) -> None:
        status = entry.stat(follow_symlinks=False)
        if status.st_ino in self.seen:
            os.link(self.seen[status.st_ino], copy, follow_symlinks=False)
            return
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(copy, 0o700)
            self.tree(entry.path, copy, depth + 1)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(entry.path), copy)
        elif stat.S_ISREG(status.st_mode):
            self._file(entry.path, copy, status)
        else:
            os.mkfifo(copy, 0o600)
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            self.seen[status.st_ino] = copy
        os.chown(copy, self.uid, self.gid, follow_symlinks=False)

    def _file(self, source: str, copy: str, status: os.stat_result) -> None:
        self.left -= status.st_size
        if self.left < 0:
            raise OSError("the files of an output are longer than it may hold")
        mode = stat.S_IMODE(status.st_mode) & 0o777
        reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        writing = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        while os.sendfile(writing, reading, None, _CHUNK):
            pass
        os.fchmod(writing, mode)
        os.close(reading)
        os.close(writing)
