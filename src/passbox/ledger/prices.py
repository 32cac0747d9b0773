"""What things cost: the rate card and the charges that follow from it. Integers only, rounded up.

The figures are AWS's public price units (us-east-1, 2026): SQL compute per CRPU-hour, by the second with a
minimum of a minute; custom model training per 1,000 records; inference per million records.
"""

from dataclasses import dataclass

QUERY_COMPUTE = "queryCompute"
JOB_COMPUTE = "jobCompute"
MODEL_TRAINING = "machineLearning.modelTraining"
MODEL_INFERENCE = "machineLearning.modelInference"
SYNTHETIC_DATA = "machineLearning.syntheticDataGeneration"
COST_TYPES = (QUERY_COMPUTE, JOB_COMPUTE, MODEL_TRAINING, MODEL_INFERENCE, SYNTHETIC_DATA)

MINIMUM_QUERY_SECONDS = 60
CRPU_PER_WORKER = {"CR.1X": 2, "CR.4X": 8, "CR.8X": 16}


@dataclass(frozen=True)
class Price:
    """`micro_dollars` for `per` whole `unit`s."""

    micro_dollars: int
    per: int
    unit: str


RATES = {
    QUERY_COMPUTE: Price(2_000_000, 3_600, "CRPU-seconds"),
    MODEL_TRAINING: Price(10_000, 1_000, "records trained"),
    MODEL_INFERENCE: Price(10_000_000, 1_000_000, "records scored"),
}


@dataclass(frozen=True)
class Charge:
    """An amount in micro-dollars and how it came about: quantity in thousandths of `unit`, at a price."""

    amount: int
    quantity: int
    unit: str
    price: int
    price_per: int


def charge(cost_type: str, quantity: int) -> Charge:
    """The charge for `quantity` thousandths of the cost type's unit, rounded up to the micro-dollar."""
    price = RATES[cost_type]
    amount = -(-quantity * price.micro_dollars // (price.per * 1000))
    return Charge(amount, quantity, price.unit, price.micro_dollars, price.per)


def query_compute(worker: str, number: int, seconds: float) -> Charge:
    """SQL on `number` workers for `seconds` of wall time, a minute at least."""
    crpu = CRPU_PER_WORKER[worker] * number
    return charge(QUERY_COMPUTE, crpu * max(MINIMUM_QUERY_SECONDS * 1000, round(seconds * 1000)))


def records(cost_type: str, number: int) -> Charge:
    """Training or inference over `number` records."""
    return charge(cost_type, number * 1000)
