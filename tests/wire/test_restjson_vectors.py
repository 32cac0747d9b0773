"""botocore's rest-json vectors: its requests through our decoder, our answers through its parser.

The two models need a part of rest-json. Members that travel in ways neither model has (headers, payloads,
blobs, HTTP dates, jsonName, prefix headers, query maps, host labels) are cut from a vector's shapes and from
its expectation; a case of which nothing is left, or whose URI itself is foreign (greedy labels, constant
queries), is skipped and listed here by name, so that the list cannot grow unseen.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from botocore.model import ServiceModel
from botocore.parsers import create_parser

from passbox.errors import ModelledError
from passbox.wire.errors import Refused, Response, respond
from passbox.wire.model import Service
from passbox.wire.route import Router

# Floats that JSON has no word for: the wire refuses what the protocol allows, since no bound can hold them.
NOT_FINITE = ("NaN", "Infinity")

SKIPPED_INPUTS = """
foreign URI: RestJsonConstantAndVariableQueryStringAllValues
    RestJsonConstantAndVariableQueryStringMissingOneValue RestJsonConstantQueryString
    RestJsonHttpRequestWithGreedyLabelInPath RestJsonHttpRequestWithLabelsAndTimestampFormat
host or compression: RestJsonEndpointTrait RestJsonEndpointTraitWithHostLabel RestJsonHostWithPath
    SDKAppendedGzipAfterProvidedEncoding_restJson1 SDKAppliedContentEncoding_restJson1
only foreign members: MediaTypeHeaderInputBase64 RestJsonHttpGetWithHeaderMemberNoModeledBody
    RestJsonHttpPayloadTraitsWithBlob RestJsonHttpPayloadTraitsWithNoBlobBody
    RestJsonHttpPrefixEmptyHeaders RestJsonHttpPrefixHeadersAreNotPresent
    RestJsonHttpPrefixHeadersArePresent RestJsonHttpWithPostHeaderMemberNoModeledBody
    RestJsonInputAndOutputWithBooleanHeaders RestJsonInputAndOutputWithEnumHeaders
    RestJsonInputAndOutputWithIntEnumHeaders RestJsonInputAndOutputWithNumericHeaders
    RestJsonInputAndOutputWithQuotedStringHeaders RestJsonInputAndOutputWithStringHeaders
    RestJsonInputAndOutputWithTimestampHeaders RestJsonJsonBlobs
    RestJsonJsonTimestampsWithHttpDateFormat RestJsonJsonTimestampsWithHttpDateOnTargetFormat
    RestJsonNullAndEmptyHeaders RestJsonQueryIdempotencyTokenAutoFillIsSet RestJsonQueryStringMap
    RestJsonSerializeBlobUnionValue RestJsonSupportsInfinityFloatHeaderInputs
    RestJsonSupportsNaNFloatHeaderInputs RestJsonSupportsNegativeInfinityFloatHeaderInputs
    RestJsonTestPayloadBlob RestJsonTimestampFormatHeaders
payload: DocumentTypeAsPayloadInput DocumentTypeAsPayloadInputString RestJsonEnumPayloadRequest
    RestJsonHttpPayloadWithStructure RestJsonHttpPayloadWithUnion RestJsonHttpPayloadWithUnsetUnion
    RestJsonHttpWithEmptyStructurePayload RestJsonHttpWithHeadersButNoPayload
    RestJsonStringPayloadRequest RestJsonTestPayloadStructure
"""
SKIPPED_OUTPUTS = """
an error, see test_errors: RestJsonComplexErrorWithNoMessage RestJsonEmptyComplexErrorWithNoMessage
    RestJsonFooErrorUsingCode RestJsonFooErrorUsingCodeAndNamespace
    RestJsonFooErrorUsingCodeUriAndNamespace RestJsonFooErrorUsingXAmznErrorType
    RestJsonFooErrorUsingXAmznErrorTypeWithUri
    RestJsonFooErrorUsingXAmznErrorTypeWithUriAndNamespace RestJsonFooErrorWithDunderType
    RestJsonFooErrorWithDunderTypeAndNamespace RestJsonFooErrorWithDunderTypeUriAndNamespace
    RestJsonInvalidGreetingError
no output: RestJsonNoInputAndNoOutput RestJsonUnitInputAndOutputNoOutput
not finite: RestJsonSupportsInfinityFloatHeaderOutputs RestJsonSupportsInfinityFloatInputs
    RestJsonSupportsNaNFloatHeaderOutputs RestJsonSupportsNaNFloatInputs
    RestJsonSupportsNegativeInfinityFloatHeaderOutputs RestJsonSupportsNegativeInfinityFloatInputs
only foreign members: HttpPrefixHeadersResponse MediaTypeHeaderOutputBase64
    RestJsonDeserializeBlobUnionValue RestJsonGreetingWithErrors RestJsonGreetingWithErrorsNoPayload
    RestJsonHttpPayloadTraitsWithBlob RestJsonHttpPayloadTraitsWithNoBlobBody
    RestJsonHttpPrefixHeadersArePresent RestJsonHttpResponseCode
    RestJsonHttpResponseCodeWithNoPayload RestJsonIgnoreQueryParamsInResponse
    RestJsonIgnoreQueryParamsInResponseNoPayload RestJsonInputAndOutputWithBooleanHeaders
    RestJsonInputAndOutputWithEnumHeaders RestJsonInputAndOutputWithIntEnumHeaders
    RestJsonInputAndOutputWithNumericHeaders RestJsonInputAndOutputWithQuotedStringHeaders
    RestJsonInputAndOutputWithStringHeaders RestJsonInputAndOutputWithTimestampHeaders
    RestJsonJsonBlobs RestJsonJsonTimestampsWithHttpDateFormat
    RestJsonJsonTimestampsWithHttpDateOnTargetFormat RestJsonTimestampFormatHeaders
payload: DocumentTypeAsPayloadOutput DocumentTypeAsPayloadOutputString RestJsonEnumPayloadResponse
    RestJsonHttpPayloadWithStructure RestJsonHttpPayloadWithUnion RestJsonHttpPayloadWithUnsetUnion
    RestJsonStringPayloadResponse
"""


class Case(NamedTuple):
    id: str
    suite: dict[str, Any]
    case: dict[str, Any]

    def model(self) -> dict[str, Any]:
        """A service model of one operation, without the members that neither service has."""
        given = dict(self.case["given"])
        return {
            "metadata": {**self.suite["metadata"], "endpointPrefix": "x", "signingName": "x"},
            "shapes": prune(self.suite["shapes"]),
            "operations": {given["name"]: given},
        }

    def service(self) -> Service:
        return Service("x", self.model())


def foreign(shapes: dict[str, Any], ref: dict[str, Any]) -> bool:
    """Whether a member travels in a way that neither service has."""
    shape = shapes[ref["shape"]]
    location = ref.get("location")
    if location not in (None, "uri", "querystring"):
        return True
    if any(ref.get(trait) for trait in ("jsonvalue", "streaming", "hostLabel", "idempotencyToken")):
        return True
    if location == "querystring" and shape["type"] == "map":
        return True
    # A timestamp of another form, or one that overrules the default where it travels as text.
    form = shape.get("timestampFormat")
    if form == "rfc822" or (location and form == "unixTimestamp"):
        return True
    if shape["type"] == "list":
        return foreign(shapes, {**shape["member"], "location": location} if location else shape["member"])
    if shape["type"] == "map":
        return foreign(shapes, shape["value"])
    return shape["type"] == "blob"


def prune(shapes: dict[str, Any]) -> dict[str, Any]:
    kept = {}
    for name, shape in shapes.items():
        shape = dict(shape)
        if "members" in shape:
            members = shape["members"].items()
            shape["members"] = {key: ref for key, ref in members if not foreign(shapes, ref)}
            if "payload" in shape and shape["payload"] not in shape["members"]:
                del shape["payload"]
        kept[name] = shape
    return kept


def only_known(shapes: dict[str, Any], name: str, value: Any) -> Any:
    """A vector's expectation without the members that were cut."""
    shape = shapes[name]
    if value is None or shape.get("document"):
        return value
    if shape["type"] == "structure":
        members = shape["members"]
        known = {k: v for k, v in value.items() if k in members and v is not None}
        return {k: only_known(shapes, members[k]["shape"], v) for k, v in known.items()}
    if shape["type"] == "list":
        return [only_known(shapes, shape["member"]["shape"], item) for item in value]
    if shape["type"] == "map":
        return {k: only_known(shapes, shape["value"]["shape"], v) for k, v in value.items()}
    return value


def cases(vectors: Path, kind: str) -> Iterator[Case]:
    for suite in json.loads((vectors / "protocols" / kind / "rest-json.json").read_text()):
        for case in suite["cases"]:
            yield Case(case["id"], suite, case)


def read(case: Case) -> tuple[dict[str, Any], dict[str, Any]] | str:
    """(what our decoder makes of botocore's request, what it should be), or why the case is foreign."""
    given, sent = case.case["given"], case.case["serialized"]
    uri = given["http"]["requestUri"]
    model = case.model()
    shape = model["shapes"].get(given.get("input", {}).get("shape"), {"members": {}})
    labels = {ref.get("locationName", name) for name, ref in shape["members"].items()}
    if "?" in uri or "+}" in uri or not labels.issuperset(re.findall(r"\{(\w+)\}", uri)):
        return "foreign URI"
    if "host" in sent or "Content-Encoding" in sent.get("headers", {}):
        return "host or compression"
    if "payload" in shape:
        return "payload"
    params = case.case["params"]
    expected = only_known(model["shapes"], given["input"]["shape"], params) if "input" in given else {}
    if is_empty(expected) and not is_empty(params):
        return "only foreign members"
    target = urlsplit(sent["uri"])
    route = Router([case.service()]).route("x", sent["method"], target.path.encode())
    body = (sent.get("body") or "").encode()
    got = route.operation.decode(route.labels, target.query.encode(), body)
    # An empty list in a query is not sent; only a required one comes back as empty.
    lists = {name for name, ref in shape["members"].items() if ref.get("location") == "querystring"}
    return got, {name: value for name, value in expected.items() if value != [] or name not in lists}


def is_empty(value: Any) -> bool:
    """Whether nothing was set: no member, or only members without a value."""
    return not value or (isinstance(value, dict) and all(item in (None, {}) for item in value.values()))


def test_requests(botocore_vectors: Path) -> None:
    skipped: dict[str, set[str]] = defaultdict(set)
    ran = 0
    for case in cases(botocore_vectors, "input"):
        if any(word in case.id for word in NOT_FINITE) and "Header" not in case.id:
            with pytest.raises(Refused) as caught:
                read(case)
            assert caught.value.status == 400, case.id
            continue
        both = read(case)
        if isinstance(both, str):
            skipped[both].add(case.id)
            continue
        ran += 1
        assert both[0] == both[1], case.id
    assert listed(skipped) == SKIPPED_INPUTS.split()
    assert ran >= 40


def listed(skipped: dict[str, set[str]]) -> list[str]:
    return " ".join(f"{why}: {' '.join(sorted(ids))}" for why, ids in sorted(skipped.items())).split()


def parse(response: Response, shape: Any) -> dict[str, Any]:
    answer = {
        "status_code": response.status,
        "headers": {name.decode(): value.decode() for name, value in response.headers},
        "body": response.body,
    }
    parsed: dict[str, Any] = create_parser("rest-json").parse(answer, shape)
    return parsed


def write(case: Case) -> tuple[dict[str, Any], dict[str, Any]] | str:
    """(what botocore reads from our answer, what it should be), or why the case is foreign."""
    given = case.case["given"]
    if "result" not in case.case:
        return "an error, see test_errors"
    if "output" not in given:
        return "no output"
    if any(word in case.id for word in NOT_FINITE):
        return "not finite"
    model = case.model()
    shape = model["shapes"][given["output"]["shape"]]
    expected = only_known(model["shapes"], given["output"]["shape"], case.case["result"])
    if "payload" in shape:
        return "payload"
    if (case.case["result"] and is_empty(expected)) or any(
        "location" in ref for ref in shape["members"].values()
    ):
        return "only foreign members"
    response = case.service().operations[given["name"]].respond(expected, "r")
    output_shape = ServiceModel(model).operation_model(given["name"]).output_shape
    parsed = parse(response, output_shape)
    assert parsed.pop("ResponseMetadata")["RequestId"] == "r"
    return plain(parsed), expected


def test_answers(botocore_vectors: Path) -> None:
    skipped: dict[str, set[str]] = defaultdict(set)
    ran = 0
    for case in cases(botocore_vectors, "output"):
        both = write(case)
        if isinstance(both, str):
            skipped[both].add(case.id)
            continue
        ran += 1
        assert both[0] == both[1], case.id
    assert listed(skipped) == SKIPPED_OUTPUTS.split()
    assert ran >= 35


def plain(value: Any) -> Any:
    """botocore's datetimes as seconds; the vectors write them so."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.timestamp() if hasattr(value, "timestamp") else value


def test_errors(botocore_vectors: Path) -> None:
    seen = set()
    for case in cases(botocore_vectors, "output"):
        code = case.case.get("errorCode")
        if not code or case.id in seen:
            continue
        seen.add(case.id)
        known = type(code, (ModelledError,), {})
        members = only_known(case.model()["shapes"], code, case.case["error"])
        message = case.case.get("errorMessage") or "told"
        members.pop("Message", None)
        response = respond(known(message, **members), case.service().errors, "the-id")
        assert response.status == case.case["response"]["status_code"]
        parsed = parse(response, None)
        assert parsed["Error"]["Code"] == code
        assert parsed["Error"]["Message"] == message
        assert parsed["ResponseMetadata"]["RequestId"] == "the-id"
        for name, value in members.items():
            assert json.loads(response.body)[name] == value
    assert len(seen) >= 10
