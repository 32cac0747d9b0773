"""The rows of `spec/parameters.md`."""

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from passbox.analysis import Parameter

DOCUMENT = Path(__file__).parent.parent / "spec" / "parameters.md"
_NAMES = {"Decimal": Decimal, "date": date, "datetime": datetime, "UTC": UTC}


class Given(NamedTuple):
    """A text for a parameter of a type. bound: Spark's type and the value in Python; None where refused"""

    type: str
    text: str
    bound: tuple[str, Any] | None

    @property
    def parameter(self) -> Parameter | None:
        """What an engine binds."""
        if self.bound is None:
            return None
        type, value = self.bound
        if isinstance(value, datetime):
            value = (value.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(
                microseconds=1
            )
        elif isinstance(value, date):
            value = (value - date(1970, 1, 1)).days
        return Parameter(type, value)


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
        pair = None
        if bound.strip() != "refused":
            type, value = re.findall(r"`([^`]*)`", bound)
            value = re.sub(r", UTC\)$", ", tzinfo=UTC)", value)
            pair = (type, eval(value, dict(_NAMES)))
        found += [Given(type, _cell(text), pair) for type in types.split()]
    return found


def compared() -> list[Compared]:
    """Every row of `Comparisons`."""
    return [
        Compared(type.strip(), _cell(text), _cell(condition), holds.strip() == "yes")
        for type, text, condition, holds in _rows("Comparisons")
    ]
