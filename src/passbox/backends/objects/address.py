"""`s3://BUCKET/prefix` and the keys below it: what every store accepts and refuses alike.

Stricter than S3, which takes nearly any text: what a key says must be plain to a file system and to a reader.
All errors are ValidationException.
"""

import re
from collections.abc import Iterable, Iterator

from passbox.errors import ValidationException
from passbox.names import ACCOUNT

# S3's rules for buckets: labels of lower-case letters, digits and dashes, joined by single dots; no IP
# address.
_BUCKET = re.compile(
    r"(?=.{3,63}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", re.ASCII
)
_ADDRESS = re.compile(r"[0-9.]+", re.ASCII)
_KEY_BYTES = 1024
_SEGMENT_BYTES = 255


def place(account: str, uri: str) -> list[str]:
    """The bucket and the segments of the prefix, where both are allowed."""
    check_account(account)
    bucket, *prefix = _split(uri)
    if not _BUCKET.fullmatch(bucket) or _ADDRESS.fullmatch(bucket):
        raise ValidationException(f"{bucket!r} is no name of a bucket.")
    _limit(prefix)
    return [bucket, *prefix]


def object_(account: str, uri: str) -> list[str]:
    """The bucket and the segments of the key of one object."""
    found = place(account, uri)
    if len(found) < 2 or uri.endswith("/"):
        raise ValidationException(f"{uri!r} names no object.")
    return found


def within(pieces: Iterable[bytes], most_bytes: int, uri: str) -> Iterator[bytes]:
    """The pieces of an object, refused before they are more than they may be."""
    for piece in pieces:
        most_bytes -= len(piece)
        if most_bytes < 0:
            raise ValidationException(f"{uri!r} is too large.")
        yield piece


def target(place: list[str], key: str) -> tuple[str, ...]:
    """The bucket and the segments of the whole key of an object at a place."""
    found = (*place, *segments(key, "key"))
    _limit(found[1:])
    return found


def check_account(account: str) -> None:
    """Twelve digits, and nothing that is a path."""
    if not ACCOUNT.fullmatch(account):
        raise ValidationException(f"{account!r} is no account.")


def segments(path: str, what: str) -> list[str]:
    """The segments of a key or prefix; none may be empty, `.` or `..`, or odd to a file system."""
    found = path.split("/")
    for segment in found:
        if segment in ("", ".", "..") or not segment.isprintable() or "\\" in segment:
            raise ValidationException(f"{path!r} is no {what}: its part {segment!r} is not allowed.")
        if len(segment.encode()) > _SEGMENT_BYTES:
            raise ValidationException(f"A part of a {what} is longer than {_SEGMENT_BYTES} bytes.")
    return found


def _split(uri: str) -> list[str]:
    if not uri.startswith("s3://"):
        raise ValidationException(f"{uri!r} does not begin with s3://.")
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    return [bucket, *segments(prefix.removesuffix("/"), "prefix")] if prefix else [bucket]


def _limit(parts: list[str] | tuple[str, ...]) -> None:
    if len("/".join(parts).encode()) > _KEY_BYTES:
        raise ValidationException(f"A prefix and key together are longer than {_KEY_BYTES} bytes.")
