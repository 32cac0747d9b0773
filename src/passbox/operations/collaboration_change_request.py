"""Change requests: what the creator of a collaboration asks for once it exists, and how the others agree.

              APPROVE by all voters            COMMIT
    PENDING ─────────────────────▶ APPROVED ─────────▶ COMMITTED      the changes take effect, all or none
       ├─ DENY by any ─▶ DENIED        │
       └─ CANCEL ─▶ CANCELLED ◀────────┘

Where the collaboration approves every type of change in a request automatically it is COMMITTED at once.
"""

from typing import NoReturn

from passbox import names
from passbox.access.call import Call
from passbox.access.fetch import missing
from passbox.errors import (
    AccessDeniedException,
    ConflictException,
    ServiceQuotaExceededException,
    ValidationException,
)
from passbox.operations.approvals import ACTIONS, KIND, standing, voters
from passbox.operations.changes import Change, work_out
from passbox.operations.effects import members_of, take_effect
from passbox.operations.registry import Output, Params, operation
from passbox.state import resources
from passbox.state.resources import Resource


def record(request: Resource) -> Output:
    """The modelled CollaborationChangeRequest, the same for everyone who may read it."""
    output: Output = {
        "id": request.id,
        "collaborationId": request.collaboration,
        "createTime": request.created,
        "updateTime": request.updated,
        "status": request.status,
        "isAutoApproved": request.body["isAutoApproved"],
        "changes": request.body["changes"],
    }
    if votes := request.body["votes"]:
        output["approvals"] = {account: {"status": vote} for account, vote in votes.items()}
    return output


@operation("cleanrooms.CreateCollaborationChangeRequest")
def create_collaboration_change_request(call: Call, params: Params) -> Output:
    """Asks the other active members to agree to changes, or makes them where that is agreed beforehand."""
    collaboration = call.collaboration
    changes = work_out(params["changes"], collaboration, members_of(call))
    types = {type for change in changes for type in change.types}
    automatic = types <= set(collaboration.body.get("autoApprovedChangeTypes", []))
    votes = {} if automatic else dict.fromkeys(voters(call.tx, collaboration), "PENDING")
    now, id = names.now(), names.new_id()
    request = Resource(
        kind=KIND,
        id=id,
        arn=f"{collaboration.arn}/changerequest/{id}",
        account=call.account,
        collaboration=collaboration.id,
        parent=collaboration.id,
        status="COMMITTED" if automatic else standing(votes),
        created=now,
        updated=now,
        body={
            "changes": [
                {**asked, "types": change.types}
                for asked, change in zip(params["changes"], changes, strict=True)
            ],
            "isAutoApproved": automatic,
            "votes": votes,
            "effects": [change.effects for change in changes],
        },
    )
    resources.add(call.tx, request)
    if automatic:
        take_effect(call, changes)
    return {"collaborationChangeRequest": record(request)}


@operation("cleanrooms.GetCollaborationChangeRequest")
def get_collaboration_change_request(call: Call, params: Params) -> Output:
    """One change request, with who has agreed."""
    return {"collaborationChangeRequest": record(_request(call, params))}


@operation("cleanrooms.ListCollaborationChangeRequests")
def list_collaboration_change_requests(call: Call, params: Params) -> Output:
    """The change requests of the collaboration, oldest first."""
    statuses = [params["status"]] if "status" in params else None
    return call.page(
        params,
        KIND,
        record,
        "collaborationChangeRequestSummaries",
        statuses=statuses,
        kept=True,
        collaboration=call.collaboration.id,
    )


@operation("cleanrooms.UpdateCollaborationChangeRequest")
def update_collaboration_change_request(call: Call, params: Params) -> Output:
    """Votes on a change request, calls it off, or makes its changes."""
    request, action = _request(call, params), params["action"]
    _check_who(call, request, action)
    possible, status = ACTIONS[action]
    votes: dict[str, str] = dict(request.body["votes"])
    if request.status not in possible:
        _impossible(call, request, action)
    if action in ("APPROVE", "DENY"):
        if votes[call.account] != "PENDING":
            raise ConflictException(
                f"{call.account} has voted {votes[call.account]} already; a vote is given once. The request "
                f"is {request.status} until all of {', '.join(votes)} have voted.",
                resource_id=request.id,
            )
        votes[call.account] = {"APPROVE": "APPROVED", "DENY": "DENIED"}[action]
        status = standing(votes)
    if action == "COMMIT":
        take_effect(call, _still(call, request))
    changed = resources.change(call.tx, request, status=status, body={"votes": votes})
    return {"collaborationChangeRequest": record(changed)}


def _request(call: Call, params: Params) -> Resource:
    identifier = params["changeRequestIdentifier"]
    found = resources.get(call.tx, KIND, identifier)
    if found is None or found.collaboration != call.collaboration.id:
        missing(KIND, identifier)
    return found


def _check_who(call: Call, request: Resource, action: str) -> None:
    creator, votes = call.collaboration.account, request.body["votes"]
    if action in ("CANCEL", "COMMIT"):
        if call.account != creator:
            raise AccessDeniedException(
                f"Only the creator of the collaboration, {creator}, may {action} a change request."
            )
    elif call.account not in votes:
        who = f"they are {', '.join(votes)}" if votes else "there are none"
        raise AccessDeniedException(
            f"Only members that were active when the change request was created, other than its creator, may "
            f"{action} it; {who}."
        )


def _impossible(call: Call, request: Resource, action: str) -> NoReturn:
    open_to = [name for name, (statuses, _) in ACTIONS.items() if request.status in statuses]
    possible = f"possible is {' or '.join(open_to)}" if open_to else "that is final"
    waiting = [account for account, vote in request.body["votes"].items() if vote == "PENDING"]
    votes = f" It waits for the vote of {', '.join(waiting)}." if request.status == "PENDING" else ""
    raise ConflictException(
        f"The change request is {request.status}, so {action} is not possible; {possible}.{votes}",
        resource_id=request.id,
    )


def _still(call: Call, request: Resource) -> list[Change]:
    """The changes as they are now, if they are still what everybody who is here agreed to."""

    def gone(why: str) -> NoReturn:
        raise ConflictException(
            f"The change request no longer holds and stays APPROVED: {why} CANCEL it and create a new one.",
            resource_id=request.id,
        )

    votes = request.body["votes"]
    joined = [one for one in voters(call.tx, call.collaboration) if votes.get(one) != "APPROVED"]
    if joined:
        gone(f"{', '.join(joined)} joined after it was created and could not vote.")
    try:
        changes = work_out(request.body["changes"], call.collaboration, members_of(call))
    except (ValidationException, ServiceQuotaExceededException) as error:
        gone(error.message)
    for index, (agreed, change) in enumerate(zip(request.body["effects"], changes, strict=True)):
        if set(agreed) != set(change.effects):
            gone(
                f"changes[{index}] was agreed to as {', '.join(agreed)} and would now be "
                f"{', '.join(change.effects)}."
            )
    return changes
