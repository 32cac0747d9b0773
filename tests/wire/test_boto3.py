"""Stock boto3 clients against a real server: what they raise, follow, and where their requests arrive."""

import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lib.wire_server import ACCOUNT, application, client, serving
from passbox.errors import (
    AccessDeniedException,
    ConflictException,
    QueryRefused,
    ResourceNotFoundException,
    ServiceQuotaExceededException,
    ThrottlingException,
    ValidationException,
)

UUID = "01234567-89ab-cdef-0123-456789abcdef"
MODEL = f"arn:aws:cleanrooms-ml:us-east-1:{ACCOUNT}:membership/{UUID}/trained-model/late.arrivals"
MOMENT = 1795505081.123


class House:
    """A dispatch that does what the test says and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.answer: Any = None

    def __call__(self, account: str, operation: str, params: dict[str, Any]) -> Any:
        self.asked.append((account, operation, params))
        answer = self.answer(params) if callable(self.answer) else self.answer
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[House, Any, Any]]:
    house = House()
    with serving(application(house)) as address:
        yield house, client("cleanrooms", address), client("cleanroomsml", address)


@pytest.fixture
def both(served: tuple[House, Any, Any]) -> tuple[House, Any, Any]:
    house, rooms, ml = served
    house.asked.clear()
    house.answer = None
    return house, rooms, ml


@pytest.mark.parametrize(
    ("error", "status", "members"),
    [
        (
            ResourceNotFoundException("gone", resource_id=UUID, resource_type="MEMBERSHIP"),
            404,
            {"message": "gone", "resourceId": UUID, "resourceType": "MEMBERSHIP"},
        ),
        (ResourceNotFoundException("gone"), 404, {"message": "gone", "resourceId": "", "resourceType": ""}),
        (
            ConflictException("busy", reason="ALREADY_EXISTS", resource_id="x"),
            409,
            {"message": "busy", "reason": "ALREADY_EXISTS", "resourceId": "x"},
        ),
        (
            ValidationException("bad", fields=[("name", "too long")]),
            400,
            {
                "message": "bad",
                "reason": "FIELD_VALIDATION_FAILED",
                "fieldList": [{"name": "name", "message": "too long"}],
            },
        ),
        (AccessDeniedException("no"), 403, {"message": "no", "reason": "INSUFFICIENT_PERMISSIONS"}),
        (
            ServiceQuotaExceededException("full", quota_name="tables", quota_value=60),
            402,
            {"message": "full", "quotaName": "tables", "quotaValue": 60.0},
        ),
        (ThrottlingException(), 429, {"message": "The request was denied because of request throttling."}),
    ],
)
def test_errors_of_cleanrooms(
    both: tuple[House, Any, Any], error: Any, status: int, members: dict[str, Any]
) -> None:
    house, rooms, _ = both
    house.answer = error
    with pytest.raises(getattr(rooms.exceptions, error.code)) as caught:
        rooms.get_collaboration(collaborationIdentifier=UUID)
    response = caught.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert len(response["ResponseMetadata"]["RequestId"]) == 36
    assert {
        key: value for key, value in response.items() if key not in ("Error", "ResponseMetadata")
    } == members


def test_errors_of_cleanroomsml_have_only_its_members(both: tuple[House, Any, Any]) -> None:
    house, _, ml = both
    house.answer = ConflictException("busy", resource_id="x", resource_type="y")
    with pytest.raises(ml.exceptions.ConflictException) as caught:
        ml.get_trained_model(membershipIdentifier=UUID, trainedModelArn=MODEL)
    assert set(caught.value.response) == {"Error", "ResponseMetadata", "message"}
    assert caught.value.response["message"] == "busy"


def test_a_refused_query_is_a_validation_exception(both: tuple[House, Any, Any]) -> None:
    house, rooms, _ = both
    house.answer = QueryRefused("not this column", rule="list.listColumns")
    with pytest.raises(rooms.exceptions.ValidationException) as caught:
        rooms.get_collaboration(collaborationIdentifier=UUID)
    assert caught.value.response["reason"] == "INVALID_QUERY"


@pytest.mark.parametrize("failure", [KeyError("secret"), RuntimeError("secret"), {"collaboration": {}}])
def test_a_failure_of_ours_tells_nothing(
    both: tuple[House, Any, Any], failure: Any, caplog: pytest.LogCaptureFixture
) -> None:
    house, rooms, ml = both
    house.answer = failure
    with pytest.raises(rooms.exceptions.InternalServerException) as caught:
        rooms.get_collaboration(collaborationIdentifier=UUID)
    response = caught.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert "secret" not in str(response)
    assert response["ResponseMetadata"]["RequestId"] in response["message"]
    assert response["ResponseMetadata"]["RequestId"] in caplog.text
    assert any(record.exc_info for record in caplog.records)
    with pytest.raises(ml.exceptions.InternalServiceException):
        ml.get_trained_model(membershipIdentifier=UUID, trainedModelArn=MODEL)


def test_an_arn_is_one_label(both: tuple[House, Any, Any]) -> None:
    house, _, ml = both
    ml.cancel_trained_model(membershipIdentifier=UUID, trainedModelArn=MODEL, versionIdentifier=UUID)
    ml.delete_trained_model_output(membershipIdentifier=UUID, trainedModelArn=MODEL)
    params = {"membershipIdentifier": UUID, "trainedModelArn": MODEL}
    assert house.asked == [
        (ACCOUNT, "cleanroomsml.CancelTrainedModel", {**params, "versionIdentifier": UUID}),
        (ACCOUNT, "cleanroomsml.DeleteTrainedModelOutput", params),
    ]


def test_tags_go_where_the_signature_says(both: tuple[House, Any, Any]) -> None:
    house, rooms, ml = both
    house.answer = lambda params: {"tags": {"arn": params["resourceArn"]}}
    table = f"arn:aws:cleanrooms:us-east-1:{ACCOUNT}:configuredtable/{UUID}"
    assert rooms.list_tags_for_resource(resourceArn=table)["tags"] == {"arn": table}
    assert ml.list_tags_for_resource(resourceArn=MODEL)["tags"] == {"arn": MODEL}
    ml.untag_resource(resourceArn=MODEL, tagKeys=["a b", "ü&="])
    ml.untag_resource(resourceArn=MODEL, tagKeys=[])
    assert [operation for _, operation, _ in house.asked] == [
        "cleanrooms.ListTagsForResource",
        "cleanroomsml.ListTagsForResource",
        "cleanroomsml.UntagResource",
        "cleanroomsml.UntagResource",
    ]
    assert [params["tagKeys"] for _, _, params in house.asked[2:]] == [["a b", "ü&="], []]


def test_pages(both: tuple[House, Any, Any]) -> None:
    house, _, ml = both
    numbers = list(range(7))

    def page(params: dict[str, Any]) -> dict[str, Any]:
        start, size = int(params.get("nextToken", "0")), params["maxResults"]
        listed = [
            {
                "createTime": MOMENT,
                "updateTime": MOMENT,
                "configuredModelAlgorithmArn": f"arn:{number}",
                "name": f"n{number}",
            }
            for number in numbers[start : start + size]
        ]
        more = {"nextToken": str(start + size)} if start + size < len(numbers) else {}
        return {"configuredModelAlgorithms": listed, **more}

    house.answer = page
    pages = ml.get_paginator("list_configured_model_algorithms").paginate(PaginationConfig={"PageSize": 3})
    names = [item["name"] for one in pages for item in one["configuredModelAlgorithms"]]
    assert names == [f"n{number}" for number in numbers]
    assert len(house.asked) == 3


def test_deletes_of_cleanrooms_answer_204(both: tuple[House, Any, Any]) -> None:
    _, rooms, ml = both
    gone = rooms.delete_membership(membershipIdentifier=UUID)
    assert gone["ResponseMetadata"]["HTTPStatusCode"] == 204
    kept = ml.delete_ml_configuration(membershipIdentifier=UUID)
    assert kept["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_what_is_not_implemented_names_itself() -> None:
    with serving(application(House(), implemented=frozenset())) as address:
        with pytest.raises(ClientError) as caught:
            client("cleanrooms", address).get_collaboration(collaborationIdentifier=UUID)
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501
        assert caught.value.response["Error"]["Code"] == "NotImplementedException"
        assert "cleanrooms.GetCollaboration" in caught.value.response["Error"]["Message"]
        with pytest.raises(ClientError, match="UnrecognizedClient"):
            client("cleanrooms", address, aws_access_key_id="AKIDNOBODY").list_collaborations()


def test_a_presigned_url_works(both: tuple[House, Any, Any]) -> None:
    house, rooms, _ = both
    house.answer = {"tags": {}}
    table = f"arn:aws:cleanrooms:us-east-1:{ACCOUNT}:configuredtable/{UUID}"
    url = rooms.generate_presigned_url("list_tags_for_resource", Params={"resourceArn": table}, ExpiresIn=60)
    with urllib.request.urlopen(url) as answer:
        assert answer.status == 200
    assert house.asked[0][:2] == (ACCOUNT, "cleanrooms.ListTagsForResource")
