"""The exam of every runtime that seals: sandboxes of one network reach each other, and nothing else."""

import subprocess
import sys
import textwrap
import uuid
from pathlib import Path

import pytest

import passbox
from lib.runtime import Bench, poll, processes_with

HOSTS = ("algo-1", "algo-2")
# what each host of a network can tell about it
LOOK = """
    import json, os, socket
    names = sorted(name for _, name in socket.if_nameindex())
    routes = open("/proc/net/route").read().splitlines()[1:]
    print(json.dumps([socket.gethostname(), names, routes, socket.gethostbyname("algo-2")]))
"""
LISTEN = """
    import socket
    listener = socket.create_server(("algo-1", 2222))
    print("listening", flush=True)
    while True:
        listener.accept()[0].sendall(b"from algo-1")
"""
CALL = """
    import socket
    try:
        print(socket.create_connection(("10.77.0.1", 2222), 5).recv(100).decode(), flush=True)
    except OSError as error:
        print(type(error).__name__)
"""


@pytest.fixture(scope="module", params=["bubblewrap", "docker", "podman"])
def runtime(request, runtimes):
    return runtimes(request.param)


@pytest.fixture
def network(runtime):
    made = runtime.network(HOSTS)
    yield made
    made.close()


@pytest.fixture
def benches(runtime, tmp_path):
    """Two, each with a log of its own."""
    places = [tmp_path / host for host in HOSTS]
    for place in places:
        place.mkdir()
    return [Bench(runtime, place) for place in places]


def test_every_host_has_its_name_and_nothing_but_loopback(benches, network):
    for bench, host in zip(benches, HOSTS, strict=True):
        ran = bench.run(LOOK, host=host, network=network)
        assert ran.log == f'["{host}", ["lo"], [], "{network.hosts["algo-2"]}"]\n'


def test_hosts_reach_each_other_also_when_the_network_was_let_go_of(runtime, benches):
    network = runtime.network(HOSTS)
    try:
        server = benches[0].start(LISTEN, host="algo-1", network=network)
        benches[0].said("listening")
        caller = benches[1].start(
            f"while True:{textwrap.indent(CALL, '    ')}", host="algo-2", network=network
        )
        benches[1].said("from algo-1")
    finally:
        network.close()
    before = benches[1].log.read_text().count("from algo-1")
    for _ in poll("they lost each other"):
        if benches[1].log.read_text().count("from algo-1") > before + 10:
            break
    assert "Error" not in benches[1].log.read_text()
    caller.kill()
    server.kill()


def test_another_network_and_one_of_its_own_are_out_of_reach(runtime, benches, network):
    server = benches[0].start(LISTEN, host="algo-1", network=network)
    benches[0].said("listening")
    assert benches[1].run(CALL, host="algo-2", network=network).log == "from algo-1\n"
    assert "Error" in benches[1].run(CALL).log
    other = runtime.network(HOSTS)
    try:
        assert "Error" in benches[1].run(CALL, host="algo-2", network=other).log
    finally:
        other.close()
    server.kill()


def test_processes_and_memory_of_another_host_are_out_of_reach(benches, network):
    mark = f"x{uuid.uuid4().hex}"
    share = "open('/dev/shm/mine', 'w').write('1'); "
    held = benches[0].start(
        f"{share}import time; print('runs', flush=True); time.sleep(60)", mark, host="algo-1", network=network
    )
    benches[0].said("runs")
    ran = benches[1].run(
        """
        import os
        lines = [open(f"/proc/{one}/cmdline").read() for one in os.listdir("/proc") if one.isdigit()]
        print(os.listdir("/dev/shm"), any("MARK" in line for line in lines))
        """.replace("MARK", mark[:20] + '" + "' + mark[20:]),
        host="algo-2",
        network=network,
    )
    assert ran.log == "[] False\n"
    held.kill()


def test_who_is_no_host_of_it_is_refused(benches, network):
    with pytest.raises(ValueError, match="algo-3"):
        benches[0].start("pass", host="algo-3", network=network)


def test_a_dead_supervisor_leaves_no_host_and_no_network(runtime, tmp_path):
    mark, address = uuid.uuid4().hex, getattr(runtime, "_address", "")
    before = _networks()
    words = [type(runtime).__module__, type(runtime).__name__, mark, *filter(None, [address])]
    with subprocess.Popen(
        [sys.executable, "-c", _SUPERVISOR, *words],
        stdout=subprocess.PIPE,
        env={"TMPDIR": str(tmp_path)},
        cwd=Path(__file__).parents[1],
    ) as supervisor:
        try:
            assert supervisor.stdout.readline() == b"started\n"
            assert _networks() - before
        finally:
            supervisor.kill()
    for _ in poll("a host or its network outlived the supervisor", 10):
        if not processes_with(mark) and not _networks() - before:
            break


def _networks():
    """The network namespaces that a process of this machine is in."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found.add((process / "ns/net").stat().st_ino)
        except OSError:
            continue
    return found


_SUPERVISOR = f"""
import importlib, sys, time
sys.path[:0] = {[str(Path(__file__).parents[1]), str(Path(passbox.__file__).parents[1])]!r}
from lib.runtime import PYTHON, ROOT
from passbox.backends.runtimes.base import Limits, SandboxSpec
runtime = getattr(importlib.import_module(sys.argv[1]), sys.argv[2])(*sys.argv[4:])
network = runtime.network({HOSTS!r})
code = "import time; time.sleep(60)"
kept = [
    runtime.start(
        SandboxSpec((*PYTHON, code, sys.argv[3]), ROOT, Limits(1 << 28, 60), host=host, network=network)
    )
    for host in network.hosts
]
print("started", flush=True)
time.sleep(60)
"""
