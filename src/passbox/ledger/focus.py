"""A charge as a row of FOCUS 1.2, the FinOps Open Cost and Usage Specification. Pure: no SQL, file or clock.

A row is a transfer: what was posted, or what gave it back. How the columns agree:

    BilledCost = EffectiveCost = what the payer owes: their sums are the statement's, to the micro-dollar
    ListCost = ContractedCost = unit price × PricingQuantity, rounded up to the micro-dollar as the book does
    BilledCost < ListCost, nearer to zero, only where a spend cap cut the charge: the room bore the rest

A refund keeps the category (usage, as the specification wants it), the month and the period of its charge,
and its quantities are negative. It is a `Correction` where it came after its month had ended.
"""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from passbox.ledger import prices
from passbox.ledger.statements import Charge

VERSION = "1.2"
PREFIX = "passbox/"  # of tag keys: the specification wants one for what users did not set themselves

Cell = str | Decimal | datetime | None

STRING, DECIMAL, DATETIME, JSON = "string", "decimal", "datetime", "json"
COLUMNS = {
    "BilledCost": DECIMAL,
    "BillingAccountId": STRING,
    "BillingAccountName": STRING,
    "BillingAccountType": STRING,
    "BillingCurrency": STRING,
    "BillingPeriodEnd": DATETIME,
    "BillingPeriodStart": DATETIME,
    "ChargeCategory": STRING,
    "ChargeClass": STRING,
    "ChargeDescription": STRING,
    "ChargeFrequency": STRING,
    "ChargePeriodEnd": DATETIME,
    "ChargePeriodStart": DATETIME,
    # a room has no commitment discounts, but FOCUS 1.0 wants their columns and its tools look for them
    "CommitmentDiscountCategory": STRING,
    "CommitmentDiscountId": STRING,
    "CommitmentDiscountName": STRING,
    "CommitmentDiscountStatus": STRING,
    "CommitmentDiscountType": STRING,
    "ConsumedQuantity": DECIMAL,
    "ConsumedUnit": STRING,
    "ContractedCost": DECIMAL,
    "ContractedUnitPrice": DECIMAL,
    "EffectiveCost": DECIMAL,
    "InvoiceId": STRING,
    "InvoiceIssuerName": STRING,
    "ListCost": DECIMAL,
    "ListUnitPrice": DECIMAL,
    "PricingCategory": STRING,
    "PricingQuantity": DECIMAL,
    "PricingUnit": STRING,
    "ProviderName": STRING,
    "PublisherName": STRING,
    "RegionId": STRING,
    "RegionName": STRING,
    "ResourceId": STRING,
    "ResourceName": STRING,
    "ResourceType": STRING,
    "ServiceCategory": STRING,
    "ServiceName": STRING,
    "ServiceSubcategory": STRING,
    "SkuId": STRING,
    "SkuMeter": STRING,
    "SkuPriceDetails": JSON,
    "SkuPriceId": STRING,
    "SubAccountId": STRING,
    "SubAccountName": STRING,
    "SubAccountType": STRING,
    "Tags": JSON,
    "x_TransferId": STRING,
}
# decimal places: money to the micro-dollar, consumption to the milli-unit; hours of seconds do not end, nor
# does what two tiers come to, so these are cut off where it cannot show in a cost any more
UNIT_PRICE_SCALE = 20
SCALES = {name: 6 for name, type_ in COLUMNS.items() if type_ == DECIMAL} | {
    "ConsumedQuantity": 3,
    "PricingQuantity": 20,
    "ListUnitPrice": UNIT_PRICE_SCALE,
    "ContractedUnitPrice": UNIT_PRICE_SCALE,
}


class Room(NamedTuple):
    """Who provides: its name, and the region in its ARNs."""

    region: str
    name: str = "passbox"


class Product(NamedTuple):
    """What a cost type is called: service, its category and subcategory (of 1.2's lists), and the meter."""

    service: str
    category: str
    subcategory: str
    meter: str


_SQL = ("passbox", "Analytics", "Data Processing")
_ML = ("passbox ML", "AI and Machine Learning", "Machine Learning")
PRODUCTS = {
    prices.QUERY_COMPUTE: Product(*_SQL, "Query compute"),
    prices.JOB_COMPUTE: Product(*_SQL, "Job compute"),
    prices.MODEL_TRAINING: Product(*_ML, "Model training"),
    prices.MODEL_INFERENCE: Product(*_ML, "Model inference"),
    prices.SYNTHETIC_DATA: Product(*_ML, "Synthetic data generation"),
}
# the book's units as the specification writes units: capitalised plurals, compound ones with a hyphen
UNITS = {
    "CRPU-seconds": "CRPU-Seconds",
    "records trained": "Records",
    "records scored": "Records",
    "SDGU": "SDGUs",
}


def row(charge: Charge, room: Room) -> dict[str, Cell]:
    """One row: every column of COLUMNS, in its order. Decimals have the column's scale."""
    cells = {
        **_who(charge, room),
        **_when(charge),
        **_what(charge, room),
        **_how_much(charge),
        "x_TransferId": charge.id,
    }
    return {name: cells.get(name) for name in COLUMNS}


def plain(value: Decimal) -> str:
    """A decimal without an exponent and without zeros at its end."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def pricing_unit(unit: str, per: int) -> str:
    """What a price is for: `CRPU-Hours`, `1000 Records`, `SDGUs`."""
    name = UNITS[unit]
    if per == 3_600 and name.endswith("-Seconds"):
        return name.removesuffix("Seconds") + "Hours"
    return name if per == 1 else f"{per} {name}"


def _who(charge: Charge, room: Room) -> dict[str, Cell]:
    tags = {
        "collaboration": charge.collaboration,
        "costType": charge.cost_type,
        "job": charge.job,
        "payer": charge.payer,
        "resource": _text(charge.resource_arn),
        "submitter": charge.submitter,
    }
    return {
        "BillingAccountId": charge.payer,
        "BillingAccountName": _text(charge.payer_name),
        "BillingAccountType": "Account",
        "SubAccountId": charge.collaboration,
        "SubAccountName": _text(charge.collaboration_name),
        "SubAccountType": "Collaboration",
        "InvoiceIssuerName": room.name,
        "ProviderName": room.name,
        "PublisherName": room.name,
        "Tags": _json({PREFIX + key: value for key, value in tags.items() if value}),
    }


def _when(charge: Charge) -> dict[str, Cell]:
    year, month = map(int, charge.month.split("-"))
    end = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    late = charge.kind == "REFUND" and charge.at >= end.timestamp()
    # whole seconds, the end exclusive: never empty, whatever the clock did in between
    first = int(charge.started // 1)
    last = max(first, int(charge.at // 1))
    return {
        "BillingPeriodStart": datetime(year, month, 1, tzinfo=UTC),
        "BillingPeriodEnd": end,
        "ChargePeriodStart": datetime.fromtimestamp(first, UTC),
        "ChargePeriodEnd": datetime.fromtimestamp(last + 1, UTC),
        "ChargeCategory": "Usage",
        "ChargeClass": "Correction" if late else None,
        "ChargeFrequency": "Usage-Based",
    }


def _what(charge: Charge, room: Room) -> dict[str, Cell]:
    product = PRODUCTS[charge.cost_type]
    arn = _text(charge.resource_arn)
    return {
        "RegionId": room.region,
        "RegionName": room.region,
        "ResourceId": arn,
        "ResourceName": _text(charge.resource_name) if arn else None,
        "ResourceType": _text(charge.resource_kind) if arn else None,
        "ServiceName": product.service,
        "ServiceCategory": product.category,
        "ServiceSubcategory": product.subcategory,
        # the same for everybody, as the specification wants it: who and where is in the tags
        "SkuId": charge.cost_type,
        "SkuMeter": product.meter,
        "SkuPriceId": f"{charge.cost_type}/{_price(charge)}",
        "SkuPriceDetails": _json({"CostType": charge.cost_type, "Measure": charge.unit, **_shares(charge)}),
    }


def _how_much(charge: Charge) -> dict[str, Cell]:
    sign = -1 if charge.kind == "REFUND" else 1
    full = sign * charge.price.of(charge.quantity, charge.counted)
    list_, billed = _decimal(full, 6), _decimal(charge.amount, 6)
    consumed = _decimal(sign * charge.quantity, 3)
    # downwards, so that price × quantity, rounded up, is the book's figure
    priced = charge.quantity * 10**20 // (charge.price.per * prices.MILLI)
    price = _decimal(_unit_price(charge), UNIT_PRICE_SCALE)
    parts = [
        f"{PRODUCTS[charge.cost_type].meter}: {plain(_decimal(charge.quantity, 3))} {UNITS[charge.unit]}",
        f"at {_price(charge)}",
    ]
    if charge.amount != full:
        parts.append(f"cut from {plain(abs(list_))} USD by a spend cap")
    return {
        "BilledCost": billed,
        "EffectiveCost": billed,
        "ListCost": list_,
        "ContractedCost": list_,
        "ListUnitPrice": price,
        "ContractedUnitPrice": price,
        "BillingCurrency": "USD",
        "PricingCategory": "Standard",
        "PricingQuantity": _decimal(sign * priced, 20),
        "PricingUnit": pricing_unit(charge.unit, charge.price.per),
        "ConsumedQuantity": consumed,
        "ConsumedUnit": UNITS[charge.unit],
        "ChargeDescription": ("Refund of " if sign < 0 else "") + ", ".join(parts),
    }


def _tiers(charge: Charge) -> list[int]:
    """The prices that a charge's quantity is at, in micro-dollars: of a price with two tiers, one or both."""
    below = charge.price.below(charge.quantity, charge.counted)
    tier_price = charge.price.tier_micro_dollars
    if tier_price is None or below == charge.quantity:
        return [charge.price.micro_dollars]
    return [charge.price.micro_dollars, tier_price] if below else [tier_price]


def _shares(charge: Charge) -> dict[str, str]:
    """How much of a charge in both tiers is in each, in the unit consumed."""
    if len(_tiers(charge)) == 1:
        return {}
    below = charge.price.below(charge.quantity, charge.counted)
    return {
        "FirstTierQuantity": plain(_decimal(below, 3)),
        "SecondTierQuantity": plain(_decimal(charge.quantity - below, 3)),
    }


def _unit_price(charge: Charge) -> int:
    """The price of a pricing unit at UNIT_PRICE_SCALE: of a charge in both tiers, what both come to."""
    scale: int = 10 ** (UNIT_PRICE_SCALE - 6)
    first, *second = _tiers(charge)
    if not second:
        return first * scale
    below = charge.price.below(charge.quantity, charge.counted)
    cost = below * first + (charge.quantity - below) * second[0]
    return cost * scale // charge.quantity


def _price(charge: Charge) -> str:
    """The price as one says it: `2 USD per CRPU-Hour`, `0.01 USD per 1000 Records`; of a charge in both tiers
    `10 and 0.2 USD per …`.
    """
    unit = pricing_unit(charge.unit, charge.price.per)
    said = " and ".join(plain(_decimal(price, 6)) for price in _tiers(charge))
    return f"{said} USD per {unit if unit[0].isdigit() else unit[:-1]}"


def _decimal(units: int, scale: int) -> Decimal:
    """units × 10^-scale, exactly: reading text obeys no context, which arithmetic does (28 digits)."""
    return Decimal(f"{units}E-{scale}")


def _text(value: str) -> str | None:
    """A text that members chose, as files can hold it: null for nothing, no half of a surrogate pair."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if value else None


def _json(values: dict[str, str]) -> str:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))
