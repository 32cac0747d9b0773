"""The embedded engine: Sail (Rust, speaks Spark Connect), one sealed server per run.

The server runs in a sandbox that holds Python, Sail, the files of the plan's tables and nothing else. The
client stays in the calling process and reaches the server through the sandbox's hand-over (`http2`). The
rows come back as an Arrow stream and go to files by our own `writer`. Knows runtimes only by their contract;
must not know accounts, catalogs or rules.

Whoever cancels kills the calling process: the sandbox dies with it.
"""

import json
import math
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from passbox.analysis.plan import ApprovedPlan
from passbox.backends.engines import connect, writer
from passbox.backends.engines.attempt import Attempt
from passbox.backends.engines.base import Resources, TableFiles, Target, Written
from passbox.backends.runtimes.base import Cause, Exit, Limits, Mount, Root, Runtime, Sandbox, SandboxSpec
from passbox.errors import JobFailed

# The server says on its first line which port it got and where it sees the file it is asked about: a runtime
# without a seal has neither a network nor a file system of its own.
SERVER = """\
import json, sys, threading
from pysail.spark import SparkConnectServer
server = SparkConnectServer("127.0.0.1", 0)
server.start(background=True)
print(json.dumps([server.listening_address[1], *sys.argv[1:]]), flush=True)
threading.Event().wait()
"""
START_SECONDS = 30.0
# Of the sandbox's memory, what Sail's operators may reserve; the rest is Python, decoding and what is in
# flight.
POOL_SHARE = 0.6
MIB = 1 << 20


class Sail:
    """Runs plans with Sail, sealed by `runtime`."""

    name: Literal["sail", "spark"] = "sail"

    def __init__(self, runtime: Runtime, options: writer.Options | None = None) -> None:
        self._runtime = runtime
        self._options = options or writer.Options()

    def run(
        self,
        plan: ApprovedPlan,
        tables: Mapping[str, TableFiles],
        targets: Sequence[Target],
        resources: Resources,
        scratch: Path,
        progress: Callable[[str], None] = lambda _: None,
    ) -> Written:
        """Runs the plan; the contract is in `base`. Raises JobFailed, or Misconfigured where nothing can
        seal.
        """
        if set(plan.tables) != set(tables):
            raise ValueError("the files given are not those of the plan's tables")
        progress("starting the query engine")
        log = scratch / "engine.log"
        begun = time.monotonic()
        sandbox = self._runtime.start(_spec(plan, tables, resources, log))
        try:
            stream, root = _await(sandbox, log)
            places = {name: _paths(number, tables[name]) for number, name in enumerate(plan.tables)}
            found = {name: [root + path for path in paths] for name, paths in places.items()}
            session = connect.Session(stream)
            try:
                attempt = Attempt(plan, tables, targets, self._options, progress)
                counted, ready = attempt.run(session, found)
            finally:
                session.close()
            seconds = time.monotonic() - ready
            ended = sandbox.kill()
        except Exception as error:
            raise _failure(error, sandbox, resources, log) from error
        finally:
            sandbox.kill()
            log.unlink(missing_ok=True)  # an engine's complaints may quote rows
        return Written(
            rows=counted.rows,
            files=counted.files,
            bytes=counted.bytes,
            start_seconds=ready - begun,
            seconds=seconds,
            cpu_seconds=ended.cpu_seconds,
            peak_memory_bytes=ended.peak_memory_bytes,
        )


def _spec(
    plan: ApprovedPlan, tables: Mapping[str, TableFiles], resources: Resources, log: Path
) -> SandboxSpec:
    """What the server may see and use: nothing but Python, its own port, and the files of the plan's
    tables.
    """
    mounts: list[Mount] = []
    for number, name in enumerate(plan.tables):
        table = tables[name]
        sources = table.files if table.folder is None else [table.folder]
        mounts += [Mount(source, path) for source, path in zip(sources, _paths(number, table), strict=True)]
    cores = str(max(1, math.ceil(resources.cpus)))
    temporary = resources.memory_bytes // 4
    environment = {
        "HOME": "/tmp",  # noqa: S108 - the sandbox's own
        "TZ": "Etc/UTC",
        "RUST_LOG": "error",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TOKIO_WORKER_THREADS": cores,
        "SAIL_EXECUTION__DEFAULT_PARALLELISM": cores,
        "SAIL_RUNTIME__MEMORY_POOL__TYPE": "fair",
        "SAIL_RUNTIME__MEMORY_POOL__FAIR__MAX_SIZE": str(int(resources.memory_bytes * POOL_SHARE)),
        "SAIL_RUNTIME__TEMPORARY_FILES__MAX_SIZE": str(temporary),
    }
    return SandboxSpec(
        arguments=(sys.executable, "-I", "-c", SERVER, *(mount.target for mount in mounts[:1])),
        root=Root(prefixes=_prefixes()),
        limits=Limits(
            memory_bytes=resources.memory_bytes,
            seconds=resources.seconds,
            cpus=resources.cpus,
            tmp_bytes=temporary,
        ),
        environment=environment,
        mounts=tuple(mounts),
        log=log,
    )


def _prefixes() -> tuple[Path, ...]:
    """Where this Python lives: the virtual environment and the installation behind it."""
    return tuple(dict.fromkeys(Path(prefix) for prefix in (sys.prefix, sys.base_prefix)))


def _paths(number: int, table: TableFiles) -> list[str]:
    """Where the sandbox sees a table's files, or their one folder. Numbers, since names of tables and files
    are members' to choose.
    """
    if table.folder is not None:
        return [f"/data/{number}"]
    return [f"/data/{number}/{index:05d}.{table.format}" for index in range(len(table.files))]


def _await(sandbox: Sandbox, log: Path) -> tuple[socket.socket, str]:
    """A connection to the server once it listens, and what its paths of files begin with.

    Raises RuntimeError if it ends first or never listens.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        first, end, _ = log.read_text(errors="replace").partition("\n") if log.exists() else ("", "", "")
        if end:
            port, *seen = json.loads(first)
            return sandbox.connect(port), _root(seen)
        if sandbox.wait(0.002) is not None:
            raise RuntimeError("the engine ended while it started")
    raise RuntimeError(f"the engine did not listen within {START_SECONDS:.0f} s")


def _root(seen: list[str]) -> str:
    """What stands before /data/0/… in the path that the server sees."""
    return seen[0].rpartition("/data/")[0] if seen else ""


def _failure(error: Exception, sandbox: Sandbox, resources: Resources, log: Path) -> Exception:
    """Why a run failed: first what ended the sandbox, then what the client was told."""
    # Once the server is gone the client only knows that a connection broke; the sandbox says why, a little
    # later.
    gone = not isinstance(error, JobFailed) or error.code == "INTERNAL_ERROR"
    ended = sandbox.wait(2.0 if gone else 0.0)
    told = f"{error.detail or error.message}" if isinstance(error, JobFailed) else repr(error)
    tail = _tail(log)
    detail = f"{told}\nsandbox: {ended}\nlog: {tail}"
    memory = (
        f"The query needed more than the {resources.memory_bytes // MIB} MiB of memory that it was given."
    )
    if ended is not None and gone:
        return _ended(ended, memory, resources, tail, detail)
    if isinstance(error, JobFailed):
        message = memory if error.code == "INSUFFICIENT_COMPUTE" else error.message
        return JobFailed(error.code, message, detail=detail)
    return JobFailed("INTERNAL_ERROR", "The query engine failed.", detail=detail)


def _ended(ended: Exit, memory: str, resources: Resources, tail: str, detail: str) -> JobFailed:
    match ended.cause:
        case Cause.OUT_OF_MEMORY:
            return JobFailed("INSUFFICIENT_COMPUTE", memory, detail=detail)
        case Cause.EXITED if "memory allocation of" in tail:  # Rust's last words where only rlimits hold
            return JobFailed("INSUFFICIENT_COMPUTE", memory, detail=detail)
        case Cause.TIMED_OUT:
            message = f"The query ran longer than the {resources.seconds:g} s that it was given."
            return JobFailed("TIMED_OUT", message, detail=detail)
        case Cause.DISK:
            message = "The query needed more temporary space than it was given."
            return JobFailed("INSUFFICIENT_COMPUTE", message, detail=detail)
        case _:
            return JobFailed("INTERNAL_ERROR", "The query engine ended unexpectedly.", detail=detail)


def _tail(log: Path) -> str:
    """The end of the server's log, for the operator."""
    try:
        return log.read_bytes()[-4000:].decode(errors="replace")
    except OSError:
        return ""
