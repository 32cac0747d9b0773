"""A container by the SageMaker contract, sealed: its variables, its limits, and what its end means.

Knows images, instances and the sandbox; must not know state or which job it is for. What a container may be
told comes from its job; nothing else of the service or of the machine is in it.
"""

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from passbox.backends import trees
from passbox.backends.images.image import Image
from passbox.backends.runtimes.base import (
    Busy,
    Cause,
    Exit,
    Limits,
    Lost,
    Mount,
    Network,
    Output,
    Sandbox,
    SandboxSpec,
    Unsealed,
)
from passbox.disclosure.sizes import readable
from passbox.errors import JobFailed, Misconfigured
from passbox.jobs.instances import Instance
from passbox.jobs.kind import NotYet, Tools

MODEL = "/opt/ml/model"
_WAIT_SECONDS = 1.0
_AGAIN_SECONDS = 10.0  # until a job whose GPUs are in use is tried again
_OUTPUT_BYTES = 64 << 20  # /opt/ml/output beside data: the failure file
_PROCESSES = 2048
_FAILURE_BYTES = 8192  # of which 1,024 characters are read on
_SPARE_SHARE = 0.9  # of the free disk, what one job may fill


@dataclass(frozen=True)
class Container:
    """An image on an instance.

    environment: the variables of the request; seconds: how long it may run
    """

    image: Image
    instance: Instance
    environment: Mapping[str, str]
    seconds: float

    def spec(
        self,
        arguments: tuple[str, ...],
        own: Mapping[str, str],
        *,
        mounts: tuple[Mount, ...],
        log: Path,
        outputs: tuple[Output, ...] = (),
        host: str = "algo-1",
        network: Network | None = None,
    ) -> SandboxSpec:
        """The sandbox. Of two variables of one name the contract's `own` counts, then the request's, then
        the image's. JobFailed for an argument or a variable that no process can be given."""
        variables = {"HOME": "/tmp", **self.image.environment, **self.environment, **own}  # noqa: S108
        if any("\0" in text for text in (*arguments, *variables, *variables.values())):
            raise JobFailed(
                "INVALID_ARGUMENT", "An argument or a variable of the container holds a zero byte."
            )
        return SandboxSpec(
            arguments=arguments,
            root=self.image.root,
            limits=Limits(
                memory_bytes=self.instance.memory_bytes,
                seconds=self.seconds,
                cpus=self.instance.cpus,
                processes=_PROCESSES,
            ),
            environment=variables,
            mounts=(*self.image.mounts, *mounts),
            outputs=outputs,
            directory=self.image.directory,
            log=log,
            host=host,
            network=network,
            gpus=self.instance.gpus,
        )


def start(tools: Tools, spec: SandboxSpec) -> Sandbox:
    """Starts it sealed; JobFailed, saying what to install, where this machine cannot seal, and which property
    of the seal did not hold where one was found wanting. NotYet while other jobs have the GPUs, HostFailed
    where the sandbox was lost on the way."""
    try:
        return tools.runtime.start(spec)
    except Unsealed as error:
        raise JobFailed(
            "SANDBOX_VIOLATION",
            f"The container was ended before it saw any input, because {error.message}.",
            detail=error.detail,
        ) from error
    except Busy as error:
        raise NotYet(_AGAIN_SECONDS) from error
    except Lost as error:
        raise HostFailed(error.message) from error
    except Misconfigured as error:
        raise JobFailed(
            "SANDBOX_UNAVAILABLE", f"The container was not started: {error.message}", detail=error.detail
        ) from error


@contextlib.contextmanager
def network(tools: Tools, hosts: tuple[str, ...]) -> Iterator[Network | None]:
    """An empty network for several hosts; None for one, which has its own. JobFailed where there is none."""
    if len(hosts) == 1:
        yield None
        return
    try:
        made = tools.runtime.network(hosts)
    except Misconfigured as error:
        raise JobFailed(
            "SANDBOX_UNAVAILABLE",
            f"The instances were not started: {error.message}",
            detail=error.detail,
        ) from error
    try:
        yield made
    finally:
        made.close()


def end(sandboxes: Sequence[Sandbox]) -> tuple[list[Exit], int]:
    """Waits for all to end, by themselves or by their limits; where one fails the others are ended.

    Returns how each ended, and the index of the one that counts: the first that failed, else the first.
    """
    pause = _WAIT_SECONDS / len(sandboxes)
    running = dict(enumerate(sandboxes))
    ended: dict[int, Exit] = {}
    counts: int | None = None
    while running:
        for index, sandbox in list(running.items()):
            left = sandbox.wait(pause)
            if left is None:
                continue
            ended[index] = left
            del running[index]
            if counts is None and (left.cause is not Cause.EXITED or left.status != 0):
                counts = index
                for other in running.values():
                    other.kill()
    return [ended[index] for index in range(len(sandboxes))], counts or 0


def broken_limit(
    ended: Exit, container: Container, volume_bytes: int | None = None
) -> tuple[str, str] | None:
    """(code, message) where a limit ended the container; None where it ended itself. HostFailed where it was
    neither."""
    instance = container.instance
    match ended.cause:
        case Cause.EXITED:
            return None
        case Cause.TIMED_OUT:
            return (
                "MAX_RUNTIME_EXCEEDED",
                f"The container ran for longer than the {container.seconds:.0f} seconds that it may.",
            )
        case Cause.OUT_OF_MEMORY:
            return (
                "OUT_OF_MEMORY",
                f"The container needed more than the {instance.memory_bytes / (1 << 30):.1f} GiB of memory "
                f"that {instance.type} gives here. Choose a larger instance type, or train on less.",
            )
        case Cause.DISK:
            most = "" if volume_bytes is None else f" of {readable(volume_bytes)}"
            return (
                "DISK_FULL",
                f"The container wrote more than its volume{most} holds. Choose a larger instance type, "
                "raise volumeSizeInGB, or write less.",
            )
        case Cause.KILLED:
            raise HostFailed(ended.detail or "a sandbox of the job was ended from outside")


class HostFailed(Exception):
    """The machine lost a sandbox of the job, or one was ended from outside: the job is tried again as a whole
    by the worker, a few times, and nothing of the lost attempt is kept or charged."""


def together(exits: Sequence[Exit]) -> Exit:
    """What several instances used: the longest time, and the sum of the rest. The first says how it ended."""
    cpu = [one.cpu_seconds for one in exits if one.cpu_seconds is not None]
    memory = [one.peak_memory_bytes for one in exits if one.peak_memory_bytes is not None]
    return replace(
        exits[0],
        seconds=max(one.seconds for one in exits),
        cpu_seconds=sum(cpu) if cpu else None,
        peak_memory_bytes=sum(memory) if memory else None,
    )


def usage(ended: Exit, records: int) -> dict[str, Any]:
    """What a job used, for the resource's body."""
    measured = {
        "records": records,
        "seconds": round(ended.seconds, 3),
        "cpuSeconds": None if ended.cpu_seconds is None else round(ended.cpu_seconds, 3),
        "peakMemoryBytes": ended.peak_memory_bytes,
    }
    return {name: value for name, value in measured.items() if value is not None}


def writable(memory_bytes: int, volume_bytes: int) -> dict[str, int]:
    """What a training may leave in `model`, `data` and `output`, in bytes.

    All of it fits half of the job's memory, so that the runtime can hold it in a file system of that very
    size. A directory of the host can only be watched, and what is open but unlinked there escapes the watch.
    """
    words = min(volume_bytes, _OUTPUT_BYTES, memory_bytes // 8)
    each = min(volume_bytes, (memory_bytes // 2 - words) // 2)
    return {"model": each, "data": each, "output": words}


def disk(directory: Path, wanted: int) -> int:
    """`wanted` bytes, or as many as the disk under `directory` can spare."""
    return min(wanted, int(shutil.disk_usage(directory).free * _SPARE_SHARE))


def failure_file(directory: Path, name: str = "failure") -> bytes:
    """The start of the file `failure` that a container left in a directory; empty where it is none."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(directory / name, flags)
    except OSError:
        return b""
    try:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        return os.read(descriptor, _FAILURE_BYTES) if regular else b""
    finally:
        os.close(descriptor)


def discard(*directories: Path) -> None:
    """Removes what an ended container left."""
    for directory in directories:
        trees.remove(directory)
