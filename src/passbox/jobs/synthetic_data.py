"""Generating a channel's rows: from the query's result, in a sandbox that holds it and nothing else.

The result of the query is a directory of the job's workspace that nothing keeps or delivers from; it is gone
before the job has a result of its own.
"""

import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from passbox import synthesize
from passbox.backends import trees
from passbox.backends.runtimes.base import Cause, Exit, Limits, Mount, Output, Root, Sandbox, SandboxSpec
from passbox.errors import JobFailed
from passbox.jobs import container
from passbox.jobs.kind import Tools, Workspace
from passbox.ledger import prices

LONGEST_SECONDS = 12 * 3600
_PLACE = "/opt/synthesis"
_WAIT_SECONDS = 0.5
_REPORT_BYTES = 64 << 20
_GROWTH = 64  # what a row may take as CSV text, beside what it takes in a compressed Parquet file


@dataclass(frozen=True)
class Synthesis:
    """What a template asks for. parameters: its MLSyntheticDataParameters; declaration: see `synthesize`."""

    parameters: Mapping[str, Any]
    declaration: Mapping[str, Any]


@dataclass(frozen=True)
class Generated:
    """What was generated. rows: how many were made; scores: modelled SyntheticDataEvaluationScores

    failure: (code, message) of rows that may not be used; they are gone then. milli_sdgu: what it is billed.
    """

    rows: int
    files: int
    bytes: int
    milli_sdgu: int
    scores: Mapping[str, Any]
    usage: Mapping[str, Any]
    report: Path | None = None
    failure: tuple[str, str] | None = None


def run(
    synthesis: Synthesis,
    exact: Path,
    target: Path,
    format: Literal["csv", "parquet"],
    workspace: Workspace,
    tools: Tools,
) -> Generated:
    """Learns from the Parquet files of `exact`, removes them, and leaves rows of `format` in the directory
    `target`. Raises JobFailed for a result that nothing can be generated from.
    """
    made = workspace.directory("synthesis")
    asked = workspace.path / "synthesis.json"
    asked.write_text(
        json.dumps(
            {
                "parameters": dict(synthesis.parameters),
                "declaration": dict(synthesis.declaration),
                "format": format,
            }
        )
    )
    log = workspace.path / "synthesis.log"
    try:
        sandbox = container.start(tools, _spec(asked, exact, made, log, tools))
        ended = _watch(sandbox, log, workspace.progress)
        outcome = _outcome(ended, made, log)
    finally:
        for left in (exact, asked, log):
            trees.remove(left)
    return _generated(outcome, ended, made, target)


def _spec(asked: Path, exact: Path, made: Path, log: Path, tools: Tools) -> SandboxSpec:
    memory = tools.machine.memory_bytes
    source = Path(synthesize.__file__).parent
    read, written = f"{_PLACE}/rows", f"{_PLACE}/made"
    size = sum(file.stat().st_size for file in exact.iterdir())
    return SandboxSpec(
        arguments=(
            sys.executable, "-I", "-c", synthesize.BOOT, str(source.parent),
            f"{_PLACE}/asked.json", read, written,
        ),
        root=Root(prefixes=tuple(dict.fromkeys((Path(sys.prefix), Path(sys.base_prefix), source)))),
        limits=Limits(memory_bytes=memory, seconds=LONGEST_SECONDS, cpus=tools.machine.cpus),
        environment={
            "HOME": "/tmp",  # noqa: S108 - the sandbox's own
            "TZ": "Etc/UTC",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": str(max(1, math.ceil(tools.machine.cpus))),
        },
        mounts=(Mount(asked, f"{_PLACE}/asked.json"), Mount(exact, read)),
        outputs=(Output(made, written, container.disk(made, size * _GROWTH + _REPORT_BYTES)),),
        log=log,
    )  # fmt: skip


def _watch(sandbox: Sandbox, log: Path, progress: Callable[[str], None]) -> Exit:
    """Waits for the end, and says how far it is: the lines that the program itself writes, without values."""
    said = ""
    progress("starting the synthesis")
    try:
        while (ended := sandbox.wait(_WAIT_SECONDS)) is None:
            line = _last_line(log)
            if line and line != said:
                said = line
                progress(line)
    finally:
        sandbox.kill()
    return ended


def _last_line(log: Path) -> str:
    """The last progress line that the program wrote."""
    text = log.read_text(errors="replace") if log.exists() else ""
    lines = [line for line in text.splitlines() if line.startswith(synthesize.PROGRESS)]
    return lines[-1].removeprefix(synthesize.PROGRESS) if lines else ""


def _outcome(ended: Exit, made: Path, log: Path) -> dict[str, Any]:
    """What the program says; JobFailed where it could not say anything."""
    detail = log.read_text(errors="replace")[-4000:] if log.exists() else ""
    match ended.cause:
        case Cause.OUT_OF_MEMORY:
            raise JobFailed(
                "INSUFFICIENT_COMPUTE",
                "The synthesis needed more memory than it was given; select fewer columns or rows.",
                detail=detail,
            )
        case Cause.TIMED_OUT:
            raise JobFailed(
                "INSUFFICIENT_COMPUTE",
                f"The synthesis ran longer than {LONGEST_SECONDS // 3600} hours; select fewer columns or "
                "rows.",
                detail=detail,
            )
        case Cause.DISK:
            raise JobFailed(
                "INSUFFICIENT_COMPUTE", "The generated rows need more space than there is.", detail=detail
            )
        case Cause.EXITED if ended.status == 0:
            outcome: dict[str, Any] = json.loads((made / synthesize.OUTCOME).read_text())
            return outcome
    raise JobFailed("INTERNAL_ERROR", "The synthesis failed.", detail=detail)


def _generated(outcome: Mapping[str, Any], ended: Exit, made: Path, target: Path) -> Generated:
    if outcome["refused"] is not None:
        raise JobFailed(*outcome["refused"])
    seconds = ended.seconds if ended.cpu_seconds is None else ended.cpu_seconds
    failure = outcome["failure"]
    if failure is None:
        (made / synthesize.DATA).rename(target)
    else:
        trees.remove(made / synthesize.DATA)
    return Generated(
        rows=outcome["rows"],
        files=outcome["files"],
        bytes=outcome["bytes"],
        milli_sdgu=prices.milli_sdgu(outcome["rows"], outcome["columns"], seconds),
        scores=outcome["scores"],
        usage={"synthesisSeconds": round(ended.seconds, 3), "synthesisCpuSeconds": ended.cpu_seconds},
        report=made / synthesize.REPORT,
        failure=None if failure is None else ("SYNTHETIC_DATA_NOT_PRIVATE_ENOUGH", failure),
    )
