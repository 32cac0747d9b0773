"""The Spark Connect client: tables in, one query, Arrow batches out, errors told apart.

Knows Spark Connect and nothing of what serves it. Importing pyspark costs a second and more, so it happens in
`preload` or on first use; the API process never does.

Of the errors, only those of the analysis phase are quoted: until then the engine has seen names, types and
the query's own text. What fails later may carry values of somebody's rows and is told by its kind alone.
"""

import importlib
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from passbox.analysis.plan import ApprovedPlan, Parameter
from passbox.backends.engines import tables
from passbox.backends.engines.base import TableFiles
from passbox.errors import JobFailed

if TYPE_CHECKING:
    import pyarrow as pa

VALUE_FAILED = (
    "The query could not compute a value under Spark's ANSI rules: a division by zero, a number out of "
    "range, or a text that does not fit the type it is cast to. Use try_cast, try_divide, try_add or "
    "nullif where that may happen."
)
FILE_FAILED = (
    "A CSV file of one of the tables holds a value that does not fit its column's type, or a row whose "
    "number of fields is not the header's."
)
_MODULES = (
    "pyarrow.compute",
    "pyarrow.csv",
    "pyarrow.parquet",
    "passbox.backends.engines.http2",
    "pyspark.sql.connect.session",
    "pyspark.sql.pandas.types",
)
_MESSAGE_LIMIT = 500


def preload() -> None:
    """Imports the client, for a worker to do once before it forks."""
    main = sys.modules["__main__"]
    # pyspark takes a program without a file (`python -c`, a spawned worker) for its own doctests, and exits.
    nameless = not hasattr(main, "__file__")
    if nameless:
        main.__file__ = "passbox"
    try:
        for name in _MODULES:
            importlib.import_module(name)
    finally:
        if nameless:
            del main.__file__


class Session:
    """One session with a server behind a connected socket, which it owns.

    quote: how the server wants the name of a view; Sail takes it as it is, with spaces and dashes
    """

    def __init__(self, stream: socket.socket, quote: Callable[[str], str] = str) -> None:
        self._quote = quote
        preload()
        from pyspark.sql.connect.session import SparkSession

        self._spark = SparkSession(_builder(stream), userId="passbox")
        # The server is ours alone and one hop away: if it fails it is gone, and to try again would only wait.
        self._spark.client.set_retry_policies([])
        # Reattaching makes the server keep what it has sent.
        self._spark.client.disable_reattachable_execute()

    def prepare(self, properties: Mapping[str, str]) -> None:
        """The first call: opens the session on the server, sets what the run asks for, then what all need."""
        for name, value in properties.items():
            self._spark.conf.set(name, value)
        self._spark.conf.set("spark.sql.session.timeZone", "UTC")
        self._spark.conf.set("spark.sql.ansi.enabled", "true")
        # what a partition's folder says is text until it is cast to its declared type
        self._spark.conf.set("spark.sql.sources.partitionColumnTypeInference.enabled", "false")

    def register(self, name: str, table: TableFiles, wanted: Sequence[str], paths: Sequence[str]) -> None:
        """Makes the `wanted` columns of a table visible as the view `name`, with their declared types."""
        view = tables.frame(self._spark.read, table, wanted, paths)
        view.createOrReplaceTempView(self._quote(name))

    def query(self, plan: ApprovedPlan) -> tuple["pa.Schema", Iterator["pa.RecordBatch"]]:
        """Runs exactly the plan's text with its parameters bound: the result's schema, then its batches."""
        from pyspark.sql.pandas.types import to_arrow_schema

        bound = {name: _literal(parameter) for name, parameter in plan.parameters.items()}
        frame = self._spark.sql(plan.sql, bound)
        schema = to_arrow_schema(frame.schema, timezone="UTC")
        return schema, self._batches(frame, schema)

    def _batches(self, frame: Any, schema: "pa.Schema") -> Iterator["pa.RecordBatch"]:
        import pyarrow as pa

        client = self._spark.client
        for item in client.to_table_as_iterator(frame._plan.to_proto(client), {}):
            if isinstance(item, pa.Table):
                yield from item.cast(schema).to_batches()

    def release(self, stream: socket.socket) -> None:
        """By another connection, ends what the session runs on its server, and the session."""
        other = Session(stream)
        other._spark.client._session_id = self._spark.client._session_id
        try:
            other._spark.interruptAll()
            other._spark.client.release_session()
        finally:
            other.close()

    def close(self) -> None:
        """Closes the channel."""
        self._spark.client.close()


def _builder(stream: socket.socket) -> Any:
    from pyspark.sql.connect.client.core import ChannelBuilder

    from passbox.backends.engines.http2 import Channel

    class Given(ChannelBuilder):
        """A channel over a socket that is connected already."""

        def toChannel(self) -> Any:
            return Channel(stream)

        @property
        def host(self) -> str:
            return "localhost"

    return Given()


def _literal(parameter: Parameter) -> Any:
    """A literal of exactly the parameter's type."""
    from pyspark.sql import types
    from pyspark.sql.connect.column import Column
    from pyspark.sql.connect.expressions import LiteralExpression

    name, value = parameter.type, parameter.value
    if name.startswith("decimal("):
        precision, scale = name.removeprefix("decimal(").rstrip(")").split(",")
        return Column(LiteralExpression(value, types.DecimalType(int(precision), int(scale))))
    plain = (
        types.StringType, types.BinaryType, types.BooleanType, types.ByteType, types.ShortType,
        types.IntegerType, types.LongType, types.FloatType, types.DoubleType, types.DateType,
        types.TimestampType, types.TimestampNTZType,
    )  # fmt: skip
    type = {one().simpleString(): one() for one in plain}[name]
    return Column(LiteralExpression(_dated(name, value), type))


def _dated(type: str, value: Any) -> Any:
    """Days and microseconds since 1970 as the client wants them; a timestamp with its zone, or it would take
    this machine's.
    """
    if type == "date":
        return date(1970, 1, 1) + timedelta(days=value)
    if type in ("timestamp", "timestamp_ntz"):
        zone = UTC if type == "timestamp" else None
        return datetime(1970, 1, 1, tzinfo=zone) + timedelta(microseconds=value)
    return value


def refusal(error: Exception, phase: str) -> JobFailed:
    """What a failure of the client means. phase: `analysis` while no row has been read, else `execution`."""
    from pyspark.errors import PySparkException

    text = str(error)
    detail = f"{phase}: {type(error).__name__}: {text}"
    if any(sign in text for sign in _EXHAUSTED):
        return JobFailed("INSUFFICIENT_COMPUTE", "", detail=detail)
    name = type(error).__name__
    if phase == "analysis" and isinstance(error, PySparkException) and name not in _OURS:
        return JobFailed("MALFORMED_QUERY", f"The engine refused the query: {_public(text)}", detail=detail)
    if phase == "execution" and any(sign in text for sign in _UNREADABLE):
        return JobFailed("INVALID_RESOURCE", FILE_FAILED, detail=detail)
    if phase == "execution" and name in _VALUES and "nternal error" not in text:
        return JobFailed("MALFORMED_QUERY", VALUE_FAILED, detail=detail)
    return JobFailed("INTERNAL_ERROR", "The query engine failed.", detail=detail)


# DataFusion's words for a memory pool, or a spill directory, that is full.
_EXHAUSTED = ("Resources exhausted", "Failed to allocate additional", "exceeded the allowable limit")
# arrow-rs's words for a CSV file that is not what it was declared to be.
_UNREADABLE = ("Error while parsing value", "Csv error:")
# Classes by which the client tells that the server or the way to it failed, not the query.
_OURS = {"SparkConnectGrpcException", "SparkConnectException", "PySparkRuntimeError"}
# Classes by which it tells that a value could not be computed; Sail calls a division by zero an
# AnalysisException.
_VALUES = {
    "AnalysisException",
    "ArithmeticException",
    "NumberFormatException",
    "DateTimeException",
    "ArrayIndexOutOfBoundsException",
    "IllegalArgumentException",
    "SparkRuntimeException",
}


def _public(text: str) -> str:
    """An engine's message on one line, within a limit."""
    text = text.partition("JVM stacktrace:")[0]
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _MESSAGE_LIMIT else line[: _MESSAGE_LIMIT - 1] + "…"
