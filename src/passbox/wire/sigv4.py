"""Whose request is it: AWS Signature Version 4 verified, in the Authorization header or in the query.

Two steps, because the first needs neither the secret nor the body: `claim` reads what a request says of
itself and refuses what cannot be valid; `account` computes the signature over all of it. Every comparison
with a secret takes the same time for a known and for an unknown key.

Only long-term keys exist here, so a session token is refused by name. Knows keys by their id; must not know
where they are kept, nor what their owner may do.

Source: "Create a signed AWS API request", AWS Signature Version 4 for API requests; the error names are
those of AWS's JSON services.
"""

import hmac
import re
import secrets
from calendar import timegm
from collections.abc import Callable, Collection
from functools import lru_cache
from hashlib import sha256
from time import strptime, time
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from passbox.wire.canonical import ALGORITHM, Request, canonical_request, fold, sign
from passbox.wire.errors import Refused

SKEW = 300  # seconds
LONGEST_EXPIRY = 7 * 24 * 3600  # seconds, of a presigned query

_MOMENT = re.compile(rb"\d{8}T\d{6}Z")
_SIGNATURE = re.compile(rb"[0-9a-f]{64}")
_HEADER_NAME = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]+")
_EXPIRES = re.compile(rb"\d{1,7}")
_EMPTY_HASH = sha256(b"").hexdigest().encode()
# Signed with for a key that does not exist, so that it costs what a known key costs.
_DECOY = secrets.token_urlsafe(30)

_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
    "Access Key and signing method. Consult the service documentation for details."
)


class Key(NamedTuple):
    """A long-term access key: the account it speaks for and its secret."""

    account: str
    secret: str


FindKey = Callable[[str], Key | None]


class Claim(NamedTuple):
    """What a request says of its own signature; nothing of it is proven yet.

    moment: X-Amz-Date, YYYYMMDDTHHMMSSZ      scope: date/region/service/aws4_request
    headers: folded, as the signature sees them
    """

    key_id: str
    moment: bytes
    scope: bytes
    service: str
    signed: tuple[bytes, ...]
    signature: bytes
    presigned: bool
    headers: dict[bytes, bytes]


class Verifier:
    """Verifies requests to the given services of one region.

    clock: seconds since the epoch
    """

    def __init__(
        self,
        find_key: FindKey,
        *,
        region: str,
        services: Collection[str],
        clock: Callable[[], float] = time,
    ) -> None:
        self._find_key = find_key
        self._region = region.encode()
        self._services = {service.encode(): service for service in services}
        self._clock = clock

    def claim(self, request: Request) -> Claim:
        """Read and judge everything but the signature itself. Raises Refused."""
        headers = fold(request.headers)
        fields, presigned = _fields(headers, request.query)
        if fields.get(b"token") is not None or b"x-amz-security-token" in headers:
            raise _unrecognized(
                "Temporary credentials are not supported: sign with a long-term access key, without a "
                "session token."
            )
        key_id, date, region, service = _scope(fields[b"Credential"])
        moment = fields[b"moment"]
        if not _MOMENT.fullmatch(moment):
            raise _incomplete("X-Amz-Date must be in the form YYYYMMDDTHHMMSSZ.")
        if moment[:8] != date:
            raise _invalid(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP."
            )
        if region != self._region:
            raise _invalid(f"Credential should be scoped to a valid region: '{self._region.decode()}'.")
        if service not in self._services:
            told = "', '".join(sorted(self._services.values()))
            raise _invalid(f"Credential should be scoped to correct service: '{told}'.")
        self._judge_time(moment, fields.get(b"expires"))
        signed = _signed_headers(fields[b"SignedHeaders"], headers, presigned=presigned)
        signature = fields[b"Signature"]
        if not _SIGNATURE.fullmatch(signature):
            raise _invalid(_MISMATCH)
        scope = b"/".join((date, region, service, b"aws4_request"))
        return Claim(key_id, moment, scope, self._services[service], signed, signature, presigned, headers)

    def account(self, claim: Claim, request: Request, body: bytes) -> str:
        """The account whose key signed exactly this request. Raises Refused."""
        headers = claim.headers
        payload = sha256(body).hexdigest().encode() if body else _EMPTY_HASH
        declared = headers.get(b"x-amz-content-sha256")
        if declared is not None and declared != payload:
            raise _invalid("X-Amz-Content-Sha256 does not match the body; the body must be signed.")
        canonical = canonical_request(request, headers, claim.signed, payload, presigned=claim.presigned)
        key = self._find_key(claim.key_id)
        secret = _DECOY if key is None else key.secret
        expected = sign(secret, claim.scope, claim.moment, canonical)
        same = hmac.compare_digest(expected, claim.signature)
        if key is None:
            raise _unrecognized("The security token included in the request is invalid.")
        if not same:
            raise _invalid(_MISMATCH)
        return key.account

    def _judge_time(self, moment: bytes, expires: bytes | None) -> None:
        sent, now = _seconds(moment), self._clock()
        if sent > now + SKEW:
            raise _invalid(f"Signature not yet current: {moment.decode()} is later than the service's clock.")
        lasting = SKEW
        if expires is not None:
            if not _EXPIRES.fullmatch(expires) or not 1 <= int(expires) <= LONGEST_EXPIRY:
                raise _incomplete(f"X-Amz-Expires must be a number of seconds from 1 to {LONGEST_EXPIRY}.")
            lasting = int(expires)
        if sent + lasting < now:
            raise _invalid(f"Signature expired: {moment.decode()} is more than {lasting} seconds ago.")


@lru_cache(maxsize=1024)
def _seconds(moment: bytes) -> int:
    try:
        return timegm(strptime(moment.decode(), "%Y%m%dT%H%M%SZ"))
    except ValueError:
        raise _incomplete("X-Amz-Date is not a date.") from None


def _fields(headers: dict[bytes, bytes], query: bytes) -> tuple[dict[bytes, bytes], bool]:
    """(Credential, SignedHeaders, Signature, moment and perhaps expires and token; presigned or not)."""
    authorization = headers.get(b"authorization")
    if b"&X-Amz-Algorithm=" not in b"&" + query:
        if not authorization:
            raise Refused("MissingAuthenticationTokenException", 403, "Missing Authentication Token")
        fields = _authorization(authorization)
        if b"x-amz-date" not in headers:
            raise _incomplete("Authorization header requires existence of an 'X-Amz-Date' header.")
        fields[b"moment"] = headers[b"x-amz-date"]
        return fields, False
    if authorization:
        raise _incomplete("Sign in the Authorization header or in the query, not in both.")
    return _presigned(query), True


def _authorization(value: bytes) -> dict[bytes, bytes]:
    algorithm, _, rest = value.partition(b" ")
    if algorithm != ALGORITHM:
        raise _incomplete(f"The Authorization header must use {ALGORITHM.decode()}.")
    fields: dict[bytes, bytes] = {}
    for part in rest.split(b","):
        name, equals, text = part.strip().partition(b"=")
        if not equals or name in fields:
            raise _incomplete("The Authorization header is not a list of distinct name=value pairs.")
        fields[name] = text
    if fields.keys() != {b"Credential", b"SignedHeaders", b"Signature"}:
        raise _incomplete("Authorization header requires 'Credential', 'SignedHeaders' and 'Signature'.")
    return fields


_IN_QUERY = {
    b"X-Amz-Algorithm": b"algorithm",
    b"X-Amz-Credential": b"Credential",
    b"X-Amz-Date": b"moment",
    b"X-Amz-Expires": b"expires",
    b"X-Amz-SignedHeaders": b"SignedHeaders",
    b"X-Amz-Signature": b"Signature",
    b"X-Amz-Security-Token": b"token",
}


def _presigned(query: bytes) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        field = _IN_QUERY.get(name)
        if field is None:
            continue
        if field in fields:
            raise _incomplete(f"{name.decode()} is given more than once.")
        fields[field] = unquote_to_bytes(value)
    if fields[b"algorithm"] != ALGORITHM:
        raise _incomplete(f"X-Amz-Algorithm must be {ALGORITHM.decode()}.")
    missing = [
        name.decode() for name, field in _IN_QUERY.items() if field != b"token" and field not in fields
    ]
    if missing:
        raise _incomplete(f"AWS query-string parameters must include {', '.join(missing)}.")
    return fields


def _scope(credential: bytes) -> tuple[str, bytes, bytes, bytes]:
    """(key id, date, region, service)."""
    parts = credential.split(b"/")
    if len(parts) != 5 or parts[4] != b"aws4_request":
        raise _incomplete("Credential must be KEY/YYYYMMDD/REGION/SERVICE/aws4_request.")
    try:
        return parts[0].decode("ascii"), parts[1], parts[2], parts[3]
    except UnicodeDecodeError:
        raise _incomplete("The access key id is not ASCII.") from None


def _signed_headers(text: bytes, headers: dict[bytes, bytes], *, presigned: bool) -> tuple[bytes, ...]:
    names = text.split(b";")
    if names != sorted(set(names)) or not all(_HEADER_NAME.fullmatch(name) for name in names):
        raise _incomplete("SignedHeaders must be distinct lower-case names, sorted, separated by semicolons.")
    listed = frozenset(names)
    needed = {name for name in headers if name.startswith(b"x-amz-")} | {b"host"}
    if not presigned:
        needed.add(b"x-amz-date")
    if needed - listed:
        told = ", ".join(sorted(name.decode("ascii", "replace") for name in needed - listed))
        raise _invalid(f"These headers must be signed: {told}.")
    if listed - headers.keys():
        told = ", ".join(sorted(name.decode() for name in listed - headers.keys()))
        raise _invalid(f"These headers are signed but were not sent: {told}.")
    return tuple(names)


def _incomplete(message: str) -> Refused:
    return Refused("IncompleteSignatureException", 400, message)


def _invalid(message: str) -> Refused:
    return Refused("InvalidSignatureException", 403, message)


def _unrecognized(message: str) -> Refused:
    return Refused("UnrecognizedClientException", 403, message)
