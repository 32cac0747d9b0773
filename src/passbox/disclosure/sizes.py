"""How large what leaves may be: the sizes of privacy policies in bytes, and messages that name them. Pure."""

from collections.abc import Mapping
from typing import Any

GIGABYTE = 1_000_000_000  # the smaller reading of GB; what a limit leaves open is not released
MEGABYTE = 1_000_000
MOST_ARTIFACTS = {"unit": "GB", "value": 10}  # where no policy says: what the user guide allows at most
MOST_OUTPUT = {"unit": "GB", "value": 100}  # where no policy says: what the service model allows at most


def in_bytes(size: Mapping[str, Any]) -> int:
    """A modelled size, for example {"unit": "GB", "value": 0.5}; GB is the only unit of the models."""
    if size["unit"] != "GB":
        raise ValueError(f"unknown unit {size['unit']}")
    return int(size["value"] * GIGABYTE)


def readable(number: int) -> str:
    """Bytes for people, with enough digits to see on which side of a limit they are."""
    for unit, size in (("GB", GIGABYTE), ("MB", MEGABYTE), ("kB", 1000)):
        if number >= size:
            return f"{number / size:.2f} {unit}"
    return f"{number} bytes"
