"""The book: two-phase, double entry, integers only, append-only. Knows no SQL and no clean room.

    reserve ──post──▶ posted       a job's cost, measured: exactly once
       │       └──refund──▶ nothing      what was charged came to nothing after all
       └────void────▶ nothing      the job never used anything

Money runs from `payer/ACCOUNT/COLLABORATION/COST_TYPE` (debited) to `room/COST_TYPE` (credited). A correction
is a new transfer. Identifiers come from the job, so doing a thing twice is seen and refused.
"""

from collections.abc import Iterable
from dataclasses import replace

from passbox import names
from passbox.errors import PassboxError
from passbox.ledger.prices import Charge
from passbox.state import transfers
from passbox.state.database import Transaction
from passbox.state.transfers import Transfer

MONEY = "usd_micro"


class BookError(PassboxError):
    """The book refuses an entry that would break it: a fault of ours, never of a caller."""


def reserve(
    tx: Transaction, *, job: str, collaboration: str, payer: str, cost_type: str, estimate: Charge
) -> Transfer:
    """Holds the estimate for a job's cost type; once for each."""
    entry = _transfer("reserve", job, collaboration, payer, cost_type, estimate)
    if not transfers.add(tx, entry):
        raise BookError(detail=f"{entry.id} is reserved already")
    transfers.move(tx, entry, pending=entry.amount)
    return entry


def post(tx: Transaction, reservation: Transfer, measured: Charge) -> Transfer:
    """Ends a reservation with what was measured. May be more or less than the estimate."""
    entry = _settle(tx, "post", reservation, measured)
    transfers.move(tx, entry, posted=entry.amount)
    return entry


def void(tx: Transaction, reservation: Transfer) -> Transfer:
    """Ends a reservation for nothing."""
    nothing = Charge(0, 0, reservation.quantity_unit, reservation.price, reservation.price_per)
    return _settle(tx, "void", reservation, nothing)


def refund(tx: Transaction, job: str) -> list[Transfer]:
    """Gives back everything that was posted for a job: a new transfer the other way for each post."""
    made = []
    for entry in transfers.of_job(tx, job):
        if entry.kind == "post":
            back = replace(
                entry,
                id=f"{job}/{entry.cost_type}/refund",
                kind="refund",
                settles=None,
                debit=entry.credit,
                credit=entry.debit,
                at=names.now(),
            )
            if not transfers.add(tx, back):
                raise BookError(detail=f"{back.id} is given back already")
            transfers.move(tx, back, posted=back.amount)
            made.append(back)
    return made


def open_reservations(tx: Transaction, job: str) -> list[Transfer]:
    """The reservations of a job that nothing has ended yet."""
    entries = transfers.of_job(tx, job)
    settled = {entry.settles for entry in entries}
    return [entry for entry in entries if entry.kind == "reserve" and entry.id not in settled]


def check(tx: Transaction) -> None:
    """Raises BookError unless the book balances and its balances follow from its transfers."""
    for unit, (debits_pending, debits_posted, credits_pending, credits_posted) in transfers.totals(
        tx
    ).items():
        if (debits_pending, debits_posted) != (credits_pending, credits_posted):
            raise BookError(detail=f"{unit}: debits and credits differ")
    replayed = replay(transfers.all_(tx))
    for row in transfers.balances(tx):
        counters = tuple(row[name] for name in transfers.COUNTERS)
        if replayed.pop((row["book_account"], row["unit"]), (0, 0, 0, 0)) != counters or min(counters) < 0:
            raise BookError(detail=f"{row['book_account']}: the balance does not follow from the transfers")
    if replayed:
        raise BookError(detail=f"no balance for {sorted(replayed)}")


def replay(entries: Iterable[Transfer]) -> dict[tuple[str, str], tuple[int, int, int, int]]:
    """(book account, unit) → the four counters, from the transfers alone."""
    sums: dict[tuple[str, str], list[int]] = {}
    open_: dict[str, Transfer] = {}

    def move(entry: Transfer, amount: int, debit_counter: int) -> None:
        sums.setdefault((entry.debit, entry.unit), [0, 0, 0, 0])[debit_counter] += amount
        sums.setdefault((entry.credit, entry.unit), [0, 0, 0, 0])[debit_counter + 2] += amount

    for entry in sorted(entries, key=lambda entry: (entry.at, entry.kind != "reserve", entry.id)):
        if entry.kind == "reserve":
            open_[entry.id] = entry
            move(entry, entry.amount, 0)
            continue
        if entry.settles is not None:
            reservation = open_.pop(entry.settles)
            move(reservation, -reservation.amount, 0)
        move(entry, entry.amount, 1)
    return {key: (row[0], row[1], row[2], row[3]) for key, row in sums.items()}


def _settle(tx: Transaction, kind: str, reservation: Transfer, charge: Charge) -> Transfer:
    entry = _transfer(
        kind, reservation.job, reservation.collaboration, reservation.payer, reservation.cost_type, charge,
        settles=reservation.id,
    )  # fmt: skip
    if not transfers.add(tx, entry):
        raise BookError(detail=f"{reservation.id} has ended already")
    transfers.move(tx, reservation, pending=-reservation.amount)
    return entry


def _transfer(
    kind: str,
    job: str,
    collaboration: str,
    payer: str,
    cost_type: str,
    charge: Charge,
    settles: str | None = None,
) -> Transfer:
    if charge.amount < 0:
        raise BookError(detail=f"{job}: a negative amount")
    return Transfer(
        id=f"{job}/{cost_type}/{kind}",
        kind=kind,
        settles=settles,
        debit=f"payer/{payer}/{collaboration}/{cost_type}",
        credit=f"room/{cost_type}",
        unit=MONEY,
        amount=charge.amount,
        job=job,
        collaboration=collaboration,
        payer=payer,
        cost_type=cost_type,
        quantity=charge.quantity,
        quantity_unit=charge.unit,
        price=charge.price,
        price_per=charge.price_per,
        at=names.now(),
    )
