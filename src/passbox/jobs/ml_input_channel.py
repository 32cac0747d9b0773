"""ML input channels: the approved query runs over the members' tables, and its rows, or rows that are
generated from them, stay in the room.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from passbox.analysis import Purpose
from passbox.backends.engines.base import Target
from passbox.errors import JobFailed
from passbox.jobs import query, synthetic_data
from passbox.jobs.kind import Result, Tools, Workspace
from passbox.jobs.query import Query
from passbox.jobs.synthetic_data import Synthesis
from passbox.ledger import prices
from passbox.state import resources
from passbox.state.database import Transaction
from passbox.state.resources import Resource

GIGABYTE = 1_000_000_000


@dataclass(frozen=True)
class Plan:
    """The query that may run, how its rows are kept, and whether others are generated in their stead."""

    query: Query
    format: Literal["csv", "parquet"]
    synthesis: Synthesis | None = None


def plan(tx: Transaction, resource: Resource, tools: Tools) -> Plan:
    """Asks the gate again, with the rules as they are now."""
    body = resource.body
    source = body["inputChannel"]["dataSource"]["protectedQueryInputParameters"]
    [association] = body["configuredModelAlgorithmAssociations"]
    if resources.first(tx, "configured_model_algorithm_association", arn=association) is None:
        raise JobFailed("INVALID_RESOURCE", "The configured model algorithm association is gone.")
    purpose = Purpose(runner=resource.account, additional_analysis=association, engine=tools.engine.name)
    prepared = query.prepare(tx, resource, source["sqlParameters"], body["workers"], purpose)
    format = cast(Literal["csv", "parquet"], source.get("resultFormat", "CSV").lower())
    return Plan(prepared, format, _synthesis(body))


def _synthesis(body: Mapping[str, Any]) -> Synthesis | None:
    if "syntheticDataConfiguration" not in body:
        return None
    parameters = body["syntheticDataConfiguration"]["syntheticDataParameters"]
    return Synthesis(parameters, body["syntheticDataDeclaration"])


def run(plan: Plan, workspace: Workspace, tools: Tools) -> Result:
    """Runs the query in the sealed engine, and generates rows from its result where that is asked for."""
    data = workspace.path / "data"
    if plan.synthesis is not None:
        return _generate(plan, plan.synthesis, data, workspace, tools)
    data.mkdir()
    ran = query.run(plan.query, [Target(data, plan.format)], workspace, tools)
    return Result(
        fields={
            **_size(ran.written.rows, ran.written.files, ran.written.bytes),
            "isolation": tools.isolation.value,
            "usage": ran.usage,
        },
        measured={prices.QUERY_COMPUTE: ran.billed},
        kept=data,
    )


def _generate(plan: Plan, synthesis: Synthesis, data: Path, workspace: Workspace, tools: Tools) -> Result:
    exact = workspace.directory("exact")
    ran = query.run(plan.query, [Target(exact, "parquet")], workspace, tools)
    made = synthetic_data.run(synthesis, exact, data, plan.format, workspace, tools)
    return Result(
        fields={
            **(_size(made.rows, made.files, made.bytes) if made.failure is None else {}),
            "syntheticDataConfiguration": {
                "syntheticDataParameters": dict(synthesis.parameters),
                "syntheticDataEvaluationScores": dict(made.scores),
            },
            "isolation": tools.isolation.value,
            "usage": {**ran.usage, **made.usage},
        },
        measured={prices.QUERY_COMPUTE: ran.billed, prices.SYNTHETIC_DATA: made.milli_sdgu},
        kept=data if made.failure is None else None,
        report=made.report,
        failure=made.failure,
    )


def _size(rows: int, files: int, bytes: int) -> dict[str, Any]:
    return {"numberOfRecords": rows, "numberOfFiles": float(files), "sizeInGb": bytes / GIGABYTE}
