"""The client's side of one run, whatever serves it: tables registered, the query asked, its rows written.

Knows Spark Connect through `connect` and files through `writer`; must not know where the server runs.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from passbox.analysis.plan import ApprovedPlan
from passbox.backends.engines import connect, writer
from passbox.backends.engines.base import TableFiles, Target
from passbox.errors import JobFailed

if TYPE_CHECKING:
    import pyarrow as pa

# How often members hear of a query that runs on.
PROGRESS_SECONDS = 2.0
DISK_SHARE = 0.5  # of the free disk, what one result may fill


class Attempt:
    """The client's side of one run; a failure leaves it as a JobFailed that has not looked at the server."""

    def __init__(
        self,
        plan: ApprovedPlan,
        tables: Mapping[str, TableFiles],
        targets: Sequence[Target],
        options: writer.Options,
        progress: Callable[[str], None],
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self._properties = properties or {}
        self._plan, self._tables = plan, tables
        self._targets, self._options = targets, options
        self._progress = progress

    def run(
        self, session: connect.Session, places: Mapping[str, Sequence[str]]
    ) -> tuple[writer.Counted, float]:
        """What was written, and when (monotonic seconds) the server had answered its first call.

        places: table → where the server sees its files, or their one folder
        """
        phase = "start"
        try:
            session.prepare(self._properties)
            ready = time.monotonic()
            phase = "analysis"
            for name in self._plan.tables:
                session.register(name, self._tables[name], self._plan.columns[name], places[name])
            self._progress("running the query")
            schema, batches = session.query(self._plan)
            for target in self._targets:
                writer.check(schema, target.format)
            phase = "execution"
            results = [self._parts(target, schema) for target in self._targets]
            return writer.fill(self._told(batches), results), ready
        except JobFailed:
            raise
        except Exception as error:
            raise connect.refusal(error, phase) from error

    def _parts(self, target: Target, schema: "pa.Schema") -> writer.Parts:
        options = replace(self._options, file_bytes=None) if target.single_file else self._options
        return writer.Parts(schema, target.directory, target.format, options)

    def _told(self, batches: Iterator["pa.RecordBatch"]) -> Iterator["pa.RecordBatch"]:
        """The batches, with a word of progress now and then, as long as the disk can spare them."""
        rows, due, size = 0, time.monotonic() + PROGRESS_SECONDS, 0
        free = shutil.disk_usage(self._targets[0].directory).free
        most = int(free * DISK_SHARE / len(self._targets))
        for batch in batches:
            size += batch.nbytes
            if size > most:
                raise JobFailed(
                    "INSUFFICIENT_COMPUTE",
                    f"The result is larger than the {most / 1e9:.1f} GB that the disk spares; select less.",
                )
            yield batch
            rows += batch.num_rows
            if time.monotonic() >= due:
                self._progress(f"running the query: {rows:,} rows written")
                due = time.monotonic() + PROGRESS_SECONDS
