"""The queue's fence: whoever lost a job can write nothing, also where its attempts were counted anew."""

from pathlib import Path

import pytest

from lib.work import World
from passbox.state import jobs


def test_a_job_that_was_put_back_is_closed_to_who_had_it_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    row = world.submit()
    monkeypatch.setattr(jobs, "LEASE_SECONDS", -1.0)  # every lease is over at once
    with world.database.write() as tx:
        slow = jobs.claim(tx, "slow")
        orderly = jobs.claim(tx, "orderly")
    assert slow is not None
    assert orderly is not None
    with world.database.write() as tx:
        jobs.put_back(tx, orderly, 0)  # a worker that is stopped in good order; attempts begin anew
        heir = jobs.claim(tx, "heir")
    assert heir is not None
    assert (slow.attempt, heir.attempt) == (1, 1)
    for write in (
        lambda tx: jobs.renew(tx, slow),
        lambda tx: jobs.advance(tx, slow, "post", {}),
        lambda tx: jobs.end(tx, slow),
    ):
        with pytest.raises(jobs.LeaseLost), world.database.write() as tx:
            write(tx)
    assert world.job(row).step == "approve"
    with world.database.write() as tx:
        jobs.advance(tx, heir, "post", {})


def test_what_was_called_off_while_it_waited_is_claimed_at_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    kept, row = world.submit(), world.submit()
    with world.database.write() as tx:
        jobs.put_back(tx, jobs.claim(tx, "a") or pytest.fail("nothing to claim"), 3600)
        jobs.put_back(tx, jobs.claim(tx, "a") or pytest.fail("nothing to claim"), 3600)
        assert not jobs.any_called_off(tx)
        assert jobs.request_cancel(tx, row.id)
        assert jobs.any_called_off(tx)
        claimed = jobs.claim_called_off(tx, "b")
        assert not jobs.any_called_off(tx)
        assert jobs.claim_called_off(tx, "b") is None
    assert claimed is not None
    assert (claimed.resource, claimed.cancel) == (row.id, True)
    assert world.job(kept).state == "queued"


def test_a_cancel_needs_no_slot(tmp_path: Path) -> None:
    """A worker with its hands full ends what was cancelled while it waited, and voids its reservation."""
    world = World(tmp_path)
    rows = [world.submit() for _ in range(3)]
    supervisor = world.supervisor(slots=0)
    with world.database.write() as tx:
        for row in rows[1:]:
            assert jobs.request_cancel(tx, row.id)
    supervisor.step()
    assert [world.job(row).state for row in rows] == ["queued", "ended", "ended"]
    assert [world.resource(row).status for row in rows] == ["CREATE_PENDING", "INACTIVE", "INACTIVE"]
