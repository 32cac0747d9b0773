"""ML input channels: the approved query runs over the members' tables and its rows stay in the room."""

from dataclasses import dataclass
from typing import Literal, cast

from passbox.analysis import ApprovedPlan, Purpose, approve
from passbox.backends.engines.base import Resources, TableFiles
from passbox.errors import JobFailed, PassboxError, QueryRefused
from passbox.jobs.kind import Result, Tools, Workspace
from passbox.ledger import prices
from passbox.state import resources, schemas
from passbox.state.database import Transaction
from passbox.state.resources import Resource

LONGEST_SECONDS = 12 * 3600  # as documented for protected queries
GIGABYTE = 1_000_000_000


@dataclass(frozen=True)
class Plan:
    """The query that may run, the files it reads, and the workers it was asked to run on."""

    query: ApprovedPlan
    tables: dict[str, TableFiles]
    format: Literal["csv", "parquet"]
    workers: str
    number: int


def plan(tx: Transaction, resource: Resource, tools: Tools) -> Plan:
    """Asks the gate again, with the rules as they are now, and finds the files of the tables it approved."""
    source = resource.body["inputChannel"]["dataSource"]["protectedQueryInputParameters"]
    [association] = resource.body["configuredModelAlgorithmAssociations"]
    if resources.first(tx, "configured_model_algorithm_association", arn=association) is None:
        raise JobFailed("INVALID_RESOURCE", "The configured model algorithm association is gone.")
    sql = source["sqlParameters"]
    collaboration = resource.collaboration or ""
    purpose = Purpose(runner=resource.account, additional_analysis=association)
    try:
        query = approve(
            sql["queryString"], sql.get("parameters", {}), schemas.tables(tx, collaboration), purpose
        )
    except QueryRefused as refusal:
        raise JobFailed("MALFORMED_QUERY", f"{refusal.rule}: {refusal.message}") from refusal
    return Plan(
        query=query,
        tables=_files(tx, collaboration, query, tools),
        format=cast(Literal["csv", "parquet"], source.get("resultFormat", "CSV").lower()),
        workers=resource.body["workers"]["type"],
        number=resource.body["workers"]["number"],
    )


def _files(tx: Transaction, collaboration: str, query: ApprovedPlan, tools: Tools) -> dict[str, TableFiles]:
    found: dict[str, TableFiles] = {}
    for association in schemas.associations(tx, collaboration):
        if association.name not in query.tables:
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


def run(plan: Plan, workspace: Workspace, tools: Tools) -> Result:
    """Runs the query in the sealed engine."""
    data = workspace.directory("data")
    written = tools.engine.run(
        plan.query,
        plan.tables,
        data,
        plan.format,
        Resources(tools.machine.memory_bytes, tools.machine.cpus, LONGEST_SECONDS),
        workspace.directory("engine"),
        workspace.progress,
    )
    seconds = written.start_seconds + written.seconds
    return Result(
        fields={
            "numberOfRecords": written.rows,
            "numberOfFiles": float(written.files),
            "sizeInGb": written.bytes / GIGABYTE,
            "isolation": tools.isolation.value,
            "usage": {
                "engineStartSeconds": round(written.start_seconds, 3),
                "querySeconds": round(written.seconds, 3),
                "cpuSeconds": written.cpu_seconds,
            },
        },
        measured={prices.QUERY_COMPUTE: prices.crpu_milliseconds(plan.workers, plan.number, seconds)},
        kept=data,
    )
