"""Identifiers, ARNs, the clock and page tokens. Knows no storage and no wire."""

import base64
import hashlib
import re
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from passbox.errors import ValidationException

ACCOUNT = re.compile(r"[0-9]{12}", re.ASCII)
MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])", re.ASCII)
# of an inference's environment: which requests begin with the header row of their file
CSV_HEADER, CSV_HEADERS = "PASSBOX_CSV_HEADER", ("first", "every", "none")


def now() -> float:
    """Seconds since the epoch, to the millisecond: what every timestamp in the house is."""
    return time.time_ns() // 1_000_000 / 1000


def month(at: float) -> str:
    """The calendar month (UTC) of a time, `2026-11`."""
    return _month(int(at // 86_400))


@lru_cache(maxsize=64)
def _month(day: int) -> str:
    return datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y-%m")


def new_id() -> str:
    """A random UUID, as the models want identifiers. It tells nothing, not even when it was made: members see
    identifiers of things whose times they may not see.
    """
    text = secrets.token_hex(16)
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{'89ab'[int(text[16], 16) & 3]}{text[17:20]}-{text[20:]}"


def new_job_id() -> str:
    """A UUID of version 7: random after its milliseconds, so that an index over jobs and transfers grows at
    its end and what is committed together lies together. Only its submitter and who pays for it see it.
    """
    chance = int.from_bytes(secrets.token_bytes(10))
    last = 1 << 63 | chance & (1 << 62) - 1
    text = f"{time.time_ns() // 1_000_000:012x}7{chance >> 68:03x}{last:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def arn(service: str, region: str, account: str, resource: str) -> str:
    """`arn:aws:SERVICE:REGION:ACCOUNT:RESOURCE`; service is `cleanrooms` or `cleanrooms-ml`."""
    return f"arn:aws:{service}:{region}:{account}:{resource}"


def arn_account(value: str) -> str:
    """The account in an ARN ('' where it has none)."""
    parts = value.split(":", 5)
    return parts[4] if len(parts) == 6 else ""


@dataclass(frozen=True)
class Role:
    """A role in which a member lets the room act for it.

    arn:        in the member's own account
    membership: the ARN of the membership for whose work it is; None for what belongs to none
    """

    arn: str
    membership: str | None


class PageTokens:
    """Seals the place where the next page starts, for one account and one listing.

    A token works only for the listing that gave it, and holds the last row that was seen, so rows that are
    inserted meanwhile neither shift nor repeat a page. It is encrypted, because a row's number counts the
    rows of the whole room, and all tokens are equally long.
    """

    def __init__(self, secret: bytes) -> None:
        self._cipher = AESSIV(hashlib.sha512(b"page token" + secret).digest())

    def issue(self, listing: str, sequence: int) -> str:
        """The token for the rows after the one with this sequence number."""
        sealed = self._cipher.encrypt(sequence.to_bytes(8), [listing.encode()])
        return base64.urlsafe_b64encode(sealed).decode()

    def read(self, listing: str, token: str) -> int:
        """The sequence number of the last row seen; ValidationException for a token that is not ours."""
        try:
            sealed = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
            return int.from_bytes(self._cipher.decrypt(sealed, [listing.encode()]))
        except (ValueError, InvalidTag):
            text = "nextToken is not a token of this listing; start again without it."
            raise ValidationException(text, fields=[("nextToken", text)]) from None
