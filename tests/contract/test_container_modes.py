"""File, FastFile and Pipe, seen by programs under them."""

import threading
import time

import pytest

from lib.container import Room, log, said
from passbox.backends.runtimes.base import Isolation
from passbox.backends.runtimes.bubblewrap import BubblewrapRuntime
from passbox.jobs.pipes import Pipes

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
