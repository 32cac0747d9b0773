"""The step between a run and everything that leaves it: applies `passbox.disclosure` and writes it down.

What comes out is the outcome that the spine stores: plain JSON, paths relative to the job's directory.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from fractions import Fraction
from typing import Any

import orjson

from passbox.disclosure import logs, metrics
from passbox.jobs.kind import Output, Result, Workspace
from passbox.state import resources
from passbox.state.database import Transaction
from passbox.state.resources import Resource
from passbox.synthesis import noise

GROUP = "aws/cleanroomsml"


def disclose(tx: Transaction, resource: Resource, result: Result, workspace: Workspace) -> dict[str, Any]:
    """The outcome of a run: what is posted, kept and delivered, and which account is given which words."""
    result = _to_members(tx, resource, result)
    published: dict[str, Any] = {}
    texts: list[dict[str, str]] = []
    if result.output is not None:
        published, texts = _words(tx, resource, result.output, workspace)
    failed = result.failure is not None
    return {
        "fields": {} if failed and not result.fields else dict(result.fields),
        "failure": dict(zip(("statusCode", "message"), result.failure, strict=True))
        if result.failure
        else None,
        "measured": dict(result.measured),
        "kept": None if failed or result.kept is None else str(result.kept.relative_to(workspace.path)),
        "deliveries": []
        if failed
        else [
            {
                "account": delivery.account,
                "uri": delivery.uri,
                "role": delivery.role and asdict(delivery.role),
                "files": {key: str(path.relative_to(workspace.path)) for key, path in delivery.files.items()},
                "closed": delivery.closed,
            }
            for delivery in result.deliveries
        ],
        "report": None if result.report is None else str(result.report.relative_to(workspace.path)),
        "published": published or None,
        "texts": texts,
    }


def _to_members(tx: Transaction, resource: Resource, result: Result) -> Result:
    """The result, failed where it is for who has left the collaboration while the job ran."""
    for delivery in result.deliveries:
        member = resources.get(tx, "member", f"{resource.collaboration}/{delivery.account}")
        if member is None or member.status != "ACTIVE":
            message = f"The receiver {delivery.account} is no longer an active member."
            return replace(result, failure=("INVALID_RECEIVER", message))
    return result


def _members(tx: Transaction, collaboration: str) -> list[str]:
    rows = resources.find(tx, "member", statuses=["ACTIVE"], collaboration=collaboration)
    return [row.account for row in rows]


def configured(tx: Transaction, collaboration: str) -> list[str]:
    """The active members of a collaboration that have an ML configuration."""
    able = {row.account for row in resources.find(tx, "ml_configuration", collaboration=collaboration)}
    return [account for account in _members(tx, collaboration) if account in able]


def _words(
    tx: Transaction, resource: Resource, output: Output, workspace: Workspace
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """account → what became of its logs and metrics, and the files to publish."""
    collaboration = resource.collaboration or ""
    members, able = _members(tx, collaboration), configured(tx, collaboration)
    log = output.log.read_bytes() if output.log.exists() else b""
    words = workspace.directory("published")
    published: dict[str, Any] = {account: {} for account in members}
    texts: list[dict[str, str]] = []

    def publish(account: str, name: str, content: bytes) -> None:
        path = words / f"{account}.{name}"
        path.write_bytes(content)
        stream = f"{output.stream}.{name}"
        relative = str(path.relative_to(workspace.path))
        texts.append(
            {"account": account, "group": f"{GROUP}/{output.group}", "stream": stream, "path": relative}
        )

    for account, given in logs.release(log, output.policies, members, able).items():
        published[account]["logs"] = given.outcome.stored()
        if given.text:
            publish(account, "log", given.text.encode())
    released = metrics.release(log, output.metrics, output.noise, members, able, _noisy)
    for account, measured in released.items():
        published[account]["metrics"] = measured.outcome.stored()
        if measured.metrics:
            rows = b"".join(orjson.dumps(metric.stored()) + b"\n" for metric in measured.metrics)
            publish(account, "metrics.jsonl", rows)
    return published, texts


def _noisy(values: Sequence[int], variance: Fraction) -> list[int]:
    added, _ = noise.add(values, variance, noise.Source(os.urandom, private=True))
    return [int(value) for value in added]
