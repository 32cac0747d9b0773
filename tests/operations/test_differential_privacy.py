"""Differential privacy over boto3: policies, what a query costs, who may set it, what leaves with noise."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lib.queries import ENDS, Desk
from lib.room import Room, running
from lib.service import Service, serving_home, wait
from lib.workshop import ledger, work
from passbox.ledger import epsilon

USERS = 3000
# every user once on `a`, every third once more on `b`; one user has a thousand rows
PAGES = "id,page,spent\n" + "".join(
    f"u{number},a,{number % 10}\n" + (f"u{number},b,5\n" if number % 3 == 0 else "")
    for number in range(USERS)
)
EXTREME = "".join("u0,a,1e9\n" for _ in range(1000))
COUNT = "SELECT count(*) AS n FROM visitors"


class Private(Desk):
    """A desk with a table under differential privacy."""

    def protected(self, name: str = "visitors", text: str = PAGES, party: str = "owner", **more: Any) -> str:
        rule = {**self.any_query(), "differentialPrivacy": {"columns": [{"name": "id"}]}, **more}
        return self.bring(name, text, "CUSTOM", rule, party=party)

    def policy(self, total: int = 10, users: int = 20, party: str = "owner", **more: Any) -> Any:
        """Creates the collaboration's policy; the template."""
        answer = self.client(party).create_privacy_budget_template(
            **self.own(party),
            privacyBudgetType="DIFFERENTIAL_PRIVACY",
            parameters={"differentialPrivacy": {"epsilon": total, "usersNoisePerQuery": users}},
            **more,
        )
        return answer["privacyBudgetTemplate"]

    def update(self, id: str, **changes: int) -> Any:
        return self.client("owner").update_privacy_budget_template(
            **self.own("owner"),
            privacyBudgetTemplateIdentifier=id,
            privacyBudgetType="DIFFERENTIAL_PRIVACY",
            parameters={"differentialPrivacy": changes},
        )["privacyBudgetTemplate"]

    def left(self, type: str = "COUNT", party: str = "owner") -> tuple[int, int]:
        """(maxCount, remainingCount) of an aggregate in the collaboration's budget."""
        answer = self.client(party).list_collaboration_privacy_budgets(
            collaborationIdentifier=self.id, privacyBudgetType="DIFFERENTIAL_PRIVACY"
        )
        [found] = answer["collaborationPrivacyBudgetSummaries"]
        [one] = [
            entry for entry in found["budget"]["differentialPrivacy"]["aggregations"] if entry["type"] == type
        ]
        return one["maxCount"], one["remainingCount"]

    def spent(self) -> list[tuple[str, int]]:
        """(kind, micro-epsilon) of the book's entries of this collaboration, oldest first."""
        return [
            (entry["kind"], entry["amount"])
            for entry in ledger(self.room.settings.home)["transfers"]
            if entry["collaboration"] == self.id and entry["unit"] == epsilon.UNIT
        ]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving_home(tmp_path_factory.mktemp("served")) as service:
        yield service


def rows(desk: Desk, query: Any) -> list[dict[str, str]]:
    found = wait(lambda: desk.get(query["id"]), ENDS)
    assert found["status"] == "SUCCESS", found
    [file] = [file for name, file in desk.received("runner").items() if query["id"] in name]
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_without_a_policy_nothing_runs(room: Room) -> None:
    desk = Private(room)
    desk.protected()
    [direct] = [
        detail
        for detail in desk.client().get_schema(collaborationIdentifier=desk.id, name="visitors")["schema"][
            "schemaStatusDetails"
        ]
        if detail["analysisType"] == "DIRECT_ANALYSIS"
    ]
    assert [reason["code"] for reason in direct["reasons"]] == ["DIFFERENTIAL_PRIVACY_POLICY_NOT_CONFIGURED"]
    with pytest.raises(ClientError, match=r"ValidationException.*DIFFERENTIAL_PRIVACY_POLICY_NOT_CONFIGURED"):
        desk.start(COUNT)
    desk.policy()
    desk.start(COUNT)
    assert [kind for kind, _ in desk.spent()] == ["reserve"]


def test_a_manifest_tells_the_submitter_and_the_tables_owner_what_was_spent_and_left(room: Room) -> None:
    desk = Private(room)
    desk.protected()
    template = desk.policy(total=1, users=20)["arn"]
    cost = epsilon.of_measure(20)
    queries = [desk.start(COUNT)["id"] for _ in range(2)]
    work(room)
    for query in queries:
        for party in ("runner", "owner"):
            client = room.passbox(desk.accounts[party])
            answer = client.get_run_manifest(**desk.own(party), jobIdentifier=query)
            openings = {one["seal"]: json.loads(one["value"]) for one in answer["openings"]}
            document = json.loads(answer["document"])
            told = openings[document["privacy"]]
            # both were reserved when the first began
            assert told == {
                "privacyBudgetTemplateArn": template,
                "spentMicroEpsilon": cost,
                "leftBeforeMicroEpsilon": epsilon.MICRO - cost,
                "leftAfterMicroEpsilon": epsilon.MICRO - 2 * cost,
            }
            assert "MicroEpsilon" not in answer["document"]


def test_a_preview_shows_what_would_be_spent_and_says_when_it_is_not_there(room: Room) -> None:
    desk = Private(room)
    desk.protected()
    client = room.passbox(desk.accounts["runner"])

    def preview(text: str) -> Any:
        return client.preview_query(**desk.own(), sqlParameters={"queryString": text})

    assert preview(COUNT)["refusal"]["rule"] == "differentialPrivacy.policy"
    desk.policy(total=1, users=10)
    answer = preview(COUNT)
    assert answer["plan"]["privacyCost"] == {
        "epsilonMicro": epsilon.of_measure(10),
        "remainingEpsilonMicro": epsilon.MICRO,
    }
    assert desk.spent() == []
    three = "SELECT count(*) AS a, count(page) AS b, count(spent) AS c FROM visitors"
    for text in (three, three, COUNT):
        desk.start(text)
    answer = preview(COUNT)
    assert not answer["allowed"]
    assert answer["refusal"]["rule"] == "differentialPrivacy.budget"
    assert "epsilon 0.141422" in answer["refusal"]["message"]


def test_its_price_and_its_failure_are_always_the_same(room: Room) -> None:
    desk = Private(room)
    desk.protected()
    desk.policy()
    ran = desk.start(COUNT)
    failed = [
        desk.start(f"{COUNT} WHERE page = :{word}", sql={"parameters": {word: "a"}})
        for word in ("fails", "late")
    ]
    work(room)
    [units] = desk.get(ran["id"])["statistics"]["billedResourceUtilization"].values()
    assert units == pytest.approx(32 / 60)  # a minute of 16 CR.1X, though the engine took 90 s
    first, second = (desk.get(one["id"]) for one in failed)
    assert (first["status"], first["error"]) == (second["status"], second["error"])
    assert "not told" in first["error"]["message"]
    kinds = [kind for kind, _ in desk.spent()]
    assert (kinds.count("reserve"), kinds.count("post")) == (3, 3), "the epsilon of all three stays spent"


def test_a_policy_is_one_for_the_collaboration_and_its_spending_stays(room: Room) -> None:
    desk = Private(room)
    with pytest.raises(ClientError, match=r"ValidationException.*under differential privacy"):
        desk.policy()
    desk.protected()
    made = desk.policy(1, 10, autoRefresh="CALENDAR_MONTH")
    assert made["parameters"] == {"differentialPrivacy": {"epsilon": 1, "usersNoisePerQuery": 10}}
    assert made["autoRefresh"] == "CALENDAR_MONTH"
    with pytest.raises(ClientError, match=r"ConflictException.*already"):
        desk.policy()
    # √2/10 for each measure: 7 counts, 3 means, 2 deviations
    assert [desk.left(type) for type in ("COUNT", "COUNT_DISTINCT", "SUM", "AVG", "STDDEV")] == [
        (7, 7),
        (7, 7),
        (7, 7),
        (3, 3),
        (2, 2),
    ]
    desk.start("SELECT count(*) AS n, avg(least(greatest(spent, 0), 10)) AS a FROM visitors")
    assert desk.left() == (7, 4)
    assert desk.left(party="runner") == (7, 4)
    with pytest.raises(ClientError, match=r"ValidationException.*of the privacy budget"):
        desk.start(
            "SELECT stddev(least(greatest(spent, 0), 10)) AS d, stddev(least(greatest(spent, 0), 9)) AS e "
            "FROM visitors"
        )
    assert desk.left() == (7, 4)
    assert desk.update(made["id"], epsilon=2)["parameters"]["differentialPrivacy"] == {
        "epsilon": 2,
        "usersNoisePerQuery": 10,
    }
    assert desk.left() == (14, 11)
    desk.client("owner").delete_privacy_budget_template(
        **desk.own("owner"), privacyBudgetTemplateIdentifier=made["id"]
    )
    desk.policy(1, 10)
    assert desk.left() == (7, 4)


def test_the_runner_cannot_say_how_much_others_tables_tell(room: Room) -> None:
    desk = Private(room)
    desk.protected()
    desk.protected("mine", party="runner")
    desk.policy(20, 10, party="runner")
    desk.start("SELECT count(*) AS n FROM mine")
    with pytest.raises(ClientError, match=r"ValidationException.*who runs the query"):
        desk.start(COUNT)


def test_a_preview_says_what_a_policy_would_allow(room: Room) -> None:
    desk = Private(room)
    asked = {"epsilon": 20, "usersNoisePerQuery": 100}
    answer = desk.client("owner").preview_privacy_impact(
        **desk.own("owner"), parameters={"differentialPrivacy": asked}
    )
    counts = {
        entry["type"]: entry["maxCount"]
        for entry in answer["privacyImpact"]["differentialPrivacy"]["aggregations"]
    }
    assert counts == {"COUNT": 1414, "COUNT_DISTINCT": 1414, "SUM": 1414, "AVG": 707, "STDDEV": 471}


def test_a_rule_names_a_column_that_may_be_used(room: Room) -> None:
    desk = Private(room)
    with pytest.raises(ClientError, match=r"ValidationException.*allowedColumns"):
        desk.protected(differentialPrivacy={"columns": [{"name": "nobody"}]})


def test_epsilon_is_spent_before_anything_is_read(tmp_path: Path) -> None:
    with running(tmp_path) as room:
        _spends(room)


def _spends(room: Room) -> None:
    desk = Private(room)
    desk.protected()
    desk.policy(1, 10)
    cancelled = desk.start(COUNT)
    desk.cancel(cancelled["id"])
    work(room)
    price = epsilon.of_measure(10)
    assert desk.spent() == [("reserve", price), ("void", 0)]
    failing = desk.start(COUNT + " WHERE page = :fails", sql={"parameters": {"fails": "a"}})
    work(room)
    assert desk.get(failing["id"])["status"] == "FAILED"
    assert desk.spent()[2:] == [("reserve", price), ("post", price)]


def test_what_comes_out_is_near_and_says_its_bounds(service: Service) -> None:
    desk = Private(service.room)
    desk.protected(text=PAGES + EXTREME)
    desk.policy(20, 10)
    query = desk.start(
        "SELECT page, count(*) AS n, count(DISTINCT id) AS users, sum(least(greatest(spent, 0), 10)) AS s, "
        "avg(least(greatest(spent, 0), 10)) AS a, stddev(least(greatest(spent, 0), 10)) AS d "
        "FROM visitors WHERE page IN ('b', 'a', 'nowhere') GROUP BY page"
    )
    found = rows(desk, query)
    assert [row["page"] for row in found] == ["b", "a", "nowhere"]
    b, a, nowhere = found
    far = 12 * 10 * 10  # twelve times what the ten rows of ten users are
    for row, count in ((b, 1000), (a, USERS), (nowhere, 0)):
        assert abs(int(row["n"]) - count) < far
        assert abs(int(row["users"]) - count) < far
    assert abs(float(a["s"]) - 4.5 * USERS) < far * 10
    assert abs(float(a["a"]) - 4.5) < 4
    assert 0 <= float(a["d"]) <= 10
    assert (int(b["n"]), int(a["n"]), int(nowhere["n"])) != (1000, USERS + 1000, 0)
    shown = desk.get(query["id"])["differentialPrivacy"]["sensitivityParameters"]
    assert [one["aggregationType"] for one in shown] == ["COUNT", "COUNT_DISTINCT", "SUM", "AVG", "STDDEV"]
    assert {one["userContributionLimit"] for one in shown} == {10}
    assert (shown[2]["minColumnValue"], shown[2]["maxColumnValue"]) == (0, 10)
    # the rows, the users, the sum; a mean and a deviation of one expression share its sum and its count
    assert desk.spent()[-1] == ("post", 6 * epsilon.of_measure(10))


def test_a_user_with_many_rows_counts_a_few(service: Service) -> None:
    """Without the limit the thousand rows of one user would stand out of the noise of ten."""
    desk = Private(service.room)
    desk.protected(text="id,page,spent\n" + EXTREME)
    desk.policy(20, 100)
    per_user = "WITH u AS (SELECT id FROM visitors GROUP BY id) SELECT count(*) AS n FROM u"
    for query, most in ((COUNT, 10), (per_user, 1)):
        [row] = rows(desk, desk.start(query))
        assert abs(int(row["n"])) <= most + 15 * 71 * most  # Laplace beyond 15 scales: 3 in ten million


def test_nothing_exact_is_left_behind(service: Service) -> None:
    desk = Private(service.room)
    desk.protected()
    desk.policy(20, 10)
    rows(desk, desk.start(COUNT))
    home = service.room.settings.home
    assert list(home.rglob("exact*")) == []


def test_protected_data_feeds_no_model(room: Room) -> None:
    desk = Private(room)
    desk.protected()
    desk.policy()
    details = desk.client().get_schema(collaborationIdentifier=desk.id, name="visitors")["schema"]
    [additional] = [
        detail for detail in details["schemaStatusDetails"] if detail["analysisType"] == "ADDITIONAL_ANALYSIS"
    ]
    assert additional["status"] == "NOT_READY"
    with pytest.raises(ClientError, match=r"custom\.differentialPrivacy"):
        desk.start("SELECT id FROM visitors")
