"""The body of an error as bytes: boto3 hides members that should not be there."""

import json

import pytest

from lib.wire_server import SERVICES
from passbox.errors import ConflictException, Misconfigured, ModelledError, ResourceNotFoundException
from passbox.wire.errors import respond

ROOMS, ML, OWN = SERVICES


def test_only_modelled_members_are_sent() -> None:
    error = ConflictException("busy", reason="INVALID_STATE", resource_id="x", detail="for the operator")
    assert json.loads(respond(error, ROOMS.errors, "r").body) == {
        "message": "busy",
        "reason": "INVALID_STATE",
        "resourceId": "x",
    }
    assert json.loads(respond(error, ML.errors, "r").body) == {"message": "busy"}


def test_required_members_are_filled() -> None:
    bare = type("ServiceQuotaExceededException", (ModelledError,), {})("full")
    assert json.loads(respond(bare, ROOMS.errors, "r").body) == {
        "message": "full",
        "quotaName": "",
        "quotaValue": 0,
    }
    assert json.loads(respond(bare, ML.errors, "r").body) == {"message": "full"}
    assert respond(bare, OWN.errors, "r").body == respond(bare, ROOMS.errors, "r").body


def test_headers() -> None:
    response = respond(ResourceNotFoundException("gone"), ML.errors, "the-id")
    assert response.status == 404
    headers = dict(response.headers)
    assert headers[b"x-amzn-errortype"] == b"ResourceNotFoundException"
    assert headers[b"x-amzn-requestid"] == b"the-id"
    assert headers[b"content-length"] == b"%d" % len(response.body)


@pytest.mark.parametrize("error", [Misconfigured("/etc/secret"), KeyError("secret"), OSError("secret")])
def test_what_is_not_modelled_is_ours(error: Exception) -> None:
    rooms, ml, own = (respond(error, service.errors, "the-id") for service in SERVICES)
    assert (rooms.status, ml.status, own.status) == (500, 500, 500)
    assert dict(rooms.headers)[b"x-amzn-errortype"] == b"InternalServerException"
    assert dict(ml.headers)[b"x-amzn-errortype"] == b"InternalServiceException"
    assert b"secret" not in rooms.body + ml.body + own.body


def test_a_code_the_service_does_not_have_is_a_400() -> None:
    unheard = type("TeapotException", (ModelledError,), {})("short and stout", spout=1)
    response = respond(unheard, ML.errors, "r")
    assert (response.status, json.loads(response.body)) == (400, {"message": "short and stout"})
