"""The main job by the real service: API, worker, engine and sandbox, on small tables and stdlib programs.

What is asked and seen goes over boto3; what was delivered is looked for where the documentation says; what it
cost is read from `passbox ledger show`.
"""

import io
import json
import tarfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lib.room import pays
from lib.service import Service, serving_home, wait
from lib.workshop import IMAGE, Workshop
from passbox.backends.images.store import ImageStore

ROWS = 300  # of visits; every third person is known, and the first hundred visits are for scoring
TRAIN = """
#!/usr/bin/env python3
import csv, glob, json, os, sys, tarfile, time
hyperparameters = json.load(open("/opt/ml/input/config/hyperparameters.json"))
print("starting", flush=True)
time.sleep(float(hyperparameters.get("seconds", "0")))
rows = []
channel = os.environ["SM_CHANNEL_TRAIN"]
for path in [channel + "_0"] if os.path.exists(channel + "_0") else glob.glob(channel + "/*.csv"):
    rows += csv.DictReader(open(path))
if "fail" in hyperparameters:
    open("/opt/ml/output/failure", "w").write("row 1: " + json.dumps(rows[0]))
    sys.exit(1)
model = {"version": 1, "rows": len(rows), "mean": sum(float(row["spent"]) for row in rows) / len(rows)}
base = "/opt/ml/input/data/base/model.tar.gz"
if os.path.exists(base):
    old = json.load(tarfile.open(base).extractfile("model.json"))
    model |= {"version": old["version"] + 1, "rows": old["rows"] + len(rows), "from": old}
print(f"rows={len(rows)}")
print(f"secret={rows[0]}")
print(f"mean={model['mean']:.3f}")
json.dump(model, open(os.environ["SM_MODEL_DIR"] + "/model.json", "w"))
open("/opt/ml/output/data/report.txt", "w").write("trained")
"""
SERVE = """
#!/usr/bin/env python3
import http.server, json
version = json.load(open("/opt/ml/model/model.json"))["version"]
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, body=b""):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer()
    def do_POST(self):
        lines = self.rfile.read(int(self.headers["Content-Length"])).decode().splitlines()
        scored = (f"{line.split(',')[0]},v{version}\\n" for line in lines if line[0] != '"')
        self.answer("".join(scored).encode())
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Handler).serve_forever()
"""
QUERY = "SELECT v.id, v.spent, p.age FROM visits v JOIN people p ON v.ssn = p.ssn WHERE v.id {}"
CONFIGS = {
    "trainingContainerConfig": {
        "imageUri": IMAGE,
        "metricDefinitions": [{"name": "mean", "regex": "^mean=([0-9.]+)"}],
    },
    "inferenceContainerConfig": {"imageUri": IMAGE},
}


def put_image(home: Path, folder: Path) -> None:
    """What `passbox image add` does with a folder of the programs `train` and `serve`."""
    folder.mkdir()
    for name, code in {"train": TRAIN, "serve": SERVE}.items():
        (folder / name).write_text(textwrap.dedent(code).lstrip())
        (folder / name).chmod(0o755)
    ImageStore(home / "images").add(IMAGE, folder)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("home")
    put_image(home, tmp_path_factory.mktemp("image") / "late")
    with serving_home(home) as service:
        yield service


class Joined(Workshop):
    """The parties with their tables, payers and policies, and what is asked of their room."""

    def __init__(self, service: Service) -> None:
        self.service = service
        room = service.room
        accounts = {party: room.account() for party in ("owner", "runner", "vendor")}
        payment = {
            "owner": pays(inference=True),
            "runner": pays(query=True, training=True, inference=True),
            "vendor": pays(query=True, training=True),
        }
        policies = {
            "trainedModels": {
                "containerLogs": [{"allowedAccountIds": [accounts["vendor"]], "filterPattern": "^rows="}],
                "containerMetrics": {"noiseLevel": "NONE"},
            },
            "trainedModelExports": {
                "filesToExport": ["MODEL", "OUTPUT"],
                "maxSize": {"unit": "GB", "value": 1},
            },
        }
        visits = "".join(f"{number},{number % 7}.5,s{number}\n" for number in range(ROWS))
        super().__init__(
            room,
            payment,
            policies=policies,
            accounts=accounts,
            configs=CONFIGS,
            visits=f"id,spent,ssn\n{visits}",
        )
        people = "".join(f"s{number},{number % 80}\n" for number in range(0, ROWS, 3))
        self.bring("people", f"ssn,age\n{people}", party="vendor", hidden=["ssn"])
        for party in ("runner", "vendor"):
            self.configure(party)

    def joined(self, name: str, condition: str) -> str:
        return self.channel(
            name,
            query=QUERY.format(condition),
            payerConfiguration={"computePayerAccountId": self.account("vendor")},
        )

    def train(self, channel: str, name: str, **changes: Any) -> str:
        changes.setdefault("mlModelTrainingPayerAccountId", self.account("vendor"))
        return str(self.model(channel, name, **changes)["trainedModelArn"])

    def get_model(self, arn: str, **more: Any) -> Any:
        return self.ml().get_trained_model(**self.own(), trainedModelArn=arn, **more)

    def versions(self, arn: str) -> list[Any]:
        answer = self.ml().list_trained_model_versions(**self.own(), trainedModelArn=arn)
        return list(answer["trainedModels"])

    def paid(self) -> dict[tuple[str, str], tuple[int, int, int, int]]:
        """(party, cost type) → jobs, quantity in thousandths, micro-dollars posted and reserved."""
        parties = {account: party for party, account in self.accounts.items()}
        return {
            (parties[line["payer"]], line["cost_type"].rpartition(".")[2]): (
                line["jobs"], line["quantity"], line["posted"], line["reserved"],
            )
            for line in self.lines()
        }  # fmt: skip

    def entries(self, resource: str) -> list[str]:
        """The kinds of the book's entries for the last job of a resource."""
        job = self.service.job(resource).id
        return [entry["kind"] for entry in self.transfers() if entry["job"] == job]

    def files(self, party: str, below: str = "") -> dict[str, Path]:
        """Everything that was delivered to a party: path below its folder → file.

        Without the CPU and memory of running jobs, which a short one need not have.
        """
        folder = self.room.settings.accounts / self.account(party)
        found = [path for place in ("buckets", "logs") for path in (folder / place).rglob("*")]
        usage = ".system.jsonl"
        return {
            str(path.relative_to(folder)): path for path in found if path.is_file() and usage not in path.name
        }


@pytest.fixture(scope="module")
def shop(service: Service) -> Joined:
    return Joined(service)


@pytest.fixture(scope="module")
def channel(shop: Joined) -> str:
    arn = shop.joined("for training", ">= 100")
    assert wait(lambda: shop.get_channel(arn))["status"] == "ACTIVE"
    return arn


def identifier(arn: str) -> str:
    return arn.rpartition("/")[2]


def content(archive: Path) -> dict[str, Any]:
    """The model in a model.tar.gz."""
    with tarfile.open(archive) as tar:
        file = tar.extractfile("model.json")
        assert isinstance(file, io.BufferedReader)
        found: dict[str, Any] = json.load(file)
        return found


def test_the_main_job(shop: Joined, channel: str) -> None:
    scoring = shop.joined("for scoring", "< 100")
    arn = shop.train(channel, "late")
    base = wait(lambda: shop.get_model(arn))
    assert (base["status"], base["metricsStatus"]) == ("ACTIVE", "PUBLISH_SUCCEEDED")
    assert base["logsStatus"] == "PUBLISH_FAILED"  # the runner is not among the allowed accounts
    assert base["trainingContainerImageDigest"].startswith("sha256:")
    trained = shop.get_channel(channel)["numberOfRecords"]
    assert trained == len([number for number in range(100, ROWS) if number % 3 == 0])

    # the second version starts from the first one's artifact
    second = shop.next_version(channel, arn, "later", mlModelTrainingPayerAccountId=shop.account("runner"))
    assert wait(lambda: shop.get_model(arn))["status"] == "ACTIVE"
    assert wait(lambda: shop.get_channel(scoring))["status"] == "ACTIVE"
    scored = shop.get_channel(scoring)["numberOfRecords"]
    job = shop.inference(arn, scoring, mlModelInferencePayerAccountId=shop.account("owner"))
    shop.export(arn, "take", receiver="vendor")
    get = shop.ml().get_trained_model_inference_job
    assert wait(lambda: get(**shop.own(), trainedModelInferenceJobArn=job))["status"] == "ACTIVE"
    listed = shop.ml().list_collaboration_trained_model_export_jobs
    wait(
        lambda: listed(**shop.whole(), trainedModelArn=arn)["collaborationTrainedModelExportJobs"][0],
        ("ACTIVE",),
    )

    # each party has exactly what it is due, where the documentation says
    runner, vendor = shop.account("runner"), shop.account("vendor")
    room = f"{shop.id}/later/{runner}"
    received = shop.files("runner")
    metrics = {
        f"logs/aws/cleanroomsml/TrainedModels/{one}.metrics.jsonl" for one in (identifier(arn), second)
    }
    results = {name for name in received if name.startswith("buckets/")}
    assert set(received) - results == metrics
    assert all(name.startswith(f"buckets/results-{runner}/room/{room}/score/") for name in results)
    lines = sorted("".join(received[name].read_text() for name in results).splitlines())
    expected = [f"{number},v2" for number in range(0, 100, 3)]
    assert lines == sorted(expected)
    assert scored == len(expected)
    [metric] = [json.loads(line) for line in received[min(metrics)].read_text().splitlines()]
    assert metric["name"] == "mean"
    given = shop.files("vendor")
    exported = f"buckets/results-{vendor}/room/{room}/take"
    logs = {f"logs/aws/cleanroomsml/TrainedModels/{one}.log" for one in (identifier(arn), second)}
    assert set(given) == metrics | logs | {f"{exported}/model.tar.gz", f"{exported}/output.tar.gz"}
    assert all(given[name].read_text() == f"rows={trained}\n" for name in logs)
    model = content(given[f"{exported}/model.tar.gz"])
    assert (model["version"], model["rows"], model["from"]["version"]) == (2, 2 * trained, 1)
    assert shop.files("owner") == {}
    seen = shop.ml("vendor").get_collaboration_trained_model(**shop.whole(), trainedModelArn=arn)
    assert seen["logsStatus"] == "PUBLISH_SUCCEEDED"

    # everybody paid for what was named, by what was measured, once
    paid = shop.paid()
    jobs, quantity, posted, reserved = paid.pop(("vendor", "queryCompute"))
    assert (jobs, reserved) == (2, 0)
    assert quantity == 2 * 32 * 60 * 1000  # two channels of less than a minute each, on 16 CR.1X
    assert posted == 2 * 1_066_667
    assert paid == {
        ("vendor", "modelTraining"): (1, trained * 1000, trained * 10, 0),
        ("runner", "modelTraining"): (1, trained * 1000, trained * 10, 0),
        ("owner", "modelInference"): (1, scored * 1000, scored * 10, 0),
    }
    for resource in (arn, second, job):
        assert shop.entries(resource) == ["reserve", "post"]

    # deleting clears the room and leaves what was delivered
    vault = shop.room.settings.vault
    for one in ({}, {"versionIdentifier": second}):
        shop.ml().delete_trained_model_output(**shop.own(), trainedModelArn=arn, **one)
    shop.ml().delete_ml_input_channel_data(**shop.own(), mlInputChannelArn=scoring)
    assert wait(lambda: shop.get_channel(scoring))["status"] == "INACTIVE"
    for version in range(2):
        wait(lambda version=version: shop.versions(arn)[version], ("INACTIVE",))
    left = {path.name for kind in ("ml_input_channel", "trained_model") for path in (vault / kind).iterdir()}
    assert not {identifier(arn), second, identifier(scoring)} & left
    assert set(shop.files("vendor")) == set(given)
    assert list((vault / "staging").iterdir()) == []
    assert list(shop.room.settings.scratch.iterdir()) == []


def test_a_training_that_reads_pipes(shop: Joined, channel: str) -> None:
    model = shop.train(channel, "piped", trainingInputMode="Pipe")
    done = wait(lambda: shop.get_model(model))
    assert done["status"] == "ACTIVE", done.get("statusDetails")


def test_a_training_that_fails(shop: Joined, channel: str) -> None:
    before = shop.paid()
    arn = shop.train(channel, "broken", hyperparameters={"fail": "yes"})
    found = wait(lambda: shop.get_model(arn))
    assert (found["status"], found["statusDetails"]["statusCode"]) == ("CREATE_FAILED", "AlgorithmError")
    assert "exit status 1" in found["statusDetails"]["message"]
    # what the container wrote about a row is for nobody's eyes
    for party in shop.accounts:
        seen = shop.ml(party).get_collaboration_trained_model(**shop.whole(), trainedModelArn=arn)
        assert "row 1" not in seen["statusDetails"]["message"]
    assert shop.entries(arn) == ["reserve", "void"]
    assert shop.paid() == before
    with pytest.raises(shop.ml().exceptions.ConflictException):
        shop.inference(arn, channel)


def test_cancels_within_two_seconds(shop: Joined, channel: str) -> None:
    """Of a training that runs, and of one that waits because the worker has its hands full."""
    slow = {"hyperparameters": {"seconds": "60"}}
    first, second, third = (shop.train(channel, f"slow {number}", **slow) for number in range(3))
    for arn in (first, second):
        wait(lambda arn=arn: shop.get_model(arn), ("CREATE_IN_PROGRESS",))
    deadline = time.monotonic() + 10
    while shop.get_model(first)["statusDetails"]["message"] != "training":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert shop.get_model(third)["status"] == "CREATE_PENDING"
    for arn in (third, first, second):
        asked = time.monotonic()
        shop.ml().cancel_trained_model(**shop.own(), trainedModelArn=arn)
        found = wait(lambda arn=arn: shop.get_model(arn))
        assert time.monotonic() - asked < 2.0
        assert (found["status"], found["statusDetails"]["statusCode"]) == ("INACTIVE", "CANCELLED")
        assert shop.entries(arn) == ["reserve", "void"]
    assert list(shop.room.settings.scratch.iterdir()) == []


@pytest.mark.parametrize("end", ["DeleteMember", "DeleteCollaboration"])
def test_the_end_of_a_membership_cancels_its_work(service: Service, end: str) -> None:
    shop = Joined(service)
    channel = shop.joined("for training", ">= 100")
    wait(lambda: shop.get_channel(channel), ("ACTIVE",))
    arn = shop.train(channel, "slow", hyperparameters={"seconds": "60"})
    wait(lambda: shop.get_model(arn), ("CREATE_IN_PROGRESS",))
    waiting = shop.joined("too late", "< 100")
    asked = time.monotonic()
    if end == "DeleteMember":
        shop.cleanrooms("owner").delete_member(
            collaborationIdentifier=shop.id, accountId=shop.account("runner")
        )
    else:
        shop.cleanrooms("owner").delete_collaboration(collaborationIdentifier=shop.id)
    assert wait(lambda: shop.get_model(arn))["status"] == "INACTIVE"
    assert wait(lambda: shop.get_channel(waiting))["status"] in ("CREATE_FAILED",)
    assert time.monotonic() - asked < 3.0
    assert shop.entries(arn) == shop.entries(waiting) == ["reserve", "void"]


def ends_once(shop: Joined, arn: str) -> None:
    assert wait(lambda: shop.get_model(arn))["status"] == "ACTIVE"
    assert shop.entries(arn) == ["reserve", "post"]
    given = [name for name in shop.files("vendor") if identifier(arn) in name]
    assert sorted(given) == [
        f"logs/aws/cleanroomsml/TrainedModels/{identifier(arn)}.{kind}" for kind in ("log", "metrics.jsonl")
    ]
    assert (
        content(shop.room.settings.vault / "trained_model" / identifier(arn) / "model.tar.gz")["version"] == 1
    )


def test_the_api_is_killed_right_after_a_submission(service: Service, shop: Joined, channel: str) -> None:
    arn = shop.train(channel, "survivor of the api")
    service.kill_api()
    service.start()
    ends_once(shop, arn)


def test_the_worker_is_killed_in_the_middle_of_a_training(
    service: Service, shop: Joined, channel: str
) -> None:
    arn = shop.train(channel, "survivor of the worker", hyperparameters={"seconds": "1"})
    deadline = time.monotonic() + 20
    while service.job(arn).progress != "training":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    service.kill_worker(arn)
    ends_once(shop, arn)
    assert service.job(arn).attempt == 2
