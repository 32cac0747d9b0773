"""Deletes an ML input channel's rows for good; its record stays. Repeating it changes nothing.

Where the channel's retention ends while jobs read it, no new one begins, and the rows go when the last has
ended: never under a container that is reading them.
"""

from pathlib import Path

from passbox.jobs.forget import forget
from passbox.jobs.kind import NotYet, Result, Tools, Workspace
from passbox.state import resources
from passbox.state.database import Transaction
from passbox.state.resources import Resource

AGAIN_SECONDS = 60.0
_UNDER_WAY = ("CREATE_PENDING", "CREATE_IN_PROGRESS", "CANCEL_PENDING", "CANCEL_IN_PROGRESS")


def plan(tx: Transaction, resource: Resource, tools: Tools) -> Path:
    """Where the room keeps them; NotYet while jobs are under way that read them."""
    for kind in ("trained_model", "trained_model_inference_job"):
        for job in resources.find(tx, kind, statuses=_UNDER_WAY, membership=resource.membership or ""):
            read = [channel["mlInputChannelArn"] for channel in job.body.get("dataChannels", [])]
            read.append(job.body.get("dataSource", {}).get("mlInputChannelArn"))
            if resource.arn in read:
                raise NotYet(AGAIN_SECONDS)
    return tools.kept(resource)


def run(plan: Path, workspace: Workspace, tools: Tools) -> Result:  # noqa: ARG001  the contract's signature
    """Removes them."""
    forget(plan)
    return Result()
