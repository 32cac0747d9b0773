"""A Spark Connect server beyond this machine: `sc://host:port`, run by the operator, never stopped by us.

Every run has a session of its own on it, whose views end with it. The rows come back as an Arrow stream and
go to files by our own `writer`. Spark reads the members' files by the same paths as the worker, so both must
see one file system. Spark has no sandbox: whoever can reach its port can read what it can, so the port is the
operator's to guard. Plaintext; a Spark that is not on this machine belongs behind a tunnel.

Spark sets memory and cores when it starts, so of what a run may use only the time is kept here, and the
properties that a session can set.
"""

import contextlib
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from passbox.analysis.plan import ApprovedPlan
from passbox.backends.engines import connect, writer
from passbox.backends.engines.attempt import Attempt
from passbox.backends.engines.base import Resources, TableFiles, Target, Written
from passbox.backends.engines.tables import quoted
from passbox.errors import JobFailed, Misconfigured

CONNECT_SECONDS = 10.0


class Spark:
    """Runs plans on the server at `remote`."""

    name: Literal["sail", "spark"] = "spark"

    def __init__(self, remote: str, options: writer.Options | None = None) -> None:
        self._address = _address(remote)
        self._options = options or writer.Options()

    def run(
        self,
        plan: ApprovedPlan,
        tables: Mapping[str, TableFiles],
        targets: Sequence[Target],
        resources: Resources,
        scratch: Path,  # noqa: ARG002 - nothing of a run lies here
        progress: Callable[[str], None] = lambda _: None,
    ) -> Written:
        """Runs the plan; the contract is in `base`."""
        if set(plan.tables) != set(tables):
            raise ValueError("the files given are not those of the plan's tables")
        progress("reaching the query engine")
        begun = time.monotonic()
        stream = self._reach()
        session = connect.Session(stream, quote=quoted)
        late = threading.Event()
        timer = threading.Timer(resources.seconds, _end, (stream, late))
        timer.start()
        try:
            attempt = Attempt(plan, tables, targets, self._options, progress, resources.properties)
            counted, ready = attempt.run(session, {name: _places(tables[name]) for name in plan.tables})
            seconds = time.monotonic() - ready
        except Exception as error:
            if late.is_set():
                message = f"The query ran longer than the {resources.seconds:g} s that it was given."
                raise JobFailed("TIMED_OUT", message, detail=str(error)) from error
            raise
        finally:
            timer.cancel()
            session.close()
            self._release(session)
        return Written(counted.rows, counted.files, counted.bytes, ready - begun, seconds)

    def _reach(self) -> socket.socket:
        try:
            stream = socket.create_connection(self._address, CONNECT_SECONDS)
        except OSError as error:
            host, port = self._address
            raise JobFailed(
                "INTERNAL_ERROR", "The query engine cannot be reached.", detail=f"sc://{host}:{port}: {error}"
            ) from error
        stream.settimeout(None)
        return stream

    def _release(self, session: connect.Session) -> None:
        """Ends whatever the session still runs, and the session, by a connection of its own."""
        with contextlib.suppress(Exception):  # the session ends by itself after a while
            session.release(self._reach())


def _end(stream: socket.socket, late: threading.Event) -> None:
    late.set()
    with contextlib.suppress(OSError):
        stream.shutdown(socket.SHUT_RDWR)


def _places(table: TableFiles) -> list[str]:
    return [str(path) for path in (table.files if table.folder is None else (table.folder,))]


def _address(remote: str) -> tuple[str, int]:
    parts = urllib.parse.urlsplit(remote)
    if parts.scheme != "sc" or not parts.hostname or parts.path.strip("/") or parts.query:
        raise Misconfigured(f"PASSBOX_SPARK_REMOTE is {remote!r}; it must be sc://host:port.")
    return parts.hostname, parts.port or 15002
