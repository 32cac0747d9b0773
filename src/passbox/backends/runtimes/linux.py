"""System calls that Python 3.11 has no name for, each one line of meaning.

Knows ctypes and errno; must not know what a sandbox is. Imported by the shepherd, so it stays light: nothing
here may import dataclasses, subprocess or anything outside the standard library.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

TYPE_CHECKING = False  # see shepherd.py
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_SLAVE = 1 << 19
MS_NOATIME, MS_NODIRATIME, MS_RELATIME = 1 << 10, 1 << 11, 1 << 21
_MOUNT_OPTIONS = {
    "nodev": MS_NODEV, "noexec": MS_NOEXEC, "noatime": MS_NOATIME, "nodiratime": MS_NODIRATIME,
    "relatime": MS_RELATIME,
}  # fmt: skip
_MNT_DETACH = 2

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    """Leaves the namespaces named by CLONE_* flags for fresh ones."""
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(descriptor: int, kind: int) -> None:
    """Enters the namespace that `descriptor` refers to."""
    _checked(_libc.setns(ctypes.c_int(descriptor), ctypes.c_int(kind)), "setns")


def within(process: int, namespace: str, act: Callable[[], None]) -> None:
    """Does `act` in a namespace of a process (as /proc/PID/ns calls it), in a fork of ours.

    RuntimeError where it fails.
    """
    entered = os.open(f"/proc/{process}/ns/{namespace}", os.O_RDONLY | os.O_CLOEXEC)
    helper = os.fork()
    if helper == 0:
        status = 1
        try:
            setns(entered, 0)
            act()
            status = 0
        finally:
            os._exit(status)
    os.close(entered)
    if os.waitpid(helper, 0)[1]:
        raise RuntimeError(f"the {namespace} namespace of the sandbox could not be finished")


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """mount(2)."""
    _checked(
        _libc.mount(
            os.fsencode(source),
            os.fsencode(target),
            kind.encode() if kind else None,
            ctypes.c_ulong(flags),
            options.encode() or None,
        ),
        f"mount on {target}",
    )


def restrict_mount(target: str, options: Collection[str], *, read_only: bool, devices: bool) -> None:
    """Gives a mount that has `options` (as mountinfo names them) nosuid as well, nodev unless it may hold
    `devices`, and makes it read-only."""
    flags = MS_REMOUNT | MS_BIND | MS_NOSUID | (MS_RDONLY if read_only or "ro" in options else 0)
    flags |= 0 if devices else MS_NODEV
    flags |= sum(flag for name, flag in _MOUNT_OPTIONS.items() if name in options)
    mount("none", target, None, flags)


def mask(targets: Collection[str]) -> None:
    """Lays /dev/null over files, so that nobody reads or writes them."""
    found = os.statvfs("/dev/null").f_flag
    flags = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC
    flags |= found & (MS_NOATIME | MS_NODIRATIME)  # the kernel lets nobody lift what another user set
    flags |= MS_RELATIME if found & os.ST_RELATIME else 0
    for target in targets:
        mount("/dev/null", target, None, MS_BIND)
        mount("none", target, None, flags)


def unmount(target: str) -> None:
    """umount2(2), lazily and with all that is mounted below."""
    _checked(_libc.umount2(os.fsencode(target), ctypes.c_int(_MNT_DETACH)), f"umount {target}")


def die_with_parent(signal: int) -> None:
    """Asks for `signal` when the parent thread ends; a change of uid resets it, so ask after that."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal), 0, 0, 0), "PR_SET_PDEATHSIG")


def adopt_orphans() -> None:
    """Makes this process the parent of orphaned descendants, so that it can wait for them."""
    _checked(_libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0), "PR_SET_CHILD_SUBREAPER")


def hide_from_tracers() -> None:
    """Nobody without CAP_SYS_PTRACE may read this process's memory or dump it."""
    _checked(_libc.prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(0), 0, 0, 0), "PR_SET_DUMPABLE")


PTRACE_CONT, PTRACE_DETACH, PTRACE_SEIZE = 7, 17, 0x4206
PTRACE_EVENTS_FORK, PTRACE_EVENT_EXEC = (1, 2, 3), 4
PTRACE_O_FORKS, PTRACE_O_EXEC, PTRACE_O_EXITKILL = 0x2 | 0x4 | 0x8, 0x10, 1 << 20
WALL = 0x40000000


def ptrace(request: int, process: int, data: int = 0) -> None:
    """ptrace(2) without an address."""
    result = _libc.ptrace(
        ctypes.c_long(request), ctypes.c_int(process), ctypes.c_void_p(None), ctypes.c_void_p(data)
    )
    _checked(result, "ptrace")


def traced_child(process: int) -> int:
    """The child whose birth a traced process has just stopped for."""
    number = ctypes.c_ulong()
    result = _libc.ptrace(
        ctypes.c_long(0x4201), ctypes.c_int(process), ctypes.c_void_p(None), ctypes.byref(number)
    )
    _checked(result, "PTRACE_GETEVENTMSG")
    return number.value


_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442  # the same number on every architecture
_OPEN_TREE_CLONE = 1
_AT_FDCWD, _AT_RECURSIVE, _AT_EMPTY_PATH = -100, 0x8000, 0x1000
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MOUNT_ATTR_IDMAP = 0x00100000


def bind_as(descriptor: int, target: str, users: int) -> None:
    """Binds what `descriptor` (O_PATH) refers to at `target`, its owners seen through the user namespace
    `users`: a file of the host user that is 0 in there belongs to whom 0 is mapped to. OSError where the file
    system or the kernel (before 5.12) cannot."""
    empty = ctypes.c_char_p(b"")
    flags = _OPEN_TREE_CLONE | _AT_EMPTY_PATH | _AT_RECURSIVE | os.O_CLOEXEC
    tree = _checked(_libc.syscall(_OPEN_TREE, descriptor, empty, ctypes.c_uint(flags)), "open_tree")
    try:
        attributes = struct.pack("=QQQQ", _MOUNT_ATTR_IDMAP, 0, 0, users)
        _checked(
            _libc.syscall(
                _MOUNT_SETATTR,
                tree,
                empty,
                ctypes.c_uint(_AT_EMPTY_PATH | _AT_RECURSIVE),
                attributes,
                ctypes.c_size_t(len(attributes)),
            ),
            "mount_setattr",
        )
        where = ctypes.c_char_p(os.fsencode(target))
        moved = _libc.syscall(_MOVE_MOUNT, tree, empty, _AT_FDCWD, where, _MOVE_MOUNT_F_EMPTY_PATH)
        _checked(moved, "move_mount")
    finally:
        os.close(tree)


def users_namespace(inside: int, outside: int) -> int:
    """A descriptor of a new user namespace in which the user and group `inside` is `outside` of ours."""
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            unshare(CLONE_NEWUSER)
            os.write(tell, b"+")
            signal.pause()
        finally:
            os._exit(1)
    try:
        os.close(tell)
        if not os.read(ready, 1):
            raise OSError(errno.EPERM, "no user namespace")
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{child}/{name}", "w") as file:
                file.write(f"{inside} {outside} 1")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
