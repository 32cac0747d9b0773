"""Helpers of the engines' exam: tables on disk, plans past the gate or around it, what a run wrote."""

import dataclasses
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet

from passbox.analysis import ApprovedPlan, Purpose, Table, approve
from passbox.analysis.plan import _KEY, Column
from passbox.backends.catalogs import sniff
from passbox.backends.engines.base import Resources, TableFiles, Target
from passbox.backends.engines.sail import Sail
from passbox.backends.runtimes.base import Runtime, Sandbox, SandboxSpec

US = "111111111111"
RULE = {
    "allowedAnalyses": ["ANY_QUERY"],
    "allowedAnalysisProviders": [US],
    "additionalAnalyses": "ALLOWED",
}


class Marked:
    """A runtime that marks its processes' command lines, and may change their environment."""

    def __init__(self, runtime: Runtime, **environment: str) -> None:
        self.runtime = runtime
        self.environment = environment
        self.mark = uuid.uuid4().hex
        self.started: list[Sandbox] = []
        self.specs: list[SandboxSpec] = []

    def start(self, spec: SandboxSpec) -> Sandbox:
        changed = dataclasses.replace(
            spec,
            arguments=(*spec.arguments, self.mark),
            environment={**spec.environment, **self.environment},
        )
        self.specs.append(changed)
        self.started.append(self.runtime.start(changed))
        return self.started[-1]


class Exam:
    """Tables and runs under one directory."""

    def __init__(self, runtime: Runtime, directory: Path) -> None:
        self.directory = directory
        self.runtime = Marked(runtime)
        self.tables: dict[str, TableFiles] = {}
        self.said: list[str] = []

    def parquet(self, name: str, *files: pa.Table, columns: Mapping[str, str] | None = None) -> None:
        """A table of Parquet files that only the service may read, as accounts' files often are."""
        paths = [self._path(name, f"{number}.parquet") for number in range(len(files))]
        for path, content in zip(paths, files, strict=True):
            parquet.write_table(content, path)
            path.chmod(0o600)
        self._add(name, paths, "parquet", columns)

    def csv(self, name: str, text: str, columns: Mapping[str, str] | None = None) -> None:
        path = self._path(name, "0.csv")
        path.write_text(text)
        self._add(name, [path], "csv", columns)

    def _path(self, name: str, file: str) -> Path:
        folder = self.directory / "tables" / name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder / file

    def _add(self, name: str, paths: list[Path], format: Any, columns: Mapping[str, str] | None) -> None:
        found = [Column(*item) for item in columns.items()] if columns else sniff.columns(paths, format)
        self.tables[name] = TableFiles(tuple(paths), format, tuple(found))

    def approved(self, sql: str, **parameters: str) -> ApprovedPlan:
        receivers = {"allowedResultReceivers": [US]}
        tables = {
            n: Table(n, US, (*t.columns, *t.partitions), "CUSTOM", RULE, receivers)
            for n, t in self.tables.items()
        }
        return approve(sql, parameters, tables, Purpose(US, receivers=(US,)))

    def hostile(self, sql: str, columns: Mapping[str, tuple[str, ...]]) -> ApprovedPlan:
        """A plan that no gate has seen."""
        return ApprovedPlan(sql, {}, tuple(sorted(columns)), columns, (), key=_KEY)

    def run(self, plan: ApprovedPlan, format: Any = "parquet", **resources: Any) -> Any:
        """Written and the files, in order."""
        run = self.directory / uuid.uuid4().hex
        for part in ("out", "scratch"):
            (run / part).mkdir(parents=True)
        given = Resources(**{"memory_bytes": 1 << 30, "cpus": 2.0, "seconds": 60.0, **resources})
        written = Sail(self.runtime).run(
            plan,
            {name: self.tables[name] for name in plan.tables},
            [Target(run / "out", format)],
            given,
            run / "scratch",
            self.said.append,
        )
        assert not list((run / "scratch").iterdir()), "a run leaves nothing in its scratch directory"
        return written, sorted((run / "out").iterdir())

    def rows(self, sql: str, **parameters: str) -> list[dict[str, Any]]:
        """The answer to an approved query."""
        _, files = self.run(self.approved(sql, **parameters))
        return [row for file in files for row in parquet.read_table(file).to_pylist()]

    def text(self, sql: str) -> str:
        """The answer to an approved query as one CSV file."""
        _, files = self.run(self.approved(sql), "csv")
        return "".join(file.read_text() for file in files)


def read_csv(path: Path) -> pa.Table:
    return arrow_csv.read_csv(path)
