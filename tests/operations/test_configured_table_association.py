"""Associations and their rules over boto3."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from lib.room import Room, collaborate, everything, join, named, refused, running

LIST = {"joinColumns": ["id"], "listColumns": ["v"], "additionalAnalyses": "ALLOWED"}
MODELS = (
    f"arn:aws:cleanrooms-ml:us-east-1:000000000001:membership/{uuid4()}/"
    f"configured-model-algorithm-association/{uuid4()}"
)
ANY_MODEL = "arn:aws:cleanrooms-ml:us-east-1:*:membership/*/configured-model-algorithm-association/*"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


@dataclass
class Party:
    """A member with a table of its own."""

    room: Room
    account: str
    membership: str
    table: str

    @property
    def client(self) -> Any:
        return self.room.cleanrooms(self.account)

    def associate(self, name: str = "flights", **more: Any) -> Any:
        params = {
            "name": name,
            "membershipIdentifier": self.membership,
            "configuredTableIdentifier": self.table,
            "roleArn": f"arn:aws:iam::{self.account}:role/read",
            **more,
        }
        return self.client.create_configured_table_association(**params)["configuredTableAssociation"]

    def at(self, association: str) -> dict[str, str]:
        return {
            "membershipIdentifier": self.membership,
            "configuredTableAssociationIdentifier": association,
        }

    def rule(self, association: str, policy: Any, kind: str = "LIST", verb: str = "create") -> Any:
        method = getattr(self.client, f"{verb}_configured_table_association_analysis_rule")
        policy = {"v1": {kind.lower(): policy}}
        return method(**self.at(association), analysisRuleType=kind, analysisRulePolicy=policy)[
            "analysisRule"
        ]


def table(room: Room, account: str, rule: Any = None) -> str:
    client = room.cleanrooms(account)
    id = client.create_configured_table(
        name="t",
        tableReference=room.put_csv(account, "t", "id,v\n1,2\n"),
        allowedColumns=["id", "v"],
        analysisMethod="DIRECT_QUERY",
    )["configuredTable"]["id"]
    if rule is not None:
        client.create_configured_table_analysis_rule(
            configuredTableIdentifier=id, analysisRuleType="LIST", analysisRulePolicy={"v1": {"list": rule}}
        )
    return str(id)


def parties(room: Room, number: int = 2, rule: Any = LIST) -> tuple[str, list[Party]]:
    """A collaboration of that many active members, the first its creator and runner."""
    accounts = room.accounts(number)
    id = collaborate(room, accounts[0], [named(one) for one in accounts[1:]], "CAN_QUERY")
    return id, [Party(room, one, join(room, one, id), table(room, one, rule)) for one in accounts]


def test_life(room: Room) -> None:
    _, [_, party] = parties(room)
    client = party.client
    made = party.associate("Flights 2013", description="all", tags={"a": "b"})
    id = made["id"]
    prefix = f"arn:aws:cleanrooms:us-east-1:{party.account}"
    assert made["arn"] == f"{prefix}:configuredtableassociation/{party.membership}/{id}"
    assert made["configuredTableId"] == party.table
    assert made["configuredTableArn"] == f"{prefix}:configuredtable/{party.table}"
    assert made["membershipId"] == party.membership
    assert made["membershipArn"] == f"{prefix}:membership/{party.membership}"
    assert (made["name"], made["description"]) == ("Flights 2013", "all")
    assert made["analysisRuleTypes"] == []
    place = party.at(id)
    assert client.get_configured_table_association(**place)["configuredTableAssociation"] == made
    listed = client.list_configured_table_associations(membershipIdentifier=party.membership)
    [summary] = listed["configuredTableAssociationSummaries"]
    assert {key: made[key] for key in summary} == summary
    role = f"arn:aws:iam::{party.account}:role/other"
    changed = client.update_configured_table_association(**place, description="", roleArn=role)
    changed = changed["configuredTableAssociation"]
    assert (changed["description"], changed["roleArn"], changed["name"]) == ("", role, "Flights 2013")
    answer = client.delete_configured_table_association(**place)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    with pytest.raises(client.exceptions.ResourceNotFoundException) as caught:
        client.get_configured_table_association(**place)
    assert caught.value.response["resourceId"] == id
    assert caught.value.response["resourceType"] == "CONFIGURED_TABLE_ASSOCIATION"


def test_names_are_unique_in_the_collaboration(room: Room) -> None:
    id, [one, other] = parties(room)
    first = one.associate("Flights")
    for party, name in ((one, "Flights"), (other, "flights"), (other, "FLIGHTS")):
        with pytest.raises(ClientError) as caught:
            party.associate(name)
        assert refused(caught.value)[0] == "ConflictException"
        assert caught.value.response["reason"] == "ALREADY_EXISTS"
        # that it is taken, and nothing about by whom
        told = str({key: caught.value.response[key] for key in ("Error", "resourceId", "resourceType")})
        for secret in (one.account, one.membership, one.table, first["id"]):
            assert secret not in told
    one.client.delete_configured_table_association(**one.at(first["id"]))
    other.associate("flights")
    _, [elsewhere] = parties(room, 1)
    elsewhere.associate("flights")
    room.cleanrooms(one.account).delete_member(collaborationIdentifier=id, accountId=other.account)
    one.associate("flights")  # a removed member holds no name


def test_a_table_must_be_ones_own(room: Room) -> None:
    _, [one, other] = parties(room)
    messages = []
    for id in (other.table, str(uuid4())):
        with pytest.raises(ClientError) as caught:
            one.associate(configuredTableIdentifier=id)
        assert refused(caught.value)[0] == "ResourceNotFoundException"
        assert caught.value.response["resourceType"] == "CONFIGURED_TABLE"
        messages.append(refused(caught.value)[1].replace(id, "ID"))
    assert messages[0] == messages[1]


def test_a_role_must_be_ones_own(room: Room) -> None:
    _, [one, other] = parties(room)
    role = f"arn:aws:iam::{other.account}:role/read"
    with pytest.raises(ClientError) as caught:
        one.associate(roleArn=role)
    assert refused(caught.value)[0] == "AccessDeniedException"
    assert caught.value.response["reason"] == "INSUFFICIENT_PERMISSIONS"
    id = one.associate()["id"]
    with pytest.raises(one.client.exceptions.AccessDeniedException):
        one.client.update_configured_table_association(**one.at(id), roleArn=role)


def test_anothers_association_does_not_exist(room: Room) -> None:
    _, [one, other] = parties(room)
    id = other.associate()["id"]
    other.rule(id, {"allowedResultReceivers": []})
    client = one.client
    rule = {"analysisRuleType": "LIST"}
    policy = {**rule, "analysisRulePolicy": {"v1": {"list": {}}}}
    for method, more in (
        (client.get_configured_table_association, {}),
        (client.update_configured_table_association, {"description": "x"}),
        (client.delete_configured_table_association, {}),
        (client.create_configured_table_association_analysis_rule, policy),
        (client.get_configured_table_association_analysis_rule, rule),
        (client.update_configured_table_association_analysis_rule, policy),
        (client.delete_configured_table_association_analysis_rule, rule),
    ):
        messages = []
        for association in (id, str(uuid4())):
            with pytest.raises(client.exceptions.ResourceNotFoundException) as caught:
                method(**one.at(association), **more)
            messages.append(refused(caught.value)[1].replace(association, "ID"))
        assert messages[0] == messages[1]


def test_another_memberships_association_does_not_exist(room: Room) -> None:
    account = room.account()
    made = []
    for _ in range(2):
        membership = join(room, account, collaborate(room, account, [], "CAN_QUERY"))
        made.append(Party(room, account, membership, table(room, account)))
    id = made[0].associate()["id"]
    with pytest.raises(made[1].client.exceptions.ResourceNotFoundException):
        made[1].client.get_configured_table_association(**made[1].at(id))


def test_after_the_end_it_can_only_be_cleared_up(room: Room) -> None:
    collaboration, [creator, member] = parties(room)
    id = member.associate()["id"]
    member.rule(id, {"allowedResultReceivers": [creator.account]})
    creator.client.delete_collaboration(collaborationIdentifier=collaboration)
    client = member.client
    with pytest.raises(client.exceptions.AccessDeniedException):
        member.associate("other")
    with pytest.raises(client.exceptions.AccessDeniedException):
        client.update_configured_table_association(**member.at(id), description="x")
    client.get_configured_table_association(**member.at(id))
    client.get_configured_table_association_analysis_rule(**member.at(id), analysisRuleType="LIST")
    client.delete_configured_table_association(**member.at(id))
    client.delete_membership(membershipIdentifier=member.membership)


def test_pages(room: Room) -> None:
    _, [one, other] = parties(room)
    other.associate("theirs")
    ids = [one.associate(f"t{number}")["id"] for number in range(5)]
    method, key = one.client.list_configured_table_associations, "configuredTableAssociationSummaries"
    listed = everything(method, key, membershipIdentifier=one.membership)
    assert [entry["id"] for entry in listed] == ids
    first = method(membershipIdentifier=one.membership, maxResults=2)
    ids.append(one.associate("late")["id"])
    second = method(membershipIdentifier=one.membership, nextToken=first["nextToken"])
    assert [entry["id"] for entry in first[key] + second[key]] == ids
    with pytest.raises(ClientError) as caught:
        other.client.list_configured_table_associations(
            membershipIdentifier=other.membership, nextToken=first["nextToken"]
        )
    assert refused(caught.value)[0] == "ValidationException"


def test_life_of_a_rule(room: Room) -> None:
    _, [one, other] = parties(room)
    client = one.client
    association = one.associate()
    id = association["id"]
    policy = {
        "allowedResultReceivers": [one.account, other.account],
        "allowedAdditionalAnalyses": [MODELS, ANY_MODEL],
    }
    made = one.rule(id, policy)
    assert made["membershipIdentifier"] == one.membership
    assert made["configuredTableAssociationId"] == id
    assert made["configuredTableAssociationArn"] == association["arn"]
    assert (made["type"], made["policy"]) == ("LIST", {"v1": {"list": policy}})
    place = {**one.at(id), "analysisRuleType": "LIST"}
    assert client.get_configured_table_association_analysis_rule(**place)["analysisRule"] == made
    seen = client.get_configured_table_association(**one.at(id))["configuredTableAssociation"]
    assert seen["analysisRuleTypes"] == ["LIST"]
    changed = one.rule(id, {"allowedResultReceivers": []}, verb="update")
    assert changed["policy"] == {"v1": {"list": {"allowedResultReceivers": []}}}
    with pytest.raises(client.exceptions.ConflictException) as caught:
        one.rule(id, policy)
    assert caught.value.response["reason"] == "ALREADY_EXISTS"
    assert caught.value.response["resourceId"] == id
    assert caught.value.response["resourceType"] == "CONFIGURED_TABLE_ASSOCIATION"
    answer = client.delete_configured_table_association_analysis_rule(**place)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    with pytest.raises(client.exceptions.ResourceNotFoundException) as missing:
        client.get_configured_table_association_analysis_rule(**place)
    assert missing.value.response["resourceId"] == id
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        one.rule(id, policy, verb="update")
    seen = client.get_configured_table_association(**one.at(id))["configuredTableAssociation"]
    assert seen["analysisRuleTypes"] == []


def test_the_rule_has_the_tables_type(room: Room) -> None:
    _, [one, bare] = parties(room)
    bare.client.delete_configured_table_analysis_rule(
        configuredTableIdentifier=bare.table, analysisRuleType="LIST"
    )
    for party, name, has in ((one, "one", "type LIST"), (bare, "bare", "no analysis rule")):
        id = party.associate(name)["id"]
        with pytest.raises(ClientError) as caught:
            party.rule(id, {}, kind="CUSTOM")
        assert refused(caught.value)[0] == "ValidationException"
        assert caught.value.response["fieldList"][0]["name"] == "analysisRuleType"
        assert has in refused(caught.value)[1]


def test_type_and_policy_agree(room: Room) -> None:
    _, [one] = parties(room, 1)
    id = one.associate()["id"]
    with pytest.raises(one.client.exceptions.ValidationException) as caught:
        one.client.create_configured_table_association_analysis_rule(
            **one.at(id), analysisRuleType="LIST", analysisRulePolicy={"v1": {"custom": {}}}
        )
    assert caught.value.response["fieldList"][0]["name"] == "analysisRulePolicy"


def test_receivers_are_members(room: Room) -> None:
    collaboration, [one, gone] = parties(room)
    stranger = room.account()
    id = one.associate()["id"]
    one.client.delete_member(collaborationIdentifier=collaboration, accountId=gone.account)
    for account in (stranger, gone.account):
        with pytest.raises(one.client.exceptions.ValidationException) as caught:
            one.rule(id, {"allowedResultReceivers": [one.account, account]})
        field = "analysisRulePolicy.v1.list.allowedResultReceivers"
        assert caught.value.response["fieldList"][0]["name"] == field
        assert account in refused(caught.value)[1]


def test_twenty_five_analyses(room: Room) -> None:
    _, [one] = parties(room, 1)
    id = one.associate()["id"]
    arns = [f"{ANY_MODEL[:-1]}{number}" for number in range(26)]
    with pytest.raises(one.client.exceptions.ValidationException):
        one.rule(id, {"allowedAdditionalAnalyses": arns})
    one.rule(id, {"allowedAdditionalAnalyses": arns[:25]})


def test_tags_at_creation(room: Room) -> None:
    _, [one] = parties(room, 1)
    with pytest.raises(ClientError) as caught:
        one.associate(tags={"aws:x": "y"})
    assert caught.value.response["fieldList"][0]["name"] == "tags"
