"""Members over boto3: who is listed with what, and what removing one does."""

from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from lib.room import Room, collaborate, everything, join, named, pays, refused, running


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


def test_listing(room: Room) -> None:
    creator, runner = room.accounts(2)
    member = named(runner, "CAN_RECEIVE_RESULTS", "CAN_QUERY", ml=["CAN_RECEIVE_INFERENCE_OUTPUT"])
    id = collaborate(room, creator, [member], "CAN_RECEIVE_RESULTS")
    membership = join(room, runner, id)
    first, second = room.cleanrooms(creator).list_members(collaborationIdentifier=id)["memberSummaries"]
    assert (first["accountId"], first["status"], first["displayName"]) == (creator, "INVITED", "the creator")
    assert first["abilities"] == ["CAN_RECEIVE_RESULTS"]
    assert "membershipId" not in first
    assert (second["accountId"], second["status"]) == (runner, "ACTIVE")
    assert sorted(second["abilities"]) == ["CAN_QUERY", "CAN_RECEIVE_RESULTS"]
    assert second["mlAbilities"] == {"customMLMemberAbilities": ["CAN_RECEIVE_INFERENCE_OUTPUT"]}
    assert second["membershipId"] == membership
    assert second["membershipArn"] == f"arn:aws:cleanrooms:us-east-1:{runner}:membership/{membership}"


def _payments(room: Room, account: str, collaboration: str) -> list[object]:
    found = room.cleanrooms(account).list_members(collaborationIdentifier=collaboration)["memberSummaries"]
    return [one["paymentConfiguration"] for one in found]


def test_defaults_are_spelled_out(room: Room) -> None:
    creator, runner = room.accounts(2)
    id = collaborate(room, creator, [named(runner, "CAN_QUERY")])
    nothing = pays(query=False, job=False, training=False, inference=False, synthetic=False)
    default = pays(query=True, job=True, training=True, inference=True, synthetic=False)
    for account in (creator, runner):  # an invited member sees them too
        assert _payments(room, account, id) == [nothing, default]


def test_candidates_are_shown_to_all(room: Room) -> None:
    creator, runner, vendor = room.accounts(3)
    members = [
        named(runner, "CAN_QUERY", payment=pays(query=True, job=True)),
        named(vendor, payment=pays(query=True, training=True, inference=True, synthetic=True)),
    ]
    id = collaborate(room, creator, members, payment=pays(query=False, training=True))
    assert _payments(room, vendor, id) == [
        pays(query=False, job=False, training=True, inference=False, synthetic=False),
        pays(query=True, job=True, training=False, inference=False, synthetic=False),
        pays(query=True, job=False, training=True, inference=True, synthetic=True),
    ]


def test_removal(room: Room) -> None:
    creator, member, invited = room.accounts(3)
    id = collaborate(room, creator, [named(member), named(invited)], "CAN_QUERY")
    membership = join(room, member, id)
    client = room.cleanrooms(creator)
    answer = client.delete_member(collaborationIdentifier=id, accountId=member)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    client.delete_member(collaborationIdentifier=id, accountId=invited)
    listed = client.list_members(collaborationIdentifier=id)["memberSummaries"]
    assert [one["status"] for one in listed] == ["INVITED", "REMOVED", "REMOVED"]

    own = room.cleanrooms(member)
    assert own.get_membership(membershipIdentifier=membership)["membership"]["status"] == "REMOVED"
    for method in (own.get_collaboration, own.list_members, own.list_schemas):
        with pytest.raises(own.exceptions.ResourceNotFoundException):
            method(collaborationIdentifier=id)
    with pytest.raises(own.exceptions.AccessDeniedException):
        own.update_membership(membershipIdentifier=membership, queryLogStatus="ENABLED")
    with pytest.raises(ClientError) as caught:
        join(room, invited, id)
    assert refused(caught.value)[0] == "ResourceNotFoundException"
    assert own.list_collaborations()["collaborationList"] == []
    own.delete_membership(membershipIdentifier=membership)  # what is left of it is the member's to clear up
    listed = client.list_members(collaborationIdentifier=id)["memberSummaries"]
    assert [one["status"] for one in listed] == ["INVITED", "REMOVED", "REMOVED"]


def test_a_removed_member_does_not_see_the_new_name(room: Room) -> None:
    creator, member = room.accounts(2)
    id = collaborate(room, creator, [named(member)], "CAN_QUERY")
    membership = join(room, member, id)
    client, own = room.cleanrooms(creator), room.cleanrooms(member)
    before = own.get_membership(membershipIdentifier=membership)["membership"]["collaborationName"]
    client.delete_member(collaborationIdentifier=id, accountId=member)
    client.update_collaboration(collaborationIdentifier=id, name="renamed")
    assert own.get_membership(membershipIdentifier=membership)["membership"]["collaborationName"] == before
    [listed] = own.list_memberships()["membershipSummaries"]
    assert listed["collaborationName"] == before


def test_nobody_steps_in_for_the_only_payer_who_is_removed(room: Room) -> None:
    creator, payer = room.accounts(2)
    id = collaborate(room, creator, [named(payer, payment=pays(query=True, training=True))], "CAN_QUERY")
    room.cleanrooms(creator).delete_member(collaborationIdentifier=id, accountId=payer)
    first, second = _payments(room, creator, id)
    assert first == pays(query=False, job=True, training=False, inference=True, synthetic=False)
    assert second == pays(query=True, job=False, training=True, inference=False, synthetic=False)


def test_removal_refused(room: Room) -> None:
    creator, member, stranger = room.accounts(3)
    id = collaborate(room, creator, [named(member)], "CAN_QUERY")
    client = room.cleanrooms(creator)
    with pytest.raises(client.exceptions.ValidationException) as caught:
        client.delete_member(collaborationIdentifier=id, accountId=creator)
    assert caught.value.response["fieldList"][0]["name"] == "accountId"
    with pytest.raises(client.exceptions.ResourceNotFoundException) as missing:
        client.delete_member(collaborationIdentifier=id, accountId=stranger)
    assert (missing.value.response["resourceId"], missing.value.response["resourceType"]) == (
        stranger,
        "MEMBERSHIP",
    )
    client.delete_member(collaborationIdentifier=id, accountId=member)
    with pytest.raises(client.exceptions.ConflictException) as conflict:
        client.delete_member(collaborationIdentifier=id, accountId=member)
    assert conflict.value.response["reason"] == "INVALID_STATE"
    assert conflict.value.response["resourceId"] == member


def test_only_the_creator_removes(room: Room) -> None:
    creator, one, other, stranger = room.accounts(4)
    id = collaborate(room, creator, [named(one), named(other)], "CAN_QUERY")
    join(room, one, id)
    client = room.cleanrooms(one)
    with pytest.raises(client.exceptions.AccessDeniedException):
        client.delete_member(collaborationIdentifier=id, accountId=other)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        room.cleanrooms(stranger).delete_member(collaborationIdentifier=id, accountId=other)


def test_pages(room: Room) -> None:
    creator, *others = room.accounts(6)
    id = collaborate(room, creator, [named(one) for one in others], "CAN_QUERY")
    client = room.cleanrooms(creator)
    listed = everything(client.list_members, "memberSummaries", collaborationIdentifier=id)
    assert [one["accountId"] for one in listed] == [creator, *others]
    token = client.list_members(collaborationIdentifier=id, maxResults=1)["nextToken"]
    second = collaborate(room, creator, [named(one) for one in others], "CAN_QUERY")
    with pytest.raises(client.exceptions.ValidationException):
        client.list_members(collaborationIdentifier=second, nextToken=token)
