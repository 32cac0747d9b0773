"""The process that shepherds are forked from: it knows nothing, and nobody depends on its life."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from lib.runtime import Bench, poll
from passbox.backends.runtimes.base import Cause, Isolation
from passbox.backends.runtimes.bubblewrap import BubblewrapRuntime

WAIT = "import time; print('runs', flush=True); time.sleep(60)"


@pytest.fixture
def runtime():
    made = BubblewrapRuntime()
    if made.check().isolation is Isolation.NONE:
        pytest.skip("this machine cannot seal")
    return made


def _parent(process):
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[1])


def test_sandboxes_outlive_it_and_the_next_has_another(runtime, tmp_path):
    bench = Bench(runtime, tmp_path)
    sandbox = bench.start(WAIT)
    bench.said("runs")
    server = _parent(sandbox._process.pid)
    os.kill(server, signal.SIGKILL)
    for _ in poll("it lives on"):
        if _parent(sandbox._process.pid) != server:
            break
    (tmp_path / "second").mkdir()
    second = Bench(runtime, tmp_path / "second")
    assert second.run("print('again')").log == "again\n"
    assert sandbox.wait(0) is None
    assert sandbox.kill().cause is Cause.KILLED


def test_it_has_no_variables_and_only_its_own_descriptors(runtime, tmp_path):
    bench = Bench(runtime, tmp_path)
    ended = bench.start("pass")
    ended.wait()
    sandbox = bench.start(WAIT)
    server = _parent(sandbox._process.pid)
    assert Path(f"/proc/{server}/environ").read_bytes() == b""
    held = {link.readlink().as_posix().partition(":")[0] for link in Path(f"/proc/{server}/fd").iterdir()}
    assert held == {
        "/dev/null",
        "socket",
        "anon_inode",
        "pipe",
    }  # the service; a handle and a pipe of each child
    sandbox.kill()


def test_it_ends_with_who_started_it(tmp_path):
    runtime = BubblewrapRuntime()
    sandbox = Bench(runtime, tmp_path).start(WAIT)
    server = _parent(sandbox._process.pid)
    sandbox.kill()
    del runtime, sandbox
    for _ in poll("it lives on"):
        if not Path(f"/proc/{server}").exists():
            break


def test_its_children_say_how_they_ended(runtime, tmp_path):
    sandbox = Bench(runtime, tmp_path).start(WAIT)
    shepherd = sandbox._process
    with pytest.raises(subprocess.TimeoutExpired):
        shepherd.wait(0.0)
    os.kill(shepherd.pid, signal.SIGTERM)
    assert shepherd.wait() == -signal.SIGTERM
    assert sandbox.wait(10).cause is Cause.KILLED
    (tmp_path / "second").mkdir()
    second = Bench(runtime, tmp_path / "second").start("pass")
    assert second.wait().status == 0
    assert second._process.wait() == 0
