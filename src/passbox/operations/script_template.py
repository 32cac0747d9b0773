"""PySpark templates: what is asked of one when it is made, and the hashes that its artifacts are pinned to.

The script itself is neither kept nor shown: its author hands it to the others, who compare its SHA-256.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from passbox.access.call import Call, invalid
from passbox.errors import ModelledError, ValidationException
from passbox.names import Role
from passbox.operations.configured_model_algorithm import own_role
from passbox.operations.registry import Params
from passbox.state.questions import MOST_ARTIFACT_BYTES

FORMAT = "PYSPARK_1_0"
MOST_TABLES = 15
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


class _Artifact(NamedTuple):
    field: str
    location: Mapping[str, str]
    ending: str


def check(call: Call, params: Params) -> None:
    """Refuses a PySpark template that could never run."""
    artifacts = params["source"].get("artifacts")
    if artifacts is None:
        raise invalid("source.text", "source.text is SQL's; give a PySpark template its source.artifacts.")
    own_role(call, "source.artifacts.roleArn", artifacts["roleArn"])
    for one in _artifacts(artifacts):
        if not one.location["key"].endswith(one.ending):
            raise invalid(one.field, f"{one.field}: the key must end in {one.ending}.")
    script = artifacts["entryPoint"]["location"]["key"].rpartition("/")[2]
    if not _NAME.fullmatch(script.removesuffix(".py")):
        field = "source.artifacts.entryPoint.location"
        raise invalid(
            field, f"{field}: {script} is no valid name of a Python file; use letters and underscores."
        )
    if "syntheticDataParameters" in params:
        raise invalid(
            "syntheticDataParameters", "syntheticDataParameters are for SQL templates only; leave them out."
        )
    _check_tables(params)
    _check_parameters(params.get("analysisParameters", []))


def _check_tables(params: Params) -> None:
    place = "schema.referencedTables"
    tables = params.get("schema", {}).get("referencedTables") or []
    if not 1 <= len(tables) <= MOST_TABLES:
        raise invalid(
            place,
            f"{place} must name the 1 to {MOST_TABLES} tables that the script reads, not {len(tables)}.",
        )
    lowered = [name.lower() for name in tables]
    twice = sorted({name for name in lowered if lowered.count(name) > 1})
    if twice:
        raise invalid(place, f"{place} names {twice[0]} twice; name each table once.")


def _check_parameters(declared: list[Params]) -> None:
    place = "analysisParameters"
    seen: set[str] = set()
    for one in declared:
        name = one["name"]
        if one["type"] != "STRING":
            raise invalid(
                place,
                f"{place}: {name} is of type {one['type']}; parameters of PySpark templates are STRING.",
            )
        if not _NAME.fullmatch(name):
            raise invalid(place, f"{place}: {name} must start with a letter or an underscore.")
        if name in seen:
            raise invalid(place, f"{place} declares {name} twice; declare each parameter once.")
        seen.add(name)


def metadata(call: Call, artifacts: Mapping[str, Any]) -> dict[str, Any]:
    """The modelled sourceMetadata: the SHA-256 of each artifact as it is now, read in the author's role."""
    role = Role(artifacts["roleArn"], call.membership.arn)

    def work() -> list[str] | ModelledError:
        hashes, left = [], MOST_ARTIFACT_BYTES
        for one in _artifacts(artifacts):
            digest = hashlib.sha256()
            uri = f"s3://{one.location['bucket']}/{one.location['key']}"
            try:
                for piece in call.room.objects.read(call.account, uri, role, left):
                    digest.update(piece)
                    left -= len(piece)
            except ValidationException as refusal:
                return invalid(one.field, f"{one.field}: {refusal.message}")
            hashes.append(digest.hexdigest())
        return hashes

    found = call.aside(("artifacts", call.account, repr(artifacts), repr(role)), work)
    if isinstance(found, ModelledError):
        raise found
    script, *more = found
    made: dict[str, Any] = {"entryPointHash": {"sha256": script}}
    if more:
        made["additionalArtifactHashes"] = [{"sha256": one} for one in more]
    return {"artifacts": made}


def _artifacts(given: Mapping[str, Any]) -> list[_Artifact]:
    place = "source.artifacts"
    found = [_Artifact(f"{place}.entryPoint.location", given["entryPoint"]["location"], ".py")]
    for number, one in enumerate(given.get("additionalArtifacts", ())):
        field = f"{place}.additionalArtifacts[{number}].location"
        found.append(_Artifact(field, one["location"], ".tar.gz"))
    return found
