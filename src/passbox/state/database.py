"""Opens the database and gives transactions. The only place that knows it is SQLite.

A write begins IMMEDIATE, so two writers queue instead of failing half-way, and is durable when it returns
(WAL with synchronous=FULL). Within this process writers take turns on one connection. Who has several writes
at hand makes them a Group: each in a savepoint of its own, all in one commit, because one fsync costs more
than their work. What a write has read is remembered for the next one, until another process writes.

Statements are built once with SQLAlchemy Core, compiled once to text, and executed by the driver: the layers
between cost four times what SQLite does (docs/decisions/0004).
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Dialect, Executable, Insert
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.sql.compiler import SQLCompiler

from passbox.errors import Misconfigured
from passbox.state import tables

SCHEMA_VERSION = 5
PATIENCE = 30_000  # milliseconds that a write waits for those of other processes
_SEEN = 2_000  # reads that are remembered


class _Compiler(SQLiteCompiler):
    """Leaves out the OFFSET 0 that SQLAlchemy binds to every LIMIT for SQLite."""

    limit_clause = SQLCompiler.limit_clause


def _dialect(paramstyle: Literal["named", "qmark"]) -> Dialect:
    made = sqlite.dialect(paramstyle=paramstyle)
    made.statement_compiler = _Compiler
    return made


_DIALECT, _IN_ORDER = _dialect("named"), _dialect("qmark")
_IMMUTABLE = [
    f"CREATE TRIGGER transfer_never_{verb.lower()}d BEFORE {verb} ON transfer "
    f"BEGIN SELECT RAISE(ABORT, 'transfers are append-only'); END"
    for verb in ("UPDATE", "DELETE")
]

Row = sqlite3.Row


class Statement:
    """A statement of SQLAlchemy Core with its text, compiled on first use. Make it once, at import."""

    def __init__(self, statement: Executable) -> None:
        self._statement = statement
        self._text: str | None = None
        self._bound: dict[str, Any] = {}

    def text(self, parameters: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        """SQL with named parameters, and their values."""
        if self._text is None:
            keys = list(parameters) if isinstance(self._statement, Insert) else None
            compiled = self._statement.compile(dialect=_DIALECT, column_keys=keys)  # type: ignore[attr-defined]
            self._bound = {name: value for name, value in compiled.params.items() if value is not None}
            self._text = str(compiled)
        return self._text, {**self._bound, **parameters} if self._bound else parameters


class Insertion:
    """An INSERT whose values come as a row, so that the driver looks none up by its name.

    columns: what the row has, in the order of the table; then other parameters of the statement
    """

    def __init__(self, statement: Insert, columns: Sequence[str]) -> None:
        self._statement = statement
        self._columns = columns

    @cached_property
    def text(self) -> str:
        """SQL with a question mark for each column."""
        keys = [name for name in self._columns if name in self._statement.table.c]
        compiled = self._statement.compile(dialect=_IN_ORDER, column_keys=keys)
        if compiled.positiontup != list(self._columns):
            raise TypeError(f"{compiled}: its values do not come in the order {self._columns}")
        return str(compiled)


class Transaction:
    """What happens in one transaction. Rows are read by column name.

    seen: what has been read, for `resources` to keep in step with what it writes. A write finds there what
    earlier writes of this process have read, as long as nobody else has written.
    """

    def __init__(self, connection: sqlite3.Connection, seen: dict[Any, Any] | None = None) -> None:
        self._connection = connection
        self.seen = {} if seen is None else seen

    def execute(self, statement: Statement, parameters: Mapping[str, Any] | None = None) -> int:
        """Runs a change; how many rows it touched."""
        text, values = statement.text(parameters or {})
        return self._connection.execute(text, values).rowcount

    def insert(self, statement: Insertion, row: Sequence[Any]) -> bool:
        """Inserts a row; False where the statement leaves it at the one that is there."""
        return self._connection.execute(statement.text, row).rowcount == 1

    def insert_each(self, statement: Insertion, rows: Iterable[Sequence[Any]]) -> None:
        """Inserts several."""
        self._connection.executemany(statement.text, rows)

    def rows(self, statement: Statement, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """All rows of a query."""
        text, values = statement.text(parameters or {})
        return self._connection.execute(text, values).fetchall()

    def tuples(self, statement: Statement, parameters: Mapping[str, Any] | None = None) -> list[Any]:
        """All rows of a query as plain tuples."""
        text, values = statement.text(parameters or {})
        cursor = self._connection.cursor()
        cursor.row_factory = None
        return cursor.execute(text, values).fetchall()

    def row(self, statement: Statement, parameters: Mapping[str, Any] | None = None) -> Row | None:
        """The first row of a query."""
        text, values = statement.text(parameters or {})
        found: Row | None = self._connection.execute(text, values).fetchone()
        return found

    def value(self, statement: Statement, parameters: Mapping[str, Any] | None = None) -> Any:
        """The one value of a query that has one; LookupError where it gives no row."""
        found = self.row(statement, parameters)
        if found is None:
            raise LookupError("the query gave no row")
        return found[0]


class Group:
    """Writes that are committed together, by one caller at a time. Nothing of them lasts before `commit`.

    seen: what earlier groups have read and is still true; forgotten whenever anything is undone.
    """

    def __init__(self, connection: sqlite3.Connection, turn: threading.Lock, seen: dict[Any, Any]) -> None:
        self.connection = connection
        self._turn = turn
        self._seen = seen

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """One atomic change: an exception undoes all of it, and nothing of the others."""
        if not self.connection.in_transaction:
            raise LookupError("an earlier write of the group broke its transaction")
        self.connection.execute("SAVEPOINT one")
        try:
            yield Transaction(self.connection, self._seen)
        except BaseException:
            self._seen.clear()
            self.connection.execute("ROLLBACK TO one")
            raise
        finally:
            self.connection.execute("RELEASE one")

    def commit(self) -> None:
        """Makes all changes durable, or none if it raises, and ends the group."""
        try:
            self.connection.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._turn.release()

    def abandon(self) -> None:
        """Undoes every change and ends the group."""
        try:
            self._roll_back()
        finally:
            self._turn.release()

    def _roll_back(self) -> None:
        self._seen.clear()
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")


class Database:
    """One database file. Safe to share between threads; every process opens its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._turn = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._seen: dict[Any, Any] = {}
        self._version = 0  # of the data that was seen
        self._local = threading.local()
        self._open: list[sqlite3.Connection] = []
        try:
            self._prepare()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            raise Misconfigured(
                f"{path} is no database, or is damaged ({error}); put its backup in its place."
            ) from None

    def _connection(self) -> sqlite3.Connection:
        """This thread's connection."""
        found: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if found is not None:
            return found
        self._local.connection = self._connect()
        return self._connection()

    def _connect(self) -> sqlite3.Connection:
        made = sqlite3.connect(self.path, isolation_level=None, timeout=30, check_same_thread=False)
        made.row_factory = sqlite3.Row
        for pragma in (
            # a random identifier dirties a page in each index that has it, and a commit writes whole pages
            "page_size = 2048",
            "journal_mode = WAL",
            "synchronous = FULL",
            # 16 MB: pages that many commits write are copied home once
            "wal_autocheckpoint = 8000",
            "foreign_keys = ON",
            "cache_size = -32768",
            # the undo log of savepoints outgrows what SQLite keeps in memory by itself
            "temp_store = MEMORY",
        ):
            made.execute(f"PRAGMA {pragma}")
        self._open.append(made)
        return made

    def _prepare(self) -> None:
        connection = self._connection()
        [found] = connection.execute("PRAGMA user_version").fetchone()
        if found == SCHEMA_VERSION:
            return
        if found:
            raise Misconfigured(
                f"{self.path} has schema version {found}, this passbox knows {SCHEMA_VERSION}; "
                "run the passbox version that wrote it, or start with another --home."
            )
        connection.execute("BEGIN IMMEDIATE")
        try:
            [found] = connection.execute("PRAGMA user_version").fetchone()
            if found != SCHEMA_VERSION:  # else another process was faster
                self._create(connection)
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise

    @staticmethod
    def _create(connection: sqlite3.Connection) -> None:
        for table in tables.metadata.sorted_tables:
            connection.execute(str(CreateTable(table).compile(dialect=_DIALECT)))
        connection.execute("ANALYZE")  # makes the table of statistics, which are given and not measured
        for table in tables.metadata.sorted_tables:
            for index in sorted(table.indexes, key=lambda index: str(index.name)):
                connection.execute(str(CreateIndex(index).compile(dialect=_DIALECT)))
                if "rows" in index.info:
                    rows = " ".join(str(number) for number in index.info["rows"])
                    connection.execute(
                        "INSERT INTO sqlite_stat1 VALUES (?, ?, ?)", (table.name, index.name, rows)
                    )
        connection.execute("ANALYZE sqlite_schema")  # reads them
        for trigger in _IMMUTABLE:
            connection.execute(trigger)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A consistent snapshot."""
        connection = self._connection()
        connection.execute("BEGIN")
        try:
            yield Transaction(connection)
        finally:
            connection.execute("ROLLBACK")

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """One atomic, durable change: all of it on return, none of it on an exception."""
        with self.group() as group:
            yield Transaction(group.connection, self._seen)

    @contextmanager
    def group(self) -> Iterator[Group]:
        """Several changes, committed on return and abandoned on an exception."""
        group = self.begin()
        try:
            yield group
        except BaseException:
            group.abandon()
            raise
        group.commit()

    def begin(self) -> Group:
        """Waits for the writers' turn and holds it until the group is committed or abandoned."""
        self._turn.acquire()
        return self._begin(PATIENCE)

    def begin_at_once(self) -> Group | None:
        """The same, or None where another writer has the turn."""
        if not self._turn.acquire(blocking=False):
            return None
        try:
            return self._begin(0)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            return None

    def _begin(self, patience: int) -> Group:
        try:
            if self._writer is None:
                self._writer = self._connect()
            self._writer.execute(f"PRAGMA busy_timeout = {patience}")
            self._writer.execute("BEGIN IMMEDIATE")
        except BaseException:
            self._turn.release()
            raise
        group = Group(self._writer, self._turn, self._seen)
        try:
            # read once nobody else can write; it changes if, and only if, another connection has
            [version] = self._writer.execute("PRAGMA data_version").fetchone()
        except BaseException:
            group.abandon()
            raise
        if version != self._version or len(self._seen) > _SEEN:
            self._seen.clear()
            self._version = version
        return group

    def close(self) -> None:
        """Closes every connection; using the database again opens new ones. Call it while nothing runs."""
        while self._open:
            self._open.pop().close()
        self._local = threading.local()
        self._writer = None
        self._seen.clear()
