"""The exam of every runtime, sealed or not: what the contract in base.py promises to an honest program."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

import passbox
from lib.runtime import ROOT, Bench, poll, processes_with
from passbox.backends.runtimes.base import Cause, Isolation, Limits, SandboxSpec
from passbox.backends.runtimes.unsafe import UnsafeRuntime

OCCUPANTS = ("bubblewrap", "docker", "podman", "unsafe")
SERVER = """
    import socket, sys
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    print("listening", flush=True)
    while True:
        stream, _ = listener.accept()
        stream.sendall(b"hello " + stream.recv(100))
        stream.close()
"""


@pytest.fixture(scope="module", params=OCCUPANTS)
def runtime(request, runtimes):
    return runtimes(request.param)


@pytest.fixture
def bench(runtime, tmp_path):
    return Bench(runtime, tmp_path)


def test_check_says_what_is_reached(runtime):
    report = runtime.check()
    assert (report.isolation is Isolation.NONE) == isinstance(runtime, UnsafeRuntime)
    assert (report.isolation is Isolation.SEALED) == (not report.missing)


@pytest.mark.parametrize(("code", "status"), [("raise SystemExit(0)", 0), ("raise SystemExit(7)", 7)])
def test_exit_code(bench, code, status):
    ended = bench.run(code).exit
    assert (ended.cause, ended.status) == (Cause.EXITED, status)
    assert 0 < ended.seconds < 30


def test_death_by_signal_is_128_and_its_number(bench):
    assert bench.run("import os; os.kill(os.getpid(), 6)").exit.status == 134


def test_a_missing_program_is_127(bench):
    spec = SandboxSpec(("/no/such/program",), ROOT, Limits(64 << 20, 10), log=bench.log)
    ended = bench.runtime.start(spec).wait(20)
    assert (ended.cause, ended.status) == (Cause.EXITED, 127)
    assert "/no/such/program" in bench.log.read_text()


def test_the_environment_is_exactly_what_was_given(bench):
    ran = bench.run(
        "import os, json; print(json.dumps(dict(os.environ)))", environment={"SOME": "x=1 ü", "EMPTY": ""}
    )
    found = json.loads(ran.log)
    found.pop("LC_CTYPE", None)  # Python's own doing
    assert found == {"SOME": "x=1 ü", "EMPTY": "", "PWD": "/"}


def test_standard_input_is_empty_and_only_three_descriptors_are_open(bench):
    ran = bench.run("import os, sys; print(repr(sys.stdin.read()), sorted(os.listdir('/proc/self/fd')))")
    assert ran.log == "'' ['0', '1', '2', '3']\n"  # 3 is the listing itself


def test_the_log_holds_both_streams_and_is_cut(bench):
    ran = bench.run("import os; os.write(2, b'err '); os.write(1, b'x' * 500_000)", log_bytes=1000)
    kept, note = ran.log[:1000], ran.log[1000:]
    assert kept == "err " + "x" * 996
    assert "cut" in note
    assert len(note) < 100
    assert ran.exit.status == 0


def test_a_program_may_make_a_terminal_of_its_own(bench):
    ran = bench.run("import os; ours, theirs = os.openpty(); os.write(theirs, b'x'); print(os.read(ours, 1))")
    assert ran.log == "b'x'\n"


def test_no_log_is_fine(bench):
    assert bench.runtime.start(bench.spec("print('x' * 100_000)", log=None)).wait(20).status == 0


def test_mounts_and_outputs_are_where_the_environment_says(bench):
    out = bench.output("model", "/opt/ml/model")
    ran = bench.run(
        """
        import os
        text = open(os.environ["SM_CHANNEL_TRAIN"] + "/rows.csv").read()
        os.makedirs(os.environ["SM_MODEL_DIR"] + "/deep/er")
        with open(os.environ["SM_MODEL_DIR"] + "/deep/er/weights", "w") as file:
            file.write(text * 2)
        os.chmod(file.name, 0o600)
        """,
        environment={"SM_CHANNEL_TRAIN": "/opt/ml/input/data/train", "SM_MODEL_DIR": "/opt/ml/model"},
        mounts=(bench.mount("channel", "/opt/ml/input/data/train", **{"rows.csv": "1,2\n"}),),
        outputs=(out,),
    )
    assert ran.exit.status == 0, ran.log
    assert (out.host / "deep/er/weights").read_text() == "1,2\n1,2\n"


def test_outputs_are_there_after_a_failure_too(bench):
    out = bench.output("output", "/opt/ml/output")
    code = "import sys; open(sys.argv[1] + '/failure', 'w').write('why'); sys.exit(3)"
    assert bench.run(code, "/opt/ml/output", outputs=(out,)).exit.status == 3
    assert (out.host / "failure").read_text() == "why"


def test_wait_gives_none_while_it_runs_and_the_same_exit_ever_after(bench):
    sandbox = bench.start("import time; time.sleep(60)")
    assert sandbox.wait(0.01) is None
    first = sandbox.kill()
    assert first.cause is Cause.KILLED
    assert first.status == 137
    assert sandbox.kill() == sandbox.wait() == sandbox.wait(0) == sandbox.kill(5) == first


def test_usage_is_that_of_the_whole_tree(runtime, bench):
    code = """
        import os, time
        held = b"x" * (64 << 20)
        os.fork()
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass
        print("burnt", flush=True)
        time.sleep(60)
    """
    sandbox = bench.start(code)
    for _ in poll("it did not burn"):
        if bench.log.exists() and bench.log.read_text().count("burnt") == 2:
            break
    used = sandbox.usage()
    if runtime.check().isolation is Isolation.SEALED:
        assert used.cpu_seconds >= 0.4
        assert used.memory_bytes >= 64 << 20
    sandbox.kill()
    assert sandbox.usage() is None


def test_kill_after_the_end_keeps_how_it_ended(bench):
    sandbox = bench.start("raise SystemExit(5)")
    for _ in poll("it never ended"):
        if sandbox.wait(0) is not None:
            break
    assert sandbox.kill().cause is Cause.EXITED
    assert sandbox.kill().status == 5


def test_kill_with_grace_lets_the_program_say_goodbye(bench):
    out = bench.output("output", "/opt/ml/output")
    sandbox = bench.start(
        """
        import signal, sys, time
        def stop(*_):
            open(sys.argv[1] + "/goodbye", "w").close()
            sys.exit(9)
        signal.signal(signal.SIGTERM, stop)
        print("ready", flush=True)
        time.sleep(60)
        """,
        "/opt/ml/output",
        outputs=(out,),
    )
    bench.said("ready")
    ended = sandbox.kill(10)
    assert (ended.cause, ended.status) == (Cause.KILLED, 9)
    assert (out.host / "goodbye").exists()


def test_kill_ends_one_that_ignores_the_request(bench):
    sandbox = bench.start(
        """
        import signal, time
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)
        print("ready", flush=True)
        time.sleep(60)
        """
    )
    bench.said("ready")
    began = time.monotonic()
    assert sandbox.kill(0.2).status == 137
    assert 0.2 <= time.monotonic() - began < 2.2


def test_the_time_limit(bench):
    ended = bench.run("import time; time.sleep(60)", seconds=0.3).exit
    assert ended.cause is Cause.TIMED_OUT
    assert 0.3 <= ended.seconds < 3


def test_connect_gives_a_socket_to_a_port_inside(bench, unused_port):
    sandbox = bench.start(SERVER, str(unused_port))
    bench.said("listening")
    for turn in (b"one", b"two"):
        with sandbox.connect(unused_port) as stream:
            stream.sendall(turn)
            assert stream.recv(100) == b"hello " + turn
    with pytest.raises(ConnectionRefusedError):
        sandbox.connect(1)
    sandbox.kill()
    with pytest.raises(RuntimeError):
        sandbox.connect(unused_port)


def test_a_connection_ends_with_the_program(bench, unused_port):
    code = """
    import socket, sys, time
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    print("listening", flush=True)
    kept = listener.accept()
    time.sleep(60)
    """
    sandbox = bench.start(code, str(unused_port))
    bench.said("listening")
    with sandbox.connect(unused_port) as taken, sandbox.connect(unused_port) as waiting:
        sandbox.kill()
        for stream in (taken, waiting):
            stream.settimeout(10)
            with contextlib.suppress(ConnectionResetError):
                assert stream.recv(1) == b""


def test_many_threads_may_use_one_runtime_and_one_sandbox(bench, unused_port):
    sandbox = bench.start(SERVER, str(unused_port))
    bench.said("listening")
    answers = []

    def use() -> None:
        with sandbox.connect(unused_port) as stream:
            stream.sendall(b"x")
            answers.append(stream.recv(100))

    def wait() -> None:
        answers.append(sandbox.wait(30).cause)

    users = [threading.Thread(target=use) for _ in range(8)]
    waiters = [threading.Thread(target=wait) for _ in range(3)]
    for thread in users + waiters:
        thread.start()
    for thread in users:
        thread.join()
    sandbox.kill()
    for thread in waiters:
        thread.join()
    assert sorted(map(str, answers)) == sorted(map(str, [b"hello x"] * 8 + [Cause.KILLED] * 3))


def test_a_thread_that_started_a_sandbox_may_end_before_it(bench):
    started = []
    thread = threading.Thread(target=lambda: started.append(bench.start("import time; time.sleep(0.3)")))
    thread.start()
    thread.join()
    assert started[0].wait(20).cause is Cause.EXITED


def test_a_dead_supervisor_ends_everything(runtime, tmp_path):
    mark, address = uuid.uuid4().hex, getattr(runtime, "_address", "")
    supervisor = subprocess.Popen(
        [sys.executable, "-c", _SUPERVISOR, type(runtime).__module__, type(runtime).__name__, mark, address],
        stdout=subprocess.PIPE,
        env={"TMPDIR": str(tmp_path)},
        cwd=Path(__file__).parents[1],
    )
    with supervisor:
        try:
            assert supervisor.stdout.readline() == b"started\n"
            for _ in poll("the program never started"):
                if len(processes_with(mark)) > 1:
                    break
        finally:
            supervisor.send_signal(signal.SIGKILL)
    for _ in poll("a process outlived its supervisor", 5):
        if not processes_with(mark):
            break


_SUPERVISOR = f"""
import importlib, sys, time
sys.path[:0] = {[str(Path(__file__).parents[1]), str(Path(passbox.__file__).parents[1])]!r}
from pathlib import Path
from lib.runtime import PYTHON, ROOT
from passbox.backends.runtimes.base import Limits, SandboxSpec
runtime = getattr(importlib.import_module(sys.argv[1]), sys.argv[2])(*filter(None, sys.argv[4:]))
code = "import time; time.sleep(60)"
kept = runtime.start(SandboxSpec((*PYTHON, code, sys.argv[3]), ROOT, Limits(1 << 28, 60)))
print("started", flush=True)
time.sleep(60)
"""


def test_a_contradictory_spec_is_a_value_error(bench):
    with pytest.raises(ValueError, match="command"):
        bench.runtime.start(SandboxSpec((), ROOT, Limits(1 << 26, 10)))
