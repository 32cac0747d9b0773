"""Whether an analysis template fits what differential privacy allows: its modelled `validations`.

It is the gate's own answer, over the tables as they are now, supposing that their owners allow the template
and whoever would receive its result: those come later, and say nothing of the text. Parameters are bound as
values of their type that stand for all. All that goes in, members of the collaboration may read in schemas
and rules. The gate takes its time, so it is asked aside, once for each text, tables and engine.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from threading import Lock

from passbox import analysis
from passbox.access.call import Aside, Call
from passbox.analysis import Parameter, Purpose, Table, parameters
from passbox.errors import QueryRefused
from passbox.operations.registry import Output
from passbox.state import schemas
from passbox.state.resources import Resource

TYPE = "DIFFERENTIAL_PRIVACY"
MOST_CHARACTERS = 500_000  # of all texts that one request has validated: what the longest template may have
_KEPT = 2_000  # verdicts, of some hundred bytes each
# what is refused before the gate has looked at what the text does: others may still change it
_UNDECIDED = ("analysisMethod", "analysisRule", "collaborationRule", "custom.additionalAnalyses", "sql.table")

Verdict = tuple[str, str]  # the modelled status, and the reason or ""


class Verdicts:
    """The verdicts of late, by what they went by; the oldest leave first. For all threads of a process."""

    def __init__(self) -> None:
        self._found: dict[str, Verdict] = {}
        self._lock = Lock()

    def get(self, key: str) -> Verdict | None:
        """What was found for it, where that is still known."""
        return self._found.get(key)

    def keep(self, key: str, verdict: Verdict) -> None:
        """Keeps it for the next who asks."""
        with self._lock:
            self._found[key] = verdict
            while len(self._found) > _KEPT:
                del self._found[next(iter(self._found))]


_verdicts = Verdicts()


def validations(call: Call, templates: Iterable[Resource]) -> list[list[Output]]:
    """The AnalysisTemplateValidationStatusDetails of each of some templates of the call's collaboration.

    None where a template reads no table that is known to be under differential privacy, nor for a caller who
    is no active member: tables are no business of theirs. Raises Aside where the gate must be asked.
    """
    if call.account not in schemas.active_accounts(call.tx, call.collaboration.id):
        return [[] for _ in templates]
    brought = schemas.associations(call.tx, call.collaboration.id)
    left = MOST_CHARACTERS
    found: list[list[Output]] = []
    for template in templates:
        names = {name.lower(): name for name in template.body["schema"]["referencedTables"]}
        read = [row for row in brought if (row.name or "").lower() in names]
        tables = {row.name or "": schemas.table(call.tx, row) for row in read}
        if not any((table.rule or {}).get("differentialPrivacy") for table in tables.values()):
            found.append([])
            continue
        missing = [names[name] for name in names.keys() - {name.lower() for name in tables}]
        left -= len(template.body["source"].get("text", ""))
        found.append([_detail(_unasked(template, missing, left) or _verdict(call, template, tables))])
    return found


def _detail(verdict: Verdict) -> Output:
    status, reason = verdict
    return {"type": TYPE, "status": status, **({"reasons": [{"message": reason}]} if reason else {})}


def _unasked(template: Resource, missing: list[str], left: int) -> Verdict | None:
    """Why the gate cannot be asked; None where it can."""
    if "text" not in template.body["source"]:
        return _unable("Only queries are validated, and the analysis template is a script.")
    if missing:
        return _unable(
            f"The collaboration has no table {', '.join(sorted(missing))}; get the template again once its "
            "owner has associated it."
        )
    if left < 0:
        return _unable(
            f"The texts asked for have more than {MOST_CHARACTERS:,} characters together; get this template "
            "by itself."
        )
    return None


def _unable(reason: str) -> Verdict:
    return "UNABLE_TO_VALIDATE", reason


def _verdict(call: Call, template: Resource, tables: Mapping[str, Table]) -> Verdict:
    """What the gate finds, now or remembered."""
    author = template.account
    if "syntheticDataParameters" in template.body:
        purpose = Purpose(author, additional_analysis="any", engine=call.room.engine)
    else:
        purpose = Purpose(author, receivers=(author,), engine=call.room.engine)
    question = _Question(
        template.body["source"]["text"],
        template.body.get("analysisParameters", []),
        {name: _allowing(table, author) for name, table in tables.items()},
        purpose,
    )
    key = hashlib.sha256(repr(question).encode("utf-8", "replace")).hexdigest()
    verdict = _verdicts.get(key)
    if verdict is None:
        raise Aside(lambda: _verdicts.keep(key, question.answer()))
    return verdict


def _allowing(table: Table, author: str) -> Table:
    """The table, were all allowed by its owner that an owner allows by name."""
    if table.rule_type != "CUSTOM" or table.rule is None:
        return table
    rule = {**table.rule, "allowedAnalyses": ["ANY_QUERY"], "allowedAnalysisProviders": [author]}
    destinations = {"allowedResultReceivers": [author], "allowedAdditionalAnalyses": ["*"]}
    return replace(table, rule=rule, collaboration_rule=table.collaboration_rule and destinations)


@dataclass(frozen=True)
class _Question:
    """A template's text and parameters, and the tables that it reads. No identifier of the template: one that
    is being created has another at each attempt.
    """

    text: str
    declared: list[dict[str, str]]
    tables: Mapping[str, Table]
    purpose: Purpose

    def answer(self) -> Verdict:
        """The gate's, for all that the parameters may be; where it depends on them there is none."""
        first, *others = [self._asked(bound) for bound in parameters.stand_ins(self.declared)]
        for other in others:
            if other[0] != first[0]:
                reason = first[1] or other[1]
                return _unable(f"It depends on how many digits values of DECIMAL parameters have. {reason}")
        return first

    def _asked(self, bound: Mapping[str, Parameter]) -> Verdict:
        try:
            analysis.approve(self.text, bound, self.tables, self.purpose)
        except QueryRefused as refusal:
            undecided = refusal.rule.startswith(_UNDECIDED)
            return "UNABLE_TO_VALIDATE" if undecided else "INVALID", refusal.explained()
        return "VALID", ""
