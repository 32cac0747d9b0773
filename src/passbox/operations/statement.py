"""Statements and the charges behind them, for the account that pays: by month (UTC), whatever became of its
memberships. Amounts are micro-dollars, quantities thousandths of their unit.
"""

from passbox import names
from passbox.access.call import DEFAULT_PAGE, Call
from passbox.ledger import statements
from passbox.ledger.statements import Charge, Line
from passbox.operations.cost_type import MODELLED, modelled_price
from passbox.operations.member import collaboration_name
from passbox.operations.registry import Output, Params, operation


@operation("passbox.GetStatement")
def get_statement(call: Call, params: Params) -> Output:
    """The caller's month as it stands."""
    found = statements.statement(call.tx, call.account, params["month"], names.now())
    return {
        "month": found.month,
        "payerAccountId": found.payer,
        "lines": [_line(line, collaboration_name(call, line.collaboration)) for line in found.lines],
        "chargedMicroDollars": found.charged,
        "refundedMicroDollars": found.refunded,
        "totalMicroDollars": found.posted,
        "reservedMicroDollars": found.reserved,
        "isFinal": found.final,
    }


def _line(line: Line, name: str) -> Output:
    return {
        "collaborationIdentifier": line.collaboration,
        "collaborationName": name,
        "costType": MODELLED[line.cost_type],
        "jobs": line.jobs,
        "quantityMilliUnits": line.quantity,
        "unit": line.unit,
        "chargedMicroDollars": line.charged,
        "refundedMicroDollars": line.refunded,
        "totalMicroDollars": line.posted,
        "reservedMicroDollars": line.reserved,
    }


@operation("passbox.ListCharges")
def list_charges(call: Call, params: Params) -> Output:
    """The caller's charges and refunds of a month, oldest first."""
    limit = params.get("maxResults") or DEFAULT_PAGE
    listing, token = call.listing(params), params.get("nextToken")
    found = statements.charges(
        call.tx,
        call.account,
        params["month"],
        collaboration=params.get("collaborationIdentifier"),
        after=call.room.tokens.read(listing, token) if token else 0,
        limit=limit + 1,
    )
    output: Output = {"charges": [_charge(charge) for charge in found[:limit]]}
    if len(found) > limit:
        output["nextToken"] = call.room.tokens.issue(listing, found[limit - 1].sequence)
    return output


def _charge(charge: Charge) -> Output:
    return {
        "chargeIdentifier": charge.id,
        "kind": charge.kind,
        "month": charge.month,
        "collaborationIdentifier": charge.collaboration,
        "costType": MODELLED[charge.cost_type],
        "payerAccountId": charge.payer,
        "submitterAccountId": charge.submitter,
        "resourceArn": charge.resource_arn,
        "quantityMilliUnits": charge.quantity,
        "unit": charge.unit,
        **modelled_price(charge.price),
        "countedMilliUnits": charge.counted if charge.price.tier_from else None,
        "amountMicroDollars": charge.amount,
        "submitTime": charge.started,
        "chargeTime": charge.at,
    }
