"""The program inside a PySpark job's sandbox: an engine, a session, the member's script, and its results.

Run by its path, `script.py JOB RESULTS REPORT`. JOB holds job.json (`Order`), script.py, the files of each
table in tables/0, tables/1, … and perhaps environment.tar.gz; each result goes to RESULTS/NAME as Parquet.
Engine and script are one process, because all that the sandbox holds is the script's to read anyway.

From the moment at which the script runs, whatever this process says is the script's to say: how it ends
(`End`), the words in REPORT/failure and the counts in REPORT/rows.json. Whoever reads that must not believe
it, and must not show the words to who may not read the tables.

The user script is written as AWS documents it: `entrypoint(context)`, where context["sparkSession"] is the
session, context["referencedTables"][NAME] a DataFrame and context["analysisParameters"] the parameters, all
texts, where the template has any; it returns {"results": {NAME: DataFrame}}.
"""

import enum
import json
import os
import re
import sys
import tarfile
import traceback
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # run by its path, isolated: the package is above
    sys.path.insert(0, str(Path(__file__).absolute().parents[3]))

from passbox.backends.engines import writer
from passbox.errors import JobFailed

ORDER, SCRIPT, ENVIRONMENT, TABLES = "job.json", "script.py", "environment.tar.gz", "tables"
FAILURE, ROWS = "failure", "rows.json"
RESULT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}", re.ASCII)
MOST_RESULTS = 100


class End(enum.IntEnum):
    """How the program ends, as its exit status."""

    DONE = 0
    NOT_PYTHON = 64
    NO_ENTRYPOINT = 65
    RAISED = 66
    NO_RESULTS = 67
    NOT_WRITTEN = 68
    NO_ENVIRONMENT = 69
    NO_MEMORY = 70
    NO_ENGINE = 71


class _Ended(Exception):
    """The job cannot go on; the exception's text is for who may read details."""

    def __init__(self, end: End, words: str = "") -> None:
        super().__init__(words)
        self.end = end


def main() -> None:
    """Does the job and ends the process, whatever threads the script has left."""
    job, results, report = map(Path, sys.argv[1:4])
    try:
        rows = _run(job, results)
        (report / ROWS).write_text(json.dumps(rows))
        end = End.DONE
    except _Ended as ended:
        end = ended.end
        (report / FAILURE).write_text(str(ended), errors="replace")
    os._exit(end)


def _run(job: Path, results: Path) -> dict[str, int]:
    order = json.loads((job / ORDER).read_text())
    name = order["name"]
    try:
        code = compile((job / SCRIPT).read_bytes(), name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _Ended(End.NOT_PYTHON, _words(error, name)) from None
    server = _start(_server)  # it serves for as long as it is held
    spark = _start(_session, server)
    tables = {table: _start(_table, spark, job, number) for number, table in enumerate(order["tables"])}
    for table, frame in tables.items():
        frame.createOrReplaceTempView(table)
    if (job / ENVIRONMENT).exists():
        _environment(job / ENVIRONMENT)
    context = {"sparkSession": spark, "referencedTables": tables}
    if order["parameters"] is not None:
        context["analysisParameters"] = order["parameters"]
    frames = _frames(_returned(code, name, context))
    return {result: _write(spark, frame, results / result, name) for result, frame in frames.items()}


def _start(step: Callable[..., Any], *arguments: Any) -> Any:
    """A step of ours, in which the script has no part yet."""
    try:
        return step(*arguments)
    except Exception as error:
        raise _Ended(End.NO_ENGINE, repr(error)) from error


def _server() -> Any:
    from pysail.spark import SparkConnectServer

    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    return server


def _session(server: Any) -> Any:
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.remote(f"sc://localhost:{server.listening_address[1]}").getOrCreate()
    spark.client.set_retry_policies([])  # an engine that fails is gone, and to try again would only wait
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    spark.conf.set("spark.sql.ansi.enabled", "true")
    return spark


def _table(spark: Any, job: Path, number: int) -> Any:
    return spark.read.parquet(str(job / TABLES / str(number)))


def _environment(archive: Path) -> None:
    """Libraries that the script brings: the site-packages of a virtual environment packed as .tar.gz.

    Behind our own, so that the engine's client stays the one that fits the engine.
    """
    place = Path("/tmp/environment")  # noqa: S108  the sandbox's own
    try:
        with tarfile.open(archive) as packed:
            packed.extractall(place, filter="data")
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise _Ended(End.NO_ENVIRONMENT, repr(error)) from None
    found = sorted(str(path) for path in place.glob("lib*/python3*/site-packages"))
    if not found:
        raise _Ended(End.NO_ENVIRONMENT, "the archive has no lib/python3.*/site-packages")
    sys.path += found


def _returned(code: types.CodeType, name: str, context: Mapping[str, Any]) -> Any:
    """What the script's entrypoint returns."""
    module = types.ModuleType(Path(name).stem)
    module.__file__ = name
    sys.modules.setdefault(module.__name__, module)
    try:
        exec(code, module.__dict__)  # noqa: S102  it is what the sandbox is for
        entrypoint = getattr(module, "entrypoint", None)
        if not callable(entrypoint):
            raise _Ended(End.NO_ENTRYPOINT)
        return entrypoint(dict(context))
    except _Ended:
        raise
    except BaseException as error:
        raise _Ended(_blame(error, End.RAISED), _words(error, name)) from None


def _frames(returned: Any) -> dict[str, Any]:
    from pyspark.sql.connect.dataframe import DataFrame

    results = returned.get("results") if isinstance(returned, dict) else None
    if not isinstance(results, dict) or not results:
        raise _Ended(End.NO_RESULTS, 'entrypoint must return {"results": {NAME: DataFrame}}')
    if len(results) > MOST_RESULTS:
        raise _Ended(End.NO_RESULTS, f"there can be {MOST_RESULTS} results, not {len(results)}")
    for name, frame in results.items():
        if not isinstance(name, str) or not RESULT_NAME.fullmatch(name):
            raise _Ended(End.NO_RESULTS, f"{name!r} cannot be the name of a result")
        if not isinstance(frame, DataFrame):
            raise _Ended(End.NO_RESULTS, f"the result {name} is no DataFrame")
    return results


def _write(spark: Any, frame: Any, place: Path, name: str) -> int:
    """Runs a result's query into Parquet files; its rows."""
    import pyarrow as pa
    from pyspark.sql.pandas.types import to_arrow_schema

    try:
        schema = to_arrow_schema(frame.schema, timezone="UTC")
        client = spark.client
        items = client.to_table_as_iterator(frame._plan.to_proto(client), {})
        batches = (
            batch for item in items if isinstance(item, pa.Table) for batch in item.cast(schema).to_batches()
        )
        place.mkdir()
        return writer.write(batches, schema, place, "parquet").rows
    except JobFailed as refused:
        raise _Ended(End.NOT_WRITTEN, f"the result {place.name}: {refused.message}") from None
    except BaseException as error:
        words = f"the result {place.name}: {_words(error, name)}"
        raise _Ended(_blame(error, End.NOT_WRITTEN), words) from None


def _blame(error: BaseException, otherwise: End) -> End:
    """NO_MEMORY where memory was what the script, or its engine, lacked."""
    exhausted = ("Resources exhausted", "Failed to allocate additional")
    lacking = isinstance(error, MemoryError) or any(sign in str(error) for sign in exhausted)
    return End.NO_MEMORY if lacking else otherwise


def _words(error: BaseException, name: str) -> str:
    """What happened, then where in the script, the innermost place first."""
    said = "".join(traceback.format_exception_only(error)).strip()
    places = [
        f"{name}, line {place.lineno}, in {place.name}"
        for place in reversed(traceback.extract_tb(error.__traceback__))
        if place.filename == name
    ]
    return "\n".join([said, *places])


if __name__ == "__main__":
    main()
