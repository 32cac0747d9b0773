"""The two who are asked: Sail as passbox runs it, sealed and behind the gate, and Spark by its own client."""

import contextlib
import json
import logging
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from lib.engine import RULE, US
from passbox.analysis import ApprovedPlan, Purpose, Table, approve
from passbox.analysis.plan import _KEY, Column
from passbox.backends.engines import connect, sail
from passbox.backends.engines.base import Resources, TableFiles
from passbox.backends.runtimes.base import Runtime
from passbox.errors import QueryRefused
from spec.functions.corpus import Answer, Case, answer, tables


def gate(case: Case, **purpose: Any) -> ApprovedPlan | QueryRefused:
    """What the gate makes of a case, under a rule that lets everything be selected."""
    receivers = {"allowedResultReceivers": [US]}
    known = {
        name: Table(name, US, tuple(Column(*item) for item in types.items()), "CUSTOM", RULE, receivers)
        for name, (types, _) in tables().items()
    }
    try:
        return approve(case.query, case.parameters, known, Purpose(US, receivers=(US,), **purpose))
    except QueryRefused as refusal:
        return refusal


def write(directory: Path) -> dict[str, TableFiles]:
    """The tables as Parquet files."""
    files = {}
    for name, (types, rows) in tables().items():
        path = directory / f"{name}.parquet"
        parquet.write_table(rows, path)
        files[name] = TableFiles((path,), "parquet", tuple(Column(*item) for item in types.items()))
    return files


@contextlib.contextmanager
def sealed_sail(runtime: Runtime, directory: Path) -> Iterator[Callable[[ApprovedPlan], Answer]]:
    """One sealed server with all tables, asked one plan after the other."""
    from pyspark.sql.pandas.types import from_arrow_type

    files = write(directory)
    everything = ApprovedPlan(
        "", {}, tuple(files), {n: tuple(c.name for c in t.columns) for n, t in files.items()}, (), key=_KEY
    )
    log = directory / "engine.log"
    sandbox = runtime.start(sail._spec(everything, files, Resources(2 << 30, 2.0, 600.0), log))
    try:
        stream, root = sail._await(sandbox, log)
        port = json.loads(log.read_text().partition("\n")[0])[0]

        def opened(stream: socket.socket) -> connect.Session:
            session = connect.Session(stream)
            session.prepare({})
            for number, (name, table) in enumerate(files.items()):
                paths = [root + path for path in sail._paths(number, table)]
                session.register(name, table, everything.columns[name], paths)
            return session

        session = opened(stream)

        def ask(plan: ApprovedPlan) -> Answer:
            nonlocal session
            try:
                schema, batches = session.query(plan)
                found = pa.Table.from_batches(list(batches), schema)
            except Exception as error:
                # a connection that was left in the middle of an answer serves no other call
                session.close()
                session = opened(sandbox.connect(port))
                return Answer("fails", str(error))
            return answer([from_arrow_type(column.type).simpleString() for column in schema], found)

        yield ask
    finally:
        sandbox.kill()


@contextlib.contextmanager
def real_spark(remote: str, directory: Path) -> Iterator[Callable[[Case], Answer]]:
    """A Spark with the same tables, asked the text as it was written, through Spark's own client."""
    from pyspark.errors import PySparkException
    from pyspark.sql.connect.session import SparkSession

    logging.getLogger("SQLQueryContextLogger").disabled = True  # it would tell every failure at length
    spark = SparkSession.builder.remote(remote).create()
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    spark.conf.set("spark.sql.ansi.enabled", "true")
    for name, table in write(directory).items():
        read = spark.read.parquet(*map(str, table.files))
        cast = [f"CAST(`{column.name}` AS {column.type}) AS `{column.name}`" for column in table.columns]
        read.selectExpr(*cast).createOrReplaceTempView(name)

    def ask(case: Case) -> Answer:
        try:
            frame = spark.sql(case.query, dict(case.parameters))
            return answer([column.dataType.simpleString() for column in frame.schema], frame.toArrow())
        except PySparkException as error:
            return Answer("fails", _kind(error))

    try:
        yield ask
    finally:
        spark.stop()


def _kind(error: Any) -> str:
    """Spark's name of the condition, which is the same from release to release, as its words are not."""
    named = re.search(r"\[([A-Z_]+(?:\.[A-Z_]+)*)\]", str(error))
    return named[1] if named else type(error).__name__


def where(case: Case) -> str:
    """`everywhere`, `spark`, or the rule by which the gate refuses it on any engine."""
    found = gate(case)
    if not isinstance(found, QueryRefused):
        return "everywhere"
    return "spark" if found.rule == "sql.engine" else str(found.rule)
