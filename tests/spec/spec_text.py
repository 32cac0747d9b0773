"""Reads the rule cases of `tests/spec/rules/*.md`.

A file holds sections. A section starts with `## title`; then come its setup and one Markdown table of cases.

    runner: 444444444444            the account that submits
    receivers: 444444444444, …      who would receive a direct result
    model: ARN                      the algorithm association, where the result feeds a model
    template: ARN of ACCOUNT        where the text comes from an analysis template; `none` for free text
    parameters: name, …             the parameters that have a value
    table NAME of ACCOUNT, TYPE     a table; TYPE is AGGREGATION, LIST, CUSTOM or none
      columns: a int, b string, …
      rule: {…}                     JSON; the members of the analysis rule
      association: {…}              JSON; the members of the collaboration analysis rule

A case is a row `| verdict | rule | table.column | query | reason |`. `verdict` is allowed or refused; for a
refused one `rule` is what QueryRefused must name, and `table.column` (or `table`, or `.column`) too where it
is given; a `»` in its query stands before the place that the refusal must name. Of an allowed one whose
reason starts with `>= N:`, N distinct identities are what each row must stand for (`>= none:`, any number). A
setup is carried over from the section before by `like: title`, and single lines then replace it.
"""

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from passbox.analysis import Column, Purpose, Table

RULES = Path(__file__).parent / "rules"


@dataclass
class Setup:
    purpose: Purpose
    parameters: dict[str, str] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)


@dataclass
class Case:
    name: str
    setup: Setup
    allowed: bool
    rule: str
    table: str
    column: str
    query: str
    place: tuple[int, int] | None
    reason: str


def cases() -> list[Case]:
    found: list[Case] = []
    for path in sorted(RULES.glob("*.md")):
        found += _file(path)
    return found


def _file(path: Path) -> list[Case]:
    found: list[Case] = []
    setups: dict[str, Setup] = {}
    setup = Setup(Purpose(runner="", engine="spark"))
    table = ""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        text = line.strip()
        if line.startswith("## "):
            setup = setups[text[3:]] = Setup(Purpose(runner="", engine="spark"))
        elif text.startswith("like: "):
            base = setups[text[6:]]
            setup.purpose, setup.parameters = base.purpose, dict(base.parameters)
            setup.tables = dict(base.tables)
        elif text.startswith("table "):
            name, _, rest = text[6:].partition(" of ")
            owner, _, kind = rest.partition(", ")
            table = name
            rule_type = None if kind == "none" else kind
            setup.tables[table] = Table(name, owner, (), rule_type)  # type: ignore[arg-type]
        elif text.startswith("| ") and not text.startswith("| verdict"):
            found.append(_case(f"{path.stem}:{number}", setup, text))
        elif ": " in text and not text.startswith("|"):
            _setting(setup, table, *text.split(": ", 1))
    return found


def _setting(setup: Setup, table: str, key: str, value: str) -> None:
    purpose = setup.purpose
    if key == "runner":
        setup.purpose = replace(purpose, runner=value)
    elif key == "receivers":
        receivers = tuple(part.strip() for part in value.split(",")) if value != "none" else ()
        setup.purpose = replace(purpose, receivers=receivers)
    elif key == "model":
        setup.purpose = replace(purpose, additional_analysis=None if value == "none" else value)
    elif key == "template":
        arn, _, owner = value.partition(" of ")
        setup.purpose = replace(purpose, template=(arn, owner) if owner else None)
    elif key == "parameters":
        setup.parameters = {name.strip(): "1" for name in value.split(",")}
    elif key == "columns":
        columns = tuple(Column(*part.strip().split(" ", 1)) for part in value.split(", "))
        setup.tables[table] = replace(setup.tables[table], columns=columns)
    elif key == "rule":
        setup.tables[table] = replace(setup.tables[table], rule=json.loads(value))
    elif key == "association":
        setup.tables[table] = replace(setup.tables[table], collaboration_rule=json.loads(value))


def _case(name: str, setup: Setup, row: str) -> Case:
    cells = re.split(r"(?<!\\)\|", row)[1:-1]
    verdict, rule, place, query, reason = (cell.strip().replace("\\|", "|") for cell in cells)
    assert verdict in ("allowed", "refused"), row
    table, _, column = place.partition(".")
    before, marked, after = query.partition("»")
    # a row is one line, so the place is a column of the first
    place = (1, len(before) + 1) if marked else None
    return Case(name, setup, verdict == "allowed", rule, table, column, before + after, place, reason)
