"""Who pays: `payers.md`, row by row, and that it covers the decision table of the docstring."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from passbox.errors import ValidationException
from passbox.ledger import payers, prices
from passbox.ledger.payers import Member

COST_TYPES = {
    "query": prices.QUERY_COMPUTE,
    "job": prices.JOB_COMPUTE,
    "training": prices.MODEL_TRAINING,
    "inference": prices.MODEL_INFERENCE,
    "synthetic": prices.SYNTHETIC_DATA,
}
FIELD = "payerConfiguration.aPayerAccountId"
WORDS = {"gone", "runner", "invited", "pays", "not", "accepts", "declines"}


class Case(NamedTuple):
    """A row of the document for one cost type."""

    section: str
    members: list[str]
    cost_type: str
    named: str
    result: str


def account(letter: str) -> str:
    """Twelve digits, one account for each letter."""
    return f"{ord(letter):012d}"


def cases() -> list[Any]:
    """Every row of `payers.md` for each of its cost types."""
    found: list[Any] = []
    section = ""
    for number, line in enumerate(Path(__file__).with_name("payers.md").read_text().splitlines(), start=1):
        if line.startswith("## "):
            section = line.removeprefix("## ")
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) != 5 or cells[0] in ("members", "---"):
            continue
        members, cost_types, named, result, _ = cells
        for short in COST_TYPES if cost_types == "all" else cost_types.split():
            case = Case(section, members.split(", "), COST_TYPES[short], named, result)
            found.append(pytest.param(case, id=f"line {number} {short}"))
    return found


def said(cost_type: str, responsible: bool) -> dict[str, Any]:
    """A (Membership)PaymentConfiguration that says something for one cost type."""
    value: dict[str, Any] = {"isResponsible": responsible}
    for key in reversed(cost_type.split(".")):
        value = {key: value}
    return value


def member(text: str, cost_type: str) -> Member:
    """`A runner pays` as a Member."""
    letter, *words = text.split()
    assert set(words) <= WORDS, text
    configured = "pays" in words if {"pays", "not"} & set(words) else None
    accepted = "accepts" in words if {"accepts", "declines"} & set(words) else None
    return Member(
        account=account(letter),
        runner="runner" in words,
        active=not {"invited", "gone"} & set(words),
        gone="gone" in words,
        configured=None if configured is None else said(cost_type, configured),
        accepted=None if accepted is None else said(cost_type, accepted),
    )


def spelled(words: str) -> str:
    """Words of the document with every letter that stands for a member as its account."""
    return re.sub(r"\b([A-Z])\b", lambda letter: account(letter[1]), words)


@pytest.mark.parametrize("case", cases())
def test_the_table(case: Case) -> None:
    members = [member(text, case.cost_type) for text in case.members]
    named = account(case.named) if case.named else None
    if not case.result.startswith("refused:"):
        assert payers.resolve(members, case.cost_type, FIELD, named) == account(case.result)
        return
    with pytest.raises(ValidationException) as refusal:
        payers.resolve(members, case.cost_type, FIELD, named)
    message = refusal.value.message
    assert message.startswith(FIELD)
    assert payers.LABELS[case.cost_type] in message
    for words in case.result.removeprefix("refused:").split(";"):
        assert spelled(words.strip()) in message
    assert refusal.value.members["fieldList"] == [{"name": FIELD, "message": message}]
    assert refusal.value.members["reason"] == "FIELD_VALIDATION_FAILED"


@pytest.mark.parametrize("case", cases())
def test_other_cost_types_do_not_matter(case: Case) -> None:
    """What a member says for one cost type decides nothing for another."""
    members = [member(text, case.cost_type) for text in case.members]
    for other in COST_TYPES.values():
        possible = payers.candidates(members, other)
        if other != case.cost_type:
            default = [] if other == prices.SYNTHETIC_DATA else [one for one in members if one.runner]
            assert possible == default


def changes() -> list[Any]:
    """Every row of the document about what is accepted after a change, for each of its cost types."""
    found: list[Any] = []
    for number, line in enumerate(Path(__file__).with_name("payers.md").read_text().splitlines(), start=1):
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 4 and cells[0] not in ("members", "---"):
            for short in COST_TYPES if cells[1] == "all" else cells[1].split():
                found.append(pytest.param(*cells, COST_TYPES[short], id=f"line {number} {short}"))
    return found


@pytest.mark.parametrize(("texts", "_all", "change", "says", "cost_type"), changes())
def test_what_is_accepted_after_a_change(
    texts: str, _all: str, change: str, says: str, cost_type: str
) -> None:
    members = [member(text, cost_type) for text in texts.split(", ")]
    before = {one: payers.responsible(members[0].accepted, one) for one in COST_TYPES.values()}
    after = payers.acceptance(members, members[0].account, {cost_type: change == "named"})
    if says == "as before":
        assert after is None or after == before
        return
    expected = {"FALSE": False, "nothing": None}[says]
    assert (after or before) == {**before, cost_type: expected}
    assert payers.responsible(payers.configuration(after or before), cost_type) is expected


def test_the_sections_are_the_rows_of_the_docstring() -> None:
    rows = re.findall(r"^\| (.+?) +\| (.+?) +\| .+\|$", payers.__doc__ or "", re.MULTILINE)
    assert rows[0] == ("request names", "C")
    assert [f"{names} / {possible}" for names, possible in rows[1:] if "---" not in names] == list(
        dict.fromkeys(case.values[0].section for case in cases())
    )


def test_every_section_has_all_the_cost_types_it_can_have() -> None:
    """Only synthetic data has nobody by default, and only a job always has its runner."""
    covered: dict[str, set[str]] = {}
    for case in cases():
        covered.setdefault(case.values[0].section, set()).add(case.values[0].cost_type)
    assert all(cost_types == set(COST_TYPES.values()) for cost_types in covered.values())
