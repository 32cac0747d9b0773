"""What a job leaves behind, as one archive: model.tar.gz and output.tar.gz, and back into a directory.

Knows tar, sizes and what an honest program has no reason to leave; must not know who may receive it. The
same files give the same bytes: sorted names, no times, no owners. Files come from a process that may be
hostile, so every name is opened relative to its directory and without following links, and what is refused
fails the job.

| JobFailed code | raised when |
|---|---|
| MAX_ARTIFACT_SIZE_EXCEEDED | the files are larger than allowed, holes counted |
| TOO_MANY_ARTIFACT_FILES | there are more of them than allowed, directories counted |
| FORBIDDEN_ARTIFACT | a link, a device, a pipe, a socket, a set-uid file, or a name that tricks tools |

The messages name counts and bytes, never a file: a name can carry data.
"""

import gzip
import os
import stat
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from passbox.errors import JobFailed

_COMPRESSION = 1  # weights hardly compress; more would cost minutes for per cents
_DEPTH = 64
_PATH_BYTES = 1024
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SET_ID = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX


@dataclass(frozen=True)
class Harvest:
    """What was packed. content_bytes: the files' lengths; archive_bytes: the archive's."""

    files: int
    content_bytes: int
    archive_bytes: int


def harvest(
    directory: Path, archive: Path, *, others: Sequence[Path] = (), max_bytes: int, max_files: int = 100_000
) -> Harvest:
    """Packs `directory` into the gzipped tar `archive`; JobFailed for what may not leave (see the table).

    others: directories whose entries are laid under those of the ones before; of two files of one path the
    first counts. The archive appears whole or not at all.
    """
    unfinished = archive.with_name(archive.name + ".part")
    count = _Count(max_bytes, max_files)
    roots: list[int] = []
    try:
        roots += [os.open(one, _DIRECTORY) for one in (directory, *others)]
        with (
            unfinished.open("wb") as raw,
            gzip.GzipFile("", "wb", compresslevel=_COMPRESSION, fileobj=raw, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for name, status, opened in _walk(roots, "", count):
                tar.addfile(_member(name, status), opened)
        unfinished.replace(archive)
    finally:
        for root in roots:
            os.close(root)
        unfinished.unlink(missing_ok=True)
    return Harvest(count.files, count.bytes, archive.stat().st_size)


def unpack(archive: Path, directory: Path, *, max_bytes: int, max_files: int = 100_000) -> Harvest:
    """Unpacks a gzipped tar into the existing, empty `directory`; JobFailed for what harvest would refuse.

    The archive may be hostile: sizes are counted before anything is written, and only files and directories
    beneath `directory` are made.
    """
    count = _Count(max_bytes, max_files)
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                name = member.name.removeprefix("./").rstrip("/")
                if name in ("", "."):
                    continue
                _require_honest_name(name)
                regular = member.isreg() and not member.issparse()
                if not (regular or member.isdir()) or member.mode & _SET_ID:
                    raise _forbidden("an entry that is neither a plain file nor a directory")
                count.add(member.size if regular else 0)
                tar.extract(member, directory, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise JobFailed(
            "INVALID_ARTIFACT", "The archive of artifacts cannot be read.", detail=f"{archive}: {error}"
        ) from error
    return Harvest(count.files, count.bytes, archive.stat().st_size)


class _Count:
    """Files and bytes so far, against what is allowed."""

    def __init__(self, max_bytes: int, max_files: int) -> None:
        self.max_bytes, self.max_files = max_bytes, max_files
        self.bytes = self.files = self.entries = 0

    def add(self, size: int) -> None:
        self.bytes += size
        self.entries += 1
        if self.bytes > self.max_bytes:
            raise JobFailed(
                "MAX_ARTIFACT_SIZE_EXCEEDED",
                f"The artifacts are larger than the {self.max_bytes} bytes that are allowed.",
                detail=f"{self.bytes} bytes after {self.entries} entries",
            )
        if self.entries > self.max_files:
            raise JobFailed(
                "TOO_MANY_ARTIFACT_FILES",
                f"The artifacts are more than the {self.max_files} files that are allowed.",
            )


def _forbidden(what: str) -> JobFailed:
    return JobFailed("FORBIDDEN_ARTIFACT", f"The artifacts hold {what}, which may not leave.")


def _require_honest_name(path: str) -> None:
    parts = path.split("/")
    if len(parts) > _DEPTH or len(path.encode("utf-8", "surrogateescape")) > _PATH_BYTES:
        raise _forbidden(f"a path longer than {_PATH_BYTES} bytes or {_DEPTH} levels")
    for part in parts:
        if part in ("", ".", "..") or not part.isprintable() or "\\" in part or part != part.strip():
            raise _forbidden("a name with control signs, backslashes, or blanks at its ends")


def _walk(
    directories: Sequence[int], prefix: str, count: _Count
) -> Iterator[tuple[str, os.stat_result, BinaryIO | None]]:
    """Every entry of any of the directories, parents first, names sorted: (path, status, open file or None
    for a directory). The first directory that has a name decides what it is."""
    having: dict[str, list[int]] = {}
    for directory in directories:
        for name in os.listdir(directory):  # noqa: PTH208  a descriptor has no path
            having.setdefault(name, []).append(directory)
    for name in sorted(having):
        path = prefix + name
        _require_honest_name(path)
        seen = [os.stat(name, dir_fd=directory, follow_symlinks=False) for directory in having[name]]
        if not stat.S_ISDIR(seen[0].st_mode):
            yield from _file(having[name][0], name, path, seen[0], count)
            continue
        count.add(0)
        opened: list[int] = []
        try:
            for directory, status in zip(having[name], seen, strict=True):
                if stat.S_ISDIR(status.st_mode):
                    opened.append(os.open(name, _DIRECTORY, dir_fd=directory))
            yield path, seen[0], None
            yield from _walk(opened, f"{path}/", count)
        finally:
            for one in opened:
                os.close(one)


def _file(
    directory: int, name: str, path: str, seen: os.stat_result, count: _Count
) -> Iterator[tuple[str, os.stat_result, BinaryIO]]:
    if not stat.S_ISREG(seen.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(seen.st_mode) else "a pipe, a socket or a device"
        raise _forbidden(kind)
    opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    with os.fdopen(opened, "rb") as file:
        status = os.fstat(opened)
        if (status.st_dev, status.st_ino) != (seen.st_dev, seen.st_ino):
            raise _forbidden("a file that changes while it is read")
        if status.st_nlink > 1:
            raise _forbidden("a hard link")
        if status.st_mode & _SET_ID:
            raise _forbidden("a set-uid, set-gid or sticky file")
        count.add(status.st_size)
        count.files += 1
        yield path, status, cast(BinaryIO, file)


def _member(name: str, status: os.stat_result) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    if stat.S_ISDIR(status.st_mode):
        member.type, member.mode = tarfile.DIRTYPE, 0o755
    else:
        member.size = status.st_size
        member.mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
    return member
