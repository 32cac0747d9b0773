"""Many submissions at once: a quota is never exceeded, and resources, jobs and reservations go together.

A submission is one transaction, so this holds whatever the threads do and whenever the process is killed.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from lib.room import REGION, Room, refused
from lib.service import serving_home
from lib.workshop import Workshop, ledger, limited, work
from passbox.errors import Misconfigured
from passbox.serve import application
from passbox.settings import Settings
from passbox.state import jobs, resources
from passbox.state.database import Database

THREADS = 16
COSTS = {
    "ml_input_channel": "queryCompute",
    "trained_model": "machineLearning.modelTraining",
    "trained_model_inference_job": "machineLearning.modelInference",
}


def assert_one_to_one(home: Path) -> dict[str, int]:
    """Every resource has one job and every job one reservation for its one cost; how many of each kind."""
    entries = [one for one in ledger(home)["transfers"] if one["kind"] == "reserve"]
    database = Database(home / "passbox.sqlite")
    try:
        with database.read() as tx:
            rows = {row.id: row for kind in COSTS for row in resources.find(tx, kind)}
            queue = [job for job in jobs.all_(tx) if job.kind in COSTS]
    finally:
        database.close()
    assert sorted(job.resource for job in queue) == sorted(rows)
    assert all(job.kind == rows[job.resource].kind for job in queue)
    assert sorted((one["job"], one["cost_type"]) for one in entries) == sorted(
        (job.id, COSTS[job.kind]) for job in queue
    )
    assert all(one["payer"] == rows_payer(rows, queue, one["job"]) for one in entries)
    return {kind: sum(row.kind == kind for row in rows.values()) for kind in COSTS}


def rows_payer(rows: dict[str, Any], queue: list[jobs.Job], job: str) -> str:
    """The payer that the resource of a job says."""
    body = rows[next(one.resource for one in queue if one.id == job)].body
    named = body.get("payerConfiguration", {}).get("computePayerAccountId")
    return str(named or body.get("mlModelTrainingPayerAccountId") or body["mlModelInferencePayerAccountId"])


def at_once(submit: Callable[[int], Any], number: int) -> list[str]:
    """Runs `submit` for each number in sixteen threads that start together; "" or the code of the refusal."""
    together = threading.Barrier(THREADS)

    def one(index: int) -> str:
        if index < THREADS:
            together.wait(10)
        try:
            submit(index)
        except ClientError as error:
            return refused(error)[0]
        return ""

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, range(number)))


@pytest.fixture
def room(tmp_path: Path) -> Any:
    quotas = {
        "ml_input_channels": 10,
        "training_jobs_per_membership": 4,
        "training_jobs_per_account": 6,
        "inference_jobs_per_membership": 3,
    }
    with limited(tmp_path, **quotas) as room:
        yield room


def test_no_quota_is_exceeded(room: Room) -> None:
    shop = Workshop(room)
    second = Workshop(room, accounts=shop.accounts)
    shop.configure()
    full = "ServiceQuotaExceededException"
    found = at_once(lambda index: shop.channel(f"channel {index}"), 40)
    assert (found.count(""), found.count(full)) == (10, 30)
    work(room)
    [channel, *_] = shop.ml().list_ml_input_channels(**shop.own(), maxResults=1)["mlInputChannelsList"]
    arn = channel["mlInputChannelArn"]
    other = second.active_channel()
    model = shop.active_model(arn, "for inference")
    found = at_once(
        lambda index: shop.model(arn, f"m{index}") if index % 2 else second.model(other, f"m{index}"), 40
    )
    assert (found.count(""), found.count(full)) == (6, 34)
    for one in (shop, second):
        assert len(one.ml().list_trained_models(**one.own())["trainedModels"]) <= 4 + (one is shop)
    found = at_once(lambda index: shop.inference(model, arn, f"i{index}"), 20)
    assert (found.count(""), found.count(full)) == (3, 17)
    assert assert_one_to_one(room.settings.home) == {
        "ml_input_channel": 11, "trained_model": 7, "trained_model_inference_job": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ml_input_chanels = 3", "no quota ml_input_chanels; there are .*ml_input_channels"),
        ("ml_input_channels = -1", "ml_input_channels must be a number"),
        ("ml_input_channels = nan", "ml_input_channels must be a number"),
        ("ml_input_channels = true", "ml_input_channels must be a number"),
        ("ml_input_channels = 'many'", "ml_input_channels must be a number"),
        ("ml_input_channels", "quotas.toml"),
    ],
)
def test_quotas_that_cannot_be(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "quotas.toml").write_text(text)
    with pytest.raises(Misconfigured, match=words):
        application(Settings(home=tmp_path, region=REGION))


@pytest.mark.parametrize(("quota", "most"), [(0, 0), (1, 1), (1.5, 2), (2.0, 2)])
def test_how_many_a_quota_lets_in(tmp_path: Path, quota: float, most: int) -> None:
    with limited(tmp_path, ml_input_channels=quota) as room:
        shop = Workshop(room)
        for number in range(most):
            shop.channel(f"channel {number}")
        with pytest.raises(shop.ml().exceptions.ServiceQuotaExceededException) as full:
            shop.channel("one more")
        assert full.value.response["quotaValue"] == quota


def test_a_name_is_given_once(room: Room) -> None:
    shop = Workshop(room)
    found = at_once(lambda _: shop.channel("the one"), 32)
    assert (found.count(""), found.count("ConflictException")) == (1, 31)
    work(room)
    [channel] = shop.ml().list_ml_input_channels(**shop.own())["mlInputChannelsList"]
    found = at_once(lambda _: shop.model(channel["mlInputChannelArn"], "the one"), 32)
    assert (found.count(""), found.count("ConflictException")) == (1, 31)
    assert_one_to_one(room.settings.home)


def test_cancels_and_deletes_at_once(room: Room) -> None:
    """One of many wins; the others are told that it is too late."""
    shop = Workshop(room)
    arn = shop.model(shop.active_channel())["trainedModelArn"]
    found = at_once(lambda _: shop.ml().cancel_trained_model(**shop.own(), trainedModelArn=arn), 32)
    assert (found.count(""), found.count("ConflictException")) == (1, 31)
    work(room)
    done = shop.active_model(shop.active_channel("again"))
    found = at_once(lambda _: shop.ml().delete_trained_model_output(**shop.own(), trainedModelArn=done), 32)
    assert (found.count(""), found.count("ConflictException")) == (1, 31)
    work(room)


@pytest.mark.parametrize("after", [0.05, 0.4])
def test_the_api_is_killed_in_the_middle(tmp_path: Path, after: float) -> None:
    """What a caller was told is there; what nobody was told may be there, but only as a whole."""
    (tmp_path / "quotas.toml").write_text("ml_input_channels = inf\n")
    with serving_home(tmp_path, workers=1) as service:
        shop = Workshop(service.room)
        told: list[str] = []
        broken = threading.Event()

        def submit(thread: int) -> None:
            for number in range(1000):
                try:
                    told.append(shop.channel(f"{thread} {number}"))
                except (BotoCoreError, ClientError):
                    broken.set()
                    return

        threads = [threading.Thread(target=submit, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        while not told:
            time.sleep(0.005)
        time.sleep(after)
        service.kill_api()
        for thread in threads:
            thread.join(20)
        assert broken.is_set()
        found = assert_one_to_one(tmp_path)
        service.start()
        assert found["ml_input_channel"] >= len(told) > 0
        for arn in told:
            assert shop.get_channel(arn)["mlInputChannelArn"] == arn
        assert assert_one_to_one(tmp_path) == found
