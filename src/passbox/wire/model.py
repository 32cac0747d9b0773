"""The service models as objects: a Service, its Operations and its errors.

botocore's models are the single truth of shapes, and what this room offers beyond AWS is a model of the same
form. Loading reads them; the closures of an operation are compiled when it is first asked for, so that
start-up stays short. Must not know which operations exist here.
"""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from botocore.loaders import Loader

from passbox import models_path
from passbox.wire.check import Checks
from passbox.wire.decode import Decode, Read, compile_decoder, compile_reader, has_body
from passbox.wire.errors import ErrorShapes, Response, error_shapes, json_response
from passbox.wire.project import Project, Projections
from passbox.wire.shapes import structure

NAMES = ("cleanrooms", "cleanroomsml", "passbox")

_LABEL = re.compile(r"\{([^}+]+)\}")

# Where a model contradicts itself. service → shape → what holds instead
ERRATA: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    # TagResource takes 100 characters, but an association's own ARN has 142
    "cleanrooms": {"CleanroomsArn": {"max": 200}},
}


class Operation:
    """One operation of a service: where it is, how its request is read and its answer written.

    name: as the model has it, `CreateCollaboration`        full_name: `cleanrooms.CreateCollaboration`
    """

    def __init__(self, service: "Service", raw: Mapping[str, Any]) -> None:
        self.service = service
        self.name: str = raw["name"]
        self.full_name = f"{service.name}.{self.name}"
        self.method: str = raw["http"]["method"]
        self.uri: str = raw["http"]["requestUri"]
        self.status: int = raw["http"].get("responseCode", 200)
        self.labels: list[str] = _LABEL.findall(self.uri)
        self.takes_body = has_body(service.shapes, raw.get("input"))
        self._input = raw.get("input")
        self._output = raw.get("output")

    @cached_property
    def decode(self) -> Decode:
        """(raw labels, raw query, body) → params. Raises ValidationException or Refused."""
        return compile_decoder(self.service.shapes, self._input, self.labels, self.service.checks)

    @cached_property
    def read(self) -> Read:
        """The request as one JSON document → params. Raises as `decode` does."""
        return compile_reader(self.service.shapes, self._input, self.service.checks)

    @cached_property
    def project(self) -> Project | None:
        """What a handler returned → what goes on the wire. Raises OutputFault."""
        if self._output is None:
            return None
        structure(self.service.shapes, self._output)
        return self.service.projections.of(self._output)

    def respond(self, output: Mapping[str, Any] | None, request_id: str) -> Response:
        """The response of success. An operation without an output, or with 204, has no body."""
        body = {} if self.project is None else self.project(output or {})
        if self._output is not None and self.status != 204:
            return json_response(self.status, body, request_id)
        headers = [(b"x-amzn-requestid", request_id.encode())]
        if self.status != 204:
            headers.append((b"content-length", b"0"))
        return Response(self.status, headers, b"")


class Service:
    """A service model.

    name: botocore's name, `cleanroomsml`          signing_name: the service in a signature, `cleanrooms-ml`
    """

    def __init__(self, name: str, model: Mapping[str, Any]) -> None:
        metadata = model["metadata"]
        self.name = name
        self.signing_name: str = metadata.get("signingName") or metadata["endpointPrefix"]
        self.shapes: Mapping[str, Mapping[str, Any]] = _mended(name, model["shapes"])
        self.checks = Checks(self.shapes)
        self.projections = Projections(self.shapes)
        self.operations = {key: Operation(self, raw) for key, raw in model["operations"].items()}

    @cached_property
    def errors(self) -> ErrorShapes:
        return error_shapes(self.shapes)


def _mended(name: str, shapes: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
    errata = ERRATA.get(name, {})
    return {shape: {**raw, **errata[shape]} if shape in errata else raw for shape, raw in shapes.items()}


def load_services(names: tuple[str, ...] = NAMES) -> tuple[Service, ...]:
    """The services as botocore and this package ship them; user directories such as ~/.aws/models are not
    searched.
    """
    loader = Loader(
        include_default_search_paths=False, extra_search_paths=[Loader.BUILTIN_DATA_PATH, models_path()]
    )
    return tuple(Service(name, loader.load_service_model(name, "service-2")) for name in names)


class Requests:
    """Reads requests that come as JSON documents, by the models of their operations."""

    def __init__(self, services: tuple[Service, ...]) -> None:
        self._operations = {op.full_name: op for service in services for op in service.operations.values()}

    def read(self, operation: str, document: Any) -> dict[str, Any]:
        """The params of `service.Operation`, checked as those of a real request; raises as `decode` does."""
        return self._operations[operation].read(document)


def operation_names(services: tuple[Service, ...]) -> frozenset[str]:
    """Every `service.Operation` of the models."""
    return frozenset(op.full_name for service in services for op in service.operations.values())
