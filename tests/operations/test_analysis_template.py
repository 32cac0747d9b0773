"""Analysis templates over boto3: what is stored, who reads it, what may be done with it."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from lib.queries import Desk
from lib.room import Room, everything, refused, running
from lib.workshop import limited

TEXT = "WITH v AS (SELECT id FROM visits) SELECT v.id FROM v JOIN Shops s ON v.id = s.id WHERE v.id > :least"
LEAST = {"name": "least", "type": "BIGINT"}
ROLE = "arn:aws:iam::111111111111:role/passbox"
COLUMNS = [
    {"columnName": f"c{number}", "columnType": "NUMERICAL", "isPredictiveValue": number == 0}
    for number in range(5)
]


def synthetic(columns: Any = COLUMNS) -> Any:
    return {
        "mlSyntheticDataParameters": {
            "epsilon": 1.5,
            "maxMembershipInferenceAttackScore": 0.6,
            "columnClassification": {"columnMapping": columns},
        }
    }


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


@pytest.fixture(scope="module")
def shared(room: Room) -> Desk:
    """For tests that leave nothing which another looks at."""
    return Desk(room)


@pytest.fixture
def desk(room: Room) -> Desk:
    return Desk(room)


def request(desk: Desk, party: str = "owner", text: str = TEXT, **changes: Any) -> dict[str, Any]:
    made = {
        **desk.own(party),
        "name": f"t {uuid4()}",
        "format": "SQL",
        "source": {"text": text},
        "analysisParameters": [LEAST],
        **changes,
    }
    return {key: value for key, value in made.items() if value is not None}


def create(desk: Desk, party: str = "owner", **changes: Any) -> Any:
    return desk.client(party).create_analysis_template(**request(desk, party, **changes))["analysisTemplate"]


def refuses(desk: Desk, words: str, field: str | None = None, **changes: Any) -> None:
    with pytest.raises(desk.client("owner").exceptions.ValidationException, match=words) as caught:
        create(desk, **changes)
    if field is not None:
        assert [one["name"] for one in caught.value.response["fieldList"]] == [field]


def whole(desk: Desk) -> dict[str, str]:
    return {"collaborationIdentifier": desk.id}


def test_life(desk: Desk) -> None:
    owner = desk.client("owner")
    made = create(desk, name="ab test", description="who came", tags={"team": "a"})
    account, membership = desk.accounts["owner"], desk.memberships["owner"]
    place = f"arn:aws:cleanrooms:us-east-1:{account}:membership/{membership}"
    assert made["arn"] == f"{place}/analysistemplate/{made['id']}"
    assert {key: made[key] for key in made if key not in ("id", "arn", "createTime", "updateTime")} == {
        "name": "ab test",
        "description": "who came",
        "collaborationId": desk.id,
        "collaborationArn": f"arn:aws:cleanrooms:us-east-1:{account}:collaboration/{desk.id}",
        "membershipId": membership,
        "membershipArn": place,
        "format": "SQL",
        "source": {"text": TEXT},
        "schema": {"referencedTables": ["Shops", "visits"]},
        "analysisParameters": [LEAST],
        "validations": [],
    }
    assert isinstance(made["createTime"], datetime)
    own = {**desk.own("owner"), "analysisTemplateIdentifier": made["id"]}
    assert owner.get_analysis_template(**own)["analysisTemplate"] == made
    changed = owner.update_analysis_template(**own, description="new")["analysisTemplate"]
    assert changed == {**made, "description": "new", "updateTime": changed["updateTime"]}
    assert changed["updateTime"] >= made["updateTime"]
    assert owner.update_analysis_template(**own)["analysisTemplate"] == changed
    assert owner.list_tags_for_resource(resourceArn=made["arn"])["tags"] == {"team": "a"}
    owner.tag_resource(resourceArn=made["arn"], tags={"team": "b"})
    assert owner.list_tags_for_resource(resourceArn=made["arn"])["tags"] == {"team": "b"}
    answer = owner.delete_analysis_template(**own)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    for method in (
        owner.get_analysis_template,
        owner.update_analysis_template,
        owner.delete_analysis_template,
    ):
        with pytest.raises(owner.exceptions.ResourceNotFoundException):
            method(**own)
    assert create(desk, name="ab test")["id"] != made["id"]


def test_every_active_member_reads_it_in_full(desk: Desk) -> None:
    parameters = [{**LEAST, "defaultValue": "7"}]
    made = create(
        desk,
        "partner",
        analysisParameters=parameters,
        syntheticDataParameters=synthetic(),
        errorMessageConfiguration={"type": "DETAILED"},
    )
    seen = {
        **{key: value for key, value in made.items() if key not in ("membershipId", "membershipArn")},
        "creatorAccountId": desk.accounts["partner"],
    }
    assert (seen["source"], seen["analysisParameters"]) == ({"text": TEXT}, parameters)
    assert seen["syntheticDataParameters"] == synthetic()
    assert seen["errorMessageConfiguration"] == {"type": "DETAILED"}
    unknown = made["arn"][:-36] + str(uuid4())
    for party in ("owner", "runner", "partner"):
        client = desk.client(party)
        found = client.get_collaboration_analysis_template(**whole(desk), analysisTemplateArn=made["arn"])
        assert found["collaborationAnalysisTemplate"] == seen
        both = client.batch_get_collaboration_analysis_template(
            **whole(desk), analysisTemplateArns=[unknown, made["arn"], made["arn"]]
        )
        assert both["collaborationAnalysisTemplates"] == [seen]
        [error] = both["errors"]
        assert (error["arn"], error["code"]) == (unknown, "ResourceNotFoundException")
    own = {**desk.own("owner"), "analysisTemplateIdentifier": made["id"]}
    for method in ("get", "update", "delete"):  # by membership it is its author's alone
        with pytest.raises(desk.client("owner").exceptions.ResourceNotFoundException):
            getattr(desk.client("owner"), f"{method}_analysis_template")(**own)
    guest = desk.client("guest")  # invited, and has not joined
    with pytest.raises(guest.exceptions.AccessDeniedException):
        guest.get_collaboration_analysis_template(**whole(desk), analysisTemplateArn=made["arn"])


def test_lists(desk: Desk) -> None:
    mine = [create(desk, description=f"d{number}") for number in range(3)]
    other = create(desk, "partner", syntheticDataParameters=synthetic(), description=None)
    client = desk.client("owner")
    listed = everything(client.list_analysis_templates, "analysisTemplateSummaries", **desk.own("owner"))
    keys = (
        "id",
        "arn",
        "name",
        "createTime",
        "updateTime",
        "description",
        "collaborationId",
        "collaborationArn",
    )
    own = ("membershipId", "membershipArn")
    assert listed == [
        {**{key: made[key] for key in (*keys, *own)}, "isSyntheticData": False} for made in mine
    ]
    key = "collaborationAnalysisTemplateSummaries"
    listed = everything(client.list_collaboration_analysis_templates, key, **whole(desk))
    assert listed == [
        {
            **{key: made[key] for key in keys if key in made},
            "creatorAccountId": desk.accounts[party],
            "isSyntheticData": made is other,
        }
        for made, party in [*((made, "owner") for made in mine), (other, "partner")]
    ]
    client.update_analysis_template(
        **desk.own("owner"), analysisTemplateIdentifier=mine[0]["id"], description="later"
    )
    assert (
        client.list_analysis_templates(**desk.own("owner"), maxResults=1)["analysisTemplateSummaries"][0][
            "description"
        ]
        == "later"
    )


def test_a_removed_members_templates_are_gone(desk: Desk) -> None:
    made = create(desk, "partner")
    desk.client("owner").delete_member(**whole(desk), accountId=desk.accounts["partner"])
    client = desk.client()
    with pytest.raises(client.exceptions.ResourceNotFoundException) as caught:
        client.get_collaboration_analysis_template(**whole(desk), analysisTemplateArn=made["arn"])
    unknown = made["arn"][:-36] + str(uuid4())
    with pytest.raises(client.exceptions.ResourceNotFoundException) as absent:
        client.get_collaboration_analysis_template(**whole(desk), analysisTemplateArn=unknown)
    assert refused(caught.value)[1].replace(made["arn"], "") == refused(absent.value)[1].replace(unknown, "")
    key = "collaborationAnalysisTemplateSummaries"
    assert client.list_collaboration_analysis_templates(**whole(desk))[key] == []
    both = client.batch_get_collaboration_analysis_template(**whole(desk), analysisTemplateArns=[made["arn"]])
    assert both["collaborationAnalysisTemplates"] == []


def test_another_collaborations_templates_are_not_there(desk: Desk, shared: Desk) -> None:
    made = create(shared)
    client = desk.client()
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_collaboration_analysis_template(**whole(desk), analysisTemplateArn=made["arn"])


def test_a_membership_with_a_template_does_not_end(desk: Desk) -> None:
    made = create(desk, "partner")
    client = desk.client("partner")
    with pytest.raises(client.exceptions.ConflictException, match="analysis template") as caught:
        client.delete_membership(**desk.own("partner"))
    assert caught.value.response["reason"] == "SUBRESOURCES_EXIST"
    client.delete_analysis_template(**desk.own("partner"), analysisTemplateIdentifier=made["id"])
    client.delete_membership(**desk.own("partner"))


def test_names_are_unique_in_a_membership(shared: Desk) -> None:
    create(shared, name="taken")
    with pytest.raises(shared.client("owner").exceptions.ConflictException, match="taken") as caught:
        create(shared, name="taken")
    assert caught.value.response["reason"] == "ALREADY_EXISTS"
    create(shared, "partner", name="taken")


def test_the_quota(tmp_path: Path) -> None:
    with limited(tmp_path / "home", analysis_templates=2) as room:
        desk = Desk(room)
        made = [create(desk) for _ in range(2)]
        create(desk, "partner")
        with pytest.raises(desk.client("owner").exceptions.ServiceQuotaExceededException) as caught:
            create(desk)
        assert caught.value.response["quotaName"] == "analysis templates"
        assert caught.value.response["quotaValue"] == 2
        own = {**desk.own("owner"), "analysisTemplateIdentifier": made[0]["id"]}
        desk.client("owner").delete_analysis_template(**own)
        create(desk)


def test_a_source_of_another_format(shared: Desk) -> None:
    artifacts = {"entryPoint": {"location": {"bucket": "code", "key": "main.py"}}, "roleArn": ROLE}
    refuses(shared, "PYSPARK_1_0", "format", format="PYSPARK_2_0", source={"artifacts": artifacts})
    refuses(shared, "source.text", "source.artifacts", source={"artifacts": artifacts})
    refuses(shared, "source.artifacts", "source.text", format="PYSPARK_1_0")


def test_the_text_must_be_a_query(shared: Desk) -> None:
    for text in ("", "DROP TABLE visits", "SELECT id FROM visits; SELECT 1", "SELECT", "SELECT 1 AS one"):
        refuses(shared, ": (sql|syntax)", "source.text", text=text, analysisParameters=None)
    refuses(shared, "characters|length", text=TEXT + " " * 500_000)
    most = TEXT + " " * (500_000 - len(TEXT))
    assert create(shared, source={"text": most})["source"]["text"] == most


def test_the_tables_are_found_in_the_text(shared: Desk) -> None:
    for text, tables in (
        ("SELECT a.id FROM visits a JOIN Visits b ON a.id = b.id", ["visits"]),
        (
            "SELECT id FROM b WHERE id IN (SELECT id FROM `a-table`) UNION ALL SELECT id FROM c",
            ["a-table", "b", "c"],
        ),
        ("WITH x AS (SELECT id FROM t), y AS (SELECT id FROM x) SELECT y.id FROM y, X", ["t"]),
    ):
        made = create(shared, source={"text": text}, analysisParameters=None)
        assert made["schema"] == {"referencedTables": tables}
        assert "analysisParameters" not in made
    said = {"referencedTables": ["VISITS", "shops"]}
    assert create(shared, schema=said)["schema"] == {"referencedTables": ["Shops", "visits"]}
    create(shared, schema={})
    refuses(shared, "reads Shops, visits", "schema.referencedTables", schema={"referencedTables": ["visits"]})


def test_the_parameters_are_those_of_the_text(shared: Desk) -> None:
    field = "analysisParameters"
    refuses(shared, "uses :least, which", field, analysisParameters=None)
    refuses(shared, "declared twice", field, analysisParameters=[LEAST, LEAST])
    more = {"name": "more", "type": "STRING"}
    refuses(shared, "does not use :more", field, analysisParameters=[LEAST, more])
    refuses(shared, "seven", field, analysisParameters=[{**LEAST, "defaultValue": "seven"}])
    refuses(shared, "type TIME", field, analysisParameters=[{**LEAST, "type": "TIME"}])
    many = [{"name": f"p{number}", "type": "INT"} for number in range(51)]
    text = "SELECT id FROM visits WHERE id IN (" + ", ".join(f":p{number}" for number in range(51)) + ")"
    refuses(shared, "50", source={"text": text}, analysisParameters=many)
    text = text.replace(", :p50", "")
    assert create(shared, source={"text": text}, analysisParameters=many[:50])[field] == many[:50]


def test_synthetic_parameters_are_of_distinct_columns(shared: Desk) -> None:
    create(
        shared, syntheticDataParameters=synthetic([{**one, "isPredictiveValue": False} for one in COLUMNS])
    )
    two = [{**one, "isPredictiveValue": number < 2} for number, one in enumerate(COLUMNS)]
    refuses(shared, "c0 and c1", syntheticDataParameters=synthetic(two))
    refuses(shared, "c4 is classified twice", syntheticDataParameters=synthetic([*COLUMNS, COLUMNS[4]]))
    refuses(shared, "columnMapping", syntheticDataParameters=synthetic(COLUMNS[:4]))
