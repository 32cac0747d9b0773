"""What members are given of a container while it runs: metrics without noise, and how much it uses.

Metrics go out as soon as they are logged only where the association sets noiseLevel NONE; the noisy ones wait
for the end (`disclose`). CPU and memory go to every member with an ML configuration, as AWS documents it, but
coarsely, because a container that has read everybody's data could speak through them: CPU in steps of a tenth
of the machine, memory as the next power of two, averaged over a minute.

A trouble here is a warning in the service's log and never the job's.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from passbox.backends import trees
from passbox.backends.runtimes.base import Usage
from passbox.disclosure import metrics
from passbox.disclosure.metrics import Metric
from passbox.jobs.kind import Output, Workspace

SECONDS = 5.0  # between two looks at a log
SYSTEM_SECONDS = 60.0  # that one line of system metrics is about
_FIRST_SECONDS = 0.5
_MOST_BYTES = 4 << 20  # of a log, read at one look
_MIB = 1 << 20
_log = logging.getLogger(__name__)

Usages = Callable[[], Usage | None]


@contextmanager
def watched(
    output: Output,
    logs: Sequence[Path],
    usages: Sequence[Usages],
    cpus: float,
    workspace: Workspace,
    seconds: float = SECONDS,
    system_seconds: float = SYSTEM_SECONDS,
) -> Iterator[None]:
    """Publishes while the body runs. logs and usages: one of each instance, in their order; cpus: of one."""
    watch = _Watch(output, logs, usages, cpus, workspace, system_seconds)
    over = threading.Event()

    def look_again() -> None:
        pause = min(seconds, _FIRST_SECONDS)  # short jobs are looked at too
        while not over.wait(pause):
            watch.look()
            pause = seconds

    thread = threading.Thread(target=look_again, name="live", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        watch.look(last=True)
        trees.remove(watch.folder)


class _Watch:
    """What has been seen so far."""

    def __init__(
        self,
        output: Output,
        logs: Sequence[Path],
        usages: Sequence[Usages],
        cpus: float,
        workspace: Workspace,
        system_seconds: float,
    ) -> None:
        self._output = output
        self._publish = workspace.publish
        self.folder = workspace.directory("live")
        exact = output.noise == "NONE" and bool(output.metrics)
        self._tails = [_Tail(log, output.metrics) for log in logs] if exact else []
        self._instances = [_Instance(usage, cpus) for usage in usages]
        self._system_seconds = system_seconds
        self._began = self._due = time.monotonic()
        self._lines: list[Mapping[str, Any]] = []
        self._told = 0

    def look(self, *, last: bool = False) -> None:
        """Reads on, and publishes what is new."""
        try:
            found = [metric for tail in self._tails for metric in tail.read_on()][: metrics.MOST_VALUES]
            if len(found) > self._told:
                self._told = len(found)
                self._put("metrics.jsonl", [metric.stored() for metric in found])
            for instance in self._instances:
                instance.look()
            now = time.monotonic()
            if last or now - self._due >= self._system_seconds:
                self._due = now
                self._system(round(now - self._began))
        except Exception:
            _log.warning("live metrics of %s could not be published", self._output.stream, exc_info=True)

    def _system(self, second: int) -> None:
        more = [
            {"instance": number, "second": second, **told}
            for number, instance in enumerate(self._instances, start=1)
            if (told := instance.told()) is not None
        ]
        if more:
            self._lines += more
            self._put("system.jsonl", self._lines)

    def _put(self, name: str, lines: Sequence[Mapping[str, Any]]) -> None:
        path = self.folder / name
        path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
        self._publish(self._output.group, f"{self._output.stream}.{name}", path)


class _Tail:
    """The metrics of a log that grows: of each look, those of the lines that were finished since the last."""

    def __init__(self, log: Path, definitions: Sequence[Mapping[str, str]]) -> None:
        self._log = log
        self._definitions = definitions
        self._offset = self._lines = 0
        self._found: list[Metric] = []

    def read_on(self) -> Sequence[Metric]:
        """All metrics so far."""
        if not self._log.exists() or len(self._found) > metrics.MOST_VALUES:
            return self._found
        with self._log.open("rb") as file:
            file.seek(self._offset)
            chunk = file.read(_MOST_BYTES)
        end = chunk.rfind(b"\n") + 1
        if end == 0 and len(chunk) == _MOST_BYTES:
            end = _MOST_BYTES  # a line without an end is not waited for
        new, _ = metrics.collect(chunk[:end], self._definitions)
        self._found += [replace(metric, line=self._lines + (metric.line or 0)) for metric in new]
        self._lines += chunk[:end].count(b"\n")
        self._offset += end
        return self._found


class _Instance:
    """One sandbox: its last usage, and what it had used when it was told last."""

    def __init__(self, usage: Usages, cpus: float) -> None:
        self._usage = usage
        self._cpus = cpus
        self._last: tuple[float, Usage] | None = None
        self._before: tuple[float, float] = (time.monotonic(), 0.0)

    def look(self) -> None:
        found = self._usage()
        if found is not None:
            self._last = time.monotonic(), found

    def told(self) -> dict[str, int] | None:
        """Coarse CPU and memory since the last time; None where nothing was measured since."""
        if self._last is None:
            return None
        (at, used), (before, cpu) = self._last, self._before
        self._before, self._last = (at, used.cpu_seconds), None
        share = (used.cpu_seconds - cpu) / max(at - before, 0.001) / self._cpus
        return {
            "cpuPercent": 10 * min(10, max(0, round(10 * share))),
            "memoryMiB": 2 ** math.ceil(math.log2(max(1, used.memory_bytes / _MIB))),
        }
