"""Tags over boto3, on both services."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from lib.room import Room, collaborate, join, named, refused, running

IMAGE = {"imageUri": "registry.local/models/forest:1"}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


def things(room: Room, account: str, tags: dict[str, str] | None = None) -> dict[str, tuple[Any, str]]:
    """kind → (client of its service, ARN), one of each kind that can be tagged and needs no job."""
    more = {} if tags is None else {"tags": tags}
    client, ml = room.cleanrooms(account), room.cleanroomsml(account)
    collaboration = collaborate(room, account, [], "CAN_QUERY", **more)
    membership = client.create_membership(
        collaborationIdentifier=collaboration, queryLogStatus="DISABLED", **more
    )["membership"]
    table = client.create_configured_table(
        name="t",
        tableReference=room.put_csv(account, "t", "id\n1\n"),
        allowedColumns=["id"],
        analysisMethod="DIRECT_QUERY",
        **more,
    )["configuredTable"]
    role = f"arn:aws:iam::{account}:role/read"
    name = f"forest-{uuid4()}"
    algorithm = ml.create_configured_model_algorithm(
        name=name, roleArn=role, trainingContainerConfig=IMAGE, **more
    )["configuredModelAlgorithmArn"]
    association = ml.create_configured_model_algorithm_association(
        membershipIdentifier=membership["id"], configuredModelAlgorithmArn=algorithm, name=name, **more
    )["configuredModelAlgorithmAssociationArn"]
    return {
        "collaboration": (client, f"arn:aws:cleanrooms:us-east-1:{account}:collaboration/{collaboration}"),
        "membership": (client, membership["arn"]),
        "table": (client, table["arn"]),
        "algorithm": (ml, algorithm),
        "algorithm association": (ml, association),
    }


def _tags(client: Any, arn: str) -> Any:
    return client.list_tags_for_resource(resourceArn=arn)["tags"]


def test_life(room: Room) -> None:
    account = room.account()
    for client, arn in things(room, account).values():
        assert _tags(client, arn) == {}
        client.tag_resource(resourceArn=arn, tags={"a": "1", "b": "2", "c d": ""})
        client.tag_resource(resourceArn=arn, tags={"b": "3", "é": "x"})
        assert _tags(client, arn) == {"a": "1", "b": "3", "c d": "", "é": "x"}
        client.untag_resource(resourceArn=arn, tagKeys=["a", "c d", "not there"])
        assert _tags(client, arn) == {"b": "3", "é": "x"}


def test_tags_of_the_creation(room: Room) -> None:
    account = room.account()
    for client, arn in things(room, account, {"team": "a"}).values():
        assert _tags(client, arn) == {"team": "a"}


def test_seen_in_the_resource(room: Room) -> None:
    ml, arn = things(room, room.account())["algorithm"]
    ml.tag_resource(resourceArn=arn, tags={"a": "1"})
    assert ml.get_configured_model_algorithm(configuredModelAlgorithmArn=arn)["tags"] == {"a": "1"}


@pytest.mark.parametrize("kind", ["table", "algorithm"])
def test_limits(room: Room, kind: str) -> None:
    client, arn = things(room, room.account())[kind]
    client.tag_resource(resourceArn=arn, tags={f"k{number}": "" for number in range(50)})
    for tags in (
        {"one more": "x"},
        {"aws:reserved": "x"},
        {"AWS:reserved": "x"},
        {"": "x"},
        {"k" * 129: "x"},
        {"k1": "v" * 257},
    ):
        with pytest.raises(client.exceptions.ValidationException) as caught:
            client.tag_resource(resourceArn=arn, tags=tags)
        assert "tag" in refused(caught.value)[1]
        assert _tags(client, arn) == {f"k{number}": "" for number in range(50)}
    client.tag_resource(resourceArn=arn, tags={"k1": "v" * 256})  # a key that is there takes no more room
    client.untag_resource(resourceArn=arn, tagKeys=["k0"])
    client.tag_resource(resourceArn=arn, tags={"k" * 128: "x"})
    assert len(_tags(client, arn)) == 50


def test_only_the_owner(room: Room) -> None:
    owner, member = room.accounts(2)
    collaboration = collaborate(room, owner, [named(member)], "CAN_QUERY")
    join(room, member, collaboration)
    arns = {kind: arn for kind, (_, arn) in things(room, owner).items()}
    arns["shared"] = f"arn:aws:cleanrooms:us-east-1:{owner}:collaboration/{collaboration}"
    for arn in arns.values():
        client = room.client("cleanroomsml" if ":cleanrooms-ml:" in arn else "cleanrooms", member)
        unknown = f"{arn[:-36]}{uuid4()}"
        for method, more in (
            (client.list_tags_for_resource, {}),
            (client.tag_resource, {"tags": {"a": "b"}}),
            (client.untag_resource, {"tagKeys": ["a"]}),
        ):
            messages = []
            for one in (arn, unknown):
                with pytest.raises(client.exceptions.ResourceNotFoundException) as caught:
                    method(resourceArn=one, **more)
                messages.append(refused(caught.value)[1].replace(one, "ARN"))
            assert messages[0] == messages[1]


def test_each_service_has_its_own(room: Room) -> None:
    account = room.account()
    for client, arn in things(room, account).values():
        other = room.client(
            "cleanrooms" if client.meta.service_model.service_name == "cleanroomsml" else "cleanroomsml",
            account,
        )
        with pytest.raises(other.exceptions.ValidationException):
            other.list_tags_for_resource(resourceArn=arn)


def test_a_deleted_resource_has_none(room: Room) -> None:
    made = things(room, room.account())
    client, arn = made["collaboration"]
    client.delete_collaboration(collaborationIdentifier=arn[-36:])
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        _tags(client, arn)
    client, arn = made["membership"]
    assert _tags(client, arn) == {}  # its membership is still the account's
    client, arn = made["table"]
    client.delete_configured_table(configuredTableIdentifier=arn[-36:])
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        _tags(client, arn)


def test_not_taggable(room: Room) -> None:
    account = room.account()
    membership = things(room, account)["membership"][1]
    client, ml = room.cleanrooms(account), room.cleanroomsml(account)
    for arn in (f"{membership}/ml-configuration", "arn:aws:s3:::bucket", "no arn"):
        for one in (client, ml):
            with pytest.raises(ClientError) as caught:
                _tags(one, arn)
            assert refused(caught.value)[0] in ("ValidationException", "ResourceNotFoundException")


def test_an_association_is_tagged_by_its_long_arn(room: Room) -> None:
    # The model limits resourceArn to 100 characters, and an association's own ARN is longer.
    account = room.account()
    client = room.cleanrooms(account)
    membership = join(room, account, collaborate(room, account, [], "CAN_QUERY"))
    table = things(room, account)["table"][1]
    arn = client.create_configured_table_association(
        name="t",
        membershipIdentifier=membership,
        configuredTableIdentifier=table[-36:],
        roleArn=f"arn:aws:iam::{account}:role/read",
        tags={"a": "b"},
    )["configuredTableAssociation"]["arn"]
    assert len(arn) > 100
    client.tag_resource(resourceArn=arn, tags={"c": "d"})
    assert _tags(client, arn) == {"a": "b", "c": "d"}
