"""Who pays: candidates, acceptance, and the choice at submission, in one function with one decision table.

C = members whose side of the collaboration says isResponsible for the cost type, those who are gone left out
unless nobody else is left. Where nobody is named, the runner, except for synthetic data, which nobody pays by
default. The runner is always a candidate for jobs.
E = those of C who are active and whose own membership accepts (the runner accepts by default).

A committed change request names candidates and withdraws them. Nobody accepts by being named after it has
joined, the runner neither; whoever is withdrawn has accepted nothing any more (`acceptance`).

| request names | C         | result                                              |
|---------------|-----------|-----------------------------------------------------|
| nobody        | one, in E | that one                                            |
| nobody        | one, not in E | refused: the payer must be an active member that accepts |
| nobody        | several   | refused: name one of the candidates                 |
| nobody        | none      | refused: nobody pays for this                       |
| one in E      | any       | that one                                            |
| one in C, not in E | any  | refused: has not joined or does not accept          |
| anyone else   | any       | refused: no candidate                               |

Pure: knows members, not where they are stored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from passbox.errors import ValidationException
from passbox.ledger.prices import COST_TYPES, JOB_COMPUTE, SYNTHETIC_DATA

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


def configuration(said: Mapping[str, bool | None]) -> dict[str, Any]:
    """The (Membership)PaymentConfiguration that says this for cost types: `responsible`, backwards."""
    output: dict[str, Any] = {}
    for cost_type, value in said.items():
        holder = output
        *path, last = cost_type.split(".")
        if value is not None:
            for key in path:
                holder = holder.setdefault(key, {})
            holder[last] = {"isResponsible": value}
    return output


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


def acceptance(
    members: Sequence[Member], account: str, flips: Mapping[str, bool]
) -> dict[str, bool | None] | None:
    """What an active member accepts once it is named for cost types (TRUE) or withdrawn from them (FALSE).

    Named for what it could not be asked for before: nothing, until it says so. Withdrawn: what it said in
    favour is void; the runner, should it pay by default then, accepts by default. None: all stays as it was.
    """
    own = next(member for member in members if member.account == account)
    before = {cost_type: responsible(own.accepted, cost_type) for cost_type in COST_TYPES}
    after = dict(before)
    for cost_type, named in flips.items():
        if not named and before[cost_type]:
            after[cost_type] = None
        elif named and own not in candidates(members, cost_type):
            after[cost_type] = False
    return after if after != before else None


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
                f"{label}. The collaboration's creator can add one with CreateCollaborationChangeRequest.",
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
                "Candidates are named when the collaboration is created; its creator can add one later with "
                "CreateCollaborationChangeRequest.",
            )
        chosen = matching[0]
    if not effective(chosen, cost_type):
        if chosen.gone:
            reason = "has left the collaboration"
            mend = (
                "Nobody else was named to pay for it; the collaboration's creator can add a candidate with "
                "CreateCollaborationChangeRequest"
            )
        elif chosen.active:
            reason, mend = "does not accept to pay", "It can accept with UpdateMembership"
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
