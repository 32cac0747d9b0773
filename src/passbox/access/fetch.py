"""Fetching is authorizing: what an operation is given its caller may see; the rest does not exist.

A subject that is missing and a subject that is somebody else's give the same answer, to the letter.
"""

from collections.abc import Mapping
from typing import Any, NoReturn

from passbox.access.call import Call
from passbox.access.policy import POLICY, Relation, Subject
from passbox.errors import AccessDeniedException, ResourceNotFoundException
from passbox.state import resources
from passbox.state.resources import Resource

_TYPES = {
    "collaboration": "COLLABORATION",
    "membership": "MEMBERSHIP",
    "configured_table": "CONFIGURED_TABLE",
    "configured_table_association": "CONFIGURED_TABLE_ASSOCIATION",
    "schema": "CONFIGURED_TABLE_ASSOCIATION",
    "member": "MEMBERSHIP",
    "spend_cap": "SPEND_CAP",
}
_LABELS = {
    Relation.RUNNER: "the member with the ability CAN_QUERY",
    Relation.JOB_RUNNER: "the member with the ability CAN_RUN_JOB",
    Relation.MEMBER: "an active member of the collaboration",
    Relation.CREATOR: "the creator of the collaboration",
    Relation.OWNER: "the owner",
    Relation.INVITED: "an invited member",
    Relation.ANYONE: "an account",
}


def enter(call: Call, params: Mapping[str, Any]) -> None:
    """Fetches the request's subject into the call and checks the policy."""
    subject, allowed = POLICY[call.operation]
    relations = _FETCH[subject](call, params)
    if not relations & allowed:
        wanted = " or ".join(sorted(_LABELS[relation] for relation in allowed))
        raise AccessDeniedException(f"Only {wanted} may call {call.operation.split('.')[1]} here.")


def missing(kind: str, identifier: str) -> NoReturn:
    """The one answer for everything that the caller cannot see."""
    label = kind.replace("_", " ")
    raise ResourceNotFoundException(
        f"The {label} {identifier} was not found.", resource_id=identifier, resource_type=_TYPES.get(kind, "")
    )


def of_membership(call: Call, kind: str, identifier: str) -> Resource:
    """A resource under the call's membership, by identifier or ARN."""
    found = _one(call, kind, identifier)
    if found is None or found.membership != call.membership.id:
        missing(kind, identifier)
    return found


def of_collaboration(call: Call, kind: str, identifier: str) -> Resource:
    """A resource that an active member brought into the call's collaboration, by identifier or ARN."""
    found = _one(call, kind, identifier)
    if found is None or found.collaboration != call.collaboration.id:
        missing(kind, identifier)
    owner = resources.get(call.tx, "member", f"{found.collaboration}/{found.account}")
    if owner is None or owner.status != "ACTIVE":
        missing(kind, identifier)
    return found


def versions_of_collaboration(call: Call, arn: str) -> list[Resource]:
    """Every version of a trained model that an active member trained in the call's collaboration."""
    found = resources.find(
        call.tx, "trained_model", arn=arn, collaboration=call.collaboration.id, accounts=active_accounts(call)
    )
    return found or missing("trained_model", arn)


def active_accounts(call: Call) -> list[str]:
    """The accounts whose resources the members of the call's collaboration may see."""
    rows = resources.find(call.tx, "member", statuses=["ACTIVE"], collaboration=call.collaboration.id)
    return [row.account for row in rows]


def _one(call: Call, kind: str, identifier: str) -> Resource | None:
    if identifier.startswith("arn:"):
        return resources.by_arn(call.tx, kind, identifier)
    return resources.get(call.tx, kind, identifier)


def _account(_call: Call, _params: Mapping[str, Any]) -> frozenset[Relation]:
    return frozenset({Relation.ANYONE})


def _collaboration(call: Call, params: Mapping[str, Any]) -> frozenset[Relation]:
    identifier = params["collaborationIdentifier"]
    collaboration = resources.get(call.tx, "collaboration", identifier)
    member = resources.get(call.tx, "member", f"{identifier}/{call.account}")
    if collaboration is None or collaboration.status != "ACTIVE" or member is None:
        missing("collaboration", identifier)
    if member.status not in ("INVITED", "ACTIVE"):
        missing("collaboration", identifier)
    call.fetched |= {"collaboration": collaboration, "member": member}
    relations = {Relation.INVITED if member.status == "INVITED" else Relation.MEMBER}
    if collaboration.account == call.account:
        relations.add(Relation.CREATOR)
    return frozenset(relations)


def _membership(call: Call, params: Mapping[str, Any]) -> frozenset[Relation]:
    identifier = params["membershipIdentifier"]
    membership = resources.get(call.tx, "membership", identifier)
    if membership is None or membership.account != call.account:
        missing("membership", identifier)
    collaboration = resources.get(call.tx, "collaboration", membership.collaboration or "")
    member = resources.get(call.tx, "member", f"{membership.collaboration}/{call.account}")
    if collaboration is None or member is None:
        raise LookupError(f"membership {identifier} without a collaboration")
    call.fetched |= {"membership": membership, "collaboration": collaboration, "member": member}
    relations = {Relation.OWNER}
    if membership.status == "ACTIVE" and member.status == "ACTIVE":
        relations.add(Relation.MEMBER)
        if "CAN_QUERY" in member.body["abilities"]:
            relations.add(Relation.RUNNER)
        if "CAN_RUN_JOB" in member.body["abilities"]:
            relations.add(Relation.JOB_RUNNER)
    return frozenset(relations)


def _owned(call: Call, found: Resource | None, kind: str, identifier: str) -> frozenset[Relation]:
    if found is None or found.account != call.account:
        missing(kind, identifier)
    call.fetched["target"] = found
    return frozenset({Relation.OWNER})


def _configured_table(call: Call, params: Mapping[str, Any]) -> frozenset[Relation]:
    identifier = params["configuredTableIdentifier"]
    found = resources.get(call.tx, "configured_table", identifier)
    return _owned(call, found, "configured_table", identifier)


def _algorithm(call: Call, params: Mapping[str, Any]) -> frozenset[Relation]:
    arn = params["configuredModelAlgorithmArn"]
    found = resources.by_arn(call.tx, "configured_model_algorithm", arn)
    return _owned(call, found, "configured_model_algorithm", arn)


def _tagged(call: Call, params: Mapping[str, Any]) -> frozenset[Relation]:
    arn = params["resourceArn"]
    found = next((row for kind in _TAGGABLE if (row := resources.by_arn(call.tx, kind, arn))), None)
    if found is not None and found.kind == "collaboration" and found.status != "ACTIVE":
        found = None  # GetCollaboration does not find it either
    return _owned(call, found, "resource", arn)


_TAGGABLE = (
    "collaboration",
    "membership",
    "configured_table",
    "configured_table_association",
    "analysis_template",
    "configured_model_algorithm",
    "configured_model_algorithm_association",
    "ml_input_channel",
    "privacy_budget_template",
    "trained_model",
    "trained_model_inference_job",
)

_FETCH = {
    Subject.ACCOUNT: _account,
    Subject.COLLABORATION: _collaboration,
    Subject.MEMBERSHIP: _membership,
    Subject.CONFIGURED_TABLE: _configured_table,
    Subject.ALGORITHM: _algorithm,
    Subject.TAGGED: _tagged,
}
