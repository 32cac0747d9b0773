"""How a table's files are read: TableFiles as a DataFrame of the wanted columns, with their declared types.

Partition folders are named by us, `passbox_partition_0=VALUE`, …, with the value percent-encoded as in
Hive, because the names of partition columns are members' to choose. Knows the DataFrame reader of Spark
Connect; must not know where the files came from.
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from passbox.analysis.plan import Column
from passbox.backends.engines.base import Form, TableFiles

NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


def partition_folder(number: int, value: str) -> str:
    """The name of the folder of a partition column's value; the columns are numbered from 0."""
    return f"{_partition(number)}={quote(value, safe='')}"


def frame(reader: Any, table: TableFiles, wanted: Sequence[str], paths: Sequence[str]) -> Any:
    """A DataFrame of the `wanted` columns. paths: where the engine sees the files, or their one folder."""
    parts = [_partition(number) for number in range(len(table.partitions))]
    # CSV's schema is positional, so all columns of the files; Parquet says its own
    if table.format != "parquet":
        typed = [f"{quoted(column.name)} {_read_as(table, column)}" for column in table.columns]
        reader = reader.schema(", ".join([*typed, *(f"{part} string" for part in parts)]))
    if table.format == "csv":
        reader = reader.options(**_options(table.form))
    if table.files[0].suffix == ".gz":
        reader = reader.options(compression="gzip")
    sources = {column.name: _value(table, column) for column in table.columns}
    for part, column in zip(parts, table.partitions, strict=True):
        sources[column.name] = f"CAST(NULLIF({part}, '{NULL_PARTITION}') AS {column.type})"
    loaded = reader.format(table.format).load(list(paths))
    return loaded.selectExpr(*(f"{sources[column]} AS {quoted(column)}" for column in wanted))


def quoted(name: str) -> str:
    """A name as Spark SQL takes it, whatever it is."""
    return "`" + name.replace("`", "``") + "`"


def _partition(number: int) -> str:
    return f"passbox_partition_{number}"


def _read_as(table: TableFiles, column: Column) -> str:
    """The type that the reader gives; text where what is null is ours to find."""
    return "string" if table.form.null is not None else column.type


def _value(table: TableFiles, column: Column) -> str:
    name = quoted(column.name)
    if table.form.null is None:
        return f"CAST({name} AS {column.type})"
    null = table.form.null.replace("\\", "\\\\").replace("'", "\\'")
    return f"TRY_CAST(NULLIF({name}, '{null}') AS {column.type})"


def _options(form: Form) -> dict[str, str]:
    return {
        "header": str(form.header).lower(),
        "sep": form.delimiter,
        "quote": form.quote,
        "escape": form.escape,
        "newlinesInValues": "true",
    }
