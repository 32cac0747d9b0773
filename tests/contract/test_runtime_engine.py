"""What is the engines' own: an engine that gives more than it was asked for is found out before the program
begins, what a crash leaves is swept, jobs run on it from end to end, and what is missing is said."""

import gc
import os
import subprocess
import warnings
from pathlib import Path

import pytest

from lib.container import Room, log
from lib.runtime import Bench, poll
from passbox.backends.runtimes import docker as engines
from passbox.backends.runtimes.base import Isolation, Unsealed
from passbox.backends.runtimes.docker import DockerRuntime
from passbox.errors import Misconfigured

CHANNEL, MODEL = "/opt/ml/input/data/train", "/opt/ml/model"
PROGRAM = "open('/opt/ml/model/ran', 'w').write(open('/opt/ml/input/data/train/rows').read())"


@pytest.fixture(scope="module", params=["docker", "podman"])
def runtime(request, runtimes):
    return runtimes(request.param)


@pytest.fixture
def asked(runtime, monkeypatch):
    """Changes what the engine is asked for, as an engine would that does not do as it is told."""

    def change(host, container):
        engine = runtime._engine
        config, create = engine.create_host_config, engine.create_container

        def create_host_config(**given):
            made = config(**given)
            host(made, runtime.name)
            return made

        monkeypatch.setattr(engine, "create_host_config", create_host_config)
        monkeypatch.setattr(engine, "create_container", lambda **given: create(**{**given, **container}))

    return change


def without_filter(host, name):
    host["SecurityOpt"] = [one for one in host["SecurityOpt"] if not one.startswith("seccomp=")]
    host["SecurityOpt"].append("seccomp=unconfined")


def another_file(host, name):
    [mount] = [one for one in host["Mounts"] if one["Target"] == CHANNEL]
    mount["Source"] = "/etc"


def wide(name):
    def edit(host, _):
        [one] = [one for one in host["Ulimits"] if one["Name"] == name]
        one["Soft"] = one["Hard"] = 8192

    return edit


TOO_MUCH = {
    "the host's network": ("namespaces", lambda host, _: host.update(NetworkMode="host")),
    "the host's processes": ("namespaces", lambda host, _: host.update(PidMode="host")),
    "the host's shared memory": ("namespaces", lambda host, _: host.update(IpcMode="host")),
    "capabilities": ("capabilities", lambda host, _: host.update(CapDrop=[], CapAdd=["NET_RAW"])),
    "a way to gain privileges": (
        "capabilities",
        lambda host, _: host["SecurityOpt"].remove("no-new-privileges"),
    ),
    "every system call": ("seccomp", without_filter),
    "more memory": ("limits", lambda host, _: host.update(Memory=1 << 30, MemorySwap=1 << 30)),
    "memory without a limit": ("limits", lambda host, _: host.update(Memory=0, MemorySwap=0)),
    "more processes": ("limits", lambda host, _: host.update(PidsLimit=5000)),
    "processors without a limit": ("limits", lambda host, _: host.update(NanoCpus=0)),
    "more open files": ("limits", wide("nofile")),
    "another file than the one that was granted": ("mounts", another_file),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_an_engine_that_gives_more_than_it_was_asked_for(runtime, asked, tmp_path, name):
    wrong, edit = TOO_MUCH[name]
    asked(edit, {})
    assert wrong in launch(runtime, tmp_path).properties


def test_an_engine_that_starts_as_root(runtime, asked, tmp_path):
    """Process 1 cannot even reach its gate then, which belongs to the job's own user."""
    asked(lambda host, _: None, {"user": "0:0"})
    launch(runtime, tmp_path, Misconfigured)


@pytest.mark.parametrize("instead", ["none", "host"])
def test_an_engine_that_puts_an_instance_into_another_network(runtime, asked, tmp_path, instead):
    network = runtime.network(("algo-1", "algo-2"))
    try:
        asked(lambda host, _: host.update(NetworkMode=instead), {})
        assert "namespaces" in launch(runtime, tmp_path, network=network).properties
    finally:
        network.close()
    nothing_left(runtime)


def launch(runtime, at, refusal=Unsealed, **changes):
    """Starts a program that would leave a trace; what was found wrong, and no trace of anything."""
    bench = Bench(runtime, at)
    out = bench.output("model", MODEL)
    with pytest.raises(refusal) as caught:
        bench.start(PROGRAM, mounts=(bench.mount("channel", CHANNEL, rows="1"),), outputs=(out,), **changes)
    assert list(out.host.iterdir()) == []
    assert bench.log.read_text() == ""
    if not changes:
        nothing_left(runtime)
    return caught.value


def nothing_left(runtime) -> None:
    ours = {"label": f"{engines._LABEL}={engines._identity(os.getpid())}"}
    for _ in poll("a container is left", 10):
        if not runtime._engine.containers(all=True, filters=ours):
            break
    assert not list(Path(engines._STAGES).glob(f"{os.getpid()}-*"))
    assert f"{engines._STAGES}/{os.getpid()}-" not in Path("/proc/self/mounts").read_text()


def test_a_program_that_ran_leaves_nothing(runtime, tmp_path):
    bench = Bench(runtime, tmp_path)
    out = bench.output("model", MODEL)
    ran = bench.run(PROGRAM, mounts=(bench.mount("channel", CHANNEL, rows="1"),), outputs=(out,))
    assert (ran.exit.status, (out.host / "ran").read_text()) == (0, "1")
    assert ran.exit.peak_memory_bytes > 1 << 20
    assert ran.exit.cpu_seconds > 0
    nothing_left(runtime)


def test_what_a_killed_service_left_is_swept(runtime, tmp_path):
    gone = subprocess.Popen(["/bin/true"])
    gone.wait()
    bench = Bench(runtime, tmp_path)
    bench.run("pass")
    engine = runtime._engine
    [skeleton, *_] = runtime._skeletons.values()
    left = engine.create_container(
        image=skeleton,
        command=["/none"],
        labels={engines._LABEL: f"{gone.pid}.1"},
        host_config=engine.create_host_config(network_mode="none"),
    )["Id"]
    stage = Path(engines._STAGES, f"{gone.pid}-{gone.pid}")
    stage.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "passbox", str(stage)], check=True)
    runtime._swept = False  # as that of a service that has just started
    bench.run("pass")
    assert left not in {one["Id"] for one in engine.containers(all=True)}
    assert not stage.exists()


def test_a_job_from_end_to_end(runtime, tmp_path):
    room = Room(tmp_path, runtime)
    try:
        model = room.trained()
        result = room.run(room.inference(model))
        assert result.failure is None, log(result)
        assert result.fields["isolation"] == "sealed"
        assert result.fields["usage"]["records"] == 3
        assert len(result.deliveries[0].files) == 1
    finally:
        room.close()


# -- what is missing -----------------------------------------------------------------------------------------


@pytest.fixture
def swept():
    """A socket that could not connect is left to the collector by the engine's client; it may have it here,
    where nothing is made of it, and not in a test to come.
    """
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("unix:///nonexistent/socket", "no container engine answers at unix:///nonexistent/socket"),
        ("tcp://127.0.0.1:1", "is no engine of this machine"),
    ],
)
def test_without_an_engine_nothing_starts_and_the_fix_is_named(address, said, tmp_path, swept):
    runtime = DockerRuntime(address)
    report = runtime.check()
    assert report.isolation is Isolation.NONE
    assert said in report.missing[0][0]
    if os.geteuid() == 0:
        with pytest.raises(Misconfigured, match=said):
            Bench(runtime, tmp_path).start("pass")


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_without_root_an_engine_is_refused(monkeypatch, tmp_path, swept):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Misconfigured, match="runs as root; use bubblewrap"):
        Bench(DockerRuntime(), tmp_path).start("pass")


def test_a_program_whose_name_env_would_take_for_a_variable(tmp_path):
    from passbox.backends.runtimes import gate

    with pytest.raises(ValueError, match="equals sign"):
        gate.command(("a=b",), {}, "/")
