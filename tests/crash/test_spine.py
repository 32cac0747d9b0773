"""A job survives SIGKILL of its process or of the whole worker at every point of the spine: it ends once, its
files are there once, and it is paid once.
"""

import os
import resource
import signal
import time
from pathlib import Path

import pytest

from lib.work import ACCOUNT, MEASURED, KillOnce, World, Writes
from passbox import manifest
from passbox.errors import JobFailed
from passbox.jobs import spine
from passbox.jobs.kind import Result, Tools, Workspace
from passbox.ledger import book
from passbox.state import events, jobs, resources, statuses, transfers
from passbox.state.resources import Resource

POINTS = [
    "approve",
    "run",
    "disclose",
    "before post",
    "post",
    "before deliver",
    "deliver",
    "delivered",
    "before ended",
]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(jobs, "LEASE_SECONDS", 0.4)
    monkeypatch.setattr("passbox.jobs.supervisor.RENEW_SECONDS", 0.1)
    monkeypatch.setattr("passbox.jobs.supervisor.RETRY_SECONDS", 0.0)
    return World(tmp_path)


def is_over(world: World, row: Resource) -> bool:
    return world.job(row).state == "ended"


def assert_ended_once(world: World, row: Resource) -> None:
    found, own = world.resource(row), statuses.OF[row.kind]
    assert found.status == own.done
    assert found.body["usage"] == {"records": MEASURED}
    delivered = world.home / "accounts" / ACCOUNT / "buckets" / "results" / "room" / "model"
    assert delivered.read_text() == row.id
    assert (world.home / "vault" / row.kind / row.id / "model").read_text() == row.id
    assert list((world.home / "scratch").iterdir()) == []
    assert list((world.home / "vault" / "staging").iterdir()) == []
    job = world.job(row).id
    with world.database.read() as tx:
        book.check(tx)
        kinds = [entry.kind for entry in transfers.of_job(tx, job)]
        posted = [entry for entry in transfers.all_(tx) if entry.kind == "post"]
        history = [after for _, _, _, after in events.of(tx, row.id)]
    assert sorted(kinds) == ["post", "reserve"]
    assert [entry.amount for entry in posted] == [MEASURED * 10]
    assert history == [own.waiting, own.working, own.done]
    assert_one_manifest(world, row)


def assert_one_manifest(world: World, row: Resource) -> None:
    """It is signed, and says what has become of the job."""
    with world.database.read() as tx:
        [found] = resources.find(tx, "run_manifest", parent=row.id)
    document = manifest.parse(found.body["document"])
    openings = [{name: one[name] for name in ("seal", "nonce", "value")} for one in found.body["openings"]]
    checked = manifest.check(document, found.body["signature"], openings)
    assert checked.shut == 0
    assert document["status"] == world.resource(row).status


@pytest.mark.parametrize("kind", ["trained_model", "protected_query"])
@pytest.mark.parametrize("point", POINTS)
def test_the_jobs_process_is_killed(world: World, point: str, kind: str, tmp_path: Path) -> None:
    row = world.submit(kind)
    supervisor = world.supervisor(checkpoint=KillOnce(point, tmp_path / "killed", parent=False))
    world.work_until(lambda: is_over(world, row), supervisor)
    world.work_until(lambda: not supervisor._running, supervisor)
    assert (tmp_path / "killed").exists()
    assert_ended_once(world, row)


@pytest.mark.parametrize("kind", ["trained_model", "protected_query"])
@pytest.mark.parametrize("point", POINTS)
def test_the_whole_worker_is_killed(world: World, point: str, kind: str, tmp_path: Path) -> None:
    row = world.submit(kind)
    checkpoint = KillOnce(point, tmp_path / "killed", parent=True)
    process = world.worker_process(checkpoint=checkpoint)
    process.join(10)
    assert process.exitcode == -signal.SIGKILL
    supervisor = world.supervisor(checkpoint=checkpoint)
    world.work_until(lambda: is_over(world, row), supervisor)
    world.work_until(lambda: not supervisor._running, supervisor)
    assert_ended_once(world, row)


@pytest.mark.parametrize("kind", ["trained_model", "protected_query"])
def test_a_job_that_always_kills_its_process_fails_and_costs_nothing(world: World, kind: str) -> None:
    row = world.submit(kind)

    def die(point: str) -> None:
        if point == "run":
            os.kill(os.getpid(), signal.SIGKILL)

    supervisor = world.supervisor(checkpoint=die)
    world.work_until(lambda: is_over(world, row), supervisor)
    found = world.resource(row)
    assert found.status == statuses.OF[kind].failed
    assert found.body["statusDetails"]["statusCode"] == "INTERNAL_ERROR"
    assert_one_manifest(world, row)
    job = world.job(row)
    assert job.attempt == spine.ATTEMPTS
    with world.database.read() as tx:
        book.check(tx)
        assert sorted(entry.kind for entry in transfers.of_job(tx, job.id)) == ["reserve", "void"]


@pytest.mark.parametrize(
    ("kind", "status"), [("trained_model", "INACTIVE"), ("protected_query", "CANCELLED")]
)
def test_a_cancel_ends_a_running_job_within_two_seconds(world: World, kind: str, status: str) -> None:
    row = world.submit(kind)
    supervisor = world.supervisor(Writes(slow=60))
    world.work_until(lambda: world.job(row).progress == "writing", supervisor)
    asked = time.monotonic()
    with world.database.write() as tx:
        assert jobs.request_cancel(tx, row.id)
    world.work_until(lambda: is_over(world, row), supervisor)
    assert time.monotonic() - asked < 2.0
    assert world.resource(row).status == status
    assert list((world.home / "scratch").iterdir()) == []
    job = world.job(row).id
    with world.database.read() as tx:
        book.check(tx)
        assert book.open_reservations(tx, job) == []


def test_a_cancel_comes_too_late_once_the_job_is_posted(world: World, tmp_path: Path) -> None:
    row = world.submit()
    supervisor = world.supervisor(checkpoint=KillOnce("deliver", tmp_path / "killed", parent=False))
    world.work_until(lambda: world.job(row).step == "deliver", supervisor)
    with world.database.write() as tx:
        assert not jobs.request_cancel(tx, row.id)
    world.work_until(lambda: is_over(world, row), supervisor)
    assert world.resource(row).status == "ACTIVE"


def test_two_workers_never_have_the_same_job(world: World) -> None:
    rows = [world.submit() for _ in range(12)]
    supervisors = [world.supervisor(slots=3), world.supervisor(slots=3)]
    deadline = time.monotonic() + 30
    while not all(is_over(world, row) for row in rows):
        assert time.monotonic() < deadline
        for supervisor in supervisors:
            supervisor.step()
    assert {world.job(row).attempt for row in rows} == {1}
    assert {world.resource(row).status for row in rows} == {"ACTIVE"}
    with world.database.read() as tx:
        book.check(tx)
        assert sum(entry.kind == "post" for entry in transfers.all_(tx)) == len(rows)


def test_a_worker_that_lost_its_lease_writes_nothing(world: World) -> None:
    row = world.submit()
    with world.database.write() as tx:
        lost = jobs.claim(tx, "slow")
    assert lost is not None
    time.sleep(0.5)  # the lease, not a guess: LEASE_SECONDS is 0.4 here
    with world.database.write() as tx:
        taken = jobs.claim(tx, "quick")
    assert taken is not None
    assert taken.attempt == lost.attempt + 1
    with pytest.raises(jobs.LeaseLost), world.database.write() as tx:
        jobs.advance(tx, lost, "post", {})
    assert world.job(row).step == "approve"


def test_what_an_ended_job_left_is_swept_when_a_worker_starts(world: World, tmp_path: Path) -> None:
    row, running = world.submit(), world.submit()
    supervisor = world.supervisor()
    world.work_until(lambda: is_over(world, row) and is_over(world, running), supervisor)
    left = tmp_path / "vault" / "staging" / world.job(row).id
    (left / "kept").mkdir(parents=True)
    (left / "kept" / "model").write_text("somebody's")
    waiting = world.submit()
    kept = tmp_path / "vault" / "staging" / world.job(waiting).id
    kept.mkdir()
    spine.sweep(world.database, world.tools())
    assert not left.exists()
    assert kept.exists()


class LeavesADeepTree(Writes):
    """Leaves directories deeper than any walk that recurses, and then fails as told."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def run(self, plan: str, workspace: Workspace, tools: Tools) -> Result:
        here = os.open(workspace.directory("left"), os.O_RDONLY)
        for _ in range(2000):
            os.mkdir("d", dir_fd=here)
            here = os.open("d", os.O_RDONLY, dir_fd=here)
        os.closerange(here - 1990, here + 1)
        if self.how == "fails":
            raise JobFailed("AlgorithmError", "It failed.")
        os.kill(os.getpid(), signal.SIGKILL)
        return super().run(plan, workspace, tools)


@pytest.mark.parametrize(("how", "code"), [("fails", "AlgorithmError"), ("dies", "INTERNAL_ERROR")])
def test_a_deep_tree_does_not_end_the_worker(world: World, how: str, code: str) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    row = world.submit()
    supervisor = world.supervisor(LeavesADeepTree(how))
    world.work_until(lambda: is_over(world, row), supervisor)
    world.work_until(lambda: not supervisor._running, supervisor)
    assert world.resource(row).body["statusDetails"]["statusCode"] == code
    assert list((world.home / "scratch").iterdir()) == []
    assert list((world.home / "vault" / "staging").iterdir()) == []
