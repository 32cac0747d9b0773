"""The tables of what may leave of a container's words: `tests/spec/disclosure/`."""

import re
from pathlib import Path

import pytest

TABLES = Path(__file__).parent.parent / "spec" / "disclosure"


def rows(name):
    """(cells, id) of every row of a table; `\\|` is a bar within a cell."""
    found = []
    for number, line in enumerate((TABLES / name).read_text().splitlines(), 1):
        if line.startswith("|") and set(line) <= {"|", "-"}:
            found.pop()  # what stands above is the head
        elif line.startswith("|"):
            cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            found.append(pytest.param(*cells, id=f"{name}:{number}"))
    return found
