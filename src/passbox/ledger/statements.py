"""What the book says to people: who paid for what.

A statement is read from the balances, so it costs the same however many transfers are behind it; charges
are the transfers themselves, one by one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from passbox import names
from passbox.ledger import book
from passbox.ledger.prices import MEASURES, MONEY, Price
from passbox.state import transfers
from passbox.state.database import Transaction
from passbox.state.transfers import Entry


@dataclass(frozen=True)
class Line:
    """One payer's month in one collaboration, for one cost type.

    jobs, quantity (thousandths of unit): charged and not given back. charged, refunded, reserved:
    micro-dollars.
    """

    collaboration: str
    payer: str
    cost_type: str
    month: str
    jobs: int
    quantity: int
    unit: str
    charged: int
    refunded: int
    reserved: int

    @property
    def posted(self) -> int:
        """What the payer owes: charged and not given back, in micro-dollars."""
        return self.charged - self.refunded


@dataclass(frozen=True)
class Statement:
    """A payer's month. final: the month is over, and nothing submitted in it is still under way."""

    payer: str
    month: str
    lines: list[Line]
    final: bool

    @property
    def charged(self) -> int:
        return sum(line.charged for line in self.lines)

    @property
    def refunded(self) -> int:
        return sum(line.refunded for line in self.lines)

    @property
    def posted(self) -> int:
        return sum(line.posted for line in self.lines)

    @property
    def reserved(self) -> int:
        return sum(line.reserved for line in self.lines)


@dataclass(frozen=True)
class Charge:
    """One posted transfer, or one that gave it back, as its payer may see it.

    amount: signed micro-dollars, negative for a REFUND; it is less than quantity × price where a spend cap
    cut it. quantity: thousandths of unit; counted: those of the payer's month before it, which a second
    tier of the price counts. started: the submission; at: the posting; seconds since the epoch.
    """

    id: str
    sequence: int
    kind: str
    month: str
    payer: str
    payer_name: str
    submitter: str
    collaboration: str
    collaboration_name: str
    cost_type: str
    job: str
    resource_arn: str
    resource_name: str
    resource_kind: str
    quantity: int
    unit: str
    price: Price
    counted: int
    amount: int
    started: float
    at: float


def lines(tx: Transaction, *, payer: str | None = None, month: str = "") -> list[Line]:
    """A line for each month, collaboration, payer and cost type; of all payers, or of one payer's month."""
    found = []
    for row in transfers.balances(tx, payer=payer, month=month):
        if row["payer"] is None or row["unit"] != MONEY:
            continue
        _, account, collaboration, cost_type, its_month = row["book_account"].split("/")
        found.append(
            Line(
                collaboration=collaboration,
                payer=account,
                cost_type=cost_type,
                month=its_month,
                jobs=row["charges"],
                quantity=row["quantity"],
                unit=MEASURES[cost_type].unit,
                charged=row["debits_posted"],
                refunded=row["credits_posted"],
                reserved=row["debits_pending"],
            )
        )
    return sorted(found, key=lambda line: (line.month, line.collaboration, line.payer, line.cost_type))


def statement(tx: Transaction, payer: str, month: str, now: float) -> Statement:
    """A payer's month as it stands."""
    found = lines(tx, payer=payer, month=month)
    over = month < names.month(now)
    return Statement(payer, month, found, final=over and not any(line.reserved for line in found))


def charges(
    tx: Transaction, payer: str, month: str, *, collaboration: str | None = None, after: int = 0, limit: int
) -> list[Charge]:
    """A payer's charges and refunds of a month in the order of the book; after: the last sequence seen."""
    found = transfers.charged(tx, month, payer, collaboration=collaboration, after=after, limit=limit)
    return [_charge(entry) for entry in found]


def all_charges(tx: Transaction, month: str) -> Iterator[Charge]:
    """Every payer's charges and refunds of a month, payer by payer."""
    return map(_charge, transfers.charged_in(tx, month))


def _charge(entry: Entry) -> Charge:
    transfer = entry.transfer
    refund = transfer.kind == "refund"
    return Charge(
        id=transfer.id,
        sequence=transfer.sequence or 0,
        kind="REFUND" if refund else "CHARGE",
        month=transfer.month,
        payer=transfer.payer,
        payer_name=entry.payer_name or transfer.payer,
        submitter=entry.submitter,
        collaboration=transfer.collaboration,
        collaboration_name=entry.collaboration_name or transfer.collaboration,
        cost_type=transfer.cost_type,
        job=transfer.job,
        resource_arn=entry.arn,
        resource_name=entry.name or "",
        resource_kind=entry.kind,
        quantity=transfer.quantity,
        unit=transfer.quantity_unit,
        price=book.price_of(transfer),
        counted=transfer.counted,
        amount=-transfer.amount if refund else transfer.amount,
        started=entry.submitted,
        at=transfer.at,
    )
