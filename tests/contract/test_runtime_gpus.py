"""GPUs in a sandbox: exactly the granted nodes, one owner at a time, and no trace without a grant.

There is no GPU here: the nodes are harmless character devices under a GPU's names, each with another number,
so that what is opened inside tells which it was. What runs them are the real runtimes.
"""

import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from lib.container import TRAIN, Room
from lib.runtime import Bench, poll
from passbox.backends.runtimes import gpus, layout
from passbox.backends.runtimes.base import Busy, Isolation, Root, Unsealed
from passbox.backends.runtimes.bubblewrap import BubblewrapRuntime
from passbox.backends.runtimes.gpus import Gpus, find_gpus
from passbox.backends.runtimes.unsafe import UnsafeRuntime
from passbox.errors import JobFailed, Misconfigured
from passbox.jobs.kind import NotYet

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device nodes")

# full, zero, null, random, urandom: what each says on a read or a write is its own
NODES = {"nvidia0": (1, 5), "nvidia1": (1, 7), "nvidiactl": (1, 3), "nvidia-uvm": (1, 8)}
COMMON = {"null", "zero", "full", "random", "urandom", "tty"}
LOOK = """
    import os, stat
    found = []
    for directory, _, names in os.walk("/dev"):
        for name in names:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
                found.append(path.removeprefix("/dev/"))
    print("sees", *sorted(found))
    for number in range(2):
        try:
            device = os.open(f"/dev/nvidia{number}", os.O_RDWR)
        except OSError as error:
            print(number, "refused", error.errno)
            continue
        print(number, "opened", os.major(os.fstat(device).st_rdev), os.minor(os.fstat(device).st_rdev))
"""
WAIT = "import time; print('runs', flush=True); time.sleep(60)"


def make_nodes(at: Path) -> Gpus:
    at.mkdir()
    for name, number in NODES.items():
        os.mknod(at / name, 0o20666, os.makedev(*number))
        (at / name).chmod(0o666)
    library = at / "libcuda.so.570"
    library.write_text("the driver's")
    return find_gpus(at, {"libcuda.so.1": library})


@pytest.fixture
def two(tmp_path) -> Gpus:
    if os.statvfs(tmp_path).f_flag & os.ST_NODEV:
        pytest.skip("no device can be opened in the directory for tests")
    return make_nodes(tmp_path / "dev")


@pytest.fixture
def runtime(two):
    made = BubblewrapRuntime(two)
    if made.check().isolation is Isolation.NONE:
        pytest.skip("this machine cannot seal")
    return made


def sees(log: str) -> set[str]:
    return set(log.splitlines()[0].split()[1:]) - {"pts/ptmx", "ptmx"}


def look(runtime, tmp_path) -> None:
    """What one, two and no GPU look like from inside."""
    for granted, names in ((0, set()), (1, {"nvidia0"}), (2, {"nvidia0", "nvidia1"})):
        (tmp_path / str(granted)).mkdir()
        ran = Bench(runtime, tmp_path / str(granted)).run(LOOK, gpus=granted)
        assert ran.exit.status == 0, ran.log
        assert sees(ran.log) == COMMON | names | ({"nvidiactl", "nvidia-uvm"} if granted else set())
        assert ("0 opened 1 5" in ran.log) == (granted > 0)
        assert ("1 opened 1 7" in ran.log) == (granted > 1)


def test_exactly_the_granted_nodes(runtime, tmp_path):
    assert runtime.check().gpus == 2
    look(runtime, tmp_path)
    with pytest.raises(Misconfigured, match="3 GPUs were asked for and this machine has 2"):
        Bench(runtime, tmp_path).start(LOOK, gpus=3)


@pytest.mark.parametrize("name", ["docker", "podman"])
def test_exactly_the_granted_nodes_on_an_engine(runtimes, two, tmp_path, monkeypatch, name):
    runtime = runtimes(name)
    monkeypatch.setattr(runtime, "gpus", two)
    look(runtime, tmp_path)
    bench = Bench(runtime, tmp_path)
    sandbox = bench.start(WAIT, gpus=2)
    with pytest.raises(Busy):
        runtime.start(replace(bench.spec(LOOK, gpus=1), log=None))
    os.kill(sandbox._process.pid, signal.SIGKILL)
    sandbox.wait(20)
    two.reserve(2).close()


def test_two_sandboxes_never_share(runtime, two, tmp_path):
    first = Bench(runtime, tmp_path)
    sandbox = first.start(WAIT, gpus=1)
    (tmp_path / "other").mkdir()
    other = Bench(BubblewrapRuntime(two), tmp_path / "other")  # as another service would
    ran = other.run(LOOK, gpus=1)
    assert "nvidia1" in sees(ran.log)
    assert "nvidia0" not in sees(ran.log)
    with pytest.raises(Busy, match="2 GPUs were asked for and only 1 are free"):
        other.start(LOOK, gpus=2)
    sandbox.kill()
    assert "nvidia0" in sees(other.run(LOOK, gpus=2).log)


def test_killed_shepherds_keep_nothing(runtime, two, tmp_path):
    sandbox = Bench(runtime, tmp_path).start(WAIT, gpus=2)
    os.kill(sandbox._process.pid, signal.SIGKILL)
    with pytest.raises(Busy):  # not before everything that it looked after is gone
        two.reserve(1)
    sandbox.wait(20)
    two.reserve(2).close()


def test_killed_services_keep_nothing(runtime, two, tmp_path):
    service = os.fork()
    if service == 0:
        try:
            kept = Bench(runtime, tmp_path).start(WAIT, gpus=2)
            Path(tmp_path, "started").touch()
            kept.wait()
        finally:
            os._exit(1)
    for _ in poll("the service started nothing"):
        if Path(tmp_path, "started").exists():
            break
    with pytest.raises(Busy):
        two.reserve(1)
    os.kill(service, signal.SIGKILL)
    os.waitpid(service, 0)
    for _ in poll("the GPUs were never free again"):
        try:
            two.reserve(2).close()
        except Busy:
            continue
        break


def test_an_image_gets_the_libraries_of_the_driver(runtime, two, tmp_path):
    image = tmp_path / "image"
    (image / "bin").mkdir(parents=True)
    own = {"LD_LIBRARY_PATH": "/x"}
    spec = Bench(runtime, tmp_path).spec(LOOK, gpus=1, root=Root(image=image), environment=own)
    given = two.with_libraries(spec)
    assert given.environment == {"LD_LIBRARY_PATH": f"/x:{gpus.LIBRARIES}"}
    assert [(mount.source.read_text(), mount.target) for mount in given.mounts] == [
        ("the driver's", "/usr/local/nvidia/lib64/libcuda.so.1")
    ]
    assert two.with_libraries(replace(spec, gpus=0)) == replace(spec, gpus=0)


# what is shown instead of the granted nodes, and what of it is said
WRONG = {
    "one too many": (
        lambda nodes, other: (*nodes, other("nvidia1")),
        "has the device /dev/nvidia1, which was not granted",
    ),
    "another": (
        lambda nodes, other: (other("swapped/nvidia0"), *nodes[1:]),
        "has the device /dev/nvidia0, which was not granted",
    ),
    "none": (lambda nodes, other: nodes[1:], "does not have the device /dev/nvidia0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_other_devices_than_the_granted_are_found_out(runtime, tmp_path, monkeypatch, case):
    show, said = WRONG[case]
    place, made = tmp_path / "dev", layout.lay_out
    (place / "swapped").mkdir()
    os.mknod(place / "swapped" / "nvidia0", 0o20666, os.makedev(*NODES["nvidia1"]))
    monkeypatch.setattr(
        layout, "lay_out", lambda spec, devices: made(spec, devices=show(devices, place.joinpath))
    )
    bench = Bench(runtime, tmp_path)
    with pytest.raises(Unsealed) as caught:
        bench.start("print('ran')", gpus=1)
    assert "devices" in caught.value.properties
    assert said in caught.value.detail
    assert bench.log.read_text() == ""
    runtime.gpus.reserve(2).close()


def test_a_device_without_any_grant_is_found_out(runtime, tmp_path, monkeypatch):
    place, made = tmp_path / "dev", layout.lay_out
    monkeypatch.setattr(layout, "lay_out", lambda spec, devices: made(spec, devices=(place / "nvidia1",)))
    with pytest.raises(Unsealed, match="devices"):
        Bench(runtime, tmp_path).start("print('ran')")


def test_without_a_sandbox_there_is_none(two, tmp_path):
    with pytest.raises(Misconfigured, match="GPUs"):
        Bench(UnsafeRuntime(), tmp_path).start(LOOK, gpus=1)


LDCONFIG = """3 libs found in cache `/etc/ld.so.cache'
\tlibnvidia-ml.so.1 (libc6,x86-64) => {place}/libnvidia-ml.so.570
\tlibcuda.so.1 (libc6,x86-64) => {place}/libcuda.so.1
\tlibcuda.so.1 (libc6) => {place}/32/libcuda.so.1
\tlibcuda.so (libc6,x86-64) => {place}/libcuda.so
\tlibnvidia-glcore.so.570.1 (libc6,x86-64) => {place}/libnvidia-glcore.so.570.1
\tlibcudart.so.13 (libc6,x86-64) => {place}/libcudart.so.13
\tlibnvidia-gpucomp.so.570.1 (libc6,x86-64) => {place}/libnvidia-gpucomp.so.570.1
"""


def test_the_driver_is_what_programs_that_compute_load(tmp_path):
    (tmp_path / "libcuda.so.1").symlink_to("libcuda.so.570.1")
    found = gpus._listed(LDCONFIG.format(place=tmp_path), "x86-64")
    assert {name: path.name for name, path in found.items()} == {
        "libnvidia-ml.so.1": "libnvidia-ml.so.570",
        "libcuda.so.1": "libcuda.so.570.1",
        "libnvidia-gpucomp.so.570.1": "libnvidia-gpucomp.so.570.1",
    }


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        (lambda place: (place / "nvidia-uvm").unlink(), "GPUs without .*/nvidia-uvm"),
        (lambda place: (place / "nvidia1").chmod(0o660), "jobs may not open .*/nvidia1"),
        (lambda place: None, "GPUs without libcuda.so.1"),
    ],
)
def test_gpus_that_cannot_be_used_are_none(two, tmp_path, change, missing):
    change(tmp_path / "dev")
    found = find_gpus(tmp_path / "dev", {} if "libcuda" in missing else two.libraries)
    assert found.count == 0
    assert re.match(missing, found.missing[0])
    assert found.missing[1]
    assert find_gpus(tmp_path / "absent") == Gpus()


COUNT = f"""{TRAIN}
import glob
print(os.environ["SM_NUM_GPUS"], len(glob.glob("/dev/nvidia[0-9]")), flush=True)
assert '"num_gpus": ' + os.environ["SM_NUM_GPUS"] in os.environ["SM_TRAINING_ENV"]
"""


@pytest.fixture
def room(runtime, tmp_path):
    made = Room(tmp_path, runtime)
    machine = replace(made.tools.machine, gpus=runtime.gpus.count)
    made.tools = replace(made.tools, machine=machine)
    made.program(train=COUNT)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("type", "count", "said"),
    [("ml.m5.large", 1, ["0 0"]), ("ml.g5.xlarge", 1, ["1 1"]), ("ml.g5.xlarge", 2, ["1 1", "1 1"])],
)
def test_a_training_has_the_gpus_of_its_type(room, type, count, said):
    asked = {"instanceType": type, "instanceCount": count, "volumeSizeInGB": 1}
    result = room.run(room.training(resourceConfig=asked))
    assert result.failure is None
    assert result.output.log.read_text().splitlines() == said


def test_a_training_waits_for_gpus_that_others_have(room, two):
    row = room.training(resourceConfig={"instanceType": "ml.g5.xlarge", "volumeSizeInGB": 1})
    others = two.reserve(2)
    with pytest.raises(NotYet):
        room.run(row)
    others.close()


def test_a_type_with_more_gpus_than_there_are(room):
    row = room.training(resourceConfig={"instanceType": "ml.g5.12xlarge", "volumeSizeInGB": 1})
    with pytest.raises(JobFailed, match="4 GPUs and a job may have 2 here") as refused:
        room.run(row)
    assert refused.value.code == "INSTANCE_TYPE_TOO_LARGE"
