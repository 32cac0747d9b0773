"""What things cost: cost types, what each is measured in, and the rate card. Integers only, rounded up.

The units are AWS's public ones (us-east-1, 2026): compute of queries and of PySpark jobs per CRPU-hour, by
the second with a minimum of a minute and of ten; custom model training per 1,000 records; inference per
million records; synthetic data per SDGU. Quantities are in thousandths of a unit (milli-units), money in
millionths of a dollar (micro-dollars).
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
PUBLISHED = {
    QUERY_COMPUTE: 2_000_000,
    JOB_COMPUTE: 2_000_000,
    MODEL_TRAINING: 10_000,
    MODEL_INFERENCE: 10_000_000,
    SYNTHETIC_DATA: 2_000_000,
}


class Price(NamedTuple):
    """`micro_dollars` for `per` whole units."""

    micro_dollars: int
    per: int

    def of(self, quantity: int) -> int:
        """Micro-dollars for so many milli-units, rounded up."""
        return -(-quantity * self.micro_dollars // (self.per * MILLI))


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
        public = [
            Rate(date.min, cost_type, Price(PUBLISHED[cost_type], MEASURES[cost_type].per))
            for cost_type in COST_TYPES
        ]
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
            price = Price(_micro(dollars, f"{where}: {name}"), MEASURES[cost_type].per)
            rates.append(Rate(effective, cost_type, price))
    return RateCard(rates)


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
