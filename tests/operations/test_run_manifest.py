"""Run manifests over boto3: who sees which document, who may open what, and what it says."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner

from lib.queries import Desk
from lib.room import Room, pays, running
from lib.workshop import QUERY, RECORDS, Workshop, work
from passbox import manifest
from passbox.__main__ import cli
from passbox.access.keys import load_key_file

PARTIES = ("owner", "runner", "vendor")


class Shop(Workshop):
    def manifest(self, identifier: str, party: str = "runner", **more: Any) -> manifest.Checked:
        """What a party is given, checked with the room's key."""
        client = self.room.passbox(self.account(party))
        answer = client.get_run_manifest(**self.own(party), jobIdentifier=identifier, **more)
        openings = [{**one, "value": json.loads(one["value"])} for one in answer["openings"]]
        document = json.loads(answer["document"])
        assert manifest.canonical(document).decode() == answer["document"]
        key = manifest.Signer(load_key_file(self.room.settings.signing_key_file)).public
        return manifest.check(document, answer["signature"], openings, key)

    def unseen(self, identifier: str, party: str, words: str = "was not found", **more: Any) -> None:
        with pytest.raises(ClientError, match=words) as raised:
            self.manifest(identifier, party, **more)
        assert raised.value.response["Error"]["Code"] == "ResourceNotFoundException"


def opened(checked: manifest.Checked, seal: Any) -> Any:
    return checked.opened.get(seal, "shut")


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


@pytest.fixture(scope="module")
def shop(room: Room) -> Shop:
    shop = Shop(room, {"owner": pays(training=True), "runner": pays(query=True)})
    membership = shop.cleanrooms("owner").get_membership(**shop.own("owner"))["membership"]["arn"]
    shop.cleanrooms("owner").create_privacy_budget_template(
        **shop.own("owner"),
        privacyBudgetType="ACCESS_BUDGET",
        parameters={
            "accessBudget": {
                "resourceArn": f"{membership}/configuredtableassociation/{shop.table}",
                "budgetParameters": [{"type": "LIFETIME", "budget": 10}],
            }
        },
    )
    for period, limit in (("MONTH", 1_000_000), ("LIFETIME", 5_000_000)):
        shop.room.passbox(shop.account("owner")).put_spend_cap(
            **shop.own("owner"), costType="MODEL_TRAINING", period=period, limitMicroDollars=limit
        )
    shop.configure()
    shop.configure("vendor")
    return shop


@pytest.fixture(scope="module")
def jobs(shop: Shop) -> dict[str, str]:
    channel = shop.active_channel()
    model = shop.active_model(channel, hyperparameters={"depth": "3"})
    inference = shop.inference(model, channel)
    shop.export(model, "take", receiver="vendor")
    work(shop.room)
    return {"channel": channel, "model": model, "inference": inference}


def test_every_member_is_given_the_same_document(shop: Shop, jobs: dict[str, str]) -> None:
    for job in jobs.values():
        documents = [shop.manifest(job, party).document for party in PARTIES]
        assert documents[0] == documents[1] == documents[2]
        assert documents[0]["submitterAccountId"] == shop.account("runner")
        assert documents[0]["status"] == "ACTIVE"


def test_a_channel(shop: Shop, jobs: dict[str, str]) -> None:
    seen = {party: shop.manifest(jobs["channel"], party) for party in PARTIES}
    document = seen["runner"].document
    assert document["job"] == {
        "kind": "ML_INPUT_CHANNEL",
        "identifier": jobs["channel"],
        "name": "visits",
        "versionIdentifier": None,
        "run": document["job"]["run"],
    }
    assert opened(seen["runner"], document["query"]) == {"queryString": QUERY}
    assert opened(seen["owner"], document["query"]) == "shut"
    assert document["algorithm"]["configuredModelAlgorithmAssociationArn"] == shop.association
    [table] = document["tables"]
    for party in ("runner", "owner"):
        told = opened(seen[party], table)
        assert (told["name"], told["ownerAccountId"]) == ("visits", shop.account("owner"))
        assert (told["usesBefore"], told["usesAfter"]) == (10, 9)
        assert told["analysisRule"]["type"] == "CUSTOM"
        assert told["analysisRule"]["version"] == 1
        assert re.fullmatch("[0-9a-f]{64}", told["collaborationAnalysisRule"]["sha256"])
    assert seen["vendor"].opened == {}
    [charge] = document["charges"]
    assert (charge["costType"], charge["payerAccountId"]) == ("queryCompute", shop.account("runner"))
    assert opened(seen["runner"], charge["charge"])["amountMicroDollars"] > 0
    assert opened(seen["owner"], charge["charge"]) == "shut"
    # what came out is the room's own: nobody opens it
    [output] = document["outputs"]
    assert all(opened(seen[party], output["files"]) == "shut" for party in PARTIES)
    assert output["receiverAccountId"] is None


def test_nothing_private_stands_in_the_document(shop: Shop, jobs: dict[str, str]) -> None:
    for job in jobs.values():
        text = json.dumps(shop.manifest(job).document)
        for private in (QUERY, hashlib.sha256(QUERY.encode()).hexdigest(), "visits.csv", "depth", "Micro"):
            assert private not in text


def test_a_training(shop: Shop, jobs: dict[str, str]) -> None:
    seen = {party: shop.manifest(jobs["model"], party) for party in PARTIES}
    document = seen["runner"].document
    assert document["imageDigest"] == "sha256:" + "0" * 64
    assert document["isolation"] == "sealed"
    inputs = opened(seen["runner"], document["inputs"])
    channel = shop.manifest(jobs["channel"]).document
    assert inputs["hyperparameters"] == {"depth": "3"}
    [source] = inputs["sources"]
    assert source["arn"] == jobs["channel"]
    assert source["outputs"] == [channel["outputs"][0]["files"]]
    assert opened(seen["vendor"], document["inputs"]) == "shut"
    [charge] = document["charges"]
    assert charge["payerAccountId"] == shop.account("owner")
    assert opened(seen["owner"], charge["charge"])["quantityMilliUnits"] == RECORDS * 1000
    paid = opened(seen["owner"], charge["charge"])
    caps = {one["period"]: one for one in paid["caps"]}
    for period, limit in (("MONTH", 1_000_000), ("LIFETIME", 5_000_000)):
        assert caps[period]["limitMicroDollars"] == caps[period]["leftBeforeMicroDollars"] == limit
        assert caps[period]["leftAfterMicroDollars"] == limit - paid["amountMicroDollars"]
    assert paid["amountMicroDollars"] > 0
    assert "privacy" not in document
    assert opened(seen["runner"], charge["charge"]) == opened(seen["vendor"], charge["charge"]) == "shut"
    # the vendor has been sent the model, so it may compare
    [output] = document["outputs"]
    files = opened(seen["vendor"], output["files"])
    assert [one["key"] for one in files] == ["model.tar.gz", "output.tar.gz"]
    assert opened(seen["owner"], output["files"]) == "shut"


def test_an_export_and_an_inference_say_what_was_received(shop: Shop, jobs: dict[str, str]) -> None:
    sent = shop.manifest(jobs["model"], "vendor", exportName="take")
    [output] = sent.document["outputs"]
    assert output["receiverAccountId"] == shop.account("vendor")
    [file] = opened(sent, output["files"])
    received = list((shop.room.settings.accounts / shop.account("vendor") / "buckets").rglob("model.tar.gz"))
    assert hashlib.sha256(received[0].read_bytes()).hexdigest() == file["sha256"]
    training = shop.manifest(jobs["model"], "vendor")
    trained = opened(training, training.document["outputs"][0]["files"])
    assert file["sha256"] == next(one["sha256"] for one in trained if one["key"] == "model.tar.gz")
    scored = shop.manifest(jobs["inference"], "runner")
    [output] = [one for one in scored.document["outputs"] if one["receiverAccountId"]]
    [file] = opened(scored, output["files"])
    received = list((shop.room.settings.accounts / shop.account("runner") / "buckets").rglob("results"))
    assert hashlib.sha256(received[0].read_bytes()).hexdigest() == file["sha256"]
    [table] = scored.document["tables"]
    assert opened(scored, table)["usesBefore"] == 8


def test_a_job_that_failed_and_one_that_was_called_off(room: Room) -> None:
    shop = Shop(room)
    channel = shop.active_channel()
    failed = shop.model(channel, "fails")["trainedModelArn"]
    shop.unseen(failed, "owner", "it is signed when the job is over")
    work(room)
    document = shop.manifest(failed, "owner").document
    assert (document["status"], document["statusCode"]) == ("CREATE_FAILED", "AlgorithmError")
    assert document["outputs"] == []
    [charge] = document["charges"]
    told = shop.manifest(failed)
    assert opened(told, charge["charge"])["amountMicroDollars"] == 0
    second = shop.model(channel, "second")["trainedModelArn"]
    shop.ml().cancel_trained_model(**shop.own(), trainedModelArn=second)
    work(room)
    document = shop.manifest(second, "owner").document
    assert (document["status"], document["statusCode"]) == ("INACTIVE", "CANCELLED")


def test_who_is_elsewhere_sees_nothing(room: Room, jobs: dict[str, str]) -> None:
    other = Shop(room)
    for job in jobs.values():
        other.unseen(job, "runner")


def test_a_seal_of_the_same_query_is_another(room: Room) -> None:
    shop = Shop(room)
    seals = {shop.manifest(shop.active_channel(name)).document["query"] for name in ("one", "two")}
    assert len(seals) == 2


def test_a_query_is_for_its_parties(room: Room) -> None:
    desk = Desk(room)
    bystander = "partner"
    query = desk.start()["id"]
    work(room)
    seen = {}
    for party in ("runner", "owner"):
        client = room.passbox(desk.accounts[party])
        answer = client.get_run_manifest(**desk.own(party), jobIdentifier=query)
        openings = [{**one, "value": json.loads(one["value"])} for one in answer["openings"]]
        seen[party] = manifest.check(json.loads(answer["document"]), answer["signature"], openings)
    document = seen["runner"].document
    assert document == seen["owner"].document
    assert (document["job"]["kind"], document["job"]["identifier"]) == ("PROTECTED_QUERY", query)
    assert "queryString" in opened(seen["runner"], document["query"])
    assert opened(seen["owner"], document["query"]) == "shut"
    assert opened(seen["owner"], document["tables"][0])["name"] == "visits"
    [output] = document["outputs"]
    assert opened(seen["runner"], output["files"])[0]["bytes"] > 0
    assert opened(seen["owner"], output["files"]) == "shut"
    client = room.passbox(desk.accounts[bystander])
    with pytest.raises(ClientError, match=f"The job {query} was not found"):
        client.get_run_manifest(**desk.own(bystander), jobIdentifier=query)


def test_it_is_verified_offline(shop: Shop, jobs: dict[str, str], tmp_path: Path) -> None:
    key, file = tmp_path / "room.pub", tmp_path / "manifest.json"
    home = str(shop.room.settings.home)
    key.write_text(CliRunner().invoke(cli, ["room", "key", "--home", home]).stdout)
    client = shop.room.passbox(shop.account("runner"))
    answer = client.get_run_manifest(**shop.own(), jobIdentifier=jobs["channel"])
    whole = {
        "manifest": json.loads(answer["document"]),
        "signature": answer["signature"],
        "openings": [{**one, "value": json.loads(one["value"])} for one in answer["openings"]],
    }

    def verify(*more: str) -> Any:
        file.write_text(json.dumps(whole))
        return CliRunner().invoke(cli, ["verify", str(file), *more])

    ran = verify("--key", str(key))
    assert ran.exit_code == 0, ran.output
    assert "Signed with the key of the room" in ran.output
    assert "3 sealed values are proved, 1 stay sealed" in ran.output
    assert json.loads(verify("--json").output)["keyTrusted"] is False
    whole["manifest"]["status"] = "CREATE_FAILED"
    ran = verify("--key", str(key))
    assert isinstance(ran.exception, manifest.NotGenuine)
    whole["more"] = 1
    assert f"{file} is no run manifest" in str(verify().exception)
    file.write_text("{")
    assert CliRunner().invoke(cli, ["verify", str(file)]).exit_code == 1
