"""Trained models over boto3: submissions, versions, cancels, deletes, views and the book."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from lib.room import Room, everything, pays, refused, running
from lib.workshop import IMAGE, KINDS, RECORDS, Made, Workshop, limited, work
from passbox.ledger import prices

PAYER = "mlModelTrainingPayerAccountId"
HIDDEN = {"dataChannels", "hyperparameters", "environment", "kmsKeyArn", "tags"}
META = "ResponseMetadata"
NULL = "NULL"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


@pytest.fixture
def shop(room: Room) -> Workshop:
    return Workshop(room)


@pytest.fixture(scope="module")
def shared(room: Room) -> Workshop:
    """For tests that submit nothing which stays; with one channel."""
    shop = Workshop(room)
    shop.active_channel()
    return shop


def only_channel(shop: Workshop) -> str:
    [summary] = shop.ml().list_ml_input_channels(**shop.own())["mlInputChannelsList"]
    return str(summary["mlInputChannelArn"])


def get(shop: Workshop, arn: str, version: str | None = None) -> Any:
    more = {} if version is None else {"versionIdentifier": version}
    return shop.ml().get_trained_model(**shop.own(), trainedModelArn=arn, **more)


def see(shop: Workshop, arn: str, party: str, **more: Any) -> Any:
    return shop.ml(party).get_collaboration_trained_model(**shop.whole(), trainedModelArn=arn, **more)


def versions(shop: Workshop, arn: str, **more: Any) -> list[Any]:
    return everything(
        shop.ml().list_trained_model_versions, "trainedModels", **shop.own(), trainedModelArn=arn, **more
    )


def cancel(shop: Workshop, arn: str, party: str = "runner", **more: Any) -> Any:
    return shop.ml(party).cancel_trained_model(**shop.own(party), trainedModelArn=arn, **more)


def delete(shop: Workshop, arn: str, party: str = "runner", **more: Any) -> Any:
    return shop.ml(party).delete_trained_model_output(**shop.own(party), trainedModelArn=arn, **more)


def kept(room: Room) -> set[str]:
    """The versions of which the room keeps files."""
    return {path.name for path in (room.settings.vault / "trained_model").iterdir() if path.is_dir()}


def test_life(shop: Workshop) -> None:
    channel = shop.active_channel()
    asked = {
        "description": "gradient-boosted",
        "hyperparameters": {"depth": "3"},
        "environment": {"LEVEL": "debug"},
        "resourceConfig": {"instanceType": "ml.m5.xlarge", "volumeSizeInGB": 2, "instanceCount": 1},
        "stoppingCondition": {"maxRuntimeInSeconds": 60},
        "trainingInputMode": "FastFile",
        "kmsKeyArn": f"arn:aws:kms:us-east-1:{shop.account('runner')}:key/{uuid4()}",
        "tags": {"team": "a"},
    }
    answer = shop.model(channel, **asked)
    arn = answer["trainedModelArn"]
    assert answer["versionIdentifier"] == NULL
    account, membership = shop.account("runner"), shop.memberships["runner"]
    assert arn.startswith(f"arn:aws:cleanrooms-ml:us-east-1:{account}:membership/{membership}/trained-model/")
    found = get(shop, arn)
    assert {key: found[key] for key in asked} == asked
    assert (found["trainedModelArn"], found["versionIdentifier"]) == (arn, NULL)
    assert (found["membershipIdentifier"], found["collaborationIdentifier"]) == (membership, shop.id)
    assert found["configuredModelAlgorithmAssociationArn"] == shop.association
    assert found["dataChannels"] == shop.model_request(channel)["dataChannels"]
    assert (found["name"], found["status"], found[PAYER]) == ("late", "CREATE_PENDING", account)
    assert found["statusDetails"]["statusCode"] == "IN_PROGRESS"
    assert isinstance(found["createTime"], datetime)
    work(shop.room)
    done = get(shop, arn)
    assert done["status"] == "ACTIVE"
    assert done["trainingContainerImageDigest"].startswith("sha256:")
    assert "statusDetails" not in done
    [summary] = shop.ml().list_trained_models(**shop.own())["trainedModels"]
    assert {key: done[key] for key in summary} == summary
    assert set(summary) >= {PAYER, "versionIdentifier", "description"}
    identifier = arn.rpartition("/")[2]
    assert identifier in kept(shop.room)
    assert delete(shop, arn)[META]["HTTPStatusCode"] == 200
    assert get(shop, arn)["status"] == "DELETE_PENDING"
    work(shop.room)
    assert get(shop, arn)["status"] == "INACTIVE"
    assert identifier not in kept(shop.room)


def test_a_model_that_was_trained_on_less_than_it_asked_for_says_so(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "ml.m5.xlarge has 4 vCPUs and 16 GiB of memory; a job may have 1 and 1.0 GiB here."
    for isolation, code in (("sealed", "INSTANCE_SCALED"), ("degraded", "ISOLATION_DEGRADED")):
        made = Made(prices.MODEL_TRAINING, {"isolation": isolation, "scaled": said})
        monkeypatch.setitem(KINDS, "trained_model", made)
        visits = only_channel(shop) if isolation == "degraded" else shop.active_channel()
        arn = shop.model(visits, name=isolation)["trainedModelArn"]
        work(shop.room)
        found = get(shop, arn)
        assert (found["status"], found["statusDetails"]["statusCode"]) == ("ACTIVE", code)
        assert found["statusDetails"]["message"].endswith(said)
        assert see(shop, arn, "owner")["statusDetails"] == found["statusDetails"]


def test_what_the_others_see(shop: Workshop) -> None:
    arn = shop.active_model(
        shop.active_channel(),
        hyperparameters={"depth": "3"},
        environment={"LEVEL": "debug"},
        tags={"a": "b"},
        description="seen by all",
        kmsKeyArn=f"arn:aws:kms:us-east-1:{shop.account('runner')}:key/{uuid4()}",
    )
    own = get(shop, arn)
    assert set(own) >= HIDDEN
    for party in ("runner", "vendor", "owner"):
        seen = see(shop, arn, party)
        assert seen["creatorAccountId"] == shop.account("runner")
        visible = {key: own[key] for key in own if key not in HIDDEN | {META}}
        assert {key: seen[key] for key in seen if key not in ("creatorAccountId", META)} == visible
        page = shop.ml(party).list_collaboration_trained_models(**shop.whole())
        [summary] = page["collaborationTrainedModels"]
        assert set(summary) & HIDDEN == set()
        assert {key: seen[key] for key in summary} == summary
    for party in ("vendor", "owner"):
        client, own_of = shop.ml(party), shop.own(party)
        for method in (
            client.get_trained_model,
            client.list_trained_model_versions,
            client.cancel_trained_model,
            client.delete_trained_model_output,
        ):
            with pytest.raises(client.exceptions.ResourceNotFoundException):
                method(**own_of, trainedModelArn=arn)
        assert client.list_trained_models(**own_of)["trainedModels"] == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"resourceConfig": {"instanceType": "ml.m5.xlarge", "volumeSizeInGB": 1, "instanceCount": 6}},
            "resourceConfig.instanceCount",
        ),
        ({"trainingInputMode": "Stream"}, "trainingInputMode"),
        ({"resourceConfig": {"instanceType": "ml.nothing.large", "volumeSizeInGB": 1}}, "instanceType"),
        ({"resourceConfig": {"instanceType": "ml.m5.xlarge"}}, "volumeSizeInGB"),
        ({"dataChannels": []}, "dataChannels"),
        ({"tags": {"aws:x": "1"}}, "aws:"),
        ({"stoppingCondition": {"maxRuntimeInSeconds": 0}}, "maxRuntimeInSeconds"),
        ({"environment": {"1A": "x"}}, "environment"),
    ],
)
def test_what_is_refused(shared: Workshop, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(shared.ml().exceptions.ValidationException, match=words):
        shared.model(only_channel(shared), "refused", **changes)
    assert shared.ml().list_trained_models(**shared.own())["trainedModels"] == []
    assert {entry["cost_type"] for entry in shared.transfers()} == {"queryCompute"}


def test_channels_of_a_training(shared: Workshop) -> None:
    channel = only_channel(shared)
    one = {"mlInputChannelArn": channel, "channelName": "train"}
    invalid = shared.ml().exceptions.ValidationException
    with pytest.raises(invalid, match="channelName train is used twice"):
        shared.model(channel, "refused", dataChannels=[one, one])
    base = {"trainedModelArn": channel.replace("ml-input-channel", "trained-model"), "channelName": "train"}
    with pytest.raises(invalid, match="used twice"):
        shared.model(channel, "refused", incrementalTrainingDataChannels=[base])
    many = [{**one, "channelName": f"c{number}"} for number in range(20)]
    with pytest.raises(invalid, match="at most 20"):
        shared.model(
            channel,
            "refused",
            dataChannels=many,
            incrementalTrainingDataChannels=[{**base, "channelName": "b"}],
        )
    with pytest.raises(shared.ml().exceptions.ResourceNotFoundException, match="ml input channel"):
        shared.model(f"{channel[:-36]}{uuid4()}", "refused")


def test_only_the_member_with_can_query_submits(shared: Workshop) -> None:
    channel = only_channel(shared)
    with pytest.raises(shared.ml("owner").exceptions.AccessDeniedException, match="CAN_QUERY"):
        shared.ml("owner").create_trained_model(**{**shared.model_request(channel), **shared.own("owner")})
    with pytest.raises(shared.ml("owner").exceptions.ResourceNotFoundException, match="membership"):
        shared.ml("owner").create_trained_model(**shared.model_request(channel))


def test_a_channel_that_is_not_active(shop: Workshop) -> None:
    conflict = shop.ml().exceptions.ConflictException
    channel = shop.channel()
    with pytest.raises(conflict, match="CREATE_PENDING"):
        shop.model(channel)
    failed = shop.channel("fails")
    work(shop.room)
    with pytest.raises(conflict, match="CREATE_FAILED"):
        shop.model(failed)
    shop.model(channel)


def test_a_channel_made_for_another_algorithm(shop: Workshop) -> None:
    channel = shop.active_channel()
    other = shop.associate("other")
    with pytest.raises(
        shop.ml().exceptions.ValidationException, match=r"dataChannels\[0\].mlInputChannelArn"
    ):
        shop.model(channel, configuredModelAlgorithmAssociationArn=other)


def test_an_algorithm_without_a_training_container(shop: Workshop) -> None:
    algorithm = shop.algorithm("scores only", inferenceContainerConfig={"imageUri": IMAGE})
    scores = shop.associate("scores only", algorithm=algorithm)
    shop.allow(shop.table, shop.association, scores, verb="update")
    channel = shop.active_channel(configuredModelAlgorithmAssociations=[scores])
    with pytest.raises(shop.ml().exceptions.ValidationException, match="no training container"):
        shop.model(channel, configuredModelAlgorithmAssociationArn=scores)


def test_names_among_those_that_live(shop: Workshop) -> None:
    channel = shop.active_channel()
    first = shop.model(channel)["trainedModelArn"]
    for _ in range(2):
        with pytest.raises(shop.ml().exceptions.ConflictException, match="late"):
            shop.model(channel)
        work(shop.room)
    with pytest.raises(shop.ml().exceptions.ConflictException, match="late"):
        shop.next_version(channel, first, "late")
    delete(shop, first)
    assert shop.model(channel)["trainedModelArn"] != first


def test_versions(shop: Workshop) -> None:
    channel = shop.active_channel()
    arn = shop.active_model(channel)
    second = shop.next_version(channel, arn, "late 2")
    assert get(shop, arn)["versionIdentifier"] == second
    assert get(shop, arn)["incrementalTrainingDataChannels"] == [
        {"channelName": "base", "versionIdentifier": NULL, "modelName": "late"}
    ]
    work(shop.room)
    third = shop.next_version(channel, arn, "late 3")
    work(shop.room)
    assert get(shop, arn)["name"] == "late 3"
    assert get(shop, arn)["incrementalTrainingDataChannels"][0]["versionIdentifier"] == second
    fourth = shop.next_version(channel, arn, "late 4", base={"versionIdentifier": second})
    assert get(shop, arn, second)["name"] == "late 2"
    assert see(shop, arn, "owner")["versionIdentifier"] == fourth
    assert see(shop, arn, "owner", versionIdentifier=third)["name"] == "late 3"
    listed = versions(shop, arn)
    assert [one["versionIdentifier"] for one in listed] == [NULL, second, third, fourth]
    assert {one["trainedModelArn"] for one in listed} == {arn}
    assert all(one[PAYER] == shop.account("runner") for one in listed)
    assert listed[3]["incrementalTrainingDataChannels"][0]["versionIdentifier"] == second
    assert [one["name"] for one in versions(shop, arn, status="ACTIVE")] == ["late", "late 2", "late 3"]
    whole = everything(shop.ml().list_trained_models, "trainedModels", **shop.own())
    assert [one["versionIdentifier"] for one in whole] == [NULL, second, third, fourth]
    with pytest.raises(shop.ml().exceptions.ResourceNotFoundException):
        get(shop, arn, str(uuid4()))
    with pytest.raises(shop.ml().exceptions.ValidationException):
        get(shop, arn, NULL)  # a UUID by the model, so the base version is reached by naming none


def test_versions_come_ten_to_a_page(shop: Workshop) -> None:
    channel = shop.active_channel()
    arn = shop.active_model(channel)
    for number in range(11):
        shop.next_version(channel, arn, f"late {number}")
        work(shop.room)
    page = shop.ml().list_trained_model_versions(**shop.own(), trainedModelArn=arn)
    assert len(page["trainedModels"]) == 10
    shop.next_version(channel, arn, "one more")
    rest = shop.ml().list_trained_model_versions(
        **shop.own(), trainedModelArn=arn, nextToken=page["nextToken"]
    )
    assert [one["name"] for one in rest["trainedModels"]] == ["late 9", "late 10", "one more"]


def test_what_a_version_may_start_from(shop: Workshop) -> None:
    client = shop.ml()
    channel = shop.active_channel()
    arn = shop.model(channel)["trainedModelArn"]
    with pytest.raises(client.exceptions.ConflictException, match="CREATE_PENDING"):
        shop.next_version(channel, arn, "second")
    work(shop.room)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        shop.next_version(channel, f"{arn[:-36]}{uuid4()}", "second")
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        shop.next_version(channel, arn, "second", base={"versionIdentifier": str(uuid4())})
    other = shop.associate("other")
    shop.allow(shop.table, shop.association, other, verb="update")
    theirs = shop.active_channel("theirs", configuredModelAlgorithmAssociations=[other])
    with pytest.raises(client.exceptions.ValidationException, match="another algorithm association"):
        shop.next_version(theirs, arn, "second", configuredModelAlgorithmAssociationArn=other)


def test_a_version_that_failed_does_not_stand_in_the_way(shop: Workshop) -> None:
    """The base version cannot be named, so it must stay reachable when the next one comes to nothing."""
    shop.configure()
    channel = shop.active_channel()
    arn = shop.active_model(channel)
    failed = shop.next_version(channel, arn, "fails")
    work(shop.room)
    assert get(shop, arn)["status"] == "CREATE_FAILED"
    called_off = shop.next_version(channel, arn, "called off")
    cancel(shop, arn, versionIdentifier=called_off)
    work(shop.room)
    third = shop.next_version(channel, arn, "third")
    assert get(shop, arn)["incrementalTrainingDataChannels"][0]["versionIdentifier"] == NULL
    job = shop.inference(arn, channel)
    found = shop.ml().get_trained_model_inference_job(**shop.own(), trainedModelInferenceJobArn=job)
    assert found["trainedModelVersionIdentifier"] == NULL
    shop.export(arn)
    for version in (failed, called_off, third):
        with pytest.raises(shop.ml().exceptions.ConflictException, match="must be ACTIVE"):
            shop.inference(arn, channel, "b", trainedModelVersionIdentifier=version)
    work(shop.room)
    job = shop.inference(arn, channel, "c")
    found = shop.ml().get_trained_model_inference_job(**shop.own(), trainedModelInferenceJobArn=job)
    assert found["trainedModelVersionIdentifier"] == third


def test_cancelling(shop: Workshop) -> None:
    channel = shop.active_channel()
    arn = shop.model(channel)["trainedModelArn"]
    assert cancel(shop, arn)[META]["HTTPStatusCode"] == 200
    assert get(shop, arn)["status"] == "CANCEL_PENDING"
    conflict = shop.ml().exceptions.ConflictException
    for method in (cancel, delete):
        with pytest.raises(conflict, match="CANCEL_PENDING"):
            method(shop, arn)
    work(shop.room)
    found = get(shop, arn)
    assert (found["status"], found["statusDetails"]["statusCode"]) == ("INACTIVE", "CANCELLED")
    with pytest.raises(conflict, match="INACTIVE"):
        cancel(shop, arn)
    training = [one for one in shop.transfers() if one["cost_type"] == "machineLearning.modelTraining"]
    assert [one["kind"] for one in training] == ["reserve", "void"]
    done = shop.active_model(channel)
    with pytest.raises(conflict, match="ACTIVE"):
        cancel(shop, done)


def test_cancel_and_delete_mean_the_base_version(shop: Workshop) -> None:
    channel = shop.active_channel()
    arn = shop.active_model(channel)
    second = shop.next_version(channel, arn, "second")
    with pytest.raises(shop.ml().exceptions.ConflictException, match="ACTIVE"):
        cancel(shop, arn)
    with pytest.raises(shop.ml().exceptions.ConflictException, match="in progress"):
        delete(shop, arn)  # the second version starts from it
    cancel(shop, arn, versionIdentifier=second)
    work(shop.room)
    third = shop.next_version(channel, arn, "third")
    work(shop.room)
    delete(shop, arn)
    work(shop.room)
    assert [one["status"] for one in versions(shop, arn)] == ["INACTIVE", "INACTIVE", "ACTIVE"]
    delete(shop, arn, versionIdentifier=third)
    work(shop.room)
    assert get(shop, arn)["status"] == "INACTIVE"
    assert not {arn.rpartition("/")[2], third} & kept(shop.room)


def test_deleting_what_is_in_use(shop: Workshop) -> None:
    shop.configure()
    channel = shop.active_channel()
    arn = shop.active_model(channel)
    for start in (lambda: shop.inference(arn, channel), lambda: shop.export(arn)):
        start()
        with pytest.raises(shop.ml().exceptions.ConflictException, match="in progress"):
            delete(shop, arn)
        work(shop.room)
    delete(shop, arn)


def test_a_failure_is_told_to_all_and_costs_nothing(shop: Workshop) -> None:
    arn = shop.active_model(shop.active_channel(), "fails")
    for found in (get(shop, arn), see(shop, arn, "vendor")):
        assert (found["status"], found["statusDetails"]["statusCode"]) == ("CREATE_FAILED", "AlgorithmError")
    [line] = [one for one in shop.lines() if one["cost_type"] == "machineLearning.modelTraining"]
    assert (line["posted"], line["reserved"], line["jobs"]) == (0, 0, 0)
    delete(shop, arn)
    work(shop.room)
    assert get(shop, arn)["status"] == "INACTIVE"


def test_tags_belong_to_the_arn(shop: Workshop) -> None:
    channel = shop.active_channel()
    arn = shop.active_model(channel, tags={"team": "a"})
    shop.next_version(channel, arn, "second", tags={"stage": "2"})
    client = shop.ml()
    assert client.list_tags_for_resource(resourceArn=arn)["tags"] == {"team": "a", "stage": "2"}
    client.tag_resource(resourceArn=arn, tags={"team": "b"})
    assert get(shop, arn)["tags"] == {"team": "b", "stage": "2"}
    client.untag_resource(resourceArn=arn, tagKeys=["stage"])
    assert get(shop, arn)["tags"] == client.list_tags_for_resource(resourceArn=arn)["tags"] == {"team": "b"}
    with pytest.raises(client.exceptions.ValidationException, match="50"):
        shop.next_version(channel, arn, "third", tags={f"k{number}": "" for number in range(50)})
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        shop.ml("vendor").list_tags_for_resource(resourceArn=arn)


def test_after_its_creator_left_it_is_out_of_sight(shop: Workshop) -> None:
    arn = shop.active_model(shop.active_channel())
    pending = shop.model(only_channel(shop), "pending")["trainedModelArn"]
    shop.cleanrooms("owner").delete_member(collaborationIdentifier=shop.id, accountId=shop.account("runner"))
    for one in (arn, pending):
        with pytest.raises(shop.ml("owner").exceptions.ResourceNotFoundException):
            see(shop, one, "owner")
    page = shop.ml("owner").list_collaboration_trained_models(**shop.whole())
    assert page["collaborationTrainedModels"] == []
    work(shop.room)
    assert get(shop, pending)["status"] == "INACTIVE"
    delete(shop, arn)
    work(shop.room)
    assert get(shop, arn)["status"] == "INACTIVE"


def test_the_book_beside_it(room: Room) -> None:
    shop = Workshop(room, {"runner": pays(query=True, training=True), "vendor": pays(training=True)})
    channel = shop.active_channel()
    shop.model(channel, mlModelTrainingPayerAccountId=shop.account("vendor"))

    def training() -> list[dict[str, Any]]:
        return [one for one in shop.transfers() if one["cost_type"] == "machineLearning.modelTraining"]

    [reserved] = training()
    assert (reserved["kind"], reserved["payer"]) == ("reserve", shop.account("vendor"))
    assert (reserved["quantity"], reserved["quantity_unit"]) == (RECORDS * 1000, "records trained")
    work(room)
    assert [one["kind"] for one in training()] == ["reserve", "post"]
    [line] = [one for one in shop.lines() if one["payer"] == shop.account("vendor")]
    assert (line["cost_type"], line["jobs"], line["posted"], line["reserved"]) == (
        "machineLearning.modelTraining", 1, RECORDS * 10, 0,
    )  # fmt: skip


def test_the_quotas(tmp_path: Path) -> None:
    quotas = {"training_jobs_per_membership": 2, "training_jobs_per_account": 3, "trained_model_versions": 2}
    with limited(tmp_path, **quotas) as room:
        shop = Workshop(room)
        second = Workshop(room, accounts=shop.accounts)
        full = shop.ml().exceptions.ServiceQuotaExceededException
        channel, other = shop.active_channel(), second.active_channel()
        arn = shop.model(channel, "a")["trainedModelArn"]
        shop.model(channel, "b")

        def refuses(quota: str, value: int, submit: Any) -> None:
            with pytest.raises(full) as refusal:
                submit()
            answer = refusal.value.response
            assert (answer["quotaName"], answer["quotaValue"]) == (quota, value)
            assert answer[META]["HTTPStatusCode"] == 402

        refuses("training jobs per membership", 2, lambda: shop.model(channel, "c"))
        second.model(other, "a")
        refuses("training jobs per account", 3, lambda: second.model(other, "b"))
        work(room)
        shop.next_version(channel, arn, "a2")
        refuses("trained model versions", 2, lambda: shop.next_version(channel, arn, "a3"))
        cancel(shop, arn, versionIdentifier=get(shop, arn)["versionIdentifier"])
        # what is being cancelled still runs
        refuses("trained model versions", 2, lambda: shop.next_version(channel, arn, "a3"))
        work(room)
        shop.next_version(channel, arn, "a3")


def test_the_quota_of_instances_is_of_all_trainings_of_an_account(tmp_path: Path) -> None:
    def several(count: int) -> dict[str, Any]:
        size = {"instanceType": "ml.m5.xlarge", "volumeSizeInGB": 1, "instanceCount": count}
        return {"resourceConfig": size}

    with limited(tmp_path, training_instances_per_account=7) as room:
        shop = Workshop(room)
        second = Workshop(room, accounts=shop.accounts)
        stranger = Workshop(room)
        full = shop.ml().exceptions.ServiceQuotaExceededException
        channel, other, theirs = shop.active_channel(), second.active_channel(), stranger.active_channel()
        shop.model(channel, "a", **several(4))
        with pytest.raises(full) as refusal:
            second.model(other, "b", **several(4))
        answer = refusal.value.response
        assert (answer["quotaName"], answer["quotaValue"]) == ("training instances per account", 7)
        assert "not enough for 4 more: 4 are under way" in answer["Error"]["Message"]
        assert answer[META]["HTTPStatusCode"] == 402
        second.model(other, "b", **several(2))
        shop.model(channel, "c")
        with pytest.raises(full) as refusal:
            shop.model(channel, "d")
        assert "training instances per account is reached" in refusal.value.response["Error"]["Message"]
        stranger.model(theirs, "a", **several(5))
        work(room)
        shop.model(channel, "d", **several(5))


def test_a_model_that_nobody_has(shared: Workshop) -> None:
    arn = f"arn:aws:cleanrooms-ml:us-east-1:{'1' * 12}:membership/{uuid4()}/trained-model/{uuid4()}"
    for call in (
        lambda: get(shared, arn),
        lambda: see(shared, arn, "owner"),
        lambda: versions(shared, arn),
        lambda: cancel(shared, arn),
        lambda: delete(shared, arn),
    ):
        with pytest.raises(ClientError) as missing:
            call()
        assert refused(missing.value) == (
            "ResourceNotFoundException",
            f"The trained model {arn} was not found.",
        )
