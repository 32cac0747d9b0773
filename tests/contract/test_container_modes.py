"""File, FastFile and Pipe, shares of channels, and several instances, seen by programs under them."""

import json
import os
import signal
import tarfile
import threading
import time
from pathlib import Path

import pytest

from lib.container import Room, log, said
from lib.runtime import poll
from passbox.backends.runtimes.base import Isolation
from passbox.backends.runtimes.bubblewrap import BubblewrapRuntime
from passbox.jobs.pipes import Pipes
from passbox.jobs.trained_model import HostFailed

PARTS = {f"part-{number:05d}.csv": f"x,y\n{number},{number * number}\n" for number in range(5)}

# the model is a sum over what was read, so every byte counts
LEARN = """
import glob, hashlib, json, os
mode = json.load(open("/opt/ml/input/config/inputdataconfig.json"))["train"]["TrainingInputMode"]
place = os.environ["SM_CHANNEL_TRAIN"]
digest = hashlib.sha256()
for epoch in range(3):
    names = [f"{place}_{epoch}"] if mode == "Pipe" else sorted(glob.glob(place + "/*"))
    for name in names:
        with open(name, "rb") as file:
            while chunk := file.read(65536):
                digest.update(chunk)
with open(os.environ["SM_MODEL_DIR"] + "/weights", "w") as file:
    file.write(digest.hexdigest())
"""


@pytest.fixture(scope="module")
def runtime():
    made = BubblewrapRuntime()
    if made.check().isolation is Isolation.NONE:
        pytest.skip("this machine cannot seal")
    return made


@pytest.fixture
def room(runtime, tmp_path):
    made = Room(tmp_path, runtime)
    yield made
    made.close()


# -- modes ---------------------------------------------------------------------------------------------------


def test_the_same_model_by_every_mode(room):
    large = {**PARTS, "part-00005.csv": "x,y\n" + "7,49\n" * 500_000}
    channel = room.channel(files=large)
    room.program(train=LEARN)
    kept = {}
    for mode in ("File", "FastFile", "Pipe"):
        result = room.run(room.training({"train": channel}, trainingInputMode=mode))
        assert result.failure is None, log(result)
        kept[mode] = (result.kept / "model.tar.gz").read_bytes()
    assert kept["File"] == kept["FastFile"] == kept["Pipe"]


def test_what_a_pipe_looks_like(room):
    channel = room.channel(files={"part-00001.csv": "b\n", "part-00000.csv": "a\n"})
    base = room.trained(channels={"train": channel})
    room.program(
        train="""
        import json, os, stat
        data = "/opt/ml/input/data"
        first = sorted(os.listdir(data))
        is_pipe = stat.S_ISFIFO(os.stat(data + "/train_0").st_mode)
        with open(data + "/train_0") as file: text = file.read()
        with open(data + "/train_1") as file: again = file.read()
        try: open(data + "/train_0")
        except FileNotFoundError: gone = True
        config = json.load(open("/opt/ml/input/config/inputdataconfig.json"))
        base = os.path.getsize(data + "/base/model.tar.gz")
        print(json.dumps([first, is_pipe, text, text == again, gone, base > 0, config]))
        """
    )
    start = [{"channelName": "base", "trainedFrom": base.id}]
    body = {"trainingInputMode": "Pipe", "incrementalTrainingDataChannels": start}
    result = room.run(room.training({"train": channel}, **body))
    assert result.failure is None, log(result)
    first, is_pipe, text, same, gone, has_base, config = said(result)
    assert {"train_0", "base"} <= set(first)
    assert "train" not in first
    assert (is_pipe, text, same, gone, has_base) == (True, "a\nb\n", True, True, True)
    assert {name: one["TrainingInputMode"] for name, one in config.items()} == {
        "train": "Pipe",
        "base": "File",
    }


READERS = {
    "never opens": "pass",
    "closes early": "open(p + '_0', 'rb').read(10)",
    "stops reading": "kept = open(p + '_0', 'rb'); kept.read(1)",
    "opens and closes": "[os.close(os.open(p + '_' + str(n), os.O_RDONLY)) for n in range(20)]",
    "opens to write": "kept = os.open(p + '_0', os.O_RDWR); os.read(kept, 1)",
    "opens without waiting": "kept = os.open(p + '_0', os.O_RDONLY | os.O_NONBLOCK)",
    "dies in the middle": "open(p + '_0', 'rb').read(10); os.kill(os.getpid(), 9)",
    "tries to replace it": """
for act in (lambda: os.unlink(p + '_0'), lambda: os.mkfifo(p + '_9'), lambda: os.chmod(p + '_0', 0)):
    try: act()
    except OSError: continue
    raise SystemExit(1)
""",
}


@pytest.mark.parametrize("reader", list(READERS))
def test_no_reader_holds_up_the_service(room, reader):
    code = f"import os\np = os.environ['SM_CHANNEL_TRAIN']\n{READERS[reader]}"
    room.program(train=code)
    channel = room.channel(files={"part-00000.csv": "x" * (8 << 20)})
    row = room.training({"train": channel}, trainingInputMode="Pipe")
    before, began = threading.active_count(), time.monotonic()
    result = room.run(row)
    assert (result.failure is None) == (reader != "dies in the middle"), log(result)
    assert time.monotonic() - began < 20
    assert threading.active_count() == before


def test_one_that_waits_for_a_pipe_for_ever_is_ended_by_its_stopping_condition(room):
    room.program(train="import os; os.mkfifo('/tmp/mine'); open('/tmp/mine')")
    stop = {"maxRuntimeInSeconds": 1}
    result = room.run(room.training(trainingInputMode="Pipe", stoppingCondition=stop))
    assert result.failure[0] == "MAX_RUNTIME_EXCEEDED"


def test_a_file_that_cannot_be_read_is_not_a_short_channel(tmp_path):
    good = tmp_path / "good"
    good.write_text("a")
    (tmp_path / "pipes").mkdir()
    with pytest.raises(FileNotFoundError), Pipes(tmp_path / "pipes", {"t": [good, tmp_path / "gone"]}):
        assert (tmp_path / "pipes/t_0").read_text() == "a"


# -- shares and instances ------------------------------------------------------------------------------------

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
    with socket_listener() as (address, port):
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


def socket_listener():
    import contextlib
    import socket

    @contextlib.contextmanager
    def made():
        with socket.create_server(("0.0.0.0", 0)) as listener:
            yield socket.gethostbyname(socket.gethostname()), listener.getsockname()[1]

    return made()


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
        from passbox.jobs import trained_model

        plan = trained_model.plan(tx, row, room.tools)
    assert plan.container.instance.memory_bytes == room.tools.machine.memory_bytes // 2
    assert plan.container.instance.cpus == room.tools.machine.cpus / 2


def test_a_host_that_fails_is_no_failure_of_the_algorithm(room):
    room.program(train="import time; print('runs', flush=True); time.sleep(60)")
    row = room.training()
    caught = []

    def run():
        try:
            room.run(row)
        except HostFailed as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    for _ in poll("no shepherd"):
        if any(path.read_text() == "runs\n" for path in room.tools.scratch.glob("*/log")):
            break
    for process in Path("/proc").glob("[0-9]*"):
        try:
            ours = f"PPid:\t{os.getpid()}\n" in (process / "status").read_text()
            if ours and b"shepherd" in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:
            continue
    thread.join(20)
    assert len(caught) == 1


def _instances(count):
    return {"instanceType": "ml.m5.large", "volumeSizeInGB": 1, "instanceCount": count}
