"""Collaborations over boto3: their life, who may be named, and who sees them."""

from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from lib.room import Room, collaborate, everything, join, named, pays, refused, running


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


def test_life(room: Room) -> None:
    creator, runner = room.accounts(2)
    client = room.cleanrooms(creator)
    made = client.create_collaboration(
        name="flights",
        description="late arrivals",
        members=[named(runner, "CAN_QUERY", ml=["CAN_RECEIVE_MODEL_OUTPUT"])],
        creatorMemberAbilities=["CAN_RECEIVE_RESULTS"],
        creatorDisplayName="the airline",
        queryLogStatus="ENABLED",
        tags={"team": "a"},
    )["collaboration"]
    assert made["arn"] == f"arn:aws:cleanrooms:us-east-1:{creator}:collaboration/{made['id']}"
    assert made["creatorAccountId"] == creator
    assert made["creatorDisplayName"] == "the airline"
    assert made["memberStatus"] == "INVITED"
    assert "membershipId" not in made
    assert made["queryLogStatus"] == "ENABLED"
    assert made["analyticsEngine"] == "SPARK"
    assert isinstance(made["createTime"], datetime)
    assert client.get_collaboration(collaborationIdentifier=made["id"])["collaboration"] == made

    membership = join(room, creator, made["id"])
    seen = client.get_collaboration(collaborationIdentifier=made["id"])["collaboration"]
    assert (seen["memberStatus"], seen["membershipId"]) == ("ACTIVE", membership)
    changed = client.update_collaboration(collaborationIdentifier=made["id"], name="new", description="other")
    assert (changed["collaboration"]["name"], changed["collaboration"]["description"]) == ("new", "other")
    assert changed["collaboration"]["updateTime"] >= made["updateTime"]
    [summary] = client.list_collaborations()["collaborationList"]
    assert (summary["id"], summary["name"], summary["memberStatus"]) == (made["id"], "new", "ACTIVE")
    [summary] = room.cleanrooms(runner).list_collaborations()["collaborationList"]
    assert (summary["id"], summary["memberStatus"]) == (made["id"], "INVITED")

    answer = client.delete_collaboration(collaborationIdentifier=made["id"])
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_collaboration(collaborationIdentifier=made["id"])
    assert client.list_collaborations()["collaborationList"] == []


def test_update_keeps_what_is_left_out(room: Room) -> None:
    creator = room.account()
    id = collaborate(room, creator, [], "CAN_QUERY")
    client = room.cleanrooms(creator)
    client.update_collaboration(collaborationIdentifier=id, name="first")
    client.update_collaboration(collaborationIdentifier=id, description="second")
    seen = client.get_collaboration(collaborationIdentifier=id)["collaboration"]
    assert (seen["name"], seen["description"]) == ("first", "second")


def _refusal(room: Room, creator: str, members: list[dict[str, Any]], *abilities: str, **more: Any) -> Any:
    with pytest.raises(ClientError) as caught:
        collaborate(room, creator, members, *abilities, **more)
    return caught.value


@pytest.mark.parametrize(
    ("creators", "others", "says"),
    [
        ([], [[], []], "nobody has it"),
        (["CAN_QUERY"], [["CAN_QUERY"]], "2 have it"),
        ([], [["CAN_QUERY"], ["CAN_QUERY", "CAN_RECEIVE_RESULTS"]], "2 have it"),
    ],
)
def test_exactly_one_runner(room: Room, creators: list[str], others: list[list[str]], says: str) -> None:
    members = [named(room.account(), *abilities) for abilities in others]
    error = _refusal(room, room.account(), members, *creators)
    code, message = refused(error)
    assert code == "ValidationException"
    assert "Exactly one member must have the ability CAN_QUERY" in message
    assert says in message
    assert error.response["reason"] == "FIELD_VALIDATION_FAILED"
    assert [entry["name"] for entry in error.response["fieldList"]] == ["members"]


def test_jobs_go_to_the_runner(room: Room) -> None:
    creator, other = room.accounts(2)
    _, message = refused(_refusal(room, creator, [named(other, "CAN_RUN_JOB")], "CAN_QUERY"))
    assert f"CAN_RUN_JOB of {other} must go to the member with CAN_QUERY, {creator}" in message
    assert collaborate(room, creator, [named(other, "CAN_QUERY", "CAN_RUN_JOB")])


def test_runner_of_jobs_pays_for_jobs(room: Room) -> None:
    error = _refusal(
        room, room.account(), [], "CAN_QUERY", "CAN_RUN_JOB", payment=pays(query=True, job=False)
    )
    assert refused(error)[0] == "ValidationException"
    assert error.response["fieldList"][0]["name"] == "paymentConfiguration.jobCompute"


def test_five_members_beside_the_creator(room: Room) -> None:
    creator, *others = room.accounts(7)
    assert collaborate(room, creator, [named(one) for one in others[:5]], "CAN_QUERY")
    error = _refusal(room, creator, [named(one) for one in others], "CAN_QUERY")
    assert refused(error)[0] == "ServiceQuotaExceededException"
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 402
    assert (error.response["quotaName"], error.response["quotaValue"]) == ("Members per collaboration", 5)


def test_every_account_is_named_once(room: Room) -> None:
    creator, other = room.accounts(2)
    for members in ([named(other), named(other)], [named(creator)]):
        error = _refusal(room, creator, members, "CAN_QUERY")
        assert refused(error)[0] == "ValidationException"
        assert "is named twice" in refused(error)[1]


def test_the_old_engine_has_ended(room: Room) -> None:
    error = _refusal(room, room.account(), [], "CAN_QUERY", analyticsEngine="CLEAN_ROOMS_SQL")
    assert error.response["fieldList"][0]["name"] == "analyticsEngine"


def test_tags_at_creation(room: Room) -> None:
    error = _refusal(room, room.account(), [], "CAN_QUERY", tags={"aws:x": "1"})
    assert error.response["fieldList"][0]["name"] == "tags"


def test_names_are_not_unique(room: Room) -> None:
    creator = room.account()
    assert collaborate(room, creator, [], "CAN_QUERY") != collaborate(room, creator, [], "CAN_QUERY")


def test_strangers_see_nothing(room: Room) -> None:
    creator, stranger = room.accounts(2)
    id = collaborate(room, creator, [], "CAN_QUERY")
    client = room.cleanrooms(stranger)
    messages = []
    for one in (id, unknown := str(uuid4())):
        with pytest.raises(client.exceptions.ResourceNotFoundException) as caught:
            client.get_collaboration(collaborationIdentifier=one)
        assert caught.value.response["resourceId"] == one
        assert caught.value.response["resourceType"] == "COLLABORATION"
        messages.append(refused(caught.value)[1].replace(one, "ID"))
    assert messages[0] == messages[1], unknown
    for method in (client.update_collaboration, client.delete_collaboration):
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            method(collaborationIdentifier=id)
    assert client.list_collaborations()["collaborationList"] == []


def test_only_the_creator_changes_it(room: Room) -> None:
    creator, other = room.accounts(2)
    id = collaborate(room, creator, [named(other)], "CAN_QUERY")
    join(room, other, id)
    client = room.cleanrooms(other)
    for method in (client.update_collaboration, client.delete_collaboration):
        with pytest.raises(client.exceptions.AccessDeniedException) as caught:
            method(collaborationIdentifier=id)
        assert caught.value.response["reason"] == "INSUFFICIENT_PERMISSIONS"
        assert "the creator of the collaboration" in refused(caught.value)[1]


def test_deletion_ends_it_for_everyone(room: Room) -> None:
    creator, member, invited, removed = room.accounts(4)
    id = collaborate(room, creator, [named(member), named(invited), named(removed)], "CAN_QUERY")
    memberships = {account: join(room, account, id) for account in (creator, member)}
    other = join(room, removed, id)
    room.cleanrooms(creator).delete_member(collaborationIdentifier=id, accountId=removed)
    room.cleanrooms(creator).delete_collaboration(collaborationIdentifier=id)
    for account, membership in memberships.items():
        client = room.cleanrooms(account)
        seen = client.get_membership(membershipIdentifier=membership)["membership"]
        assert seen["status"] == "COLLABORATION_DELETED"
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            client.list_members(collaborationIdentifier=id)
        with pytest.raises(client.exceptions.AccessDeniedException):
            client.update_membership(membershipIdentifier=membership, queryLogStatus="ENABLED")
        client.delete_membership(membershipIdentifier=membership)
        assert client.list_memberships()["membershipSummaries"] == []
    seen = room.cleanrooms(removed).get_membership(membershipIdentifier=other)["membership"]
    assert seen["status"] == "REMOVED"
    with pytest.raises(ClientError) as caught:
        join(room, invited, id)
    assert refused(caught.value)[0] == "ResourceNotFoundException"


def test_pages(room: Room) -> None:
    creator, other = room.accounts(2)
    client = room.cleanrooms(creator)
    ids = [collaborate(room, creator, [named(other)], "CAN_QUERY") for _ in range(5)]
    listed = everything(client.list_collaborations, "collaborationList")
    assert [entry["id"] for entry in listed] == ids
    first = client.list_collaborations(maxResults=3)
    ids.append(collaborate(room, creator, [], "CAN_QUERY"))
    second = client.list_collaborations(maxResults=100, nextToken=first["nextToken"])
    assert [entry["id"] for entry in first["collaborationList"] + second["collaborationList"]] == ids
    assert "nextToken" not in second


def test_tokens_belong_to_one_listing(room: Room) -> None:
    creator, other = room.accounts(2)
    client = room.cleanrooms(creator)
    for _ in range(3):
        join(room, creator, collaborate(room, creator, [named(other)], "CAN_QUERY"))
    token = client.list_collaborations(maxResults=1)["nextToken"]
    forged = ("B" if token[0] == "A" else "A") + token[1:]
    for method, bad in (
        (room.cleanrooms(other).list_collaborations, token),
        (client.list_memberships, token),
        (partial(client.list_collaborations, memberStatus="INVITED"), token),
        (client.list_collaborations, forged),
        (client.list_collaborations, "not a token"),
    ):
        with pytest.raises(client.exceptions.ValidationException) as caught:
            method(nextToken=bad)
        assert caught.value.response["fieldList"][0]["name"] == "nextToken"


def test_filter_by_member_status(room: Room) -> None:
    creator = room.account()
    client = room.cleanrooms(creator)
    joined, not_joined = (collaborate(room, creator, [], "CAN_QUERY") for _ in range(2))
    join(room, creator, joined)
    for status, expected in (("ACTIVE", joined), ("INVITED", not_joined)):
        [entry] = client.list_collaborations(memberStatus=status)["collaborationList"]
        assert entry["id"] == expected
