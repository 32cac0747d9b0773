"""Where a query's tables lie, and their files for as long as it runs.

A table is read in the role of its association. Why one cannot be read is its owner's to know: members are
told which table, and the rest is in the operator's log.
"""

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from passbox.backends import trees
from passbox.backends.engines.base import TableFiles
from passbox.errors import JobFailed, PassboxError
from passbox.jobs.kind import Tools, Workspace
from passbox.names import Role
from passbox.state import resources
from passbox.state.database import Transaction
from passbox.state.resources import Resource

DISK_SHARE = 0.5  # of the free disk, what copies of one query's tables may fill

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Source:
    """A table of one account. reference: a modelled tableReference; role: that of its association."""

    account: str
    reference: Mapping[str, Any]
    role: Role


def sources(tx: Transaction, associations: Iterable[Resource]) -> dict[str, Source]:
    """Association name → where its table is to be looked for."""
    found: dict[str, Source] = {}
    for one in associations:
        configured = resources.require(tx, "configured_table", one.parent or "")
        membership = resources.require(tx, "membership", one.membership or "")
        role = Role(one.body["roleArn"], membership.arn)
        found[one.name or ""] = Source(one.account, configured.body["tableReference"], role)
    return found


@contextlib.contextmanager
def fetched(
    wanted: Mapping[str, Source],
    columns: Mapping[str, Iterable[str]],
    workspace: Workspace,
    tools: Tools,
) -> Iterator[dict[str, TableFiles]]:
    """The files of the wanted tables, which must have these columns; what was copied is gone afterwards."""
    directory = workspace.directory("tables")
    left = int(shutil.disk_usage(directory).free * DISK_SHARE)
    found: dict[str, TableFiles] = {}
    try:
        for number, (name, source) in enumerate(wanted.items()):
            workspace.progress(f"reading the table {name}")
            into = workspace.directory(f"tables/{number}")
            found[name] = _fetch(name, source, into, left, tools)
            left -= _size(into)
            _check_columns(name, found[name], columns[name])
        yield found
    finally:
        trees.remove(directory)


def _fetch(name: str, source: Source, into: Path, most: int, tools: Tools) -> TableFiles:
    try:
        return tools.catalog.fetch(source.account, source.reference, source.role, into, most)
    except JobFailed:
        raise
    except PassboxError as error:
        _log.warning("table.unreadable", table=name, reason=error.message, detail=error.detail)
        raise JobFailed(
            "INVALID_RESOURCE",
            f"The table {name} cannot be read; its owner must look.",
            detail=error.message,
        ) from error


def lie_in(tables: Mapping[str, TableFiles]) -> frozenset[str]:
    """The buckets that hold one of the tables."""
    return frozenset(bucket for table in tables.values() for bucket in table.buckets)


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _check_columns(name: str, table: TableFiles, wanted: Iterable[str]) -> None:
    """The columns were there when the table was configured; its owner may have changed it since."""
    there = {column.name for column in (*table.columns, *table.partitions)}
    if not there.issuperset(wanted):
        raise JobFailed(
            "INVALID_RESOURCE",
            f"The table {name} no longer has all of its allowed columns; its owner must look.",
            detail=f"missing: {', '.join(sorted(set(wanted) - there))}",
        )
