"""The system-call filter of `seccomp.py` in the words of container engines: a profile as JSON.

Engines take names where the filter has numbers, and one action for each combination of arguments, where every
argument may be compared once. What is refused here and there is the same; the error number may differ (an
engine gives EPERM to every call that no rule allows, and kills what comes by a foreign ABI).
"""

import json
import platform
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from passbox.backends.runtimes import seccomp

_WORD = 0xFFFFFFFF  # the kernel reads every checked argument as an int
_ENOSYS = 38  # as the kernel numbers it on both architectures
_ENGINE_ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}

# every call of x86_64 and aarch64 up to mseal (462), by its Linux name
_NAMES = """
    _sysctl accept accept4 access acct add_key adjtimex afs_syscall alarm arch_prctl bind bpf brk cachestat
    capget capset chdir chmod chown chroot clock_adjtime clock_getres clock_gettime clock_nanosleep
    clock_settime clone clone3 close close_range connect copy_file_range creat create_module delete_module
    dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
    epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fallocate
    fanotify_init fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr
    finit_module flistxattr flock fork fremovexattr fsconfig fsetxattr fsmount fsopen fspick fstat fstatfs
    fsync ftruncate futex futex_requeue futex_wait futex_waitv futex_wake futimesat get_kernel_syms
    get_mempolicy get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid geteuid getgid
    getgroups getitimer getpeername getpgid getpgrp getpid getpmsg getppid getpriority getrandom getresgid
    getresuid getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getxattr
    init_module inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy
    io_getevents io_pgetevents io_setup io_submit io_uring_enter io_uring_register io_uring_setup ioctl
    ioperm iopl ioprio_get ioprio_set kcmp kexec_file_load kexec_load keyctl kill landlock_add_rule
    landlock_create_ruleset landlock_restrict_self lchown lgetxattr link linkat listen listmount listxattr
    llistxattr lookup_dcookie lremovexattr lseek lsetxattr lsm_get_self_attr lsm_list_modules
    lsm_set_self_attr lstat madvise map_shadow_stack mbind membarrier memfd_create memfd_secret
    migrate_pages mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap modify_ldt mount
    mount_setattr move_mount move_pages mprotect mq_getsetattr mq_notify mq_open mq_timedreceive
    mq_timedsend mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap
    name_to_handle_at nanosleep newfstatat nfsservctl open open_by_handle_at open_tree openat openat2 pause
    perf_event_open personality pidfd_getfd pidfd_open pidfd_send_signal pipe pipe2 pivot_root pkey_alloc
    pkey_free pkey_mprotect poll ppoll prctl pread64 preadv preadv2 prlimit64 process_madvise
    process_mrelease process_vm_readv process_vm_writev pselect6 ptrace putpmsg pwrite64 pwritev pwritev2
    query_module quotactl quotactl_fd read readahead readlink readlinkat readv reboot recvfrom recvmmsg
    recvmsg remap_file_pages removexattr rename renameat renameat2 request_key restart_syscall rmdir rseq
    rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
    rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr
    sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam
    sched_setscheduler sched_yield seccomp security select semctl semget semop semtimedop sendfile sendmmsg
    sendmsg sendto set_mempolicy set_mempolicy_home_node set_robust_list set_thread_area set_tid_address
    setdomainname setfsgid setfsuid setgid setgroups sethostname setitimer setns setpgid setpriority
    setregid setresgid setresuid setreuid setrlimit setsid setsockopt settimeofday setuid setxattr shmat
    shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 socket socketpair splice stat statfs
    statmount statx swapoff swapon symlink symlinkat sync sync_file_range syncfs sysfs sysinfo syslog tee
    tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create
    timerfd_gettime timerfd_settime times tkill truncate tuxcall umask umount2 uname unlink unlinkat unshare
    uselib userfaultfd ustat utime utimensat utimes vfork vhangup vmsplice vserver wait4 waitid write writev
"""


def profile(machine: str | None = None) -> str:
    """The profile for `machine`, as `platform.machine()` names it. KeyError for one without a filter."""
    machine = machine or platform.machine()
    checked = seccomp.ARCHITECTURES[machine].checked
    allowed = sorted(set(_NAMES.split()) - set(seccomp.REFUSED) - set(checked) - {"clone3"})
    rules: list[dict[str, Any]] = [{"names": allowed, "action": "SCMP_ACT_ALLOW"}]
    rules += [{"names": [name], "action": "SCMP_ACT_ALLOW", "args": args} for name, args in _conditions()]
    # not EPERM: libc then takes clone, whose flags a filter can see
    rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS})
    return json.dumps(
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": [_ENGINE_ARCHITECTURES[machine]],
            "syscalls": rules,
        }
    )


def _conditions() -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """(call, comparisons that must all hold): one of a call's entries has to fit."""
    yield "socket", [_is(0, seccomp.AF_UNIX)]
    for family in (seccomp.AF_INET, seccomp.AF_INET6):
        for protocol in (0, seccomp.TCP, seccomp.UDP):
            yield "socket", [_is(0, family), _is(2, protocol)]
    yield "socket", [_is(0, seccomp.AF_NETLINK), _is(2, seccomp.NETLINK_ROUTE)]
    yield "socketpair", [_is(0, seccomp.AF_UNIX)]
    yield "clone", [_is(0, 0, seccomp.NEW_NAMESPACES)]
    for persona in seccomp.PERSONALITIES:
        yield "personality", [_is(0, persona)]
    for mask, value in all_but(seccomp.TERMINAL_INJECTION):
        yield "ioctl", [_is(1, value, mask)]


def _is(index: int, value: int, mask: int = _WORD) -> Mapping[str, Any]:
    return {"index": index, "op": "SCMP_CMP_MASKED_EQ", "value": mask, "valueTwo": value}


def all_but(excluded: Iterable[int]) -> list[tuple[int, int]]:
    """(mask, value) pairs that together match every 32-bit number except the excluded ones.

    An engine ORs what is said twice about one argument, so "not this and not that" cannot be said to it.
    """
    left, found = set(excluded), []
    pending = [(0, 0)]
    while pending:
        mask, value = pending.pop()
        if not any(number & mask == value for number in left):
            found.append((mask, value))
        elif mask != _WORD:
            bit = 0x80000000 if mask == 0 else (mask >> 1 | 0x80000000) ^ mask
            pending += [(mask | bit, value), (mask | bit, value | bit)]
    return sorted(found)
