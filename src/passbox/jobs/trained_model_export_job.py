"""Export jobs: the files of a version that the algorithm's owner lets out go to one receiver."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from passbox.disclosure import sizes
from passbox.errors import JobFailed
from passbox.jobs import standing
from passbox.jobs.kind import Delivery, Result, Tools, Workspace
from passbox.jobs.trained_model import MODEL_FILE, OUTPUT_FILE
from passbox.names import Role
from passbox.state.database import Transaction
from passbox.state.resources import Resource

_FILES = {"MODEL": MODEL_FILE, "OUTPUT": OUTPUT_FILE}


@dataclass(frozen=True)
class Plan:
    """Which files leave, for whom and where to.

    files: name → where the room keeps it; receiver: account, s3 address and role
    """

    files: Mapping[str, Path]
    receiver: tuple[str, str, Role]


def plan(tx: Transaction, resource: Resource, tools: Tools) -> Plan:
    """Asks the policy as it is now, and the sizes; JobFailed before anything leaves."""
    model = standing.model(tx, resource.body["trainedModelId"], tools)
    association = standing.association(tx, model.body["configuredModelAlgorithmAssociationArn"])
    policy = standing.policies(association, "trainedModelExports")
    if not policy:
        raise JobFailed("EXPORT_NOT_ALLOWED", "The algorithm association has no trainedModelExports policy.")
    receiver = standing.destination(tx, resource, model, "CAN_RECEIVE_MODEL_OUTPUT", tools)
    names = [_FILES[kind] for kind in sorted(set(policy["filesToExport"]))]
    files = {name: tools.kept(model) / name for name in names}
    size = sum(path.stat().st_size for path in files.values())
    most = sizes.in_bytes(policy["maxSize"])
    if size > most:
        raise JobFailed(
            "MAX_EXPORT_SIZE_EXCEEDED",
            f"{' and '.join(names)} together have {size} bytes ({sizes.readable(size)}); maxSize of the "
            f"algorithm association allows {most} ({sizes.readable(most)}). Nothing was exported.",
        )
    return Plan(files, receiver)


def run(plan: Plan, workspace: Workspace, tools: Tools) -> Result:  # noqa: ARG001  the contract's signature
    """Puts the files beside each other in the workspace; the spine delivers them."""
    workspace.progress("preparing the files")
    folder = workspace.directory("export")
    for name, kept in plan.files.items():
        try:
            os.link(kept, folder / name)
        except OSError:  # the vault is on another file system
            shutil.copyfile(kept, folder / name)
    files = {name: folder / name for name in plan.files}
    return Result(deliveries=(Delivery(*plan.receiver, files),))
