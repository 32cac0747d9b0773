"""Running an approved query over the members' tables: what a channel and a protected query have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from passbox.analysis import ApprovedPlan, Purpose, spark_properties
from passbox.analysis.bounded import Bounded
from passbox.analysis.spark_properties import PropertyRefused
from passbox.backends.engines.base import Resources, Target, Written
from passbox.disclosure import noise
from passbox.errors import JobFailed, QueryRefused
from passbox.jobs import private
from passbox.jobs.kind import Tools, Workspace
from passbox.jobs.sources import Source, fetched, lie_in, sources
from passbox.ledger import prices
from passbox.state import questions, schemas
from passbox.state.database import Transaction
from passbox.state.resources import Resource

LONGEST_SECONDS = 12 * 3600  # as documented for protected queries
UNSAID = (
    "The query under differential privacy failed. What it ran out of is not told, because that can hang on a "
    "single row; the operator sees it."
)


@dataclass(frozen=True)
class Query:
    """What may run, the tables it reads, and the type and number of the workers it was asked to run on.

    properties: of Spark, that the request names
    epsilon: what each measure of a query under differential privacy may cost, in millionths
    """

    approved: ApprovedPlan
    tables: dict[str, Source]
    workers: str
    number: int
    properties: Mapping[str, str]
    epsilon: int = 0


def prepare(
    tx: Transaction,
    resource: Resource,
    sql: Mapping[str, Any],
    worker: Mapping[str, Any],
    purpose: Purpose,
) -> Query:
    """Asks the gate again, with the rules as they are now, and where the tables it approved lie.

    resource: what the query is run for; its `sources` are the tables whose uses were reserved
    """
    collaboration = resource.collaboration or ""
    question = questions.question(tx, collaboration, sql, purpose)
    if question is None:
        raise JobFailed("RESOURCE_NOT_FOUND", "The analysis template is not there any more.")
    try:
        approved = question.approve()
    except QueryRefused as refusal:
        raise JobFailed("MALFORMED_QUERY", refusal.explained()) from refusal
    associations = schemas.named(tx, collaboration, approved.tables)
    if [association.id for association in associations] != resource.body["sources"]:
        raise JobFailed(
            "INVALID_RESOURCE",
            "A table of the query was brought anew after the query was submitted; submit it again.",
        )
    epsilon = _epsilon(approved, resource)
    properties = worker.get("properties", {}).get("spark", {})
    tables = sources(tx, associations)
    return Query(approved, tables, worker["type"], worker["number"], properties, epsilon)


def _epsilon(approved: ApprovedPlan, resource: Resource) -> int:
    """What each measure may cost; asked before anything is read, and with what was reserved."""
    if approved.privacy is None:
        return 0
    noise.check()
    reserved = resource.body.get("epsilon")
    if reserved is None or reserved["measures"] != len(approved.privacy.sensitivities):
        raise JobFailed(
            "INVALID_RESOURCE",
            "The differential privacy of a table of the query was changed after the query was submitted; "
            "submit it again.",
        )
    return int(reserved["each"])


@dataclass(frozen=True)
class Ran:
    """What a run wrote, the milli-CRPU-seconds that it is billed, and what it used, for the record.

    sources: the buckets that its tables lie in
    """

    written: Written
    billed: int
    usage: Mapping[str, Any]
    sources: frozenset[str]


def run(
    query: Query,
    targets: Sequence[Target],
    workspace: Workspace,
    tools: Tools,
) -> Ran:
    """Runs the query once, in the sealed engine, into every target.

    Under differential privacy the engine's own result goes to none of them, only what noise leaves of it.
    """
    privacy = query.approved.privacy
    if privacy is not None:
        try:
            written, lying = _noisy(privacy, query, targets, workspace, tools)
        except JobFailed as failed:
            # which resource ran out, or which file could not be read, can hang on a single row
            raise JobFailed(
                "INSUFFICIENT_COMPUTE", UNSAID, detail=f"{failed.code}: {failed.detail or failed.message}"
            ) from failed
        # the least that any query costs: its time can hang on a single row
        return Ran(written, prices.crpu_milliseconds(query.workers, query.number, 0), {}, lying)
    written, lying = _written(query, targets, workspace, tools)
    seconds = written.start_seconds + written.seconds
    usage = {
        "engineStartSeconds": round(written.start_seconds, 3),
        "querySeconds": round(written.seconds, 3),
        "cpuSeconds": written.cpu_seconds,
    }
    return Ran(written, prices.crpu_milliseconds(query.workers, query.number, seconds), usage, lying)


def _noisy(
    privacy: Bounded,
    query: Query,
    targets: Sequence[Target],
    workspace: Workspace,
    tools: Tools,
) -> tuple[Written, frozenset[str]]:
    """Exact integers from the engine, then their noisy values in every target; nobody hears of progress."""
    silent = Workspace(workspace.path, lambda _: None)
    exact = silent.directory("exact")
    written, lying = _written(query, [Target(exact, "parquet")], silent, tools)
    return private.tell(privacy, exact, targets, query.epsilon, written), lying


def _written(
    query: Query,
    targets: Sequence[Target],
    workspace: Workspace,
    tools: Tools,
) -> tuple[Written, frozenset[str]]:
    machine, properties = tools.machine, _session(query, tools)
    with fetched(query.tables, query.approved.columns, workspace, tools) as tables:
        written = tools.engine.run(
            query.approved,
            tables,
            targets,
            Resources(machine.memory_bytes, machine.cpus, LONGEST_SECONDS, properties),
            workspace.directory("engine"),
            workspace.progress,
        )
        return written, lie_in(tables)


def _session(query: Query, tools: Tools) -> Mapping[str, str]:
    """What the engine's session sets; asked again, because the operator may have changed the engine since."""
    try:
        return spark_properties.session(query.properties, tools.engine.name, query.workers, query.number)
    except PropertyRefused as refused:
        raise JobFailed("INVALID_RESOURCE", f"A Spark property of the request: {refused}") from refused
