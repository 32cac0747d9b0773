"""A private query survives SIGKILL at every step: its epsilon is spent exactly once, whatever its money does.

It is posted before anything is read and never given back after that.
"""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from crash.test_spine import POINTS, is_over
from lib.work import COLLABORATION, KillOnce, World, Writes
from passbox.errors import JobFailed
from passbox.jobs.kind import Result, Workspace
from passbox.ledger import book, epsilon
from passbox.state import jobs, statuses, transfers
from passbox.state.database import Database
from passbox.state.resources import Resource

COST = epsilon.of_measure(10)


class Private(World):
    """A world whose queries hold epsilon beside their money."""

    def private(self) -> Resource:
        row = self.submit("protected_query")
        job = self.job(row)
        with self.database.write() as tx:
            budget = epsilon.Budget(row, total=epsilon.MICRO, used=0, users=10)
            epsilon.reserve(tx, job=job.id, budget=budget, amount=COST)
        return row

    def epsilon(self, row: Resource) -> list[tuple[str, int]]:
        """(kind, micro-epsilon) of the book's entries of a query."""
        job = self.job(row).id
        with self.database.read() as tx:
            book.check(tx)
            entries = transfers.of_job(tx, job)
        return sorted((entry.kind, entry.amount) for entry in entries if entry.unit == epsilon.UNIT)

    def spent(self) -> int:
        """Micro-epsilon that no further query can have, reserved or posted."""
        with self.database.read() as tx:
            return sum(transfers.spent(tx, f"privacy/{COLLABORATION}", period=None, unit=epsilon.UNIT))


class Reads(Writes):
    """Notes, as it begins to read, what of its epsilon is posted by then; then runs, or fails."""

    def __init__(self, world: Private, notes: Path, *, fails: bool = False) -> None:
        super().__init__()
        self.home, self.notes, self.fails = world.home, notes, fails

    def run(self, plan: str, workspace: Workspace, tools: Any) -> Result:
        with Database(self.home / "passbox.sqlite").read() as tx:
            posted = [e for e in transfers.all_(tx) if e.unit == epsilon.UNIT and e.kind == "post"]
        with self.notes.open("a") as notes:
            notes.write(f"{sum(entry.amount for entry in posted)}\n")
        if self.fails:
            raise JobFailed("INSUFFICIENT_COMPUTE", "It failed.")
        return super().run(plan, workspace, tools)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Private:
    monkeypatch.setattr(jobs, "LEASE_SECONDS", 0.4)
    monkeypatch.setattr("passbox.jobs.supervisor.RENEW_SECONDS", 0.1)
    monkeypatch.setattr("passbox.jobs.supervisor.RETRY_SECONDS", 0.0)
    return Private(tmp_path)


@pytest.mark.parametrize("parent", [False, True])
@pytest.mark.parametrize("point", POINTS)
def test_epsilon_is_spent_once_wherever_it_is_killed(
    world: Private, point: str, parent: bool, tmp_path: Path
) -> None:
    row, notes = world.private(), tmp_path / "notes"
    kind, checkpoint = Reads(world, notes), KillOnce(point, tmp_path / "killed", parent=parent)
    if parent:
        process = world.worker_process(kind, checkpoint=checkpoint)
        process.join(10)
        assert process.exitcode == -signal.SIGKILL
        assert world.spent() == COST, "between a crash and the next worker nothing is free again"
    supervisor = world.supervisor(kind, checkpoint=checkpoint)
    world.work_until(lambda: is_over(world, row), supervisor)
    world.work_until(lambda: not supervisor._running, supervisor)
    assert (tmp_path / "killed").exists()
    assert world.resource(row).status == statuses.OF["protected_query"].done
    assert world.epsilon(row) == [("post", COST), ("reserve", COST)]
    assert world.spent() == COST
    assert set(notes.read_text().split()) == {str(COST)}, "nothing is read before it is posted"


def test_what_always_dies_costs_no_money_and_all_its_epsilon(world: Private, tmp_path: Path) -> None:
    row = world.private()

    def die(point: str) -> None:
        if point == "disclose":
            os.kill(os.getpid(), signal.SIGKILL)

    supervisor = world.supervisor(Reads(world, tmp_path / "notes"), checkpoint=die)
    world.work_until(lambda: is_over(world, row), supervisor)
    assert world.resource(row).status == "FAILED"
    assert world.epsilon(row) == [("post", COST), ("reserve", COST)]
    assert world.spent() == COST


def test_a_failed_run_gives_the_money_back_and_no_epsilon(world: Private, tmp_path: Path) -> None:
    row = world.private()
    supervisor = world.supervisor(Reads(world, tmp_path / "notes", fails=True))
    world.work_until(lambda: is_over(world, row), supervisor)
    assert world.resource(row).status == "FAILED"
    assert world.epsilon(row) == [("post", COST), ("reserve", COST)]


def test_what_is_called_off_before_it_ran_gives_it_back(world: Private) -> None:
    row = world.private()
    with world.database.write() as tx:
        assert jobs.request_cancel(tx, row.id)
    world.work_until(lambda: is_over(world, row), world.supervisor())
    assert world.epsilon(row) == [("reserve", COST), ("void", 0)]
    assert world.spent() == 0
