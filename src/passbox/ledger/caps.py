"""Spend caps: how much a payer lets one collaboration spend of its money, by cost type. Part of the book.

A cap is for a calendar month (UTC, by the submission) or for the lifetime of the collaboration. It counts
what is posted and what is reserved, less what was given back. The book asks here within the transaction that
reserves, so two submissions cannot both slip under a cap; what is posted is held to it too.
"""

from dataclasses import dataclass

from passbox import names
from passbox.errors import ServiceQuotaExceededException
from passbox.ledger.payers import LABELS
from passbox.ledger.prices import MICRO, MONEY
from passbox.state import caps as rows
from passbox.state import events, transfers
from passbox.state.caps import Cap
from passbox.state.database import Transaction

MONTH, LIFETIME = "MONTH", "LIFETIME"
PERIODS = (MONTH, LIFETIME)


@dataclass(frozen=True)
class Standing:
    """A cap and what it counts, in micro-dollars. month: `2026-11` for a monthly cap."""

    cap: Cap
    month: str | None
    posted: int
    reserved: int

    @property
    def left(self) -> int:
        """What the cap leaves; negative where it was set below what had been spent."""
        return self.cap.limit - self.posted - self.reserved

    @property
    def remaining(self) -> int:
        """What a payer is told that is left: never below 0."""
        return max(0, self.left)


def put(
    tx: Transaction, *, payer: str, collaboration: str, cost_type: str, period: str, limit: int
) -> Standing:
    """Sets a cap in micro-dollars, or a new limit for it. What is reserved already stays."""
    before = rows.get(tx, payer, collaboration, cost_type, period)
    now = names.now()
    created = now if before is None else before.created
    cap = Cap(payer, collaboration, cost_type, period, limit, created, now)
    rows.put(tx, cap)
    _note(tx, cap, None if before is None else before.limit, limit)
    return _standing(tx, cap, names.month(now))


def remove(tx: Transaction, *, payer: str, collaboration: str, cost_type: str, period: str) -> bool:
    """Lifts a cap; False where there is none."""
    before = rows.get(tx, payer, collaboration, cost_type, period)
    if before is None:
        return False
    rows.remove(tx, before)
    _note(tx, before, before.limit, None)
    return True


def standings(tx: Transaction, payer: str, collaboration: str) -> list[Standing]:
    """A payer's caps in a collaboration with what they leave in the month that is now."""
    month = names.month(names.now())
    return [_standing(tx, cap, month) for cap in rows.of_payer(tx, payer, collaboration)]


def of_cost(tx: Transaction, *, payer: str, collaboration: str, cost_type: str, month: str) -> list[Standing]:
    """A payer's caps for one cost type with what they leave, the monthly ones in that month."""
    return [_standing(tx, cap, month) for cap in rows.of_cost(tx, payer, collaboration, cost_type)]


def admit(
    tx: Transaction, *, payer: str, collaboration: str, cost_type: str, month: str, amount: int
) -> None:
    """Raises ServiceQuotaExceededException where a cap does not leave `amount` micro-dollars."""
    for standing in of_cost(tx, payer=payer, collaboration=collaboration, cost_type=cost_type, month=month):
        cap = standing.cap
        if amount > standing.left:
            label = LABELS[cost_type]
            each = "a month" if cap.period == MONTH else "in all"
            raise ServiceQuotaExceededException(
                f"Payer {payer} lets this collaboration spend {_dollars(cap.limit)} {each} on {label}; "
                f"{_dollars(standing.remaining)} are left, and this run is estimated at {_dollars(amount)}. "
                "Name another payer candidate, or ask the payer to raise its cap (PutSpendCap).",
                quota_name=f"{label} spend cap of payer {payer}, dollars {each}",
                quota_value=cap.limit / MICRO,
            )


def left(tx: Transaction, *, payer: str, collaboration: str, cost_type: str, month: str) -> int | None:
    """The micro-dollars that every cap leaves, below 0 where one is overdrawn; None where there is no cap."""
    found = of_cost(tx, payer=payer, collaboration=collaboration, cost_type=cost_type, month=month)
    return min((standing.left for standing in found), default=None)


def _standing(tx: Transaction, cap: Cap, month: str) -> Standing:
    counted = month if cap.period == MONTH else None
    accounts = transfers.payer_accounts(cap.payer, cap.collaboration, cap.cost_type)
    spent = transfers.spent(tx, accounts, period=counted, unit=MONEY)
    return Standing(cap, counted, *spent)


def _note(tx: Transaction, cap: Cap, before: int | None, after: int | None) -> None:
    subject = f"{cap.payer}/{cap.collaboration}/{cap.cost_type}/{cap.period}"
    old, new = (None if value is None else str(value) for value in (before, after))
    events.record(tx, subject, "spend_cap", old, new)


def _dollars(micro: int) -> str:
    return f"${micro / MICRO:,.6f}".rstrip("0").rstrip(".")
