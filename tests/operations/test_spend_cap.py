"""Spend caps over boto3: what they hold, what they tell, and whose they are."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lib.room import Room, pays, refused, running
from lib.workshop import RECORDS, Workshop, work
from passbox import names

TRAINING = {"costType": "MODEL_TRAINING", "period": "MONTH"}
COST = RECORDS * 10  # micro-dollars of one training
BOTH = {"owner": pays(training=True), "runner": pays(training=True, query=True)}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


class Payers(Workshop):
    """A channel to train on, and two candidates for training."""

    def __init__(self, room: Room) -> None:
        super().__init__(room, BOTH)
        self.visits = self.active_channel()

    def payer(self, party: str = "owner") -> Any:
        return self.room.passbox(self.account(party))

    def put(self, limit: int, party: str = "owner", **changes: Any) -> Any:
        asked = {**self.own(party), **TRAINING, "limitMicroDollars": limit, **changes}
        return self.payer(party).put_spend_cap(**asked)["spendCap"]

    def caps(self, party: str = "owner") -> list[Any]:
        return list(self.payer(party).list_spend_caps(**self.own(party))["spendCaps"])

    def train(self, name: str, party: str = "owner") -> Any:
        return self.model(self.visits, name, mlModelTrainingPayerAccountId=self.account(party))


@pytest.fixture
def shop(room: Room) -> Payers:
    return Payers(room)


def test_life(shop: Payers) -> None:
    made = shop.put(25_000_000)
    month = datetime.now(UTC).strftime("%Y-%m")
    assert {key: value for key, value in made.items() if not key.endswith("Time")} == {
        "membershipIdentifier": shop.memberships["owner"],
        "collaborationIdentifier": shop.id,
        **TRAINING,
        "month": month,
        "limitMicroDollars": 25_000_000,
        "postedMicroDollars": 0,
        "reservedMicroDollars": 0,
        "remainingMicroDollars": 25_000_000,
    }
    assert made["createTime"] == made["updateTime"]
    assert shop.caps() == [made]
    changed = shop.put(30_000_000)
    assert (changed["limitMicroDollars"], changed["createTime"]) == (30_000_000, made["createTime"])
    assert changed["updateTime"] >= made["updateTime"]
    whole = shop.put(7, period="LIFETIME")
    assert "month" not in whole
    assert sorted(cap["period"] for cap in shop.caps()) == ["LIFETIME", "MONTH"]
    gone = shop.payer().delete_spend_cap(**shop.own("owner"), **TRAINING)
    assert gone["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert shop.caps() == [whole]


def test_one_for_every_cost_type_and_period(shop: Payers) -> None:
    kinds = [
        (cost_type, period)
        for cost_type in (
            "QUERY_COMPUTE", "JOB_COMPUTE", "MODEL_TRAINING", "MODEL_INFERENCE", "SYNTHETIC_DATA_GENERATION",
        )
        for period in ("MONTH", "LIFETIME")
    ]  # fmt: skip
    for cost_type, period in kinds:
        shop.put(1, costType=cost_type, period=period)
    assert sorted((cap["costType"], cap["period"]) for cap in shop.caps()) == sorted(kinds)


def test_deleting_what_is_not_there(shop: Payers) -> None:
    owner = shop.payer()
    with pytest.raises(owner.exceptions.ResourceNotFoundException) as caught:
        owner.delete_spend_cap(**shop.own("owner"), **TRAINING)
    found = caught.value.response
    assert (found["resourceId"], found["resourceType"]) == ("MODEL_TRAINING/MONTH", "SPEND_CAP")
    assert "MODEL_TRAINING/MONTH was not found" in found["message"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"limitMicroDollars": -1}, "limitMicroDollars"),
        ({"limitMicroDollars": 10**15 + 1}, "limitMicroDollars"),
        ({"costType": "COFFEE"}, "costType"),
        ({"period": "WEEK"}, "period"),
    ],
)
def test_bad_values_are_named(shop: Payers, changes: dict[str, Any], field: str) -> None:
    owner = shop.payer()
    with pytest.raises(owner.exceptions.ValidationException) as caught:
        owner.put_spend_cap(**{**shop.own("owner"), **TRAINING, "limitMicroDollars": 1, **changes})
    assert [one["name"] for one in caught.value.response["fieldList"]] == [field]
    assert shop.caps() == []


@pytest.mark.parametrize("limit", [0, 10**15])
def test_the_ends_of_the_scale(shop: Payers, limit: int) -> None:
    assert shop.put(limit)["remainingMicroDollars"] == limit


def test_the_last_micro_dollar_may_be_spent_and_no_more(shop: Payers) -> None:
    shop.put(2 * COST)
    shop.train("first")
    [cap] = shop.caps()
    assert (cap["reservedMicroDollars"], cap["postedMicroDollars"]) == (COST, 0)
    work(shop.room)
    [cap] = shop.caps()
    assert (cap["reservedMicroDollars"], cap["postedMicroDollars"]) == (0, COST)
    shop.train("second")
    assert shop.caps()[0]["remainingMicroDollars"] == 0
    with pytest.raises(shop.ml().exceptions.ServiceQuotaExceededException) as caught:
        shop.train("third")
    assert "$0 are left" in caught.value.response["Error"]["Message"]
    assert shop.account("owner") in caught.value.response["Error"]["Message"]
    shop.train("third", "runner")  # whom no cap holds


@pytest.mark.parametrize("period", ["MONTH", "LIFETIME"])
def test_a_new_month_frees_a_monthly_cap_only(
    shop: Payers, period: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.put(COST, period=period)
    shop.train("this month")
    later = names.now() + 32 * 86_400
    monkeypatch.setattr(names, "now", lambda: later)
    [cap] = shop.caps()
    if period == "MONTH":
        assert (cap["month"], cap["remainingMicroDollars"]) == (names.month(later), COST)
        shop.train("next month")
    else:
        assert cap["remainingMicroDollars"] == 0
        with pytest.raises(shop.ml().exceptions.ServiceQuotaExceededException):
            shop.train("next month")


def test_a_cap_below_what_is_spent_leaves_nothing(shop: Payers) -> None:
    shop.train("first")
    work(shop.room)
    cap = shop.put(1)
    assert (cap["postedMicroDollars"], cap["remainingMicroDollars"]) == (COST, 0)


def test_caps_are_each_members_own(shop: Payers) -> None:
    shop.put(5)
    assert shop.caps("runner") == []
    with pytest.raises(ClientError) as caught:
        shop.payer("runner").list_spend_caps(**shop.own("owner"))
    assert refused(caught.value)[0] == "ResourceNotFoundException"
    shop.put(9, "runner")
    assert [cap["limitMicroDollars"] for cap in shop.caps()] == [5]


def test_who_was_removed_may_clear_up_but_set_nothing(shop: Payers) -> None:
    shop.put(5, "vendor")
    shop.cleanrooms("owner").delete_member(**shop.whole(), accountId=shop.account("vendor"))
    vendor = shop.payer("vendor")
    with pytest.raises(vendor.exceptions.AccessDeniedException):
        shop.put(6, "vendor")
    assert [cap["limitMicroDollars"] for cap in shop.caps("vendor")] == [5]
    vendor.delete_spend_cap(**shop.own("vendor"), **TRAINING)
    assert shop.caps("vendor") == []
