"""Who may call what, found out by calling: operation × relation, compared with tests/golden/access.txt.

Every implemented operation is sent, with a request of valid shape made from the model, as every kind of
account. To accept what changed on purpose: PASSBOX_REWRITE_GOLDEN=1 pytest tests/operations/test_access.py
"""

import difflib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel, Shape

from lib.room import Room, collaborate, join, named, running
from passbox.access.policy import POLICY
from passbox.operations import OPERATIONS
from passbox.wire.model import load_services, operation_names

GOLDEN = Path(__file__).parent.parent / "golden"
REWRITE = "PASSBOX_REWRITE_GOLDEN"
# The weak first, so that what the strong destroy is not missed.
CALLERS = ("foreign", "stranger", "left", "ended", "removed", "invited", "member", "runner", "creator")
COLUMNS = tuple(reversed(CALLERS))
HEADER = f"""\
# What an account gets from each operation, by what it is to the collaboration. Written by
# tests/operations/test_access.py; {REWRITE}=1 rewrites it. Review every change of it.
#
# allowed  the operation was entered, whatever it then made of the request
# denied   AccessDeniedException: the account may know that the subject exists
# unseen   ResourceNotFoundException, in the words for a subject that is not there
#
# creator, runner (CAN_QUERY, CAN_RUN_JOB), member: joined · invited: has not joined · removed: by the creator
# ended: of a collaboration that was deleted · left: deleted its membership · stranger: named nowhere
# foreign: the runner, calling upon what is another account's
# Whoever has a membership, table or algorithm calls upon its own; who has no membership, upon the runner's.
"""
UNSEEN = (
    r"The (collaboration|membership|configured table|configured model algorithm|resource) {} was not found\."
)
DESTRUCTIVE = {
    "cleanrooms.CreateMembership",
    "cleanrooms.DeleteCollaboration",
    "cleanrooms.DeleteMembership",
    "cleanrooms.DeleteConfiguredTable",
    "cleanroomsml.DeleteConfiguredModelAlgorithm",
}


class World:
    """One collaboration with an account of every kind; everybody has a table and an algorithm."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.accounts = {caller: room.account() for caller in CALLERS if caller != "foreign"}
        self.accounts["foreign"] = self.accounts["runner"]
        who = self.accounts
        members = [named(who[one]) for one in ("member", "invited", "removed", "left")]
        runner = named(who["runner"], "CAN_QUERY", "CAN_RUN_JOB")
        self.collaborations = dict.fromkeys(CALLERS, collaborate(room, who["creator"], [runner, *members]))
        self.collaborations["foreign"] = collaborate(room, who["stranger"], [], "CAN_QUERY")
        self.collaborations["ended"] = collaborate(room, who["ended"], [], "CAN_QUERY", "CAN_RUN_JOB")
        joined = ("creator", "runner", "member", "removed", "left", "ended")
        self.memberships = {one: join(room, who[one], self.collaborations[one]) for one in joined}
        room.cleanrooms(who["left"]).delete_membership(membershipIdentifier=self.memberships["left"])
        room.cleanrooms(who["creator"]).delete_member(
            collaborationIdentifier=self.collaborations["creator"], accountId=who["removed"]
        )
        room.cleanrooms(who["ended"]).delete_collaboration(
            collaborationIdentifier=self.collaborations["ended"]
        )
        self.memberships["foreign"] = self.memberships["member"]
        for caller in ("invited", "stranger"):
            self.memberships[caller] = self.memberships["runner"]
        self.tables = {one: self._table(who[one]) for one in CALLERS if one != "foreign"}
        self.tables["foreign"] = self.tables["member"]
        self.algorithms = {one: self._algorithm(who[one]) for one in CALLERS if one != "foreign"}
        self.algorithms["foreign"] = self.algorithms["member"]

    def _table(self, account: str) -> Any:
        return self.room.cleanrooms(account).create_configured_table(
            name="t",
            tableReference=self.room.put_csv(account, "t", "id\n1\n"),
            allowedColumns=["id"],
            analysisMethod="DIRECT_QUERY",
        )["configuredTable"]

    def _algorithm(self, account: str) -> str:
        made = self.room.cleanroomsml(account).create_configured_model_algorithm(
            name="forest",
            roleArn=f"arn:aws:iam::{account}:role/read",
            trainingContainerConfig={"imageUri": "registry.local/forest:1"},
        )
        return str(made["configuredModelAlgorithmArn"])

    def subjects(self, service: str, caller: str) -> dict[str, str]:
        """What a caller calls upon, by the field that names it."""
        table, algorithm = self.tables[caller], self.algorithms[caller]
        return {
            "collaborationIdentifier": self.collaborations[caller],
            "membershipIdentifier": self.memberships[caller],
            "configuredTableIdentifier": table["id"],
            "configuredModelAlgorithmArn": algorithm,
            "resourceArn": table["arn"] if service == "cleanrooms" else algorithm,
        }


def _ml_arn(kind: str) -> str:
    return f"arn:aws:cleanrooms-ml:us-east-1:999999999999:membership/{uuid4()}/{kind}/{uuid4()}"


# What is not a subject names something that is not there, so that nothing is destroyed on the way.
STRINGS = {
    "AccountId": "999999999999",
    "AnalysisTemplateArn": _ml_arn("analysistemplate").replace("cleanrooms-ml", "cleanrooms"),
    "ConfiguredModelAlgorithmAssociationArn": _ml_arn("configured-model-algorithm-association"),
    "MLInputChannelArn": _ml_arn("ml-input-channel"),
    "TrainedModelArn": _ml_arn("trained-model"),
    "TrainedModelInferenceJobArn": _ml_arn("trained-model-inference-job"),
    "IamRoleArn": "arn:aws:iam::999999999999:role/read",
    "RoleArn": "arn:aws:iam::999999999999:role/read",
    "Month": "2026-11",
}


_MODEL = Loader().load_service_model("cleanroomsml", "service-2")
_ESTIMATED = ServiceModel(_MODEL).operation_model("CreateMLInputChannel").input_shape


def minimal(shape: Shape, subjects: dict[str, str], field: str = "") -> Any:
    """The smallest value of a shape that the model allows."""
    kind, limits = shape.type_name, shape.metadata
    if limits.get("document"):  # the request that EstimateCost gets with the first of its operations
        return minimal(_ESTIMATED, subjects)
    if kind == "structure":
        members: dict[str, Shape] = shape.members  # type: ignore[attr-defined]
        wanted = list(members)[:1] if limits.get("union") else shape.required_members  # type: ignore[attr-defined]
        return {name: minimal(members[name], subjects, name) for name in wanted}
    if kind == "list":
        item: Shape = shape.member  # type: ignore[attr-defined]
        return [minimal(item, subjects, field) for _ in range(limits.get("min", 0))]
    if kind == "map":
        return {}
    if kind in ("integer", "long", "float", "double"):
        return limits.get("min", 1)
    if kind == "boolean":
        return False
    if field in subjects:
        return subjects[field]
    if "enum" in limits:
        return limits["enum"][0]
    if limits.get("min", 0) == 36:
        return str(uuid4())
    return STRINGS.get(shape.name, "x")


def cell(world: World, name: str, caller: str) -> str:
    """What one caller gets from one operation."""
    service, operation = name.split(".")
    client = world.room.client(service, world.accounts[caller])
    model: OperationModel = client.meta.service_model.operation_model(operation)
    subjects = world.subjects(service, caller)
    params = minimal(model.input_shape, subjects) if model.input_shape is not None else {}
    subject = subjects.get(POLICY[name].subject.value)
    if caller == "foreign" and subject is None:
        return "-"
    try:
        getattr(client, xform_name(operation))(**params)
    except ClientError as error:
        code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        assert status < 500, f"{name} as {caller}: {status} {message}"
        # a request that the wire refuses has not got as far as the question
        assert not re.match(r"\d+ validation error", message), f"{name}: {message}"
        if code == "AccessDeniedException" and message.startswith("Only "):
            return "denied"
        if code == "ResourceNotFoundException" and re.fullmatch(UNSEEN.format(subject), message):
            return "unseen"
    return "allowed"


def _agree(golden: Path, found: str) -> None:
    if os.environ.get(REWRITE):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(found)
    expected = golden.read_text() if golden.exists() else ""
    diff = "\n".join(
        difflib.unified_diff(expected.splitlines(), found.splitlines(), golden.name, "found", "", "", 0, "")
    )
    assert found == expected, (
        f"{diff}\n\nWhere this is meant, run again with {REWRITE}=1 and review the diff."
    )


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


def test_matrix(room: Room) -> None:
    shared = World(room)
    rows = {}
    for name in sorted(OPERATIONS):
        world = World(room) if name in DESTRUCTIVE else shared
        rows[name] = {caller: cell(world, name, caller) for caller in CALLERS}
    width = max(map(len, rows)) + 2
    lines = ["operation".ljust(width) + "".join(column.ljust(9) for column in COLUMNS)]
    lines += [
        name.ljust(width) + "".join(cells[column].ljust(9) for column in COLUMNS)
        for name, cells in rows.items()
    ]
    found = HEADER + "\n" + "\n".join(line.rstrip() for line in lines) + "\n"
    _agree(GOLDEN / "access.txt", found)


def test_every_operation_has_a_rule() -> None:
    assert set(OPERATIONS) == set(POLICY)


def _absent() -> list[str]:
    return sorted(operation_names(load_services()) - set(OPERATIONS))


def test_what_is_absent_is_listed() -> None:
    path = GOLDEN / "unimplemented.txt"
    listed = path.read_text().split() if path.exists() else None
    absent = _absent()
    if listed is None or (os.environ.get(REWRITE) and set(absent) <= set(listed)):
        path.write_text("".join(f"{name}\n" for name in absent))
        listed = absent
    grown = sorted(set(absent) - set(listed))
    assert not grown, f"{', '.join(grown)}: was implemented and is gone; this list may only shrink."
    stale = sorted(set(listed) - set(absent))
    assert not stale, f"Well done; now take out of {path.name}: {', '.join(stale)} (or set {REWRITE}=1)."
    assert listed == absent, f"{path.name} must be sorted and name each operation once."


def test_what_is_absent_says_so(room: Room) -> None:
    account = room.account()
    for name in _absent():
        service, operation = name.split(".")
        client = room.client(service, account)
        model = client.meta.service_model.operation_model(operation)
        params = minimal(model.input_shape, {}) if model.input_shape is not None else {}
        with pytest.raises(ClientError) as caught:
            getattr(client, xform_name(operation))(**params)
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501
        assert name in caught.value.response["Error"]["Message"]
