"""Memberships: a member's own resource in a collaboration, and where it accepts to pay or declines."""

from typing import Any

from passbox import names
from passbox.access.call import Call, invalid
from passbox.errors import ConflictException
from passbox.ledger.payers import LABELS, Member, candidates, configuration, effective, responsible
from passbox.ledger.prices import COST_TYPES, SYNTHETIC_DATA
from passbox.operations.approvals import wait_no_longer
from passbox.operations.configured_model_algorithm import own_role
from passbox.operations.member import paying_members
from passbox.operations.registry import Output, Params, operation
from passbox.operations.submission import IN_PROGRESS, end_work
from passbox.operations.tags import check_tags
from passbox.state import resources
from passbox.state.resources import Resource

_LIVE = (*IN_PROGRESS, "ACTIVE", "DELETE_PENDING", "DELETE_IN_PROGRESS", "DELETE_FAILED")
_SUBRESOURCES: dict[str, tuple[str, ...] | None] = {
    "configured_table_association": None,
    "analysis_template": None,
    "configured_model_algorithm_association": None,
    "ml_configuration": None,
    "privacy_budget_template": None,
    "ml_input_channel": _LIVE,
    "trained_model": (*_LIVE, "CANCEL_PENDING", "CANCEL_IN_PROGRESS", "CANCEL_FAILED"),
}


def record(call: Call, membership: Resource, members: list[Member] | None = None) -> Output:
    """The modelled Membership: the member's abilities now, and what it accepts to pay, spelled out."""
    collaboration = resources.require(call.tx, "collaboration", membership.collaboration or "")
    member = resources.require(call.tx, "member", f"{membership.collaboration}/{membership.account}")
    members = members or paying_members(call.tx, collaboration.id)
    output: Output = {
        **{key: value for key, value in membership.body.items() if key != "paymentConfiguration"},
        "id": membership.id,
        "arn": membership.arn,
        "collaborationArn": collaboration.arn,
        "collaborationId": collaboration.id,
        "collaborationCreatorAccountId": collaboration.account,
        "collaborationCreatorDisplayName": collaboration.body["creatorDisplayName"],
        "collaborationName": member.body.get("collaborationName", collaboration.name),
        "createTime": membership.created,
        "updateTime": membership.updated,
        "status": membership.status,
        "memberAbilities": member.body["abilities"],
        "mlMemberAbilities": member.body.get("mlAbilities"),
        "paymentConfiguration": _accepted(members, membership),
    }
    return {key: value for key, value in output.items() if value is not None}


def _accepted(members: list[Member], membership: Resource) -> Output:
    """While it is active TRUE is only what it is a candidate for: others may have displaced a default."""
    own = next((member for member in members if member.account == membership.account), None)
    output: dict[str, bool | None] = {}
    for cost_type in COST_TYPES:
        stored = responsible(membership.body["paymentConfiguration"], cost_type)
        candidate = own is not None and own in candidates(members, cost_type)
        pays = own is not None and candidate and effective(own, cost_type)
        output[cost_type] = bool(stored) if membership.status != "ACTIVE" else pays
    return configuration(output)


def _check_acceptance(
    members: list[Member], account: str, given: dict[str, Any] | None, field: str, *, may_decline: bool
) -> None:
    """TRUE only for who is a candidate; FALSE (or silence) for a candidate only where it may decline."""
    own = next(member for member in members if member.account == account)
    for cost_type in COST_TYPES:
        value = responsible(given, cost_type)
        place = f"{field}.{cost_type}.isResponsible"
        candidate = own in candidates(members, cost_type)
        if value is True and not candidate:
            raise invalid(
                place,
                f"{place} is TRUE, but {account} is not a payer candidate for {LABELS[cost_type]} in this "
                "collaboration; leave it out or set it to FALSE.",
            )
        if may_decline or not candidate or cost_type == SYNTHETIC_DATA:
            continue
        if value is False or (value is None and not own.runner):
            said = "FALSE" if value is False else "missing"
            raise invalid(
                place,
                f"{place} is {said}, but {account} is a payer candidate for {LABELS[cost_type]} in this "
                "collaboration; set it to TRUE to accept. After joining, UpdateMembership can decline.",
            )


def _check_roles(call: Call, params: Params) -> None:
    """The role in which results are written must be the member's own."""
    for field in ("defaultResultConfiguration", "defaultJobResultConfiguration"):
        role = (params.get(field) or {}).get("roleArn")
        if role is not None:
            own_role(call, f"{field}.roleArn", role)


@operation("cleanrooms.CreateMembership")
def create_membership(call: Call, params: Params) -> Output:
    """Joins a collaboration and accepts the payments that it names the caller for."""
    check_tags(params.get("tags"))
    collaboration, member = call.collaboration, call.member
    if member.status == "ACTIVE":
        raise ConflictException(
            "This account has a membership in the collaboration already.",
            reason="ALREADY_EXISTS",
            resource_id=member.body["membershipId"],
            resource_type="MEMBERSHIP",
        )
    _check_roles(call, params)
    members = paying_members(call.tx, collaboration.id)
    payment = params.get("paymentConfiguration")
    _check_acceptance(members, call.account, payment, "paymentConfiguration", may_decline=False)
    now, id = names.now(), names.new_id()
    body = {
        "queryLogStatus": params["queryLogStatus"],
        "jobLogStatus": params.get("jobLogStatus"),
        "defaultResultConfiguration": params.get("defaultResultConfiguration"),
        "defaultJobResultConfiguration": params.get("defaultJobResultConfiguration"),
        "isMetricsEnabled": params.get("isMetricsEnabled"),
        "paymentConfiguration": payment or {},
        "tags": params.get("tags"),
    }
    membership = Resource(
        kind="membership",
        id=id,
        arn=names.arn("cleanrooms", call.room.region, call.account, f"membership/{id}"),
        account=call.account,
        collaboration=collaboration.id,
        membership=id,
        status="ACTIVE",
        created=now,
        updated=now,
        body={key: value for key, value in body.items() if value is not None},
    )
    resources.add(call.tx, membership)
    resources.change(
        call.tx, member, status="ACTIVE", body={"membershipId": id, "membershipArn": membership.arn}
    )
    return {"membership": record(call, membership)}


@operation("cleanrooms.GetMembership")
def get_membership(call: Call, params: Params) -> Output:
    """The caller's membership."""
    return {"membership": record(call, call.membership)}


@operation("cleanrooms.ListMemberships")
def list_memberships(call: Call, params: Params) -> Output:
    """The caller's memberships, whatever became of their collaborations."""
    statuses = [params["status"]] if "status" in params else None
    return call.page(
        params,
        "membership",
        lambda row: record(call, row),
        "membershipSummaries",
        statuses=statuses,
        account=call.account,
    )


@operation("cleanrooms.UpdateMembership")
def update_membership(call: Call, params: Params) -> Output:
    """Changes log and result settings, and accepts or declines payments; what is left out stays as it is."""
    membership = call.membership
    _check_roles(call, params)
    members = paying_members(call.tx, membership.collaboration or "")
    given = params.get("membershipPaymentConfiguration")
    _check_acceptance(members, call.account, given, "membershipPaymentConfiguration", may_decline=True)
    payment = dict(membership.body["paymentConfiguration"])
    for key, value in (given or {}).items():
        payment[key] = {**payment.get(key, {}), **value}
    changes: dict[str, Any] = {
        key: params[key]
        for key in (
            "queryLogStatus",
            "jobLogStatus",
            "defaultResultConfiguration",
            "defaultJobResultConfiguration",
        )
        if key in params
    }
    changed = resources.change(call.tx, membership, body={**changes, "paymentConfiguration": payment})
    return {"membership": record(call, changed)}


@operation("cleanrooms.DeleteMembership")
def delete_membership(call: Call, params: Params) -> None:
    """Leaves the collaboration for good. What the caller brought into it must be deleted first."""
    membership = call.membership
    if membership.status == "ACTIVE" and call.collaboration.account == call.account:
        raise ConflictException(
            "The creator leaves a collaboration by deleting it: call DeleteCollaboration.",
            resource_id=membership.id,
            resource_type="MEMBERSHIP",
        )
    for kind, statuses in _SUBRESOURCES.items():
        left = resources.first(call.tx, kind, statuses=statuses, membership=membership.id)
        if left is not None:
            label = kind.replace("_", " ")
            raise ConflictException(
                f"The membership still has a {label} ({left.name or left.id}); delete it first.",
                reason="SUBRESOURCES_EXIST",
                resource_id=membership.id,
                resource_type="MEMBERSHIP",
            )
    end_work(call.tx, membership)
    if call.member.status == "ACTIVE":
        # what the collaboration is called from now on is no longer for it to see
        name = call.collaboration.name
        resources.change(call.tx, call.member, status="LEFT", body={"collaborationName": name})
        wait_no_longer(call.tx, call.collaboration.id, call.account)
    resources.remove(call.tx, membership)
