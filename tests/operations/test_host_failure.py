"""A host that fails under a training or an inference, by the real service: the job is tried again as a whole,
a few times, and is paid, delivered and told once.
"""

import os
import signal
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lib.runtime import poll
from lib.service import Service, serving_home, wait
from lib.workshop import IMAGE, POLICIES, Workshop
from passbox.backends.images.store import ImageStore
from passbox.jobs import spine
from passbox.state import events
from passbox.state.database import Database

ROWS = 30
TRAIN = """
#!/usr/bin/env python3
import glob, json, os, time
print("attempt", flush=True)
time.sleep(float(json.load(open("/opt/ml/input/config/hyperparameters.json")).get("seconds", "0")))
rows = sum(len(open(path).readlines()) - 1 for path in glob.glob(os.environ["SM_CHANNEL_TRAIN"] + "/*"))
open(os.environ["SM_MODEL_DIR"] + "/rows", "w").write(str(rows))
"""
SERVE = """
#!/usr/bin/env python3
import http.server, os, time
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
        body = self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(1)
        self.answer(body)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("home")
    folder = tmp_path_factory.mktemp("image")
    for name, code in {"train": TRAIN, "serve": SERVE}.items():
        (folder / name).write_text(textwrap.dedent(code).lstrip())
        (folder / name).chmod(0o755)
    ImageStore(home / "images").add(IMAGE, folder)
    (home / "instances.toml").write_text('[types."ml.m5.xlarge"]\nvcpus = 1\nmemoryGiB = 0.25\n')
    with serving_home(home, workers=1) as service:
        yield service


class Struck(Workshop):
    """The parties, and somebody who ends sandboxes from outside."""

    def __init__(self, service: Service) -> None:
        self.service = service
        accounts = {party: service.room.account() for party in ("owner", "runner", "vendor")}
        logs = [{"allowedAccountIds": [accounts["vendor"]]}]
        super().__init__(
            service.room,
            policies={**POLICIES, "trainedModels": {"containerLogs": logs}},
            accounts=accounts,
            visits="id,spent,ssn\n" + "".join(f"{n},{n}.5,s{n}\n" for n in range(ROWS)),
        )
        for party in ("runner", "vendor"):
            self.configure(party)
        self.ready = self.channel("ready")
        assert wait(lambda: self.get_channel(self.ready))["status"] == "ACTIVE"

    def train(self, name: str, seconds: float = 0, **changes: Any) -> str:
        hyperparameters = {"seconds": str(seconds)}
        return str(
            self.model(self.ready, name, hyperparameters=hyperparameters, **changes)["trainedModelArn"]
        )

    def get(self, arn: str) -> Any:
        return self.ml().get_trained_model(**self.own(), trainedModelArn=arn)

    def get_inference(self, arn: str) -> Any:
        return self.ml().get_trained_model_inference_job(**self.own(), trainedModelInferenceJobArn=arn)

    def strike(self, arn: str, progress: str, attempt: int = 1, which: int = 0) -> None:
        """Ends what looks after one sandbox of the job, once that attempt has come so far; the next is on
        its way then."""
        worker = self.service.job(arn).worker
        for _ in poll(f"attempt {attempt} never said {progress}", 40):
            job = self.service.job(arn)
            if job.attempt == attempt and job.state == "running" and job.progress == progress:
                worker = job.worker
                break
        assert worker is not None
        found = _shepherds(int(worker.rpartition("/")[2]))
        os.kill(found[which], signal.SIGKILL)
        for _ in poll("nobody noticed"):
            job = self.service.job(arn)
            if job.state != "running" or job.attempt > attempt:
                return

    def entries(self, arn: str) -> list[tuple[str, int]]:
        """The book's entries of the last job of a resource: kind and amount."""
        job = self.service.job(arn).id
        return [(entry["kind"], entry["amount"]) for entry in self.transfers() if entry["job"] == job]

    def history(self, arn: str) -> list[str]:
        """The statuses that a resource went through."""
        database = Database(self.service.settings.database)
        try:
            with database.read() as tx:
                return [str(after) for _, _, _, after in events.of(tx, arn.rpartition("/")[2])]
        finally:
            database.close()

    def left(self) -> list[Path]:
        settings = self.service.settings
        return [*settings.scratch.iterdir(), *(settings.vault / "staging").iterdir()]

    def logs(self, party: str, arn: str) -> list[str]:
        folder = self.room.settings.accounts / self.account(party) / "logs"
        return [path.read_text() for path in folder.rglob(f"*{arn.rpartition('/')[2]}*.log")]


def _shepherds(worker: int) -> list[int]:
    """What looks after the sandboxes of the jobs that a worker runs, oldest first."""
    parents, shepherds = {}, []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            stat, words = (process / "stat").read_text(), (process / "cmdline").read_bytes()
        except OSError:
            continue
        parents[int(process.name)] = int(stat.rpartition(")")[2].split()[1])
        if b"forkserver.serve" in words:
            shepherds.append(int(process.name))
    # a child of the worker is what they are forked from, whichever job asks
    return sorted(one for one in shepherds if parents.get(parents[one]) == worker)


@pytest.fixture
def shop(service: Service) -> Struck:
    return Struck(service)


@pytest.mark.parametrize("instances", [1, 2])
def test_a_training_whose_host_fails_is_done_again_and_paid_once(shop: Struck, instances: int) -> None:
    undisturbed = shop.train("undisturbed")
    assert wait(lambda: shop.get(undisturbed))["status"] == "ACTIVE"
    resources = {"instanceType": "ml.m5.xlarge", "volumeSizeInGB": 1, "instanceCount": instances}
    arn = shop.train("struck", seconds=1, resourceConfig=resources)
    shop.strike(arn, "training", which=instances - 1)
    assert shop.get(arn)["status"] == "CREATE_IN_PROGRESS"
    found = wait(lambda: shop.get(arn))
    assert (found["status"], found.get("statusDetails")) == ("ACTIVE", None)
    assert shop.service.job(arn).attempt == 2
    assert shop.history(arn) == ["CREATE_PENDING", "CREATE_IN_PROGRESS", "ACTIVE"]
    assert shop.entries(arn) == shop.entries(undisturbed)
    assert [kind for kind, _ in shop.entries(arn)] == ["reserve", "post"]
    assert shop.logs("vendor", arn) == ["attempt\n" * instances]
    assert shop.left() == []


def test_a_host_that_fails_every_time_ends_the_training_and_nothing_is_charged(shop: Struck) -> None:
    arn = shop.train("struck", seconds=30)
    for attempt in range(1, spine.ATTEMPTS + 1):
        shop.strike(arn, "training", attempt)
    found = wait(lambda: shop.get(arn))
    assert (found["status"], found["statusDetails"]["statusCode"]) == ("CREATE_FAILED", "INTERNAL_ERROR")
    assert "nothing was charged" in found["statusDetails"]["message"]
    assert shop.service.job(arn).attempt == spine.ATTEMPTS
    assert shop.history(arn) == ["CREATE_PENDING", "CREATE_IN_PROGRESS", "CREATE_FAILED"]
    assert [kind for kind, _ in shop.entries(arn)] == ["reserve", "void"]
    assert shop.logs("vendor", arn) == []
    assert shop.left() == []
    # the name is free again, and the room works on
    again = shop.train("struck")
    assert wait(lambda: shop.get(again))["status"] == "ACTIVE"


def test_a_training_that_waits_for_its_next_attempt_can_be_cancelled(shop: Struck) -> None:
    arn = shop.train("struck", seconds=30)
    shop.strike(arn, "training")
    shop.ml().cancel_trained_model(**shop.own(), trainedModelArn=arn)
    found = wait(lambda: shop.get(arn))
    assert (found["status"], found["statusDetails"]["statusCode"]) == ("INACTIVE", "CANCELLED")
    assert [kind for kind, _ in shop.entries(arn)] == ["reserve", "void"]
    assert shop.left() == []


def test_an_inference_whose_instance_fails_is_done_again_and_paid_and_delivered_once(shop: Struck) -> None:
    model = shop.train("for scoring")
    assert wait(lambda: shop.get(model))["status"] == "ACTIVE"
    undisturbed = shop.inference(model, shop.ready, "undisturbed")
    assert wait(lambda: shop.get_inference(undisturbed))["status"] == "ACTIVE"
    arn = shop.inference(model, shop.ready, "struck")
    shop.strike(arn, "scoring file 1 of 1")
    found = wait(lambda: shop.get_inference(arn))
    assert (found["status"], found.get("statusDetails")) == ("ACTIVE", None)
    assert shop.service.job(arn).attempt == 2
    assert shop.history(arn) == ["CREATE_PENDING", "CREATE_IN_PROGRESS", "ACTIVE"]
    assert shop.entries(arn) == shop.entries(undisturbed)
    assert [kind for kind, _ in shop.entries(arn)] == ["reserve", "post"]
    results = sorted((shop.room.settings.accounts / shop.account("runner")).rglob("*.out"))
    assert len(results) == 2
    assert results[0].read_text() == results[1].read_text()
    assert len(results[0].read_text().splitlines()) == ROWS + 1
    assert shop.left() == []


def test_an_inference_whose_instances_always_fail_delivers_and_costs_nothing(shop: Struck) -> None:
    model = shop.train("for scoring")
    assert wait(lambda: shop.get(model))["status"] == "ACTIVE"
    arn = shop.inference(model, shop.ready, "struck")
    for attempt in range(1, spine.ATTEMPTS + 1):
        shop.strike(arn, "scoring file 1 of 1", attempt)
    found = wait(lambda: shop.get_inference(arn))
    assert (found["status"], found["statusDetails"]["statusCode"]) == ("CREATE_FAILED", "INTERNAL_ERROR")
    assert [kind for kind, _ in shop.entries(arn)] == ["reserve", "void"]
    assert not list((shop.room.settings.accounts / shop.account("runner")).rglob("*.out"))
    assert shop.left() == []
