"""What a requested change of a collaboration comes to, compared with how things stand. Pure.

Knows rows of members and of the collaboration; must not know who agrees, nor store anything. A request is
worked out twice: when it is made, which names its types, and again at the commit, where it must still come
to the very same effects.

    type of a change                              effect
    ADD_MEMBER                                    ADD_MEMBER
    GRANT_… REVOKE_… (an ability)                 the type itself
    ADD_PAYER_CANDIDATE REMOVE_PAYER_CANDIDATE    one for each cost type
    EDIT_AUTO_APPROVED_CHANGE_TYPES               what comes and what goes
    (none: it rides along)                        DISPLAY_NAME
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from passbox.access.call import invalid
from passbox.ledger.payers import configuration, responsible
from passbox.ledger.prices import COST_TYPES, JOB_COMPUTE
from passbox.operations.member import check_runner_of_jobs, hold_members
from passbox.state.resources import Resource

_FIXED = frozenset({"CAN_QUERY", "CAN_RUN_JOB"})  # never granted nor revoked
_ABILITIES = {
    "CAN_RECEIVE_RESULTS": "RECEIVE_RESULTS_ABILITY",
    "CAN_EXPORT_QUERY_ANALYSIS_LOG": "EXPORT_QUERY_ANALYSIS_LOG_ABILITY",
    "CAN_RECEIVE_MODEL_OUTPUT": "CAN_RECEIVE_MODEL_OUTPUT",
    "CAN_RECEIVE_INFERENCE_OUTPUT": "CAN_RECEIVE_INFERENCE_OUTPUT",
}
_PRESENT = ("INVITED", "ACTIVE")


class Change(NamedTuple):
    """One change as it would take effect.

    account: the member's; None for the collaboration's own. effects: see above. after: what its row says
    then, for a new member a MemberSpecification. flips: cost type → isResponsible, where it was another
    """

    account: str | None
    effects: tuple[str, ...]
    after: Mapping[str, Any]
    flips: Mapping[str, bool]

    @property
    def types(self) -> list[str]:
        """The modelled ChangeTypes, each once."""
        types = dict.fromkeys(effect.partition(" ")[0] for effect in self.effects)
        return [type for type in types if type != "DISPLAY_NAME"]


def work_out(
    changes: Sequence[Mapping[str, Any]], collaboration: Resource, members: Sequence[Resource]
) -> list[Change]:
    """The changes of a request, or a ValidationException or ServiceQuotaExceededException saying why not."""
    rows = {row.account: row for row in members}
    worked_out: list[Change] = []
    for index, change in enumerate(changes):
        place = f"changes[{index}]"
        specification, type = change["specification"], change["specificationType"]
        if type.lower() not in specification:
            given = next(iter(specification))
            raise invalid(
                f"{place}.specificationType",
                f"{place}.specificationType {type} needs the specification's member {type.lower()}, "
                f"not {given}.",
            )
        if type == "COLLABORATION":
            one = _of_collaboration(specification["collaboration"], collaboration, place)
        else:
            asked = specification["member"]
            one = _of_member(asked, rows.get(asked["accountId"]), f"{place}.specification.member")
        if any(other.account == one.account for other in worked_out):
            subject = "The collaboration" if one.account is None else f"Account {one.account}"
            raise invalid(place, f"{subject} is changed twice in one request; say all of it in one change.")
        worked_out.append(one)
    added = sum("ADD_MEMBER" in one.effects for one in worked_out)
    if added:
        present = [row for row in members if row.status in _PRESENT and row.account != collaboration.account]
        hold_members(len(present) + added)
    return worked_out


def _of_collaboration(asked: Mapping[str, Any], collaboration: Resource, place: str) -> Change:
    field = f"{place}.specification.collaboration.autoApprovedChangeTypes"
    before = set(collaboration.body.get("autoApprovedChangeTypes", []))
    given = asked.get("autoApprovedChangeTypes")
    if given is None or set(given) == before:
        listing = ", ".join(sorted(before)) or "nothing"
        raise invalid(field, f"{field} changes nothing; {listing} is approved automatically already.")
    after = sorted(set(given))
    comes, goes = sorted(set(after) - before), sorted(before - set(after))
    effects = [f"EDIT_AUTO_APPROVED_CHANGE_TYPES +{name}" for name in comes]
    effects += [f"EDIT_AUTO_APPROVED_CHANGE_TYPES -{name}" for name in goes]
    return Change(None, tuple(effects), {"autoApprovedChangeTypes": after}, {})


def _of_member(asked: Mapping[str, Any], row: Resource | None, place: str) -> Change:
    account, body = asked["accountId"], row.body if row else {}
    if row is not None and row.status not in _PRESENT:
        raise invalid(
            f"{place}.accountId",
            f"{place}.accountId {account} is {row.status}: who has left a collaboration or was removed from "
            "it cannot come back. Invite another account, or create a new collaboration.",
        )
    if row is None and "displayName" not in asked:
        raise invalid(f"{place}.displayName", f"{place}.displayName is required to invite {account}.")
    before, ml_before = _abilities(body)
    given = set(asked["memberAbilities"])
    for ability in sorted(given & _FIXED - before):
        raise invalid(
            f"{place}.memberAbilities",
            f"{ability} cannot be granted to {account}: who can run queries and jobs is settled when the "
            "collaboration is created. Leave it out.",
        )
    ability_after = (given - _FIXED) | (before & _FIXED)
    ml_asked = asked.get("mlMemberAbilities")
    ml_after = ml_before if ml_asked is None else set(ml_asked["customMLMemberAbilities"])
    payment = asked.get("paymentConfiguration")
    jobs = f"{place}.paymentConfiguration.jobCompute"
    check_runner_of_jobs(account, ability_after, payment, jobs)
    flips = _flips(payment, body.get("paymentConfiguration"), runner="CAN_QUERY" in before)
    effects = [] if row else ["ADD_MEMBER"]
    effects += _granted(before | ml_before, ability_after | ml_after)
    effects += [
        f"{'ADD' if value else 'REMOVE'}_PAYER_CANDIDATE {cost_type}" for cost_type, value in flips.items()
    ]
    if not effects:
        raise invalid(
            place,
            f"{place} changes nothing: {account} has exactly these abilities and is named for exactly these "
            "costs already. A displayName changes only together with them.",
        )
    if row and asked.get("displayName", body["displayName"]) != body["displayName"]:
        effects.append(f"DISPLAY_NAME {asked['displayName']}")
    return Change(account, tuple(effects), _after(asked, row, ability_after, flips), flips)


def _after(
    asked: Mapping[str, Any], row: Resource | None, abilities: Iterable[str], flips: Mapping[str, bool]
) -> Mapping[str, Any]:
    if row is None:
        return asked
    said = {one: responsible(row.body.get("paymentConfiguration"), one) for one in COST_TYPES}
    return {
        "abilities": sorted(abilities),
        "mlAbilities": asked.get("mlMemberAbilities", row.body.get("mlAbilities")),
        "displayName": asked.get("displayName", row.body["displayName"]),
        "paymentConfiguration": configuration({**said, **flips}) or None,
    }


def _abilities(body: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    ml = body.get("mlAbilities") or {}
    return set(body.get("abilities", ())), set(ml.get("customMLMemberAbilities", ()))


def _flips(
    asked: Mapping[str, Any] | None, before: Mapping[str, Any] | None, *, runner: bool
) -> dict[str, bool]:
    """Cost types that a member is named for, or no longer. The runner is a candidate for jobs in any case."""
    return {
        cost_type: value
        for cost_type in COST_TYPES
        if (value := responsible(asked, cost_type)) is not None
        and value != bool(responsible(before, cost_type))
        and not (runner and cost_type == JOB_COMPUTE)
    }


def _granted(before: set[str], after: set[str]) -> list[str]:
    return [
        f"{'GRANT' if ability in after else 'REVOKE'}_{name}"
        for ability, name in _ABILITIES.items()
        if (ability in after) != (ability in before)
    ]
