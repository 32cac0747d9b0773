"""What a Glue table says of itself, in Hive's words: its format, its columns, where its files lie.

Read are Parquet, CSV by OpenCSVSerde and by LazySimpleSerDe, and JSON lines by the three JSON SerDes. What
is not known to be read exactly is refused, never guessed: other formats (Iceberg, Hudi and Delta among them,
whose files are not all rows of the table), partition projection, and options without a counterpart here.

Pure: a description in, a Layout out, or ValidationException for the table's owner.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from passbox.analysis.plan import Column
from passbox.backends.catalogs.spark_types import spark_type
from passbox.backends.engines.base import NO_QUOTE, Form
from passbox.errors import ValidationException

_PARQUET = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat"
_TEXT = "org.apache.hadoop.mapred.TextInputFormat"
_OPEN_CSV = "org.apache.hadoop.hive.serde2.OpenCSVSerde"
_LAZY = "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe"
_FORMATS: dict[tuple[str, str], Literal["parquet", "csv", "json"]] = {
    (_PARQUET, "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"): "parquet",
    (_TEXT, _OPEN_CSV): "csv",
    (_TEXT, _LAZY): "csv",
    (_TEXT, "org.openx.data.jsonserde.JsonSerDe"): "json",
    (_TEXT, "org.apache.hive.hcatalog.data.JsonSerDe"): "json",
    (_TEXT, "org.apache.hadoop.hive.serde2.JsonSerDe"): "json",
}
_LOCATION = re.compile(r"s3[an]?://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?", re.ASCII | re.DOTALL)
_NUMBER = re.compile(r"[0-9]{1,3}", re.ASCII)


@dataclass(frozen=True)
class Layout:
    """How a table's files are read.

    columns:    of the files, in their order; one whose type tables cannot have is text where its place counts
                (CSV), else left out
    offered:    what queries may read: columns and partition columns with types that tables can have
    partitions: the partition columns, in the order of a partition's values
    """

    format: Literal["parquet", "csv", "json"]
    form: Form
    columns: tuple[Column, ...]
    offered: tuple[Column, ...]
    partitions: tuple[Column, ...]


def layout(table: Mapping[str, Any]) -> Layout:
    """The layout of a `glue` Table."""
    properties = table.get("Parameters") or {}
    _check_kind(table, properties)
    storage = table.get("StorageDescriptor") or {}
    format = _format(storage)
    declared = [(_name(item), spark_type(item.get("Type") or "")) for item in storage.get("Columns") or ()]
    keys = [(_name(item), spark_type(item.get("Type") or "")) for item in table.get("PartitionKeys") or ()]
    names = [name for name, _ in (*declared, *keys)]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise ValidationException(f"The table has two columns named {double!r} (case is ignored).")
    odd = next((name for name, kind in keys if kind is None), None)
    if odd is not None:
        raise ValidationException(f"The partition column {odd!r} has a type that tables cannot have.")
    columns = [Column(name, kind) for name, kind in declared if kind is not None]
    partitions = [Column(name, str(kind)) for name, kind in keys]
    if format == "csv":
        whole = [Column(name, kind or "string") for name, kind in declared]
    else:
        whole = columns
    return Layout(
        format, _form(storage, properties), tuple(whole), (*columns, *partitions), tuple(partitions)
    )


def check_partition(table: Mapping[str, Any], partition: Mapping[str, Any]) -> None:
    """Refuses a partition that is not written as the table says, where that would be read wrongly."""
    ours, its = table["StorageDescriptor"], partition.get("StorageDescriptor") or {}
    format = _format(ours)
    values = "/".join(partition.get("Values") or ())
    if _format(its) != format:
        raise ValidationException(f"The partition {values!r} is of another format than the table.")
    if format != "csv":
        return
    properties = table.get("Parameters") or {}
    names = [[_name(item) for item in storage.get("Columns") or ()] for storage in (ours, its)]
    if names[0] != names[1] or _form(ours, properties) != _form(its, properties):
        raise ValidationException(
            f"The partition {values!r} has other columns, or another form of CSV, than the table; update "
            "it in the catalog."
        )


def bucket_and_prefix(storage: Mapping[str, Any], what: str) -> tuple[str, str]:
    """Where files lie: the bucket, and the prefix of their keys, which is empty or ends with a slash."""
    found = _LOCATION.fullmatch(storage.get("Location") or "")
    if found is None:
        raise ValidationException(f"The location of {what} is not of the form s3://BUCKET/PREFIX.")
    bucket, prefix = found.groups()
    return bucket, f"{prefix.rstrip('/')}/" if prefix and prefix.strip("/") else ""


def _check_kind(table: Mapping[str, Any], properties: Mapping[str, str]) -> None:
    if table.get("TargetTable"):
        raise ValidationException("The table is a link to another one; name that one, in its own account.")
    if table.get("TableType") == "VIRTUAL_VIEW":
        raise ValidationException("The table is a view; only tables of files are read.")
    kind = properties.get("table_type") or properties.get("spark.sql.sources.provider") or ""
    if kind.lower() in ("iceberg", "hudi", "delta"):
        raise ValidationException(f"The table is of type {kind}, which is not read.")
    if properties.get("projection.enabled", "").lower() == "true":
        raise ValidationException("The table's partitions are projected; register them in the catalog.")


def _format(storage: Mapping[str, Any]) -> Literal["parquet", "csv", "json"]:
    read, serde = storage.get("InputFormat") or "", _serde(storage).get("SerializationLibrary") or ""
    found = _FORMATS.get((read, serde))
    if found is None:
        raise ValidationException(
            f"Tables with input format {read or 'unknown'!r} and SerDe {serde or 'unknown'!r} are not read; "
            "Parquet, OpenCSVSerde, LazySimpleSerDe and the JSON SerDes are."
        )
    mapped = [name for name in _serde(storage).get("Parameters") or {} if name.startswith("mapping.")]
    if found == "json" and mapped:
        raise ValidationException(
            f"The SerDe's parameter {mapped[0]!r} is not supported; name columns as keys."
        )
    return found


def _serde(storage: Mapping[str, Any]) -> Mapping[str, Any]:
    return storage.get("SerdeInfo") or {}


def _name(item: Mapping[str, Any]) -> str:
    name = str(item.get("Name") or "").lower()
    if not name or len(name) > 128 or not name.isprintable():
        raise ValidationException(f"The table has a column without a usable name: {name!r}.")
    return name


def _form(storage: Mapping[str, Any], properties: Mapping[str, str]) -> Form:
    """How CSV is written; the default where it is none."""
    serde = _serde(storage)
    given: Mapping[str, str] = serde.get("Parameters") or {}
    places: Sequence[Mapping[str, str]] = (properties, storage.get("Parameters") or {}, given)
    skipped = next((p["skip.header.line.count"] for p in places if "skip.header.line.count" in p), "0")
    if skipped not in ("0", "1"):
        raise ValidationException(f"skip.header.line.count is {skipped}; it can be 0 or 1.")
    header = skipped == "1"
    match serde.get("SerializationLibrary"):
        case "org.apache.hadoop.hive.serde2.OpenCSVSerde":
            return Form(
                delimiter=_sign(given, "separatorChar", ","),
                quote=_sign(given, "quoteChar", '"'),
                escape=_sign(given, "escapeChar", "\\"),
                header=header,
            )
        case "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe":
            if given.get("escape.delim"):
                raise ValidationException(
                    "LazySimpleSerDe's escape.delim is not supported; use OpenCSVSerde."
                )
            if given.get("line.delim", "\n") != "\n":
                raise ValidationException("LazySimpleSerDe's line.delim must be a line feed.")
            delimiter = _sign(
                given, "field.delim" if given.get("field.delim") else "serialization.format", "\x01"
            )
            null = given.get("serialization.null.format", "\\N")
            return Form(delimiter, NO_QUOTE, NO_QUOTE, header, null)
    return Form()


def _sign(given: Mapping[str, str], name: str, default: str) -> str:
    """A parameter that is one ASCII sign: itself, its number as in Hive, or `\\t`."""
    value = given.get(name) or default
    if _NUMBER.fullmatch(value) and int(value) < 128 and name in ("field.delim", "serialization.format"):
        value = chr(int(value))
    value = {"\\t": "\t", "\\\\": "\\"}.get(value, value)
    if len(value) != 1 or not value.isascii():
        raise ValidationException(f"The SerDe's parameter {name!r} must be one ASCII sign, not {value!r}.")
    return value
