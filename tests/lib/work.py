"""A worker over a small state of its own: a trained model's row, its reservation and its job, and a kind of
job that writes a file, so that what the spine promises can be watched step by step.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from passbox import names
from passbox.access.call import Call
from passbox.backends.objects.local import Local
from passbox.backends.runtimes.base import Isolation
from passbox.jobs.kind import Delivery, Machine, Result, Tools, Workspace
from passbox.jobs.supervisor import Supervisor
from passbox.ledger import prices
from passbox.manifest import Signer
from passbox.operations.submission import Cost, submit
from passbox.state import jobs, resources, statuses
from passbox.state.database import Database
from passbox.state.resources import Resource

ACCOUNT, PAYER, COLLABORATION = "111111111111", "222222222222", "00000000-0000-4000-8000-00000000000c"
ESTIMATED, MEASURED = 1_000, 1_234
_fork = multiprocessing.get_context("fork")


class Writes:
    """A kind of job that writes a file, keeps it and delivers it. `slow` seconds pass while it runs."""

    def __init__(self, slow: float = 0.0) -> None:
        self.slow = slow

    def plan(self, _tx: Any, resource: Resource, _tools: Tools) -> str:
        return resource.id

    def run(self, plan: str, workspace: Workspace, _tools: Tools) -> Result:
        workspace.progress("writing")
        deadline = time.monotonic() + self.slow
        while time.monotonic() < deadline:
            time.sleep(0.01)
        kept = workspace.directory("kept")
        (kept / "model").write_text(plan)
        return Result(
            fields={"usage": {"records": MEASURED}},
            measured={prices.MODEL_TRAINING: MEASURED * prices.MILLI},
            kept=kept,
            deliveries=(Delivery(ACCOUNT, "s3://results/room", None, {"model": _copy(workspace, plan)}),),
        )


def _copy(workspace: Workspace, text: str) -> Path:
    path = workspace.directory("leaves") / "model"
    path.write_text(text)
    return path


class World:
    """The state under `home`, and how to look at it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        for folder in ("vault/staging", "scratch", f"accounts/{ACCOUNT}"):
            (home / folder).mkdir(parents=True)
        self.database = Database(home / "passbox.sqlite")
        with self.database.write() as tx:
            resources.add(tx, _member())

    def tools(self) -> Tools:
        nothing: Any = None
        return Tools(
            vault=self.home / "vault",
            scratch=self.home / "scratch",
            catalog=nothing,
            objects=Local(self.home / "accounts"),
            engine=nothing,
            runtime=nothing,
            images=nothing,
            isolation=Isolation.SEALED,
            machine=Machine(1 << 30, 1.0),
            signer=Signer(b"k" * 32),
        )

    def submit(self, kind: str = "trained_model") -> Resource:
        """A resource with its reservation and its job, as an operation would leave them."""
        id, now = names.new_id(), names.now()
        row = Resource(
            kind=kind,
            id=id,
            arn=f"arn:{id}",
            account=ACCOUNT,
            created=now,
            updated=now,
            collaboration=COLLABORATION,
            membership="m",
            name=id,
            status=statuses.OF[kind].waiting,
        )
        with self.database.write() as tx:
            resources.add(tx, row)
            room: Any = SimpleNamespace(rates=prices.RateCard())
            call = Call(ACCOUNT, "cleanroomsml.CreateTrainedModel", tx, room)
            cost = Cost(prices.MODEL_TRAINING, PAYER, ESTIMATED * prices.MILLI, "as estimated")
            submit(call, row, kind, cost)
        return row

    def resource(self, row: Resource) -> Resource:
        with self.database.read() as tx:
            return resources.require(tx, row.kind, row.id)

    def job(self, row: Resource) -> jobs.Job:
        with self.database.read() as tx:
            return jobs.of_resource(tx, row.id)[-1]

    def supervisor(
        self, kind: Any | None = None, *, slots: int = 1, checkpoint: Callable[[str], None] = lambda _: None
    ) -> Supervisor:
        return Supervisor(
            Database(self.database.path),
            self.tools(),
            dict.fromkeys(("trained_model", "protected_query"), kind or Writes()),
            name=f"test/{os.getpid()}",
            slots=slots,
            prepare=_die_with_parent,
            checkpoint=checkpoint,
        )

    def work_until(self, done: Callable[[], bool], supervisor: Supervisor, seconds: float = 20.0) -> None:
        """Turns the supervisor in this process until `done()`."""
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, "the work did not end in time"
            supervisor.step()
            time.sleep(0.005)

    def worker_process(
        self, kind: Any | None = None, checkpoint: Callable[[str], None] = lambda _: None
    ) -> Any:
        """A worker of its own, to be killed."""
        self.database.close()
        process = _fork.Process(
            target=lambda: self.supervisor(kind, checkpoint=checkpoint).run(lambda: False)
        )
        process.start()
        return process


def _member() -> Resource:
    """The account that submits and receives, active in its collaboration."""
    now = names.now()
    return Resource(
        kind="member",
        id=f"{COLLABORATION}/{ACCOUNT}",
        arn="arn:member",
        account=ACCOUNT,
        created=now,
        updated=now,
        collaboration=COLLABORATION,
        status="ACTIVE",
        body={"abilities": ["CAN_QUERY"]},
    )


class KillOnce:
    """A checkpoint that kills this process, or its parent too, the first time a point is reached."""

    def __init__(self, point: str, marker: Path, *, parent: bool) -> None:
        self.point = point
        self.marker = marker
        self.parent = parent

    def __call__(self, point: str) -> None:
        if point != self.point or self.marker.exists():
            return
        self.marker.touch()
        if self.parent:
            os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


def _die_with_parent() -> None:
    from passbox.backends.runtimes import linux

    linux.die_with_parent(signal.SIGKILL)
