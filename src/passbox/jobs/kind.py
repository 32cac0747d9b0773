"""What every kind of job gives and gets: the contract between a kind and the spine.

1. A kind is a file with `plan` and `run`. `plan` reads state and decides everything; `run` touches the
   outside world, in no transaction, and may be repeated from the start after a crash.
2. `run` puts nothing outside its workspace. What shall stay or leave, it names in its Result; the spine
   keeps, discloses, posts and delivers.
3. A job that cannot go on raises JobFailed, or ends with Result.failure where its logs may still leave.
4. Progress is a short line without values of anybody's data.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from passbox.backends.catalogs.base import Catalog
from passbox.backends.engines.base import Engine
from passbox.backends.images.store import ImageStore
from passbox.backends.objects.base import Objects
from passbox.backends.runtimes.base import Isolation, Runtime
from passbox.errors import PassboxError
from passbox.jobs.instances import Instances
from passbox.manifest import Signer
from passbox.names import Role
from passbox.state.database import Transaction
from passbox.state.resources import Resource


@dataclass(frozen=True)
class Machine:
    """What one job may use of this machine. gpus: all of it, which one job at a time may have"""

    memory_bytes: int
    cpus: float
    gpus: int = 0


@dataclass(frozen=True)
class Tools:
    """The outside world, as the worker's root chose it."""

    vault: Path
    scratch: Path
    catalog: Catalog
    objects: Objects
    engine: Engine
    runtime: Runtime
    images: ImageStore
    isolation: Isolation
    machine: Machine
    instances: Instances = field(default_factory=Instances)
    signer: Signer | None = None  # without one, as in tests, jobs have no run manifest

    def kept(self, resource: Resource) -> Path:
        """Where the room keeps what a finished job of this resource made; nobody's to see."""
        return self.vault / resource.kind / resource.id


# Gives every member with an ML configuration a file: log group, stream, and the file itself.
Publish = Callable[[str, str, Path], None]


@dataclass(frozen=True)
class Workspace:
    """A job's own empty directory, where it says how far it is, and how it publishes while it runs."""

    path: Path
    progress: Callable[[str], None]
    publish: Publish = lambda _group, _stream, _file: None

    def directory(self, name: str) -> Path:
        """A new empty directory of the workspace."""
        made = self.path / name
        made.mkdir(parents=True)
        return made


@dataclass(frozen=True)
class Delivery:
    """Files for one account under its `s3://bucket/prefix`, put there in its role.

    files:  key → path in the workspace
    closed: whether a table of the run lies in the bucket: nothing may go there, and whoever named it must not
            be able to tell that from a bucket that does not take the files
    """

    account: str
    uri: str
    role: Role | None
    files: Mapping[str, Path]
    closed: bool = False


@dataclass(frozen=True)
class Output:
    """What a container said, and the rules on it.

    group:    `TrainedModels` or `TrainedModelInferenceJobs`; stream: the name of the job's log
    log:      its standard output and error
    policies: the association's containerLogs
    metrics:  the algorithm's metricDefinitions; noise: the association's noiseLevel, None where unset
    """

    group: str
    stream: str
    log: Path
    policies: tuple[Mapping[str, Any], ...] = ()
    metrics: tuple[Mapping[str, str], ...] = ()
    noise: str | None = None


@dataclass(frozen=True)
class Result:
    """What came out of a run.

    fields:     entries for the resource's body
    measured:   cost type → milli-units; a reservation without a measure is voided
    kept:       a directory of the workspace that the room keeps for later jobs
    deliveries: what leaves for whom, checked against its limits already
    output:     what the container said
    report:     a JSON object of a file of the workspace, for GetSyntheticDataReport
    failure:    (code, message) of a job that failed but ran; nothing is charged, kept or delivered then
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, int] = field(default_factory=dict)
    kept: Path | None = None
    deliveries: tuple[Delivery, ...] = ()
    output: Output | None = None
    report: Path | None = None
    failure: tuple[str, str] | None = None


class Kind(Protocol):
    """A kind of job: a module with these two functions."""

    def plan(self, tx: Transaction, resource: Resource, tools: Tools) -> Any:
        """Everything that `run` needs, from state; JobFailed where it may not run (any more)."""

    def run(self, plan: Any, workspace: Workspace, tools: Tools) -> Result:
        """Does it."""


class NotYet(PassboxError):
    """The job cannot run now, and may later."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
