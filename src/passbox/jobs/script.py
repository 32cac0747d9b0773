"""A member's script, sealed: what its sandbox holds, its limits, and what its end means.

Knows the sandbox and the program inside it (`passbox.backends.engines.script`); must not know state, or whose
tables the files are. The script is hostile: what it leaves is looked at as a container's outputs are, and of
how it ended others learn one of a few words, whatever it wrote.
"""

import json
import math
import os
import re
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import passbox
from passbox.backends.engines import script
from passbox.backends.engines.script import End
from passbox.backends.runtimes.base import Cause, Exit, Limits, Mount, Output, Root, SandboxSpec
from passbox.disclosure.messages import failure_text
from passbox.disclosure.sizes import readable
from passbox.errors import JobFailed
from passbox.jobs import container
from passbox.jobs.kind import Machine, Tools, Workspace

_PACKAGE = Path(passbox.__file__).parent
_PROGRAM = Path(script.__file__).relative_to(_PACKAGE)
_REPORT_BYTES = 1 << 20
_POOL_SHARE = (
    0.4  # of the memory, what the engine's operators may reserve; a quarter each is /tmp and results
)
_FILE = re.compile(r"part-\d{5}\.parquet", re.ASCII)

_ENDS = {
    End.NOT_PYTHON: ("MALFORMED_SCRIPT", "The script is not valid Python."),
    End.NO_ENTRYPOINT: ("MALFORMED_SCRIPT", "The script has no function entrypoint(context)."),
    End.RAISED: ("MALFORMED_SCRIPT", "The script raised an exception."),
    End.NO_RESULTS: (
        "MALFORMED_SCRIPT",
        'The script must return {"results": {NAME: DataFrame, …}}, names of letters, digits, dots, dashes '
        f"and underscores, {script.MOST_RESULTS} at most.",
    ),
    End.NOT_WRITTEN: (
        "MALFORMED_SCRIPT",
        "A result could not be computed, or holds columns that Parquet cannot hold.",
    ),
    End.NO_ENVIRONMENT: (
        "MALFORMED_SCRIPT",
        "The additional artifact is no virtual environment packed as .tar.gz, or it does not fit the disk.",
    ),
    End.NO_MEMORY: ("INSUFFICIENT_COMPUTE", "The script needed more memory than it was given."),
    End.NO_ENGINE: ("INTERNAL_ERROR", "The engine of the script did not start."),
}


@dataclass(frozen=True)
class Ran:
    """What a script left. results: NAME/part-00000.parquet → file; rows: as the script's process counted."""

    results: Mapping[str, Path]
    rows: int | None
    exit: Exit


def order(job: Path, name: str, tables: list[str], parameters: Mapping[str, str] | None) -> None:
    """Writes what the program goes by into the directory of the job."""
    content = {"name": name, "tables": tables, "parameters": parameters}
    (job / script.ORDER).write_text(json.dumps(content))


def run(job: Path, seconds: float, detailed: bool, workspace: Workspace, tools: Tools) -> Ran:
    """Runs what lies in `job`; JobFailed, with the script's own words only where `detailed`."""
    results, report = workspace.directory("results"), workspace.directory("report")
    spec = _spec(job, results, report, seconds, tools.machine)
    sandbox = container.start(tools, spec)
    try:
        [ended], _ = container.end([sandbox])
    finally:
        sandbox.kill()
    failure = _failure(ended, spec.limits)
    if failure is not None:
        raise _told(*failure, report, detailed)
    return Ran(_harvest(results), _rows(report), ended)


def _spec(job: Path, results: Path, report: Path, seconds: float, machine: Machine) -> SandboxSpec:
    cores = str(max(1, math.ceil(machine.cpus)))
    quarter = machine.memory_bytes // 4
    places = ("/job", "/results", "/report")
    return SandboxSpec(
        arguments=(sys.executable, "-I", f"/service/passbox/{_PROGRAM}", *places),
        root=Root(prefixes=tuple(dict.fromkeys(Path(prefix) for prefix in (sys.prefix, sys.base_prefix)))),
        limits=Limits(
            memory_bytes=machine.memory_bytes,
            seconds=seconds,
            cpus=machine.cpus,
            tmp_bytes=quarter,
        ),
        environment={
            "HOME": "/tmp",  # noqa: S108  the sandbox's own
            "TZ": "Etc/UTC",
            "RUST_LOG": "error",
            "GRPC_ENABLE_FORK_SUPPORT": "0",  # its handlers wait for threads, for ever where none can be made
            "PYTHONDONTWRITEBYTECODE": "1",
            "TOKIO_WORKER_THREADS": cores,
            "SAIL_EXECUTION__DEFAULT_PARALLELISM": cores,
            "SAIL_RUNTIME__MEMORY_POOL__TYPE": "fair",
            "SAIL_RUNTIME__MEMORY_POOL__FAIR__MAX_SIZE": str(int(machine.memory_bytes * _POOL_SHARE)),
            "SAIL_RUNTIME__TEMPORARY_FILES__MAX_SIZE": str(quarter),
        },
        mounts=(Mount(job, "/job"), Mount(_PACKAGE, "/service/passbox")),
        outputs=(
            Output(results, "/results", quarter, disclosed=True),
            Output(report, "/report", _REPORT_BYTES),
        ),
    )


def _failure(ended: Exit, limits: Limits) -> tuple[str, str] | None:
    """(code, message) of an end that is none; nothing of it is the script's own words."""
    match ended.cause:
        case Cause.EXITED if ended.status == End.DONE:
            return None
        case Cause.EXITED if ended.status in _ENDS:
            return _ENDS[End(ended.status)]
        case Cause.EXITED:
            return "MALFORMED_SCRIPT", "The script's process ended before its entrypoint returned."
        case Cause.TIMED_OUT:
            return (
                "INSUFFICIENT_COMPUTE",
                f"The script ran longer than the {limits.seconds:g} s it was given.",
            )
        case Cause.OUT_OF_MEMORY:
            memory = readable(limits.memory_bytes)
            return "INSUFFICIENT_COMPUTE", f"The script needed more than the {memory} of memory it was given."
        case Cause.DISK:
            return "INSUFFICIENT_COMPUTE", "The results are larger than a job may leave."
        case Cause.KILLED:
            return "INTERNAL_ERROR", "The script was ended from outside."


def _told(code: str, message: str, report: Path, detailed: bool) -> JobFailed:
    words = failure_text(container.failure_file(report)).strip()
    if detailed and words:
        return JobFailed(code, f"{message} {words}")
    if code == "MALFORMED_SCRIPT":
        message += (
            " Its own words are kept back: they are shown where the template's errorMessageConfiguration is "
            "DETAILED and every table's rule allows the template by its ARN."
        )
    return JobFailed(code, message)


def _harvest(results: Path) -> dict[str, Path]:
    """RESULT/part-00000.parquet → file, of what lies there as the program writes it; JobFailed otherwise."""
    found: dict[str, Path] = {}
    for folder in sorted(os.scandir(results), key=lambda entry: entry.name):
        if not folder.is_dir(follow_symlinks=False) or not script.RESULT_NAME.fullmatch(folder.name):
            raise JobFailed(*_ENDS[End.NO_RESULTS])
        for entry in sorted(os.scandir(folder.path), key=lambda entry: entry.name):
            status = entry.stat(follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1 or not _FILE.fullmatch(entry.name):
                raise JobFailed(*_ENDS[End.NO_RESULTS])
            found[f"{folder.name}/{entry.name}"] = Path(entry.path)
    if not found:
        raise JobFailed(*_ENDS[End.NO_RESULTS])
    return found


def _rows(report: Path) -> int | None:
    """How many rows the program says it wrote: for the record, never to be relied upon."""
    try:
        counts = json.loads(container.failure_file(report, script.ROWS))
        return sum(count for count in counts.values() if type(count) is int and 0 <= count < 1 << 48)
    except (ValueError, AttributeError, RecursionError):
        return None
