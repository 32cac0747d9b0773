"""`spec/readiness.md` over boto3: every row of it, in one collaboration."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from botocore.loaders import Loader

from lib.room import Room, collaborate, join, named, running

DOCUMENT = (Path(__file__).parent.parent / "spec" / "readiness.md").read_text()
RECEIVES = "CAN_RECEIVE_RESULTS"
ANY_MODEL = "arn:aws:cleanrooms-ml:us-east-1:*:membership/*/configured-model-algorithm-association/*"
RULES: dict[str, dict[str, Any]] = {
    "LIST": {"joinColumns": ["id"], "listColumns": ["delay"]},
    "AGGREGATION": {
        "aggregateColumns": [{"columnNames": ["delay"], "function": "SUM"}],
        "joinColumns": ["id"],
        "dimensionColumns": [],
        "scalarFunctions": [],
        "outputConstraints": [{"columnName": "id", "minimum": 2, "type": "COUNT_DISTINCT"}],
    },
}
SYNTHETIC = {
    "mlSyntheticDataParameters": {
        "epsilon": 1.0,
        "maxMembershipInferenceAttackScore": 0.7,
        "columnClassification": {
            "columnMapping": [
                {"columnName": f"c{n}", "columnType": "NUMERICAL", "isPredictiveValue": False}
                for n in range(5)
            ]
        },
    }
}


class Row(NamedTuple):
    """A row of the document."""

    rule: str
    association: str
    direct: list[str]
    additional: list[str]


def _codes(cell: str) -> list[str]:
    return [] if cell == "ready" else cell.split(" + ")


def rows() -> list[Row]:
    """The rows of the table."""
    lines = [line.strip("| ").split(" | ") for line in DOCUMENT.splitlines() if line.startswith("| ")]
    return [Row(rule, own, _codes(direct), _codes(more)) for rule, own, direct, more in lines[1:]]


class World:
    """The collaboration of the document; tables are the owner's."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.accounts = {one: room.account() for one in ("owner", "runner", "partner", "guest", "former")}
        who = self.accounts
        members = [named(who["runner"], "CAN_QUERY", RECEIVES)]
        members += [named(who[one], RECEIVES) for one in ("partner", "guest", "former")]
        self.id = collaborate(room, who["owner"], members)
        joined = ("owner", "runner", "partner", "former")
        self.memberships = {one: join(room, who[one], self.id) for one in joined}
        elsewhere = join(room, who["runner"], collaborate(room, who["runner"], [], "CAN_QUERY"))
        self.templates = {
            "here": self.template("partner"),
            "synthetic": self.template("partner", syntheticDataParameters=SYNTHETIC),
            "gone": self.template("partner"),
            "former's": self.template("former"),
            "elsewhere": self.template("runner", membership=elsewhere),
        }
        room.cleanrooms(who["partner"]).delete_analysis_template(
            membershipIdentifier=self.memberships["partner"],
            analysisTemplateIdentifier=self.templates["gone"].rpartition("/")[2],
        )
        self.models = {"any": ANY_MODEL, "here": self.model(), "gone": self.model()}
        room.cleanroomsml(who["partner"]).delete_configured_model_algorithm_association(
            membershipIdentifier=self.memberships["partner"],
            configuredModelAlgorithmAssociationArn=self.models["gone"],
        )

    def template(self, party: str, membership: str | None = None, **more: Any) -> str:
        made = self.room.cleanrooms(self.accounts[party]).create_analysis_template(
            membershipIdentifier=membership or self.memberships[party],
            name=str(uuid4()),
            format="SQL",
            source={"text": "SELECT id FROM t"},
            **more,
        )
        return str(made["analysisTemplate"]["arn"])

    def model(self) -> str:
        account = self.accounts["partner"]
        client, name = self.room.cleanroomsml(account), str(uuid4())
        algorithm = client.create_configured_model_algorithm(
            name=name,
            roleArn=f"arn:aws:iam::{account}:role/read",
            trainingContainerConfig={"imageUri": "registry.local/forest:1"},
        )["configuredModelAlgorithmArn"]
        return str(
            client.create_configured_model_algorithm_association(
                membershipIdentifier=self.memberships["partner"],
                configuredModelAlgorithmArn=algorithm,
                name=name,
            )["configuredModelAlgorithmAssociationArn"]
        )

    def rule(self, text: str) -> tuple[str, dict[str, Any]]:
        """(type, policy) of a cell of the document."""
        head, _, analyses = text.partition(": ")
        kind, *additional = head.split()
        policy = dict(RULES.get(kind, {}))
        if additional:
            policy["additionalAnalyses"] = additional[0]
        if kind == "CUSTOM":
            allowed, by, accounts = analyses.partition(" by ")
            policy["allowedAnalyses"] = (
                [] if allowed == "nothing" else [self.arn(one) for one in allowed.split()]
            )
            if by:
                policy["allowedAnalysisProviders"] = self.named(accounts)
        return kind, policy

    def arn(self, word: str) -> str:
        return self.templates.get(word, word)

    def named(self, parties: str) -> list[str]:
        return [] if parties == "nobody" else [self.accounts[one] for one in parties.split()]

    def bring(self, row: Row) -> str:
        """Brings a table as the row says; the name of its schema."""
        client, name = self.room.cleanrooms(self.accounts["owner"]), f"t{uuid4().hex}"
        table = client.create_configured_table(
            name=name,
            tableReference=self.room.put_csv(self.accounts["owner"], "t", "id,delay\n1,0.5\n"),
            allowedColumns=["id", "delay"],
            analysisMethod="DIRECT_QUERY",
        )["configuredTable"]["id"]
        place = {"membershipIdentifier": self.memberships["owner"]}
        brought = client.create_configured_table_association(
            **place,
            name=name,
            configuredTableIdentifier=table,
            roleArn=f"arn:aws:iam::{self.accounts['owner']}:role/read",
        )["configuredTableAssociation"]["id"]
        if row.rule == "none":
            return name
        kind, policy = self.rule(row.rule)

        def rule(kind: str, policy: Any) -> None:
            client.create_configured_table_analysis_rule(
                configuredTableIdentifier=table,
                analysisRuleType=kind,
                analysisRulePolicy={"v1": {kind.lower(): policy}},
            )

        def own(kind: str, policy: Any) -> None:
            client.create_configured_table_association_analysis_rule(
                **place,
                configuredTableAssociationIdentifier=brought,
                analysisRuleType=kind,
                analysisRulePolicy={"v1": {kind.lower(): policy}},
            )

        if row.association == "other type":
            rule("AGGREGATION", RULES["AGGREGATION"])
            own("AGGREGATION", {})
            client.delete_configured_table_analysis_rule(
                configuredTableIdentifier=table, analysisRuleType="AGGREGATION"
            )
        rule(kind, policy)
        if row.association not in ("none", "other type"):
            own(kind, self.destinations(row.association))
        return name

    def destinations(self, text: str) -> dict[str, Any]:
        """The association's policy that a cell of the document stands for."""
        policy: dict[str, Any] = {}
        for part in text.split("; "):
            word, _, those = part.partition(" ")
            if word == "to":
                policy["allowedResultReceivers"] = self.named(those)
            else:
                policy["allowedAdditionalAnalyses"] = [self.models[one] for one in those.split()]
        return policy

    def remove(self) -> None:
        """Removes `former`, once every rule that names it is made."""
        self.room.cleanrooms(self.accounts["owner"]).delete_member(
            collaborationIdentifier=self.id, accountId=self.accounts["former"]
        )

    def schema(self, name: str) -> Any:
        client = self.room.cleanrooms(self.accounts["runner"])
        return client.get_schema(collaborationIdentifier=self.id, name=name)["schema"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, list[str]]]:
    with running(tmp_path_factory.mktemp("home")) as room:
        made = World(room)
        brought = [made.bring(row) for row in rows()]
        made.remove()
        yield made, brought


@pytest.mark.parametrize("number", range(len(rows())), ids=lambda number: f"{rows()[number].rule}-{number}")
def test_a_row(world: tuple[World, list[str]], number: int) -> None:
    room, brought = world
    row, seen = rows()[number], room.schema(brought[number])
    details = {one["analysisType"]: one for one in seen["schemaStatusDetails"]}
    assert len(details) == len(seen["schemaStatusDetails"]) == 2
    for analysis, codes in (("DIRECT_ANALYSIS", row.direct), ("ADDITIONAL_ANALYSIS", row.additional)):
        detail = details[analysis]
        assert [reason["code"] for reason in detail.get("reasons", [])] == codes, detail
        assert detail["status"] == ("NOT_READY" if codes else "READY")
        assert all(reason["message"] for reason in detail.get("reasons", []))
        kind = None if row.rule == "none" else re.split(r"\W", row.rule)[0]
        assert detail.get("analysisRuleType") == kind


def test_every_code_of_the_model_is_accounted_for() -> None:
    shapes = Loader().load_service_model("cleanrooms", "service-2")["shapes"]
    codes = set(shapes["SchemaStatusReasonCode"]["enum"])
    _, _, others = DOCUMENT.partition("Codes of the model that no table here can have")
    found = {code for row in rows() for code in (*row.direct, *row.additional)}
    absent = set(re.findall(r"[A-Z]+(?:_[A-Z]+)+", others))
    assert (found | absent, found & absent) == (codes, set())
