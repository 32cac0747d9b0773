"""Protected queries: the approved query runs over the members' tables and its result goes to its receivers.

The query runs once, whatever the receivers' formats are, so that all of them receive the same rows.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from passbox.analysis import Purpose
from passbox.backends.engines.base import Target
from passbox.jobs import query, standing
from passbox.jobs.kind import Delivery, Result, Tools, Workspace
from passbox.jobs.query import Query
from passbox.ledger import prices
from passbox.names import Role
from passbox.state import receivers
from passbox.state.database import Transaction
from passbox.state.receivers import Receiver
from passbox.state.resources import Resource

_CRPU_HOUR = 3_600 * 1_000  # in milli-CRPU-seconds


@dataclass(frozen=True)
class Form:
    """How a result is written; receivers that want the same share the files."""

    format: Literal["csv", "parquet"]
    single_file: bool


@dataclass(frozen=True)
class Plan:
    """The query that may run, and who receives what where. places: (account, s3 address, its role, form)"""

    query: Query
    places: tuple[tuple[str, str, Role | None, Form], ...]


def plan(tx: Transaction, resource: Resource, tools: Tools) -> Plan:
    """Asks the receivers and the gate again, as they are now."""
    body, collaboration = resource.body, resource.collaboration or ""
    configuration = body["resultConfiguration"]["outputConfiguration"]
    found = receivers.receivers(tx, collaboration, resource.account, configuration)
    accounts = tuple(one.account for one in found)
    purpose = Purpose(runner=resource.account, receivers=accounts, engine=tools.engine.name)
    worker = body["computeConfiguration"]["worker"]
    return Plan(
        places=tuple(_place(one, resource.id, tools) for one in found),
        query=query.prepare(tx, resource, body["sqlParameters"], worker, purpose),
    )


def _place(receiver: Receiver, id: str, tools: Tools) -> tuple[str, str, Role | None, Form]:
    account, uri, role = standing.place(receiver, id, tools)
    location = receiver.location or {}
    format = cast(Literal["csv", "parquet"], location["resultFormat"].lower())
    return account, uri, role, Form(format, location.get("singleFileOutput", False))


def run(plan: Plan, workspace: Workspace, tools: Tools) -> Result:
    """Runs the query in the sealed engine, once for all forms."""
    folders: dict[Form, Path] = {}
    for *_, form in plan.places:
        if form not in folders:
            folders[form] = workspace.directory(f"result-{len(folders)}")
    targets = [Target(folder, form.format, form.single_file) for form, folder in folders.items()]
    ran = query.run(plan.query, targets, workspace, tools)
    return Result(
        fields={
            "billed": ran.billed / _CRPU_HOUR,
            "isolation": tools.isolation.value,
            "usage": ran.usage,
        },
        measured={prices.QUERY_COMPUTE: ran.billed},
        deliveries=tuple(
            Delivery(
                account,
                uri,
                role,
                {path.name: path for path in folders[form].iterdir()},
                closed=uri.split("/")[2] in ran.sources,
            )
            for account, uri, role, form in plan.places
        ),
    )
