"""The training contract, seen by programs that run under it for real."""

import json
import tarfile

import pytest

from lib.container import OWNER, RECEIVER, RUNNER, TRAIN, Room, log, said
from passbox.backends.runtimes.base import Isolation
from passbox.backends.runtimes.bubblewrap import BubblewrapRuntime
from passbox.disclosure.messages import WITHHELD
from passbox.errors import JobFailed
from passbox.ledger import prices
from passbox.ledger.prices import MODEL_TRAINING

LOOK = """
    import json, os, sys
    seen = {"variables": dict(os.environ), "files": {}, "arguments": sys.argv[1:], "directory": os.getcwd()}
    for folder, _, files in os.walk("/opt/ml"):
        for name in files:
            path = os.path.join(folder, name)
            seen["files"][path] = open(path, "rb").read().decode("utf-8", "replace")
    print(json.dumps(seen))
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


def test_what_a_container_sees(room):
    room.program(train=LOOK)
    channels = {"train": room.channel("c1"), "more-data": room.channel("c2", {"part-00000.csv": "x\n1\n"})}
    body = {
        "hyperparameters": {"depth": "3", "label": "late"},
        "environment": {"MINE": "yes", "SM_MODEL_DIR": "/elsewhere", "LANG": "C.UTF-8"},
    }
    row = room.training(channels, **body)
    seen = said(room.run(row))
    files, variables = seen["files"], seen["variables"]
    assert files["/opt/ml/input/data/train/part-00000.csv"].startswith("id,name\n1,")
    assert files["/opt/ml/input/data/more-data/part-00000.csv"] == "x\n1\n"
    assert json.loads(files["/opt/ml/input/config/hyperparameters.json"]) == body["hyperparameters"]
    resources = json.loads(files["/opt/ml/input/config/resourceconfig.json"])
    assert (resources["current_host"], resources["hosts"]) == ("algo-1", ["algo-1"])
    assert resources["network_interface_name"] == "lo"
    assert json.loads(files["/opt/ml/input/config/inputdataconfig.json"])["train"] == {
        "TrainingInputMode": "File",
        "S3DistributionType": "FullyReplicated",
        "RecordWrapperType": "None",
        "ContentType": "text/csv",
    }
    assert "/opt/ml/code/train" in files  # where the toolkit looks for scripts
    assert len(files) == 6
    expected = {
        "SM_MODEL_DIR": "/opt/ml/model",
        "SM_OUTPUT_DIR": "/opt/ml/output",
        "SM_OUTPUT_DATA_DIR": "/opt/ml/output/data",
        "SM_CHANNEL_TRAIN": "/opt/ml/input/data/train",
        "SM_CHANNEL_MORE-DATA": "/opt/ml/input/data/more-data",
        "SM_CHANNELS": '["more-data", "train"]',
        "FILE_FORMAT": "csv",
        "TRAINING_JOB_NAME": "late arrivals",
        "TRAINING_JOB_ARN": row.arn,
        "MINE": "yes",
        "LANG": "C.UTF-8",
    }
    assert {name: variables.get(name) for name in expected} == expected
    assert json.loads(variables["SM_HPS"]) == body["hyperparameters"]
    assert variables["PATH"].startswith("/opt/program:")
    assert not [name for name in variables if name.startswith("PASSBOX")]
    assert seen["directory"] == "/opt/program"


def test_entrypoint_and_arguments_take_the_place_of_train(room):
    room.program(train="raise SystemExit(1)", other=LOOK)
    room.algorithm(entrypoint=["other"], arguments=["--fast", "two words"])
    assert said(room.run(room.training()))["arguments"] == ["--fast", "two words"]


def test_without_an_entrypoint_the_argument_is_train_s_own(room):
    room.program(train=LOOK)
    room.algorithm(arguments=["--fast"])
    assert said(room.run(room.training()))["arguments"] == ["--fast"]


def test_the_first_channel_is_the_one_to_train_on_and_its_format_counts(room):
    room.program(train=LOOK)
    channel = room.channel(files={"part-00000.parquet": "PAR1"}, format="PARQUET")
    variables = said(room.run(room.training({"rows": channel})))["variables"]
    assert variables["SM_CHANNEL_TRAIN"] == variables["SM_CHANNEL_ROWS"] == "/opt/ml/input/data/rows"
    assert variables["FILE_FORMAT"] == "parquet"


def test_metrics_and_usage_while_it_runs(room):
    room.policies |= {"trainedModels": {"containerMetrics": {"noiseLevel": "NONE"}}}
    room.program(
        train="""
        import time
        end = time.monotonic() + 1.5
        print("auc=0.9", flush=True)
        while time.monotonic() < end:
            pass
        print("auc=0.95", flush=True)
        """
    )
    room.algorithm(metricDefinitions=[{"name": "auc", "regex": "auc=([0-9.]+)"}])
    row = room.training()
    assert room.run(row).failure is None
    [first, *_, last] = room.published[f"{row.id}.metrics.jsonl"]
    assert [json.loads(line) for line in first.splitlines()] == [{"name": "auc", "value": 0.9, "line": 1}]
    assert [json.loads(line)["value"] for line in last.splitlines()] == [0.9, 0.95]
    [line] = room.published[f"{row.id}.system.jsonl"][-1].splitlines()
    told = json.loads(line)
    assert told["instance"] == 1
    assert 0 <= told["cpuPercent"] <= 100
    assert told["memoryMiB"].bit_count() == 1


def test_a_finished_training(room):
    room.policies |= {
        "trainedModels": {
            "containerLogs": [{"allowedAccountIds": [RUNNER]}],
            "containerMetrics": {"noiseLevel": "NONE"},
        }
    }
    room.program(
        train="""
        import os
        open("/opt/ml/model/weights", "w").write("42")
        open("/opt/ml/output/data/report", "w").write("fine")
        open("/opt/ml/output/neither", "w").write("not delivered")
        print("auc=0.9")
        """
    )
    definitions = [{"name": "auc", "regex": "auc=([0-9.]+)"}]
    room.algorithm(metricDefinitions=definitions)
    row = room.training()
    result = room.run(row)
    assert result.failure is None
    assert sorted(path.name for path in result.kept.iterdir()) == ["model.tar.gz", "output.tar.gz"]
    for archive, names in (("model", ["weights"]), ("output", ["report"])):
        with tarfile.open(result.kept / f"{archive}.tar.gz") as tar:
            assert tar.getnames() == names
    assert result.measured == {MODEL_TRAINING: 3 * prices.MILLI}
    assert result.fields["trainingContainerImageDigest"].startswith("sha256:")
    assert result.fields["isolation"] == "sealed"
    assert result.fields["scaled"] == (
        "ml.m5.large has 2 vCPUs and 8 GiB of memory; a job may have 2 and 0.5 GiB here."
    )
    assert result.fields["usage"]["records"] == 3
    assert 0 < result.fields["usage"]["seconds"] < 30
    assert result.output.group == "TrainedModels"
    assert (result.output.stream, result.output.noise) == (row.id, "NONE")
    assert result.output.policies[0]["allowedAccountIds"] == [RUNNER]
    assert list(result.output.metrics) == definitions
    assert log(result) == "auc=0.9\n"
    # nothing of the container's own making is left where the service would walk through it
    assert sorted(path.name for path in result.kept.parent.iterdir()) == ["config", "kept", "log"]
    assert room.progress == ["starting the container", "training", "packing the artifacts"]


def test_a_version_is_trained_from_the_files_of_another(room):
    base = room.trained()
    room.program(
        train="""
        import json, os, tarfile
        print(json.load(open("/opt/ml/input/config/inputdataconfig.json"))["base"]["ContentType"])
        with tarfile.open(os.environ["SM_CHANNEL_BASE"] + "/model.tar.gz") as tar:
            print(json.dumps(tar.extractfile("weights").read().decode()))
        """
    )
    start = [{"channelName": "base", "trainedFrom": base.id}]
    result = room.run(room.training({"train": "arn:channel"}, incrementalTrainingDataChannels=start))
    assert result.failure is None, log(result)
    assert log(result) == 'application/x-sagemaker-model\n"42"\n'


def test_channels_cannot_be_written(room):
    room.program(train='open("/opt/ml/input/data/train/more.csv", "w")')
    result = room.run(room.training())
    assert result.failure[0] == "AlgorithmError"
    assert "Read-only file system" in log(result)


# -- failures -----------------------------------------------------------------------------------------------

FAIL = """
    open("/opt/ml/output/failure", "w").write("no column late_by\\nrow 7 is bad" + "x" * 2000)
    raise SystemExit(3)
"""


def failing(room, policies):
    room.policies |= {"trainedModels": {"containerLogs": policies}}
    room.program(train=FAIL)
    result = room.run(room.training())
    assert result.kept is None
    return result


def test_failure_words_stay_in_the_room_without_a_policy(room):
    result = failing(room, [])
    assert result.failure == ("AlgorithmError", f"The container ended with exit status 3. {WITHHELD}")


def test_failure_words_are_told_where_every_member_reads_the_log(room):
    result = failing(room, [{"allowedAccountIds": [OWNER, RUNNER, RECEIVER]}])
    code, message = result.failure
    assert (code, len(message)) == ("AlgorithmError", 1024)
    assert message.startswith("no column late_by\nrow 7 is badxxx")


def test_failure_words_are_filtered_as_the_log_is(room):
    result = failing(room, [{"allowedAccountIds": [OWNER, RUNNER, RECEIVER], "filterPattern": "^no column"}])
    assert result.failure[1] == "no column late_by"


def test_failure_words_go_to_the_log_which_the_policies_guard(room):
    result = failing(room, [{"allowedAccountIds": [RUNNER]}])
    assert WITHHELD in result.failure[1]
    assert log(result).startswith("\nno column late_by\nrow 7 is bad")


@pytest.mark.parametrize("trick", ["os.symlink('/etc/passwd', path)", "os.mkfifo(path)", "os.mkdir(path)"])
def test_a_failure_file_that_is_none(room, trick):
    room.policies |= {"trainedModels": {"containerLogs": [{"allowedAccountIds": [OWNER, RUNNER, RECEIVER]}]}}
    room.program(train=f"import os\npath = '/opt/ml/output/failure'\n{trick}\nraise SystemExit(9)")
    assert room.run(room.training()).failure == ("AlgorithmError", "The container ended with exit status 9.")


def test_no_train_program(room):
    room.program(serve="pass")
    code, message = room.run(room.training()).failure
    assert code == "AlgorithmError"
    assert "exit status 127" in message
    assert "not in the image" in message


def test_a_signal(room):
    room.program(train="import os; os.kill(os.getpid(), 11)")
    assert room.run(room.training()).failure == (
        "AlgorithmError",
        "The container ended with exit status 139.",
    )


def test_stopping_condition(room):
    room.program(train="import time; time.sleep(60)")
    code, message = room.run(room.training(stoppingCondition={"maxRuntimeInSeconds": 1})).failure
    assert code == "MAX_RUNTIME_EXCEEDED"
    assert "1 seconds" in message


def test_out_of_memory_names_the_numbers(room):
    room.program(train="x = bytearray(900 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1")
    code, message = room.run(room.training()).failure
    assert code == "OUT_OF_MEMORY"
    assert "0.5 GiB" in message
    assert "ml.m5.large" in message


def test_artifacts_larger_than_allowed(room):
    room.policies |= {"trainedModels": {"maxArtifactSize": {"unit": "GB", "value": 0.01}}}
    room.program(
        train="""
        open("/opt/ml/model/a", "wb").write(bytes(6_000_000))
        open("/opt/ml/output/data/b", "wb").write(bytes(6_000_000))
        """
    )
    code, message = room.run(room.training()).failure
    assert code == "MAX_ARTIFACT_SIZE_EXCEEDED"
    assert "10.00 MB" in message


@pytest.mark.parametrize(
    "trick",
    [
        "os.symlink('/etc/passwd', path)",
        "os.mkfifo(path)",
        "open(path + '1', 'w'); os.link(path + '1', path)",
        "os.mkdir(path); os.symlink('..', path + '/up'); os.chmod(path, 0)",
    ],
)
@pytest.mark.parametrize("place", ["/opt/ml/model", "/opt/ml/output/data"])
def test_artifacts_that_trick(room, trick, place):
    room.program(train=f"import os\npath = '{place}/x'\n{trick}")
    result = room.run(room.training())
    assert result.failure is not None
    assert result.failure[0] == "FORBIDDEN_ARTIFACT"
    assert not (result.output.log.parent / "model").exists()
    assert not (result.output.log.parent / "data").exists()


@pytest.mark.parametrize("volume", [1, 1000])
@pytest.mark.parametrize("place", ["/opt/ml/model", "/opt/ml/output/data", "/opt/ml/output"])
def test_directories_deeper_than_any_walk(room, place, volume):
    resources = {"instanceType": "ml.m5.large", "volumeSizeInGB": volume}
    room.program(
        train=f"""
        import os
        os.chdir({place!r})
        for _ in range(1500):
            os.mkdir("d"); os.chdir("d")
        open("x", "w").write("x")
        """
    )
    result = room.run(room.training(resourceConfig=resources))
    assert place == "/opt/ml/output" or result.failure is not None
    assert not (result.output.log.parent / "model").exists()
    assert not (result.output.log.parent / "data").exists()


# -- what must still stand ----------------------------------------------------------------------------------


def leave(room, account):
    room.change("member", f"room/{account}", status="LEFT")


@pytest.mark.parametrize(
    ("happened", "code"),
    [
        (lambda room: leave(room, OWNER), "INVALID_RESOURCE"),
        (lambda room: leave(room, RUNNER), "INVALID_RESOURCE"),
        (lambda room: room.change("ml_input_channel", "channel", status="INACTIVE"), "INVALID_RESOURCE"),
    ],
)
def test_what_was_submitted_no_longer_stands(room, happened, code):
    room.program(train=TRAIN)
    row = room.training()
    happened(room)
    with pytest.raises(JobFailed) as caught:
        room.run(row)
    assert caught.value.code == code


@pytest.mark.parametrize("type", ["ml.g5.xlarge", "ml.p4d.24xlarge", "ml.trn1.2xlarge"])
def test_accelerators_are_refused_by_name(room, type):
    room.program(train=TRAIN)
    row = room.training(resourceConfig={"instanceType": type, "volumeSizeInGB": 1})
    with pytest.raises(JobFailed, match=type):
        room.run(row)


@pytest.mark.parametrize("name", [".", ".."])
def test_a_channel_that_would_be_another_directory(room, name):
    room.program(train=TRAIN)
    row = room.training({name: room.channel()})
    with pytest.raises(JobFailed):
        room.run(row)


def test_a_zero_byte_is_no_crash(room):
    room.program(train=TRAIN)
    row = room.training(environment={"A": "b\0c"})
    with pytest.raises(JobFailed) as caught:
        room.run(row)
    assert caught.value.code == "INVALID_ARGUMENT"


def test_large_hyperparameters_are_in_the_file_at_least(room):
    room.program(train=LOOK)
    many = {f"name{number}": "v" * 2000 for number in range(100)}
    seen = said(room.run(room.training(hyperparameters=many)))
    assert "SM_HPS" not in seen["variables"]
    assert json.loads(seen["files"]["/opt/ml/input/config/hyperparameters.json"]) == many
