"""What the book says to people: who paid for what, from the transfers alone."""

from collections.abc import Iterable
from dataclasses import dataclass

from passbox.state.transfers import Transfer


@dataclass(frozen=True)
class Line:
    """One payer's charges for one cost type in one collaboration.

    posted, reserved: micro-dollars; quantity: thousandths of unit, posted only; jobs: how many were charged.
    What was refunded is in none of them.
    """

    collaboration: str
    payer: str
    cost_type: str
    jobs: int
    quantity: int
    unit: str
    posted: int
    reserved: int


def lines(transfers: Iterable[Transfer]) -> list[Line]:
    """A line for each collaboration, payer and cost type."""
    entries = list(transfers)
    ended = {entry.settles for entry in entries if entry.settles is not None}
    groups: dict[tuple[str, str, str], list[Transfer]] = {}
    for entry in entries:
        groups.setdefault((entry.collaboration, entry.payer, entry.cost_type), []).append(entry)
    found = []
    for (collaboration, payer, cost_type), group in sorted(groups.items()):
        refunded = {entry.job for entry in group if entry.kind == "refund"}
        posted = [entry for entry in group if entry.kind == "post" and entry.job not in refunded]
        open_ = [entry for entry in group if entry.kind == "reserve" and entry.id not in ended]
        found.append(
            Line(
                collaboration=collaboration,
                payer=payer,
                cost_type=cost_type,
                jobs=len({entry.job for entry in posted}),
                quantity=sum(entry.quantity for entry in posted),
                unit=group[0].quantity_unit,
                posted=sum(entry.amount for entry in posted),
                reserved=sum(entry.amount for entry in open_),
            )
        )
    return found


def dollars(micro: int) -> str:
    """Micro-dollars as people write them, to the last digit."""
    return f"${micro / 1_000_000:,.6f}"
