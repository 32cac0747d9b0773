"""Running an approved query over the members' tables: what a channel and a protected query have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from passbox.analysis import ApprovedPlan, Purpose
from passbox.backends.engines.base import Resources, TableFiles, Target, Written
from passbox.errors import JobFailed, PassboxError, QueryRefused
from passbox.jobs.kind import Tools, Workspace
from passbox.ledger import prices
from passbox.state import questions, resources, schemas
from passbox.state.database import Transaction

LONGEST_SECONDS = 12 * 3600  # as documented for protected queries


@dataclass(frozen=True)
class Query:
    """What may run, the files it reads, and the type and number of the workers it was asked to run on."""

    approved: ApprovedPlan
    tables: dict[str, TableFiles]
    workers: str
    number: int


def prepare(
    tx: Transaction,
    collaboration: str,
    sql: Mapping[str, Any],
    worker: Mapping[str, Any],
    purpose: Purpose,
    tools: Tools,
) -> Query:
    """Asks the gate again, with the rules as they are now, and finds the files of the tables it approved."""
    question = questions.question(tx, collaboration, sql, purpose)
    if question is None:
        raise JobFailed("RESOURCE_NOT_FOUND", "The analysis template is not there any more.")
    try:
        approved = question.approve()
    except QueryRefused as refusal:
        raise JobFailed("MALFORMED_QUERY", f"{refusal.rule}: {refusal.message}") from refusal
    files = _files(tx, collaboration, approved, tools)
    return Query(approved, files, worker["type"], worker["number"])


def _files(
    tx: Transaction, collaboration: str, approved: ApprovedPlan, tools: Tools
) -> dict[str, TableFiles]:
    found: dict[str, TableFiles] = {}
    for association in schemas.associations(tx, collaboration):
        if association.name not in approved.tables:
            continue
        configured = resources.require(tx, "configured_table", association.parent or "")
        try:
            found[association.name] = tools.catalog.describe(
                association.account, configured.body["tableReference"]
            )
        except PassboxError as error:
            # where a table lies is its owner's to know
            raise JobFailed(
                "INVALID_RESOURCE",
                f"The table {association.name} cannot be read; its owner must look.",
                detail=error.message,
            ) from error
    return found


@dataclass(frozen=True)
class Ran:
    """What a run wrote, the milli-CRPU-seconds that it is billed, and what it used, for the record."""

    written: Written
    billed: int
    usage: Mapping[str, Any]


def run(query: Query, targets: Sequence[Target], workspace: Workspace, tools: Tools) -> Ran:
    """Runs the query once, in the sealed engine, into every target."""
    written = tools.engine.run(
        query.approved,
        query.tables,
        targets,
        Resources(tools.machine.memory_bytes, tools.machine.cpus, LONGEST_SECONDS),
        workspace.directory("engine"),
        workspace.progress,
    )
    seconds = written.start_seconds + written.seconds
    usage = {
        "engineStartSeconds": round(written.start_seconds, 3),
        "querySeconds": round(written.seconds, 3),
        "cpuSeconds": written.cpu_seconds,
    }
    return Ran(written, prices.crpu_milliseconds(query.workers, query.number, seconds), usage)
