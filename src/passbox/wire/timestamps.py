"""A moment on the wire and in the house: inside, always a float of seconds since the epoch, UTC.

`cleanroomsml` writes ISO 8601 strings, `cleanrooms` numbers. Knows formats; must not know shapes.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from time import gmtime, strftime
from typing import Any

_ISO = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:[Zz]|[+-]\d{2}:\d{2})", re.ASCII)
_FIRST = datetime(1, 1, 2, tzinfo=UTC).timestamp()
_LAST = datetime(9999, 12, 31, tzinfo=UTC).timestamp()

# What a moment must look like, for the message of a refusal.
EXPECTED = {"iso8601": "an ISO 8601 timestamp", "unixTimestamp": "a number of seconds since 1970"}


def read_iso8601(value: Any) -> float | None:
    """Seconds since the epoch, or None where the value is no RFC 3339 date-time."""
    if type(value) is not str or not _ISO.fullmatch(value):
        return None
    try:
        moment = datetime.fromisoformat(value.upper()).timestamp()
    except (ValueError, OverflowError):
        return None
    return moment if _FIRST <= moment <= _LAST else None


def read_epoch(value: Any) -> float | None:
    """Seconds since the epoch, or None where the value is no number of a year that exists."""
    if type(value) is not int and type(value) is not float:
        return None
    return float(value) if _FIRST <= value <= _LAST else None


# Lists show the same resources again and again: a remembered text costs a tenth of a formatted one.
@lru_cache(maxsize=16384)
def write_iso8601(moment: float) -> str:
    """For example 2026-11-24T07:24:41.123Z; whole milliseconds, as the service does."""
    second, millisecond = divmod(round(moment * 1000), 1000)
    return f"{strftime('%Y-%m-%dT%H:%M:%S', gmtime(second))}.{millisecond:03d}Z"


def write_epoch(moment: float) -> float:
    return round(moment, 3)


Read = Callable[[Any], float | None]
Write = Callable[[float], str | float]

READ: dict[str, Read] = {"iso8601": read_iso8601, "unixTimestamp": read_epoch}
WRITE: dict[str, Write] = {"iso8601": write_iso8601, "unixTimestamp": write_epoch}
