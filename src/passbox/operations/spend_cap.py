"""Spend caps: the most that the caller is willing to pay for a cost type in a collaboration.

Cost types and periods come as the model's enums; limits and amounts are micro-dollars.
"""

from passbox.access import fetch
from passbox.access.call import Call
from passbox.ledger import caps
from passbox.ledger.caps import Standing
from passbox.operations.cost_type import BOOKED, MODELLED
from passbox.operations.registry import Output, Params, operation


def _record(call: Call, standing: Standing) -> Output:
    cap = standing.cap
    return {
        "membershipIdentifier": call.membership.id,
        "collaborationIdentifier": cap.collaboration,
        "costType": MODELLED[cap.cost_type],
        "period": cap.period,
        "month": standing.month,
        "limitMicroDollars": cap.limit,
        "postedMicroDollars": standing.posted,
        "reservedMicroDollars": standing.reserved,
        "remainingMicroDollars": standing.remaining,
        "createTime": cap.created,
        "updateTime": cap.updated,
    }


@operation("passbox.PutSpendCap")
def put_spend_cap(call: Call, params: Params) -> Output:
    """Sets or replaces a cap; what is charged or reserved already stays."""
    standing = caps.put(
        call.tx,
        payer=call.account,
        collaboration=call.collaboration.id,
        cost_type=BOOKED[params["costType"]],
        period=params["period"],
        limit=params["limitMicroDollars"],
    )
    return {"spendCap": _record(call, standing)}


@operation("passbox.DeleteSpendCap")
def delete_spend_cap(call: Call, params: Params) -> None:
    """Lifts a cap; ResourceNotFoundException where there is none."""
    lifted = caps.remove(
        call.tx,
        payer=call.account,
        collaboration=call.collaboration.id,
        cost_type=BOOKED[params["costType"]],
        period=params["period"],
    )
    if not lifted:
        fetch.missing("spend_cap", f"{params['costType']}/{params['period']}")


@operation("passbox.ListSpendCaps")
def list_spend_caps(call: Call, params: Params) -> Output:
    """The caller's caps in the collaboration, with what is left under each."""
    found = caps.standings(call.tx, call.account, call.collaboration.id)
    return {"spendCaps": [_record(call, standing) for standing in found]}
