"""Who pays: candidates, acceptance, and the choice at submission, in one function with one decision table.

C = members whose side of the collaboration says isResponsible for the cost type, those who are gone left out
unless nobody else is left. Where nobody was ever named, the runner, except for synthetic data, which nobody
pays by default. The runner is always a candidate for jobs.
E = those of C who are active and whose own membership accepts (the runner accepts by default).

| request names | C         | result                                              |
|---------------|-----------|-----------------------------------------------------|
| nobody        | one, in E | that one                                            |
| nobody        | one, not in E | refused: the payer must be an active member that accepts |
| nobody        | several   | refused: name one of the candidates                 |
| nobody        | none      | refused: nobody pays for this                       |
| one in E      | any       | that one                                            |
| one in C, not in E | any  | refused: has not joined or has declined             |
| anyone else   | any       | refused: no candidate                               |

Pure: knows members, not where they are stored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from passbox.errors import ValidationException
from passbox.ledger.prices import JOB_COMPUTE, SYNTHETIC_DATA

LABELS = {
    "queryCompute": "query compute",
    "jobCompute": "job compute",
    "machineLearning.modelTraining": "model training",
    "machineLearning.modelInference": "model inference",
    "machineLearning.syntheticDataGeneration": "synthetic data generation",
}


@dataclass(frozen=True)
class Member:
    """What decides about one member.

    configured: the collaboration's PaymentConfiguration for it; accepted: its membership's, None before it
    joined; runner: has CAN_QUERY; active: its membership is; gone: it has left or was removed.
    """

    account: str
    runner: bool
    active: bool
    configured: Mapping[str, Any] | None
    accepted: Mapping[str, Any] | None
    gone: bool = False


def responsible(configuration: Mapping[str, Any] | None, cost_type: str) -> bool | None:
    """isResponsible for a cost type in a (Membership)PaymentConfiguration; None where it says nothing."""
    found: Any = configuration or {}
    for key in cost_type.split("."):
        found = found.get(key)
        if found is None:
            return None
    return bool(found["isResponsible"])


def candidates(members: Sequence[Member], cost_type: str) -> list[Member]:
    """C of the decision table, in the members' order."""
    named = [member for member in members if responsible(member.configured, cost_type)]
    present = [member for member in named if not member.gone]
    if cost_type == JOB_COMPUTE:
        present += [member for member in members if member.runner and member not in present]
    if present or named or cost_type == SYNTHETIC_DATA:
        return present or named
    return [member for member in members if member.runner]


def effective(member: Member, cost_type: str) -> bool:
    """Whether a candidate can pay now: it is active and accepts."""
    accepted = responsible(member.accepted, cost_type)
    return member.active and (accepted is True or (accepted is None and member.runner))


def resolve(members: Sequence[Member], cost_type: str, field: str, named: str | None) -> str:
    """The account that pays, or a ValidationException that names field, value, candidates and next step."""
    possible = candidates(members, cost_type)
    label = LABELS[cost_type]
    listing = ", ".join(member.account for member in possible) or "nobody"
    if named is None:
        if not possible:
            raise _refused(
                field,
                f"{field} cannot be resolved: no member of the collaboration is configured to pay for "
                f"{label}. The collaboration's creator can configure one.",
            )
        if len(possible) > 1:
            raise _refused(
                field,
                f"{field} must be given: several members are payer candidates for {label} ({listing}). "
                f"Name one of them.",
            )
        chosen = possible[0]
    else:
        matching = [member for member in possible if member.account == named]
        if not matching:
            raise _refused(
                field,
                f"{field} {named} is not a payer candidate for {label}; the candidates are: {listing}. "
                "Candidates are named when the collaboration is created.",
            )
        chosen = matching[0]
    if not effective(chosen, cost_type):
        if chosen.gone:
            reason, mend = "has left the collaboration", "Nobody else was named to pay for it"
        elif chosen.active:
            reason, mend = "has declined to pay", "It can accept with UpdateMembership"
        else:
            reason, mend = "is not an active member", "It can join, and accept, with CreateMembership"
        others = len(possible) > 1
        instead = ", or name another candidate" if others else ""
        raise _refused(
            field,
            f"{field} {chosen.account} is a payer candidate for {label} but {reason}; the payer must be an "
            f"active member that accepts. The candidates are: {listing}. {mend}{instead}.",
        )
    return chosen.account


def _refused(field: str, message: str) -> ValidationException:
    return ValidationException(message, fields=[(field, message)])
