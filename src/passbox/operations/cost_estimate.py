"""Estimates: what a request would reserve, found out by making it and undoing it.

No second way to resolve a payer, to hold a cap or to reckon a cost: the operation's own function runs, within
the transaction that is rolled back. So an estimate refuses what the operation refuses, in the same words.
"""

from typing import NoReturn

from passbox.access import fetch
from passbox.access.call import Call, Undone, invalid
from passbox.ledger import book
from passbox.operations.cost_type import MODELLED, modelled_price
from passbox.operations.registry import OPERATIONS, Output, Params, operation

_SERVICES = {
    "CreateMLInputChannel": "cleanroomsml",
    "CreateTrainedModel": "cleanroomsml",
    "StartTrainedModelInferenceJob": "cleanroomsml",
    "StartProtectedQuery": "cleanrooms",
    "StartProtectedJob": "cleanrooms",
}


@operation("passbox.EstimateCost")
def estimate_cost(call: Call, params: Params) -> NoReturn:
    """Raises Undone with the estimate, or whatever the operation itself would raise."""
    asked = params["operation"]
    name = f"{_SERVICES[asked]}.{asked}"
    if name not in OPERATIONS:
        raise invalid("operation", f"operation: {asked} is not available in this version.")
    document = params["parameters"]
    if type(document) is not dict:
        raise invalid("parameters", f"parameters must be a JSON object: the request of {asked}.")
    own = {"membershipIdentifier": call.membership.id}
    if document.get("membershipIdentifier") not in (None, call.membership.id):
        place = "parameters.membershipIdentifier"
        raise invalid(place, f"{place} must be left out or be that of this request, {call.membership.id}.")
    request = call.room.requests.read(name, {**document, **own})
    inner = Call(call.account, name, call.tx, call.room, known=call.known)
    fetch.enter(inner, request)
    OPERATIONS[name](inner, request)
    raise Undone(_estimate(inner))


def _estimate(made: Call) -> Output:
    costs = [
        {
            "costType": MODELLED[reserved.cost_type],
            "payerAccountId": reserved.payer,
            "quantityMilliUnits": reserved.quantity,
            "unit": reserved.quantity_unit,
            **modelled_price(book.price_of(reserved)),
            "amountMicroDollars": reserved.amount,
            "basis": basis,
        }
        for reserved, basis in made.reserved
    ]
    total = sum(reserved.amount for reserved, _ in made.reserved)
    return {"costs": costs, "totalMicroDollars": total}
