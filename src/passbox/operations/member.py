"""Members: who is named in a collaboration, what each may do, and what its side of the payment says.

A member's row belongs to the collaboration; the membership is the member's own resource.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from passbox.access.call import Call, invalid
from passbox.access.fetch import missing
from passbox.errors import ConflictException, ServiceQuotaExceededException
from passbox.ledger.payers import Member, candidates, configuration, responsible
from passbox.ledger.prices import COST_TYPES, JOB_COMPUTE
from passbox.operations.approvals import wait_no_longer
from passbox.operations.registry import Output, Params, operation
from passbox.operations.submission import end_work
from passbox.state import resources
from passbox.state.database import Transaction
from passbox.state.resources import Resource

QUOTA_INVITED = 5  # members beside the creator, AWS's default


def hold_members(number: int) -> None:
    """Refuses more members beside the creator than a collaboration can have."""
    if number > QUOTA_INVITED:
        raise ServiceQuotaExceededException(
            f"A collaboration can have {QUOTA_INVITED} members beside its creator, not {number}.",
            quota_name="Members per collaboration",
            quota_value=QUOTA_INVITED,
        )


def check_runner_of_jobs(
    account: str, abilities: Iterable[str], payment: Mapping[str, Any] | None, field: str
) -> None:
    """Refuses to release the member who can run queries and jobs from paying for jobs."""
    if "CAN_RUN_JOB" in abilities and responsible(payment, JOB_COMPUTE) is False:
        raise invalid(field, f"isResponsible must not be FALSE for {account}, who can run queries and jobs.")


def add_member(tx: Transaction, collaboration: Resource, named: Mapping[str, Any], now: float) -> None:
    """Names an account in a collaboration; `named` is a modelled MemberSpecification."""
    account = named["accountId"]
    body = {
        "displayName": named["displayName"],
        "abilities": sorted(set(named["memberAbilities"])),
        "mlAbilities": named.get("mlMemberAbilities"),
        "paymentConfiguration": named.get("paymentConfiguration"),
    }
    resources.add(
        tx,
        Resource(
            kind="member",
            id=f"{collaboration.id}/{account}",
            arn=f"{collaboration.arn}/member/{account}",
            account=account,
            collaboration=collaboration.id,
            parent=collaboration.id,
            status="INVITED",
            created=now,
            updated=now,
            body={key: value for key, value in body.items() if value is not None},
        ),
    )


def paying_members(tx: Transaction, collaboration: str) -> list[Member]:
    """The members of a collaboration as the choice of a payer sees them."""
    memberships = {row.account: row for row in resources.all_in(tx, "membership", collaboration)}
    return [
        Member(
            account=row.account,
            runner="CAN_QUERY" in row.body["abilities"],
            active=row.status == "ACTIVE",
            configured=row.body.get("paymentConfiguration"),
            accepted=joined.body["paymentConfiguration"]
            if (joined := memberships.get(row.account)) and row.status == "ACTIVE"
            else None,
            gone=row.status not in ("INVITED", "ACTIVE"),
        )
        for row in resources.all_in(tx, "member", collaboration)
    ]


def payment_of(members: list[Member], account: str) -> Output:
    """The collaboration's PaymentConfiguration for one member, with the defaults spelled out."""
    return configuration(
        {
            cost_type: any(member.account == account for member in candidates(members, cost_type))
            for cost_type in COST_TYPES
        }
    )


def collaboration_name(call: Call, collaboration: str) -> str:
    """What an account's collaboration is called; after the account has gone, what it was called then."""
    member = resources.require(call.tx, "member", f"{collaboration}/{call.account}")
    row = resources.require(call.tx, "collaboration", collaboration)
    return str(member.body.get("collaborationName", row.name))


@operation("cleanrooms.ListMembers")
def list_members(call: Call, params: Params) -> Output:
    """All members with abilities and the payment configuration, for everyone named in the collaboration."""
    members = paying_members(call.tx, call.collaboration.id)

    def summary(member: Resource) -> Output:
        return {
            **member.body,
            "accountId": member.account,
            "status": member.status,
            "createTime": member.created,
            "updateTime": member.updated,
            "paymentConfiguration": payment_of(members, member.account),
        }

    return call.page(params, "member", summary, "memberSummaries", collaboration=call.collaboration.id)


@operation("cleanrooms.DeleteMember")
def delete_member(call: Call, params: Params) -> None:
    """Removes a member; its data is out of reach for the others at once."""
    account = params["accountId"]
    if account == call.account:
        raise invalid(
            "accountId", "The creator cannot be removed; DeleteCollaboration ends the collaboration."
        )
    member = resources.get(call.tx, "member", f"{call.collaboration.id}/{account}")
    if member is None:
        missing("member", account)
    if member.status in ("REMOVED", "LEFT"):
        raise ConflictException(f"Member {account} is {member.status} already.", resource_id=account)
    membership = resources.first(
        call.tx, "membership", statuses=["ACTIVE"], collaboration=call.collaboration.id, account=account
    )
    if membership is not None:
        end_work(call.tx, membership)
        resources.change(call.tx, membership, status="REMOVED")
    # what the collaboration is called from now on is no longer for it to see
    name = call.collaboration.name
    resources.change(call.tx, member, status="REMOVED", body={"collaborationName": name})
    wait_no_longer(call.tx, call.collaboration.id, account)
