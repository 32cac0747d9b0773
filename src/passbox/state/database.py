"""Opens the database and gives transactions. The only place that knows it is SQLite.

A write begins IMMEDIATE, so two writers queue instead of failing half-way, and is durable when it returns
(WAL with synchronous=FULL). Within this process writers wait on a lock, which is fair and does not poll.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import event

from passbox.errors import Misconfigured
from passbox.state import tables

Transaction = sqlalchemy.Connection

SCHEMA_VERSION = 1

_IMMUTABLE = [
    f"CREATE TRIGGER IF NOT EXISTS transfer_never_{verb.lower()}d BEFORE {verb} ON transfer "
    f"BEGIN SELECT RAISE(ABORT, 'transfers are append-only'); END"
    for verb in ("UPDATE", "DELETE")
]


class Database:
    """One database file. Safe to share between threads; every process opens its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writers = threading.Lock()
        self._engine = sqlalchemy.create_engine(
            f"sqlite:///{path}",
            pool_size=32,
            max_overflow=32,
            pool_reset_on_return=None,
            connect_args={"check_same_thread": False, "timeout": 30.0},
        )
        event.listen(self._engine, "connect", self._configure)
        self._prepare()

    @staticmethod
    def _configure(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # BEGIN is ours to say
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
            "cache_size = -32768",
        ):
            connection.execute(f"PRAGMA {pragma}")

    def _prepare(self) -> None:
        with self._engine.connect() as connection:
            found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        if found == SCHEMA_VERSION:
            return
        if found:
            raise Misconfigured(
                f"{self.path} has schema version {found}, this passbox knows {SCHEMA_VERSION}; "
                "run the passbox version that wrote it, or start with another --home."
            )
        with self.write() as tx:
            if tx.exec_driver_sql("PRAGMA user_version").scalar_one() == SCHEMA_VERSION:
                return
            tables.metadata.create_all(tx)
            for trigger in _IMMUTABLE:
                tx.exec_driver_sql(trigger)
            tx.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A consistent snapshot."""
        with self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            try:
                yield connection
            finally:
                connection.exec_driver_sql("ROLLBACK")
                connection.rollback()

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """One atomic, durable change: all of it on return, none of it on an exception."""
        with self._writers, self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.exec_driver_sql("ROLLBACK")
                raise
            else:
                connection.exec_driver_sql("COMMIT")
            finally:
                connection.rollback()

    def close(self) -> None:
        self._engine.dispose()
