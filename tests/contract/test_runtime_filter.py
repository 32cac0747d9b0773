"""The system-call filter judged as the kernel would, on both architectures, by running its program here; and
the engines' profile against it, rule by rule."""

import errno
import json
import struct

import pytest

from passbox.backends.runtimes import seccomp
from passbox.backends.runtimes.seccomp import compile_filter
from passbox.backends.runtimes.seccomp_profile import all_but, profile

AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, KILL = "allow", "kill"
# name: (x86_64, aarch64), arguments, verdict
TABLE = {
    "read": ((0, 63), (), ALLOW),
    "openat": ((257, 56), (), ALLOW),
    "execve": ((59, 221), (), ALLOW),
    "futex_waitv": ((449, 449), (), ALLOW),
    "mseal, the newest known": ((462, 462), (), ALLOW),
    "a newer one": ((463, 463), (), errno.ENOSYS),
    "one in the gap": ((400, 400), (), errno.ENOSYS),
    "x32": ((0x40000000, 0x40000000), (), errno.ENOSYS),
    "clone3": ((435, 435), (), errno.ENOSYS),
    "ptrace": ((101, 117), (), errno.EPERM),
    "mount": ((165, 40), (), errno.EPERM),
    "io_uring_setup": ((425, 425), (), errno.EPERM),
    "bpf": ((321, 280), (), errno.EPERM),
    "keyctl": ((250, 219), (), errno.EPERM),
    "unshare": ((272, 97), (), errno.EPERM),
    "fork by clone": ((56, 220), (17,), ALLOW),
    "thread by clone": ((56, 220), (0x3D0F00,), ALLOW),
    "user namespace by clone": ((56, 220), (0x10000011,), errno.EPERM),
    "unix socket": ((41, 198), (1, 1, 0), ALLOW),
    "tcp socket": ((41, 198), (2, 0x80001, 6), ALLOW),
    "ipv6 udp socket": ((41, 198), (10, 2, 17), ALLOW),
    "raw socket": ((41, 198), (2, 3, 255), errno.EPROTONOSUPPORT),
    "route netlink": ((41, 198), (16, 3, 0), ALLOW),
    "other netlink": ((41, 198), (16, 3, 12), errno.EPROTONOSUPPORT),
    "vsock": ((41, 198), (40, 1, 0), errno.EAFNOSUPPORT),
    "a high word does not matter": ((41, 198), ((1 << 32) | 40, 1, 0), errno.EAFNOSUPPORT),
    "window size": ((16, 29), (0, 0x5413), ALLOW),
    "TIOCSTI": ((16, 29), (0, 0x5412), errno.EPERM),
    "TIOCSTI with a high word": ((16, 29), (0, (1 << 32) | 0x5412), errno.EPERM),
    "asking for the personality": ((135, 92), (0xFFFFFFFF,), ALLOW),
    "another personality": ((135, 92), (0x0400000,), errno.EPERM),
}  # fmt: skip


def judge(program: bytes, audit: int, number: int, arguments: tuple[int, ...]) -> str | int:
    """What a kernel that runs `program` answers to a call."""
    data = struct.pack("=IIQ6Q", number, audit, 0, *arguments, *[0] * (6 - len(arguments)))
    steps = list(struct.iter_unpack("=HBBI", program))
    place = accumulator = 0
    while True:
        code, jump_true, jump_false, value = steps[place]
        place += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", data, value)
            case 0x06:
                return {0x7FFF0000: ALLOW, 0x80000000: KILL}.get(value, value & 0xFFFF)
            case 0x15 | 0x35 | 0x45:
                true = {
                    0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value),
                }[code]  # fmt: skip
                place += jump_true if true else jump_false
            case _:
                raise AssertionError(f"an instruction that the filter has no need of: {code:#x}")


@pytest.mark.parametrize("machine", AUDIT)
@pytest.mark.parametrize("name", TABLE)
def test_verdict(machine, name):
    numbers, arguments, verdict = TABLE[name]
    number = numbers[list(AUDIT).index(machine)]
    assert judge(compile_filter(machine), AUDIT[machine], number, arguments) == verdict


@pytest.mark.parametrize("machine", AUDIT)
def test_a_foreign_architecture_is_killed(machine):
    assert judge(compile_filter(machine), 0x40000003, 20, ()) == KILL


@pytest.mark.parametrize("machine", AUDIT)
def test_every_number_has_a_verdict(machine):
    program = compile_filter(machine)
    for number in [*range(1000), 0x3FFFFFFF, 0x7FFFFFFF, 0xFFFFFFFF]:
        judge(program, AUDIT[machine], number, ())


def test_there_is_no_filter_for_other_machines():
    with pytest.raises(KeyError):
        compile_filter("riscv64")


# -- the profile of container engines ------------------------------------------------------------------------

NAMES = {0: "read", 257: "openat", 59: "execve", 449: "futex_waitv", 462: "mseal", 435: "clone3"}
NAMES |= {number: name for name, number in seccomp.ARCHITECTURES["x86_64"].checked.items()}
NAMES |= {numbers[0]: name for name, numbers in seccomp.REFUSED.items()}


def judge_profile(rules: dict, name: str | None, arguments: tuple[int, ...]) -> str | int:
    """What libseccomp makes of a call: the first rule that names it and whose comparisons all hold."""
    given = [*arguments, *[0] * (6 - len(arguments))]
    for rule in rules["syscalls"]:
        fits = all(given[one["index"]] & one["value"] == one["valueTwo"] for one in rule.get("args", ()))
        if name in rule["names"] and fits:
            return ALLOW if rule["action"] == "SCMP_ACT_ALLOW" else rule["errnoRet"]
    assert rules["defaultAction"] == "SCMP_ACT_ERRNO"
    return errno.EPERM


@pytest.mark.parametrize("machine", AUDIT)
@pytest.mark.parametrize("name", TABLE)
def test_the_profile_allows_what_the_filter_allows(machine, name):
    (number, _), arguments, verdict = TABLE[name]
    judged = judge_profile(json.loads(profile(machine)), NAMES.get(number), arguments)
    assert (judged == ALLOW) == (verdict == ALLOW)
    assert (judged == errno.ENOSYS) == (name == "clone3")


def test_the_profile_names_every_call_that_the_filter_allows():
    rules = json.loads(profile("x86_64"))
    named = {name for rule in rules["syscalls"] for name in rule["names"]}
    assert not named & set(seccomp.REFUSED)
    program = compile_filter("x86_64")
    allowed = [n for n in range(1000) if judge(program, AUDIT["x86_64"], n, ()) == ALLOW]
    # clone3 is refused in words of its own; there is no socket of family 0
    assert len(named - {"clone3", "socket", "socketpair"}) == len(allowed)


def test_all_but_is_everything_else():
    excluded = (0x5412, 0x541C, 0x541D)
    pairs = all_but(excluded)
    for number in (*excluded, 0, 0xFFFFFFFF, 0x5411, 0x5413, 0x541B, 0x541E, 0x80005412):
        assert any(number & mask == value for mask, value in pairs) == (number not in excluded)


def test_there_is_no_profile_for_other_machines():
    with pytest.raises(KeyError):
        profile("riscv64")
