"""A refusal as an HTTP response: status, `x-amzn-errortype` and the members the model gives that error.

    Refused           the wire's own: no operation of the models declares these, AWS's front end sends them
    ModelledError     passbox.errors; status and members come from the service's own shape of that name

An operation may raise a class that it does not declare (GetCollaboration declares no
ResourceNotFoundException): it is sent all the same, because SDKs look the code up in the service, not in
the operation. Knows status codes; must not know which operation failed, nor why.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from passbox.errors import ModelledError, PassboxError, QueryRefused, ValidationException

SERIALIZATION = "SerializationException"
NOT_JSON = "UnsupportedMediaTypeException"
UNKNOWN_OPERATION = "UnknownOperationException"
WRONG_METHOD = "MethodNotAllowedException"
NOT_IMPLEMENTED = "NotImplementedException"
TOO_LARGE = "RequestEntityTooLargeException"
TOO_SLOW = "RequestTimeoutException"
TOO_BUSY = "ThrottlingException"

Headers = list[tuple[bytes, bytes]]


class Response(NamedTuple):
    """What goes back; `headers` are complete but for those the HTTP server adds."""

    status: int
    headers: Headers
    body: bytes


class Refused(PassboxError):
    """The request was refused before it reached an operation."""

    def __init__(
        self,
        code: str,
        status: int,
        message: str,
        *,
        headers: Headers | None = None,
        detail: str | None = None,
    ) -> None:
        super().__init__(message, detail=detail)
        self.code = code
        self.status = status
        self.headers = headers or []


class ErrorShape(NamedTuple):
    """How one service words one error. `required` maps a required member to what stands in for it."""

    status: int
    members: frozenset[str]
    required: Mapping[str, Any]


class ErrorShapes(NamedTuple):
    """The errors of a service by code; `internal` is the code of its own failures."""

    by_code: Mapping[str, ErrorShape]
    internal: str


NO_SERVICE = ErrorShapes({}, "InternalFailure")


def error_shapes(shapes: Mapping[str, Mapping[str, Any]]) -> ErrorShapes:
    """Every exception structure of a model."""
    found: dict[str, ErrorShape] = {}
    internal = NO_SERVICE.internal
    for name, shape in shapes.items():
        if not shape.get("exception"):
            continue
        members = shape["members"]
        required = {
            member: "" if shapes[members[member]["shape"]]["type"] == "string" else 0
            for member in shape.get("required", ())
        }
        status = shape.get("error", {}).get("httpStatusCode", 500 if shape.get("fault") else 400)
        found[name] = ErrorShape(status, frozenset(members), required)
        if shape.get("fault"):
            internal = name
    return ErrorShapes(found, internal)


def respond(error: BaseException, shapes: ErrorShapes, request_id: str) -> Response:
    """The response for anything that was raised. What is not ours tells the caller nothing."""
    if isinstance(error, QueryRefused):
        error = ValidationException(error.message, reason="INVALID_QUERY")
    if isinstance(error, ModelledError):
        shape = shapes.by_code.get(error.code, ErrorShape(400, frozenset(), {}))
        body = {**shape.required, **{k: v for k, v in error.members.items() if k in shape.members}}
        body["message"] = error.message
        return _response(shape.status, error.code, body, request_id)
    if isinstance(error, Refused):
        answer = _response(error.status, error.code, {"message": error.message}, request_id)
        answer.headers.extend(error.headers)
        return answer
    told = f"The service failed to answer. The operator's log tells more under request id {request_id}."
    return _response(500, shapes.internal, {"message": told}, request_id)


def is_internal(error: BaseException) -> bool:
    """Whether the operator must hear of it: a failure of ours, not a refusal."""
    return not isinstance(error, ModelledError | Refused | QueryRefused)


def json_response(status: int, body: Mapping[str, Any], request_id: str) -> Response:
    """A JSON body with the headers every answer has."""
    data = orjson.dumps(body)
    return Response(
        status,
        [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(data)),
            (b"x-amzn-requestid", request_id.encode()),
        ],
        data,
    )


def _response(status: int, code: str, body: Mapping[str, Any], request_id: str) -> Response:
    answer = json_response(status, body, request_id)
    answer.headers.append((b"x-amzn-errortype", code.encode()))
    return answer
