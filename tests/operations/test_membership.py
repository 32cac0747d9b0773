"""Memberships over boto3: joining, leaving, and accepting or declining to pay."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from lib.room import Room, collaborate, everything, join, named, pays, refused, running

COST_TYPES = {
    "query": "queryCompute",
    "job": "jobCompute",
    "training": "machineLearning.modelTraining",
    "inference": "machineLearning.modelInference",
    "synthetic": "machineLearning.syntheticDataGeneration",
}
STRICT = ["query", "job", "training", "inference"]  # joining must accept; synthetic data may be left open


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


def test_life(room: Room) -> None:
    creator, runner = room.accounts(2)
    id = collaborate(room, creator, [named(runner, "CAN_QUERY", ml=["CAN_RECEIVE_MODEL_OUTPUT"])])
    client = room.cleanrooms(runner)
    result = {"outputConfiguration": {"s3": {"resultFormat": "CSV", "bucket": "results"}}}
    made = client.create_membership(
        collaborationIdentifier=id,
        queryLogStatus="ENABLED",
        defaultResultConfiguration=result,
        tags={"team": "b"},
    )["membership"]
    assert made["arn"] == f"arn:aws:cleanrooms:us-east-1:{runner}:membership/{made['id']}"
    assert made["collaborationId"] == id
    assert made["collaborationArn"] == f"arn:aws:cleanrooms:us-east-1:{creator}:collaboration/{id}"
    assert made["collaborationCreatorAccountId"] == creator
    assert made["collaborationCreatorDisplayName"] == "the creator"
    assert (made["collaborationName"], made["status"]) == ("a collaboration", "ACTIVE")
    assert made["memberAbilities"] == ["CAN_QUERY"]
    assert made["mlMemberAbilities"] == {"customMLMemberAbilities": ["CAN_RECEIVE_MODEL_OUTPUT"]}
    assert made["defaultResultConfiguration"] == result
    assert made["paymentConfiguration"] == pays(
        query=True, job=True, training=True, inference=True, synthetic=False
    )
    assert client.get_membership(membershipIdentifier=made["id"])["membership"] == made
    changed = client.update_membership(membershipIdentifier=made["id"], queryLogStatus="DISABLED")
    assert changed["membership"]["queryLogStatus"] == "DISABLED"
    assert changed["membership"]["defaultResultConfiguration"] == result
    [summary] = client.list_memberships()["membershipSummaries"]
    for key in ("id", "arn", "collaborationArn", "paymentConfiguration", "memberAbilities", "status"):
        assert summary[key] == made[key]
    answer = client.delete_membership(membershipIdentifier=made["id"])
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_membership(membershipIdentifier=made["id"])


def test_joining_needs_to_be_named(room: Room) -> None:
    creator, stranger = room.accounts(2)
    id = collaborate(room, creator, [], "CAN_QUERY")
    messages = []
    for one in (id, str(uuid4())):
        with pytest.raises(ClientError) as caught:
            join(room, stranger, one)
        assert refused(caught.value)[0] == "ResourceNotFoundException"
        assert caught.value.response["resourceType"] == "COLLABORATION"
        messages.append(refused(caught.value)[1].replace(one, "ID"))
    assert messages[0] == messages[1]


def test_joining_twice(room: Room) -> None:
    creator = room.account()
    id = collaborate(room, creator, [], "CAN_QUERY")
    membership = join(room, creator, id)
    with pytest.raises(ClientError) as caught:
        join(room, creator, id)
    assert refused(caught.value)[0] == "ConflictException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 409
    assert caught.value.response["reason"] == "ALREADY_EXISTS"
    assert caught.value.response["resourceId"] == membership
    assert caught.value.response["resourceType"] == "MEMBERSHIP"


def test_tags_at_creation(room: Room) -> None:
    creator = room.account()
    id = collaborate(room, creator, [], "CAN_QUERY")
    with pytest.raises(ClientError) as caught:
        room.cleanrooms(creator).create_membership(
            collaborationIdentifier=id, queryLogStatus="DISABLED", tags={"AWS:x": "1"}
        )
    assert caught.value.response["fieldList"][0]["name"] == "tags"


def test_leaving_is_for_good(room: Room) -> None:
    creator, member = room.accounts(2)
    id = collaborate(room, creator, [named(member)], "CAN_QUERY")
    membership = join(room, member, id)
    client = room.cleanrooms(member)
    client.delete_membership(membershipIdentifier=membership)
    listed = room.cleanrooms(creator).list_members(collaborationIdentifier=id)["memberSummaries"]
    assert [one["status"] for one in listed] == ["INVITED", "LEFT"]
    with pytest.raises(ClientError) as caught:
        join(room, member, id)
    assert refused(caught.value)[0] == "ResourceNotFoundException"
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_collaboration(collaborationIdentifier=id)
    assert client.list_collaborations()["collaborationList"] == []


def test_the_creator_cannot_leave(room: Room) -> None:
    creator = room.account()
    membership = join(room, creator, collaborate(room, creator, [], "CAN_QUERY"))
    client = room.cleanrooms(creator)
    with pytest.raises(client.exceptions.ConflictException) as caught:
        client.delete_membership(membershipIdentifier=membership)
    assert "DeleteCollaboration" in refused(caught.value)[1]
    assert caught.value.response["resourceId"] == membership


def test_leaving_with_something_brought_in(room: Room) -> None:
    creator, member = room.accounts(2)
    id = collaborate(room, creator, [named(member)], "CAN_QUERY")
    membership = join(room, member, id)
    client = room.cleanrooms(member)
    table = client.create_configured_table(
        name="t",
        tableReference=room.put_csv(member, "t", "a\n1\n"),
        allowedColumns=["a"],
        analysisMethod="DIRECT_QUERY",
    )["configuredTable"]["id"]
    association = client.create_configured_table_association(
        name="mine",
        membershipIdentifier=membership,
        configuredTableIdentifier=table,
        roleArn=f"arn:aws:iam::{member}:role/read",
    )["configuredTableAssociation"]["id"]
    with pytest.raises(client.exceptions.ConflictException) as caught:
        client.delete_membership(membershipIdentifier=membership)
    assert caught.value.response["reason"] == "SUBRESOURCES_EXIST"
    assert caught.value.response["resourceId"] == membership
    assert "mine" in refused(caught.value)[1]
    client.delete_configured_table_association(
        membershipIdentifier=membership, configuredTableAssociationIdentifier=association
    )
    client.delete_membership(membershipIdentifier=membership)


def test_anothers_membership_does_not_exist(room: Room) -> None:
    creator, member = room.accounts(2)
    id = collaborate(room, creator, [named(member)], "CAN_QUERY")
    membership = join(room, member, id)
    join(room, creator, id)
    client = room.cleanrooms(creator)
    for method, more in (
        (client.get_membership, {}),
        (client.update_membership, {"queryLogStatus": "ENABLED"}),
        (client.delete_membership, {}),
        (client.list_configured_table_associations, {}),
    ):
        messages = []
        for one in (membership, str(uuid4())):
            with pytest.raises(client.exceptions.ResourceNotFoundException) as caught:
                method(membershipIdentifier=one, **more)
            assert caught.value.response["resourceType"] == "MEMBERSHIP"
            messages.append(refused(caught.value)[1].replace(one, "ID"))
        assert messages[0] == messages[1]


def test_pages_and_status(room: Room) -> None:
    creator = room.account()
    client = room.cleanrooms(creator)
    collaborations = [collaborate(room, creator, [], "CAN_QUERY") for _ in range(5)]
    ids = [join(room, creator, one) for one in collaborations]
    assert [one["id"] for one in everything(client.list_memberships, "membershipSummaries")] == ids
    client.delete_collaboration(collaborationIdentifier=collaborations[1])
    for status, expected in (
        ("ACTIVE", [ids[0], *ids[2:]]),
        ("COLLABORATION_DELETED", [ids[1]]),
        ("REMOVED", []),
    ):
        listed = client.list_memberships(status=status)["membershipSummaries"]
        assert [one["id"] for one in listed] == expected


def _accepted(answer: Any, cost_type: str) -> bool:
    found = answer["membership"]["paymentConfiguration"]
    for key in COST_TYPES[cost_type].split("."):
        found = found[key]
    return bool(found["isResponsible"])


def _candidate(room: Room, cost_type: str) -> tuple[str, str]:
    """A collaboration and an invited member, not the runner, that is a candidate for one cost type."""
    creator, payer = room.accounts(2)
    member = named(payer, payment=pays(**{"query": False, cost_type: True}))
    return collaborate(room, creator, [member], "CAN_QUERY"), payer


@pytest.mark.parametrize("cost_type", STRICT)
def test_candidate_must_accept_to_join(room: Room, cost_type: str) -> None:
    id, payer = _candidate(room, cost_type)
    for payment in (None, pays(query=False), pays(**{"query": False, cost_type: False})):
        with pytest.raises(ClientError) as caught:
            join(room, payer, id, payment)
        assert refused(caught.value)[0] == "ValidationException"
        field = f"paymentConfiguration.{COST_TYPES[cost_type]}.isResponsible"
        assert caught.value.response["fieldList"][0]["name"] == field
        assert payer in refused(caught.value)[1]
    membership = join(room, payer, id, pays(**{"query": False, cost_type: True}))
    assert _accepted(room.cleanrooms(payer).get_membership(membershipIdentifier=membership), cost_type)


def test_candidate_for_synthetic_data_may_leave_it_open(room: Room) -> None:
    for payment, accepted in (
        (None, False),
        (pays(query=False, synthetic=False), False),
        (pays(query=False, synthetic=True), True),
    ):
        id, payer = _candidate(room, "synthetic")
        answer = room.cleanrooms(payer).get_membership(membershipIdentifier=join(room, payer, id, payment))
        assert _accepted(answer, "synthetic") is accepted


@pytest.mark.parametrize("cost_type", COST_TYPES)
def test_nobody_accepts_what_it_is_not_named_for(room: Room, cost_type: str) -> None:
    creator, member = room.accounts(2)
    id = collaborate(room, creator, [named(member)], "CAN_QUERY")
    with pytest.raises(ClientError) as caught:
        join(room, member, id, pays(**{"query": False, cost_type: True}))
    assert refused(caught.value)[0] == "ValidationException"
    field = f"paymentConfiguration.{COST_TYPES[cost_type]}.isResponsible"
    assert caught.value.response["fieldList"][0]["name"] == field
    assert "not a payer candidate" in refused(caught.value)[1]
    membership = join(room, member, id, pays(**{"query": False, cost_type: False}))
    client = room.cleanrooms(member)
    nested = pays(**{"query": False, cost_type: True})
    with pytest.raises(client.exceptions.ValidationException) as caught:
        client.update_membership(membershipIdentifier=membership, membershipPaymentConfiguration=nested)
    field = f"membershipPaymentConfiguration.{COST_TYPES[cost_type]}.isResponsible"
    assert caught.value.response["fieldList"][0]["name"] == field


@pytest.mark.parametrize("cost_type", COST_TYPES)
def test_declining_and_accepting_again(room: Room, cost_type: str) -> None:
    id, payer = _candidate(room, cost_type)
    client = room.cleanrooms(payer)
    membership = join(room, payer, id, pays(**{"query": False, cost_type: True}))
    for value in (False, True):
        change = pays(**{"query": False, cost_type: value})
        if cost_type != "query":
            del change["queryCompute"]  # may be left out here, unlike in CreateMembership
        answer = client.update_membership(
            membershipIdentifier=membership, membershipPaymentConfiguration=change
        )
        assert _accepted(answer, cost_type) is value
        assert _accepted(client.get_membership(membershipIdentifier=membership), cost_type) is value


def test_what_is_left_out_stays(room: Room) -> None:
    creator, payer = room.accounts(2)
    every = pays(query=True, job=True, training=True, inference=True, synthetic=True)
    id = collaborate(room, creator, [named(payer, payment=every)], "CAN_QUERY")
    membership = join(room, payer, id, every)
    change = {"machineLearning": {"modelInference": {"isResponsible": False}}}
    answer = room.cleanrooms(payer).update_membership(
        membershipIdentifier=membership, membershipPaymentConfiguration=change
    )
    expected = pays(query=True, job=True, training=True, inference=False, synthetic=True)
    assert answer["membership"]["paymentConfiguration"] == expected


def test_the_runner_accepts_by_default_and_may_decline(room: Room) -> None:
    creator = room.account()
    client = room.cleanrooms(creator)
    membership = join(room, creator, collaborate(room, creator, [], "CAN_QUERY"))
    change = {"machineLearning": {"modelTraining": {"isResponsible": False}}}
    answer = client.update_membership(membershipIdentifier=membership, membershipPaymentConfiguration=change)
    expected = pays(query=True, job=True, training=False, inference=True, synthetic=False)
    assert answer["membership"]["paymentConfiguration"] == expected


@pytest.mark.parametrize("cost_type", STRICT)
def test_the_default_payer_cannot_join_declining(room: Room, cost_type: str) -> None:
    creator = room.account()
    id = collaborate(room, creator, [], "CAN_QUERY")
    with pytest.raises(ClientError) as caught:
        join(room, creator, id, pays(**{"query": True, cost_type: False}))
    field = f"paymentConfiguration.{COST_TYPES[cost_type]}.isResponsible"
    assert caught.value.response["fieldList"][0]["name"] == field


def test_the_runner_is_not_responsible_where_another_is(room: Room) -> None:
    creator, payer = room.accounts(2)
    members = [named(payer, payment=pays(query=True, training=True))]
    id = collaborate(room, creator, members, "CAN_QUERY")
    client = room.cleanrooms(creator)
    with pytest.raises(ClientError) as caught:
        join(room, creator, id, pays(query=False, training=True))
    assert caught.value.response["fieldList"][0]["name"].endswith("modelTraining.isResponsible")
    answer = client.get_membership(membershipIdentifier=join(room, creator, id))
    expected = pays(query=False, job=True, training=False, inference=True, synthetic=False)
    assert answer["membership"]["paymentConfiguration"] == expected


def test_results_are_written_in_a_role_of_ones_own(room: Room) -> None:
    creator, runner = room.accounts(2)
    id = collaborate(room, creator, [named(runner, "CAN_QUERY")])
    theirs = {
        "outputConfiguration": {"s3": {"resultFormat": "CSV", "bucket": "results"}},
        "roleArn": f"arn:aws:iam::{creator}:role/passbox",
    }
    client = room.cleanrooms(runner)
    with pytest.raises(client.exceptions.AccessDeniedException, match=r"defaultResultConfiguration\.roleArn"):
        client.create_membership(
            collaborationIdentifier=id, queryLogStatus="DISABLED", defaultResultConfiguration=theirs
        )
    own = join(room, runner, id)
    with pytest.raises(client.exceptions.AccessDeniedException, match="a role of your own account"):
        client.update_membership(membershipIdentifier=own, defaultResultConfiguration=theirs)
