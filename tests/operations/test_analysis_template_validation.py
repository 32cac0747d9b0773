"""`spec/template_validations.md` over boto3, and who is told a validation, when, and of how many at once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from botocore.loaders import Loader

from lib.queries import Desk
from lib.room import Room, running
from lib.scripts import EVERYTHING, Studio

DOCUMENT = (Path(__file__).parent.parent / "spec" / "template_validations.md").read_text()
CSV = "id,page,times,spent\nu1,a,1,1.5\nu2,b,2,2.5\n"
COUNT = "SELECT count(*) AS n FROM visitors"
TYPES = set(Loader().load_service_model("cleanrooms", "service-2")["shapes"]["ParameterType"]["enum"])
PRIVATE = {"differentialPrivacy": {"columns": [{"name": "id"}]}}
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

    status: str
    text: str
    parameters: str
    reason: str


def rows() -> list[Row]:
    """The rows of the table."""
    lines = [line.strip("|").split("|") for line in DOCUMENT.splitlines() if line.startswith("| ")]
    return [Row(*(cell.strip() for cell in line)) for line in lines[1:]]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


def protect(desk: Desk, name: str, *, method: str = "DIRECT_QUERY", **more: Any) -> str:
    return desk.bring(name, CSV, "CUSTOM", {**desk.any_query(), **PRIVATE, **more}, method=method)


@pytest.fixture(scope="module")
def desk(room: Room) -> Desk:
    """The collaboration of the document."""
    made = Desk(room)
    for name in ("visitors", "people"):
        protect(made, name)
    nobody = {"allowedAnalyses": [], "allowedAnalysisProviders": []}
    made.allow(protect(made, "closed", **nobody), "CUSTOM", [], verb="update")
    made.client("owner").delete_configured_table_association_analysis_rule(
        **made.own("owner"),
        configuredTableAssociationIdentifier=protect(made, "bare"),
        analysisRuleType="CUSTOM",
    )
    protect(made, "scripts", method="DIRECT_JOB")
    made.bring("listed", CSV, "LIST", {"joinColumns": ["id"], "listColumns": ["page"]})
    made.bring("pages", CSV, "CUSTOM", made.any_query())
    return made


def create(desk: Desk, text: str, party: str = "partner", parameters: str = "", **more: Any) -> Any:
    if parameters == "synthetic":
        more["syntheticDataParameters"] = SYNTHETIC
    elif parameters:
        pairs = [one.split() for one in parameters.split(", ")]
        more["analysisParameters"] = [{"name": name, "type": type} for name, type in pairs]
    request = {**desk.own(party), "name": str(uuid4()), "format": "SQL", "source": {"text": text}, **more}
    return desk.client(party).create_analysis_template(**request)["analysisTemplate"]


def own(desk: Desk, template: Any, party: str = "partner") -> Any:
    return desk.client(party).get_analysis_template(
        **desk.own(party), analysisTemplateIdentifier=template["id"]
    )["analysisTemplate"]["validations"]


def shared(desk: Desk, *templates: Any, party: str = "owner") -> list[Any]:
    answer = desk.client(party).batch_get_collaboration_analysis_template(
        collaborationIdentifier=desk.id, analysisTemplateArns=[template["arn"] for template in templates]
    )
    assert answer["errors"] == []
    return [one["validations"] for one in answer["collaborationAnalysisTemplates"]]


def statuses(validations: Any) -> list[str]:
    return [one["status"] for one in validations]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.text)
def test_a_row(desk: Desk, row: Row) -> None:
    template = create(desk, row.text, parameters=row.parameters)
    told = template["validations"]
    if row.status == "none":
        assert told == []
    else:
        [one] = told
        assert (one["type"], one["status"]) == ("DIFFERENTIAL_PRIVACY", row.status), one
        reasons = [reason["message"] for reason in one.get("reasons", [])]
        assert len(reasons) == (row.status != "VALID")
        assert all(row.reason in reason for reason in reasons), reasons
    changed = desk.client("partner").update_analysis_template(
        **desk.own("partner"), analysisTemplateIdentifier=template["id"], description="new"
    )
    collaboration = desk.client("runner").get_collaboration_analysis_template(
        collaborationIdentifier=desk.id, analysisTemplateArn=template["arn"]
    )
    assert changed["analysisTemplate"]["validations"] == told
    assert collaboration["collaborationAnalysisTemplate"]["validations"] == told
    assert own(desk, template) == told
    assert shared(desk, template) == [told]


@pytest.mark.parametrize("type", sorted(TYPES - {"TIME", "TIMETZ"}))
def test_a_parameter_of_any_type_has_a_value_that_stands_for_all(desk: Desk, type: str) -> None:
    text = f"{COUNT} WHERE :a IS NULL"
    declared = [{"name": "a", "type": type}]
    made = create(desk, text, analysisParameters=declared)
    assert statuses(made["validations"]) == ["VALID"]


def test_an_invalid_one_is_told_what_the_runner_is_told(desk: Desk) -> None:
    template = create(desk, "SELECT spent FROM visitors", "runner")
    [one] = template["validations"]
    [reason] = one["reasons"]
    with pytest.raises(desk.client().exceptions.ValidationException) as caught:
        desk.start_template(template["arn"])
    assert caught.value.response["Error"]["Message"] == reason["message"]


def test_it_goes_by_the_tables_of_the_moment(room: Room) -> None:
    desk = Desk(room)
    template = create(desk, f"{COUNT} JOIN visits ON visitors.id = visits.id")
    assert own(desk, template) == []
    brought = protect(desk, "visitors")
    assert statuses(own(desk, template)) == ["INVALID"], "a text is joined with a whole number"
    simple = create(desk, COUNT)
    assert statuses(own(desk, simple)) == ["VALID"]
    desk.client("owner").delete_configured_table_association(
        **desk.own("owner"), configuredTableAssociationIdentifier=brought
    )
    assert own(desk, template) == own(desk, simple) == []


def test_who_has_left_is_told_nothing_of_tables(room: Room) -> None:
    desk = Desk(room)
    protect(desk, "visitors")
    template = create(desk, COUNT)
    assert statuses(own(desk, template)) == ["VALID"]
    desk.client("owner").delete_member(collaborationIdentifier=desk.id, accountId=desk.accounts["partner"])
    assert own(desk, template) == []


def test_of_long_texts_the_first_are_validated_and_the_others_one_by_one(desk: Desk) -> None:
    words = " ".join(f"word{n}" for n in range(10_000))
    first, second, last = (
        create(desk, text) for text in (f"{COUNT} /*{'x' * 300_000}*/", f"{COUNT} -- {words * 3}", COUNT)
    )
    assert [statuses(one) for one in shared(desk, first, second, last)] == [
        ["VALID"],
        ["UNABLE_TO_VALIDATE"],
        ["UNABLE_TO_VALIDATE"],
    ]
    assert [statuses(own(desk, one)) for one in (first, second, last)] == [["VALID"]] * 3
    assert [statuses(one) for one in shared(desk, *(create(desk, COUNT) for _ in range(10)))] == [
        ["VALID"]
    ] * 10


def test_a_script_is_not_validated(room: Room) -> None:
    studio = Studio(room)
    rule = {**studio.any_job(), **PRIVATE}
    studio.lend("visitors", CSV, rule)
    studio.put(EVERYTHING, "here/main.py")
    for table, expected in (("people", []), ("visitors", ["UNABLE_TO_VALIDATE"])):
        request = studio.template_request("here/main.py", table)
        made = studio.client("partner").create_analysis_template(**request)["analysisTemplate"]
        assert statuses(made["validations"]) == expected
        assert [statuses(one) for one in shared(studio, made)] == [expected]
