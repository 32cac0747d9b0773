"""Writes that are committed together: each is undone alone, none lasts before the commit, all or none last
after it; and who waits for a commit is answered after it.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from passbox import names
from passbox.errors import ConflictException
from passbox.state import resources
from passbox.state.database import Database
from passbox.state.resources import Resource
from passbox.wire.together import Later, Together


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "db.sqlite")


def row(id: str, **columns: Any) -> Resource:
    now = names.now()
    fixed: dict[str, Any] = {"kind": "configured_table", "arn": f"arn:{id}", "account": "1" * 12}
    return Resource(**{**fixed, "id": id, "created": now, "updated": now, **columns})


def ids(database: Database) -> list[str]:
    with database.read() as tx:
        return [found.id for found in resources.find(tx, "configured_table")]


def test_nothing_lasts_before_the_commit_and_all_of_it_after(database: Database) -> None:
    group = database.begin()
    for id in "ab":
        with group.write() as tx:
            resources.add(tx, row(id))
    assert ids(database) == []
    group.commit()
    assert ids(database) == ["a", "b"]


def test_an_exception_undoes_its_own_write_only(database: Database) -> None:
    with database.group() as group:
        with group.write() as tx:
            resources.add(tx, row("a"))
        with pytest.raises(ZeroDivisionError), group.write() as tx:  # noqa: PT012
            resources.add(tx, row("b"))
            raise ZeroDivisionError
        with group.write() as tx:
            resources.add(tx, row("c"))
    assert ids(database) == ["a", "c"]


def test_an_abandoned_group_leaves_nothing_and_gives_the_turn_on(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.group() as group:  # noqa: PT012
        with group.write() as tx:
            resources.add(tx, row("a"))
        raise ZeroDivisionError
    with database.write() as tx:
        resources.add(tx, row("b"))
    assert ids(database) == ["b"]


def test_a_group_whose_transaction_is_gone_writes_nothing_more(database: Database) -> None:
    group = database.begin()
    with group.write() as tx:
        resources.add(tx, row("a"))
    group.connection.execute("ROLLBACK")  # as SQLite does by itself when the disk is full
    with pytest.raises(LookupError), group.write() as tx:
        resources.add(tx, row("b"))
    with pytest.raises(sqlite3.OperationalError):
        group.commit()
    assert ids(database) == []


def test_what_a_transaction_has_read_follows_what_it_writes(database: Database) -> None:
    with database.write() as tx:
        resources.add(tx, row("a", status="NEW"))
    with database.group() as group:
        with pytest.raises(ZeroDivisionError), group.write() as tx:  # noqa: PT012
            changed = resources.change(tx, resources.require(tx, "configured_table", "a"), status="OLD")
            assert resources.by_arn(tx, "configured_table", "arn:a") == changed
            raise ZeroDivisionError
        with group.write() as tx:
            found = resources.require(tx, "configured_table", "a")
            assert (found.status, found.version) == ("NEW", 1)
            resources.change(tx, found, status="OLD")
            with pytest.raises(ConflictException):
                resources.change(tx, found, status="OLDER")
        with group.write() as tx:
            found = resources.require(tx, "configured_table", "a")
            assert (found.status, found.version) == ("OLD", 2)
            resources.remove(tx, found)
            assert resources.get(tx, "configured_table", "a") is None
            assert resources.by_arn(tx, "configured_table", "arn:a") is None


def test_a_place_is_never_given_twice(database: Database) -> None:
    with database.write() as tx:
        resources.add(tx, row("a"))
        resources.remove(tx, resources.require(tx, "configured_table", "a"))
        resources.add(tx, row("a"))
    with database.read() as tx:
        [(sequence, version)] = resources.places(tx, "configured_table", limit=10)
    assert (sequence, version) == (2, 1)


class Commits:
    """A group that counts; its commit waits until it may end, or fails."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.committed: list[int] = []
        self.calls = 0
        self.fails = False

    def begin(self) -> "Commits":
        self.calls = 0
        return self

    def commit(self) -> None:
        assert self.may_end.wait(10)
        if self.fails:
            raise OSError("no space left")
        self.committed.append(self.calls)


def call(answer: Any) -> Callable[[Commits], Any]:
    def make(group: Commits) -> Any:
        group.calls += 1
        if isinstance(answer, Exception):
            raise answer
        return answer

    return make


def test_nobody_is_answered_before_the_commit_not_even_with_a_refusal() -> None:
    async def run() -> None:
        group = Commits()
        together = Together(group.begin)
        waiting = [asyncio.ensure_future(together.run(call(each))) for each in (1, ValueError("no"), 3)]
        while group.calls < 3:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not any(one.done() for one in waiting)
        group.may_end.set()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert [str(one) for one in found] == ["1", "no", "3"]
        assert group.committed == [3]
        together.shutdown()

    asyncio.run(run())


def test_a_commit_that_fails_is_told_to_all_of_its_group_and_the_next_group_goes_on() -> None:
    async def run() -> None:
        group = Commits()
        group.may_end.set()
        group.fails = True
        together = Together(group.begin)
        found = await asyncio.gather(*(together.run(call(n)) for n in range(3)), return_exceptions=True)
        assert {str(one) for one in found} == {"no space left"}
        group.fails = False
        assert await together.run(call("on")) == "on"
        together.shutdown()

    asyncio.run(run())


def test_a_group_that_cannot_begin_is_told_to_all_that_wait() -> None:
    def begin() -> Commits:
        raise OSError("locked")

    async def run() -> None:
        together = Together(begin)
        found = await asyncio.gather(*(together.run(call(n)) for n in range(3)), return_exceptions=True)
        assert {str(one) for one in found} == {"locked"}
        together.shutdown()

    asyncio.run(run())


def test_what_is_slow_is_told_apart_from_what_failed() -> None:
    async def run() -> None:
        group = Commits()
        group.may_end.set()
        together = Together(group.begin)
        with pytest.raises(Later):
            await together.run(call(Later(lambda: None)))
        together.shutdown()

    asyncio.run(run())
