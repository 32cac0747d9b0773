"""Writes a stream of Arrow record batches to CSV or Parquet files and counts what it wrote.

Knows files and Arrow types; must not know queries, rules or accounts. Memory stays bounded: of CSV one batch
is held, of Parquet one row group.

CSV, as written here:

- UTF-8, comma, `\\n`, one header row in every file (unless told otherwise).
- Text is quoted where it must be (it is empty, or holds a comma, a quote or the end of a line), and then so
  is all text and every time of the same batch; `"` is doubled inside. Numbers, booleans and dates never are.
- Null is an empty field without quotes, the empty text is `""`.
- Times are ISO 8601 in UTC, `2013-01-01T10:00:00.000000Z`; those without a zone carry no `Z`.
- Doubles are the shortest text that reads back equal; `nan`, `inf`, `-inf`.
- Arrays, structs, maps, binary and intervals have no CSV form: refused before a byte is written.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from passbox.errors import JobFailed

if TYPE_CHECKING:
    import pyarrow as pa

FILE_BYTES = 128 << 20
ROW_GROUP_BYTES = 64 << 20
ROW_GROUP_ROWS = 1 << 20
# A batch is cut into slices of about this size, so that a file overshoots its target by little.
SLICE_BYTES = 16 << 20

Format = Literal["csv", "parquet"]


@dataclass(frozen=True)
class Counted:
    """What was written. rows exclude CSV headers; bytes are the sizes of the files."""

    rows: int
    files: int
    bytes: int


@dataclass(frozen=True)
class Options:
    """How to write.

    codec:      Parquet's compression
    header:     whether CSV files begin with a header row
    file_bytes: a file is closed once it holds this much; None writes a single file
    """

    codec: Literal["zstd", "snappy"] = "zstd"
    header: bool = True
    file_bytes: int | None = FILE_BYTES


def write(
    batches: Iterable["pa.RecordBatch"],
    schema: "pa.Schema",
    destination: Path,
    format: Format,
    options: Options | None = None,
) -> Counted:
    """Writes every batch (each of `schema`) to part-00000.csv, part-00001.csv, … in an empty directory.

    An empty result is one file with the header or schema alone. Everything has reached the disk on return.
    Raises JobFailed (MALFORMED_QUERY) for a schema that the format cannot hold.
    """
    check(schema, format)
    return fill(batches, [Parts(schema, destination, format, options or Options())])


def fill(batches: Iterable["pa.RecordBatch"], results: Sequence["Parts"]) -> Counted:
    """Writes every batch to each of several results whose formats can hold it; counts rows once, and all
    files and bytes. Everything has reached the disk on return.
    """
    try:
        for batch in batches:
            for piece in slices(batch):
                for parts in results:
                    parts.add(piece)
        counted = [parts.finish() for parts in results]
    except BaseException:
        for parts in results:
            parts.abandon()
        raise
    return Counted(counted[0].rows, sum(one.files for one in counted), sum(one.bytes for one in counted))


def check(schema: "pa.Schema", format: Format) -> None:
    """Refuses output names that are not unique and column types that `format` has no form for."""
    seen: set[str] = set()
    for field in schema:
        if field.name.lower() in seen:
            raise JobFailed(
                "MALFORMED_QUERY",
                f"The result has more than one column named {field.name!r}; give each its own name with AS.",
            )
        seen.add(field.name.lower())
        reason = _unsupported(field.type, format)
        if reason:
            raise JobFailed("MALFORMED_QUERY", f"Column {field.name!r} of the result {reason}")


def _unsupported(kind: Any, format: Format) -> str | None:
    import pyarrow as pa

    types = pa.types
    if types.is_duration(kind) or types.is_interval(kind):
        return "is an interval, which neither CSV nor Parquet can hold; cast it to a number or to text."
    if format == "parquet":
        if types.is_null(kind):
            return "has no type (NULL), which Parquet cannot hold; cast it to the type it should have."
        if types.is_nested(kind):
            inner = (_unsupported(kind.field(i).type, format) for i in range(kind.num_fields))
            return next((reason for reason in inner if reason), None)
        return None
    if types.is_nested(kind) or _is_binary(kind):
        return f"is of type {kind}, which CSV cannot hold; choose PARQUET, or turn it into text."
    return None


def _is_binary(kind: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    )


def slices(batch: "pa.RecordBatch") -> Iterator["pa.RecordBatch"]:
    """The batch in pieces of about SLICE_BYTES, without copying."""
    rows, size = batch.num_rows, batch.nbytes
    step = rows if size <= SLICE_BYTES else max(1, rows * SLICE_BYTES // size)
    for start in range(0, rows, max(step, 1)):
        yield batch.slice(start, step)


class _Sink(Protocol):
    """One file in the making."""

    def add(self, batch: "pa.RecordBatch") -> None: ...

    def close(self) -> None: ...


class Parts:
    """The files of one result, one open at a time."""

    def __init__(self, schema: "pa.Schema", destination: Path, format: Format, options: Options) -> None:
        self.schema, self.destination = schema.remove_metadata(), destination
        self.format, self.options = format, options
        self.rows, self.files, self.bytes = 0, 0, 0
        self._file: Any = None
        self._sink: _Sink | None = None

    def add(self, batch: "pa.RecordBatch") -> None:
        """Writes a batch; closes the file once it is big enough."""
        sink = self._sink or self._open()
        sink.add(batch)
        self.rows += batch.num_rows
        target = self.options.file_bytes
        if target is not None and self._file.tell() >= target:
            self._close()

    def finish(self) -> Counted:
        """Closes the last file, makes all of it durable and returns the counts."""
        if self._sink is None and self.files == 0:
            self._open()
        self._close()
        directory = os.open(self.destination, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return Counted(self.rows, self.files, self.bytes)

    def abandon(self) -> None:
        """Lets go of the open file after a failure; its half is the caller's to throw away."""
        if self._sink is not None:
            with contextlib.suppress(Exception):
                self._sink.close()  # or Arrow's writer would do it later, on a file that is closed
            self._file.close()
        self._sink = self._file = None

    def _open(self) -> _Sink:
        path = self.destination / f"part-{self.files:05d}.{self.format}"
        # Exclusive: a name that is there already means that the directory was not empty.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(descriptor, "wb")  # buffered: a raw file may write less than it was given
        make = _Csv if self.format == "csv" else _Parquet
        self._sink = make(self._file, self.schema, self.options)
        return self._sink

    def _close(self) -> None:
        if self._sink is None:
            return
        self._sink.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self.files += 1
        self.bytes += self._file.tell()
        self._file.close()
        self._sink = self._file = None


class _Csv:
    """A CSV file. Two of pyarrow's writers share it: one that quotes no text, and one that quotes all.

    The bare one takes the batches whose text needs no quotes, and so can be given numbers as text: a double
    is costly to format, and a batch seldom has many different ones (a quarter of the whole cost, measured).
    """

    def __init__(self, file: Any, schema: "pa.Schema", options: Options) -> None:
        import pyarrow as pa
        import pyarrow.csv as arrow_csv

        types = pa.types
        self._times = {i for i, field in enumerate(schema) if types.is_timestamp(field.type)}
        self._texts = {i for i, field in enumerate(schema) if _is_text(field.type)}
        self._doubles = {i for i, field in enumerate(schema) if types.is_floating(field.type)}
        self._quoted = _as_text(schema, self._times)
        self._bare = _as_text(schema, self._times | self._doubles)
        # Measured: blocks of 8,192 rows cost 15 % less than the default 1,024.
        quoting = arrow_csv.WriteOptions(include_header=options.header, batch_size=8192)
        bare = arrow_csv.WriteOptions(include_header=False, batch_size=8192, quoting_style="none")
        self._quoting_writer = arrow_csv.CSVWriter(file, self._quoted, write_options=quoting)
        self._bare_writer = arrow_csv.CSVWriter(file, self._bare, write_options=bare)

    def add(self, batch: "pa.RecordBatch") -> None:
        import pyarrow as pa

        columns = [_iso(column) if i in self._times else column for i, column in enumerate(batch.columns)]
        if any(_needs_quotes(columns[i]) for i in self._texts):
            self._quoting_writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._quoted))
            return
        for i in self._doubles:
            columns[i] = _formatted(columns[i])
        self._bare_writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._bare))

    def close(self) -> None:
        self._bare_writer.close()
        self._quoting_writer.close()


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _as_text(schema: "pa.Schema", indices: set[int]) -> "pa.Schema":
    """The schema with some columns turned into text."""
    import pyarrow as pa

    for index in indices:
        schema = schema.set(index, schema.field(index).with_type(pa.string()))
    return schema


def _needs_quotes(column: "pa.Array") -> bool:
    """Whether a text of the column is empty, or holds a comma, a quote or the end of a line."""
    import pyarrow as pa
    import pyarrow.compute as compute

    if not pa.types.is_string(column.type):
        return True  # its bytes lie otherwise; Spark's text is never that
    if compute.min(compute.binary_length(column)).as_py() == 0:
        return True
    _, offsets, data = column.buffers()
    if data is None:
        return False
    ends = memoryview(offsets).cast("i")
    start, end = ends[column.offset], ends[column.offset + len(column)]
    text = data.slice(start, end - start).to_pybytes()
    return any(sign in text for sign in (b",", b'"', b"\n", b"\r"))


def _formatted(column: "pa.Array") -> "pa.Array":
    """Doubles as text, each different one formatted once."""
    import pyarrow as pa
    import pyarrow.compute as compute

    encoded = column.dictionary_encode()
    if len(encoded.dictionary) * 2 > len(encoded):
        return column.cast(pa.string())
    return compute.take(encoded.dictionary.cast(pa.string()), encoded.indices)


def _iso(column: "pa.Array") -> "pa.Array":
    import pyarrow as pa
    import pyarrow.compute as compute

    if column.type.tz is not None and column.type.tz != "UTC":
        column = column.cast(pa.timestamp(column.type.unit, "UTC"))  # the same instants, told in UTC
    return compute.replace_substring(column.cast(pa.string()), " ", "T", max_replacements=1)


class _Parquet:
    """A Parquet file whose row groups gather many batches, since one group a batch would bloat it."""

    def __init__(self, file: Any, schema: "pa.Schema", options: Options) -> None:
        import pyarrow.parquet as parquet

        self._schema = schema
        # Statistics are a sixth of the cost, and of no use to those who read everything.
        self._writer = parquet.ParquetWriter(file, schema, compression=options.codec, write_statistics=False)
        self._held: list[pa.RecordBatch] = []
        self._rows = self._size = 0

    def add(self, batch: "pa.RecordBatch") -> None:
        self._held.append(batch)
        self._rows += batch.num_rows
        self._size += batch.nbytes
        if self._size >= ROW_GROUP_BYTES or self._rows >= ROW_GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._held:
            table = pa.Table.from_batches(self._held, schema=self._schema)
            self._writer.write_table(table, row_group_size=self._rows)
        self._held, self._rows, self._size = [], 0, 0
