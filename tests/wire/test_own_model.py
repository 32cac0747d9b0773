"""The model of `passbox`: complete, worded as AWS's own, found by stock botocore, never at amazonaws.com."""

import os
import subprocess
import sys
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse

import passbox
from lib.wire_server import ACCOUNT, SERVICES, application, client, serving
from passbox.errors import ServiceQuotaExceededException, ValidationException
from passbox.wire.errors import Refused
from passbox.wire.model import Requests

UUID = "01234567-89ab-cdef-0123-456789abcdef"
ROOMS, ML, OWN = SERVICES
MODEL = client("passbox", "http://localhost").meta.service_model
REQUESTS = Requests(SERVICES)
SOUND: dict[str, Any] = {
    "membershipIdentifier": UUID,
    "trainedModelArn": f"arn:aws:cleanrooms-ml:us-east-1:{ACCOUNT}:membership/{UUID}/trained-model/{UUID}",
    "versionIdentifier": UUID,
}
KEYS = {"region_name": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}


def test_everything_is_documented() -> None:
    """The strings are the reference: `help(client.put_spend_cap)` renders them."""
    assert MODEL.documentation
    for name in MODEL.operation_names:
        assert len(MODEL.operation_model(name).documentation) > 40, name
    for name, shape in OWN.shapes.items():
        for member, ref in shape.get("members", {}).items():
            assert ref["documentation"].startswith("<p>"), f"{name}.{member}"


def test_every_shape_is_used() -> None:
    used = {"ConflictException", "InternalServerException"}
    for service_operation in MODEL.operation_names:
        model = MODEL.operation_model(service_operation)
        used |= {
            shape.name for shape in (model.input_shape, model.output_shape, *model.error_shapes) if shape
        }
    while True:
        more = {
            ref["shape"]
            for name in used
            for ref in (
                *OWN.shapes[name].get("members", {}).values(),
                *(OWN.shapes[name].get(part) for part in ("member", "key", "value")),
            )
            if ref is not None
        }
        if more <= used:
            break
        used |= more
    assert used == set(OWN.shapes)


@pytest.mark.parametrize("name", [name for name, shape in OWN.shapes.items() if shape.get("exception")])
def test_errors_are_shaped_as_those_of_cleanrooms(name: str) -> None:
    own, theirs = OWN.shapes[name], ROOMS.shapes[name]
    assert list(own["members"]) == list(theirs["members"])
    assert (own.get("required"), own["error"]) == (theirs.get("required"), theirs["error"])


def test_every_operation_declares_what_the_front_end_sends() -> None:
    for name in MODEL.operation_names:
        declared = {shape.name for shape in MODEL.operation_model(name).error_shapes}
        assert declared >= {"ValidationException", "AccessDeniedException", "InternalServerException"}


def sent_to(session: Any, **options: Any) -> str:
    """Where a client of the session sends a request; nothing leaves."""
    made = session.client("passbox", **KEYS, **options)
    found: list[str] = []

    def answer(request: Any, **_: Any) -> AWSResponse:
        found.append(request.url)
        response = AWSResponse(request.url, 200, {}, None)
        response._content = b'{"rates": []}'
        return response

    made.meta.events.register("before-send", answer)
    made.list_rates()
    [url] = found
    return url


def test_where_requests_go(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sent_to(passbox.boto3_session()) == "http://127.0.0.1:8420/rates"
    monkeypatch.setenv("AWS_ENDPOINT_URL_PASSBOX", "https://room.example")
    assert sent_to(passbox.boto3_session()) == "https://room.example/rates"
    assert (
        sent_to(passbox.boto3_session(), endpoint_url="http://other.example") == "http://other.example/rates"
    )


def test_stock_boto3_finds_the_model_by_aws_data_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DATA_PATH", passbox.models_path())
    assert sent_to(boto3.Session()) == "http://127.0.0.1:8420/rates"
    assert "cleanrooms" in boto3.Session().get_available_services()


def test_a_session_keeps_its_options() -> None:
    from botocore.session import get_session

    core = get_session()
    session = passbox.boto3_session(botocore_session=core, region_name="eu-west-1")
    assert (session.region_name, session._session) == ("eu-west-1", core)
    passbox.add_models(core)
    assert core.get_component("data_loader").search_paths.count(passbox.models_path()) == 1


def test_without_boto3_the_next_step_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ImportError, match="pip install boto3"):
        passbox.boto3_session()


def test_the_package_itself_is_light() -> None:
    code = "import sys, passbox; print([name for name in ('boto3', 'botocore') if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_user_models_do_not_change_what_is_served() -> None:
    code = "from passbox.wire.model import load_services; print([s.name for s in load_services()])"
    environment = {**os.environ, "AWS_DATA_PATH": "/nonexistent"}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "['cleanrooms', 'cleanroomsml', 'passbox']"


def test_a_document_arrives_as_it_is_and_errors_have_their_members() -> None:
    asked: list[Any] = []

    def dispatch(account: str, operation: str, params: dict[str, Any]) -> Any:
        asked.append((account, operation, params))
        raise ServiceQuotaExceededException("full", quota_name="cap", quota_value=25.0)

    request = {"name": "n", "dataChannels": [{"channelName": "c", "s": 1.5}], "none": None, "": {"on": True}}
    with serving(application(dispatch)) as address:
        own = client("passbox", address)
        with pytest.raises(own.exceptions.ServiceQuotaExceededException) as caught:
            own.estimate_cost(membershipIdentifier=UUID, operation="CreateTrainedModel", parameters=request)
        own.close()
    params = {"membershipIdentifier": UUID, "operation": "CreateTrainedModel", "parameters": request}
    assert asked == [(ACCOUNT, "passbox.EstimateCost", params)]
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 402
    assert (caught.value.response["quotaName"], caught.value.response["quotaValue"]) == ("cap", 25.0)


def test_a_request_as_a_document_is_read_wherever_its_members_travel() -> None:
    assert REQUESTS.read("cleanroomsml.GetTrainedModel", SOUND) == SOUND


def test_a_document_has_no_other_names_than_the_request() -> None:
    with pytest.raises(ValidationException, match="no such member") as broken:
        REQUESTS.read("cleanroomsml.GetTrainedModel", {**SOUND, "unknown": 1})
    assert broken.value.members["fieldList"][0]["name"] == "unknown"


def test_what_is_wrong_with_a_document_is_named_as_for_a_real_request() -> None:
    with pytest.raises(ValidationException) as broken:
        REQUESTS.read("cleanroomsml.GetTrainedModel", {**SOUND, "membershipIdentifier": "x"})
    assert broken.value.members["fieldList"][0]["name"] == "membershipIdentifier"
    with pytest.raises(ValidationException, match="trainedModelArn"):
        REQUESTS.read("cleanroomsml.GetTrainedModel", {"membershipIdentifier": UUID})
    with pytest.raises(Refused, match="'/versionIdentifier' must be a string"):
        REQUESTS.read("cleanroomsml.GetTrainedModel", {**SOUND, "versionIdentifier": 7})


@pytest.mark.parametrize("document", [None, [], "text", 7])
def test_a_document_that_is_no_object(document: Any) -> None:
    with pytest.raises(Refused, match="must be an object"):
        REQUESTS.read("cleanroomsml.GetTrainedModel", document)
