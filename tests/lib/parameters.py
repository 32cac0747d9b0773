"""The rows of `spec/parameters.md`."""

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from passbox.analysis import Parameter

DOCUMENT = Path(__file__).parent.parent / "spec" / "parameters.md"
_NAMES = {"Decimal": Decimal, "date": date, "datetime": datetime, "UTC": UTC}


class Given(NamedTuple):
    """A text for a parameter of a type. bound: what an engine binds, None where it is refused"""

    type: str
    text: str
    bound: Parameter | None


class Compared(NamedTuple):
    """Whether a condition with `:p` holds."""

    type: str
    text: str
    condition: str
    holds: bool


def _rows(section: str) -> list[list[str]]:
    text = DOCUMENT.read_text().partition(f"## {section}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return rows[1:]


def _cell(text: str) -> str:
    return text.strip().removeprefix("`").removesuffix("`")


def given() -> list[Given]:
    """Every row of `Values`, for each of its types."""
    found = []
    for types, text, bound in _rows("Values"):
        parameter = None
        if bound.strip() != "refused":
            type, value = re.findall(r"`([^`]*)`", bound)
            value = re.sub(r", UTC\)$", ", tzinfo=UTC)", value)
            parameter = Parameter(type, eval(value, dict(_NAMES)))
        found += [Given(type, _cell(text), parameter) for type in types.split()]
    return found


def compared() -> list[Compared]:
    """Every row of `Comparisons`."""
    return [
        Compared(type.strip(), _cell(text), _cell(condition), holds.strip() == "yes")
        for type, text, condition, holds in _rows("Comparisons")
    ]
