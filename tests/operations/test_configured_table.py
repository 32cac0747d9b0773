"""Configured tables and their analysis rules over boto3."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from lib.room import Room, collaborate, everything, join, refused, running

CSV = "Id,carrier,delay,day,secret\n1,AA,3,2020-01-01,x\n"
LIST = {"joinColumns": ["id"], "listColumns": ["carrier", "delay"]}
AGGREGATION = {
    "aggregateColumns": [{"columnNames": ["delay"], "function": "AVG"}],
    "joinColumns": ["id"],
    "dimensionColumns": ["carrier"],
    "scalarFunctions": ["UPPER"],
    "outputConstraints": [{"columnName": "id", "minimum": 10, "type": "COUNT_DISTINCT"}],
}
TEMPLATE = f"arn:aws:cleanrooms:us-east-1:000000000001:membership/{uuid4()}/analysistemplate/{uuid4()}"
CUSTOM = {"allowedAnalyses": ["ANY_QUERY"], "allowedAnalysisProviders": ["000000000001"]}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


def make(room: Room, account: str, **more: Any) -> Any:
    reference = room.put_csv(account, "flights", CSV)
    params = {
        "name": "flights",
        "tableReference": reference,
        "allowedColumns": ["id", "carrier", "delay"],
        "analysisMethod": "DIRECT_QUERY",
        **more,
    }
    return room.cleanrooms(account).create_configured_table(**params)["configuredTable"]


def rule(room: Room, account: str, table: str, kind: str, policy: Any, verb: str = "create") -> Any:
    method = getattr(room.cleanrooms(account), f"{verb}_configured_table_analysis_rule")
    return method(
        configuredTableIdentifier=table,
        analysisRuleType=kind,
        analysisRulePolicy={"v1": {kind.lower(): policy}},
    )["analysisRule"]


def test_life(room: Room) -> None:
    account = room.account()
    client = room.cleanrooms(account)
    made = make(room, account, description="of 2013", tags={"a": "b"})
    assert made["arn"] == f"arn:aws:cleanrooms:us-east-1:{account}:configuredtable/{made['id']}"
    assert (made["name"], made["description"], made["tableType"]) == ("flights", "of 2013", "GLUE")
    assert made["tableReference"] == {"glue": {"databaseName": "db", "tableName": "flights"}}
    assert made["allowedColumns"] == ["id", "carrier", "delay"]
    assert (made["analysisMethod"], made["analysisRuleTypes"]) == ("DIRECT_QUERY", [])
    assert "columns" not in made
    id = made["id"]
    assert client.get_configured_table(configuredTableIdentifier=id)["configuredTable"] == made
    [summary] = client.list_configured_tables()["configuredTableSummaries"]
    assert {key: made[key] for key in summary} == summary
    changed = client.update_configured_table(
        configuredTableIdentifier=id, name="new", description="other", allowedColumns=["id", "day"]
    )["configuredTable"]
    assert (changed["name"], changed["description"]) == ("new", "other")
    assert changed["allowedColumns"] == ["id", "day"]
    assert changed["createTime"] == made["createTime"]
    answer = client.delete_configured_table(configuredTableIdentifier=id)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    with pytest.raises(client.exceptions.ResourceNotFoundException) as caught:
        client.get_configured_table(configuredTableIdentifier=id)
    assert (caught.value.response["resourceId"], caught.value.response["resourceType"]) == (
        id,
        "CONFIGURED_TABLE",
    )


def test_update_keeps_what_is_left_out(room: Room) -> None:
    account = room.account()
    client = room.cleanrooms(account)
    made = make(room, account, analysisMethod="MULTIPLE")
    client.update_configured_table(configuredTableIdentifier=made["id"], name="other")
    seen = client.get_configured_table(configuredTableIdentifier=made["id"])["configuredTable"]
    assert {**seen, "name": "flights", "updateTime": made["updateTime"]} == made


def test_update_moves_to_another_source(room: Room) -> None:
    account = room.account()
    client = room.cleanrooms(account)
    id = make(room, account)["id"]
    other = room.put_csv(account, "other", "id,carrier,delay,more\n1,A,2,3\n")
    narrow = room.put_csv(account, "narrow", "id\n1\n")
    changed = client.update_configured_table(
        configuredTableIdentifier=id, tableReference=other, allowedColumns=["id", "more"]
    )["configuredTable"]
    assert (changed["tableReference"], changed["allowedColumns"]) == (other, ["id", "more"])
    with pytest.raises(client.exceptions.ValidationException) as caught:
        client.update_configured_table(configuredTableIdentifier=id, tableReference=narrow)
    assert "more" in refused(caught.value)[1]
    seen = client.get_configured_table(configuredTableIdentifier=id)["configuredTable"]
    assert seen["tableReference"] == other


def test_anothers_table_does_not_exist(room: Room) -> None:
    owner, other = room.accounts(2)
    id = make(room, owner)["id"]
    rule(room, owner, id, "LIST", LIST)
    client = room.cleanrooms(other)
    policy = {"v1": {"list": LIST}}
    for method, more in (
        (client.get_configured_table, {}),
        (client.update_configured_table, {"name": "x"}),
        (client.delete_configured_table, {}),
        (client.get_configured_table_analysis_rule, {"analysisRuleType": "LIST"}),
        (client.delete_configured_table_analysis_rule, {"analysisRuleType": "LIST"}),
        (
            client.create_configured_table_analysis_rule,
            {"analysisRuleType": "LIST", "analysisRulePolicy": policy},
        ),
        (
            client.update_configured_table_analysis_rule,
            {"analysisRuleType": "LIST", "analysisRulePolicy": policy},
        ),
    ):
        messages = []
        for one in (id, str(uuid4())):
            with pytest.raises(client.exceptions.ResourceNotFoundException) as caught:
                method(configuredTableIdentifier=one, **more)
            messages.append(refused(caught.value)[1].replace(one, "ID"))
        assert messages[0] == messages[1]
    assert client.list_configured_tables()["configuredTableSummaries"] == []
    with pytest.raises(client.exceptions.ResourceNotFoundException):  # nor does its data
        client.create_configured_table(
            name="t",
            tableReference={"glue": {"databaseName": "db", "tableName": "flights"}},
            allowedColumns=["id"],
            analysisMethod="DIRECT_QUERY",
        )


def invalid(room: Room, account: str, **more: Any) -> tuple[str, str]:
    """(field, message) of a refused creation."""
    with pytest.raises(ClientError) as caught:
        make(room, account, **more)
    assert refused(caught.value)[0] == "ValidationException"
    assert caught.value.response["reason"] == "FIELD_VALIDATION_FAILED"
    return caught.value.response["fieldList"][0]["name"], refused(caught.value)[1]


def test_columns_must_exist(room: Room) -> None:
    account = room.account()
    field, message = invalid(room, account, allowedColumns=["id", "nope", "neither"])
    assert field == "allowedColumns"
    assert "no column nope, neither" in message
    assert "carrier, day, delay, id, secret" in message


def test_columns_are_named_once(room: Room) -> None:
    account = room.account()
    assert invalid(room, account, allowedColumns=["id", "delay", "id"])[0] == "allowedColumns"


def test_a_hundred_columns(room: Room) -> None:
    account = room.account()
    columns = [f"c{number}" for number in range(101)]
    reference = room.put_csv(account, "wide", ",".join(columns) + "\n" + ",".join("1" * 101) + "\n")
    made = make(room, account, tableReference=reference, allowedColumns=columns[:100])
    client = room.cleanrooms(account)
    for call in (
        lambda: make(room, account, tableReference=reference, allowedColumns=columns),
        lambda: client.update_configured_table(configuredTableIdentifier=made["id"], allowedColumns=columns),
    ):
        with pytest.raises(client.exceptions.ServiceQuotaExceededException) as caught:
            call()
        assert caught.value.response["quotaValue"] == 100


def test_methods(room: Room) -> None:
    account = room.account()
    both = ["DIRECT_QUERY", "DIRECT_JOB"]
    made = make(room, account, analysisMethod="MULTIPLE", selectedAnalysisMethods=both)
    assert (made["analysisMethod"], made["selectedAnalysisMethods"]) == ("MULTIPLE", both)
    assert make(room, account, analysisMethod="DIRECT_JOB")["analysisMethod"] == "DIRECT_JOB"
    for method, selected in (("MULTIPLE", ["DIRECT_QUERY"]), ("DIRECT_QUERY", both)):
        found = invalid(room, account, analysisMethod=method, selectedAnalysisMethods=selected)
        assert found[0] == "selectedAnalysisMethods"
    changed = room.cleanrooms(account).update_configured_table(
        configuredTableIdentifier=made["id"], analysisMethod="DIRECT_QUERY"
    )["configuredTable"]
    assert changed["analysisMethod"] == "DIRECT_QUERY"
    assert "selectedAnalysisMethods" not in changed


def test_only_glue_tables(room: Room) -> None:
    account = room.account()
    reference = {"athena": {"workGroup": "w", "databaseName": "db", "tableName": "flights"}}
    field, message = invalid(room, account, tableReference=reference)
    assert field == "tableReference"
    assert "athena" in message


def test_tags_at_creation(room: Room) -> None:
    account = room.account()
    assert invalid(room, account, tags={"aws:x": "y"})[0] == "tags"


def test_pages(room: Room) -> None:
    account, other = room.accounts(2)
    client = room.cleanrooms(account)
    ids = [make(room, account)["id"] for _ in range(5)]
    listed = everything(client.list_configured_tables, "configuredTableSummaries")
    assert [one["id"] for one in listed] == ids
    first = client.list_configured_tables(maxResults=3)
    ids.append(make(room, account)["id"])
    client.delete_configured_table(configuredTableIdentifier=ids[0])  # what was seen may go meanwhile
    second = client.list_configured_tables(nextToken=first["nextToken"])
    assert [one["id"] for one in second["configuredTableSummaries"]] == ids[3:]
    with pytest.raises(client.exceptions.ValidationException):
        room.cleanrooms(other).list_configured_tables(nextToken=first["nextToken"])


@pytest.mark.parametrize(
    ("kind", "policy"),
    [
        ("LIST", {**LIST, "allowedJoinOperators": ["OR"], "additionalAnalyses": "ALLOWED"}),
        ("AGGREGATION", {**AGGREGATION, "joinRequired": "QUERY_RUNNER"}),
        ("CUSTOM", {**CUSTOM, "disallowedOutputColumns": ["id"], "additionalAnalyses": "REQUIRED"}),
        ("CUSTOM", {"allowedAnalyses": [TEMPLATE]}),
        ("CUSTOM", {"allowedAnalyses": []}),
        ("CUSTOM", {"allowedAnalyses": ["ANY_QUERY"], "allowedAnalysisProviders": []}),
    ],
)
def test_life_of_a_rule(room: Room, kind: str, policy: dict[str, Any]) -> None:
    account = room.account()
    client = room.cleanrooms(account)
    table = make(room, account)
    place = {"configuredTableIdentifier": table["id"], "analysisRuleType": kind}
    made = rule(room, account, table["id"], kind, policy)
    assert (made["configuredTableId"], made["configuredTableArn"]) == (table["id"], table["arn"])
    assert (made["type"], made["policy"]) == (kind, {"v1": {kind.lower(): policy}})
    assert client.get_configured_table_analysis_rule(**place)["analysisRule"] == made
    seen = client.get_configured_table(configuredTableIdentifier=table["id"])["configuredTable"]
    assert seen["analysisRuleTypes"] == [kind]
    [summary] = client.list_configured_tables()["configuredTableSummaries"]
    assert summary["analysisRuleTypes"] == [kind]
    other = {**policy, "additionalAnalyses": "NOT_ALLOWED"}
    changed = rule(room, account, table["id"], kind, other, verb="update")
    assert (changed["policy"], changed["createTime"]) == ({"v1": {kind.lower(): other}}, made["createTime"])
    answer = client.delete_configured_table_analysis_rule(**place)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    with pytest.raises(client.exceptions.ResourceNotFoundException) as caught:
        client.get_configured_table_analysis_rule(**place)
    assert caught.value.response["resourceId"] == table["id"]
    assert caught.value.response["resourceType"] == "CONFIGURED_TABLE"
    seen = client.get_configured_table(configuredTableIdentifier=table["id"])["configuredTable"]
    assert seen["analysisRuleTypes"] == []
    rule(room, account, table["id"], "LIST", LIST)  # and now it can have one of another type


def test_one_rule(room: Room) -> None:
    account = room.account()
    client = room.cleanrooms(account)
    id = make(room, account)["id"]
    rule(room, account, id, "LIST", LIST)
    for kind, policy in (("LIST", LIST), ("CUSTOM", CUSTOM)):
        with pytest.raises(client.exceptions.ConflictException) as caught:
            rule(room, account, id, kind, policy)
        assert caught.value.response["reason"] == "ALREADY_EXISTS"
        assert caught.value.response["resourceId"] == id
        assert caught.value.response["resourceType"] == "CONFIGURED_TABLE"
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        rule(room, account, id, "CUSTOM", CUSTOM, verb="update")
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.delete_configured_table_analysis_rule(configuredTableIdentifier=id, analysisRuleType="CUSTOM")


def test_type_and_policy_agree(room: Room) -> None:
    account = room.account()
    client = room.cleanrooms(account)
    id = make(room, account)["id"]
    with pytest.raises(client.exceptions.ValidationException) as caught:
        client.create_configured_table_analysis_rule(
            configuredTableIdentifier=id,
            analysisRuleType="CUSTOM",
            analysisRulePolicy={"v1": {"list": LIST}},
        )
    assert caught.value.response["fieldList"][0]["name"] == "analysisRulePolicy"


def _field(error: ClientError) -> str:
    # what the model itself refuses is named with slashes
    name = error.response["fieldList"][0]["name"].lstrip("/").replace("/", ".")
    return str(name).removeprefix("analysisRulePolicy.v1.")


BAD_RULES = {
    "a join column that is not allowed": ("LIST", {**LIST, "joinColumns": ["secret"]}, "list.joinColumns"),
    "a list column that is not there": ("LIST", {**LIST, "listColumns": ["nope"]}, "list.listColumns"),
    "a column joined and listed": ("LIST", {**LIST, "listColumns": ["id"]}, "list.joinColumns"),
    "a column listed twice": ("LIST", {**LIST, "listColumns": ["delay", "delay"]}, "list.listColumns"),
    "a dimension that is a join column": (
        "AGGREGATION",
        {**AGGREGATION, "dimensionColumns": ["id"]},
        "aggregation.dimensionColumns",
    ),
    "a dimension that is aggregated": (
        "AGGREGATION",
        {**AGGREGATION, "dimensionColumns": ["delay"]},
        "aggregation.dimensionColumns",
    ),
    "an aggregate of a column that is not allowed": (
        "AGGREGATION",
        {**AGGREGATION, "aggregateColumns": [{"columnNames": ["secret"], "function": "SUM"}]},
        "aggregation.aggregateColumns",
    ),
    "a constraint on a column that is not allowed": (
        "AGGREGATION",
        {
            **AGGREGATION,
            "outputConstraints": [{"columnName": "secret", "minimum": 2, "type": "COUNT_DISTINCT"}],
        },
        "aggregation.outputConstraints",
    ),
    "no constraint": (
        "AGGREGATION",
        {**AGGREGATION, "outputConstraints": []},
        "aggregation.outputConstraints",
    ),
    "a disallowed column that is not there": (
        "CUSTOM",
        {**CUSTOM, "disallowedOutputColumns": ["nope"]},
        "custom.disallowedOutputColumns",
    ),
    "templates and any query": (
        "CUSTOM",
        {**CUSTOM, "allowedAnalyses": ["ANY_QUERY", TEMPLATE]},
        "custom.allowedAnalyses",
    ),
    "templates and accounts": (
        "CUSTOM",
        {**CUSTOM, "allowedAnalyses": [TEMPLATE]},
        "custom.allowedAnalysisProviders",
    ),
    "accounts and nothing else": (
        "CUSTOM",
        {**CUSTOM, "allowedAnalyses": []},
        "custom.allowedAnalysisProviders",
    ),
    "any query of nobody": (
        "CUSTOM",
        {"allowedAnalyses": ["ANY_QUERY"]},
        "custom.allowedAnalysisProviders",
    ),
    "differential privacy": (
        "CUSTOM",
        {**CUSTOM, "differentialPrivacy": {"columns": [{"name": "nothing"}]}},
        "custom.differentialPrivacy.columns",
    ),
    "thresholds": (
        "CUSTOM",
        {
            **CUSTOM,
            "aggregationThresholds": [
                {
                    "identityColumns": ["nothing"],
                    "minimumIdentityCount": 10,
                    "type": "COUNT_DISTINCT",
                    "allowedAggregateExpressionType": "COLUMNS_ONLY",
                }
            ],
        },
        "custom.aggregationThresholds.identityColumns",
    ),
    "comparison controls": (
        "CUSTOM",
        {
            **CUSTOM,
            "comparisonControls": {
                "allowedLiteralComparisonColumns": ["nothing"],
                "allowedColumnComparisonColumns": [],
            },
        },
        "custom.comparisonControls.allowedLiteralComparisonColumns",
    ),
    "receivers": ("CUSTOM", {**CUSTOM, "allowedResultReceivers": []}, "custom.allowedResultReceivers"),
    "analyses": ("CUSTOM", {**CUSTOM, "allowedAdditionalAnalyses": []}, "custom.allowedAdditionalAnalyses"),
}


@pytest.mark.parametrize("case", BAD_RULES)
def test_bad_rules(room: Room, case: str) -> None:
    kind, policy, field = BAD_RULES[case]
    account = room.account()
    client = room.cleanrooms(account)
    id = make(room, account)["id"]
    with pytest.raises(client.exceptions.ValidationException) as caught:
        rule(room, account, id, kind, policy)
    assert _field(caught.value) == field
    good = {"LIST": LIST, "AGGREGATION": AGGREGATION, "CUSTOM": CUSTOM}[kind]
    rule(room, account, id, kind, good)
    with pytest.raises(client.exceptions.ValidationException) as caught:
        rule(room, account, id, kind, policy, verb="update")
    assert _field(caught.value) == field
    place = {"configuredTableIdentifier": id, "analysisRuleType": kind}
    seen = client.get_configured_table_analysis_rule(**place)["analysisRule"]
    assert seen["policy"] == {"v1": {kind.lower(): good}}


def test_a_rule_has_a_hundred_kilobytes(room: Room) -> None:
    account = room.account()
    client = room.cleanrooms(account)
    id = make(room, account)["id"]
    providers = [f"{number:012d}" for number in range(8000)]
    with pytest.raises(client.exceptions.ServiceQuotaExceededException) as caught:
        rule(room, account, id, "CUSTOM", {**CUSTOM, "allowedAnalysisProviders": providers})
    assert caught.value.response["quotaValue"] == 100_000


def test_columns_in_use_stay(room: Room) -> None:
    account = room.account()
    client = room.cleanrooms(account)
    id = make(room, account)["id"]
    for kind, policy, used in (
        ("LIST", LIST, ["id", "carrier", "delay"]),
        ("AGGREGATION", AGGREGATION, ["id", "carrier", "delay"]),
        ("CUSTOM", {**CUSTOM, "disallowedOutputColumns": ["id"]}, ["id"]),
    ):
        rule(room, account, id, kind, policy)
        for column in used:
            left = [name for name in ("id", "carrier", "delay", "day") if name != column]
            with pytest.raises(client.exceptions.ConflictException) as caught:
                client.update_configured_table(configuredTableIdentifier=id, allowedColumns=left)
            assert f"uses {column}," in refused(caught.value)[1]
            assert caught.value.response["resourceId"] == id
        client.update_configured_table(configuredTableIdentifier=id, allowedColumns=[*used, "day"])
        client.update_configured_table(
            configuredTableIdentifier=id, allowedColumns=["id", "carrier", "delay"]
        )
        client.delete_configured_table_analysis_rule(configuredTableIdentifier=id, analysisRuleType=kind)


def test_a_table_in_use_stays(room: Room) -> None:
    account = room.account()
    client = room.cleanrooms(account)
    id = make(room, account)["id"]
    rule(room, account, id, "LIST", LIST)
    membership = join(room, account, collaborate(room, account, [], "CAN_QUERY"))
    association = client.create_configured_table_association(
        name="flights",
        membershipIdentifier=membership,
        configuredTableIdentifier=id,
        roleArn=f"arn:aws:iam::{account}:role/read",
    )["configuredTableAssociation"]["id"]
    with pytest.raises(client.exceptions.ConflictException) as caught:
        client.delete_configured_table(configuredTableIdentifier=id)
    assert caught.value.response["reason"] == "SUBRESOURCES_EXIST"
    assert (caught.value.response["resourceId"], caught.value.response["resourceType"]) == (
        id,
        "CONFIGURED_TABLE",
    )
    client.delete_configured_table_association(
        membershipIdentifier=membership, configuredTableAssociationIdentifier=association
    )
    client.delete_configured_table(configuredTableIdentifier=id)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_configured_table_analysis_rule(configuredTableIdentifier=id, analysisRuleType="LIST")


def test_a_list_shows_each_version_and_each_accounts_own(room: Room) -> None:
    """Items are written once for each version of a row; a change is seen at once, and by its owner only."""
    mine, others = room.account(), room.account()
    first, second = make(room, mine, name="first"), make(room, mine, name="second")
    make(room, others, name="other")
    client = room.cleanrooms(mine)

    def names() -> list[str]:
        return [each["name"] for each in client.list_configured_tables()["configuredTableSummaries"]]

    assert names() == names() == ["first", "second"]
    client.update_configured_table(configuredTableIdentifier=first["id"], name="renamed")
    assert names() == ["renamed", "second"]
    client.delete_configured_table(configuredTableIdentifier=second["id"])
    assert names() == ["renamed"]
    [other] = room.cleanrooms(others).list_configured_tables()["configuredTableSummaries"]
    assert other["name"] == "other"
