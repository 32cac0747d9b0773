"""Privacy budget templates over boto3: what their owner may set, and who reads them."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from lib.room import Room, everything, refused, running
from lib.workshop import VISITS, Workshop, limited

PLACE = "parameters.accessBudget.budgetParameters"
DAY = {"type": "CALENDAR_DAY", "budget": 3, "autoRefresh": "ENABLED"}
LIFE = {"type": "LIFETIME", "budget": 10}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


class Limited(Workshop):
    """A workshop whose tables get budgets."""

    def arn(self, table: str | None = None, party: str = "owner") -> str:
        place = f"membership/{self.memberships[party]}/configuredtableassociation/{table or self.table}"
        return f"arn:aws:cleanrooms:us-east-1:{self.account(party)}:{place}"

    def request(self, *limits: dict[str, Any], party: str = "owner", **changes: Any) -> dict[str, Any]:
        budget = {"resourceArn": self.arn(), "budgetParameters": [*limits]}
        budget |= changes.pop("budget", {})
        return {
            **self.own(party),
            "privacyBudgetType": "ACCESS_BUDGET",
            "parameters": {"accessBudget": budget},
            **changes,
        }

    def create(self, *limits: dict[str, Any], **changes: Any) -> Any:
        asked = self.request(*limits, **changes)
        party = changes.get("party", "owner")
        return self.cleanrooms(party).create_privacy_budget_template(**asked)["privacyBudgetTemplate"]

    def update(self, id: str, *limits: dict[str, Any], party: str = "owner", **changes: Any) -> Any:
        asked: dict[str, Any] = {
            **self.own(party),
            "privacyBudgetTemplateIdentifier": id,
            "privacyBudgetType": "ACCESS_BUDGET",
        }
        if limits:
            asked["parameters"] = {"accessBudget": {"budgetParameters": [*limits]}}
        answer = self.cleanrooms(party).update_privacy_budget_template(**{**asked, **changes})
        return answer["privacyBudgetTemplate"]

    def get(self, id: str, party: str = "owner") -> Any:
        answer = self.cleanrooms(party).get_privacy_budget_template(
            **self.own(party), privacyBudgetTemplateIdentifier=id
        )
        return answer["privacyBudgetTemplate"]

    def delete(self, id: str, party: str = "owner") -> Any:
        return self.cleanrooms(party).delete_privacy_budget_template(
            **self.own(party), privacyBudgetTemplateIdentifier=id
        )


@pytest.fixture
def shop(room: Room) -> Limited:
    return Limited(room)


def test_life(shop: Limited) -> None:
    made = shop.create(DAY, LIFE, tags={"of": "visits"})
    id, owner = made["id"], shop.account("owner")
    collaboration = f"arn:aws:cleanrooms:us-east-1:{owner}:collaboration/{shop.id}"
    membership = f"arn:aws:cleanrooms:us-east-1:{owner}:membership/{shop.memberships['owner']}"
    assert {key: value for key, value in made.items() if not key.endswith("Time")} == {
        "id": id,
        "arn": f"arn:aws:cleanrooms:us-east-1:{owner}:privacybudgettemplate/{id}",
        "membershipId": shop.memberships["owner"],
        "membershipArn": membership,
        "collaborationId": shop.id,
        "collaborationArn": collaboration,
        "privacyBudgetType": "ACCESS_BUDGET",
        "autoRefresh": "NONE",
        "parameters": {"accessBudget": {"resourceArn": shop.arn(), "budgetParameters": [DAY, LIFE]}},
    }
    assert made["createTime"] == made["updateTime"]
    assert shop.get(id) == made
    client = shop.cleanrooms("owner")
    assert client.list_tags_for_resource(resourceArn=made["arn"])["tags"] == {"of": "visits"}

    changed = shop.update(id, {"type": "CALENDAR_WEEK", "budget": 0})
    assert changed["parameters"]["accessBudget"]["budgetParameters"] == [
        {"type": "CALENDAR_WEEK", "budget": 0, "autoRefresh": "DISABLED"}
    ]
    assert (changed["createTime"], changed["id"]) == (made["createTime"], id)
    assert changed["updateTime"] >= made["updateTime"]
    assert shop.update(id) == changed  # nothing asked, nothing changed
    assert shop.delete(id)["ResponseMetadata"]["HTTPStatusCode"] == 204
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        shop.get(id)
    assert shop.create(LIFE)["id"] != id


def test_one_for_each_table(shop: Limited) -> None:
    shop.create(LIFE)
    with pytest.raises(shop.cleanrooms().exceptions.ConflictException) as caught:
        shop.create(DAY)
    found = caught.value.response
    assert (found["reason"], found["resourceId"]) == ("ALREADY_EXISTS", shop.table)
    assert "visits" in found["message"]
    other = shop.bring("more", VISITS)
    assert shop.create(DAY, budget={"resourceArn": shop.arn(other)})["id"]


@pytest.mark.parametrize(
    ("limits", "field"),
    [
        ([], PLACE),
        ([DAY, LIFE, LIFE], PLACE),
        ([DAY, {**DAY, "type": "CALENDAR_WEEK"}], PLACE),
        ([DAY, DAY], PLACE),
        ([LIFE, LIFE], PLACE),
        ([{**LIFE, "autoRefresh": "DISABLED"}], f"{PLACE}[0].autoRefresh"),
        ([DAY, {**LIFE, "autoRefresh": "ENABLED"}], f"{PLACE}[1].autoRefresh"),
        ([{**LIFE, "budget": -1}], f"{PLACE}.0.budget"),
        ([{**LIFE, "budget": 1_000_001}], f"{PLACE}.0.budget"),
        ([{**LIFE, "type": "YEAR"}], f"{PLACE}.0.type"),
        ([{"type": "LIFETIME"}], f"{PLACE}.0.budget"),
    ],
)
def test_limits_that_make_no_sense_are_named(shop: Limited, limits: list[Any], field: str) -> None:
    created = shop.create({"type": "LIFETIME", "budget": 1_000_000})["id"]
    asked = {"accessBudget": {"budgetParameters": limits}}
    for call in (lambda: shop.create(*limits), lambda: shop.update(created, parameters=asked)):
        with pytest.raises(shop.cleanrooms().exceptions.ValidationException) as caught:
            call()
        assert [one["name"] for one in caught.value.response["fieldList"]] == [field]


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"privacyBudgetType": "DIFFERENTIAL_PRIVACY"}, "parameters", "differentialPrivacy"),
        ({"autoRefresh": "CALENDAR_MONTH"}, "autoRefresh", "budgetParameters"),
        (
            {"parameters": {"differentialPrivacy": {"epsilon": 1, "usersNoisePerQuery": 10}}},
            "parameters",
            "accessBudget",
        ),
    ],
)
def test_what_access_budgets_are_not(shop: Limited, changes: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(shop.cleanrooms().exceptions.ValidationException) as caught:
        shop.create(LIFE, **changes)
    [told] = caught.value.response["fieldList"]
    assert told["name"] == field
    assert words in told["message"]


def test_a_template_keeps_its_type(shop: Limited) -> None:
    id = shop.create(LIFE)["id"]
    with pytest.raises(shop.cleanrooms().exceptions.ValidationException) as caught:
        shop.update(id, privacyBudgetType="DIFFERENTIAL_PRIVACY")
    assert "ACCESS_BUDGET" in caught.value.response["Error"]["Message"]
    with pytest.raises(shop.cleanrooms().exceptions.ValidationException) as caught:
        shop.update(id, parameters={"differentialPrivacy": {"epsilon": 1}})
    assert caught.value.response["fieldList"][0]["name"] == "parameters"


def test_only_ones_own_tables(shop: Limited) -> None:
    """What is not there and what is somebody else's is answered alike, whichever part of the ARN is wrong."""
    runner = shop.cleanrooms("runner")
    arns = [
        shop.arn(),
        shop.arn(str(uuid4())),
        shop.arn(party="runner"),
        shop.arn().replace(shop.account("owner"), shop.account("runner")),
    ]
    for arn in arns:
        with pytest.raises(runner.exceptions.ResourceNotFoundException) as caught:
            shop.create(LIFE, party="runner", budget={"resourceArn": arn})
        assert refused(caught.value)[1] == f"The configured table association {arn} was not found."
    arn = shop.arn().replace("configuredtableassociation", "intermediatetable")
    with pytest.raises(runner.exceptions.ValidationException, match="intermediate tables"):
        shop.create(LIFE, budget={"resourceArn": arn})
    assert shop.create(LIFE)["id"]


def test_members_read_all_and_change_only_their_own(shop: Limited) -> None:
    mine = shop.create(DAY)
    theirs = shop.create(
        LIFE,
        party="runner",
        budget={"resourceArn": shop.arn(shop.bring("own", VISITS, party="runner"), "runner")},
    )
    vendor = shop.cleanrooms("vendor")
    listed = everything(
        vendor.list_collaboration_privacy_budget_templates,
        "collaborationPrivacyBudgetTemplateSummaries",
        **shop.whole(),
    )
    assert [one["id"] for one in listed] == [mine["id"], theirs["id"]]
    assert [one["creatorAccountId"] for one in listed] == [shop.account("owner"), shop.account("runner")]
    whole = vendor.get_collaboration_privacy_budget_template(
        **shop.whole(), privacyBudgetTemplateIdentifier=mine["id"]
    )["collaborationPrivacyBudgetTemplate"]
    kept = {key: value for key, value in mine.items() if not key.startswith("membership")}
    assert whole == {**kept, "creatorAccountId": shop.account("owner")}
    own = shop.cleanrooms("owner").list_privacy_budget_templates(**shop.own("owner"))
    [summary] = own["privacyBudgetTemplateSummaries"]
    assert summary == {key: value for key, value in mine.items() if key not in ("autoRefresh", "parameters")}
    for method in (shop.get, shop.delete, shop.update):
        with pytest.raises(ClientError) as caught:
            method(mine["id"], party="runner")
        expected = f"The privacy budget template {mine['id']} was not found."
        assert refused(caught.value) == ("ResourceNotFoundException", expected)


def test_who_was_removed_takes_its_templates_out_of_sight(shop: Limited) -> None:
    brought = shop.bring("theirs", VISITS, party="vendor")
    made = shop.create(LIFE, party="vendor", budget={"resourceArn": shop.arn(brought, "vendor")})
    shop.cleanrooms("owner").delete_member(**shop.whole(), accountId=shop.account("vendor"))
    runner = shop.cleanrooms("runner")
    listed = runner.list_collaboration_privacy_budget_templates(**shop.whole())
    assert listed["collaborationPrivacyBudgetTemplateSummaries"] == []
    with pytest.raises(runner.exceptions.ResourceNotFoundException):
        runner.get_collaboration_privacy_budget_template(
            **shop.whole(), privacyBudgetTemplateIdentifier=made["id"]
        )
    with pytest.raises(runner.exceptions.AccessDeniedException):
        shop.update(made["id"], DAY, party="vendor")
    shop.delete(made["id"], party="vendor")


def test_a_membership_ends_without_templates(shop: Limited) -> None:
    brought = shop.bring("theirs", VISITS, party="runner")
    made = shop.create(LIFE, party="runner", budget={"resourceArn": shop.arn(brought, "runner")})
    client = shop.cleanrooms("runner")
    client.delete_configured_table_association(
        **shop.own("runner"), configuredTableAssociationIdentifier=brought
    )
    with pytest.raises(client.exceptions.ConflictException) as caught:
        client.delete_membership(**shop.own("runner"))
    assert caught.value.response["reason"] == "SUBRESOURCES_EXIST"
    assert "privacy budget template" in caught.value.response["message"]
    shop.delete(made["id"], party="runner")
    client.delete_membership(**shop.own("runner"))


def test_quota(tmp_path_factory: pytest.TempPathFactory) -> None:
    with limited(tmp_path_factory.mktemp("home"), access_budget_templates=1) as room:
        shop = Limited(room)
        shop.create(LIFE)
        other = shop.bring("more", VISITS)
        with pytest.raises(shop.cleanrooms().exceptions.ServiceQuotaExceededException) as caught:
            shop.create(LIFE, budget={"resourceArn": shop.arn(other)})
        assert caught.value.response["quotaName"] == "access budget templates"
        assert Limited(room).create(LIFE)["id"]  # each collaboration has its own
