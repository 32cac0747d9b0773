"""Access budgets over boto3: what uses a table, what is refused, what comes back, what members are told."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner

from lib.queries import Desk
from lib.room import Room, everything, refused, running
from lib.workshop import VISITS, Pretends, Workshop, ledger, work
from passbox import names
from passbox.__main__ import cli

JOIN = "SELECT v.id, v.spent FROM visits v JOIN more m ON v.id = m.id"
FAILS = "SELECT id FROM visits WHERE id = :fails"
TUESDAY = datetime(2027, 3, 30, 13, 5, tzinfo=UTC)
PERIODS = {  # of that Tuesday: a week begins on Sunday, and this one ends in another month
    "CALENDAR_DAY": (datetime(2027, 3, 30, tzinfo=UTC), datetime(2027, 3, 31, tzinfo=UTC)),
    "CALENDAR_WEEK": (datetime(2027, 3, 28, tzinfo=UTC), datetime(2027, 4, 4, tzinfo=UTC)),
    "CALENDAR_MONTH": (datetime(2027, 3, 1, tzinfo=UTC), datetime(2027, 4, 1, tzinfo=UTC)),
}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


def life(uses: int) -> dict[str, Any]:
    return {"type": "LIFETIME", "budget": uses}


def each(period: str, uses: int, refresh: str = "ENABLED") -> dict[str, Any]:
    return {"type": period, "budget": uses, "autoRefresh": refresh}


class Budgets:
    """The budgets of the tables that a collaboration's owner brings."""

    def __init__(self, party: Desk | Workshop) -> None:
        self.home, self.id = party.room.settings.home, party.id
        self.account = party.accounts["owner"]
        self.own = {"membershipIdentifier": party.memberships["owner"]}
        self.owner = party.room.cleanrooms(self.account)
        self.member = party.room.cleanrooms(party.accounts["runner"])

    def arn(self, name: str = "visits") -> str:
        brought = self.owner.list_configured_table_associations(**self.own)
        rows = brought["configuredTableAssociationSummaries"]
        [id] = [row["id"] for row in rows if row["name"] == name]
        place = f"membership/{self.own['membershipIdentifier']}/configuredtableassociation/{id}"
        return f"arn:aws:cleanrooms:us-east-1:{self.account}:{place}"

    def set(self, *limits: dict[str, Any], table: str = "visits") -> dict[str, str]:
        """Limits a table; the template as parameters."""
        created = self.owner.create_privacy_budget_template(
            **self.own,
            privacyBudgetType="ACCESS_BUDGET",
            parameters={"accessBudget": {"resourceArn": self.arn(table), "budgetParameters": [*limits]}},
        )
        return {**self.own, "privacyBudgetTemplateIdentifier": created["privacyBudgetTemplate"]["id"]}

    def change(self, template: dict[str, str], *limits: dict[str, Any]) -> None:
        self.owner.update_privacy_budget_template(
            **template,
            privacyBudgetType="ACCESS_BUDGET",
            parameters={"accessBudget": {"budgetParameters": [*limits]}},
        )

    def listed(self, **bounds: Any) -> list[Any]:
        return everything(
            self.member.list_collaboration_privacy_budgets,
            "collaborationPrivacyBudgetSummaries",
            collaborationIdentifier=self.id,
            **{"privacyBudgetType": "ACCESS_BUDGET", **bounds},
        )

    def of(self, table: str = "visits") -> Any:
        """The AccessBudget of a table, as another member reads it."""
        [one] = self.listed(accessBudgetResourceArn=self.arn(table))
        return one["budget"]["accessBudget"]

    def left(self, table: str = "visits") -> int:
        return int(self.of(table)["aggregateRemainingBudget"])

    def uses(self) -> list[str]:
        """The kinds of the book's entries of uses, oldest first."""
        return [one["kind"] for one in self.entries() if one["unit"] == "use"]

    def entries(self) -> list[dict[str, Any]]:
        return [one for one in ledger(self.home)["transfers"] if one["collaboration"] == self.id]

    def refuse(self, submit: Callable[[], Any], *words: str) -> None:
        """Submitting is refused at the door, in these words, and leaves nothing behind."""
        before = self.entries()
        with pytest.raises(ClientError) as caught:
            submit()
        code, message = refused(caught.value)
        assert code == "ValidationException"
        for word in ("has no use left", self.account, *words):
            assert word in message
        assert self.entries() == before


@pytest.fixture
def desk(room: Room) -> Desk:
    return Desk(room)


@pytest.fixture
def shop(room: Room) -> Workshop:
    return Workshop(room)


def test_every_use_of_a_table_counts(shop: Workshop) -> None:
    budgets = Budgets(shop)
    budgets.set(life(4))
    channel = shop.active_channel()
    assert budgets.left() == 3
    model = shop.active_model(channel)
    assert budgets.left() == 2
    shop.next_version(channel, model, "newer")
    work(shop.room)
    assert budgets.left() == 1
    shop.configure()
    shop.inference(model, channel)
    work(shop.room)
    assert budgets.left() == 0
    assert budgets.uses() == ["reserve", "post"] * 4
    words = "The table visits", "4 in all", "Ask its owner"
    budgets.refuse(lambda: shop.channel("again"), *words)
    budgets.refuse(lambda: shop.model(channel, "again"), *words)
    budgets.refuse(lambda: shop.inference(model, channel, "again"), *words)
    shop.export(model)  # reads no table and no channel
    work(shop.room)
    assert budgets.uses() == ["reserve", "post"] * 4


def test_a_job_counts_once_for_each_table(shop: Workshop) -> None:
    budgets = Budgets(shop)
    shop.bring("more", VISITS)
    budgets.set(life(9))
    budgets.set(life(2), table="more")
    first = shop.active_channel("first", query=JOIN)
    second = shop.active_channel("second")
    assert (budgets.left(), budgets.left("more")) == (7, 1)
    channels = [
        {"mlInputChannelArn": first, "channelName": "one"},
        {"mlInputChannelArn": second, "channelName": "two"},
    ]
    model = shop.model(first, "both", dataChannels=channels)["trainedModelArn"]
    work(shop.room)
    assert (budgets.left(), budgets.left("more")) == (6, 0)
    # what stands on a version stands on its tables, too
    base = {"trainedModelArn": model, "channelName": "base"}
    again = {"incrementalTrainingDataChannels": [base]}
    budgets.refuse(lambda: shop.model(second, "newer", **again), "The table more")
    assert budgets.left() == 6  # all or none
    shop.model(second, "other")
    assert budgets.left() == 5


def test_channels_show_the_budgets_of_their_tables(shop: Workshop) -> None:
    shop.bring("more", VISITS)
    budgets = Budgets(shop)
    channel = shop.active_channel(query=JOIN)
    assert "privacyBudgets" not in shop.get_channel(channel)
    budgets.set(each("CALENDAR_MONTH", 5), life(3))
    template = budgets.set(life(7), table="more")
    shop.model(channel)

    def shown() -> Any:
        own = shop.get_channel(channel)["privacyBudgets"]["accessBudgets"]
        whole = shop.ml("vendor").get_collaboration_ml_input_channel(
            **shop.whole(), mlInputChannelArn=channel
        )
        assert whole["privacyBudgets"]["accessBudgets"] == own
        return own

    visits, more = shown()
    assert (visits["resourceArn"], more["resourceArn"]) == (budgets.arn(), budgets.arn("more"))
    assert [(one["budgetType"], one["budget"], one["remainingBudget"]) for one in visits["details"]] == [
        ("CALENDAR_MONTH", 5, 4),
        ("LIFETIME", 3, 2),
    ]
    assert (visits["aggregateRemainingBudget"], more["aggregateRemainingBudget"]) == (2, 6)
    assert visits == budgets.of()
    budgets.owner.delete_privacy_budget_template(**template)
    assert [one["resourceArn"] for one in shown()] == [budgets.arn()]


def test_what_a_query_costs_its_tables(desk: Desk) -> None:
    """A use is held at the door, kept once the query has begun, however it ends, and else given back."""
    budgets = Budgets(desk)
    budgets.set(life(3))
    waits = desk.start()
    assert (budgets.left(), budgets.uses()) == (2, ["reserve"])
    desk.cancel(waits["id"])
    work(desk.room)
    assert (budgets.left(), budgets.uses()) == (3, ["reserve", "void"])
    desk.start()
    desk.start(FAILS, sql={"parameters": {"fails": "1"}})
    work(desk.room)
    assert budgets.left() == 1
    assert budgets.uses()[2:].count("post") == 2
    last = desk.start()
    budgets.refuse(desk.start, "The table visits", "3 in all")
    work(desk.room)
    assert desk.get(last["id"])["status"] == "SUCCESS"
    budgets.refuse(desk.start)


def test_money_comes_back_and_uses_do_not(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The query ran; only its delivery failed."""
    budgets = Budgets(desk)
    budgets.set(life(3))
    folder = desk.room.settings.accounts / desk.accounts["runner"] / "buckets"
    run = Pretends.run

    def spoil(*arguments: Any) -> Any:
        folder.mkdir(parents=True)
        (folder / "results").write_text("a file where a folder must be")
        return run(*arguments)

    monkeypatch.setattr(Pretends, "run", spoil)
    query = desk.start()
    work(desk.room)
    assert desk.get(query["id"])["status"] == "FAILED"
    assert budgets.uses() == ["reserve", "post"]
    assert {one["kind"] for one in budgets.entries() if one["unit"] != "use"} == {"reserve", "post", "refund"}
    assert budgets.left() == 2


def test_a_worker_that_dies_has_used_the_table(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows how far it read; the one use counts for every attempt."""
    budgets = Budgets(desk)
    budgets.set(life(3))
    run = Pretends.run

    def die(*_arguments: Any) -> Any:
        raise ZeroDivisionError

    query = desk.start()
    monkeypatch.setattr(Pretends, "run", die)
    with pytest.raises(ZeroDivisionError):
        work(desk.room)
    assert (budgets.left(), budgets.uses()) == (2, ["reserve", "post"])
    monkeypatch.setattr(Pretends, "run", run)
    later = names.now() + 60
    monkeypatch.setattr(names, "now", lambda: later)
    work(desk.room)
    assert desk.get(query["id"])["status"] == "SUCCESS"
    assert (budgets.left(), budgets.uses()) == (2, ["reserve", "post"])


def test_what_is_refused_before_it_begins_uses_nothing(desk: Desk) -> None:
    budgets = Budgets(desk)
    budgets.set(life(3))
    query = desk.start()
    [visits] = [
        one for one in budgets.listed() if one["budget"]["accessBudget"]["resourceArn"] == budgets.arn()
    ]
    desk.allow(
        visits["budget"]["accessBudget"]["resourceArn"].rpartition("/")[2], "CUSTOM", [], verb="update"
    )
    work(desk.room)
    assert desk.get(query["id"])["status"] == "FAILED"
    assert (budgets.left(), budgets.uses()) == (3, ["reserve", "void"])


def test_a_table_that_is_brought_anew_is_another(desk: Desk) -> None:
    """A query that waits must not read, under an old name, a table of which it holds no use."""
    budgets = Budgets(desk)
    query = desk.start()
    old = budgets.arn().rpartition("/")[2]
    budgets.owner.delete_configured_table_association(**budgets.own, configuredTableAssociationIdentifier=old)
    desk.bring("visits", "id,secret\n9,z\n", "CUSTOM", desk.any_query(["secret"]))
    budgets.set(life(0))
    work(desk.room)
    error = desk.get(query["id"])["error"]
    assert (error["code"], "brought anew" in error["message"]) == ("INVALID_RESOURCE", True)
    assert budgets.left() == 0


def test_a_budget_outlives_its_table(shop: Workshop) -> None:
    """Channels that derive from a table are still there when the table is taken away."""
    budgets = Budgets(shop)
    budgets.set(life(2))
    channel = shop.active_channel()
    shop.active_model(channel)
    budgets.owner.delete_configured_table_association(
        **budgets.own, configuredTableAssociationIdentifier=shop.table
    )
    budgets.refuse(lambda: shop.model(channel, "again"), "The table visits")


def test_editing_begins_anew(desk: Desk) -> None:
    budgets = Budgets(desk)
    template = budgets.set(life(1))
    [before] = budgets.listed()
    desk.start()
    budgets.refuse(desk.start)
    budgets.change(template, life(2))
    [after] = budgets.listed()
    assert budgets.left() == 2
    assert before["id"] != after["id"]
    assert after["createTime"] > before["createTime"]
    work(desk.room)  # what was submitted under the old limit counts there
    assert budgets.left() == 2
    desk.start()
    assert budgets.left() == 1
    budgets.change(template, life(0))
    budgets.refuse(desk.start, "0 in all")
    budgets.owner.delete_privacy_budget_template(**template)
    desk.start()
    assert budgets.listed() == []
    assert budgets.uses().count("reserve") == 2


@pytest.mark.parametrize("period", PERIODS)
def test_a_period_is_refreshed(desk: Desk, monkeypatch: pytest.MonkeyPatch, period: str) -> None:
    start, end = PERIODS[period]
    monkeypatch.setattr(names, "now", TUESDAY.timestamp)
    budgets = Budgets(desk)
    budgets.set(each(period, 1), life(3))
    desk.start()
    calendar, lifetime = budgets.of()["details"]
    assert calendar == {
        "budgetType": period,
        "budget": 1,
        "remainingBudget": 0,
        "autoRefresh": "ENABLED",
        "startTime": start,
        "endTime": end,
    }
    assert lifetime == {"budgetType": "LIFETIME", "budget": 3, "remainingBudget": 2, "startTime": TUESDAY}
    word = period.removeprefix("CALENDAR_").lower()
    budgets.refuse(desk.start, f"1 a {word}", f"Wait until {end:%Y-%m-%d} (UTC), or ask its owner")
    monkeypatch.setattr(names, "now", lambda: end.timestamp() - 0.001)
    budgets.refuse(desk.start)
    monkeypatch.setattr(names, "now", end.timestamp)
    assert budgets.left() == 1
    desk.start()
    assert budgets.left() == 0
    later = end + 10 * (end - start)
    monkeypatch.setattr(names, "now", later.timestamp)
    desk.start()
    much_later = later + 10 * (end - start)
    monkeypatch.setattr(names, "now", much_later.timestamp)
    budgets.refuse(desk.start, "3 in all")  # for which there is nothing to wait


def test_a_period_that_is_not_refreshed_ends(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    start, end = PERIODS["CALENDAR_DAY"]
    monkeypatch.setattr(names, "now", TUESDAY.timestamp)
    budgets = Budgets(desk)
    template = budgets.set(each("CALENDAR_DAY", 2, "DISABLED"))
    desk.start()
    assert budgets.left() == 1
    monkeypatch.setattr(names, "now", end.timestamp)
    [detail] = budgets.of()["details"]
    assert (detail["startTime"], detail["endTime"], detail["remainingBudget"]) == (start, end, 0)
    budgets.refuse(desk.start, "2 for one day, which is not refreshed. Ask its owner")
    budgets.change(template, each("CALENDAR_DAY", 2, "DISABLED"))
    assert budgets.left() == 2


def test_members_read_all_budgets_and_each_its_own(shop: Workshop) -> None:
    budgets = Budgets(shop)
    shop.bring("more", VISITS)
    budgets.set(life(3))
    budgets.set(life(4), table="more")
    first, second = budgets.listed()
    assert first["creatorAccountId"] == budgets.account
    assert {key for key in first if key.startswith("membership")} == set()
    assert (first["type"], second["budget"]["accessBudget"]["resourceArn"]) == (
        "ACCESS_BUDGET",
        budgets.arn("more"),
    )
    own = budgets.owner.list_privacy_budgets(**budgets.own, privacyBudgetType="ACCESS_BUDGET")
    kept = [{key: one[key] for key in first if key != "creatorAccountId"} for one in (first, second)]
    assert [
        {key: one[key] for key in one if not key.startswith("membership")}
        for one in own["privacyBudgetSummaries"]
    ] == kept
    assert budgets.listed(privacyBudgetType="DIFFERENTIAL_PRIVACY") == []
    assert budgets.listed(accessBudgetResourceArn=budgets.arn()[:-1] + "x") == []
    runner = shop.cleanrooms("runner")
    none = runner.list_privacy_budgets(**shop.own("runner"), privacyBudgetType="ACCESS_BUDGET")
    assert none["privacyBudgetSummaries"] == []


def test_an_estimate_uses_nothing_and_refuses_alike(shop: Workshop) -> None:
    budgets = Budgets(shop)
    template = budgets.set(life(1))
    channel = shop.active_channel()

    def estimate() -> Any:
        request = {**shop.model_request(channel), **shop.own()}
        asked = {"operation": "CreateTrainedModel", "parameters": request}
        return shop.room.passbox(shop.account("runner")).estimate_cost(**shop.own(), **asked)

    budgets.refuse(estimate, "The table visits")
    budgets.change(template, life(1))
    assert len(estimate()["costs"]) == 1
    assert (budgets.left(), budgets.uses()) == (1, ["reserve", "post"])


def test_the_operator_sees_uses_apart_from_money(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("home")
    with running(home) as room:
        desk = Desk(room)
        Budgets(desk).set(each("CALENDAR_WEEK", 4), life(9))
        desk.start()
        work(room)

    def run(*words: str) -> str:
        return CliRunner().invoke(cli, ["ledger", *words, "--home", str(home)], catch_exceptions=False).stdout

    shown = json.loads(run("budgets", "--json"))
    assert [(one["table"], one["type"], one["budget"], one["remaining"]) for one in shown] == [
        ("visits", "CALENDAR_WEEK", 4, 3),
        ("visits", "LIFETIME", 9, 8),
    ]
    assert "CALENDAR_WEEK" in run("budgets")
    assert [line.split()[3:5] for line in run("transfers").splitlines() if "table/" in line] == [
        ["1", "use"]
    ] * 2
    assert [line["cost_type"] for line in ledger(home)["lines"]] == ["queryCompute"]


def test_the_last_use_is_given_once(shop: Workshop) -> None:
    """However many ask at the same time, in as many threads of the API."""
    budgets = Budgets(shop)
    template = budgets.set(life(1))
    channel = shop.active_channel()
    budgets.change(template, life(3))

    def submit(number: int) -> str:
        try:
            shop.model(channel, f"model {number}")
        except ClientError as error:
            return refused(error)[1]
        return "admitted"

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(submit, range(16)))
    assert answers.count("admitted") == 3
    assert sum("has no use left" in answer for answer in answers) == 13
    assert budgets.left() == 0
