"""All operations of the services, with values made from their shapes: botocore writes, we read, and back.

Also every sound body with one thing wrong: a 400 that names the path, whatever the thing is.
"""

import copy
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import quote, urlsplit

import orjson
import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lib.wire_server import SERVICES
from lib.wire_strategies import Strategies, faults, inject
from passbox import models_path
from passbox.errors import ValidationException
from passbox.wire.errors import Refused
from passbox.wire.model import Operation
from passbox.wire.route import Router

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LOADER = Loader(extra_search_paths=[models_path()])
MODELS = {s.name: ServiceModel(LOADER.load_service_model(s.name, "service-2"), s.name) for s in SERVICES}
# Milliseconds, since that is what the wire carries.
FLOATS = st.integers(0, 4 * 10**12).map(lambda ms: ms / 1000)
DATES = st.integers(0, 4 * 10**9).map(lambda s: EPOCH + timedelta(seconds=s))
INPUTS = {s.name: Strategies(s.shapes, DATES) for s in SERVICES}
OUTPUTS = {s.name: Strategies(s.shapes, FLOATS) for s in SERVICES}
OPERATIONS = [op for service in SERVICES for op in service.operations.values()]
ROUTER = Router(SERVICES)

few = settings(
    max_examples=2,
    phases=[Phase.explicit, Phase.generate],
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
each_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda op: op.full_name)


@cache
def shape_names(operation: Operation) -> tuple[str, str | None]:
    model = MODELS[operation.service.name].operation_model(operation.name)
    return model.input_shape.name, model.output_shape and model.output_shape.name


def request_of(operation: Operation, params: dict[str, Any]) -> tuple[str, bytes, bytes, bytes]:
    """(method, path, query, body) as botocore would send it."""
    model = MODELS[operation.service.name].operation_model(operation.name)
    made = create_serializer("rest-json", include_validation=False).serialize_to_request(params, model)
    query = "&".join(
        f"{quoted(key)}={quoted(value)}"
        for key, values in made["query_string"].items()
        for value in (values if isinstance(values, list) else [values])
    )
    return made["method"], urlsplit(made["url_path"]).path.encode(), query.encode(), made["body"] or b""


def quoted(value: Any) -> str:
    return quote(str(value), safe="-._~")


def decode(operation: Operation, method: str, path: bytes, query: bytes, body: bytes) -> dict[str, Any]:
    route = ROUTER.route(operation.service.signing_name, method, path)
    assert route.operation is operation
    return operation.decode(route.labels, query, body)


def inward(value: Any) -> Any:
    """What the house should see: moments as seconds."""
    if isinstance(value, dict):
        return {key: inward(item) for key, item in value.items()}
    if isinstance(value, list):
        return [inward(item) for item in value]
    return value.timestamp() if isinstance(value, datetime) else value


@each_operation
@few
@given(data=st.data())
def test_requests(operation: Operation, data: st.DataObject) -> None:
    params = data.draw(INPUTS[operation.service.name].of(shape_names(operation)[0]))
    assert decode(operation, *request_of(operation, params)) == inward(params)


@each_operation
@few
@given(data=st.data())
def test_answers(operation: Operation, data: st.DataObject) -> None:
    name = shape_names(operation)[1]
    if name is None:
        assert operation.respond(None, "r").body == b""
        return
    output = data.draw(OUTPUTS[operation.service.name].of(name))
    response = operation.respond({**output, "unmodelled": object()}, "r")
    answer = {
        "status_code": response.status,
        "headers": {key.decode(): value.decode() for key, value in response.headers},
        "body": response.body,
    }
    shape = MODELS[operation.service.name].operation_model(operation.name).output_shape
    parsed = create_parser("rest-json").parse(answer, shape)
    del parsed["ResponseMetadata"]
    assert near(parsed, output)


def near(parsed: Any, sent: Any) -> bool:
    """Equal, with moments to the millisecond: botocore makes datetimes of them."""
    if isinstance(parsed, dict):
        return parsed.keys() == sent.keys() and all(near(parsed[key], sent[key]) for key in sent)
    if isinstance(parsed, list):
        return len(parsed) == len(sent) and all(map(near, parsed, sent))
    if isinstance(parsed, datetime):
        return abs(parsed.timestamp() - sent) < 0.0006
    return bool(parsed == sent)


@pytest.mark.parametrize("operation", [op for op in OPERATIONS if op.takes_body], ids=lambda op: op.full_name)
@few
@given(data=st.data())
def test_one_fault(operation: Operation, data: st.DataObject) -> None:
    name = shape_names(operation)[0]
    params = data.draw(INPUTS[operation.service.name].of(name))
    method, path, query, body = request_of(operation, params)
    document = orjson.loads(body)
    shapes = operation.service.shapes
    in_body = [fault for fault in faults(shapes, name, document) if fault.keys]
    if not in_body:
        return
    for fault in data.draw(st.lists(st.sampled_from(in_body), min_size=3, max_size=6)):
        wrong = copy.deepcopy(document)
        inject(wrong, fault)
        with pytest.raises((ValidationException, Refused)) as caught:
            decode(operation, method, path, query, orjson.dumps(wrong))
        error = caught.value
        assert getattr(error, "status", 400) == 400
        assert fault.path[:100] in error.message, (fault, error.message)


@each_operation
def test_labels_and_queries(operation: Operation) -> None:
    """A label and a query member that break their bounds are named as well."""
    shape = operation.service.shapes[shape_names(operation)[0]]
    for name, ref in shape["members"].items():
        target = operation.service.shapes[ref["shape"]]
        if ref.get("location") == "uri" and "max" in target:
            labels = [
                b"a" * (target["max"] + 1) if label == ref["locationName"] else b"a"
                for label in operation.labels
            ]
            query = b""
        elif ref.get("location") == "querystring" and "max" in target:
            labels = [b"a"] * len(operation.labels)
            wrong = target["max"] + 1 if target["type"] == "integer" else "a" * (target["max"] + 1)
            query = f"{ref['locationName']}={wrong}".encode()
        else:
            continue
        with pytest.raises(ValidationException, match=f"'/{name}['/]"):
            operation.decode(labels, query, b"{}")
