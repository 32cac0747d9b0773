"""Buckets as folders: s3://BUCKET/prefix of an account is accounts/ACCOUNT/buckets/BUCKET/prefix.

An object is copied beside the buckets, made durable, and renamed into its place: it appears whole or not at
all, and a second delivery replaces it by the same. Folders are opened one by one and never through a link,
so that nothing outside the account's buckets is reached. Folders are 0700 and files 0600: the operator hands
them on.

Members' roles mean nothing here: the folders are the operator's. Must not know jobs, or what the files are.
"""

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from passbox.backends.objects import address
from passbox.errors import ValidationException
from passbox.names import Role

# Where copies are made; no bucket can be named like this.
_INCOMING = ".incoming"
_PIECE = 1 << 20
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Local:
    """The buckets of every account under one folder. Buckets are made when something is delivered to them."""

    def __init__(self, accounts: Path) -> None:
        self._accounts = accounts

    def check(self, account: str, uri: str, _role: Role | None) -> None:
        """Raises ValidationException where `uri` is no place this account can receive at."""
        path = self._accounts
        for part in (account, "buckets", *address.place(account, uri)):
            path = path / part
            try:
                mode = path.lstat().st_mode
            except OSError:
                return  # from here on it is ours to make
            if not stat.S_ISDIR(mode):
                raise ValidationException(f"{uri!r} is no place to receive at: {part!r} is not a folder.")

    def deliver(self, account: str, uri: str, _role: Role | None, files: Mapping[str, Path]) -> list[str]:
        """Puts each host file under `uri/key`; returns the full `s3://` addresses, in key order."""
        place = address.place(account, uri)
        targets = {key: address.target(place, key) for key in sorted(files)}
        try:
            with _opened(self._accounts, (account, "buckets")) as buckets:
                for key, target in targets.items():
                    _put(buckets, target, files[key])
        except (NotADirectoryError, IsADirectoryError, FileExistsError) as error:
            raise ValidationException(
                f"{uri!r} cannot be delivered to: a file or a link is where a folder must be, or a folder "
                "where the file must be.",
                detail=str(error),
            ) from None
        return [f"s3://{'/'.join(target)}" for target in targets.values()]

    def read(self, account: str, uri: str, _role: Role, most_bytes: int) -> Iterator[bytes]:
        """The object at an `s3://bucket/key`, in pieces; links are not followed."""
        *folders, name = address.object_(account, uri)
        try:
            with _there(self._accounts, (account, "buckets", *folders)) as folder:
                descriptor = os.open(name, _FILE, dir_fd=folder)
        except OSError as error:
            raise ValidationException(f"{uri!r} is not there.", detail=str(error)) from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ValidationException(f"{uri!r} is no file.")
        with os.fdopen(descriptor, "rb") as file:
            yield from address.within(iter(lambda: file.read(_PIECE), b""), most_bytes, uri)

    def publish(self, account: str, group: str, stream: str, file: Path) -> None:
        """Puts a log or metrics file at accounts/ACCOUNT/logs/GROUP/STREAM."""
        address.check_account(account)
        target = (*address.segments(group, "log group"), *address.segments(stream, "log stream"))
        with _opened(self._accounts, (account, "logs")) as logs:
            _put(logs, target, file)


@contextlib.contextmanager
def _opened(start: int | Path, parts: tuple[str, ...]) -> Iterator[int]:
    """A descriptor of the folder that `parts` lead to from `start`; missing ones are made, links are
    refused.
    """
    # The accounts' folder itself may be reached by a link: it is the operator's.
    current = os.open(start, os.O_RDONLY | os.O_DIRECTORY) if isinstance(start, Path) else os.dup(start)
    try:
        for part in parts:
            try:
                os.mkdir(part, 0o700, dir_fd=current)
                os.fsync(current)
            except FileExistsError:
                pass
            below = os.open(part, _DIRECTORY, dir_fd=current)
            os.close(current)
            current = below
        yield current
    finally:
        os.close(current)


@contextlib.contextmanager
def _there(start: Path, parts: tuple[str, ...]) -> Iterator[int]:
    """A descriptor of the folder that `parts` lead to from `start`; none is made, links are refused."""
    current = os.open(start, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts:
            below = os.open(part, _DIRECTORY, dir_fd=current)
            os.close(current)
            current = below
        yield current
    finally:
        os.close(current)


def _put(buckets: int, target: tuple[str, ...], source: Path) -> None:
    """Copies one file to its place, durably, in one step that others can see."""
    with _opened(buckets, (_INCOMING,)) as incoming, _opened(buckets, target[:-1]) as folder:
        name = secrets.token_hex(8)
        try:
            if not stat.S_ISREG(source.lstat().st_mode):
                raise ValueError(f"{source} is not a file")
            with source.open("rb") as original:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                with os.fdopen(os.open(name, flags, 0o600, dir_fd=incoming), "wb") as copy:
                    shutil.copyfileobj(original, copy, 1 << 20)
                    copy.flush()
                    os.fsync(copy.fileno())
            os.replace(name, target[-1], src_dir_fd=incoming, dst_dir_fd=folder)
            os.fsync(folder)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=incoming)
            raise
