"""Copies the objects below S3 prefixes to a directory: listed first, then read as they were listed.

All or nothing: every folder must hold at least one object, every object must still be the listed one (by its
ETag) and arrive with as many bytes as were listed. Objects in folders below are refused, hidden ones (`_`,
`.`) and empty markers of folders are not looked at. Everything is bounded: objects, bytes, seconds.

Knows S3's clients; must not know tables. Errors are ValidationException for the owner of the objects, and
JobFailed where they are too large.
"""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from passbox.backends import aws
from passbox.errors import JobFailed, ValidationException

MOST_OBJECTS = 20_000
MOST_SECONDS = 3600.0
AT_A_TIME = 8
CHUNK_BYTES = 1 << 20
ATTEMPTS = 4  # at the body of one object; each goes on where the last broke off


@dataclass(frozen=True)
class Folder:
    """A prefix of keys, and the folder below the target that its objects go to."""

    bucket: str
    prefix: str
    place: Path


@dataclass(frozen=True)
class _Listed:
    folder: Folder
    key: str
    size: int
    etag: str


def copy(client: Any, folders: Sequence[Folder], suffix: str, most_bytes: int) -> list[Path]:
    """Copies all objects of the folders, as 00000SUFFIX, 00001SUFFIX, …; with `.gz` where all have it."""
    deadline = time.monotonic() + MOST_SECONDS
    pool = ThreadPoolExecutor(AT_A_TIME)
    try:
        lists = pool.map(lambda folder: _list(client, folder, deadline), folders)
        listed = [one for found in lists for one in found]
        if len(listed) > MOST_OBJECTS:
            raise ValidationException(f"The table has more than {MOST_OBJECTS} files.")
        if sum(one.size for one in listed) > most_bytes:
            raise JobFailed(
                "INSUFFICIENT_COMPUTE",
                "The tables of the query are larger than the disk of the service spares.",
            )
        ending = suffix + _compression([one.key for one in listed], suffix)
        for folder in folders:
            folder.place.mkdir(parents=True, exist_ok=True, mode=0o700)
        paths = [one.folder.place / f"{number:05d}{ending}" for number, one in enumerate(listed)]
        list(pool.map(lambda one, path: _copy(client, one, path, deadline), listed, paths))
        return paths
    except aws.faults() as error:
        raise aws.refusal("The table's files cannot be read", error) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _compression(keys: Sequence[str], suffix: str) -> str:
    """What the names say beyond `suffix`: `.gz` or nothing. Parquet is compressed within."""
    if suffix == ".parquet":
        return ""
    known = (".gz", ".bz2", ".zst", ".snappy", ".lz4", ".lzo", ".deflate", ".xz", ".zip")
    endings = {next((ending for ending in known if key.lower().endswith(ending)), "") for key in keys}
    if not endings <= {".gz"} and not endings <= {""}:
        raise ValidationException("The table's files must all be compressed with gzip (.gz), or none at all.")
    return endings.pop()


def _list(client: Any, folder: Folder, deadline: float) -> list[_Listed]:
    found: list[_Listed] = []
    for page in _pages(client, folder):
        _check_time(deadline)
        below = [item["Prefix"][len(folder.prefix) :] for item in page.get("CommonPrefixes") or ()]
        odd = next((name for name in below if not name.startswith((".", "_"))), None)
        if odd is not None:
            raise ValidationException(
                f"s3://{folder.bucket}/{folder.prefix} has the folder {odd!r}, which is no partition in the "
                "catalog; files in folders are read of partitions only."
            )
        for item in page.get("Contents") or ():
            name = item["Key"][len(folder.prefix) :]
            marker = not item["Size"] and (not name or name.endswith("_$folder$"))
            if not marker and not name.startswith((".", "_")):
                found.append(_Listed(folder, item["Key"], item["Size"], item["ETag"]))
    if not found:
        raise ValidationException(f"There are no files at s3://{folder.bucket}/{folder.prefix}.")
    return found


def _pages(client: Any, folder: Folder) -> Iterator[Any]:
    """As many pages of the listing as MOST_OBJECTS fill."""
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=folder.bucket, Prefix=folder.prefix, Delimiter="/"
    )
    seen = 0
    for page in pages:
        yield page
        seen += page.get("KeyCount", 0)
        if seen > MOST_OBJECTS:
            raise ValidationException(
                f"There are more than {MOST_OBJECTS} files at s3://{folder.bucket}/{folder.prefix}."
            )


def _check_time(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise ValidationException(f"Reading the table took longer than {MOST_SECONDS:.0f} s.")


def _copy(client: Any, one: _Listed, path: Path, deadline: float) -> None:
    """Reads one object to a new file, and goes on where a connection broke off."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _read(client, one, file, deadline)
                return
            except aws.broken():
                if attempt == ATTEMPTS:
                    raise
                time.sleep(2.0**attempt / 2)


def _read(client: Any, one: _Listed, file: Any, deadline: float) -> None:
    start = file.tell()
    if start == one.size and start:
        return
    wanted: dict[str, str] = {"Range": f"bytes={start}-"} if start else {}
    answer = client.get_object(Bucket=one.folder.bucket, Key=one.key, IfMatch=one.etag, **wanted)
    address = f"s3://{one.folder.bucket}/{one.key}"
    if answer["ContentLength"] != one.size - start:
        raise ValidationException(f"{address} is not as long as it was when it was listed.")
    with contextlib.closing(answer["Body"]) as body:
        for chunk in body.iter_chunks(CHUNK_BYTES):
            _check_time(deadline)
            if file.tell() + len(chunk) > one.size:
                raise ValidationException(f"{address} is longer than it was when it was listed.")
            file.write(chunk)
    if file.tell() != one.size:
        raise ValidationException(f"{address} ended before its length.")
