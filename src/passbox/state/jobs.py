"""The queue: a lease table in the same database, so that a submission is one transaction.

    queued ──claim──▶ running ──end──▶ ended
                        │  ▲
              lease over ▼  │ claim by another worker, attempt + 1
                        running

Attempt and worker are the fence: a worker that lost its lease can write nothing any more.
"""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import orjson
from sqlalchemy import bindparam, insert, select, update

from passbox import names
from passbox.errors import PassboxError
from passbox.state import events
from passbox.state.database import Insertion, Row, Statement, Transaction
from passbox.state.tables import job as table
from passbox.state.tables import resource

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
    created: float = field(default_factory=names.now)
    updated: float = field(default_factory=names.now)


_COLUMNS = [column.name for column in table.c if column.name != "resource_sequence"]
_sequence = select(resource.c.sequence).where(resource.c.id == bindparam("of")).scalar_subquery()
_INSERT = Insertion(insert(table).values(resource_sequence=_sequence), [*_COLUMNS, "of"])
_SELECT = select(*(table.c[name] for name in _COLUMNS))
_GET = Statement(_SELECT.where(table.c.id == bindparam("id")))
_ALL = Statement(_SELECT.order_by(table.c.created))
_OF_RESOURCE = Statement(_SELECT.where(table.c.resource_sequence == _sequence).order_by(table.c.created))
_QUEUED = Statement(
    _SELECT.where(table.c.state == "queued", table.c.lease <= bindparam("now"))
    .order_by(table.c.created)
    .limit(1)
)
_LAPSED = Statement(
    _SELECT.where(table.c.state == "running", table.c.lease < bindparam("now"))
    .order_by(table.c.created)
    .limit(1)
)
_CALLED_OFF = Statement(
    _SELECT.where(table.c.state == "queued", table.c.step == "approve", table.c.cancel)
    .order_by(table.c.created)
    .limit(1)
)
_CLAIM = Statement(
    update(table)
    .where(table.c.id == bindparam("job_id"))
    .values(
        {name: bindparam(name) for name in ("state", "worker", "attempt", "lease", "progress", "updated")},
    )
)
_REQUEST_CANCEL = Statement(
    update(table)
    .where(table.c.resource_sequence == _sequence, table.c.state != "ended", table.c.step == "approve")
    .values({"cancel": True, "updated": bindparam("updated")})
)
_CANCEL = Statement(select(table.c.cancel).where(table.c.id == bindparam("id")))
_HELD = (
    table.c.id == bindparam("job_id"),
    table.c.attempt == bindparam("job_attempt"),
    table.c.worker == bindparam("job_worker"),  # attempts begin anew when a job is put back
    table.c.state == "running",
)


@lru_cache(maxsize=64)
def _write_statement(columns: tuple[str, ...]) -> Statement:
    return Statement(update(table).where(*_HELD).values({name: bindparam(name) for name in columns}))


def _job(row: Row) -> Job:
    values = dict(row)
    values["cancel"] = bool(values["cancel"])
    values["outcome"] = orjson.loads(values["outcome"]) if values["outcome"] else None
    return Job(**values)


def enqueue(tx: Transaction, job: Job) -> Job:
    """Adds a job to the queue."""
    values = {**vars(job), "outcome": orjson.dumps(job.outcome) if job.outcome else None}
    tx.insert(_INSERT, (*map(values.__getitem__, _COLUMNS), job.resource))
    events.record(tx, job.id, f"job.{job.kind}", None, job.step)
    return job


def get(tx: Transaction, id: str) -> Job | None:
    """One job."""
    row = tx.row(_GET, {"id": id})
    return None if row is None else _job(row)


def of_resource(tx: Transaction, resource: str) -> list[Job]:
    """All jobs that ever worked on a resource, oldest first."""
    return [_job(row) for row in tx.rows(_OF_RESOURCE, {"of": resource})]


def claim(tx: Transaction, worker: str) -> Job | None:
    """Takes the oldest waiting job, or one whose worker stopped renewing its lease."""
    now = {"now": names.now()}
    return _take(tx, tx.row(_LAPSED, now) or tx.row(_QUEUED, now), worker)


def claim_called_off(tx: Transaction, worker: str) -> Job | None:
    """Takes a job that was cancelled while it waited, however long it would have waited still."""
    return _take(tx, tx.row(_CALLED_OFF), worker)


def _take(tx: Transaction, row: Row | None, worker: str) -> Job | None:
    if row is None:
        return None
    job, now = _job(row), names.now()
    taken = replace(
        job, state="running", worker=worker, attempt=job.attempt + 1, lease=now + LEASE_SECONDS, progress=None
    )
    changed = {name: getattr(taken, name) for name in ("state", "worker", "attempt", "lease", "progress")}
    tx.execute(_CLAIM, {**changed, "updated": now, "job_id": job.id})
    events.record(tx, job.id, f"job.{job.kind}", job.state, f"attempt {taken.attempt} at {job.step}")
    return taken


def _write(tx: Transaction, job: Job, **values: Any) -> None:
    values["updated"] = names.now()
    held = {"job_id": job.id, "job_attempt": job.attempt, "job_worker": job.worker}
    if tx.execute(_write_statement(tuple(values)), {**values, **held}) != 1:
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
    return [_job(row) for row in tx.rows(_ALL)]


def any_waiting(tx: Transaction) -> bool:
    """Whether `claim` would find something."""
    now = {"now": names.now()}
    return tx.row(_QUEUED, now) is not None or tx.row(_LAPSED, now) is not None


def any_called_off(tx: Transaction) -> bool:
    """Whether `claim_called_off` would find something."""
    return tx.row(_CALLED_OFF) is not None


def retry(tx: Transaction, job: Job, seconds: float) -> None:
    """The job failed through a fault of ours: it is tried again after `seconds`, and the attempts count."""
    _write(tx, job, state="queued", lease=names.now() + seconds, progress=None)
    events.record(tx, job.id, f"job.{job.kind}", "running", "queued")


def put_back(tx: Transaction, job: Job, seconds: float) -> None:
    """The job waits for `seconds` before anybody may claim it again."""
    _write(tx, job, state="queued", lease=names.now() + seconds, attempt=0, progress=None)
    events.record(tx, job.id, f"job.{job.kind}", "running", "queued")


def request_cancel(tx: Transaction, resource: str) -> bool:
    """Asks the worker to cancel what runs for a resource; False when it is too late for that."""
    return tx.execute(_REQUEST_CANCEL, {"of": resource, "updated": names.now()}) > 0


def cancel_requested(tx: Transaction, job: Job) -> bool:
    """Whether somebody has asked to cancel the job."""
    return bool(tx.value(_CANCEL, {"id": job.id}))
