"""The rows of the book: transfers, never changed, and the balances they add up to.

Rules live in `passbox.ledger.book`; this file only reads and writes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, func, select
from sqlalchemy.dialects.sqlite import insert as upsert

from passbox.state.database import Statement, Transaction
from passbox.state.tables import balance, transfer

COUNTERS = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")


@dataclass(frozen=True)
class Transfer:
    """One movement between two book accounts.

    amount in `unit` (`usd_micro`: millionths of a dollar); quantity in thousandths of quantity_unit; price in
    micro-dollars for `price_per` whole quantity units. settles: the reserve that a post or void ends.
    """

    id: str
    kind: str
    debit: str
    credit: str
    unit: str
    amount: int
    job: str
    collaboration: str
    payer: str
    cost_type: str
    quantity: int
    quantity_unit: str
    price: int
    price_per: int
    at: float
    settles: str | None = None


_INSERT = Statement(upsert(transfer).on_conflict_do_nothing())
_GET = Statement(select(transfer).where(transfer.c.id == bindparam("id")))
_OF_JOB = Statement(
    select(transfer).where(transfer.c.job == bindparam("job")).order_by(transfer.c.at, transfer.c.id)
)
_BALANCES = Statement(select(balance).order_by(balance.c.book_account))
_TOTALS = Statement(
    select(balance.c.unit, *(func.sum(balance.c[name]) for name in COUNTERS)).group_by(balance.c.unit)
)
_new = upsert(balance)
_ADD = Statement(
    _new.on_conflict_do_update(
        index_elements=[balance.c.book_account, balance.c.unit],
        set_={name: balance.c[name] + _new.excluded[name] for name in COUNTERS},
    )
)


def add(tx: Transaction, row: Transfer) -> bool:
    """Appends a transfer; False where it is there already, or another has settled what it settles."""
    return tx.execute(_INSERT, vars(row)) == 1


def get(tx: Transaction, id: str) -> Transfer | None:
    """A transfer by its identifier."""
    row = tx.row(_GET, {"id": id})
    return None if row is None else Transfer(**dict(row))


def of_job(tx: Transaction, job: str) -> list[Transfer]:
    """All transfers of a job, oldest first."""
    return [Transfer(**dict(row)) for row in tx.rows(_OF_JOB, {"job": job})]


def all_(tx: Transaction, **filters: str) -> Iterable[Transfer]:
    """Transfers, oldest first, by equality on payer, collaboration, kind or cost_type."""
    statement = select(transfer).where(*(transfer.c[name] == value for name, value in filters.items()))
    for row in tx.rows(Statement(statement.order_by(transfer.c.at, transfer.c.id))):
        yield Transfer(**dict(row))


def move(tx: Transaction, along: Transfer, *, pending: int = 0, posted: int = 0) -> None:
    """Adds to the counters of both accounts of a transfer, opening them at zero."""
    debit = (pending, posted, 0, 0)
    credit = (0, 0, pending, posted)
    tx.execute_each(
        _ADD,
        [
            {"book_account": account, "unit": along.unit, **dict(zip(COUNTERS, counters, strict=True))}
            for account, counters in ((along.debit, debit), (along.credit, credit))
        ],
    )


def balances(tx: Transaction) -> list[dict[str, Any]]:
    """Every book account with its four counters."""
    return [dict(row) for row in tx.rows(_BALANCES)]


def totals(tx: Transaction) -> dict[str, tuple[int, int, int, int]]:
    """unit → sums of the four counters, in the order of COUNTERS."""
    return {row[0]: (int(row[1]), int(row[2]), int(row[3]), int(row[4])) for row in tx.rows(_TOTALS)}
