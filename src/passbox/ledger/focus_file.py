"""FOCUS rows as a file, CSV or Parquet. Knows files and formats, no SQL and not what the columns mean.

The format follows from the suffix. Rows are streamed, so a month of any size takes the same memory. The file
appears whole or not at all: it is written under another name beside its own, then renamed.

Numbers are exact in both: Parquet has decimals, CSV their digits. CSV is what people open in spreadsheets,
which run a cell that starts like a formula; members choose names. So a text of CSV that starts that way gets
an apostrophe before it. Parquet keeps every text as it is.
"""

import csv
import io
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from passbox.errors import Misconfigured
from passbox.ledger import focus
from passbox.ledger.focus import Cell
from passbox.ledger.statements import Charge

BATCH = 10_000  # rows held at a time, and the rows of a Parquet row group
# what spreadsheets take for a formula, or skip before one; the wide signs are those of East Asian input
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def export(charges: Iterable[Charge], path: Path, *, region: str) -> int:
    """Writes charges as FOCUS to `path` (.csv or .parquet), replacing what was there; how many rows.

    Raises Misconfigured where that cannot be, before it takes the first charge if it can be known by then.
    """
    room = focus.Room(region)
    return write((focus.row(charge, room) for charge in charges), path)


def write(rows: Iterable[Mapping[str, Cell]], path: Path) -> int:
    """Writes rows of focus.COLUMNS to `path`; how many."""
    put = {".csv": _csv, ".parquet": _parquet}.get(path.suffix.lower())
    if put is None:
        raise Misconfigured(f"{path}: the format follows from the suffix; end it in .csv or .parquet.")
    if not path.parent.is_dir():
        raise Misconfigured(f"{path}: there is no directory {path.parent}; make it first.")
    if path.is_dir():
        raise Misconfigured(f"{path} is a directory; name a file in it.")
    partial = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            number = put(rows, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise Misconfigured(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        partial.unlink(missing_ok=True)
    return number


def _csv(rows: Iterable[Mapping[str, Cell]], file: BinaryIO) -> int:
    number = 0
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    # the module's own line end, \r\n: with it, both of its characters are quoted where a text has them
    # everything in quotes: where a semicolon separates cells, an unquoted text could begin a cell of its own
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    csv.writer(text).writerow(focus.COLUMNS)
    for number, row in enumerate(rows, 1):  # noqa: B007 — the last number is how many there were
        writer.writerow(_written(row[name]) for name in focus.COLUMNS)
    text.flush()
    text.detach()
    return number


def _written(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, Decimal):
        return f"{cell:f}"
    if isinstance(cell, datetime):
        return cell.isoformat(timespec="seconds").replace("+00:00", "Z")
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def _parquet(rows: Iterable[Mapping[str, Cell]], file: BinaryIO) -> int:
    # a large import that nothing else of the API or the command line needs
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    schema = _schema(pa)
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in _batches(rows):
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
            number += len(batch)
    return number


def _schema(pa: Any) -> Any:
    types = {focus.STRING: pa.string(), focus.JSON: pa.string(), focus.DATETIME: pa.timestamp("ms", tz="UTC")}
    fields = [
        (name, pa.decimal128(38, focus.SCALES[name]) if type_ == focus.DECIMAL else types[type_])
        for name, type_ in focus.COLUMNS.items()
    ]
    return pa.schema(fields, metadata={"focus_version": focus.VERSION})


def _batches(rows: Iterable[Mapping[str, Cell]]) -> Iterator[list[Mapping[str, Cell]]]:
    waiting = iter(rows)
    while batch := list(islice(waiting, BATCH)):
        yield batch
