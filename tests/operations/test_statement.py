"""Statements, charges and rates over boto3: what a payer sees, and that nobody else sees it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lib.room import Room, everything, pays, refused, running
from lib.workshop import QUERY, RECORDS, Made, Workshop, work
from passbox import names

COST = RECORDS * 10  # micro-dollars of one training
PAYMENT = {"owner": pays(training=True, inference=True), "runner": pays(query=True)}
ZEROS = dict.fromkeys(
    ("chargedMicroDollars", "refundedMicroDollars", "totalMicroDollars", "reservedMicroDollars"), 0
)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


class Paid(Workshop):
    """The runner pays the query, the owner pays for training and inference."""

    def __init__(self, room: Room, **more: Any) -> None:
        super().__init__(room, PAYMENT, **more)
        self.configure()
        self.visits = self.active_channel()

    def payer(self, party: str = "owner") -> Any:
        return self.room.passbox(self.account(party))

    def statement(self, party: str = "owner", month: str | None = None) -> Any:
        found = self.payer(party).get_statement(month=month or this_month())
        del found["ResponseMetadata"]
        return found

    def charges(self, party: str = "owner", **asked: Any) -> list[Any]:
        return everything(self.payer(party).list_charges, "charges", **{"month": this_month(), **asked})

    def refunded(self, monkeypatch: pytest.MonkeyPatch) -> str:
        """An inference job whose results could not be delivered."""
        account = self.account("runner")
        model = self.active_model(self.visits, "to score with")
        buckets = self.room.settings.accounts / account / "buckets"
        run = Made.run

        def get_in_the_way(*arguments: Any) -> Any:
            buckets.mkdir(parents=True, exist_ok=True)
            (buckets / f"results-{account}").write_text("no folder")
            return run(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(Made, "run", get_in_the_way)
            arn = self.inference(model, self.visits)
            work(self.room)
        return arn


def this_month() -> str:
    return names.month(names.now())


@pytest.fixture
def shop(room: Room) -> Paid:
    return Paid(room)


def amounts(found: Any) -> tuple[int, ...]:
    return tuple(found[name] for name in ZEROS)


def test_a_statement_goes_from_reserved_to_charged(shop: Paid) -> None:
    month = this_month()
    nothing = {"month": month, "payerAccountId": shop.account("owner"), "lines": [], "isFinal": False}
    assert shop.statement() == {**nothing, **ZEROS}
    shop.model(shop.visits)
    held = shop.statement()
    assert amounts(held) == amounts(held["lines"][0]) == (0, 0, 0, COST)
    work(shop.room)
    done = shop.statement()
    assert done["lines"] == [
        {
            "collaborationIdentifier": shop.id,
            "collaborationName": "a collaboration",
            "costType": "MODEL_TRAINING",
            "jobs": 1,
            "quantityMilliUnits": RECORDS * 1000,
            "unit": "records trained",
            "chargedMicroDollars": COST,
            "refundedMicroDollars": 0,
            "totalMicroDollars": COST,
            "reservedMicroDollars": 0,
        }
    ]
    assert amounts(done) == (COST, 0, COST, 0)
    assert done["isFinal"] is False


def test_a_line_for_each_collaboration_and_cost_type(room: Room, shop: Paid) -> None:
    other = Paid(room, accounts={"owner": shop.account("owner"), "runner": shop.account("runner")})
    for one in (shop, other):
        one.inference(one.active_model(one.visits), one.visits)
        work(room)
    found = shop.statement()
    assert [(line["collaborationIdentifier"], line["costType"]) for line in found["lines"]] == [
        (id, cost_type)
        for id in sorted((shop.id, other.id))
        for cost_type in ("MODEL_INFERENCE", "MODEL_TRAINING")
    ]
    assert found["totalMicroDollars"] == sum(line["totalMicroDollars"] for line in found["lines"])
    [query, another] = shop.statement("runner")["lines"]
    assert {query["costType"], another["costType"]} == {"QUERY_COMPUTE"}


def test_a_refund_is_beside_its_charge(shop: Paid, monkeypatch: pytest.MonkeyPatch) -> None:
    arn = shop.refunded(monkeypatch)
    [inference, training] = shop.statement()["lines"]
    assert amounts(inference) == (COST, COST, 0, 0)
    assert (inference["jobs"], inference["quantityMilliUnits"]) == (0, 0)
    assert amounts(training) == (COST, 0, COST, 0)
    assert amounts(shop.statement()) == (2 * COST, COST, COST, 0)
    [_, charge, refund] = shop.charges()
    assert (charge["kind"], refund["kind"]) == ("CHARGE", "REFUND")
    assert charge["resourceArn"] == refund["resourceArn"] == arn
    assert charge["amountMicroDollars"] == -refund["amountMicroDollars"] == COST
    assert charge["chargeIdentifier"] != refund["chargeIdentifier"]
    assert charge["submitTime"] == refund["submitTime"] <= charge["chargeTime"] <= refund["chargeTime"]


def test_a_charge_says_what_it_was_for(shop: Paid) -> None:
    arn = shop.active_model(shop.visits)
    [charge] = shop.charges()
    assert charge.pop("chargeIdentifier")
    submitted, made = charge.pop("submitTime"), charge.pop("chargeTime")
    assert datetime(2026, 1, 1, tzinfo=UTC) < submitted <= made
    assert charge == {
        "kind": "CHARGE",
        "month": this_month(),
        "collaborationIdentifier": shop.id,
        "costType": "MODEL_TRAINING",
        "payerAccountId": shop.account("owner"),
        "submitterAccountId": shop.account("runner"),
        "resourceArn": arn,
        "quantityMilliUnits": RECORDS * 1000,
        "unit": "records trained",
        "priceMicroDollars": 10_000,
        "pricePer": 1_000,
        "amountMicroDollars": COST,
    }


def test_a_charge_for_a_query_holds_no_query(shop: Paid) -> None:
    [charge] = shop.charges("runner")
    assert (charge["costType"], charge["resourceArn"]) == ("QUERY_COMPUTE", shop.visits)
    told = str(charge)
    assert not any(word in told for word in (QUERY, "SELECT", "visits", "spent", "late"))


def test_nobody_else_sees_it(room: Room, shop: Paid) -> None:
    shop.active_model(shop.visits)
    stranger = room.passbox(room.account())
    assert stranger.get_statement(month=this_month())["lines"] == []
    assert stranger.list_charges(month=this_month(), collaborationIdentifier=shop.id)["charges"] == []
    assert shop.statement("vendor")["lines"] == []
    assert {charge["costType"] for charge in shop.charges("runner")} == {"QUERY_COMPUTE"}
    assert {charge["costType"] for charge in shop.charges("owner")} == {"MODEL_TRAINING"}


def test_the_month_is_that_of_the_submission(shop: Paid, monkeypatch: pytest.MonkeyPatch) -> None:
    month = this_month()
    shop.model(shop.visits)
    later = names.now() + 32 * 86_400
    monkeypatch.setattr(names, "now", lambda: later)
    following = this_month()
    assert month != following
    waiting = shop.statement(month=month)
    assert (waiting["reservedMicroDollars"], waiting["isFinal"]) == (COST, False)
    work(shop.room)
    done = shop.statement(month=month)
    assert (done["totalMicroDollars"], done["isFinal"]) == (COST, True)
    assert shop.statement(month=following)["lines"] == []
    assert [charge["month"] for charge in shop.charges(month=month)] == [month]
    assert shop.charges(month=following) == []


def test_a_month_without_anything(shop: Paid) -> None:
    assert shop.statement(month="2020-02")["isFinal"] is True
    assert shop.statement(month="2999-12")["isFinal"] is False
    assert shop.charges(month="2020-02") == []


@pytest.mark.parametrize("month", ["2026-13", "2026-00", "26-01", "2026-1", "2026-011", "NOV"])
def test_what_is_no_month(shop: Paid, month: str) -> None:
    for ask in (shop.payer().get_statement, shop.payer().list_charges):
        with pytest.raises(ClientError) as caught:
            ask(month=month)
        assert caught.value.response["Error"]["Code"] == "ValidationException"
        assert caught.value.response["fieldList"][0]["name"] == "month"


def test_whoever_left_still_sees_what_it_paid(shop: Paid) -> None:
    shop.active_model(shop.visits)
    before = shop.statement(), shop.charges()
    shop.cleanrooms("owner").delete_collaboration(collaborationIdentifier=shop.id)
    assert (shop.statement(), shop.charges()) == before


def test_pages(room: Room, shop: Paid) -> None:
    other = Paid(room, accounts={"owner": shop.account("owner")})
    mine = [shop.active_model(shop.visits, f"n{number}") for number in range(3)]
    theirs = [other.active_model(other.visits, f"n{number}") for number in range(2)]
    assert [charge["resourceArn"] for charge in shop.charges()] == mine + theirs
    assert [charge["resourceArn"] for charge in shop.charges(collaborationIdentifier=other.id)] == theirs
    pages = list(
        shop.payer()
        .get_paginator("list_charges")
        .paginate(month=this_month(), PaginationConfig={"PageSize": 2})
    )
    assert [len(page["charges"]) for page in pages] == [2, 2, 1]


def test_a_token_is_good_for_its_own_listing(room: Room, shop: Paid) -> None:
    for number in range(2):
        shop.active_model(shop.visits, f"n{number}")
    token = shop.payer().list_charges(month=this_month(), maxResults=1)["nextToken"]
    attempts: list[tuple[str, dict[str, str]]] = [
        ("owner", {"month": "2020-01"}),
        ("owner", {"month": this_month(), "collaborationIdentifier": shop.id}),
        ("runner", {"month": this_month()}),
    ]
    for party, asked in attempts:
        with pytest.raises(ClientError) as caught:
            shop.payer(party).list_charges(**asked, nextToken=token)
        assert refused(caught.value)[0] == "ValidationException"


def test_rates(room: Room) -> None:
    found = room.passbox(room.account()).list_rates()["rates"]
    assert {rate["costType"]: rate["priceMicroDollars"] for rate in found} == {
        "QUERY_COMPUTE": 2_000_000,
        "JOB_COMPUTE": 2_000_000,
        "MODEL_TRAINING": 10_000,
        "MODEL_INFERENCE": 10_000_000,
        "SYNTHETIC_DATA_GENERATION": 2_000_000,
    }
    [training] = [rate for rate in found if rate["costType"] == "MODEL_TRAINING"]
    assert training == {
        "costType": "MODEL_TRAINING",
        "priceMicroDollars": 10_000,
        "pricePer": 1_000,
        "unit": "records trained",
        "pricedUnit": "1,000 records",
    }
    [inference] = [rate for rate in found if rate["costType"] == "MODEL_INFERENCE"]
    assert (inference["tierFrom"], inference["tierPriceMicroDollars"]) == (10**9, 200_000)


def test_rates_of_the_operator(tmp_path: Path) -> None:
    (tmp_path / "rates.toml").write_text(
        "[[rates]]\neffective = 2026-01-01\nmodelTraining = 0.02\n"
        "[[rates]]\neffective = 2999-01-01\nmodelTraining = 0.03\n"
    )
    with running(tmp_path) as room:
        found = room.passbox(room.account()).list_rates()["rates"]
    assert [
        (rate["effectiveDate"], rate["priceMicroDollars"])
        for rate in found
        if rate["costType"] == "MODEL_TRAINING"
    ] == [("2026-01-01", 20_000), ("2999-01-01", 30_000)]
