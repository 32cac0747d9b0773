"""Finds the columns of Parquet and CSV files and their Spark types.

Parquet: from the footers; all files must agree. CSV: every value of every file is looked at, block by block,
and a column's type is the narrowest that holds them all:

    (nothing seen) → bigint → double → string        boolean → string        date → timestamp → string

Knows files and types; must not know accounts or folders. Raises ValidationException naming the file.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from passbox.analysis.plan import Column
from passbox.errors import ValidationException

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_BYTES = 8 << 20
_FIRST = ("bigint", "double", "boolean", "date", "timestamp", "string")
# What a column may become when a value does not fit: wider types only, so that earlier values still fit.
_WIDER = {
    "bigint": ("double", "string"),
    "double": ("string",),
    "boolean": ("string",),
    "date": ("timestamp", "string"),
    "timestamp": ("string",),
}
_ZONE = r"(Z|[+-][0-9]{2}:?[0-9]{2})$"


def columns(files: Sequence[Path], format: str) -> list[Column]:
    """The columns that all files have, with lower-case names, in the files' order."""
    return _csv(files) if format == "csv" else _parquet(files)


def parquet_names(file: Path) -> list[str]:
    """The column names in a footer."""
    return list(_footer(file).names)


def csv_header(file: Path) -> list[str]:
    """The column names in the first row."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            header = next(csv.reader(stream), [])
    except (UnicodeDecodeError, csv.Error):
        raise ValidationException(f"{file.name!r} is not CSV in UTF-8.") from None
    if not header:
        raise ValidationException(f"{file.name!r} has no header row.")
    return header


def _footer(file: Path) -> "pa.Schema":
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        return parquet.read_schema(file)
    except (pa.ArrowException, OSError):
        raise ValidationException(f"{file.name!r} is not a Parquet file.") from None


def _parquet(files: Sequence[Path]) -> list[Column]:
    found: list[Column] = []
    for file in files:
        these = [Column(field.name.lower(), _spark(field, file)) for field in _footer(file)]
        found = found or these
        if these != found:
            odd = next(mine.name for mine, first in zip(these, found, strict=True) if mine != first)
            raise ValidationException(
                f"{file.name!r} has another type in column {odd!r} than {files[0].name!r}."
            )
    return found


def _spark(field: Any, file: Path) -> str:
    """The Spark type of an Arrow field."""
    import pyarrow as pa

    types, kind = pa.types, field.type
    if types.is_dictionary(kind):
        kind = kind.value_type
    plain = {
        pa.int8(): "tinyint", pa.int16(): "smallint", pa.int32(): "int", pa.int64(): "bigint",
        pa.uint8(): "smallint", pa.uint16(): "int", pa.uint32(): "bigint", pa.uint64(): "decimal(20,0)",
        pa.float16(): "float", pa.float32(): "float", pa.float64(): "double", pa.bool_(): "boolean",
        pa.string(): "string", pa.large_string(): "string", pa.string_view(): "string",
        pa.binary(): "binary", pa.large_binary(): "binary", pa.date32(): "date", pa.date64(): "date",
    }  # fmt: skip
    if kind in plain:
        return plain[kind]
    if types.is_timestamp(kind):
        return "timestamp"
    if types.is_decimal(kind) and kind.precision <= 38 and 0 <= kind.scale <= kind.precision:
        return f"decimal({kind.precision},{kind.scale})"
    raise ValidationException(
        f"Column {field.name!r} of {file.name!r} is of type {kind}, which tables cannot have."
    )


def _csv(files: Sequence[Path]) -> list[Column]:
    names = csv_header(files[0])
    kinds: list[str | None] = [None] * len(names)
    for file in files:
        for batch in _text(file, csv_header(file)):
            for index, column in enumerate(batch.columns):
                kinds[index] = _widen(kinds[index], column)
    # A column without a single value is text: it fits whatever comes.
    return [Column(name.lower(), kind or "string") for name, kind in zip(names, kinds, strict=True)]


def _text(file: Path, names: Sequence[str]) -> Iterator["pa.RecordBatch"]:
    """The file's rows, every field as text, empty ones null."""
    import pyarrow as pa
    import pyarrow.csv as arrow_csv

    read = arrow_csv.ReadOptions(block_size=BLOCK_BYTES)
    parse = arrow_csv.ParseOptions(newlines_in_values=True)
    convert = arrow_csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
    )
    try:
        if not _has_rows(file):
            return
        with arrow_csv.open_csv(file, read, parse, convert) as reader:
            yield from reader
    except (pa.ArrowException, OSError) as error:
        # Arrow names the row and what is wrong with it; only the table's owner reads this.
        raise ValidationException(f"{file.name!r} is not CSV in UTF-8: {error}") from None


def _has_rows(file: Path) -> bool:
    """Whether a header is followed by anything; Arrow's reader refuses a file without a row."""
    with file.open(encoding="utf-8-sig", newline="", errors="replace") as stream:
        rows = csv.reader(stream)
        next(rows, None)
        return next(rows, None) is not None


def _widen(kind: str | None, column: "pa.Array") -> str | None:
    """The narrowest type, `kind` or wider, that holds this column's values too."""
    values = column.drop_null()
    if kind == "string" or not len(values):
        return kind
    candidates = _FIRST if kind is None else (kind, *_WIDER[kind])
    return next(candidate for candidate in candidates if _fits(values, candidate))


def _fits(values: "pa.Array", kind: str) -> bool:
    """Whether every value reads as `kind`; as strict as the engine's own reader."""
    import pyarrow as pa
    import pyarrow.compute as compute

    if kind == "string":
        return True
    if kind == "boolean":
        known = compute.is_in(compute.utf8_lower(values), pa.array(["true", "false"]))
        return bool(compute.all(known).as_py())
    try:
        if kind == "timestamp":
            zoned = compute.match_substring_regex(values, _ZONE)
            values.filter(zoned).cast(pa.timestamp("us", "UTC"))
            values.filter(compute.invert(zoned)).cast(pa.timestamp("us"))
        else:
            values.cast({"bigint": pa.int64(), "double": pa.float64(), "date": pa.date32()}[kind])
    except pa.ArrowInvalid:
        return False
    return True
