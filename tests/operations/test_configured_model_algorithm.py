"""Configured model algorithms over boto3: an account's images, whatever rooms it brings them to."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from lib.room import Room, everything, refused, running
from lib.workshop import IMAGE, Workshop, limited

CONFIG: dict[str, Any] = {
    "imageUri": IMAGE,
    "entrypoint": ["python3", "/opt/train.py"],
    "arguments": ["--fast"],
    "metricDefinitions": [{"name": "auc", "regex": "auc=([0-9.]+)"}],
}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


def role(account: str) -> str:
    return f"arn:aws:iam::{account}:role/passbox"


def create(room: Room, account: str, **changes: Any) -> str:
    params = {"name": "late", "roleArn": role(account), "trainingContainerConfig": CONFIG, **changes}
    params = {key: value for key, value in params.items() if value is not None}
    answer = room.cleanroomsml(account).create_configured_model_algorithm(**params)
    return str(answer["configuredModelAlgorithmArn"])


def metric(regex: str) -> dict[str, Any]:
    """A training container whose second metric is found by this expression."""
    definitions = [*CONFIG["metricDefinitions"], {"name": "loss", "regex": regex}]
    return {"trainingContainerConfig": {**CONFIG, "metricDefinitions": definitions}}


def test_life(room: Room) -> None:
    account = room.account()
    client = room.cleanroomsml(account)
    arn = create(
        room,
        account,
        description="late arrivals",
        inferenceContainerConfig={"imageUri": IMAGE},
        tags={"team": "a"},
        kmsKeyArn=f"arn:aws:kms:us-east-1:{account}:key/{uuid4()}",
    )
    assert arn.startswith(f"arn:aws:cleanrooms-ml:us-east-1:{account}:configured-model-algorithm/")
    found = client.get_configured_model_algorithm(configuredModelAlgorithmArn=arn)
    assert found["configuredModelAlgorithmArn"] == arn
    assert (found["name"], found["description"], found["roleArn"]) == ("late", "late arrivals", role(account))
    assert found["trainingContainerConfig"] == CONFIG
    assert found["inferenceContainerConfig"] == {"imageUri": IMAGE}
    assert found["tags"] == {"team": "a"}
    assert found["kmsKeyArn"].startswith("arn:aws:kms")
    assert isinstance(found["createTime"], datetime)
    assert found["updateTime"] == found["createTime"]
    [summary] = client.list_configured_model_algorithms()["configuredModelAlgorithms"]
    assert summary == {
        key: found[key]
        for key in ("configuredModelAlgorithmArn", "name", "description", "createTime", "updateTime")
    }
    assert (
        client.delete_configured_model_algorithm(configuredModelAlgorithmArn=arn)["ResponseMetadata"][
            "HTTPStatusCode"
        ]
        == 200
    )
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_configured_model_algorithm(configuredModelAlgorithmArn=arn)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.delete_configured_model_algorithm(configuredModelAlgorithmArn=arn)
    assert client.list_configured_model_algorithms()["configuredModelAlgorithms"] == []


def test_anothers_is_as_missing(room: Room) -> None:
    owner, other = room.accounts(2)
    arn = create(room, owner)
    client = room.cleanroomsml(other)
    words = []
    for one in (arn, arn[:-12] + "000000000000"):
        for method in (client.get_configured_model_algorithm, client.delete_configured_model_algorithm):
            with pytest.raises(client.exceptions.ResourceNotFoundException) as missing:
                method(configuredModelAlgorithmArn=one)
            words.append(refused(missing.value)[1].replace(one, "X"))
    assert len(set(words)) == 1
    room.cleanroomsml(owner).get_configured_model_algorithm(configuredModelAlgorithmArn=arn)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trainingContainerConfig": None}, "Give trainingContainerConfig, inferenceContainerConfig or both"),
        (
            {"trainingContainerConfig": {"imageUri": f"{IMAGE}@sha256:{'0' * 64}"}},
            "digests are not supported",
        ),
        ({"inferenceContainerConfig": {"imageUri": "late"}}, "inferenceContainerConfig.imageUri"),
        ({"inferenceContainerConfig": {"imageUri": "a/b:c:d"}}, "inferenceContainerConfig.imageUri"),
        ({"inferenceContainerConfig": {"imageUri": "host//late"}}, "inferenceContainerConfig.imageUri"),
        ({"tags": {"aws:x": "1"}}, "aws:"),
        ({"tags": {f"k{number}": "" for number in range(51)}}, "50 tags"),
        ({"name": "   "}, "name"),
        (metric("loss=([0-9.]+"), r"metricDefinitions\[1\]\.regex: .* RE2 syntax \(missing \)"),
        (metric("loss=[0-9.]+"), r"metricDefinitions\[1\]\.regex: put the number in a group"),
        ({"name": "n" * 64}, "name"),
    ],
)
def test_what_is_refused(room: Room, changes: dict[str, Any], words: str) -> None:
    account = room.account()
    client = room.cleanroomsml(account)
    with pytest.raises(client.exceptions.ValidationException, match=words):
        create(room, account, **changes)
    assert client.list_configured_model_algorithms()["configuredModelAlgorithms"] == []


@pytest.mark.parametrize("uri", ["h/late", "h:5000/a/late", "h.example/a/b/late:1.2-x", "h/late:latest"])
def test_images_by_registry_and_tag(room: Room, uri: str) -> None:
    account = room.account()
    arn = create(room, account, trainingContainerConfig={"imageUri": uri})
    found = room.cleanroomsml(account).get_configured_model_algorithm(configuredModelAlgorithmArn=arn)
    assert found["trainingContainerConfig"] == {"imageUri": uri}


def test_a_role_of_another_account(room: Room) -> None:
    account, other = room.accounts(2)
    client = room.cleanroomsml(account)
    with pytest.raises(client.exceptions.AccessDeniedException, match=account):
        create(room, account, roleArn=role(other))


def test_names_are_the_accounts_own(room: Room) -> None:
    account, other = room.accounts(2)
    client = room.cleanroomsml(account)
    arn = create(room, account)
    create(room, other)
    with pytest.raises(client.exceptions.ConflictException, match="late"):
        create(room, account)
    client.delete_configured_model_algorithm(configuredModelAlgorithmArn=arn)
    assert create(room, account) != arn


def test_deleting_one_that_is_associated(room: Room) -> None:
    shop = Workshop(room)
    client = shop.ml("vendor")
    found = client.get_configured_model_algorithm_association(
        **shop.own("vendor"), configuredModelAlgorithmAssociationArn=shop.association
    )
    arn = found["configuredModelAlgorithmArn"]
    with pytest.raises(client.exceptions.ConflictException, match="associated"):
        client.delete_configured_model_algorithm(configuredModelAlgorithmArn=arn)
    client.delete_configured_model_algorithm_association(
        **shop.own("vendor"), configuredModelAlgorithmAssociationArn=shop.association
    )
    client.delete_configured_model_algorithm(configuredModelAlgorithmArn=arn)


def test_tags(room: Room) -> None:
    account, other = room.accounts(2)
    client = room.cleanroomsml(account)
    arn = create(room, account, tags={"team": "a"})
    client.tag_resource(resourceArn=arn, tags={"team": "b", "cost": "1"})
    client.untag_resource(resourceArn=arn, tagKeys=["cost", "nothing"])
    assert client.list_tags_for_resource(resourceArn=arn)["tags"] == {"team": "b"}
    found = client.get_configured_model_algorithm(configuredModelAlgorithmArn=arn)
    assert found["tags"] == {"team": "b"}
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        room.cleanroomsml(other).list_tags_for_resource(resourceArn=arn)


def test_pages(room: Room) -> None:
    account, other = room.accounts(2)
    client = room.cleanroomsml(account)
    arns = [create(room, account, name=f"n{number}") for number in range(5)]
    create(room, other)
    key = "configuredModelAlgorithms"
    listed = everything(client.list_configured_model_algorithms, key)
    assert [entry["configuredModelAlgorithmArn"] for entry in listed] == arns
    first = client.list_configured_model_algorithms(maxResults=2)
    late = create(room, account, name="late")
    client.delete_configured_model_algorithm(configuredModelAlgorithmArn=arns[0])
    rest = client.list_configured_model_algorithms(nextToken=first["nextToken"])
    assert [entry["configuredModelAlgorithmArn"] for entry in rest[key]] == [*arns[2:], late]
    with pytest.raises(ClientError) as foreign:
        room.cleanroomsml(other).list_configured_model_algorithms(nextToken=first["nextToken"])
    assert refused(foreign.value)[0] == "ValidationException"


def test_the_quota(tmp_path: Any) -> None:
    with limited(tmp_path, configured_model_algorithms=2) as room:
        account, other = room.accounts(2)
        client = room.cleanroomsml(account)
        arn = create(room, account, name="a")
        create(room, account, name="b")
        with pytest.raises(client.exceptions.ServiceQuotaExceededException) as full:
            create(room, account, name="c")
        assert full.value.response["ResponseMetadata"]["HTTPStatusCode"] == 402
        assert full.value.response["quotaName"] == "configured model algorithms"
        assert full.value.response["quotaValue"] == 2
        create(room, other, name="a")
        client.delete_configured_model_algorithm(configuredModelAlgorithmArn=arn)
        create(room, account, name="c")
