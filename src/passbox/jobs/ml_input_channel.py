"""ML input channels: the approved query runs over the members' tables and its rows stay in the room."""

from dataclasses import dataclass
from typing import Literal, cast

from passbox.analysis import Purpose
from passbox.backends.engines.base import Target
from passbox.errors import JobFailed
from passbox.jobs import query
from passbox.jobs.kind import Result, Tools, Workspace
from passbox.jobs.query import Query
from passbox.ledger import prices
from passbox.state import resources
from passbox.state.database import Transaction
from passbox.state.resources import Resource

GIGABYTE = 1_000_000_000


@dataclass(frozen=True)
class Plan:
    """The query that may run, and how its rows are kept."""

    query: Query
    format: Literal["csv", "parquet"]


def plan(tx: Transaction, resource: Resource, tools: Tools) -> Plan:
    """Asks the gate again, with the rules as they are now."""
    body = resource.body
    source = body["inputChannel"]["dataSource"]["protectedQueryInputParameters"]
    [association] = body["configuredModelAlgorithmAssociations"]
    if resources.first(tx, "configured_model_algorithm_association", arn=association) is None:
        raise JobFailed("INVALID_RESOURCE", "The configured model algorithm association is gone.")
    purpose = Purpose(runner=resource.account, additional_analysis=association, engine=tools.engine.name)
    prepared = query.prepare(tx, resource, source["sqlParameters"], body["workers"], purpose)
    return Plan(prepared, cast(Literal["csv", "parquet"], source.get("resultFormat", "CSV").lower()))


def run(plan: Plan, workspace: Workspace, tools: Tools) -> Result:
    """Runs the query in the sealed engine."""
    data = workspace.directory("data")
    ran = query.run(plan.query, [Target(data, plan.format)], workspace, tools)
    return Result(
        fields={
            "numberOfRecords": ran.written.rows,
            "numberOfFiles": float(ran.written.files),
            "sizeInGb": ran.written.bytes / GIGABYTE,
            "isolation": tools.isolation.value,
            "usage": ran.usage,
        },
        measured={prices.QUERY_COMPUTE: ran.billed},
        kept=data,
    )
