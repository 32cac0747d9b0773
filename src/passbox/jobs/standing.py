"""Whether what a job was submitted with still stands when it runs, and where its results go.

A collaboration moves on between submission and run: members leave, associations and channels are deleted, a
receiver loses its ability. Knows state; must not know containers. Everything here raises JobFailed with a
message for all members, so it names resources of the room and nobody's buckets.
"""

import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from passbox.errors import JobFailed, ValidationException
from passbox.jobs.kind import Tools
from passbox.names import Role
from passbox.state import isolation, receivers, resources
from passbox.state.database import Transaction
from passbox.state.receivers import Receiver
from passbox.state.resources import Resource

_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")
_SEGMENT_BYTES = 255


def require_isolation(tx: Transaction, job: Resource, tools: Tools) -> None:
    """JobFailed where the machine seals less than a member of the job's collaboration demands."""
    wanted, reached = isolation.demanded(tx, job.collaboration or ""), tools.isolation.value
    if isolation.LEVELS.index(reached) < isolation.LEVELS.index(wanted):
        raise JobFailed(
            "ISOLATION_NOT_REACHED",
            f"The collaboration demands the isolation {wanted.upper()}, and the worker's machine reaches "
            f"{reached.upper()}. Nothing was started or read.",
        )


def association(tx: Transaction, arn: str) -> Resource:
    """The algorithm association, still there and its creator still in the collaboration."""
    found = resources.first(tx, "configured_model_algorithm_association", arn=arn)
    if found is None:
        raise JobFailed("INVALID_RESOURCE", "The configured model algorithm association is gone.")
    _require_active(tx, found)
    return found


def container(tx: Transaction, found: Resource, config: str) -> Mapping[str, Any]:
    """The `trainingContainerConfig` or `inferenceContainerConfig` of the algorithm behind an association."""
    algorithm = resources.get(tx, "configured_model_algorithm", found.parent or "")
    if algorithm is None or config not in algorithm.body:
        raise JobFailed("INVALID_RESOURCE", f"The configured model algorithm has no {config}.")
    chosen: Mapping[str, Any] = algorithm.body[config]
    return chosen


def policies(found: Resource, kind: str) -> Mapping[str, Any]:
    """The association's privacy policies for `trainedModels` and the like; empty where there are none."""
    chosen: Mapping[str, Any] = found.body.get("privacyConfiguration", {}).get("policies", {}).get(kind, {})
    return chosen


def channel(tx: Transaction, arn: str, tools: Tools) -> Resource:
    """A channel with its data still kept. Where its retention has ended since the job was submitted it is
    DELETE_PENDING, and its data waits for the job to end."""
    found = resources.first(tx, "ml_input_channel", arn=arn)
    if found is None or found.status not in ("ACTIVE", "DELETE_PENDING") or not tools.kept(found).is_dir():
        label = "is gone" if found is None else f"{found.name} is no longer ACTIVE"
        raise JobFailed("INVALID_RESOURCE", f"The ML input channel {label}.")
    _require_active(tx, found)
    return found


def result_format(found: Resource) -> str:
    """What a channel's files are: "csv" or "parquet"."""
    source = found.body["inputChannel"]["dataSource"]["protectedQueryInputParameters"]
    chosen: str = source.get("resultFormat", "CSV").lower()
    return chosen


def model(tx: Transaction, id: str, tools: Tools) -> Resource:
    """A version of a trained model that is still ACTIVE, with its artifacts still kept."""
    found = resources.get(tx, "trained_model", id)
    if found is None or found.status != "ACTIVE" or not (tools.kept(found) / "model.tar.gz").is_file():
        label = "is gone" if found is None else f"{found.name} is no longer ACTIVE"
        raise JobFailed("INVALID_RESOURCE", f"The trained model {label}.")
    return found


def readers(tx: Transaction, job: Resource) -> tuple[str, ...]:
    """Every account that reads the job's statusDetails, or will once it has joined."""
    found = resources.find(
        tx, "member", statuses=["INVITED", "ACTIVE"], collaboration=job.collaboration or ""
    )
    return tuple(row.account for row in found)


def destination(
    tx: Transaction, job: Resource, trained: Resource, ability: str, tools: Tools
) -> tuple[str, str, Role]:
    """(account, uri, role) of the one receiver of a job's results; it must still be able and ready.

    The uri is `<its ML configuration's s3Uri>/<collaborationIdentifier>/<trainedModelName>/<callerAccountId>/
    <jobName>` (user guide, export model artifacts), names made safe by `segment`.
    """
    [member] = job.body["outputConfiguration"]["members"]
    account: str = member["accountId"]
    row = resources.get(tx, "member", f"{job.collaboration}/{account}")
    if row is None or row.status != "ACTIVE":
        raise JobFailed("INVALID_RECEIVER", f"The receiver {account} is no longer an active member.")
    if ability not in (row.body.get("mlAbilities") or {}).get("customMLMemberAbilities", []):
        raise JobFailed("INVALID_RECEIVER", f"The receiver {account} no longer has the ability {ability}.")
    configuration = resources.first(
        tx, "ml_configuration", collaboration=job.collaboration or "", account=account
    )
    location = {} if configuration is None else configuration.body["defaultOutputLocation"]
    if "destination" not in location:
        raise JobFailed(
            "INVALID_RECEIVER",
            f"The receiver {account} no longer has an ML configuration with a destination.",
        )
    prefix = (job.collaboration or "", segment(trained.name or ""), job.account, segment(job.name or ""))
    uri = "/".join((location["destination"]["s3Destination"]["s3Uri"].rstrip("/"), *prefix))
    role = Role(location["roleArn"], row.body["membershipArn"])
    try:
        tools.objects.check(account, uri, role)
    except ValidationException as error:
        raise JobFailed(
            "INVALID_RECEIVER",
            f"Nothing can be delivered to the destination in the ML configuration of {account}.",
            detail=error.message,
        ) from error
    return account, uri, role


def place(receiver: Receiver, id: str, tools: Tools) -> tuple[str, str, Role | None]:
    """Account, s3 address and role of who receives the result `id` of a protected query or job."""
    if receiver.problem is not None or receiver.location is None:
        raise JobFailed("INVALID_RESOURCE", receiver.problem or "")
    uri = receivers.address(receiver.location, id)
    try:
        tools.objects.check(receiver.account, uri, receiver.role)
    except ValidationException as error:
        raise JobFailed(
            "INVALID_RESOURCE",
            f"Nothing can be delivered to the location of {receiver.account}.",
            detail=error.message,
        ) from error
    return receiver.account, uri, receiver.role


def segment(name: str) -> str:
    """A resource's name as one segment of an object's key: percent-encoded where a key could not hold it.

    ASCII letters, digits and `-_.~`, and every printable sign beyond ASCII, stay as they are, so
    `urllib.parse.unquote` gives the name back. The few names that are too long then (many invisible signs)
    become `%sha256-` and a digest.
    """
    kept = "".join(
        sign if sign in _UNRESERVED or (ord(sign) > 127 and sign.isprintable()) else quote(sign, safe="")
        for sign in name
    )
    if kept in (".", ".."):
        kept = kept.replace(".", "%2E")
    if len(kept.encode()) > _SEGMENT_BYTES:
        return f"%sha256-{hashlib.sha256(name.encode()).hexdigest()}"
    return kept


def _require_active(tx: Transaction, found: Resource) -> None:
    member = resources.get(tx, "member", f"{found.collaboration}/{found.account}")
    if member is None or member.status != "ACTIVE":
        label = found.kind.replace("_", " ")
        raise JobFailed(
            "INVALID_RESOURCE", f"The creator of the {label} {found.name} is no longer an active member."
        )
