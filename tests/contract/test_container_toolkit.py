"""The public sagemaker-training toolkit, the real one: its scripts run unchanged under the contract,
and one that was written for it runs where it is not installed.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lib import environments
from lib.container import Room, log
from passbox.backends.runtimes.base import Isolation, Root
from passbox.backends.runtimes.bubblewrap import BubblewrapRuntime
from passbox.jobs import trained_model

START = "from sagemaker_training.cli.train import main\nmain()\n"
# by the toolkit's README: hyperparameters are arguments, everything else has a variable as its default
SCRIPT = """
import argparse, json, os
parser = argparse.ArgumentParser()
parser.add_argument("--depth", type=int, default=1)
parser.add_argument("--learning-rate", type=float, default=0.5)
parser.add_argument("--model-dir", default=os.environ["SM_MODEL_DIR"])
parser.add_argument("--output-data-dir", default=os.environ["SM_OUTPUT_DATA_DIR"])
parser.add_argument("--train", default=os.environ["SM_CHANNEL_TRAIN"])
parser.add_argument("--hosts", default=json.loads(os.environ["SM_HOSTS"]))
parser.add_argument("--current-host", default=os.environ["SM_CURRENT_HOST"])
parser.add_argument("--num-gpus", type=int, default=int(os.environ["SM_NUM_GPUS"]))
args = parser.parse_args()
rows = open(os.path.join(args.train, os.listdir(args.train)[0])).read().count("\\n") - 1
with open(os.path.join(args.model_dir, "model.json"), "w") as file:
    json.dump({"rows": rows, "depth": args.depth}, file)
open(os.path.join(args.output_data_dir, "report"), "w").write("fine")
names = %(names)r
print(json.dumps({"arguments": vars(args), "variables": {n: v for n, v in os.environ.items() if n in names}}))
"""
# of what the toolkit derives, those that scripts read
NAMES = (
    "SM_MODEL_DIR", "SM_INPUT_DIR", "SM_INPUT_CONFIG_DIR", "SM_OUTPUT_DIR", "SM_OUTPUT_DATA_DIR",
    "SM_CHANNELS", "SM_CHANNEL_TRAIN", "SM_CHANNEL_TEST", "SM_HPS", "SM_HP_DEPTH", "SM_HP_LEARNING-RATE",
    "SM_HOSTS",
    "SM_CURRENT_HOST", "SM_CURRENT_INSTANCE_TYPE", "SM_CURRENT_INSTANCE_GROUP", "SM_NETWORK_INTERFACE_NAME",
    "SM_NUM_GPUS", "SM_USER_ARGS", "SM_INPUT_DATA_CONFIG", "SM_RESOURCE_CONFIG", "SM_TRAINING_ENV",
    "SM_LOG_LEVEL",
)  # fmt: skip
HYPERPARAMETERS = {"depth": "3", "learning-rate": "0.25"}


@pytest.fixture(scope="module")
def toolkit() -> Path:
    try:
        return environments.binaries("sagemaker-training").parent
    except RuntimeError as error:
        pytest.skip(f"the toolkit cannot be installed here: {error}")


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


def submitted(room, instances=1):
    channels = {"train": room.channel("c1"), "test": room.channel("c2")}
    resources = {"instanceType": "ml.m5.large", "volumeSizeInGB": 1, "instanceCount": instances}
    environment = {"SAGEMAKER_PROGRAM": "main.py"}
    return room.training(
        channels, hyperparameters=HYPERPARAMETERS, environment=environment, resourceConfig=resources
    )


def with_toolkit(room, row, toolkit):
    """Runs the job's image on a Python that has the toolkit, by its own `train` program."""
    with room.database.read() as tx:
        plan = trained_model.plan(tx, row, room.tools)
    prefixes = tuple(dict.fromkeys((toolkit, Path(sys.base_prefix))))
    path = f"{toolkit}/bin:/usr/bin:/bin"
    image = replace(plan.container.image, root=Root(prefixes=prefixes), environment={"PATH": path})
    container = replace(plan.container, image=image)
    return room.run(row, container=container, arguments=("python", "-c", START))


def outcome(result):
    """What the script said, among what the toolkit says."""
    assert result.failure is None, log(result)
    return json.loads(next(line for line in log(result).splitlines() if line.startswith('{"arguments"')))


def test_the_toolkit_itself_runs_a_script(room, toolkit):
    folder = {"main.py": SCRIPT % {"names": NAMES}}
    room.program(train="raise SystemExit('the toolkit has its own')", **folder)
    found = outcome(with_toolkit(room, submitted(room), toolkit))
    assert found["arguments"]["depth"] == 3
    assert found["arguments"]["learning_rate"] == 0.25
    assert found["arguments"]["train"] == "/opt/ml/input/data/train"
    assert found["arguments"]["hosts"] == ["algo-1"]


def test_without_the_toolkit_a_script_finds_the_same(room, toolkit):
    script = SCRIPT % {"names": NAMES}
    room.program(train="", **{"main.py": script})
    row = submitted(room)
    theirs = outcome(with_toolkit(room, row, toolkit))["variables"]
    room.program(train=script)
    ours = outcome(room.run(row))["variables"]
    assert set(ours) == set(NAMES)
    for name in NAMES:
        mine, its = _read(ours[name]), _read(theirs[name])
        if name == "SM_TRAINING_ENV":
            # the toolkit's has more; what both have is the same, but for what it reads off the machine
            assert set(mine) - set(its) == set()
            its = {field: its[field] for field in mine if field != "num_cpus"}
            mine.pop("num_cpus")
        assert _plain(mine) == _plain(its), name


def test_the_toolkit_on_two_instances(room, toolkit):
    room.program(train="", **{"main.py": SCRIPT % {"names": NAMES}})
    result = with_toolkit(room, submitted(room, 2), toolkit)
    assert result.failure is None, log(result)
    said_by = [json.loads(line) for line in log(result).splitlines() if line.startswith('{"arguments"')]
    assert [one["arguments"]["current_host"] for one in said_by] == ["algo-1", "algo-2"]


def test_a_script_that_fails_under_the_toolkit_tells_why(room, toolkit):
    accounts = ["1" * 12, "2" * 12, "3" * 12]
    room.policies |= {"trainedModels": {"containerLogs": [{"allowedAccountIds": accounts}]}}
    room.program(train="", **{"main.py": "raise ValueError('no such column')"})
    code, message = with_toolkit(room, submitted(room), toolkit).failure
    assert code == "AlgorithmError"
    assert "ExecuteUserScriptError" in message


def _read(text):
    try:
        return json.loads(text)
    except ValueError:
        return text


def _plain(value):
    """Numbers and their text alike: the toolkit reads hyperparameters as JSON."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return str(value)
