"""Explanations over boto3: every code of a failure, for every relation of the caller to the job."""

import ast
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lib.room import Room, running
from lib.workshop import Workshop, work
from passbox.operations.failure import FAILURES

SOURCE = Path(__file__).parent.parent.parent / "src" / "passbox"
CODE = re.compile(r"[A-Z]+(?:_[A-Z]+)+|AlgorithmError|KILLED|CANCELLED")
SECRET = "a message of statusDetails"


class Shop(Workshop):
    def explain(self, identifier: str, party: str = "runner", **more: Any) -> Any:
        client = self.room.passbox(self.account(party))
        return client.explain_job(**self.own(party), jobIdentifier=identifier, **more)

    def unseen(self, identifier: str, party: str, **more: Any) -> None:
        with pytest.raises(ClientError) as raised:
            self.explain(identifier, party, **more)
        assert raised.value.response["Error"]["Code"] == "ResourceNotFoundException"
        assert raised.value.response["Error"]["Message"] == f"The job {identifier} was not found."

    def fail(self, identifier: str, code: str) -> None:
        """What the worker would have stored of a failure."""
        details = {"statusDetails": {"statusCode": code, "message": SECRET}, "failedAt": "run"}
        with closing(sqlite3.connect(self.room.settings.database)) as connection, connection:
            changed = connection.execute(
                "UPDATE resource SET body = json_patch(body, ?), version = version + 1 WHERE ? IN (arn, id)",
                (json.dumps(details), identifier),
            )
            assert changed.rowcount == 1


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


@pytest.fixture(scope="module")
def shop(room: Room) -> Shop:
    shop = Shop(room)
    shop.configure()
    return shop


@pytest.fixture(scope="module")
def jobs(shop: Shop) -> dict[str, str]:
    """A job of each kind that has an ARN, all of the runner's."""
    channel = shop.active_channel()
    model = shop.active_model(channel)
    inference = shop.inference(model, channel)
    work(shop.room)
    return {"channel": channel, "model": model, "inference": inference}


def codes() -> set[str]:
    """Every code that a job of ours can fail with, found in the code."""
    found = set()
    for room in ("jobs", "backends", "disclosure", "synthesis"):
        for path in (SOURCE / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                found |= {
                    one.value
                    for one in _candidates(node)
                    if isinstance(one, ast.Constant)
                    and isinstance(one.value, str)
                    and CODE.fullmatch(one.value)
                }
    return found


def _candidates(node: ast.AST) -> list[Any]:
    """Where a code stands: JobFailed(code, …), (code, message), {"statusCode": code}, abandon(…, code, …)."""
    match node:
        case ast.Call(func=ast.Name(id="JobFailed"), args=[code, *_]):
            return [code]
        case ast.Call(func=ast.Attribute(attr="abandon"), args=args):
            return args
        case ast.Tuple(elts=[code, _]):
            return [code]
        case ast.Dict(keys=keys, values=values):
            pairs = zip(keys, values, strict=True)
            return [
                value for key, value in pairs if isinstance(key, ast.Constant) and key.value == "statusCode"
            ]
    return []


def test_every_code_has_its_words() -> None:
    found = codes()
    assert {"AlgorithmError", "CANCELLED", "DELIVERY_FAILED", "OUT_OF_MEMORY", "INVALID_RECEIVER"} <= found
    without = sorted(found - set(FAILURES))
    assert not without, (
        f"{', '.join(without)}: say in operations/failure.py what it means and whose turn it is"
    )


@pytest.mark.parametrize("code", sorted(FAILURES))
def test_what_each_relation_is_told_of_each_code(shop: Shop, jobs: dict[str, str], code: str) -> None:
    meaning = FAILURES[code]
    account = {
        "SUBMITTER": shop.account("runner"),
        "ALGORITHM_OWNER": shop.account("vendor"),
    }.get(meaning.decider)
    for kind, job in jobs.items():
        shop.fail(job, code)
        for party in ("runner", "vendor", "owner"):
            answer = shop.explain(job, party)
            assert answer["failed"]
            assert (answer["jobIdentifier"], answer["name"]) == (
                job,
                "score" if kind == "inference" else answer["name"],
            )
            decides = party == "vendor" and meaning.decider == "ALGORITHM_OWNER" and kind != "channel"
            if kind == "inference" and party != "runner" and not decides:
                assert "explanation" not in answer
                assert code not in json.dumps(answer)
                assert meaning.setting not in json.dumps(answer, default=str)
                continue
            told = answer["explanation"]
            assert (told["statusCode"], told["stage"], told["setting"]) == (code, "RUN", meaning.setting)
            assert told["whatHappened"] in answer["summary"]
            assert ("message" in told) == (party == "runner" or kind != "inference")
            assert ("charged" in told) == (party == "runner")
            if account is not None and kind != "channel":
                assert told["deciderAccountId"] == account
            if meaning.decider == "RECEIVER":
                assert told.get("deciderAccountId") == (
                    shop.account("runner") if kind == "inference" else None
                )


def test_a_code_of_a_later_version(shop: Shop, jobs: dict[str, str]) -> None:
    shop.fail(jobs["model"], "NOT_YET_INVENTED")
    told = shop.explain(jobs["model"])["explanation"]
    assert told["message"] == SECRET
    assert told["decider"] == "OPERATOR"


def test_a_real_failure_and_a_job_that_did_not_fail(room: Room) -> None:
    shop = Shop(room)
    channel = shop.active_channel()
    model = shop.model(channel, "fails")["trainedModelArn"]
    assert shop.explain(model)["summary"] == "The job is CREATE_PENDING; it is not over yet."
    work(room)
    for party in ("runner", "owner", "vendor"):
        answer = shop.explain(model, party)
        assert (answer["kind"], answer["name"], answer["status"]) == (
            "TRAINED_MODEL",
            "fails",
            "CREATE_FAILED",
        )
        assert answer["explanation"]["message"] == "It failed, as its name says."
        assert answer["explanation"]["stage"] == "RUN"
        assert answer["explanation"]["deciderAccountId"] == shop.account("vendor")
    answer = shop.explain(channel, "owner")
    assert not answer["failed"]
    assert answer["summary"] == "The job is ACTIVE; it did not fail."


def test_where_it_failed(room: Room) -> None:
    shop = Shop(room)
    channel = shop.active_channel()
    shop.configure()
    model = shop.active_model(channel)
    inference = shop.inference(model, channel)
    shop.ml().delete_ml_configuration(**shop.own())
    work(room)
    told = shop.explain(inference)["explanation"]
    assert (told["stage"], told["statusCode"], told["decider"]) == ("APPROVE", "INVALID_RECEIVER", "RECEIVER")
    assert told["deciderAccountId"] == shop.account("runner")
    second = shop.model(channel, "second")["trainedModelArn"]
    shop.ml().cancel_trained_model(**shop.own(), trainedModelArn=second)
    work(room)
    told = shop.explain(second, "owner")["explanation"]
    assert (told["stage"], told["statusCode"]) == ("APPROVE", "CANCELLED")


def test_a_version_and_an_export_by_name(room: Room) -> None:
    shop = Shop(room)
    shop.configure()
    channel = shop.active_channel()
    model = shop.active_model(channel)
    version = shop.next_version(channel, model, "fails later")
    work(room)
    assert shop.explain(model)["name"] == "fails later"
    assert shop.explain(model, versionIdentifier=version)["failed"]
    shop.unseen(model, "runner", versionIdentifier=shop.own()["membershipIdentifier"])
    shop.export(model, "take")
    shop.ml().delete_ml_configuration(**shop.own())
    work(room)
    for party in ("runner", "owner"):
        answer = shop.explain(model, party, exportName="take")
        assert (answer["kind"], answer["name"]) == ("TRAINED_MODEL_EXPORT_JOB", "take")
        assert answer["explanation"]["statusCode"] == "INVALID_RECEIVER"
    shop.unseen(model, "runner", exportName="other")
    with pytest.raises(ClientError, match="goes with the ARN of a trained model"):
        shop.explain(channel, exportName="take")


def test_a_query_is_its_runners(room: Room) -> None:
    shop = Shop(room)
    id = "0" * 8 + "-0000-0000-0000-" + "0" * 12
    shop.unseen(id, "runner")
    channel = shop.active_channel()
    query = "11111111-1111-1111-1111-111111111111"
    with closing(sqlite3.connect(room.settings.database)) as connection, connection:
        connection.execute(
            "UPDATE resource SET kind = 'protected_query', id = ?, status = 'FAILED', "
            "body = json_patch(body, ?) WHERE arn = ?",
            (
                query,
                json.dumps({"statusDetails": {"statusCode": "MALFORMED_QUERY", "message": SECRET}}),
                channel,
            ),
        )
    answer = shop.explain(query)
    assert (answer["kind"], answer["jobIdentifier"]) == ("PROTECTED_QUERY", query)
    assert answer["explanation"]["message"] == SECRET
    assert "stage" not in answer["explanation"]
    for party in ("owner", "vendor"):
        shop.unseen(query, party)
        shop.unseen(channel, party)


def test_who_is_elsewhere_or_gone_sees_nothing(room: Room, shop: Shop, jobs: dict[str, str]) -> None:
    other = Shop(room)
    for job in jobs.values():
        other.unseen(job, "runner")
    mine = other.model(other.active_channel(), "fails")["trainedModelArn"]
    work(room)
    other.cleanrooms("owner").delete_member(**other.whole(), accountId=other.account("vendor"))
    other.unseen(mine, "vendor")
    assert other.explain(mine, "owner")["failed"]
    other.cleanrooms("owner").delete_member(**other.whole(), accountId=other.account("runner"))
    other.unseen(mine, "owner")
    assert other.explain(mine, "runner")["explanation"]["statusCode"] == "AlgorithmError"
