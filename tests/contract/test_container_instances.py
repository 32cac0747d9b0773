"""Shares of channels, and several instances, seen by programs under them, on every runtime that seals."""

import json
import os
import signal
import socket
import tarfile
import threading
import time
from pathlib import Path

import pytest

from lib.container import Room, log
from lib.runtime import poll
from passbox.jobs import trained_model
from passbox.jobs.container import HostFailed

PARTS = {f"part-{number:05d}.csv": f"x,y\n{number},{number * number}\n" for number in range(5)}


@pytest.fixture(scope="module", params=["bubblewrap", "docker", "podman"])
def runtime(request, runtimes):
    return runtimes(request.param)


@pytest.fixture
def room(runtime, tmp_path):
    made = Room(tmp_path, runtime)
    yield made
    made.close()


TOGETHER = """
import json, os, socket, threading, urllib.request
me = os.environ["SM_CURRENT_HOST"]
hosts = json.loads(os.environ["SM_HOSTS"])
config = json.load(open("/opt/ml/input/config/resourceconfig.json"))
assert config["current_host"] == me == socket.gethostname(), config
assert config["hosts"] == hosts
files = sorted(os.listdir(os.environ["SM_CHANNEL_TRAIN"]))
replicated = sorted(os.listdir(os.environ["SM_CHANNEL_ALL"]))
if me == hosts[0]:
    listener = socket.create_server((me, 2222))
    shares = {me: files}
    while len(shares) < len(hosts):
        stream = listener.accept()[0].makefile("rw")
        name, theirs = json.loads(stream.readline())
        shares[name] = theirs
        stream.write("ok\\n"); stream.flush()
    open("/opt/ml/model/shares", "w").write(json.dumps([shares, len(replicated)]))
else:
    while True:
        try: stream = socket.create_connection((hosts[0], 2222))
        except ConnectionRefusedError: continue
        break
    stream = stream.makefile("rw")
    stream.write(json.dumps([me, files]) + "\\n"); stream.flush()
    stream.readline()
open("/opt/ml/model/" + me, "w").write(me)
open("/opt/ml/model/same", "w").write(me)
os.mkdir("/opt/ml/output/data/logs")
open("/opt/ml/output/data/logs/" + me, "w").write(me)
print("ended", me)
"""


@pytest.mark.parametrize("count", [2, 5])
def test_instances_reach_each_other_and_share_the_files(room, count):
    room.program(train=TOGETHER)
    channels = {"train": room.channel("c1", PARTS), "all": room.channel("c2", PARTS)}
    row = room.training(channels, resourceConfig=_instances(count))
    row.body["dataChannels"][0]["s3DataDistributionType"] = "ShardedByS3Key"
    result = room.run(row)
    assert result.failure is None, log(result)
    with tarfile.open(result.kept / "model.tar.gz") as tar:
        shares, replicated = json.load(tar.extractfile("shares"))
        assert tar.extractfile("same").read() == b"algo-1"
        hosts = [f"algo-{number}" for number in range(1, count + 1)]
        assert sorted(tar.getnames()) == sorted([*hosts, "same", "shares"])
    with tarfile.open(result.kept / "output.tar.gz") as tar:
        assert sorted(tar.getnames()) == ["logs", *(f"logs/{host}" for host in hosts)]
    assert sorted(name for files in shares.values() for name in files) == sorted(PARTS)
    assert {len(files) for files in shares.values()} <= {len(PARTS) // count, -(-len(PARTS) // count)}
    assert replicated == len(PARTS)
    assert log(result) == "".join(f"ended {host}\n" for host in hosts)
    assert result.fields["isolation"] == "sealed"


def test_pipes_are_shared_out_as_well(room):
    room.program(
        train="""
        import os
        with open(os.environ["SM_CHANNEL_TRAIN"] + "_0") as file: text = file.read()
        open("/opt/ml/model/" + os.environ["SM_CURRENT_HOST"], "w").write(text)
        """
    )
    channel = room.channel(files={f"part-{n}": f"{n}" for n in range(4)})
    body = {"resourceConfig": _instances(2), "trainingInputMode": "Pipe"}
    row = room.training({"train": channel}, **body)
    row.body["dataChannels"][0]["s3DataDistributionType"] = "ShardedByS3Key"
    result = room.run(row)
    assert result.failure is None, log(result)
    with tarfile.open(result.kept / "model.tar.gz") as tar:
        assert tar.extractfile("algo-1").read() == b"02"
        assert tar.extractfile("algo-2").read() == b"13"


def test_nothing_but_the_other_instances_is_reachable(room):
    with socket.create_server(("0.0.0.0", 0)) as listener:
        address, port = socket.gethostbyname(socket.gethostname()), listener.getsockname()[1]
        room.program(
            train=f"""
            import os, socket
            names = sorted(name for _, name in socket.if_nameindex())
            assert names == ["lo"], names
            for place in (("127.0.0.1", {port}), ({address!r}, {port}), ("192.0.2.1", 80)):
                try: socket.create_connection(place, 1)
                except OSError: continue
                raise SystemExit(f"reached {{place}}")
            """
        )
        result = room.run(room.training(resourceConfig=_instances(2)))
    assert result.failure is None, log(result)


def test_one_instance_that_fails_ends_the_others_and_tells_why(room):
    room.policies |= {
        "trainedModels": {"containerLogs": [{"allowedAccountIds": ["1" * 12, "2" * 12, "3" * 12]}]}
    }
    room.program(
        train="""
        import os, time
        if os.environ["SM_CURRENT_HOST"] == "algo-2":
            open("/opt/ml/output/failure", "w").write("the second gave up")
            raise SystemExit(4)
        time.sleep(60)
        """
    )
    began = time.monotonic()
    result = room.run(room.training(resourceConfig=_instances(2)))
    assert result.failure == ("AlgorithmError", "the second gave up")
    assert time.monotonic() - began < 20


def test_an_instance_has_its_part_of_the_machine(room):
    room.program(train="import os; print(os.environ['SM_NUM_CPUS'])")
    row = room.training(resourceConfig=_instances(2))
    with room.database.read() as tx:
        plan = trained_model.plan(tx, row, room.tools)
    assert plan.container.instance.memory_bytes == room.tools.machine.memory_bytes // 2
    assert plan.container.instance.cpus == room.tools.machine.cpus / 2


def _children(parent):
    tasks = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(child) for children in tasks for child in children.read_text().split()]


@pytest.mark.parametrize("count", [1, 2])
def test_a_host_that_fails_is_no_failure_of_the_algorithm(room, count):
    room.program(train="import time; print('runs', flush=True); time.sleep(60)")
    row = room.training(resourceConfig=_instances(count))
    caught = []

    def run():
        try:
            room.run(row)
        except HostFailed as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    for _ in poll("no shepherd"):
        if [path.read_text() for path in room.tools.scratch.glob("*/log*")] == ["runs\n"] * count:
            break
    for child in _children(os.getpid()):
        command = Path(f"/proc/{child}/cmdline").read_bytes()
        for one in [child] if b"steward" in command else _children(child) if b"shepherd" in command else []:
            os.kill(one, signal.SIGKILL)
    thread.join(20)
    assert len(caught) == 1


def _instances(count):
    return {"instanceType": "ml.m5.large", "volumeSizeInGB": 1, "instanceCount": count}
