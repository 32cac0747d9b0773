"""What is paid for, by the two names it has: the book's, and that of the model of `passbox`."""

from passbox.ledger import prices

MODELLED = {
    prices.QUERY_COMPUTE: "QUERY_COMPUTE",
    prices.JOB_COMPUTE: "JOB_COMPUTE",
    prices.MODEL_TRAINING: "MODEL_TRAINING",
    prices.MODEL_INFERENCE: "MODEL_INFERENCE",
    prices.SYNTHETIC_DATA: "SYNTHETIC_DATA_GENERATION",
}
BOOKED = {modelled: booked for booked, modelled in MODELLED.items()}
