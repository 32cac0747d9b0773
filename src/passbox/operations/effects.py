"""How changes that were agreed to take effect: on members, on what memberships accept to pay, on the
collaboration. Everything else that a change means follows from these rows.
"""

from typing import Any

from passbox import names
from passbox.access.call import Call
from passbox.ledger.payers import Member as Payer
from passbox.ledger.payers import acceptance, configuration, responsible
from passbox.ledger.prices import COST_TYPES
from passbox.operations.changes import Change
from passbox.operations.member import add_member, paying_members
from passbox.state import resources
from passbox.state.resources import Resource


def members_of(call: Call) -> list[Resource]:
    """Everybody who is or was named in the call's collaboration."""
    return resources.find(call.tx, "member", collaboration=call.collaboration.id)


def take_effect(call: Call, changes: list[Change]) -> None:
    """Makes the changes; the transaction of the call makes them all or none."""
    collaboration, now = call.collaboration, names.now()
    payers = paying_members(call.tx, collaboration.id)
    rows = {row.account: row for row in members_of(call)}
    body: dict[str, Any] = {}
    for change in changes:
        if change.account is None:
            body |= change.after
        elif change.account not in rows:
            add_member(call.tx, collaboration, change.after, now)
        else:
            resources.change(call.tx, rows[change.account], body=change.after)
            _settle_acceptance(call, payers, change)
            if change.account == collaboration.account:
                body["creatorDisplayName"] = change.after["displayName"]
    _settle_former(call, changes, rows)
    call.fetched["collaboration"] = resources.change(call.tx, collaboration, body=body)


def _settle_acceptance(call: Call, payers: list[Payer], change: Change) -> None:
    """What a membership accepts of what it is named for only now, and of what it is no longer named for."""
    membership = resources.first(
        call.tx,
        "membership",
        statuses=["ACTIVE"],
        collaboration=call.collaboration.id,
        account=change.account or "",
    )
    after = membership and acceptance(payers, change.account or "", change.flips)
    if membership and after is not None:
        resources.change(call.tx, membership, body={"paymentConfiguration": configuration(after)})


def _settle_former(call: Call, changes: list[Change], rows: dict[str, Resource]) -> None:
    """Who is gone stops being named for a cost that is settled anew, so that it no longer keeps the default
    payer from paying.
    """
    settled = {cost_type for change in changes for cost_type in change.flips}
    for row in rows.values():
        named = {one: responsible(row.body.get("paymentConfiguration"), one) for one in COST_TYPES}
        if row.status not in ("INVITED", "ACTIVE") and any(named[one] for one in settled):
            said = configuration({**named, **dict.fromkeys(settled, False)})
            resources.change(call.tx, row, body={"paymentConfiguration": said})
