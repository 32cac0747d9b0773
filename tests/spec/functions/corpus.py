"""The cases of tests/spec/functions/*.md: queries, the types and values that real Spark answers, and where.

A section has a `query:` with `{}` for a row's expression, sometimes `parameters:`, and a table: the
expression, the type and the value of the answer (`fails` and Spark's error class where Spark itself fails),
and `where`: `everywhere`, `spark` (refused on Sail, by the reason that `analysis.functions` gives) or the
gate's rule that refuses it anywhere. All but the expression is written by `record`, from a Spark that runs.
"""

import datetime as dt
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

HERE = Path(__file__).parent
FILES = sorted(path for path in HERE.glob("*.md") if path.stem != "tables")
HEADER = ("expression", "type", "answer", "where")


@dataclass(frozen=True)
class Answer:
    """What an engine says. type: Spark's names of the columns' types; value: all rows as text."""

    type: str
    value: str

    def agrees(self, other: "Answer") -> bool:
        """Same types, same values; a floating number may differ by what the last digits of a double hold."""
        if self.type != other.type:
            return False
        if self.type == "fails":
            return True
        ours, theirs = _NUMBER.split(self.value), _NUMBER.split(other.value)
        return len(ours) == len(theirs) and all(
            a == b or (place % 2 == 1 and math.isclose(float(a), float(b), rel_tol=1e-14))
            for place, (a, b) in enumerate(zip(ours, theirs, strict=True))
        )


# a floating number as `show` writes it, inside no text: a decimal ends with m
_NUMBER = re.compile(r"(?<![\w.\"-])(-?\d+\.\d+(?:e[+-]?\d+)?|-?\d+e[+-]?\d+)(?![\w.])")


@dataclass(frozen=True)
class Case:
    """One row of a table. answer, where: None in a row that has not been recorded."""

    name: str
    section: str
    expression: str
    query: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    answer: Answer | None = None
    where: str | None = None


def cases(paths: Sequence[Path] = tuple(FILES)) -> list[Case]:
    """Every case, in order."""
    return [case for path in paths for case in _cases(path)]


def _cases(path: Path) -> Iterator[Case]:
    section, query, parameters = "", "", {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith("## "):
            section, query, parameters = line[3:], "", {}
        elif line.startswith("query: "):
            query = line.removeprefix("query: ")
        elif line.startswith("parameters: "):
            parameters = json.loads(line.removeprefix("parameters: "))
        elif line.startswith("| ") and not line.startswith(("| expression", "| query")):
            expression, *answer = cells(line)
            yield Case(
                f"{path.stem}:{number}",
                section,
                expression,
                query.replace("{}", expression),
                parameters,
                Answer(*answer[:2]) if answer else None,
                answer[2] if answer else None,
            )


def cells(line: str) -> list[str]:
    """The cells of a table's row."""
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def record(path: Path, answers: Mapping[str, tuple[Answer, str]]) -> None:
    """Writes a file anew with `answers`: name → the answer and where."""
    known = {case.name: case for case in _cases(path)}
    lines = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        case = known.get(f"{path.stem}:{number}")
        if case is not None:
            answer, where = answers[case.name]
            row = (case.expression, answer.type, answer.value, where)
            line = "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
        elif line.startswith(("| expression", "| query")):
            line = "| " + " | ".join(HEADER) + " |"
        elif line.startswith("|---"):
            line = "|" + "---|" * len(HEADER)
        lines.append(line)
    path.write_text("\n".join(lines) + "\n")


# ---- the tables that they read ---------------------------------------------------------------------------


def tables() -> dict[str, tuple[dict[str, str], pa.Table]]:
    """Name → Spark types by column, and the rows."""
    found: dict[str, tuple[dict[str, str], pa.Table]] = {}
    for part in (HERE / "tables.md").read_text().split("\n## ")[1:]:
        name, _, rest = part.partition("\n")
        rows = [cells(line) for line in rest.splitlines() if line.startswith("|")]
        types = dict(head.split(" ", 1) for head in rows[0])
        columns = {
            column: pa.array([_value(row[place], type) for row in rows[2:]], _arrow(type))
            for place, (column, type) in enumerate(types.items())
        }
        found[name] = types, pa.table(columns)
    return found


def _arrow(type: str) -> pa.DataType:
    if type.startswith("decimal"):
        precision, scale = re.findall(r"\d+", type)
        return pa.decimal128(int(precision), int(scale))
    if type.startswith("array<"):
        return pa.list_(_arrow(type[6:-1]))
    if type.startswith("map<"):
        key, value = type[4:-1].split(",")
        return pa.map_(_arrow(key), _arrow(value))
    if type.startswith("struct<"):
        fields = (part.split(":") for part in type[7:-1].split(","))
        return pa.struct([(name, _arrow(of)) for name, of in fields])
    return _ARROW[type]


_ARROW = {
    "boolean": pa.bool_(),
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"),
}


def _value(cell: str, type: str) -> Any:
    if cell == "NULL":
        return None
    text = "" if cell == "''" else cell
    if type.startswith("decimal"):
        return Decimal(text)
    if "<" in type:
        value = json.loads(text)
        return list(value.items()) if type.startswith("map") else value
    readers = {
        "boolean": json.loads,
        "float": float,
        "double": float,
        "string": str,
        "binary": bytes.fromhex,
        "date": dt.date.fromisoformat,
        "timestamp": lambda t: dt.datetime.fromisoformat(t).replace(tzinfo=dt.UTC),
    }
    return readers.get(type, int)(text)


# ---- answers as text -------------------------------------------------------------------------------------


def answer(types: Sequence[str], table: pa.Table) -> Answer:
    """An engine's answer as a case writes it."""
    rows = zip(*(_values(column) for column in table.columns), strict=True)
    shown = [", ".join(map(show, row)) for row in rows]
    constant = len(set(shown)) == 1 < len(shown)
    return Answer(", ".join(types), f"{shown[0]} in {len(shown)} rows" if constant else " ; ".join(shown))


def _values(column: pa.ChunkedArray) -> list[Any]:
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:  # Spark casts bytes to text without a look at them
        return list(column.cast(pa.binary()).to_pylist())


def show(value: Any) -> str:
    """A value as text: different values have different texts."""
    match value:
        case None:
            return "NULL"
        case bool():
            return str(value).lower()
        case float():
            return repr(value)
        case Decimal():
            return f"{value:f}m"
        case str():
            return json.dumps(value, ensure_ascii=False)
        case bytes():
            return f"X'{value.hex()}'"
        case dt.datetime() | dt.date():
            return value.isoformat()
        case list():
            return "[" + ", ".join(map(show, value)) + "]"
        case tuple():
            return " → ".join(map(show, value))
        case dict():
            return "{" + ", ".join(f"{name}: {show(item)}" for name, item in value.items()) + "}"
        case _:
            return str(value)
