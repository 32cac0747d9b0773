"""Inference jobs over boto3: what may score what, who receives, cancels, views and the book."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from lib.room import Room, everything, pays, refused, running
from lib.workshop import IMAGE, RECORDS, Made, Workshop, limited, work

PAYER = "mlModelInferencePayerAccountId"
META = "ResponseMetadata"
NULL = "NULL"
HIDDEN = {
    "dataSource",
    "resourceConfig",
    "environment",
    "containerExecutionParameters",
    "statusDetails",
    "inferenceContainerImageDigest",
    "kmsKeyArn",
    "tags",
}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


class Trained(Workshop):
    """With an ACTIVE channel and model, and an ML configuration of the runner's."""

    def __init__(self, room: Room, payment: Any = None, **more: Any) -> None:
        super().__init__(room, payment, **more)
        self.configure()
        self.visits = self.active_channel()
        self.late = self.active_model(self.visits)

    def start(self, name: str = "score", **changes: Any) -> str:
        return self.inference(self.late, self.visits, name, **changes)

    def get(self, arn: str) -> Any:
        return self.ml().get_trained_model_inference_job(**self.own(), trainedModelInferenceJobArn=arn)

    def cancel(self, arn: str, party: str = "runner") -> Any:
        return self.ml(party).cancel_trained_model_inference_job(
            **self.own(party), trainedModelInferenceJobArn=arn
        )


@pytest.fixture
def shop(room: Room) -> Trained:
    return Trained(room)


@pytest.fixture(scope="module")
def shared(room: Room) -> Trained:
    """For tests that submit nothing which stays."""
    return Trained(room)


def test_life(shop: Trained) -> None:
    asked = {
        "description": "autumn",
        "environment": {"LEVEL": "debug"},
        "containerExecutionParameters": {"maxPayloadInMB": 3},
        "resourceConfig": {"instanceType": "ml.m5.xlarge", "instanceCount": 1},
        "outputConfiguration": {"accept": "text/csv", "members": [{"accountId": shop.account("runner")}]},
        "kmsKeyArn": f"arn:aws:kms:us-east-1:{shop.account('runner')}:key/{uuid4()}",
        "tags": {"team": "a"},
    }
    arn = shop.start(**asked)
    account, membership = shop.account("runner"), shop.memberships["runner"]
    assert arn.startswith(
        f"arn:aws:cleanrooms-ml:us-east-1:{account}:membership/{membership}/trained-model-inference-job/"
    )
    found = shop.get(arn)
    assert {key: found[key] for key in asked} == asked
    assert (found["trainedModelInferenceJobArn"], found["trainedModelArn"]) == (arn, shop.late)
    assert found["trainedModelVersionIdentifier"] == NULL
    assert found["configuredModelAlgorithmAssociationArn"] == shop.association
    assert found["dataSource"] == {"mlInputChannelArn": shop.visits}
    assert (found["name"], found["status"], found[PAYER]) == ("score", "CREATE_PENDING", account)
    assert found["membershipIdentifier"] == membership
    assert found["statusDetails"]["statusCode"] == "IN_PROGRESS"
    assert isinstance(found["createTime"], datetime)
    work(shop.room)
    done = shop.get(arn)
    assert done["status"] == "ACTIVE"
    assert done["inferenceContainerImageDigest"].startswith("sha256:")
    [summary] = shop.ml().list_trained_model_inference_jobs(**shop.own())["trainedModelInferenceJobs"]
    assert summary.pop("collaborationIdentifier") == shop.id
    assert {key: done[key] for key in summary} == summary
    assert PAYER in summary


def test_defaults(shop: Trained) -> None:
    found = shop.get(shop.start())
    assert found["containerExecutionParameters"] == {"maxPayloadInMB": 6}
    assert found["configuredModelAlgorithmAssociationArn"] == shop.association
    second = shop.next_version(shop.visits, shop.late, "second")
    work(shop.room)
    assert shop.get(shop.start("latest"))["trainedModelVersionIdentifier"] == second
    assert (
        shop.get(shop.start("named", trainedModelVersionIdentifier=second))["trainedModelVersionIdentifier"]
        == second
    )


def test_what_the_others_see(shop: Trained) -> None:
    arn = shop.start(
        environment={"SECRET": "1"},
        tags={"a": "b"},
        kmsKeyArn=f"arn:aws:kms:us-east-1:{shop.account('runner')}:key/{uuid4()}",
    )
    work(shop.room)
    own = shop.get(arn)
    for party in ("runner", "vendor", "owner"):
        page = shop.ml(party).list_collaboration_trained_model_inference_jobs(**shop.whole())
        [seen] = page["collaborationTrainedModelInferenceJobs"]
        assert seen["creatorAccountId"] == shop.account("runner")
        assert set(seen) & HIDDEN == set()
        assert seen["collaborationIdentifier"] == shop.id
        shown = {key for key in seen if key not in ("creatorAccountId", "collaborationIdentifier")}
        assert {key: seen[key] for key in shown} == {key: own[key] for key in shown}
    for party in ("vendor", "owner"):
        client = shop.ml(party)
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            client.get_trained_model_inference_job(**shop.own(party), trainedModelInferenceJobArn=arn)
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            shop.cancel(arn, party)
        page = client.list_trained_model_inference_jobs(**shop.own(party))
        assert page["trainedModelInferenceJobs"] == []


def test_both_lists_by_model_and_version(shop: Trained) -> None:
    second = shop.next_version(shop.visits, shop.late, "second")
    work(shop.room)
    other = shop.active_model(shop.visits, "other")
    jobs = {
        "of second": shop.start("of second"),
        "of second, too": shop.start("of second, too", trainedModelVersionIdentifier=second),
        "of other": shop.inference(other, shop.visits, "of other"),
    }

    def names(**asked: Any) -> list[str]:
        own = everything(
            shop.ml().list_trained_model_inference_jobs, "trainedModelInferenceJobs", **shop.own(), **asked
        )
        seen = everything(
            shop.ml("owner").list_collaboration_trained_model_inference_jobs,
            "collaborationTrainedModelInferenceJobs",
            **shop.whole(),
            **asked,
        )
        assert [one["name"] for one in own] == [one["name"] for one in seen]
        return [one["name"] for one in own]

    assert names() == list(jobs)
    assert names(trainedModelArn=shop.late) == ["of second", "of second, too"]
    assert names(trainedModelArn=shop.late, trainedModelVersionIdentifier=second) == [
        "of second", "of second, too",
    ]  # fmt: skip
    assert names(trainedModelVersionIdentifier=second) == ["of second", "of second, too"]
    assert names(trainedModelArn=other) == ["of other"]
    for asked in (
        {"trainedModelArn": f"{shop.late[:-36]}{uuid4()}"},
        {"trainedModelArn": other, "trainedModelVersionIdentifier": second},
    ):
        for method, scope in (
            (shop.ml().list_trained_model_inference_jobs, shop.own()),
            (shop.ml("owner").list_collaboration_trained_model_inference_jobs, shop.whole()),
        ):
            with pytest.raises(shop.ml().exceptions.ResourceNotFoundException):
                method(**scope, **asked)


def test_pages_go_on_when_a_version_comes_in_between(shop: Trained) -> None:
    for number in range(3):
        shop.start(f"n{number}")
    asked = {**shop.own(), "trainedModelArn": shop.late}
    page = shop.ml().list_trained_model_inference_jobs(**asked, maxResults=2)
    shop.next_version(shop.visits, shop.late, "second")
    rest = shop.ml().list_trained_model_inference_jobs(**asked, nextToken=page["nextToken"])
    assert [one["name"] for one in rest["trainedModelInferenceJobs"]] == ["n2"]
    with pytest.raises(shop.ml().exceptions.ValidationException, match="nextToken"):
        shop.ml().list_trained_model_inference_jobs(**shop.own(), nextToken=page["nextToken"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"environment": {"PASSBOX_CSV_HEADER": "last"}}, "first, every, none"),
        ({"resourceConfig": {"instanceType": "ml.nothing"}}, "instanceType"),
        ({"containerExecutionParameters": {"maxPayloadInMB": 101}}, "maxPayloadInMB"),
        ({"outputConfiguration": {"members": []}}, "members"),
        ({"outputConfiguration": {"members": [{"accountId": "999999999999"}]}}, "not an active member"),
        ({"tags": {"aws:x": "1"}}, "aws:"),
        ({"environment": {f"k{number}": "" for number in range(17)}}, "environment"),
    ],
)
def test_what_is_refused(shared: Trained, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(shared.ml().exceptions.ValidationException, match=words):
        shared.start("refused", **changes)
    assert "machineLearning.modelInference" not in {one["cost_type"] for one in shared.transfers()}


def test_what_is_missing(shared: Trained) -> None:
    missing = shared.ml().exceptions.ResourceNotFoundException
    with pytest.raises(missing, match="trained model"):
        shared.inference(f"{shared.late[:-36]}{uuid4()}", shared.visits)
    with pytest.raises(missing, match="version"):
        shared.start(trainedModelVersionIdentifier=str(uuid4()))
    with pytest.raises(missing, match="ml input channel"):
        shared.inference(shared.late, f"{shared.visits[:-36]}{uuid4()}")
    with pytest.raises(missing, match="association"):
        shared.start(configuredModelAlgorithmAssociationArn=f"{shared.association[:-36]}{uuid4()}")
    arn = f"{shared.late[:-36]}{uuid4()}".replace("trained-model", "trained-model-inference-job")
    for method in (shared.get, shared.cancel):
        with pytest.raises(missing, match="inference job"):
            method(arn)


def test_only_the_member_with_can_query_submits(shared: Trained) -> None:
    request = shared.inference_request(shared.late, shared.visits)
    with pytest.raises(shared.ml("vendor").exceptions.AccessDeniedException, match="CAN_QUERY"):
        shared.ml("vendor").start_trained_model_inference_job(**{**request, **shared.own("vendor")})
    with pytest.raises(shared.ml("vendor").exceptions.ResourceNotFoundException, match="membership"):
        shared.ml("vendor").start_trained_model_inference_job(**request)


def test_who_may_receive(shop: Trained) -> None:
    invalid = shop.ml().exceptions.ValidationException
    with pytest.raises(invalid, match="CAN_RECEIVE_INFERENCE_OUTPUT"):
        shop.start(receiver="owner")
    with pytest.raises(invalid, match="no ML configuration"):
        shop.start(receiver="vendor")
    shop.configure("vendor", roleArn=shop.role("vendor"))
    with pytest.raises(invalid, match="destination"):
        shop.start(receiver="vendor")
    shop.configure("vendor")
    arn = shop.start(receiver="vendor")
    assert shop.get(arn)["outputConfiguration"]["members"] == [{"accountId": shop.account("vendor")}]
    shop.cleanrooms("owner").delete_member(collaborationIdentifier=shop.id, accountId=shop.account("vendor"))
    with pytest.raises(shop.ml().exceptions.ResourceNotFoundException, match="association"):
        shop.start("again")  # the algorithm left with its vendor


def test_what_is_not_active(shop: Trained) -> None:
    conflict = shop.ml().exceptions.ConflictException
    channel = shop.channel("pending")
    with pytest.raises(conflict, match="channel pending is CREATE_PENDING"):
        shop.inference(shop.late, channel)
    model = shop.model(shop.visits, "another")["trainedModelArn"]
    with pytest.raises(conflict, match="model another is CREATE_PENDING"):
        shop.inference(model, shop.visits)
    work(shop.room)
    shop.ml().delete_trained_model_output(**shop.own(), trainedModelArn=shop.late)
    work(shop.room)
    with pytest.raises(conflict, match="INACTIVE"):
        shop.start()


def test_a_parquet_channel(shop: Trained) -> None:
    channel = shop.active_channel("parquet", source={"resultFormat": "PARQUET"})
    with pytest.raises(shop.ml().exceptions.ValidationException, match="CSV"):
        shop.inference(shop.late, channel)


def test_another_algorithm_of_the_same_vendor(shop: Trained) -> None:
    """Training and scoring may be two algorithms, as AWS allows; the channel must be for the second."""
    other = shop.associate("scores")
    with pytest.raises(shop.ml().exceptions.ValidationException, match="made for another"):
        shop.start(configuredModelAlgorithmAssociationArn=other)
    shop.allow(shop.table, shop.association, other, verb="update")
    channel = shop.active_channel("for the other", configuredModelAlgorithmAssociations=[other])
    arn = shop.inference(shop.late, channel, configuredModelAlgorithmAssociationArn=other)
    assert shop.get(arn)["configuredModelAlgorithmAssociationArn"] == other
    algorithm = shop.algorithm("trains only", trainingContainerConfig={"imageUri": IMAGE})
    trains = shop.associate("trains only", algorithm=algorithm)
    with pytest.raises(shop.ml().exceptions.ValidationException, match="no inference container"):
        shop.start(configuredModelAlgorithmAssociationArn=trains)


def test_the_model_of_one_vendor_is_not_shown_to_anothers_container(shop: Trained) -> None:
    """Else an echo server of the runner's own would carry out what the vendor's export policy keeps in."""
    mine = shop.associate("echo", party="runner")
    shop.allow(shop.table, shop.association, mine, verb="update")
    channel = shop.active_channel("for the echo", configuredModelAlgorithmAssociations=[mine])
    with pytest.raises(shop.ml().exceptions.ValidationException, match="another member"):
        shop.inference(shop.late, channel, configuredModelAlgorithmAssociationArn=mine)


def test_cancelling(shop: Trained) -> None:
    arn = shop.start()
    assert shop.cancel(arn)[META]["HTTPStatusCode"] == 200
    assert shop.get(arn)["status"] == "CANCEL_PENDING"
    conflict = shop.ml().exceptions.ConflictException
    with pytest.raises(conflict, match="CANCEL_PENDING"):
        shop.cancel(arn)
    work(shop.room)
    assert shop.get(arn)["status"] == "INACTIVE"
    with pytest.raises(conflict, match="INACTIVE"):
        shop.cancel(arn)
    scored = [one for one in shop.transfers() if one["cost_type"] == "machineLearning.modelInference"]
    assert [one["kind"] for one in scored] == ["reserve", "void"]
    again = shop.start()  # the name is free
    work(shop.room)
    with pytest.raises(conflict, match="ACTIVE"):
        shop.cancel(again)


def test_a_name_is_used_once(shop: Trained) -> None:
    conflict = shop.ml().exceptions.ConflictException
    shop.start()
    for _ in range(2):
        with pytest.raises(conflict, match="score"):
            shop.start()
        work(shop.room)
    shop.start("fails")
    work(shop.room)
    shop.start("fails")


def test_tags(shop: Trained) -> None:
    arn = shop.start(tags={"team": "a"})
    client = shop.ml()
    client.tag_resource(resourceArn=arn, tags={"team": "b"})
    assert client.list_tags_for_resource(resourceArn=arn)["tags"] == {"team": "b"}
    assert shop.get(arn)["tags"] == {"team": "b"}
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        shop.ml("vendor").untag_resource(resourceArn=arn, tagKeys=["team"])


def test_the_book_beside_it(room: Room) -> None:
    payment = {
        "runner": pays(query=True, training=True, inference=True),
        "vendor": pays(inference=True),
    }
    shop = Trained(room, payment)
    shop.start(mlModelInferencePayerAccountId=shop.account("vendor"))

    def scored() -> list[dict[str, Any]]:
        return [one for one in shop.transfers() if one["cost_type"] == "machineLearning.modelInference"]

    [reserved] = scored()
    assert (reserved["kind"], reserved["payer"]) == ("reserve", shop.account("vendor"))
    assert (reserved["quantity"], reserved["quantity_unit"]) == (RECORDS * 1000, "records scored")
    work(room)
    assert [one["kind"] for one in scored()] == ["reserve", "post"]
    [line] = [one for one in shop.lines() if one["payer"] == shop.account("vendor")]
    assert (line["jobs"], line["posted"], line["reserved"]) == (1, RECORDS * 10, 0)


def test_what_cannot_be_delivered_is_refunded(shop: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """The receiver's folder was fine when the job began and is none when the results come."""
    account = shop.account("runner")
    buckets = shop.room.settings.accounts / account / "buckets"
    run = Made.run

    def get_in_the_way(*arguments: Any) -> Any:
        buckets.mkdir(parents=True)
        (buckets / f"results-{account}").write_text("no folder")
        return run(*arguments)

    monkeypatch.setattr(Made, "run", get_in_the_way)
    arn = shop.start()
    work(shop.room)
    found = shop.get(arn)
    assert (found["status"], found["statusDetails"]["statusCode"]) == ("CREATE_FAILED", "DELIVERY_FAILED")
    entries = [one for one in shop.transfers() if one["cost_type"] == "machineLearning.modelInference"]
    assert [one["kind"] for one in entries] == ["reserve", "post", "refund"]
    assert entries[1]["amount"] == entries[2]["amount"] == RECORDS * 10
    [line] = [one for one in shop.lines() if one["cost_type"] == "machineLearning.modelInference"]
    assert (line["jobs"], line["quantity"], line["posted"], line["reserved"]) == (0, 0, 0, 0)


def test_nothing_is_delivered_to_who_left_while_it_ran(
    shop: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.configure("vendor")
    run = Made.run

    def leave(*arguments: Any) -> Any:
        shop.cleanrooms("owner").delete_member(
            collaborationIdentifier=shop.id, accountId=shop.account("vendor")
        )
        return run(*arguments)

    monkeypatch.setattr(Made, "run", leave)
    arn = shop.start(receiver="vendor")
    work(shop.room)
    found = shop.get(arn)
    assert (found["status"], found["statusDetails"]["statusCode"]) == ("CREATE_FAILED", "INVALID_RECEIVER")
    assert not (shop.room.settings.accounts / shop.account("vendor") / "buckets").exists()
    entries = [one for one in shop.transfers() if one["cost_type"] == "machineLearning.modelInference"]
    assert [one["kind"] for one in entries] == ["reserve", "void"]


def test_the_quotas(tmp_path: Path) -> None:
    with limited(tmp_path, inference_jobs_per_membership=2, inference_jobs_per_account=3) as room:
        shop = Trained(room)
        second = Trained(room, accounts=shop.accounts)

        def refuses(quota: str, value: int, submit: Any) -> None:
            with pytest.raises(shop.ml().exceptions.ServiceQuotaExceededException) as refusal:
                submit()
            answer = refusal.value.response
            assert (answer["quotaName"], answer["quotaValue"]) == (quota, value)
            assert answer[META]["HTTPStatusCode"] == 402

        shop.start("a")
        arn = shop.start("b")
        refuses("inference jobs per membership", 2, lambda: shop.start("c"))
        second.start("a")
        refuses("inference jobs per account", 3, lambda: second.start("b"))
        shop.cancel(arn)
        refuses("inference jobs per membership", 2, lambda: shop.start("c"))  # it still runs
        work(room)
        shop.start("c")


def test_after_its_creator_left_it_is_out_of_sight(shop: Trained) -> None:
    arn = shop.start()
    shop.cleanrooms("owner").delete_member(collaborationIdentifier=shop.id, accountId=shop.account("runner"))
    method = shop.ml("owner").list_collaboration_trained_model_inference_jobs
    assert method(**shop.whole())["collaborationTrainedModelInferenceJobs"] == []
    with pytest.raises(ClientError) as missing:
        method(**shop.whole(), trainedModelArn=shop.late)
    assert refused(missing.value)[0] == "ResourceNotFoundException"
    work(shop.room)
    assert shop.get(arn)["status"] == "INACTIVE"
