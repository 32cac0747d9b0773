"""The book: two-phase, double entry, integers only, append-only. Knows no SQL and no clean room.

    reserve ──post──▶ posted       a job's cost, measured: exactly once
       │       └──refund──▶ nothing      what was charged came to nothing after all
       └────void────▶ nothing      the job never used anything

Money runs from `payer/ACCOUNT/COLLABORATION/COST_TYPE/MONTH` (debited) to `room/COST_TYPE/MONTH` (credited);
the month is that of the submission, also for what ends later. Uses of tables run from
`table/ASSOCIATION/GENERATION/PERIOD` to `room/access`, one at a time, and are never given back once posted.
A correction is a new transfer. Identifiers come from the job, so doing a thing twice is seen and refused.
Spend caps and access budgets are held within the transaction that reserves or posts.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from passbox import names
from passbox.errors import PassboxError
from passbox.ledger import caps
from passbox.ledger.prices import MEASURES, MONEY, Price
from passbox.state import transfers
from passbox.state.database import Transaction
from passbox.state.transfers import TALLIES, Transfer

USE = "use"  # the unit of a table's uses in the book


class BookError(PassboxError):
    """The book refuses an entry that would break it: a fault of ours, never of a caller."""


def reserve(
    tx: Transaction, *, job: str, collaboration: str, payer: str, cost_type: str, quantity: int, price: Price
) -> Transfer:
    """Holds the estimate for a job's cost type; once for each.

    quantity: estimated, in milli-units. Raises ServiceQuotaExceededException where a spend cap does not
    leave it.
    """
    at = names.now()
    month = names.month(at)
    debit = payer_account(payer, collaboration, cost_type, month)
    before = counted(tx, price, debit)
    entry = Transfer(
        id=f"{job}/{cost_type}/reserve",
        kind="reserve",
        debit=debit,
        credit=f"room/{cost_type}/{month}",
        unit=MONEY,
        amount=price.of(quantity, before),
        job=job,
        collaboration=collaboration,
        payer=payer,
        cost_type=cost_type,
        month=month,
        quantity=quantity,
        quantity_unit=MEASURES[cost_type].unit,
        price=price.micro_dollars,
        price_per=price.per,
        tier_from=price.tier_from,
        tier_price=price.tier_micro_dollars,
        counted=before,
        at=at,
    )
    caps.admit(
        tx, payer=payer, collaboration=collaboration, cost_type=cost_type, month=month, amount=entry.amount
    )
    hold(tx, entry)
    return entry


def hold(tx: Transaction, entry: Transfer) -> None:
    """Appends a reservation; whoever makes it has asked the limit that it falls under."""
    if entry.amount < 0:
        raise BookError(detail=f"{entry.id}: a negative amount")
    if not transfers.add(tx, entry):
        raise BookError(detail=f"{entry.id} is reserved already")
    transfers.move(tx, entry, pending=entry.amount)


def post(tx: Transaction, reservation: Transfer, quantity: int) -> Transfer:
    """Ends a reservation with what was measured, in milli-units, at the reservation's price. A tier of the
    price counts what the payer's month had posted by now, but never less than it had at the reservation.

    It may be more or less than the estimate, but never more than the spend caps leave: of a run that came
    dearer, the payer pays up to its cap, and the room bears the rest.
    """
    price = price_of(reservation)
    before = max(reservation.counted, counted(tx, price, reservation.debit))
    amount = price.of(quantity, before)
    left = caps.left(
        tx,
        payer=reservation.payer,
        collaboration=reservation.collaboration,
        cost_type=reservation.cost_type,
        month=reservation.month,
    )
    if left is not None:
        amount = min(amount, reservation.amount + max(0, left))
    return _post(tx, reservation._replace(counted=before), amount, quantity)


def price_of(entry: Transfer) -> Price:
    """The price that is stored with a transfer."""
    return Price(entry.price, entry.price_per, entry.tier_from, entry.tier_price)


def counted(tx: Transaction, price: Price, payer_account: str) -> int:
    """The milli-units that a price's second tier counts as before: what a payer's month has posted."""
    return 0 if price.tier_from is None else transfers.quantity(tx, payer_account, unit=MONEY)


def payer_account(payer: str, collaboration: str, cost_type: str, month: str) -> str:
    """The book account of a payer's month."""
    return f"{transfers.payer_accounts(payer, collaboration, cost_type)}/{month}"


def spend(tx: Transaction, reservation: Transfer) -> Transfer:
    """Ends a reservation with all that it holds."""
    return _post(tx, reservation, reservation.amount, reservation.quantity)


def void(tx: Transaction, reservation: Transfer) -> Transfer:
    """Ends a reservation for nothing."""
    return _settle(tx, "void", reservation, 0, 0)


def refund(tx: Transaction, job: str) -> list[Transfer]:
    """Gives back the money that was posted for a job: a new transfer the other way for each post."""
    made = []
    for entry in transfers.of_job(tx, job):
        if entry.kind == "post" and entry.unit == MONEY:
            back = entry._replace(
                id=f"{job}/{entry.cost_type}/refund",
                kind="refund",
                settles=None,
                debit=entry.credit,
                credit=entry.debit,
                at=names.now(),
                sequence=None,
            )
            if not transfers.add(tx, back):
                raise BookError(detail=f"{back.id} is given back already")
            transfers.move(tx, back, posted=back.amount, quantity=-back.quantity, charges=-1)
            made.append(back)
    return made


def open_reservations(tx: Transaction, job: str) -> list[Transfer]:
    """The reservations of a job that nothing has ended yet."""
    entries = transfers.of_job(tx, job)
    settled = {entry.settles for entry in entries}
    return [entry for entry in entries if entry.kind == "reserve" and entry.id not in settled]


def check_totals(tx: Transaction) -> None:
    """Raises BookError unless debits and credits are equal."""
    for unit, (debits_pending, debits_posted, credits_pending, credits_posted) in transfers.totals(
        tx
    ).items():
        if (debits_pending, debits_posted) != (credits_pending, credits_posted):
            raise BookError(detail=f"{unit}: debits and credits differ")


def check(tx: Transaction) -> int:
    """Replays the book: how many transfers it has. Raises BookError unless its balances, and what its prices
    counted, follow from them, and no amount is other than quantity times price (but for a post that a spend
    cap cut, which is less).
    """
    check_totals(tx)
    count = 0
    posted: Counter[str] = Counter()  # a payer's book account → milli-units posted and not given back

    def checked() -> Iterator[Transfer]:
        nonlocal count
        for entry in transfers.all_(tx):
            count += 1
            if entry.unit == USE and (entry.kind == "refund" or entry.amount != int(entry.kind != "void")):
                raise BookError(detail=f"{entry.id} is not one use of a table")
            if entry.unit == MONEY:
                _check_price(entry, posted)
            yield entry

    replayed = replay(checked())
    for row in transfers.balances(tx):
        tallies = tuple(row[name] for name in TALLIES)
        if replayed.pop((row["book_account"], row["unit"]), (0,) * 6) != tallies or min(tallies) < 0:
            raise BookError(detail=f"{row['book_account']}: the balance does not follow from the transfers")
    if replayed:
        raise BookError(detail=f"no balance for {sorted(replayed)}")
    return count


def _check_price(entry: Transfer, posted: Counter[str]) -> None:
    if entry.kind == "refund":  # of a post that was held to its price
        posted[entry.credit] -= entry.quantity
        return
    if entry.kind == "void":  # it keeps what its reservation counted
        if entry.amount:
            raise BookError(detail=f"{entry.id} is not for nothing")
        return
    price = price_of(entry)
    before = 0 if price.tier_from is None else posted[entry.debit]
    full = price.of(entry.quantity, entry.counted)
    cut = entry.kind == "post" and entry.amount < full
    if entry.amount != full and not cut:
        raise BookError(detail=f"{entry.id} is not quantity times price")
    # a post counts no less than its reservation did, also where something was given back meanwhile
    if entry.counted != before and not (entry.kind == "post" and entry.counted > before):
        raise BookError(detail=f"{entry.id} counted other than what was posted before it")
    if entry.kind == "post":
        posted[entry.debit] += entry.quantity


def replay(entries: Iterable[Transfer]) -> dict[tuple[str, str], tuple[int, ...]]:
    """(book account, unit) → the tallies, from the transfers alone, in the order of the book."""
    sums: dict[tuple[str, str], list[int]] = {}
    open_: dict[str, Transfer] = {}

    def move(entry: Transfer, amount: int, counter: int) -> None:
        sums.setdefault((entry.debit, entry.unit), [0] * 6)[counter] += amount
        sums.setdefault((entry.credit, entry.unit), [0] * 6)[counter + 2] += amount

    for entry in entries:
        if entry.kind == "reserve":
            open_[entry.id] = entry
            move(entry, entry.amount, 0)
            continue
        if entry.settles is not None:
            reservation = open_.pop(entry.settles)
            move(reservation, -reservation.amount, 0)
        move(entry, entry.amount, 1)
        charges = {"post": 1, "refund": -1}.get(entry.kind, 0)
        for account in (entry.debit, entry.credit):
            sums[account, entry.unit][4] += charges * entry.quantity
            sums[account, entry.unit][5] += charges
    return {key: tuple(row) for key, row in sums.items()}


def _post(tx: Transaction, reservation: Transfer, amount: int, quantity: int) -> Transfer:
    entry = _settle(tx, "post", reservation, amount, quantity)
    transfers.move(tx, entry, posted=amount, quantity=quantity, charges=1)
    return entry


def _settle(tx: Transaction, kind: str, reservation: Transfer, amount: int, quantity: int) -> Transfer:
    entry = reservation._replace(
        id=f"{reservation.job}/{reservation.cost_type}/{kind}",
        kind=kind,
        settles=reservation.id,
        amount=amount,
        quantity=quantity,
        at=names.now(),
        sequence=None,
    )
    if amount < 0 or quantity < 0:
        raise BookError(detail=f"{entry.id}: a negative amount")
    if not transfers.add(tx, entry):
        raise BookError(detail=f"{reservation.id} has ended already")
    transfers.move(tx, reservation, pending=-reservation.amount)
    return entry
