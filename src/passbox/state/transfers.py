"""The rows of the book: transfers, never changed, and the balances they add up to.

Rules live in `passbox.ledger.book`; this file only reads and writes.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from sqlalchemy import Select, bindparam, func, select, text, tuple_
from sqlalchemy.dialects.sqlite import insert as upsert

from passbox.state.database import Insertion, Statement, Transaction
from passbox.state.tables import CHARGES, account, balance, job, resource, transfer

COUNTERS = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")
TALLIES = (*COUNTERS, "quantity", "charges")
_BATCH = 10_000


class Transfer(NamedTuple):
    """One movement between two book accounts.

    amount in `unit` (`usd_micro`: millionths of a dollar; `use`: uses of a table); quantity in thousandths of
    quantity_unit; price in micro-dollars for `price_per` whole quantity units, tier_price for those above
    `tier_from` whole units of the month, of which `counted` thousandths were before it. payer: '' where
    nobody pays. settles: the reserve that a post or void ends. month: of the submission. sequence: its place
    in the book, given by the database.
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
    month: str
    quantity: int
    quantity_unit: str
    price: int
    price_per: int
    at: float
    tier_from: int | None = None
    tier_price: int | None = None
    counted: int = 0
    settles: str | None = None
    sequence: int | None = None


class Entry(NamedTuple):
    """A posted or refunded transfer with what it was for: the resource as its members know it."""

    transfer: Transfer
    submitted: float
    submitter: str
    arn: str
    kind: str
    name: str | None
    payer_name: str | None
    collaboration_name: str | None


def payer_accounts(payer: str, collaboration: str, cost_type: str) -> str:
    """What a payer's book accounts begin with: `/MONTH` follows."""
    return f"payer/{payer}/{collaboration}/{cost_type}"


_COLUMNS = Transfer._fields
_SELECT = select(*(transfer.c[name] for name in _COLUMNS))
_INSERT = Insertion(upsert(transfer).on_conflict_do_nothing(), _COLUMNS[:-1])
_GET = Statement(_SELECT.where(transfer.c.id == bindparam("id")))
_OF_JOB = Statement(
    _SELECT.where(
        transfer.c.job == bindparam("job"),
        # by the index of the identifiers: `0` comes after `/`
        transfer.c.id >= bindparam("job") + "/",
        transfer.c.id < bindparam("job") + "0",
    ).order_by(transfer.c.sequence)
)
_ALL = Statement(
    _SELECT.where(transfer.c.sequence > bindparam("after")).order_by(transfer.c.sequence).limit(_BATCH)
)
_BALANCES = Statement(select(balance).order_by(balance.c.book_account))
_OF_PAYER = Statement(
    select(balance)
    .where(balance.c.payer == bindparam("payer"), balance.c.month == bindparam("month"))
    .order_by(balance.c.book_account)
)
_SPENT = Statement(
    select(
        func.coalesce(func.sum(balance.c.debits_posted - balance.c.credits_posted), 0),
        func.coalesce(func.sum(balance.c.debits_pending), 0),
    ).where(
        balance.c.book_account >= bindparam("least"),
        balance.c.book_account <= bindparam("most"),
        balance.c.unit == bindparam("unit"),
    )
)
_POSTED = Statement(
    select(balance.c.quantity).where(
        balance.c.book_account == bindparam("book_account"), balance.c.unit == bindparam("unit")
    )
)
_TOTALS = Statement(
    select(balance.c.unit, *(func.sum(balance.c[name]) for name in COUNTERS)).group_by(balance.c.unit)
)
_new = upsert(balance)
_ADD = Insertion(
    _new.on_conflict_do_update(
        index_elements=[balance.c.book_account, balance.c.unit],
        set_={name: balance.c[name] + _new.excluded[name] for name in TALLIES},
    ),
    ["book_account", "unit", "payer", "month", *TALLIES],
)


def add(tx: Transaction, row: Transfer) -> bool:
    """Appends a transfer; False where it is there already, or another has settled what it settles."""
    return tx.insert(_INSERT, row[:-1])


def get(tx: Transaction, id: str) -> Transfer | None:
    """A transfer by its identifier."""
    found = tx.tuples(_GET, {"id": id})
    return Transfer(*found[0]) if found else None


def of_job(tx: Transaction, job: str) -> list[Transfer]:
    """All transfers of a job, oldest first."""
    return [Transfer(*row) for row in tx.tuples(_OF_JOB, {"job": job})]


def all_(tx: Transaction) -> Iterator[Transfer]:
    """The whole book, oldest first, a batch at a time."""
    after = 0
    while rows := tx.tuples(_ALL, {"after": after}):
        for row in rows:
            yield Transfer(*row)
        after = rows[-1][_COLUMNS.index("sequence")]


def move(
    tx: Transaction,
    along: Transfer,
    *,
    pending: int = 0,
    posted: int = 0,
    quantity: int = 0,
    charges: int = 0,
) -> None:
    """Adds to the tallies of both accounts of a transfer, opening them at zero."""
    unit, month = along.unit, along.month
    payers = [
        along.payer if account.startswith("payer/") else None for account in (along.debit, along.credit)
    ]
    tx.insert_each(
        _ADD,
        [
            (along.debit, unit, payers[0], month, pending, posted, 0, 0, quantity, charges),
            (along.credit, unit, payers[1], month, 0, 0, pending, posted, quantity, charges),
        ],
    )


def spent(tx: Transaction, accounts: str, *, period: str | None, unit: str) -> tuple[int, int]:
    """(posted less given back, reserved) of the book account `ACCOUNTS/PERIOD`; without a period, of all."""
    # every period begins with a digit, so `:` lies behind all of them
    least, most = (f"{accounts}/{period or end}" for end in ("", ":"))
    [row] = tx.tuples(_SPENT, {"least": least, "most": most, "unit": unit})
    return int(row[0]), int(row[1])


def quantity(tx: Transaction, book_account: str, *, unit: str) -> int:
    """What was posted to a book account and not given back, in thousandths of its cost type's unit."""
    found = tx.tuples(_POSTED, {"book_account": book_account, "unit": unit})
    return int(found[0][0]) if found else 0


def balances(tx: Transaction, *, payer: str | None = None, month: str = "") -> list[dict[str, Any]]:
    """Every book account with its tallies; or those of one payer and month."""
    if payer is None:
        return [dict(row) for row in tx.rows(_BALANCES)]
    return [dict(row) for row in tx.rows(_OF_PAYER, {"payer": payer, "month": month})]


def totals(tx: Transaction) -> dict[str, tuple[int, int, int, int]]:
    """unit → sums of the four counters, in the order of COUNTERS."""
    return {row[0]: (int(row[1]), int(row[2]), int(row[3]), int(row[4])) for row in tx.tuples(_TOTALS)}


def _entries(*conditions: Any) -> Statement:
    reserve = transfer.alias("reserve")
    collaboration = resource.alias("collaboration")
    own = [transfer.c[name] for name in _COLUMNS]
    what = [resource.c[name] for name in ("account", "arn", "kind", "name")]
    statement: Select[Any] = (
        select(*own, reserve.c.at, *what, account.c.name, collaboration.c.name)
        .join(reserve, reserve.c.id == transfer.c.job + "/" + transfer.c.cost_type + "/reserve")
        .join(job, job.c.id == transfer.c.job)
        .join(resource, resource.c.id == job.c.resource)
        .outerjoin(account, account.c.id == transfer.c.payer)
        .outerjoin(collaboration, collaboration.c.id == transfer.c.collaboration)
        .where(
            text(CHARGES),  # to the letter as in the index
            transfer.c.month == bindparam("month"),
            *conditions,
        )
        .order_by(transfer.c.payer, transfer.c.sequence)
        .limit(bindparam("limit"))
    )
    return Statement(statement)


_behind = transfer.c.sequence > bindparam("after")
_CHARGED = {
    "": _entries(
        tuple_(transfer.c.payer, transfer.c.sequence) > tuple_(bindparam("payer"), bindparam("after"))
    ),
    "payer": _entries(transfer.c.payer == bindparam("payer"), _behind),
    "collaboration": _entries(
        transfer.c.payer == bindparam("payer"),
        transfer.c.collaboration == bindparam("collaboration"),
        _behind,
    ),
}


def charged(
    tx: Transaction, month: str, payer: str, *, collaboration: str | None = None, after: int = 0, limit: int
) -> list[Entry]:
    """What was posted and given back in a payer's month, oldest first."""
    values: dict[str, Any] = {"month": month, "payer": payer, "after": after, "limit": limit}
    if collaboration is None:
        return [_entry(row) for row in tx.tuples(_CHARGED["payer"], values)]
    values["collaboration"] = collaboration
    return [_entry(row) for row in tx.tuples(_CHARGED["collaboration"], values)]


def charged_in(tx: Transaction, month: str) -> Iterator[Entry]:
    """What was posted and given back in a month, payer by payer, a batch at a time."""
    payer, after = "", 0
    while rows := tx.tuples(_CHARGED[""], {"month": month, "payer": payer, "after": after, "limit": _BATCH}):
        for entry in map(_entry, rows):
            yield entry
        payer, after = entry.transfer.payer, entry.transfer.sequence or 0


def _entry(row: tuple[Any, ...]) -> Entry:
    return Entry(Transfer(*row[: len(_COLUMNS)]), *row[len(_COLUMNS) :])
