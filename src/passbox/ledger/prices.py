"""What things cost: cost types, what each is measured in, and the rate card. Integers only, rounded up.

The units are AWS's public ones (us-east-1, 2026): compute of queries and of PySpark jobs per CRPU-hour, by
the second with a minimum of a minute and of ten; custom model training per 1,000 records; inference per
million records, less for what a month has above 1,000 million; synthetic data per SDGU. Quantities are in
thousandths of a unit (milli-units), money in millionths of a dollar (micro-dollars).
"""

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from passbox.errors import Misconfigured

QUERY_COMPUTE = "queryCompute"
JOB_COMPUTE = "jobCompute"
MODEL_TRAINING = "machineLearning.modelTraining"
MODEL_INFERENCE = "machineLearning.modelInference"
SYNTHETIC_DATA = "machineLearning.syntheticDataGeneration"
COST_TYPES = (QUERY_COMPUTE, JOB_COMPUTE, MODEL_TRAINING, MODEL_INFERENCE, SYNTHETIC_DATA)

MONEY = "usd_micro"  # the unit of money in the book
MICRO = 1_000_000  # micro-dollars of a dollar
MILLI = 1_000  # milli-units of a unit
MINIMUM_QUERY_SECONDS = 60
MINIMUM_JOB_SECONDS = 600
_REMEMBERED = 1_000  # prices of a day
MINIMUM_SDGU = 100  # milli-SDGU
SDGU_FORMULA = "1 SDGU for 10 million cells of the generated rows and 1 for 10 minutes of CPU time"
CRPU_PER_WORKER = {"CR.1X": 2, "CR.4X": 8, "CR.8X": 16}


class Measure(NamedTuple):
    """What a cost type is counted in: whole `unit`s, priced for `per` of them, which people call `priced`."""

    unit: str
    per: int
    priced: str


MEASURES = {
    QUERY_COMPUTE: Measure("CRPU-seconds", 3_600, "CRPU-hour"),
    JOB_COMPUTE: Measure("CRPU-seconds", 3_600, "CRPU-hour"),
    MODEL_TRAINING: Measure("records trained", 1_000, "1,000 records"),
    MODEL_INFERENCE: Measure("records scored", 1_000_000, "1,000,000 records"),
    SYNTHETIC_DATA: Measure("SDGU", 1, "SDGU"),
}


class Price(NamedTuple):
    """`micro_dollars` for `per` whole units; `tier_micro_dollars` for those above `tier_from` whole units of
    a month. Without tier_from there is one tier.
    """

    micro_dollars: int
    per: int
    tier_from: int | None = None
    tier_micro_dollars: int | None = None

    def of(self, quantity: int, counted: int = 0) -> int:
        """Micro-dollars for so many milli-units, rounded up. counted: those of the month before them."""
        below = self.below(quantity, counted)
        cost = below * self.micro_dollars + (quantity - below) * (self.tier_micro_dollars or 0)
        return -(-cost // (self.per * MILLI))

    def below(self, quantity: int, counted: int = 0) -> int:
        """How many of so many milli-units cost the first tier's price."""
        return quantity if self.tier_from is None else min(quantity, max(0, self.tier_from * MILLI - counted))


# us-east-1, 2026; AWS does not say what the 1,000 million count: decision 34
PUBLISHED = {
    QUERY_COMPUTE: Price(2_000_000, 3_600),
    JOB_COMPUTE: Price(2_000_000, 3_600),
    MODEL_TRAINING: Price(10_000, 1_000),
    MODEL_INFERENCE: Price(10_000_000, 1_000_000, tier_from=10**9, tier_micro_dollars=200_000),
    SYNTHETIC_DATA: Price(2_000_000, 1),
}


class Rate(NamedTuple):
    """One line of a rate card: from `effective` on, a cost type costs `price`."""

    effective: date
    cost_type: str
    price: Price


class RateCard:
    """What the room charges, from which day (UTC) on. Without any rates of the operator's: the public prices.

    The price of a run is the one in force when it is submitted; it is stored with its transfers.
    """

    def __init__(self, rates: list[Rate] | None = None) -> None:
        public = [Rate(date.min, cost_type, PUBLISHED[cost_type]) for cost_type in COST_TYPES]
        self._prices: dict[tuple[str, int], Price] = {}  # by day since the epoch
        self.rates = sorted(public + (rates or []), key=lambda rate: rate.effective)

    def price(self, cost_type: str, at: float) -> Price:
        """The price in force at a time in seconds since the epoch."""
        key = cost_type, int(at // 86_400)
        if key not in self._prices:
            if len(self._prices) > _REMEMBERED:
                self._prices.clear()
            day = datetime.fromtimestamp(at, UTC).date()
            self._prices[key] = [
                rate.price for rate in self.rates if rate.cost_type == cost_type and rate.effective <= day
            ][-1]
        return self._prices[key]

    def listing(self, at: float) -> list[Rate]:
        """The rates in force at a time and those to come, by cost type and day."""
        day = datetime.fromtimestamp(at, UTC).date()
        found = []
        for cost_type in COST_TYPES:
            own = [rate for rate in self.rates if rate.cost_type == cost_type]
            found += [[rate for rate in own if rate.effective <= day][-1]]
            found += [rate for rate in own if rate.effective > day]
        return found


def read_rates(document: Mapping[str, Any], where: str) -> RateCard:
    """The rate card of a TOML document whose numbers were read as decimals.

        [[rates]]
        effective = 2027-01-01
        queryCompute = 2.50               # dollars a CRPU-hour
        modelTraining = 0.01              # dollars for 1,000 records
        modelInference = [10, { above = 1_000, price = 0.20 }]  # and of a month above 1,000 times a million

    A cost type that a day leaves out keeps the price it had. where: what errors call the document
    """
    names = {cost_type.rpartition(".")[2]: cost_type for cost_type in COST_TYPES}
    cards = document.get("rates", [])
    if set(document) - {"rates"} or not isinstance(cards, list):
        raise Misconfigured(f"{where}: it holds [[rates]] tables and nothing else.")
    rates: list[Rate] = []
    days: set[date] = set()
    for number, card in enumerate(cards, 1):
        if not isinstance(card, dict):
            raise Misconfigured(f"{where}: it holds [[rates]] tables and nothing else.")
        effective = card.get("effective")
        if type(effective) is not date:
            raise Misconfigured(f"{where}: rates {number} need a day, like `effective = 2027-01-01`.")
        if effective in days:
            raise Misconfigured(f"{where}: {effective} has two rates tables; make them one.")
        days.add(effective)
        for name, dollars in card.items():
            if name == "effective":
                continue
            if name not in names:
                raise Misconfigured(f"{where}: there is no cost type {name}; there are {', '.join(names)}.")
            cost_type = names[name]
            price = _price(dollars, MEASURES[cost_type].per, f"{where}: {name}")
            rates.append(Rate(effective, cost_type, price))
    return RateCard(rates)


def _price(written: object, per: int, where: str) -> Price:
    """A number of dollars, or that and a table {above, price} of a second tier."""
    if not isinstance(written, list):
        return Price(_micro(written, where), per)
    tier = written[1] if len(written) == 2 else None
    if not isinstance(tier, dict) or set(tier) != {"above", "price"}:
        raise Misconfigured(f"{where}: two prices are written [10.00, {{ above = 1000, price = 0.20 }}].")
    above = tier["above"]
    if type(above) is not int or not 1 <= above <= 10**9:
        raise Misconfigured(f"{where}: `above` must be a whole number from 1 to 1,000,000,000.")
    first, second = _micro(written[0], where), _micro(tier["price"], f"{where}: the second price")
    if second > first:
        # a run's cost must not be able to outgrow its reservation, which counts less of the month than it
        raise Misconfigured(f"{where}: the second price must not be above the first.")
    return Price(first, per, tier_from=above * per, tier_micro_dollars=second)


def _micro(dollars: object, where: str) -> int:
    if isinstance(dollars, bool) or not isinstance(dollars, int | Decimal):
        raise Misconfigured(f"{where} must be a number of dollars.")
    # compared before anything is computed with it: arithmetic would round, or overflow
    exact = isinstance(dollars, int) or (dollars.is_finite() and _decimals(dollars) <= 6)
    if not exact or not 0 <= dollars <= 10**6:
        raise Misconfigured(f"{where} must be 0 to 1,000,000 dollars with at most six decimals.")
    return int(Decimal(dollars) * MICRO)


def _decimals(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0


def crpu_milliseconds(worker: str, number: int, seconds: float, minimum: int = MINIMUM_QUERY_SECONDS) -> int:
    """Milli-CRPU-seconds of `number` workers for `seconds` of wall time, `minimum` at least."""
    milliseconds = max(minimum * MILLI, round(seconds * MILLI))
    return CRPU_PER_WORKER[worker] * number * milliseconds


def milli_sdgu(rows: int, columns: int, cpu_seconds: float) -> int:
    """Milli-SDGU of generating from a result of so many rows and columns: by SDGU_FORMULA, rounded up, and
    at least MINIMUM_SDGU. AWS publishes only that the number varies with the data's size and complexity.
    """
    cells = rows * columns
    return max(MINIMUM_SDGU, -(-cells // 10_000) + math.ceil(cpu_seconds * MILLI / 600))
