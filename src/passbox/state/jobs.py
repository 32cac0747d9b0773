"""The queue: a lease table in the same database, so that a submission is one transaction.

    queued ──claim──▶ running ──end──▶ ended
                        │  ▲
              lease over ▼  │ claim by another worker, attempt + 1
                        running

The attempt number is the fence: a worker that lost its lease can write nothing any more.
"""

from dataclasses import dataclass, replace
from typing import Any

import orjson
from sqlalchemy import bindparam, insert, select, update

from passbox import names
from passbox.errors import PassboxError
from passbox.state import events
from passbox.state.database import Transaction
from passbox.state.tables import job as table

LEASE_SECONDS = 6.0


class LeaseLost(PassboxError):
    """Another worker has taken this job over."""


@dataclass(frozen=True)
class Job:
    """A piece of work. `outcome` is what the spine must remember between its steps."""

    id: str
    kind: str
    resource: str
    collaboration: str
    account: str
    step: str
    state: str = "queued"
    attempt: int = 0
    worker: str | None = None
    lease: float = 0.0
    cancel: bool = False
    progress: str | None = None
    outcome: dict[str, Any] | None = None
    created: float = 0.0
    updated: float = 0.0


_SELECT = select(table).where(table.c.id == bindparam("id"))
_OF_RESOURCE = select(table).where(table.c.resource == bindparam("resource")).order_by(table.c.created)
_QUEUED = (
    select(table)
    .where(table.c.state == "queued", table.c.lease <= bindparam("now"))
    .order_by(table.c.created)
    .limit(1)
)
_LAPSED = (
    select(table)
    .where(table.c.state == "running", table.c.lease < bindparam("now"))
    .order_by(table.c.created)
    .limit(1)
)
_HELD = (
    table.c.id == bindparam("job_id"),
    table.c.attempt == bindparam("job_attempt"),
    table.c.state == "running",
)


def _job(row: Any) -> Job:
    values = dict(row._mapping)
    values["outcome"] = orjson.loads(values["outcome"]) if values["outcome"] else None
    return Job(**values)


def enqueue(tx: Transaction, job: Job) -> Job:
    """Adds a job to the queue."""
    now = names.now()
    job = replace(job, created=now, updated=now)
    tx.execute(insert(table), {**vars(job), "outcome": orjson.dumps(job.outcome) if job.outcome else None})
    events.record(tx, job.id, f"job.{job.kind}", None, job.step)
    return job


def get(tx: Transaction, id: str) -> Job | None:
    """One job."""
    row = tx.execute(_SELECT, {"id": id}).first()
    return None if row is None else _job(row)


def of_resource(tx: Transaction, resource: str) -> list[Job]:
    """All jobs that ever worked on a resource, oldest first."""
    return [_job(row) for row in tx.execute(_OF_RESOURCE, {"resource": resource})]


def claim(tx: Transaction, worker: str) -> Job | None:
    """Takes the oldest waiting job, or one whose worker stopped renewing its lease."""
    now = names.now()
    row = tx.execute(_LAPSED, {"now": now}).first() or tx.execute(_QUEUED, {"now": now}).first()
    if row is None:
        return None
    job = _job(row)
    taken = replace(job, state="running", worker=worker, attempt=job.attempt + 1, lease=now + LEASE_SECONDS)
    tx.execute(
        update(table).where(table.c.id == job.id),
        {
            "state": "running",
            "worker": worker,
            "attempt": taken.attempt,
            "lease": taken.lease,
            "updated": now,
        },
    )
    events.record(tx, job.id, f"job.{job.kind}", job.state, f"attempt {taken.attempt} at {job.step}")
    return taken


def _write(tx: Transaction, job: Job, **values: Any) -> None:
    values["updated"] = names.now()
    held = {"job_id": job.id, "job_attempt": job.attempt}
    statement = update(table).where(*_HELD).values({name: bindparam(name) for name in values})
    if tx.execute(statement, {**values, **held}).rowcount != 1:
        raise LeaseLost


def renew(tx: Transaction, job: Job) -> bool:
    """Holds the lease on; returns whether somebody has asked to cancel. LeaseLost once it is gone."""
    _write(tx, job, lease=names.now() + LEASE_SECONDS)
    return cancel_requested(tx, job)


def note(tx: Transaction, job: Job, progress: str) -> None:
    """Says how far the job is, for people who watch."""
    _write(tx, job, progress=progress)


def advance(tx: Transaction, job: Job, step: str, outcome: dict[str, Any] | None = None) -> Job:
    """Makes `step` the next one; a worker that takes over starts there with this outcome."""
    moved = replace(job, step=step, outcome=job.outcome if outcome is None else outcome)
    _write(tx, job, step=step, outcome=orjson.dumps(moved.outcome) if moved.outcome else None)
    events.record(tx, job.id, f"job.{job.kind}", job.step, step)
    return moved


def end(tx: Transaction, job: Job) -> None:
    """The job is over; nothing touches it again."""
    _write(tx, job, state="ended", step="ended", progress=None)
    events.record(tx, job.id, f"job.{job.kind}", job.step, "ended")


def all_(tx: Transaction) -> list[Job]:
    """Every job, oldest first."""
    return [_job(row) for row in tx.execute(select(table).order_by(table.c.created))]


def any_waiting(tx: Transaction) -> bool:
    """Whether `claim` would find something."""
    now = {"now": names.now()}
    return tx.execute(_QUEUED, now).first() is not None or tx.execute(_LAPSED, now).first() is not None


def retry(tx: Transaction, job: Job, seconds: float) -> None:
    """The job failed through a fault of ours: it is tried again after `seconds`, and the attempts count."""
    _write(tx, job, state="queued", lease=names.now() + seconds)
    events.record(tx, job.id, f"job.{job.kind}", "running", "queued")


def put_back(tx: Transaction, job: Job, seconds: float) -> None:
    """The job waits for `seconds` before anybody may claim it again."""
    _write(tx, job, state="queued", lease=names.now() + seconds, attempt=0)
    events.record(tx, job.id, f"job.{job.kind}", "running", "queued")


def request_cancel(tx: Transaction, resource: str) -> bool:
    """Asks the worker to cancel what runs for a resource; False when it is too late for that."""
    statement = update(table).where(
        table.c.resource == resource, table.c.state != "ended", table.c.step == "approve"
    )
    return tx.execute(statement, {"cancel": True, "updated": names.now()}).rowcount > 0


def cancel_requested(tx: Transaction, job: Job) -> bool:
    """Whether somebody has asked to cancel the job."""
    return bool(tx.execute(select(table.c.cancel).where(table.c.id == job.id)).scalar_one())
