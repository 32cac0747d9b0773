"""Deletes an ML input channel's rows for good; its record stays. Repeating it changes nothing."""

from pathlib import Path

from passbox.jobs.forget import forget
from passbox.jobs.kind import Result, Tools, Workspace
from passbox.state.database import Transaction
from passbox.state.resources import Resource


def plan(tx: Transaction, resource: Resource, tools: Tools) -> Path:  # noqa: ARG001  the contract's signature
    """Where the room keeps them."""
    return tools.kept(resource)


def run(plan: Path, workspace: Workspace, tools: Tools) -> Result:  # noqa: ARG001  the contract's signature
    """Removes them."""
    forget(plan)
    return Result()
