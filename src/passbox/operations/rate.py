"""Rates: what runs cost in this room. Prices are micro-dollars."""

from datetime import date

from passbox import names
from passbox.access.call import Call
from passbox.ledger.prices import MEASURES
from passbox.operations.cost_type import MODELLED, modelled_price
from passbox.operations.registry import Output, Params, operation


@operation("passbox.ListRates")
def list_rates(call: Call, params: Params) -> Output:
    """The prices in force and those to come; one that has always held has no day."""
    rates = [
        {
            "effectiveDate": None if rate.effective == date.min else rate.effective.isoformat(),
            "costType": MODELLED[rate.cost_type],
            **modelled_price(rate.price),
            "unit": MEASURES[rate.cost_type].unit,
            "pricedUnit": MEASURES[rate.cost_type].priced,
        }
        for rate in call.room.rates.listing(names.now())
    ]
    return {"rates": rates}
