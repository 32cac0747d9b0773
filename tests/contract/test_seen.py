"""What a write has read is true for the next one. It is forgotten when another connection writes, when a
write is undone, and when the row, or its list, changes; what is remembered is not read again.
"""

import multiprocessing
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from passbox import names
from passbox.errors import ConflictException
from passbox.state import caps, resources
from passbox.state import database as module
from passbox.state.database import Database, Transaction
from passbox.state.resources import Resource

KIND, ROOM = "member", "c"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "db.sqlite"


@pytest.fixture
def database(path: Path) -> Database:
    made = Database(path)
    with made.write() as tx:
        resources.add(tx, row("a"))
    return made


def row(id: str, **columns: Any) -> Resource:
    now = names.now()
    fixed: dict[str, Any] = {"kind": KIND, "arn": f"arn:{id}", "account": "1" * 12}
    fixed |= {"collaboration": ROOM, "parent": ROOM}
    return Resource(**{**fixed, "id": id, "status": "NEW", "created": now, "updated": now, **columns})


def see(tx: Transaction) -> list[str]:
    """What the reads that are remembered give for the row `a` and its two lists, which have the same rows."""
    found = resources.get(tx, KIND, "a"), resources.by_arn(tx, KIND, "arn:a")
    rows = resources.all_in(tx, KIND, ROOM)
    assert resources.all_under(tx, KIND, ROOM) == rows
    listed = ",".join(f"{each.id}:{each.status}" for each in rows)
    return [*(str(each and each.status) for each in found), listed]


def change(path: Path) -> None:
    other = Database(path)
    with other.write() as tx:
        resources.change(tx, resources.require(tx, KIND, "a"), status="OLD")
    other.close()


@contextmanager
def queries(database: Database) -> Iterator[list[str]]:
    """The SELECTs of the writer meanwhile."""
    asked: list[str] = []
    assert database._writer is not None
    database._writer.set_trace_callback(
        lambda text: asked.append(text) if text.startswith("SELECT") else None
    )
    yield asked
    database._writer.set_trace_callback(None)


def test_what_nobody_has_written_is_read_once(database: Database) -> None:
    with database.write() as tx:
        assert see(tx) == ["NEW", "NEW", "a:NEW"]
    with queries(database) as asked:
        with database.write() as tx:
            resources.add(tx, row("x", collaboration="elsewhere", parent="elsewhere"))
            assert see(tx) == ["NEW", "NEW", "a:NEW"]
        with database.group() as group, group.write() as tx:
            assert see(tx) == ["NEW", "NEW", "a:NEW"]
    assert asked == []


@pytest.mark.parametrize("process", [False, True], ids=["connection", "process"])
def test_what_another_writes_between_two_groups_is_seen(
    database: Database, path: Path, process: bool
) -> None:
    with database.write() as tx:
        see(tx)
    if process:
        other = multiprocessing.get_context("spawn").Process(target=change, args=(path,))
        other.start()
        other.join()
        assert other.exitcode == 0
    else:
        change(path)
    with database.group() as group, group.write() as tx:
        assert see(tx) == ["OLD", "OLD", "a:OLD"]


def test_what_this_process_writes_is_seen_by_the_next_write(database: Database) -> None:
    with database.write() as tx:
        see(tx)
        resources.change(tx, resources.require(tx, KIND, "a"), status="OLD")
    with database.write() as tx:
        assert see(tx) == ["OLD", "OLD", "a:OLD"]
        resources.add(tx, row("b"))
        assert see(tx) == ["OLD", "OLD", "a:OLD,b:NEW"]
    with database.write() as tx:
        resources.remove(tx, resources.require(tx, KIND, "a"))
    with database.write() as tx:
        assert see(tx) == ["None", "None", "b:NEW"]


def test_a_cap_is_read_once_until_it_changes(database: Database) -> None:
    def limits(tx: Transaction) -> list[int]:
        return [cap.limit for cap in caps.of_cost(tx, "p", ROOM, "t")]

    month, lifetime = (caps.Cap("p", ROOM, "t", period, 5, 0.0, 0.0) for period in ("MONTH", "LIFETIME"))
    with database.write() as tx:
        assert limits(tx) == []
        caps.put(tx, month)
        assert limits(tx) == [5]
    with database.write() as tx:
        caps.put(tx, month._replace(limit=7))
        assert limits(tx) == [7]
        caps.put(tx, lifetime)
        assert limits(tx) == [5, 7]
        caps.remove(tx, month)
    with database.write() as tx:
        assert limits(tx) == [5]
    with queries(database) as asked, database.write() as tx:
        assert limits(tx) == [5]
        assert caps.of_cost(tx, "p", ROOM, "another") == []
    assert len(asked) == 1


def test_an_undone_write_of_a_group_leaves_nothing_seen(database: Database) -> None:
    with database.group() as group:
        with pytest.raises(ZeroDivisionError), group.write() as tx:  # noqa: PT012
            resources.change(tx, resources.require(tx, KIND, "a"), status="OLD")
            resources.add(tx, row("b"))
            assert see(tx) == ["OLD", "OLD", "a:OLD,b:NEW"]
            raise ZeroDivisionError
        with group.write() as tx:
            assert see(tx) == ["NEW", "NEW", "a:NEW"]
    with database.write() as tx:
        assert see(tx) == ["NEW", "NEW", "a:NEW"]


@pytest.mark.parametrize("how", ["abandoned", "raised", "not committed", "rolled back"])
def test_a_group_that_does_not_last_leaves_nothing_seen(database: Database, how: str) -> None:
    group = database.begin()
    with group.write() as tx:
        resources.change(tx, resources.require(tx, KIND, "a"), status="OLD")
        see(tx)
    if how == "abandoned":
        group.abandon()
    elif how == "raised":
        group.abandon()
        with pytest.raises(ZeroDivisionError), database.write() as tx:  # noqa: PT012
            resources.change(tx, resources.require(tx, KIND, "a"), status="OLD")
            see(tx)
            raise ZeroDivisionError
    else:
        if how == "rolled back":
            group.connection.execute("ROLLBACK")  # as SQLite does by itself when the disk is full
        else:
            group.connection.execute("PRAGMA defer_foreign_keys = ON")
            group.connection.execute(
                "INSERT INTO access_key VALUES ('k', 'nobody', x'', 0)"  # fails when it is committed
            )
        with pytest.raises(sqlite3.Error):
            group.commit()
    with database.write() as tx:
        assert see(tx) == ["NEW", "NEW", "a:NEW"]


def test_a_version_that_is_gone_conflicts_still(database: Database, path: Path) -> None:
    with database.write() as tx:
        held = resources.require(tx, KIND, "a")
    change(path)
    for undo in (resources.change, resources.remove):
        with pytest.raises(ConflictException), database.write() as tx:
            undo(tx, held)
    with database.write() as tx:
        assert see(tx) == ["OLD", "OLD", "a:OLD"]


def test_what_is_remembered_is_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SEEN", 2)
    with database.write() as tx:
        see(tx)
    with queries(database) as asked, database.write() as tx:
        see(tx)
    assert len(asked) == 4


def test_a_database_opened_again_has_seen_nothing(database: Database, path: Path) -> None:
    with database.write() as tx:
        see(tx)
    database.close()
    change(path)
    with database.write() as tx:
        assert see(tx) == ["OLD", "OLD", "a:OLD"]


def test_at_once_is_refused_where_another_has_the_turn_and_takes_it_after(
    database: Database, path: Path
) -> None:
    other = Database(path)
    for busy in (database, other):
        held = busy.begin()
        assert database.begin_at_once() is None
        held.commit()
    group = database.begin_at_once()
    assert group is not None
    with group.write() as tx:
        resources.add(tx, row("b"))
    group.commit()
    with other.read() as tx:
        assert [each.id for each in resources.find(tx, KIND)] == ["a", "b"]
