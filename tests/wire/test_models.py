"""The models as a whole: every operation compiles, routes to itself, and writes its service's forms."""

import json
import subprocess
import sys
from typing import Any

import pytest

from lib.wire_server import SERVICES
from passbox.wire.errors import Refused
from passbox.wire.model import Service, operation_names
from passbox.wire.project import OutputFault
from passbox.wire.route import Router
from passbox.wire.shapes import UnsupportedModel

ROOMS, ML, OWN = SERVICES
OPERATIONS = [op for service in SERVICES for op in service.operations.values()]
MOMENT = 1795505081.123


def test_how_many_there_are() -> None:
    assert len(operation_names(SERVICES)) == len(OPERATIONS) == 162 + len(OWN.operations)
    assert [(service.name, service.signing_name) for service in SERVICES] == [
        ("cleanrooms", "cleanrooms"),
        ("cleanroomsml", "cleanrooms-ml"),
        ("passbox", "passbox"),
    ]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda op: op.full_name)
def test_each_compiles_and_routes_to_itself(operation: Any) -> None:
    assert operation.decode
    operation.project  # noqa: B018 -- compiles
    values = {label: f"arn%3A{index}".encode() for index, label in enumerate(operation.labels)}
    path = operation.uri
    for label, value in values.items():
        path = path.replace("{" + label + "}", value.decode())
    route = Router(SERVICES).route(operation.service.signing_name, operation.method, path.encode())
    assert route.operation is operation
    assert list(route.labels) == list(values.values())


def test_moments_are_strings_in_one_and_numbers_in_the_other() -> None:
    """botocore reads either, so only the JSON itself can tell."""
    rooms = ROOMS.operations["ListCollaborations"].respond(
        {
            "collaborationList": [
                {
                    "id": "i",
                    "arn": "a",
                    "name": "n",
                    "creatorAccountId": "c",
                    "creatorDisplayName": "d",
                    "createTime": MOMENT,
                    "updateTime": 1795505081.0,
                    "memberStatus": "ACTIVE",
                }
            ]
        },
        "r",
    )
    listed = json.loads(rooms.body)["collaborationList"][0]
    assert (listed["createTime"], listed["updateTime"]) == (MOMENT, 1795505081)
    ml = ML.operations["ListConfiguredModelAlgorithms"].respond(
        {
            "configuredModelAlgorithms": [
                {"createTime": MOMENT, "updateTime": 0.0, "configuredModelAlgorithmArn": "a", "name": "n"}
            ]
        },
        "r",
    )
    listed = json.loads(ml.body)["configuredModelAlgorithms"][0]
    assert listed["createTime"] == "2026-11-24T07:24:41.123Z"
    assert listed["updateTime"] == "1970-01-01T00:00:00.000Z"


def test_an_output_keeps_what_is_modelled_and_lacks_nothing() -> None:
    operation = ML.operations["CreateTrainedModel"]
    response = operation.respond({"trainedModelArn": "a", "secret": "s", "versionIdentifier": None}, "r")
    assert json.loads(response.body) == {"trainedModelArn": "a"}
    with pytest.raises(OutputFault, match="trainedModelArn"):
        operation.respond({"secret": "s"}, "r")
    with pytest.raises(OutputFault, match="trainedModelArn"):
        operation.respond(None, "r")


def test_an_output_union_has_one_member() -> None:
    operation = ROOMS.operations["GetConfiguredTableAnalysisRule"]
    rule = {
        "configuredTableId": "i",
        "configuredTableArn": "a",
        "type": "LIST",
        "createTime": 0.0,
        "updateTime": 0.0,
        "policy": {"v1": {"list": {"joinColumns": ["a"], "listColumns": ["b"]}}},
    }
    assert operation.respond({"analysisRule": rule}, "r").status == 200
    with pytest.raises(OutputFault, match="union"):
        operation.respond({"analysisRule": {**rule, "policy": {"v1": {}}}}, "r")


def test_numbers_in_a_query_are_finite() -> None:
    model = {
        "metadata": {"endpointPrefix": "x"},
        "operations": {
            "Do": {"name": "Do", "http": {"method": "GET", "requestUri": "/do"}, "input": {"shape": "In"}}
        },
        "shapes": {
            "In": {"type": "structure", "members": {"a": {"shape": "D", "location": "querystring"}}},
            "D": {"type": "double"},
        },
    }
    decode = Service("x", model).operations["Do"].decode
    assert decode([], b"a=-1.5e2", b"") == {"a": -150.0}
    for wrong in (b"a=1e999", b"a=nan", b"a=inf", b"a=Infinity", b"a=1_0", b"a="):
        with pytest.raises(Refused, match="'/a'"):
            decode([], wrong, b"")


def test_moments_that_come_in_are_seconds() -> None:
    model = {
        "metadata": {"endpointPrefix": "x"},
        "operations": {
            "Do": {"name": "Do", "http": {"method": "POST", "requestUri": "/do"}, "input": {"shape": "In"}}
        },
        "shapes": {
            "In": {"type": "structure", "members": {"iso": {"shape": "Iso"}, "epoch": {"shape": "Epoch"}}},
            "Iso": {"type": "timestamp", "timestampFormat": "iso8601"},
            "Epoch": {"type": "timestamp"},
        },
    }
    decode = Service("x", model).operations["Do"].decode
    assert decode([], b"", b'{"iso":"2026-11-24T07:24:41.123Z","epoch":7}') == {"iso": MOMENT, "epoch": 7.0}
    assert decode([], b"", b'{"iso":"2026-11-24T08:24:41.123+01:00"}') == {"iso": MOMENT}
    for wrong in (
        b'{"iso":7}',
        b'{"iso":"yesterday"}',
        b'{"iso":"2026-13-24T07:24:41Z"}',
        b'{"iso":"2026-11-24"}',
        b'{"iso":"2026-11-24T07:24:41"}',
        b'{"iso":"2026-11-24T07:24:41.1234567891234Z"}',
        b'{"epoch":"7"}',
        b'{"epoch":true}',
        b'{"epoch":1e300}',
    ):
        with pytest.raises(Exception, match="must be"):
            decode([], b"", wrong)


@pytest.mark.parametrize(
    "member",
    [
        {"shape": "Text", "location": "header", "locationName": "x-a"},
        {"shape": "Text", "idempotencyToken": True},
        {"shape": "Text", "jsonvalue": True},
        {"shape": "Blob"},
        {"shape": "Odd"},
        {"shape": "Http"},
    ],
)
def test_a_model_that_needs_more_than_we_carry_fails_loudly(member: dict[str, Any]) -> None:
    model = {
        "metadata": {"endpointPrefix": "x"},
        "operations": {
            "Do": {"name": "Do", "http": {"method": "POST", "requestUri": "/do"}, "input": {"shape": "In"}}
        },
        "shapes": {
            "In": {"type": "structure", "members": {"a": member}},
            "Text": {"type": "string"},
            "Blob": {"type": "blob"},
            "Odd": {"type": "string", "pattern": "(?=a)(a+)+"},
            "Http": {"type": "timestamp", "timestampFormat": "rfc822"},
        },
    }
    with pytest.raises(UnsupportedModel):
        Service("x", model).operations["Do"].decode  # noqa: B018


def test_loading_imports_no_client() -> None:
    """The API process starts in under a second because it never builds an SDK client."""
    code = (
        "import sys; from passbox.wire.app import Application; from passbox.wire.model import load_services;"
        "load_services(); heavy = ('boto3', 'botocore.client', 'pyarrow', 'sqlalchemy');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
