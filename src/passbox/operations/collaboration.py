"""Collaborations: created with their members, read by those named in them, ended by their creator."""

from typing import Any

from passbox import names
from passbox.access.call import Call, invalid
from passbox.operations.member import add_member, check_runner_of_jobs, hold_members
from passbox.operations.registry import Output, Params, operation
from passbox.operations.submission import end_work
from passbox.operations.tags import check_tags
from passbox.state import resources
from passbox.state.resources import Resource


def record(call: Call, collaboration: Resource) -> Output:
    """The modelled Collaboration, as the caller sees it."""
    member = resources.get(call.tx, "member", f"{collaboration.id}/{call.account}")
    output: Output = {
        **collaboration.body,
        "id": collaboration.id,
        "arn": collaboration.arn,
        "name": collaboration.name,
        "creatorAccountId": collaboration.account,
        "createTime": collaboration.created,
        "updateTime": collaboration.updated,
        "memberStatus": member.status if member else "REMOVED",
    }
    if member and member.status == "ACTIVE":
        output["membershipId"] = member.body["membershipId"]
        output["membershipArn"] = member.body["membershipArn"]
    return output


@operation("cleanrooms.CreateCollaboration")
def create_collaboration(call: Call, params: Params) -> Output:
    """Creates a collaboration and names its members; each joins with CreateMembership."""
    check_tags(params.get("tags"))
    creator = {
        "accountId": call.account,
        "memberAbilities": params["creatorMemberAbilities"],
        "mlMemberAbilities": params.get("creatorMLMemberAbilities"),
        "displayName": params["creatorDisplayName"],
        "paymentConfiguration": params.get("creatorPaymentConfiguration"),
    }
    named = [creator, *params["members"]]
    _check_members(named)
    if params.get("analyticsEngine", "SPARK") != "SPARK":
        raise invalid("analyticsEngine", "analyticsEngine CLEAN_ROOMS_SQL has ended; use SPARK.")
    now, id = names.now(), names.new_id()
    body = {
        "description": params.get("description"),
        "creatorDisplayName": params["creatorDisplayName"],
        "dataEncryptionMetadata": params.get("dataEncryptionMetadata"),
        "queryLogStatus": params["queryLogStatus"],
        "jobLogStatus": params.get("jobLogStatus"),
        "analyticsEngine": "SPARK",
        "autoApprovedChangeTypes": params.get("autoApprovedChangeRequestTypes"),
        "allowedResultRegions": params.get("allowedResultRegions"),
        "isMetricsEnabled": params.get("isMetricsEnabled"),
        "tags": params.get("tags"),
    }
    collaboration = Resource(
        kind="collaboration",
        id=id,
        arn=names.arn("cleanrooms", call.room.region, call.account, f"collaboration/{id}"),
        account=call.account,
        collaboration=id,
        name=params["name"],
        status="ACTIVE",
        created=now,
        updated=now,
        body={key: value for key, value in body.items() if value is not None},
    )
    resources.add(call.tx, collaboration)
    for member in named:
        add_member(call.tx, collaboration, member, now)
    return {"collaboration": record(call, collaboration)}


def _check_members(named: list[dict[str, Any]]) -> None:
    hold_members(len(named) - 1)
    accounts = [member["accountId"] for member in named]
    twice = sorted({account for account in accounts if accounts.count(account) > 1})
    if twice:
        raise invalid("members", f"Account {twice[0]} is named twice; name each member once.")
    runners = [member["accountId"] for member in named if "CAN_QUERY" in member["memberAbilities"]]
    if len(runners) != 1:
        found = f"{len(runners)} have it ({', '.join(runners)})" if runners else "nobody has it"
        raise invalid("members", f"Exactly one member must have the ability CAN_QUERY; {found}.")
    for member in named:
        if "CAN_RUN_JOB" in member["memberAbilities"] and member["accountId"] != runners[0]:
            raise invalid(
                "members",
                f"CAN_RUN_JOB of {member['accountId']} must go to the member with CAN_QUERY, {runners[0]}.",
            )
        payment = member.get("paymentConfiguration")
        field = "paymentConfiguration.jobCompute"
        check_runner_of_jobs(member["accountId"], member["memberAbilities"], payment, field)


@operation("cleanrooms.GetCollaboration")
def get_collaboration(call: Call, params: Params) -> Output:
    """The collaboration, for everyone named in it."""
    return {"collaboration": record(call, call.collaboration)}


@operation("cleanrooms.ListCollaborations")
def list_collaborations(call: Call, params: Params) -> Output:
    """The collaborations in which the caller is invited or active."""

    def summary(member: Resource) -> Output:
        return record(call, resources.require(call.tx, "collaboration", member.collaboration or ""))

    statuses = [params["memberStatus"]] if "memberStatus" in params else ["INVITED", "ACTIVE"]
    return call.page(params, "member", summary, "collaborationList", statuses=statuses, account=call.account)


@operation("cleanrooms.UpdateCollaboration")
def update_collaboration(call: Call, params: Params) -> Output:
    """Changes name and description."""
    body = {"description": params["description"]} if "description" in params else {}
    changed = resources.change(call.tx, call.collaboration, name=params.get("name"), body=body)
    return {"collaboration": record(call, changed)}


@operation("cleanrooms.DeleteCollaboration")
def delete_collaboration(call: Call, params: Params) -> None:
    """Ends the collaboration: memberships stay, as COLLABORATION_DELETED; nothing runs any more."""
    id = call.collaboration.id
    for membership in resources.find(call.tx, "membership", statuses=["ACTIVE"], collaboration=id):
        end_work(call.tx, membership)
        resources.change(call.tx, membership, status="COLLABORATION_DELETED")
    for member in resources.find(call.tx, "member", statuses=["INVITED", "ACTIVE"], collaboration=id):
        resources.change(call.tx, member, status="REMOVED")
    resources.change(call.tx, call.collaboration, status="DELETED")
