"""Running analysis templates over boto3: what owners of tables allowed, by whom, with which values."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from lib.queries import QUERY, Desk
from lib.room import Room, refused, running
from lib.workshop import QUERY as VISITS
from lib.workshop import Workshop, work

TEXT = "SELECT id FROM visits WHERE id >= :least AND secret <> :word"
LEAST = {"name": "least", "type": "BIGINT"}
WORD = {"name": "word", "type": "VARCHAR", "defaultValue": "it's"}
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


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


@pytest.fixture(scope="module")
def shared(room: Room) -> Desk:
    """For tests that submit nothing which stays."""
    return Desk(room)


@pytest.fixture
def desk(room: Room) -> Desk:
    return Desk(room)


def allows(*analyses: str, providers: Any = None) -> dict[str, Any]:
    """A custom rule."""
    rule: dict[str, Any] = {"allowedAnalyses": [*analyses], "additionalAnalyses": "ALLOWED"}
    return rule if providers is None else {**rule, "allowedAnalysisProviders": [*providers]}


def finished(desk: Desk, query: Any, status: str = "SUCCESS") -> Any:
    work(desk.room)
    found = desk.get(query["id"])
    assert found["status"] == status, found
    return found


def refuses(desk: Desk, words: str, template: str, **parameters: str) -> Any:
    with pytest.raises(desk.client().exceptions.ValidationException, match=words) as caught:
        desk.start_template(template, **parameters)
    return caught.value.response


def unseen(desk: Desk, template: str) -> str:
    """The refusal of a template that is not there, without its ARN."""
    with pytest.raises(desk.client().exceptions.ResourceNotFoundException) as caught:
        desk.start_template(template)
    return refused(caught.value)[1].replace(template, "ARN")


def test_the_owner_allows_a_template_by_its_arn(desk: Desk) -> None:
    text = "SELECT a FROM narrow WHERE a > :least"
    allowed = desk.template(text, LEAST, party="partner")
    other = desk.template(text, LEAST, party="partner")
    desk.bring("narrow", "a,b\n1,2\n", "CUSTOM", allows(allowed))
    query = desk.start_template(allowed, least="0")
    assert query["sqlParameters"] == {"analysisTemplateArn": allowed, "parameters": {"least": "0"}}
    done = finished(desk, query)
    assert done["sqlParameters"] == query["sqlParameters"]
    assert "narrow" not in str(done)
    response = refuses(desk, "custom.allowedAnalyses.*" + other, other, least="0")
    assert response["reason"] == "INVALID_QUERY"
    assert [one["name"] for one in response["fieldList"]] == ["sqlParameters.analysisTemplateArn"]
    with pytest.raises(desk.client().exceptions.ValidationException, match="free text is not allowed"):
        desk.start("SELECT a FROM narrow")


def test_the_owner_allows_whatever_an_account_writes(desk: Desk) -> None:
    author = [desk.accounts["partner"]]
    desk.bring("narrow", "a,b\n1,2\n", "CUSTOM", allows("ANY_QUERY", providers=author))
    text = "SELECT a FROM narrow"
    finished(desk, desk.start_template(desk.template(text, party="partner")))
    refuses(desk, "allowedAnalysisProviders", desk.template(text, party="owner"))
    refuses(desk, "allowedAnalysisProviders", desk.template(text, party="runner"))
    with pytest.raises(desk.client().exceptions.ValidationException, match="allowedAnalysisProviders"):
        desk.start(text)


def test_every_table_must_allow_it(desk: Desk) -> None:
    template = desk.template("SELECT n.a FROM narrow n JOIN wide w ON n.a = w.a")
    desk.bring("narrow", "a\n1\n", "CUSTOM", allows(template))
    desk.bring("wide", "a\n1\n", "CUSTOM", allows("ANY_QUERY", providers=[desk.accounts["runner"]]))
    refuses(desk, "wide", template)


def test_columns_that_may_not_leave_do_not_leave(shared: Desk) -> None:
    template = shared.template("SELECT max(secret) AS m FROM visits", party="runner")
    refuses(shared, "custom.disallowedOutputColumns", template)


def test_values_are_checked_against_their_types(desk: Desk) -> None:
    template = desk.template(TEXT, LEAST, WORD, party="runner")
    for words, parameters in (
        ("least .BIGINT. has no value", {}),
        ("least is BIGINT, and '1 OR 1=1' is not", {"least": "1 OR 1=1"}),
        ("least is BIGINT, and '' is not", {"least": ""}),
        ("no parameter more; it has least, word", {"least": "1", "more": "2"}),
    ):
        response = refuses(desk, words, template, **parameters)
        assert response["reason"] == "INVALID_QUERY"
    # what is stored and shown is what was given; the default is taken when it runs
    query = desk.start_template(template, least="1")
    assert query["sqlParameters"]["parameters"] == {"least": "1"}
    finished(desk, query)
    finished(desk, desk.start_template(template, least="1", word="' OR 1=1 --"))


def test_a_template_that_is_gone_when_it_is_to_run(desk: Desk) -> None:
    template = desk.template(QUERY, party="runner")
    query = desk.start_template(template)
    own = {**desk.own(), "analysisTemplateIdentifier": template.rpartition("/")[2]}
    desk.client().delete_analysis_template(**own)
    failed = finished(desk, query, "FAILED")
    assert failed["error"]["code"] == "RESOURCE_NOT_FOUND"
    assert [kind for kind, _, _ in desk.entries()] == ["reserve", "void"]
    assert desk.received("runner") == {}


def test_an_author_that_is_gone_takes_its_templates_along(desk: Desk) -> None:
    template = desk.template("SELECT a FROM narrow", party="partner")
    desk.bring("narrow", "a\n1\n", "CUSTOM", allows(template))
    query = desk.start_template(template)
    desk.client("owner").delete_member(collaborationIdentifier=desk.id, accountId=desk.accounts["partner"])
    assert unseen(desk, template) == unseen(desk, template[:-36] + str(uuid4()))
    assert finished(desk, query, "FAILED")["error"]["code"] == "RESOURCE_NOT_FOUND"


def test_another_collaborations_template_is_not_there(desk: Desk, shared: Desk) -> None:
    template = shared.template(QUERY)
    assert unseen(desk, template) == unseen(desk, template[:-36] + str(uuid4()))


def test_an_estimate_is_asked_by_template_too(desk: Desk) -> None:
    template = desk.template(TEXT, LEAST, WORD, party="runner")
    request = {**desk.request(), "sqlParameters": {"analysisTemplateArn": template}}
    client = desk.room.passbox(desk.accounts["runner"])
    with pytest.raises(client.exceptions.ValidationException, match="least"):
        client.estimate_cost(**desk.own(), operation="StartProtectedQuery", parameters=request)
    request["sqlParameters"]["parameters"] = {"least": "1"}
    [cost] = client.estimate_cost(**desk.own(), operation="StartProtectedQuery", parameters=request)["costs"]
    assert cost["payerAccountId"] == desk.accounts["runner"]
    assert desk.entries() == []


def test_a_channel_by_template(room: Room) -> None:
    shop = Workshop(room)

    arn = shop.cleanrooms("runner").create_analysis_template(
        **shop.own(),
        name="most",
        format="SQL",
        source={"text": f"{VISITS} LIMIT :most"},
        analysisParameters=[{"name": "most", "type": "INT"}],
    )["analysisTemplate"]["arn"]

    def channel(sql: Any) -> dict[str, Any]:
        request = shop.channel_request("by template")
        request["inputChannel"]["dataSource"]["protectedQueryInputParameters"]["sqlParameters"] = sql
        return request

    client = shop.ml()
    for words, sql in (
        ("most .INT. has no value", {"analysisTemplateArn": arn}),
        ("most is INT", {"analysisTemplateArn": arn, "parameters": {"most": "many"}}),
    ):
        with pytest.raises(client.exceptions.ValidationException, match=words):
            client.create_ml_input_channel(**channel(sql))
    sql = {"analysisTemplateArn": arn, "parameters": {"most": "5"}}
    made = client.create_ml_input_channel(**channel(sql))["mlInputChannelArn"]
    work(room)
    found = shop.get_channel(made)
    assert found["status"] == "ACTIVE"
    source = found["inputChannel"]["dataSource"]["protectedQueryInputParameters"]
    assert source["sqlParameters"] == sql
    seen = shop.ml("owner").get_collaboration_ml_input_channel(**shop.whole(), mlInputChannelArn=made)
    assert arn not in str(seen)


def test_a_template_of_synthetic_data_gives_no_direct_result(shared: Desk) -> None:
    template = shared.template(QUERY, party="runner", syntheticDataParameters=SYNTHETIC)
    refuses(shared, "for ML input channels only", template)
