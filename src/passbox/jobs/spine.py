"""The one path that every kind of job walks.

    approve ─▶ run ─▶ disclose ─▶ post ─▶ deliver ─▶ ended
    ╰── repeated as a whole ──╯   ╰ once ╯ ╰─ again and again, the same ─╯

    approve   the kind's plan, from what state says now; the resource is in progress
    run       the kind's run, in the job's own workspace, in no transaction
    disclose  what may leave of it is decided and written down; the workspace becomes the staging area
    post      one transaction: the book's entries and the outcome, and from here there is no way back
    deliver   staged files go where they belong, under keys made from the job; then the status is final

A worker that takes a job over starts at its stored step: `approve`, `post` or `deliver`. A cancel is honoured
until `post`. Money is posted at `post` and nowhere else, so exactly once; where nothing can be delivered, the
final status comes with a refund; where some was, nobody gets it for nothing. Uses of tables are posted right
before `run`, for good: whatever dies in it may have read them. The final status is written after the
delivery, so that whoever sees ACTIVE finds the files (docs/decisions/0003).
"""

import contextlib
import json
import logging
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from passbox import names
from passbox.backends import trees
from passbox.errors import JobFailed, PassboxError
from passbox.jobs import run_manifest, standing
from passbox.jobs.disclose import GROUP, configured, disclose
from passbox.jobs.kind import Kind, NotYet, Result, Tools, Workspace
from passbox.ledger import book, budgets
from passbox.names import Role
from passbox.state import jobs, resources, statuses
from passbox.state.database import Database, Transaction
from passbox.state.jobs import Job
from passbox.state.resources import Resource

ATTEMPTS = 3
_SEALED = (
    "ml_input_channel",
    "protected_query",
    "protected_job",
    "trained_model",
    "trained_model_inference_job",
)
_log = logging.getLogger(__name__)
Checkpoint = Callable[[str], None]


class Cancelled(PassboxError):
    """Somebody has cancelled the job."""


def walk(
    database: Database,
    tools: Tools,
    kinds: Mapping[str, Kind],
    job: Job,
    checkpoint: Checkpoint = lambda _: None,
) -> None:
    """Walks a claimed job to its end.

    checkpoint: called with the name of what is about to happen, or has just happened; tests end the process
    there. Raises Cancelled when the job was called off, LeaseLost when another worker
    has it, NotYet was put back; every other exception is a fault of ours.
    """
    kind = kinds[job.kind]
    while job.step != "ended":
        checkpoint(job.step)
        match job.step:
            case "approve":
                job = _work(database, tools, kind, job, checkpoint)
            case "post":
                job = _post(database, job)
            case "deliver":
                job = _deliver(database, tools, job, checkpoint)
        checkpoint(f"before {job.step}")


def abandon(database: Database, tools: Tools, job: Job, status: str, code: str, message: str) -> None:
    """Ends a job that was called off or that cannot be walked: nothing charged, nothing kept."""
    with database.write() as tx:
        for reservation in book.open_reservations(tx, job.id):
            book.void(tx, reservation)
        resource = _resource(tx, job)
        own = statuses.OF[job.kind]
        if resource.status == own.called_off:
            resource = resources.change(tx, resource, status=own.ending)
        body = {"statusDetails": {"statusCode": code, "message": message}, "failedAt": job.step}
        resource = resources.change(tx, resource, status=status, body=body)
        run_manifest.write(tx, tools, job, resource)
        jobs.end(tx, job)
    with contextlib.suppress(OSError):  # swept when the next worker starts
        clear(tools, job)


def clear(tools: Tools, job: Job) -> None:
    """Removes what a job left behind in its workspaces and its staging area."""
    for left in (*tools.scratch.glob(f"{job.id}.*"), _staging(tools, job.id)):
        trees.remove(left)


def sweep(database: Database, tools: Tools) -> None:
    """Removes what jobs that have ended left behind because their worker was killed just then."""
    for left in (*tools.scratch.glob("*"), *_staging(tools, "").glob("*")):
        with database.read() as tx:
            job = jobs.get(tx, left.name.partition(".")[0])
        if job is None or job.state == "ended":
            with contextlib.suppress(OSError):  # the next worker tries again
                trees.remove(left)


def _resource(tx: Transaction, job: Job) -> Resource:
    kind = {
        "delete_ml_input_channel_data": "ml_input_channel",
        "delete_trained_model_output": "trained_model",
    }
    return resources.require(tx, kind.get(job.kind, job.kind), job.resource)


def _staging(tools: Tools, job: str) -> Path:
    return tools.vault / "staging" / job


def _work(database: Database, tools: Tools, kind: Kind, job: Job, checkpoint: Checkpoint) -> Job:
    """approve, run and disclose: ends with everything durable in the staging area and the outcome stored."""
    clear(tools, job)
    workspace = Workspace(
        tools.scratch / f"{job.id}.{job.attempt}",
        lambda line: _note(database, job, line),
        lambda group, stream, file: _publish(database, tools, job, group, stream, file),
    )
    workspace.path.mkdir(parents=True)
    if job.kind.startswith("delete_"):
        _close(database, job)
    stage = "approve"
    try:
        # on a snapshot, because a plan may look long at files, and writers must not wait for that
        with database.read() as tx:
            if job.kind in _SEALED:
                standing.require_isolation(tx, _resource(tx, job), tools)
            plan = kind.plan(tx, _resource(tx, job), tools)
        with database.write() as tx:
            resource = _resource(tx, job)
            own = statuses.OF[job.kind]
            budgets.spend(tx, job.id)
            status = own.working if resource.status == own.waiting else None
            run = run_manifest.begun(tx, resource, job.id)
            resources.change(tx, resource, status=status, body={"run": run})
        stage = "run"
        checkpoint(stage)
        result = kind.run(plan, workspace, tools)
    except NotYet as later:
        with database.write() as tx:
            jobs.put_back(tx, job, later.seconds)
        raise
    except JobFailed as failed:
        # what a container left of a job that failed stays nowhere
        trees.remove(workspace.path)
        workspace.path.mkdir()
        if failed.code == "INTERNAL_ERROR":
            _log.warning("job %s failed: %s: %s", job.id, failed.code, failed.detail or failed.message)
        result = Result(failure=(failed.code, failed.message))
    checkpoint("disclose")
    with database.read() as tx:
        outcome = disclose(tx, _resource(tx, job), result, workspace)
    if outcome["failure"] is not None:
        outcome["failedAt"] = "disclose" if result.failure is None else stage
    outcome["outputFiles"] = run_manifest.outputs(outcome, workspace.path)
    _settle(workspace.path)
    workspace.path.rename(_staging(tools, job.id))
    _sync(_staging(tools, job.id).parent)
    with database.write() as tx:
        if jobs.cancel_requested(tx, job):
            raise Cancelled
        return jobs.advance(tx, job, "post", outcome)


def _close(database: Database, job: Job) -> None:
    """Lets nothing new begin with what is to be deleted, also where nobody but the calendar asked for it."""
    with database.write() as tx:
        resource = _resource(tx, job)
        if resource.status == "ACTIVE":
            resources.change(tx, resource, status="DELETE_PENDING")


def _post(database: Database, job: Job) -> Job:
    """One transaction: every reservation is posted with what was measured, or voided."""
    outcome = job.outcome or {}
    with database.write() as tx:
        for reservation in book.open_reservations(tx, job.id):
            measured = outcome["measured"].get(reservation.cost_type)
            if measured is None or outcome["failure"] is not None:
                book.void(tx, reservation)
            else:
                book.post(tx, reservation, measured)
        return jobs.advance(tx, job, "deliver")


def _deliver(database: Database, tools: Tools, job: Job, checkpoint: Checkpoint) -> Job:
    """Files go where they belong, then the resource comes to rest. All of it may happen again."""
    outcome = job.outcome or {}
    staging = _staging(tools, job.id)
    with database.read() as tx:
        resource = _resource(tx, job)
    failure, some = outcome["failure"], False
    try:
        for delivery in outcome["deliveries"]:
            # all before any, so that where one cannot receive, none of several does
            tools.objects.check(delivery["account"], delivery["uri"], _role(delivery))
        for delivery in outcome["deliveries"]:
            files = {key: staging / path for key, path in delivery["files"].items()}
            some = some or len(files) > 1  # where one of several files fails, others may be there
            if delivery.get("closed"):
                # when and how a store refuses, its role asked for, so that it cannot be told apart
                tools.objects.deliver(delivery["account"], delivery["uri"], _role(delivery), {})
                raise PassboxError(f"a table of the run lies in the bucket of {delivery['uri']}")
            tools.objects.deliver(delivery["account"], delivery["uri"], _role(delivery), files)
            some = True
    except PassboxError as refused:
        # the place was fine when the job was planned; its owner has made it unusable since
        message = "The results could not be delivered" + (
            " completely; the run is charged, since some were." if some else "."
        )
        failure = {"statusCode": "DELIVERY_FAILED", "message": message}
        # why is the receiver's and the operator's to know: it tells of a place, and which buckets there are
        _log.warning("job %s: a delivery failed: %s", job.id, refused.detail or refused.message)
    for text in outcome["texts"]:
        tools.objects.publish(text["account"], text["group"], text["stream"], staging / text["path"])
    if outcome["kept"] is not None and (staging / outcome["kept"]).exists():
        _keep(staging / outcome["kept"], tools.kept(resource))
    checkpoint("delivered")
    with database.write() as tx:
        body: dict[str, Any] = {
            **outcome["fields"],
            "published": outcome["published"],
            "statusDetails": failure,
            "failedAt": None if failure is None else outcome.get("failedAt", "deliver"),
            "partlyDelivered": True if failure is not None and some else None,
        }
        own = statuses.OF[job.kind]
        status = own.done if failure is None else own.failed_by(failure["statusCode"])
        if failure is not None and not some:
            book.refund(tx, job.id)  # nothing was posted, unless only the delivery failed
        resource = resources.change(tx, _resource(tx, job), status=status, body=body)
        if outcome["report"] is not None:
            _report(tx, resource, staging / outcome["report"])
        left = outcome.get("outputFiles", []) if failure is None or some else []
        run_manifest.write(tx, tools, job, resource, left)
        jobs.end(tx, job)
        if job.kind == "ml_input_channel" and status == "ACTIVE":
            _expire(tx, resource)
    trees.remove(staging)
    return jobs.Job(**{**vars(job), "step": "ended"})


def _role(delivery: Mapping[str, Any]) -> Role | None:
    """The role of a stored delivery."""
    stored = delivery.get("role")
    return None if stored is None else Role(**stored)


def _report(tx: Transaction, resource: Resource, file: Path) -> None:
    """Stores a report beside what it is about: apart, because it is long and seldom read."""
    id = names.new_id()
    row = resource._replace(
        kind="synthetic_data_report", id=id, arn=f"{resource.arn}/report/{id}", parent=resource.id,
        name=None, status=None, version=1, sequence=0, body=json.loads(file.read_bytes()),
    )  # fmt: skip
    resources.add(tx, row)


def _expire(tx: Transaction, channel: Resource) -> None:
    """Has the channel's data deleted when its retention is over."""
    lease = names.now() + channel.body["retentionInDays"] * 86_400
    jobs.enqueue(
        tx,
        Job(
            id=names.new_job_id(),
            kind="delete_ml_input_channel_data",
            resource=channel.id,
            collaboration=channel.collaboration or "",
            account=channel.account,
            step="approve",
            lease=lease,
        ),
    )


def _publish(database: Database, tools: Tools, job: Job, group: str, stream: str, file: Path) -> None:
    """Gives a file to every active member with an ML configuration, while the job runs."""
    with database.read() as tx:
        members = configured(tx, job.collaboration)
    for account in members:
        tools.objects.publish(account, f"{GROUP}/{group}", stream, file)


def _note(database: Database, job: Job, line: str) -> None:
    with database.write() as tx:
        jobs.note(tx, job, line)


def _keep(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    trees.remove(target)
    source.rename(target)
    _sync(target.parent)


def _settle(directory: Path) -> None:
    """Makes everything below a directory durable."""
    for folder, _, files in os.walk(directory, topdown=False):
        for file in files:
            if stat.S_ISREG(os.lstat(Path(folder) / file).st_mode):  # a pipe would wait for somebody
                _sync(Path(folder) / file)
        _sync(Path(folder))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
