"""The contract of an engine: it runs an ApprovedPlan over files and hands back Arrow record batches.

1. An engine accepts an ApprovedPlan and nothing else, and runs exactly `plan.sql` with `plan.parameters`
   bound.
2. It sees the files of the plan's tables and no others; of each table only the columns in `plan.columns`.
3. The answer is Spark's. Where an engine cannot give Spark's answer it refuses.
4. `run` runs the query once and writes its rows with `passbox.backends.engines.writer` into every target; it
   counts rows, files and bytes.
5. It raises JobFailed with a code of ProtectedQueryErrorCode (MALFORMED_QUERY, INSUFFICIENT_COMPUTE,
   INTERNAL_ERROR, …) or TIMED_OUT, and a message without values of anybody's data.
6. When `run` returns or raises, no process of the engine is left.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from passbox.analysis.plan import ApprovedPlan, Column


@dataclass(frozen=True)
class Form:
    """How the fields of CSV files are written.

    quote:   around fields; NO_QUOTE where there is no such sign
    escape:  before a quote inside quotes; the quote itself where it is doubled
    header:  whether every file begins with a row of names
    null:    a text that means null, beside the empty field; where there is one, a value that does not fit its
             column's type is null too, as in Hive
    """

    delimiter: str = ","
    quote: str = '"'
    escape: str = '"'
    header: bool = True
    null: str | None = None


NO_QUOTE = "\0"


@dataclass(frozen=True)
class TableFiles:
    """Where a table's rows lie.

    files:      all of one format, and all compressed (`.gz`) or none; `json` is one object a line
    columns:    all columns of the files, with Spark types; those of CSV in their order
    form:       how CSV is written
    folder:     holds these files and nothing else, where they were laid below one; else None
    partitions: columns whose values are not in the files but in the names of the folders between `folder` and
                a file, one folder each, as `passbox.backends.engines.tables` names them
    buckets:    the S3 buckets that it was copied from, to which no results may go
    """

    files: tuple[Path, ...]
    format: Literal["parquet", "csv", "json"]
    columns: tuple[Column, ...]
    form: Form = Form()
    folder: Path | None = None
    partitions: tuple[Column, ...] = ()
    buckets: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Resources:
    """What a run may use. properties: of Spark's session, for this run alone; none without a Spark."""

    memory_bytes: int
    cpus: float
    seconds: float
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """Where rows go and how: into an existing, empty directory. single_file: one file, however large."""

    directory: Path
    format: Literal["csv", "parquet"]
    single_file: bool = False


@dataclass(frozen=True)
class Written:
    """What a run wrote and used.

    rows exclude CSV headers and count once; files and bytes are those of all targets
    start_seconds: until the engine answers; seconds: the query, its files included
    cpu_seconds, peak_memory_bytes: of the sealed engine over its whole life, where the runtime measures them
    """

    rows: int
    files: int
    bytes: int
    start_seconds: float
    seconds: float
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None


class Engine(Protocol):
    """A way to run SQL. name: whose answers the gate must know it to give."""

    @property
    def name(self) -> Literal["sail", "spark"]: ...

    def run(
        self,
        plan: ApprovedPlan,
        tables: Mapping[str, TableFiles],
        targets: Sequence[Target],
        resources: Resources,
        scratch: Path,
        progress: Callable[[str], None] = lambda _: None,
    ) -> Written:
        """Runs the plan into every target. scratch: an empty directory of the job's own."""
