"""What a hostile program tries, as data: system calls with harmless arguments, and small programs.

Every entry must be refused inside a sandbox. Most are also run outside of one, where they must get further,
so that a probe that can never succeed is noticed. Arguments are chosen so that even a root process outside
changes nothing: null pointers, descriptor -1, impossible flags. Numbers are those of x86_64.
"""

from lib.runtime import prefixes_below

# name: (number, arguments); inside: EPERM, ENOSYS or EAFNOSUPPORT; outside: anything else
CALLS: dict[str, tuple[int, tuple[int, ...]]] = {
    "ptrace": (101, (16, 0, 0, 0)),
    "process_vm_readv": (310, (1, 0, 0, 0, 0, 0)),
    "process_vm_writev": (311, (1, 0, 0, 0, 0, 0)),
    "pidfd_getfd": (438, (-1, 0, 0)),
    "process_madvise": (440, (-1, 0, 0, 0, 0)),
    "move_pages": (279, (0, 0, 0, 0, 0, 0)),
    "unshare": (272, (0,)),
    "setns": (308, (-1, 0)),
    "clone3": (435, (0, 0)),
    "mount": (165, (0, 0, 0, 0, 0)),
    "umount2": (166, (0, 0)),
    "pivot_root": (155, (0, 0)),
    "chroot": (161, (0,)),
    "open_tree": (428, (-1, 0, 0)),
    "move_mount": (429, (-1, 0, -1, 0, 0)),
    "fsopen": (430, (0, 0)),
    "fsconfig": (431, (-1, 0, 0, 0, 0)),
    "fsmount": (432, (-1, 0, 0)),
    "fspick": (433, (-1, 0, 0)),
    "mount_setattr": (442, (-1, 0, 0, 0, 0)),
    "listmount": (458, (0, 0, 0, 0)),
    "name_to_handle_at": (303, (-1, 0, 0, 0, 0)),
    "open_by_handle_at": (304, (-1, 0, 0)),
    "io_uring_setup": (425, (0, 0)),
    "io_uring_enter": (426, (-1, 0, 0, 0, 0)),
    "io_uring_register": (427, (-1, 0, 0, 0)),
    "userfaultfd": (323, (-1,)),
    "bpf": (321, (0, 0, 0)),
    "perf_event_open": (298, (0, 0, 0, 0, 0)),
    "fanotify_init": (300, (0x7FFFFFFF, 0)),
    "add_key": (248, (0, 0, 0, 0, 0)),
    "request_key": (249, (0, 0, 0, 0)),
    "keyctl": (250, (0, -1, 0)),
    "delete_module": (176, (0, 0)),
    "finit_module": (313, (-1, 0, 0)),
    "kexec_file_load": (320, (-1, -1, 0, 0, 0xFFFF)),
    "reboot": (169, (0, 0, 0, 0)),
    "swapon": (167, (0, 0)),
    "swapoff": (168, (0,)),
    "acct": (163, (1,)),
    "syslog": (103, (-1, 0, 0)),
    "settimeofday": (164, (1, 1)),
    "clock_settime": (227, (0, 0)),
    "clock_adjtime": (305, (0, 0)),
    "sethostname": (170, (0, -1)),
    "setdomainname": (171, (0, -1)),
    "quotactl": (179, (-1, 0, 0, 0)),
    "personality": (135, (0x0040000,)),
    "socket vsock": (41, (40, 1, 0)),
    "socket packet": (41, (17, 3, 0)),
    "socket netlink uevent": (41, (16, 3, 15)),
    "socket netlink audit": (41, (16, 3, 9)),
    "socket raw icmp": (41, (2, 3, 1)),
    "socket raw ipv6": (41, (10, 3, 58)),
    "socketpair of another family": (53, (40, 1, 0, 0)),
    "ioctl TIOCSTI": (16, (0, 0x5412, 0)),
    "ioctl TIOCLINUX": (16, (0, 0x541C, 0)),
    "newer than the filter": (467, (-1, 0, 0, 0, 0)),
}

# what this kernel may lack altogether: refused inside, and outside it may answer ENOSYS or the like too
PERHAPS_ABSENT = {
    "kcmp": (312, (1, 1, 0, 0, 0)),
    "migrate_pages": (256, (0, 0, 0, 0)),
    "memfd_secret": (447, (0x7FFFFFFF,)),
    "fanotify_mark": (301, (-1, 0, 0, -1, 0)),
    "vhangup is never called outside": (153, ()),
    "lookup_dcookie": (212, (0, 0, 0)),
    "quotactl_fd": (443, (-1, -1, 0, 0)),
    "iopl": (172, (0,)),
    "ioperm": (173, (0, 0, 0)),
    "socket alg": (41, (38, 5, 0)),
    "socket xdp": (41, (44, 3, 0)),
    "socket can": (41, (29, 3, 1)),
    "socket tipc": (41, (30, 1, 0)),
    "socket bluetooth": (41, (31, 3, 1)),
    "socket netlink xfrm": (41, (16, 3, 6)),
    "socket mptcp": (41, (2, 1, 262)),
    "x32 getpid": (0x40000000 + 39, ()),
}

# prints one line per call: its name, a tab, the errno's name or "reached"
CALLER = """
import ctypes, errno, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
for name, (number, arguments) in json.loads(sys.argv[1]).items():
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(argument) for argument in arguments))
    answer = errno.errorcode.get(ctypes.get_errno(), "?") if result < 0 else "reached"
    print(name, answer, sep="\\t", flush=True)
"""

# prints one line per program: its name, a tab, and what it said
RUNNER = """
import json, os, sys
for name, program in json.loads(sys.argv.pop()).items():
    os.write(1, name.encode() + b"\\t")
    if os.fork() == 0:
        try:
            exec(program, {"__name__": "__main__"})
        except BaseException as error:
            print("broken", repr(error), flush=True)
        os._exit(0)
    if os.wait()[1]:
        os.write(1, b"died\\n")
"""

# name: (body of a probe, whether it gets through outside, as root). A body may use the arguments that the
# test gives to every probe: a port of the host, a private directory, the service's process id, the name of an
# abstract socket.
PROGRAMS: dict[str, tuple[str, bool]] = {
    "tcp to a listener on the host's loopback": (
        "socket.create_connection(('127.0.0.1', int(sys.argv[1])), 2)",
        True,
    ),
    "tcp to the host's loopback by its other addresses": (
        "socket.create_connection(('127.0.0.2', int(sys.argv[1])), 2)",
        True,
    ),
    "tcp to the host's loopback over IPv4 in IPv6": (
        "socket.create_connection(('::ffff:127.0.0.1', int(sys.argv[1])), 2)",
        True,
    ),
    "a route to anywhere": (
        # connects a datagram socket to an address of the documentation: nothing is sent
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 9))",
        False,
    ),
    "another interface than loopback": (
        """
        if all(name == 'lo' for _, name in socket.if_nameindex()):
            raise OSError(errno.ENODEV, '')
        """,
        True,
    ),
    "a name server of the host": (
        """
        if 'nameserver' not in open('/etc/resolv.conf').read():
            raise OSError(errno.ENOENT, '')
        """,
        False,
    ),
    "resolving a name": ("socket.getaddrinfo('host.invalid', 80)", False),
    "an abstract socket of the host": (
        "socket.socket(socket.AF_UNIX).connect('\\0' + sys.argv[4])",
        True,
    ),
    "a socket file of the host": (
        "socket.socket(socket.AF_UNIX).connect(sys.argv[2] + '/socket')",
        True,
    ),
    "the host's password hashes": ("open('/etc/shadow').read(1)", True),
    "the service's key": ("open(sys.argv[2] + '/key').read()", True),
    "another job's channel": ("os.listdir(sys.argv[2] + '/channel')", True),
    "the user's home": (
        f"if not set(os.listdir('/root')) - set({prefixes_below('/root')}): raise OSError(errno.ENOENT, '')",
        False,
    ),
    "the host's temporary files": (
        f"if not set(os.listdir('/tmp')) - set({prefixes_below('/tmp')}): raise OSError(errno.ENOENT, '')",
        True,
    ),
    "the host's root through process 1": ("open('/proc/1/root/etc/shadow').read(1)", False),
    "the host's root through the service": ("open(f'/proc/{sys.argv[3]}/root/etc/shadow').read(1)", True),
    "a descriptor of the service": ("os.stat(f'/proc/{sys.argv[3]}/fd/0')", True),
    "variables of process 1": (
        "if not open('/proc/1/environ').read(): raise OSError(errno.ENODATA, '')",
        False,
    ),
    "variables of the service": ("open(f'/proc/{sys.argv[3]}/environ').read()", True),
    "seeing the service": ("os.stat(f'/proc/{sys.argv[3]}/status')", True),
    "a signal to the service": ("os.kill(int(sys.argv[3]), 0)", True),
    "more than its own few processes in sight": (
        "if sum(name.isdigit() for name in os.listdir('/proc')) < 5: raise OSError(errno.ESRCH, '')",
        True,
    ),
    "the core handler of the host": (
        "os.close(os.open('/proc/sys/kernel/core_pattern', os.O_WRONLY))",
        True,
    ),
    "any file of /proc/sys": (
        """
        for place, _, names in os.walk('/proc/sys'):
            for name in names:
                try:
                    os.close(os.open(place + '/' + name, os.O_WRONLY | os.O_NONBLOCK))
                    return
                except OSError as error:
                    refused = error
        raise refused
        """,
        True,
    ),
    "the magic request key": ("os.close(os.open('/proc/sysrq-trigger', os.O_WRONLY))", False),
    "sysfs": ("if not os.listdir('/sys'): raise OSError(errno.ENOENT, '')", True),
    "control groups": ("os.listdir('/sys/fs/cgroup')", True),
    "disks": ("os.stat('/dev/loop-control')", True),
    "kvm and other devices": (
        """
        plain = {'null', 'zero', 'full', 'random', 'urandom', 'tty', 'ptmx', 'pts', 'shm', 'fd', 'core',
                 'stdin', 'stdout', 'stderr', 'console', 'mqueue'}
        if not set(os.listdir('/dev')) - plain: raise OSError(errno.ENODEV, '')
        """,
        True,
    ),
    "kernel keys in sight": ("if not open('/proc/keys').read(): raise OSError(errno.ENODATA, '')", False),
    "writing to the root": ("open('/file', 'w')", False),
    "writing to the programs": ("open('/usr/bin/passbox-probe', 'w')", False),
    "writing to /etc": ("open('/etc/hosts', 'a')", False),
    "writing to /dev": ("open('/dev/file', 'w')", False),
    "writing to its own Python": ("open(sys.prefix + '/passbox-probe', 'w')", False),
    "writing to a channel": ("open('/opt/ml/input/data/train/more', 'w')", False),
    "changing a channel's file": ("open('/opt/ml/input/data/train/rows', 'a')", False),
    "giving a channel's file a new mode": ("os.chmod('/opt/ml/input/data/train/rows', 0o777)", False),
    "becoming root": ("os.setuid(0)", True),
    "another group": ("os.setgroups([0])", True),
    "a device of its own": ("os.mknod('/tmp/passbox-probe-node', 0o020666, os.makedev(1, 3))", False),
    "a set-uid program that works": (
        """
        for name in ('su', 'passwd', 'mount', 'chsh', 'newgrp', 'gpasswd'):
            path = '/usr/bin/' + name
            if os.path.exists(path) and os.stat(path).st_mode & 0o4000:
                if not os.statvfs(path).f_flag & os.ST_NOSUID:
                    return
        raise OSError(errno.EPERM, '')
        """,
        True,
    ),
    "a file with a capability's attribute": (
        """
        open('/tmp/passbox-probe-file', 'w').close()
        value = bytes.fromhex('0100000200000000' * 2 + '00000000')
        os.setxattr('/tmp/passbox-probe-file', 'security.capability', value)
        """,
        False,
    ),
    "more open files than allowed": (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 19, 1 << 19))",
        False,
    ),
    "core dumps": (
        "import resource; resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20))",
        False,
    ),
    "a new user namespace by clone": (
        """
        if syscall(56, 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0) == 0:
            os._exit(0)
        """,
        True,
    ),
    "a real-time priority": (
        "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))",
        False,
    ),
    "a negative nice value": ("os.nice(-5)", False),
    "descriptors that were left open": (
        """
        if set(os.listdir('/proc/self/fd')) <= {'0', '1', '2', '3'}: raise OSError(errno.EBADF, '')
        """,
        False,
    ),
    "a terminal": ("os.close(os.open('/dev/tty', os.O_RDWR))", False),
}
