"""Tables as folders: accounts/ACCOUNT/catalog/DATABASE/TABLE/ with Parquet or CSV files.

- All files of a table have one format and the same columns. CSV begins with a header row; an empty field,
  quoted or not, is null. Names that begin with `.` or `_` are ignored.
- Types come from `schema.json`, {"columns": [{"name": …, "type": …}, …]}, else from Parquet footers or from
  reading the CSV once as a whole (`sniff`); what was found is kept in `.passbox-schema.json` until a file
  changes.
- A time without a zone is UTC.
- Nothing outside the account's folder is reached: names are restricted, and links are refused wherever they
  lie.

Must not know rules or queries. The API process imports this module, so pyarrow is imported inside functions.
"""

import json
import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from passbox.analysis.plan import Column
from passbox.backends.catalogs import sniff
from passbox.backends.catalogs.spark_types import spark_type
from passbox.backends.engines.base import TableFiles
from passbox.errors import ResourceNotFoundException, ValidationException
from passbox.names import ACCOUNT, Role

# The languages of GlueDatabaseName and GlueTableName, without the patterns' exponential matching.
_DATABASE = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_-]{0,127}", re.ASCII)
_TABLE = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_ -]{0,127}", re.ASCII)
SCHEMA = "schema.json"
CACHE = ".passbox-schema.json"
_REMEMBERED = 1024  # tables
_FEW = 100  # files; looking at more is not done at once

_Seen = dict[str, tuple[int, int, int, int, int]]
_Format = Literal["parquet", "csv"]


class Local:
    """The catalog of every account under one folder."""

    def __init__(self, accounts: Path) -> None:
        self._accounts = accounts
        self._remembered: dict[Path, tuple[_Seen, tuple[Column, ...]]] = {}

    def remembered(self, account: str, reference: Mapping[str, Any]) -> tuple[Column, ...] | None:
        """What `describe` gave, if nothing in the table's folder has changed since; never reads a file."""
        try:
            folder = self._folder(account, reference)
        except (ResourceNotFoundException, ValidationException):
            return None
        seen, found = self._remembered.get(folder, ({}, None))
        return found if found is not None and _seen(folder) == seen else None

    def describe(self, account: str, reference: Mapping[str, Any]) -> tuple[Column, ...]:
        """Columns of a `glue` reference {databaseName, tableName, region?}."""
        folder = self._folder(account, reference)
        seen = _seen(folder)
        found = self._look(folder).columns
        if seen is not None:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[folder] = seen, found
        return found

    def fetch(
        self,
        account: str,
        reference: Mapping[str, Any],
        _role: Role,
        _into: Path,
        _most_bytes: int,
    ) -> TableFiles:
        """The table's files, where they lie; the folders are the operator's, so roles mean nothing."""
        return self._look(self._folder(account, reference))

    @staticmethod
    def _look(folder: Path) -> TableFiles:
        files, format = _files(folder)
        names = _names(files, format)
        declared = _declared(folder)
        columns = _cached(folder, files) if declared is None else _agree(declared, names)
        if columns is None:
            columns = sniff.columns(files, format)
            _keep(folder, files, columns)
        return TableFiles(tuple(files), format, tuple(columns))

    def _folder(self, account: str, reference: Mapping[str, Any]) -> Path:
        if set(reference) != {"glue"}:
            kind = ", ".join(sorted(reference)) or "no"
            raise ValidationException(f"The local catalog has only glue tables, not {kind} tables.")
        database, table = reference["glue"]["databaseName"], reference["glue"]["tableName"]
        if not ACCOUNT.fullmatch(account):
            raise ValidationException(f"{account!r} is no account.")
        if not _DATABASE.fullmatch(database) or not _TABLE.fullmatch(table):
            raise ValidationException(f"{database!r}.{table!r} is no name of a glue table.")
        shown = f"{account}/catalog/{database}/{table}"
        folder = str(self._accounts)
        for part in (account, "catalog", database, table):
            folder = f"{folder}/{part}"
            try:
                mode = os.lstat(folder).st_mode
            except OSError:
                raise ResourceNotFoundException(
                    f"There is no table {database}.{table}: looked for the folder accounts/{shown}/."
                ) from None
            if not stat.S_ISDIR(mode):
                raise ValidationException(
                    f"accounts/{shown}/ is reached by a link or a file, not by folders."
                )
        return Path(folder)


def _seen(folder: Path) -> _Seen | None:
    """What tells whether anything in a folder has changed, or None where that takes long to say."""
    found: _Seen = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith((".", "_")):
                    continue
                status = entry.stat(follow_symlinks=False)
                found[entry.name] = (
                    status.st_mode, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
                )  # fmt: skip
                if len(found) > _FEW:
                    return None
    except OSError:
        return None
    return found


def _files(folder: Path) -> tuple[list[Path], _Format]:
    """The data files, sorted by name, and their one format."""
    files: list[Path] = []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith((".", "_")) or entry.name == SCHEMA:
            continue
        mode = entry.lstat().st_mode
        if stat.S_ISDIR(mode):
            raise ValidationException(f"{entry.name!r} is a folder; partitions in folders are not read.")
        if not stat.S_ISREG(mode):
            raise ValidationException(f"{entry.name!r} is a link or a device, not a file.")
        if entry.suffix not in (".parquet", ".csv"):
            raise ValidationException(f"{entry.name!r} is neither a .parquet nor a .csv file.")
        files.append(entry)
    formats = {file.suffix for file in files}
    if not files:
        raise ValidationException("The table's folder holds no .parquet or .csv file.")
    if len(formats) > 1:
        raise ValidationException("The table's folder mixes Parquet and CSV files.")
    return files, "csv" if formats == {".csv"} else "parquet"


def _names(files: Sequence[Path], format: str) -> list[str]:
    """The lower-case column names that all files share, in their order."""
    read = sniff.csv_header if format == "csv" else sniff.parquet_names
    first: list[str] = []
    for file in files:
        names = [name.lower() for name in read(file)]
        for name in names:
            if not name or len(name) > 128 or not name.isprintable():
                raise ValidationException(f"{file.name!r} has a column without a usable name: {name!r}.")
        if len(set(names)) < len(names):
            double = next(name for name in names if names.count(name) > 1)
            raise ValidationException(f"{file.name!r} has two columns named {double!r} (case is ignored).")
        first = first or names
        if names != first:
            raise ValidationException(f"{file.name!r} has other columns than {files[0].name!r}.")
    return first


def _read_json(path: Path) -> Any:
    """The content of a plain file, or None where there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError:
        raise ValidationException(f"{path.name!r} cannot be opened; it must be a file, not a link.") from None
    with os.fdopen(descriptor, "rb") as file:
        try:
            return json.loads(file.read())
        except (ValueError, RecursionError, OSError):
            raise ValidationException(f"{path.name!r} is not JSON.") from None


def _declared(folder: Path) -> list[Column] | None:
    """What schema.json says, or None."""
    content = _read_json(folder / SCHEMA)
    if content is None:
        return None
    columns = content.get("columns") if isinstance(content, dict) else None
    if not isinstance(columns, list) or not columns:
        raise ValidationException(f'{SCHEMA!r} must be {{"columns": [{{"name": …, "type": …}}, …]}}.')
    return [_column(item) for item in columns]


def _column(item: Any) -> Column:
    name = item.get("name") if isinstance(item, dict) else None
    kind = item.get("type") if isinstance(item, dict) else None
    if not isinstance(name, str) or not isinstance(kind, str):
        raise ValidationException(f"A column of {SCHEMA!r} lacks a name or a type.")
    spark = spark_type(kind)
    if spark is None:
        raise ValidationException(f"Column {name!r} of {SCHEMA!r} has a type that is not known: {kind!r}.")
    return Column(name.lower(), spark)


def _agree(declared: Sequence[Column], names: Sequence[str]) -> list[Column]:
    """The declared columns in the order of the files; both must name the same ones."""
    by_name = {column.name: column for column in declared}
    if len(by_name) < len(declared):
        raise ValidationException(f"{SCHEMA!r} names a column twice.")
    odd = sorted(set(by_name) ^ set(names))
    if odd:
        where = "the files lack it" if odd[0] in by_name else f"{SCHEMA!r} lacks it"
        raise ValidationException(f"{SCHEMA!r} and the files differ in column {odd[0]!r}: {where}.")
    return [by_name[name] for name in names]


def _fingerprint(files: Sequence[Path]) -> dict[str, list[int]]:
    found = {file.name: file.lstat() for file in files}
    return {name: [status.st_size, status.st_mtime_ns] for name, status in found.items()}


def _cached(folder: Path, files: Sequence[Path]) -> list[Column] | None:
    """What an earlier look found, if no file has changed since."""
    try:
        content = _read_json(folder / CACHE)
        if content is None or content["files"] != _fingerprint(files):
            return None
        return [_column(item) for item in content["columns"]]
    except (ValidationException, LookupError, TypeError, AttributeError):
        return None  # not a cache of ours: look again


def _keep(folder: Path, files: Sequence[Path], columns: Sequence[Column]) -> None:
    """Writes the cache; a folder that cannot be written to goes without."""
    content = {
        "files": _fingerprint(files),
        "columns": [{"name": column.name, "type": column.type} for column in columns],
    }
    temporary = folder / f"{CACHE}.{os.getpid()}"
    try:
        temporary.write_text(json.dumps(content))
        temporary.replace(folder / CACHE)
    except OSError:
        temporary.unlink(missing_ok=True)
