"""Schemas over boto3: what members see of each other's tables, and whether these are ready."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from lib.room import Room, collaborate, everything, join, named, refused, running

ANY_MODEL = "arn:aws:cleanrooms-ml:us-east-1:*:membership/*/configured-model-algorithm-association/*"
LIST = {"joinColumns": ["id"], "listColumns": ["delay"]}
CSV = "id,delay,day,secret\n1,0.5,2020-01-01,x\n2,1.5,2020-01-02,y\n"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


class Pair:
    """A collaboration of a runner, who created it, and a member that owns a table."""

    def __init__(self, room: Room) -> None:
        self.runner, self.owner = room.accounts(2)
        self.id = collaborate(room, self.runner, [named(self.owner)], "CAN_QUERY")
        self.membership = join(room, self.runner, self.id)
        self.owners = join(room, self.owner, self.id)
        self.client = room.cleanrooms(self.owner)
        self.reader = room.cleanrooms(self.runner)
        self.table = self.client.create_configured_table(
            name="internal name",
            tableReference=room.put_csv(self.owner, "t", CSV),
            allowedColumns=["id", "delay", "day"],
            analysisMethod="DIRECT_QUERY",
        )["configuredTable"]["id"]

    def associate(self, name: str, **more: Any) -> Any:
        return self.client.create_configured_table_association(
            name=name,
            membershipIdentifier=self.owners,
            configuredTableIdentifier=self.table,
            roleArn=f"arn:aws:iam::{self.owner}:role/read",
            **more,
        )["configuredTableAssociation"]

    def rule(self, kind: str, policy: Any) -> None:
        self.client.create_configured_table_analysis_rule(
            configuredTableIdentifier=self.table,
            analysisRuleType=kind,
            analysisRulePolicy={"v1": {kind.lower(): policy}},
        )

    def drop_rule(self, kind: str) -> None:
        self.client.delete_configured_table_analysis_rule(
            configuredTableIdentifier=self.table, analysisRuleType=kind
        )

    def own_rule(self, association: str, kind: str, policy: Any) -> None:
        self.client.create_configured_table_association_analysis_rule(
            membershipIdentifier=self.owners,
            configuredTableAssociationIdentifier=association,
            analysisRuleType=kind,
            analysisRulePolicy={"v1": {kind.lower(): policy}},
        )

    def schema(self, name: str) -> Any:
        return self.reader.get_schema(collaborationIdentifier=self.id, name=name)["schema"]


def test_a_schema(room: Room) -> None:
    pair = Pair(room)
    association = pair.associate("Flights", description="of 2013")
    seen = pair.schema("flights")  # names have no case in queries
    assert seen["name"] == "Flights"
    assert seen["columns"] == [
        {"name": "id", "type": "bigint"},
        {"name": "delay", "type": "double"},
        {"name": "day", "type": "date"},
    ]
    assert (seen["partitionKeys"], seen["type"]) == ([], "TABLE")
    assert (seen["analysisMethod"], seen["analysisRuleTypes"]) == ("DIRECT_QUERY", [])
    assert seen["creatorAccountId"] == pair.owner
    assert seen["collaborationId"] == pair.id
    assert seen["collaborationArn"] == f"arn:aws:cleanrooms:us-east-1:{pair.runner}:collaboration/{pair.id}"
    assert seen["description"] == "of 2013"
    assert seen["resourceArn"] == (
        f"arn:aws:cleanrooms:us-east-1:{pair.owner}:membership/{pair.owners}/"
        f"configuredtableassociation/{association['id']}"
    )
    assert seen["schemaTypeProperties"] == {
        "configuredTableAssociation": {"configuredTableAssociationId": association["id"]}
    }
    assert pair.table not in str(seen)
    assert "internal name" not in str(seen)
    [summary] = pair.reader.list_schemas(collaborationIdentifier=pair.id)["schemaSummaries"]
    assert {key: seen[key] for key in summary} == summary
    assert pair.client.get_schema(collaborationIdentifier=pair.id, name="Flights")["schema"] == seen
    pair.associate("plain")
    assert pair.schema("plain")["description"] == ""


def _codes(schema: Any, analysis: str) -> list[str]:
    [detail] = [one for one in schema["schemaStatusDetails"] if one["analysisType"] == analysis]
    codes = [reason["code"] for reason in detail.get("reasons", [])]
    assert detail["status"] == ("NOT_READY" if codes else "READY")
    assert all(reason["message"] for reason in detail.get("reasons", []))
    return codes


def test_a_new_rule_of_another_type_voids_what_was_agreed(room: Room) -> None:
    pair = Pair(room)
    association = pair.associate("t")["id"]
    pair.rule("LIST", LIST)
    pair.own_rule(association, "LIST", {"allowedResultReceivers": [pair.runner]})
    pair.drop_rule("LIST")
    custom = {"allowedAnalyses": ["ANY_QUERY"], "allowedAnalysisProviders": [pair.runner]}
    pair.rule("CUSTOM", custom)
    assert _codes(pair.schema("t"), "DIRECT_ANALYSIS") == ["ANALYSIS_RULE_TYPES_NOT_COMPATIBLE"]
    answer = pair.reader.get_schema_analysis_rule(collaborationIdentifier=pair.id, name="t", type="CUSTOM")
    assert "collaborationPolicy" not in answer["analysisRule"]


def test_a_rule(room: Room) -> None:
    pair = Pair(room)
    association = pair.associate("t")["id"]
    policy = {**LIST, "additionalAnalyses": "ALLOWED"}
    pair.rule("LIST", policy)
    place = {"collaborationIdentifier": pair.id, "name": "t", "type": "LIST"}
    seen = pair.reader.get_schema_analysis_rule(**place)["analysisRule"]
    assert (seen["collaborationId"], seen["type"], seen["name"]) == (pair.id, "LIST", "t")
    assert seen["policy"] == {"v1": {"list": policy}}
    assert "collaborationPolicy" not in seen
    assert "consolidatedPolicy" not in seen
    own = {"allowedResultReceivers": [pair.runner], "allowedAdditionalAnalyses": [ANY_MODEL]}
    pair.own_rule(association, "LIST", own)
    seen = pair.reader.get_schema_analysis_rule(**place)["analysisRule"]
    assert seen["collaborationPolicy"] == {"v1": {"list": own}}
    assert seen["consolidatedPolicy"] == {"v1": {"list": {**policy, **own}}}
    assert seen["updateTime"] >= seen["createTime"]
    for type in ("CUSTOM", "ID_MAPPING_TABLE"):
        with pytest.raises(pair.reader.exceptions.ResourceNotFoundException) as caught:
            pair.reader.get_schema_analysis_rule(**{**place, "type": type})
        assert caught.value.response["resourceType"] == "CONFIGURED_TABLE_ASSOCIATION"
        assert caught.value.response["resourceId"] == "t"
    both = [{"name": "t", "type": "LIST"}, {"name": "t", "type": "CUSTOM"}, {"name": "x", "type": "LIST"}]
    answer = pair.reader.batch_get_schema_analysis_rule(
        collaborationIdentifier=pair.id, schemaAnalysisRuleRequests=both
    )
    assert answer["analysisRules"] == [seen]
    assert [(one["name"], one["type"]) for one in answer["errors"]] == [("t", "CUSTOM"), ("x", "LIST")]
    assert all(one["code"] == "ResourceNotFoundException" for one in answer["errors"])


def test_several_at_once(room: Room) -> None:
    pair = Pair(room)
    for name in ("a", "b"):
        pair.associate(name)
    answer = pair.reader.batch_get_schema(collaborationIdentifier=pair.id, names=["b", "nope", "a", "b"])
    assert [one["name"] for one in answer["schemas"]] == ["b", "a"]
    assert answer["schemas"][1] == pair.schema("a")
    [error] = answer["errors"]
    assert (error["name"], error["code"]) == ("nope", "ResourceNotFoundException")
    assert "nope" in error["message"]


def test_listing(room: Room) -> None:
    pair = Pair(room)
    names = [f"t{number}" for number in range(5)]
    for name in names:
        pair.associate(name)
    method = pair.reader.list_schemas
    listed = everything(method, "schemaSummaries", collaborationIdentifier=pair.id)
    assert [one["name"] for one in listed] == names
    tables = method(collaborationIdentifier=pair.id, schemaType="TABLE")["schemaSummaries"]
    assert len(tables) == 5
    assert method(collaborationIdentifier=pair.id, schemaType="ID_MAPPING_TABLE")["schemaSummaries"] == []
    first = method(collaborationIdentifier=pair.id, maxResults=2)
    pair.associate("late")
    second = method(collaborationIdentifier=pair.id, nextToken=first["nextToken"])
    assert [one["name"] for one in second["schemaSummaries"]] == [*names[2:], "late"]
    with pytest.raises(pair.client.exceptions.ValidationException):  # the token is the reader's
        pair.client.list_schemas(collaborationIdentifier=pair.id, nextToken=first["nextToken"])


def test_what_is_not_there(room: Room) -> None:
    pair = Pair(room)
    pair.associate("here")
    with pytest.raises(pair.reader.exceptions.ResourceNotFoundException) as caught:
        pair.schema("nope")
    assert refused(caught.value)[1] == "The schema nope was not found."
    assert caught.value.response["resourceType"] == "CONFIGURED_TABLE_ASSOCIATION"
    other = Pair(room)  # a table of another collaboration is not there either
    with pytest.raises(ClientError) as caught:
        other.schema("here")
    assert refused(caught.value)[1] == "The schema here was not found."


def test_only_active_members_see_them(room: Room) -> None:
    creator, invited, stranger = room.accounts(3)
    id = collaborate(room, creator, [named(invited)], "CAN_QUERY")
    client = room.cleanrooms(invited)
    with pytest.raises(client.exceptions.AccessDeniedException):
        client.list_schemas(collaborationIdentifier=id)
    with pytest.raises(ClientError):
        room.cleanrooms(creator).list_schemas(collaborationIdentifier=id)  # has not joined either
    messages = []
    for one in (id, str(uuid4())):
        with pytest.raises(client.exceptions.ResourceNotFoundException) as caught:
            room.cleanrooms(stranger).list_schemas(collaborationIdentifier=one)
        messages.append(refused(caught.value)[1].replace(one, "ID"))
    assert messages[0] == messages[1]


def test_a_removed_members_tables_are_gone(room: Room) -> None:
    pair = Pair(room)
    pair.associate("t")
    pair.reader.delete_member(collaborationIdentifier=pair.id, accountId=pair.owner)
    assert pair.reader.list_schemas(collaborationIdentifier=pair.id)["schemaSummaries"] == []
    with pytest.raises(pair.reader.exceptions.ResourceNotFoundException):
        pair.schema("t")
    answer = pair.reader.batch_get_schema(collaborationIdentifier=pair.id, names=["t"])
    assert answer["schemas"] == []
