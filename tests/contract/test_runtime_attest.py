"""A launch that gives more than was granted is found out and ended before the program's first instruction.

Each row breaks one thing about a real launch: what bubblewrap is told, or what the shepherd does around it.
"""

import os
import time
from pathlib import Path

import pytest

from lib.container import TRAIN, Room
from lib.runtime import Bench, poll
from passbox.backends.runtimes import attest, bubblewrap, layout
from passbox.backends.runtimes.base import Isolation, Unsealed
from passbox.backends.runtimes.bubblewrap import BubblewrapRuntime
from passbox.backends.runtimes.cgroup import Group
from passbox.errors import JobFailed

CHANNEL, MODEL = "/opt/ml/input/data/train", "/opt/ml/model"
NAMESPACES = ("user", "ipc", "pid", "net", "uts")
PROGRAM = "open('/opt/ml/model/ran', 'w').write(open('/opt/ml/input/data/train/rows').read())"


@pytest.fixture(scope="module")
def runtime():
    made = BubblewrapRuntime()
    if made.check().isolation is Isolation.NONE:
        pytest.skip("this machine cannot seal")
    return made


@pytest.fixture
def told(monkeypatch):
    """Changes what bubblewrap is told, after everything was granted as ever."""

    def change(edit):
        made = layout.bubblewrap_arguments
        monkeypatch.setattr(layout, "bubblewrap_arguments", lambda *given: edit(made(*given)))

    return change


@pytest.fixture
def done(monkeypatch):
    """Changes what the shepherd does, by a line of Python in its process."""

    def change(line):
        begin = "from passbox.backends.runtimes import shepherd; import os, resource; "
        boot = bubblewrap._BOOT.replace("from passbox", f"{begin}{line}; from passbox", 1)
        monkeypatch.setattr(bubblewrap, "_BOOT", boot)

    return change


def launch(runtime, at) -> Unsealed:
    """Starts a program that would leave a trace; what was found wrong, and no trace."""
    bench = Bench(runtime, at)
    out = bench.output("model", MODEL)
    with pytest.raises(Unsealed) as caught:
        bench.start(PROGRAM, mounts=(bench.mount("channel", CHANNEL, rows="1"),), outputs=(out,))
    assert list(out.host.iterdir()) == []
    assert bench.log.read_text() == ""
    return caught.value


def without(*words):
    return lambda arguments: [word for word in arguments if word not in words]


def instead(old, *new):
    def edit(arguments):
        place = arguments.index(old)
        return [*arguments[:place], *new, *arguments[place + 1 :]]

    return edit


def unshared(missing):
    words = [f"--unshare-{name}" for name in NAMESPACES if name != missing]
    return instead("--unshare-all", *words, "--unshare-cgroup-try")


def also(*words):
    """Before the root is made read-only."""
    return lambda arguments: [*arguments[:-4], *words, *arguments[-4:]]


def at(target, *, bind=None, source=None, to=None):
    """Changes the bind at a target."""

    def edit(arguments):
        place = arguments.index(target) - 2
        old = arguments[place : place + 3]
        new = [bind or old[0], source or old[1], to or old[2]]
        return [*arguments[:place], *new, *arguments[place + 3 :]]

    return edit


TOLD = [
    ("namespaces", "shares the net namespace", unshared("net")),
    ("namespaces", "shares the ipc namespace", unshared("ipc")),
    ("namespaces", "shares the uts namespace",
     lambda words: without("--hostname", "algo-1")(unshared("uts")(words))),
    ("namespaces", "shares the pid namespace", unshared("pid")),
    ("capabilities", "CapEff", lambda words: [*without("--cap-drop", "ALL")(words), "--cap-add", "ALL"]),
    ("mounts", "shows /mnt, which was not granted", also("--ro-bind", "/usr", "/mnt")),
    ("mounts", "could write to /mnt", also("--bind", layout.STAGE, "/mnt")),
    ("mounts", f"could write to {CHANNEL}", at(CHANNEL, bind="--bind")),
    ("mounts", f"shows something else at {CHANNEL}", at(CHANNEL, source="/usr")),
    ("mounts", f"does not show {CHANNEL}", at(CHANNEL, to="/opt/ml/input/data/other")),
    ("mounts", "shows something else at /opt/ml/model", at(MODEL, source=f"{layout.STAGE}/w0")),
    ("mounts", "could write to /", lambda words: [*words[:-4], *words[-2:]]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "found", "edit"), TOLD)
def test_bubblewrap_gives_more_than_was_granted(runtime, told, tmp_path, name, found, edit):
    told(edit)
    error = launch(runtime, tmp_path)
    assert name in error.properties
    assert found in error.detail


def test_what_is_not_sealed_is_ended_at_once(runtime, told, tmp_path):
    """The shepherd has five seconds of patience with a tree that will not end; this one needs none."""
    told(also("--ro-bind", "/usr", "/mnt"))
    began = time.monotonic()
    launch(runtime, tmp_path)
    assert time.monotonic() - began < 4.5


DONE = [
    ("seccomp", "no system-call filter", "keep = os.execve; "
     "os.execve = lambda path, words, env: keep(path, [w for i, w in enumerate(words) "
     "if '--seccomp' not in (w, words[i - 1])], env)"),
    ("limits", "RLIMIT_NOFILE", "shepherd._limit = lambda *_: None"),
    ("limits", "is not in the control group", "shepherd.Group.take = lambda *_: None"),
    ("mounts", "does not show /proc/", "from passbox.backends.runtimes import linux; "
     "linux.mask = lambda targets: None"),
    ("user", "runs as user 5", "os.setresuid = lambda *_, s=os.setresuid: s(5, 5, 5)"),
    ("user", "is in the groups", "os.setgroups = lambda _, s=os.setgroups: s([6])"),
]  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a job a user and limits of its own")
@pytest.mark.parametrize(("name", "found", "line"), DONE)
def test_the_shepherd_does_less_than_was_asked(runtime, done, tmp_path, name, found, line):
    if name == "limits" and runtime.check().isolation is not Isolation.SEALED:
        pytest.skip("no control groups here")
    done(line)
    error = launch(BubblewrapRuntime(), tmp_path)  # its shepherds come from a process of its own
    assert name in error.properties
    assert found in error.detail


@pytest.mark.parametrize(
    ("file", "slack"), [("memory", (1 << 40, 66, 2.0)), ("pids", (256 << 20, 9999, 2.0)),
                        ("cpu", (256 << 20, 66, 64.0))],
)  # fmt: skip
def test_a_control_group_that_holds_to_less(runtime, monkeypatch, tmp_path, file, slack):
    if runtime.check().isolation is not Isolation.SEALED:
        pytest.skip("no control groups here")
    monkeypatch.setattr(Group, "limit", lambda self, *_, limit=Group.limit: limit(self, *slack))
    error = launch(runtime, tmp_path)
    assert error.properties == ("limits",)
    assert f"is not held to {file}" in error.detail


def nothing(network):
    """What a process without any grant may have."""
    return attest.Granted(
        service=attest.namespaces(), network=network, uid=0, gid=0, shown={}, writable={}, rlimits={},
        group=Group({}), limits=(1, 1, 1.0),
    )  # fmt: skip


def test_a_process_that_is_not_sealed_at_all():
    found = attest.violations(os.getpid(), nothing(None))
    names = {name for name, _ in found}
    assert {"namespaces", "user", "mounts"} <= names
    sentences = [sentence for _, sentence in found]
    for kind in attest.NAMESPACES:
        assert f"shares the {kind} namespace of the service" in sentences
    interfaces = {place.name for place in Path("/sys/class/net").iterdir()}
    assert ("network" in names) == bool(interfaces - {"lo"})


def test_a_network_of_somebody_else(runtime, tmp_path):
    bench = Bench(runtime, tmp_path)
    sandbox = bench.start("import time; print('runs', flush=True); time.sleep(60)")
    bench.said("runs")
    inside = _processes(sandbox)
    assert ("namespaces", "is in another network than the one of its job") in attest.violations(
        inside, nothing(1)
    )
    sandbox.kill()


def _processes(sandbox) -> int:
    for _ in poll("nobody is inside"):
        children = Path(f"/proc/{sandbox._process.pid}/task/{sandbox._process.pid}/children").read_text()
        if children.split():
            return int(children.split()[0])
    raise AssertionError


def test_members_are_told_which_property_and_no_path(runtime, told, tmp_path):
    told(also("--ro-bind", "/usr", "/mnt"))
    room = Room(tmp_path, runtime)
    room.program(train=TRAIN)
    with pytest.raises(JobFailed) as caught:
        room.run(room.training())
    room.close()
    assert caught.value.code == "SANDBOX_VIOLATION"
    assert "not sealed (mounts)" in caught.value.message
    assert "/mnt" not in caught.value.message
    assert "/mnt" in caught.value.detail
