"""Submitting work and calling it off: in the same transaction as the resource, never apart from it.

One submission is the resource's row, a reservation for each cost type (payer resolved and stored), a use of
each table that the work draws on, and the queue's row: all of them or none.
"""

from collections.abc import Iterable
from typing import NamedTuple

from passbox import names
from passbox.access.call import Call
from passbox.errors import ConflictException
from passbox.ledger import book, budgets
from passbox.state import jobs, resources, statuses
from passbox.state.database import Transaction
from passbox.state.jobs import Job
from passbox.state.resources import Resource

WORKING = ("ml_input_channel", "trained_model", "trained_model_inference_job", "trained_model_export_job")
# of every kind of WORKING
IN_PROGRESS = statuses.OF["trained_model"].in_progress
UNDER_WAY = statuses.OF["trained_model"].under_way


class Cost(NamedTuple):
    """What a submission is expected to cost, and whom.

    quantity: milli-units of the cost type's unit. basis: how the estimate came about, for people.
    """

    cost_type: str
    payer: str
    quantity: int
    basis: str


def sources(*rows: Resource) -> list[str]:
    """The ids of the table associations that channels, or models, derive from."""
    return list(dict.fromkeys(source for row in rows for source in row.body["sources"]))


def submit(call: Call, resource: Resource, kind: str, *costs: Cost, tables: Iterable[str] = ()) -> Job:
    """Queues a job of `kind` for a resource that is stored already; each cost becomes a reservation, and so
    does one use of each of `tables`, the ids of the table associations that it draws on.
    """
    job = jobs.enqueue(
        call.tx,
        Job(
            id=names.new_job_id(),
            kind=kind,
            resource=resource.id,
            collaboration=resource.collaboration or "",
            account=resource.account,
            step="approve",
        ),
    )
    budgets.reserve(call.tx, job=job.id, collaboration=job.collaboration, associations=tables)
    for cost in costs:
        reservation = book.reserve(
            call.tx,
            job=job.id,
            collaboration=job.collaboration,
            payer=cost.payer,
            cost_type=cost.cost_type,
            quantity=cost.quantity,
            price=call.room.rates.price(cost.cost_type, names.now()),
        )
        call.reserved.append((reservation, cost.basis))
    return job


def cancel(tx: Transaction, resource: Resource) -> None:
    """Asks the worker to cancel a resource's job."""
    own = statuses.OF[resource.kind]
    if resource.status not in own.in_progress:
        raise ConflictException(
            f"It is {resource.status}; only work that is pending or in progress can be cancelled."
        )
    if not jobs.request_cancel(tx, resource.id):
        raise ConflictException(
            "It is finished but for the delivery of its results; it cannot be cancelled any more."
        )
    resources.change(tx, resource, status=own.called_off)


def progress(tx: Transaction, resource: Resource) -> dict[str, dict[str, str]]:
    """How far a resource's job is, as its statusDetails while it is under way; and at rest, that it ran with
    less than a full seal, or on less than it asked for.
    """
    if resource.status not in IN_PROGRESS:
        return _less(resource)
    under_way = [job for job in jobs.of_resource(tx, resource.id) if job.state != "ended"]
    message = under_way[-1].progress if under_way else None
    return {"statusDetails": {"statusCode": "IN_PROGRESS", "message": message or "waiting for a worker"}}


def _less(resource: Resource) -> dict[str, dict[str, str]]:
    isolation, scaled = resource.body.get("isolation", "sealed"), resource.body.get("scaled")
    if "statusDetails" in resource.body or (isolation == "sealed" and not scaled):
        return {}
    if isolation == "sealed":
        return {"statusDetails": {"statusCode": "INSTANCE_SCALED", "message": str(scaled)}}
    sentence = {
        "none": "It ran without a sandbox (--unsafe-no-sandbox).",
        "degraded": "It ran in a sandbox without hard limits on memory and processes.",
    }[isolation]
    message = " ".join(filter(None, (sentence, scaled)))
    return {"statusDetails": {"statusCode": f"ISOLATION_{isolation.upper()}", "message": message}}


def end_work(tx: Transaction, membership: Resource) -> None:
    """Asks to cancel everything that runs under a membership, because the membership ends."""
    for kind in (*WORKING, "protected_query", "protected_job"):
        in_progress = statuses.OF[kind].in_progress
        for row in resources.find(tx, kind, statuses=in_progress, membership=membership.id):
            jobs.request_cancel(tx, row.id)
