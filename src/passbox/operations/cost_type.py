"""What is paid for, and its price, as the book has them and as the model of `passbox` does."""

from typing import Any

from passbox.ledger import prices

MODELLED = {
    prices.QUERY_COMPUTE: "QUERY_COMPUTE",
    prices.JOB_COMPUTE: "JOB_COMPUTE",
    prices.MODEL_TRAINING: "MODEL_TRAINING",
    prices.MODEL_INFERENCE: "MODEL_INFERENCE",
    prices.SYNTHETIC_DATA: "SYNTHETIC_DATA_GENERATION",
}
BOOKED = {modelled: booked for booked, modelled in MODELLED.items()}


def modelled_price(price: prices.Price) -> dict[str, Any]:
    """The members that say a price, in every shape that has one."""
    return {
        "priceMicroDollars": price.micro_dollars,
        "pricePer": price.per,
        "tierFrom": price.tier_from,
        "tierPriceMicroDollars": price.tier_micro_dollars,
    }
