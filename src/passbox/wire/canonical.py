"""The canonical form of a request and its signature: what AWS Signature Version 4 computes over which bytes.

Pure functions, used to verify and by tests to sign. Must not judge a request, nor know a key by its id.

Source: "Create a signed AWS API request", AWS Signature Version 4 for API requests.
"""

import hmac
import re
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

ALGORITHM = b"AWS4-HMAC-SHA256"

_ENCODED_PATH = re.compile(rb"[A-Za-z0-9_.~/%-]*")


class Request(NamedTuple):
    """A request as it came: the path and the query still encoded, header names in lower case."""

    method: str
    path: bytes
    query: bytes
    headers: Sequence[tuple[bytes, bytes]]


def fold(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Headers as the signature sees them: repeats joined by a comma, runs of white space made one space."""
    folded: dict[bytes, bytes] = {}
    for name, value in headers:
        plain = b" ".join(value.split())
        folded[name] = folded[name] + b"," + plain if name in folded else plain
    return folded


def canonical_request(
    request: Request,
    headers: dict[bytes, bytes],
    signed: Sequence[bytes],
    payload: bytes,
    *,
    presigned: bool = False,
) -> bytes:
    """The text that is hashed and signed; `headers` folded, `payload` the body's SHA-256 in hex."""
    lines = [
        request.method.encode(),
        canonical_path(request.path),
        canonical_query(request.query, presigned=presigned),
    ]
    lines += [b"%s:%s" % (name, headers[name]) for name in signed]
    lines += [b"", b";".join(signed), payload]
    return b"\n".join(lines)


def canonical_path(path: bytes) -> bytes:
    """The path without dot segments and doubled slashes, encoded once more than it was sent."""
    if b"//" in path or b"/." in path:
        kept: list[bytes] = []
        segments = path.split(b"/")
        for segment in segments:
            if segment == b"..":
                del kept[-1:]
            elif segment not in (b"", b"."):
                kept.append(segment)
        trailing = b"/" if kept and segments[-1] in (b"", b".", b"..") else b""
        path = b"/" + b"/".join(kept) + trailing
    if _ENCODED_PATH.fullmatch(path):
        return path.replace(b"%", b"%25") or b"/"
    return quote_from_bytes(path, safe="/~").encode()


def canonical_query(query: bytes, *, presigned: bool = False) -> bytes:
    """Name and value decoded and encoded again in one way, sorted; a presigned one without its signature."""
    if not query:
        return b""
    pairs = []
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if part and not (presigned and name == b"X-Amz-Signature"):
            pairs.append((_encode(name), _encode(value)))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs)).encode()


def sign(secret: str, scope: bytes, moment: bytes, canonical: bytes) -> bytes:
    """The signature in hex."""
    digest = sha256(canonical).hexdigest().encode()
    text = b"\n".join((ALGORITHM, moment, scope, digest))
    return hmac.digest(_signing_key(secret, scope), text, "sha256").hex().encode()


# The scope is checked before anything is signed, so strangers cannot fill this with scopes of their own.
@lru_cache(maxsize=1024)
def _signing_key(secret: str, scope: bytes) -> bytes:
    key = b"AWS4" + secret.encode()
    for part in scope.split(b"/"):
        key = hmac.digest(key, part, "sha256")
    return key


def _encode(raw: bytes) -> str:
    return quote_from_bytes(unquote_to_bytes(raw), safe="-_.~")
