"""Previews over boto3: the gate's answer and what the query would do, with nothing run and nothing left."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lib.queries import Desk
from lib.room import Room, pays, refused, running
from lib.workshop import QUERY, Workshop

TWO_PAY = {"owner": pays(query=True), "runner": pays(query=True)}


class Asking(Workshop):
    def preview(self, text: str, **changes: Any) -> Any:
        if "receiverAccountIds" not in changes:
            changes.setdefault("configuredModelAlgorithmAssociationArn", self.association)
        client = self.room.passbox(self.account("runner"))
        return client.preview_query(**self.own(), sqlParameters={"queryString": text}, **changes)

    def refusal(self, text: str, **changes: Any) -> Any:
        answer = self.preview(text, **changes)
        assert not answer["allowed"]
        assert "plan" not in answer
        return answer["refusal"]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


@pytest.fixture(scope="module")
def shop(room: Room) -> Asking:
    return Asking(room)


def contents(room: Room) -> list[str]:
    with closing(sqlite3.connect(room.settings.database)) as connection:
        return list(connection.iterdump())


def test_it_says_what_would_run_and_what_would_leave(room: Room, shop: Asking) -> None:
    before = contents(room)
    answer = shop.preview("SELECT v.id, count(*) AS n, max(v.spent) AS l FROM visits v GROUP BY id")
    assert contents(room) == before
    assert answer["allowed"]
    assert "refusal" not in answer
    plan = answer["plan"]
    assert plan["tables"] == [
        {"name": "visits", "ownerAccountId": shop.account("owner"), "columns": ["id", "spent"]}
    ]
    assert plan["outputs"] == [
        {"name": "id", "sources": [{"tableName": "visits", "columnName": "id"}]},
        {"name": "n", "sources": []},
        {"name": "l", "sources": [{"tableName": "visits", "columnName": "spent"}]},
    ]
    assert plan["queryText"].startswith("SELECT `v`.`id`")


def test_a_refusal_names_rule_table_column_and_place(shop: Asking) -> None:
    found = shop.refusal("SELECT id,\n  upper(ssn) AS x\nFROM visits")
    assert (found["rule"], found["tableName"], found["columnName"]) == (
        "custom.disallowedOutputColumns",
        "visits",
        "ssn",
    )
    assert (found["line"], found["column"]) == (2, 9)
    assert "visits.ssn" in found["message"]
    assert "id" in found["allowedValues"]
    assert "ssn" not in found["allowedValues"]


def test_it_is_what_the_operation_would_say(shop: Asking) -> None:
    for text in ("SELECT ssn FROM visits", "SELECT id FROM", "SELECT nothing FROM visits"):
        found = shop.refusal(text)
        with pytest.raises(ClientError) as error:
            shop.channel("refused", query=text)
        code, message = refused(error.value)
        assert code == "ValidationException"
        place = f" (line {found['line']}, column {found['column']})"
        assert f"{found['rule']}{place}: {found['message']}" in message


def test_a_direct_result_is_another_purpose(shop: Asking) -> None:
    assert shop.preview(QUERY)["allowed"]
    found = shop.refusal(QUERY, receiverAccountIds=[shop.account("runner")])
    assert (found["rule"], found["tableName"]) == ("custom.additionalAnalyses", "visits")


def test_without_a_purpose_the_caller_receives(shop: Asking) -> None:
    client = shop.room.passbox(shop.account("runner"))
    answer = client.preview_query(**shop.own(), sqlParameters={"queryString": QUERY})
    assert answer["refusal"]["rule"] == "custom.additionalAnalyses"


def test_it_costs_what_an_estimate_says_whoever_could_pay(room: Room) -> None:
    shop = Asking(room, TWO_PAY)
    costs = shop.preview(QUERY, computeConfiguration={"worker": {"type": "CR.4X", "number": 4}})["plan"][
        "costs"
    ]
    assert {cost["payerAccountId"] for cost in costs} == {shop.account("owner"), shop.account("runner")}
    compute = {"computeConfiguration": {"worker": {"type": "CR.4X", "number": 4}}}
    for cost in costs:
        payer = {"payerConfiguration": {"computePayerAccountId": cost["payerAccountId"]}}
        estimate = room.passbox(shop.account("runner")).estimate_cost(
            **shop.own(),
            operation="CreateMLInputChannel",
            parameters=shop.channel_request(source=compute, **payer),
        )
        assert estimate["costs"] == [cost]


def test_it_says_how_often_a_table_can_still_be_used(room: Room) -> None:
    shop = Asking(room)
    owner, table = shop.account("owner"), shop.table
    place = f"membership/{shop.memberships['owner']}/configuredtableassociation/{table}"
    shop.cleanrooms("owner").create_privacy_budget_template(
        **shop.own("owner"),
        privacyBudgetType="ACCESS_BUDGET",
        parameters={
            "accessBudget": {
                "resourceArn": f"arn:aws:cleanrooms:us-east-1:{owner}:{place}",
                "budgetParameters": [{"type": "LIFETIME", "budget": 3}],
            }
        },
    )
    for _ in range(2):
        [found] = shop.preview(QUERY)["plan"]["tables"]
        assert found["remainingUses"] == 3


def test_a_table_that_is_used_up_is_a_refusal(room: Room) -> None:
    desk = Desk(room)
    place = f"membership/{desk.memberships['owner']}/configuredtableassociation"
    table = desk.bring("spent", "id,x\n1,2\n", "CUSTOM", desk.any_query())
    desk.client("owner").create_privacy_budget_template(
        **desk.own("owner"),
        privacyBudgetType="ACCESS_BUDGET",
        parameters={
            "accessBudget": {
                "resourceArn": f"arn:aws:cleanrooms:us-east-1:{desk.accounts['owner']}:{place}/{table}",
                "budgetParameters": [{"type": "LIFETIME", "budget": 0}],
            }
        },
    )
    client = room.passbox(desk.accounts["runner"])
    answer = client.preview_query(**desk.own(), sqlParameters={"queryString": "SELECT id FROM spent"})
    assert not answer["allowed"]
    assert (answer["refusal"]["rule"], answer["refusal"]["tableName"]) == ("accessBudget", "spent")
    assert desk.accounts["owner"] in answer["refusal"]["message"]
    with pytest.raises(ClientError) as error:
        desk.start("SELECT id FROM spent")
    assert refused(error.value)[1] in answer["refusal"]["message"]


def test_a_receiver_without_the_ability_is_a_refusal(room: Room) -> None:
    desk = Desk(room)
    client = room.passbox(desk.accounts["runner"])
    asked = {**desk.own(), "sqlParameters": {"queryString": "SELECT id FROM visits"}}
    assert client.preview_query(**asked, receiverAccountIds=[desk.accounts["partner"]])["allowed"]
    for party, words in (("owner", "CAN_RECEIVE_RESULTS"), ("guest", "active member")):
        answer = client.preview_query(**asked, receiverAccountIds=[desk.accounts[party]])
        assert answer["refusal"]["rule"] == "receiverAccountIds"
        assert words in answer["refusal"]["message"]
        assert set(answer["refusal"]["allowedValues"]) == {desk.accounts["runner"], desk.accounts["partner"]}


def test_two_purposes_are_one_too_many(shop: Asking) -> None:
    with pytest.raises(ClientError) as error:
        shop.preview(
            QUERY,
            receiverAccountIds=[shop.account("runner")],
            configuredModelAlgorithmAssociationArn=shop.association,
        )
    assert "receiverAccountIds must be left out" in refused(error.value)[1]


def test_only_the_runner_asks_and_only_of_its_own_collaboration(room: Room, shop: Asking) -> None:
    other = Asking(room)
    with pytest.raises(ClientError) as error:
        shop.preview(QUERY, configuredModelAlgorithmAssociationArn=other.association)
    assert refused(error.value)[0] == "ResourceNotFoundException"
    client = room.passbox(shop.account("owner"))
    with pytest.raises(ClientError) as error:
        client.preview_query(**shop.own("owner"), sqlParameters={"queryString": QUERY})
    assert refused(error.value)[0] == "AccessDeniedException"
