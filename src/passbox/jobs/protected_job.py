"""Protected jobs: a script that its owners agreed to runs over the members' tables, and its results leave.

    read the script, check its hash ─▶ copy what may be read of each table ─▶ run the script, sealed

The copies hold the columns that may leave and nothing else, and are made by the query engine, whose sandbox
has ended by then: the script's own sandbox never holds a member's file.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from passbox.analysis import ApprovedJob, Purpose, approve_job
from passbox.backends.engines import script as program
from passbox.backends.engines.base import Resources, Target
from passbox.errors import JobFailed, PassboxError, QueryRefused
from passbox.jobs import script, standing
from passbox.jobs.kind import Delivery, Result, Tools, Workspace
from passbox.jobs.query import LONGEST_SECONDS
from passbox.jobs.sources import Source, fetched, lie_in, sources
from passbox.ledger import prices
from passbox.names import Role
from passbox.state import questions, receivers, schemas
from passbox.state.database import Transaction
from passbox.state.resources import Resource

_CRPU_HOUR = 3_600 * 1_000  # in milli-CRPU-seconds
_MARKER = "_SUCCESS"  # an empty file beside a result's, put there once the others are


@dataclass(frozen=True)
class Artifact:
    """A file of the template's author: where it lies, and what it was when the template was made."""

    uri: str
    sha256: str


@dataclass(frozen=True)
class Plan:
    """What may run. artifacts: the script, then its libraries; receiver: account, s3 address and role."""

    author: str
    role: Role
    artifacts: tuple[Artifact, ...]
    parameters: Mapping[str, str] | None
    approved: ApprovedJob
    tables: Mapping[str, Source]
    workers: str
    number: int
    receiver: tuple[str, str, Role | None]


def plan(tx: Transaction, resource: Resource, tools: Tools) -> Plan:
    """Asks for the template, the rules and the receiver again, as they are now."""
    body, collaboration = resource.body, resource.collaboration or ""
    template = questions.live(tx, collaboration, body["jobParameters"]["analysisTemplateArn"])
    if template is None:
        raise JobFailed("RESOURCE_NOT_FOUND", "The analysis template is not there any more.")
    [receiver] = receivers.receivers(
        tx,
        collaboration,
        resource.account,
        body["resultConfiguration"]["outputConfiguration"],
        receivers.JOBS,
    )
    purpose = Purpose(
        runner=resource.account,
        receivers=(receiver.account,),
        template=(template.arn, template.account),
        engine=tools.engine.name,
    )
    referenced = template.body["schema"]["referencedTables"]
    try:
        approved = approve_job(referenced, schemas.tables(tx, collaboration), purpose)
    except QueryRefused as refusal:
        raise JobFailed("RESOURCE_ACCESS_DENIED", refusal.explained()) from refusal
    associations = schemas.named(tx, collaboration, [one.tables[0] for one in approved.tables.values()])
    if [association.id for association in associations] != body["sources"]:
        raise JobFailed(
            "INVALID_RESOURCE",
            "A table of the job was brought anew after the job was submitted; submit it again.",
        )
    worker = body["computeConfiguration"]["worker"]
    return Plan(
        author=template.account,
        role=Role(template.body["source"]["artifacts"]["roleArn"], template.body["membershipArn"]),
        artifacts=_artifacts(template),
        parameters=body.get("parameterValues"),
        approved=approved,
        tables=sources(tx, associations),
        workers=worker["type"],
        number=worker["number"],
        receiver=standing.place(receiver, resource.id, tools),
    )


def _artifacts(template: Resource) -> tuple[Artifact, ...]:
    given = template.body["source"]["artifacts"]
    pinned = template.body["sourceMetadata"]["artifacts"]
    files = [given["entryPoint"], *given.get("additionalArtifacts", ())]
    hashes = [pinned["entryPointHash"], *pinned.get("additionalArtifactHashes", ())]
    return tuple(
        Artifact(f"s3://{file['location']['bucket']}/{file['location']['key']}", one["sha256"])
        for file, one in zip(files, hashes, strict=True)
    )


def run(plan: Plan, workspace: Workspace, tools: Tools) -> Result:
    """Runs the script over copies of what it may read."""
    job = workspace.directory("job")
    workspace.progress("reading the script")
    left = questions.MOST_ARTIFACT_BYTES
    for artifact, name in zip(plan.artifacts, (program.SCRIPT, program.ENVIRONMENT), strict=False):
        left -= _read(artifact, job / name, left, plan, tools)
    name = plan.artifacts[0].uri.rpartition("/")[2]
    script.order(job, name, list(plan.approved.tables), plan.parameters)
    closed = _copy_tables(plan, job / program.TABLES, workspace, tools)
    workspace.progress("running the script")
    ran = script.run(job, LONGEST_SECONDS, plan.approved.detailed, workspace, tools)
    billed = prices.crpu_milliseconds(plan.workers, plan.number, ran.exit.seconds, prices.MINIMUM_JOB_SECONDS)
    return Result(
        fields={
            "billed": billed / _CRPU_HOUR,
            "isolation": tools.isolation.value,
            "usage": _usage(ran),
        },
        measured={prices.JOB_COMPUTE: billed},
        deliveries=_deliveries(plan, ran.results, workspace, closed),
    )


def _read(artifact: Artifact, target: Path, most: int, plan: Plan, tools: Tools) -> int:
    """Copies an artifact, which must still be what it was when the template was made; its bytes."""
    digest, size = hashlib.sha256(), 0
    try:
        with target.open("xb") as file:
            for chunk in tools.objects.read(plan.author, artifact.uri, plan.role, most):
                digest.update(chunk)
                size += file.write(chunk)
    except PassboxError as error:
        raise JobFailed(
            "INVALID_RESOURCE",
            "An artifact of the analysis template cannot be read; its author must look.",
            detail=error.message,
        ) from error
    if digest.hexdigest() != artifact.sha256:
        raise JobFailed(
            "INVALID_RESOURCE",
            "An artifact of the analysis template is not the one that was agreed to: its SHA-256 has "
            "changed. Its author must put it back, or make another template.",
        )
    return size


def _copy_tables(plan: Plan, target: Path, workspace: Workspace, tools: Tools) -> bool:
    """Has the query engine write what may be read of each table to 0, 1, … below `target`; whether one of
    them lies in the bucket that the results are to go to."""
    resources = Resources(tools.machine.memory_bytes, tools.machine.cpus, LONGEST_SECONDS)
    columns = {name: one.columns[name] for one in plan.approved.tables.values() for name in one.tables}
    with fetched(plan.tables, columns, workspace, tools) as files:
        for number, one in enumerate(plan.approved.tables.values()):
            [name] = one.tables
            place = target / str(number)
            place.mkdir(parents=True)
            tools.engine.run(
                one,
                {name: files[name]},
                [Target(place, "parquet")],
                resources,
                workspace.directory(f"engine/{number}"),
                workspace.progress,
            )
        return plan.receiver[1].split("/")[2] in lie_in(files)


def _deliveries(
    plan: Plan, results: Mapping[str, Path], workspace: Workspace, closed: bool
) -> tuple[Delivery, ...]:
    """The results, then a marker beside each that says that it is whole."""
    marker = workspace.path / "marker"
    marker.touch()
    markers = {f"{name.partition('/')[0]}/{_MARKER}": marker for name in results}
    return Delivery(*plan.receiver, results, closed), Delivery(*plan.receiver, markers, closed)


def _usage(ran: script.Ran) -> dict[str, Any]:
    sizes = [path.stat().st_size for path in ran.results.values()]
    measured = {
        "rows": ran.rows,
        "files": len(sizes),
        "bytes": sum(sizes),
        "seconds": round(ran.exit.seconds, 3),
        "cpuSeconds": None if ran.exit.cpu_seconds is None else round(ran.exit.cpu_seconds, 3),
        "peakMemoryBytes": ran.exit.peak_memory_bytes,
    }
    return {name: value for name, value in measured.items() if value is not None}
