"""The system-call filter of every sandbox, compiled to classic BPF for x86_64 and aarch64.

Knows system-call numbers; must not know bubblewrap, paths or jobs.

The filter allows by ranges of numbers that existed when it was written, without the families below, and
answers ENOSYS to everything newer, so that a new kernel does not widen it. Refused: looking into or
signalling through other processes' memory (ptrace family), new namespaces, mounts, kernel key rings, bpf,
perf, io_uring (it would bypass this filter), userfaultfd, modules, kexec, clocks, quotas, swap, raw file
handles, every socket family but UNIX, INET with TCP and UDP, and route netlink (glibc lists interfaces with
it), terminal injection, and the foreign ABIs (32-bit, x32). clone3 answers ENOSYS because its flags lie in
memory where a filter cannot see them; libc then falls back to clone, whose flags are checked.
"""

import errno
import platform
import struct
from collections.abc import Mapping
from functools import cache

_ALLOW = 0x7FFF0000
_KILL = 0x80000000
_ERRNO = 0x00050000

_LD_WORD = 0x20
_JEQ = 0x15
_JGE = 0x35
_JSET = 0x45
_RET = 0x06

_NR, _ARCH, _ARGS = 0, 4, 16

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
TCP, UDP, NETLINK_ROUTE = 6, 17, 0
NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET
TERMINAL_INJECTION = (0x5412, 0x541C, 0x541D)  # TIOCSTI, TIOCLINUX, TIOCCONS
PERSONALITIES = (0x0, 0xFFFFFFFF)

# name: (x86_64, aarch64); None where the architecture never had it
REFUSED: Mapping[str, tuple[int | None, int | None]] = {
    # other processes
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kcmp": (312, 272), "pidfd_getfd": (438, 438), "process_madvise": (440, 440),
    "move_pages": (279, 239), "migrate_pages": (256, 238),
    # namespaces and mounts
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429),
    "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "statmount": (457, 457), "listmount": (458, 458),
    # ways around permissions or this filter
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "userfaultfd": (323, 282), "bpf": (321, 280), "perf_event_open": (298, 241),
    "fanotify_init": (300, 262), "fanotify_mark": (301, 263), "memfd_secret": (447, 447),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "lookup_dcookie": (212, 18), "modify_ldt": (154, None),
    # the machine
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "create_module": (174, None), "get_kernel_syms": (177, None), "query_module": (178, None),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "syslog": (103, 116),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266),
    "adjtimex": (159, 171), "sethostname": (170, 161), "setdomainname": (171, 162),
    "vhangup": (153, 58), "iopl": (172, None), "ioperm": (173, None), "uselib": (134, None),
    "ustat": (136, None), "sysfs": (139, None), "_sysctl": (156, None), "nfsservctl": (180, 42),
    "quotactl": (179, 60), "quotactl_fd": (443, 443), "lsm_set_self_attr": (460, 460),
}  # fmt: skip


class Architecture:
    """Numbers of one architecture: its audit id, the ranges it knows and the calls checked by argument."""

    def __init__(self, audit: int, column: int, top: int, checked: Mapping[str, int]) -> None:
        self.audit = audit
        self.ranges = ((0, top), (424, 462))
        self.refused = sorted({number for pair in REFUSED.values() if (number := pair[column]) is not None})
        self.checked = checked


_CLONE3 = 435
ARCHITECTURES: Mapping[str, Architecture] = {
    "x86_64": Architecture(
        0xC000003E, 0, 334,
        {"socket": 41, "socketpair": 53, "clone": 56, "ioctl": 16, "personality": 135},
    ),
    "aarch64": Architecture(
        0xC00000B7, 1, 294,
        {"socket": 198, "socketpair": 199, "clone": 220, "ioctl": 29, "personality": 92},
    ),
}  # fmt: skip

Instruction = tuple[int, int, int, int]


def _load(offset: int) -> Instruction:
    return (_LD_WORD, 0, 0, offset)


def _argument(index: int) -> Instruction:
    return _load(_ARGS + 8 * index)  # the low word: every checked argument is an int in the kernel


def _give(value: int) -> Instruction:
    return (_RET, 0, 0, value)


def _refuse(number: int) -> Instruction:
    return _give(_ERRNO | number)


def _on(number: int, body: list[Instruction]) -> list[Instruction]:
    """`body` if the accumulator holds `number`; a body always returns."""
    return [(_JEQ, 0, len(body), number), *body]


def _one_of(values: tuple[int, ...], otherwise: int) -> list[Instruction]:
    """Returns: allowed if the accumulator is one of the values, else errno `otherwise`."""
    return [*(step for value in values for step in _on(value, [_give(_ALLOW)])), _refuse(otherwise)]


def _socket() -> list[Instruction]:
    inet = [_argument(2), *_one_of((0, TCP, UDP), errno.EPROTONOSUPPORT)]
    netlink = [_argument(2), *_one_of((NETLINK_ROUTE,), errno.EPROTONOSUPPORT)]
    return [
        _argument(0),
        *_on(AF_UNIX, [_give(_ALLOW)]),
        *_on(AF_INET, inet),
        *_on(AF_INET6, inet),
        *_on(AF_NETLINK, netlink),
        _refuse(errno.EAFNOSUPPORT),
    ]


def _checked(call: str) -> list[Instruction]:
    match call:
        case "socket":
            return _socket()
        case "socketpair":
            return [_argument(0), *_one_of((AF_UNIX,), errno.EAFNOSUPPORT)]
        case "clone":
            return [_argument(0), (_JSET, 0, 1, NEW_NAMESPACES), _refuse(errno.EPERM), _give(_ALLOW)]
        case "ioctl":
            refuse = [step for value in TERMINAL_INJECTION for step in _on(value, [_refuse(errno.EPERM)])]
            return [_argument(1), *refuse, _give(_ALLOW)]
        case _:
            return [_argument(0), *_one_of(PERSONALITIES, errno.EPERM)]


@cache
def compile_filter(machine: str | None = None) -> bytes:
    """The filter as an array of struct sock_filter, as `bwrap --seccomp` reads it.

    machine: as `platform.machine()` names it. KeyError for an architecture without a profile.
    """
    arch = ARCHITECTURES[machine or platform.machine()]
    program = [_load(_ARCH), (_JEQ, 1, 0, arch.audit), _give(_KILL), _load(_NR)]
    program += _on(_CLONE3, [_refuse(errno.ENOSYS)])
    for number in arch.refused:
        program += _on(number, [_refuse(errno.EPERM)])
    for call, number in arch.checked.items():
        program += _on(number, _checked(call))
    for low, high in arch.ranges:
        # x32 numbers carry bit 30 and so lie above every range
        program += [(_JGE, 0, 2, low), (_JGE, 1, 0, high + 1), _give(_ALLOW)]
    program.append(_refuse(errno.ENOSYS))
    return b"".join(struct.pack("=HBBI", *step) for step in program)
