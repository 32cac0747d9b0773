"""A book of a million posted transfers beside one of ten thousand: does it stay as fast?

Measured: a payer's statement of a month, and a submission's reservation under a monthly and a lifetime cap
(the check, the transfer and the balances; without the fsync, which is the same for both). The payers grow
with the book; the one that is asked about has the same five collaborations in both. Medians, and their
ratio.

python -m bench.ledger

"""

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from passbox import names
from passbox.ledger import book, caps
from passbox.ledger import statements as people
from passbox.ledger.prices import COST_TYPES, MEASURES, MODEL_TRAINING, MONEY, PUBLISHED, Price
from passbox.state import transfers
from passbox.state.database import Database
from passbox.state.transfers import Transfer

SIZES = (10_000, 1_000_000)
MONTHS = [f"2026-{month:02d}" for month in range(1, 13)]
COLLABORATIONS = 5
OURS = "111111111111"
ROUNDS = 200
_BATCH = 20_000


def _posted(number: int, chance: random.Random) -> Iterator[tuple[Transfer, Transfer]]:
    """A reservation and its post, `number` times; every fifth is of the payer that is asked about."""
    for job in range(number):
        payer = OURS if job % 5 == 0 else f"{chance.randrange(number // 100):012d}"
        cost_type, month = chance.choice(COST_TYPES), chance.choice(MONTHS)
        collaboration = f"collaboration-{chance.randrange(COLLABORATIONS)}"
        price, quantity = PUBLISHED[cost_type], chance.randrange(10**7)
        reserve = Transfer(
            id=f"{job:036d}/{cost_type}/reserve",
            kind="reserve",
            debit=book.payer_account(payer, collaboration, cost_type, month),
            credit=f"room/{cost_type}/{month}",
            unit=MONEY,
            amount=price.of(quantity),
            job=f"{job:036d}",
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
            at=float(job),
        )
        yield reserve, reserve._replace(id=reserve.id[:-7] + "post", kind="post", settles=reserve.id)


def fill(database: Database, number: int) -> None:
    """Writes so many posted transfers and what they add up to, and has the book check it."""
    sums: dict[tuple[str, str], list[Transfer]] = {}
    pairs = iter(_posted(number, random.Random(number)))
    left = number
    while left:
        with database.write() as tx:
            for _ in range(min(_BATCH, left)):
                reserve, post = next(pairs)
                transfers.add(tx, reserve)
                transfers.add(tx, post)
                sums.setdefault((post.debit, post.credit), []).append(post)
                left -= 1
    with database.write() as tx:
        for posts in sums.values():
            transfers.move(
                tx,
                posts[0],
                posted=sum(post.amount for post in posts),
                quantity=sum(post.quantity for post in posts),
                charges=len(posts),
            )
    with database.read() as tx:
        assert book.check(tx) == 2 * number


def _median(work: Callable[[int], object]) -> float:
    """Microseconds of one call."""
    taken = []
    for number in range(ROUNDS):
        begin = time.perf_counter()
        work(number)
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken) * 1e6


def measure(database: Database) -> dict[str, float]:
    """Microseconds by what is done."""

    def statement(_number: int) -> None:
        with database.read() as tx:
            found = people.statement(tx, OURS, "2026-11", names.now())
        assert len(found.lines) == COLLABORATIONS * len(COST_TYPES)

    with database.write() as tx:
        for period in caps.PERIODS:
            caps.put(
                tx,
                payer=OURS,
                collaboration="collaboration-0",
                cost_type=MODEL_TRAINING,
                period=period,
                limit=10**15,
            )
    taken = {"statement of a month": _median(statement)}
    group = database.begin()
    try:
        with group.write() as tx:

            def reserve(number: int) -> None:
                book.reserve(
                    tx,
                    job=f"measured-{number}",
                    collaboration="collaboration-0",
                    payer=OURS,
                    cost_type=MODEL_TRAINING,
                    quantity=1000,
                    price=Price(10_000, 1_000),
                )

            def check(_number: int) -> None:
                caps.admit(
                    tx,
                    payer=OURS,
                    collaboration="collaboration-0",
                    cost_type=MODEL_TRAINING,
                    month="2026-11",
                    amount=1,
                )

            taken["cap check at submission"] = _median(check)
            taken["reservation under two caps"] = _median(reserve)
    finally:
        group.abandon()
    return taken


def main() -> None:
    """Prints the figures."""
    found = []
    for number in SIZES:
        with tempfile.TemporaryDirectory() as home:
            database = Database(Path(home) / "book.sqlite")
            begin = time.perf_counter()
            fill(database, number)
            size = database.path.stat().st_size / 1e6
            print(
                f"{number:,} posted transfers: written and replayed in {time.perf_counter() - begin:.0f} s, "
                f"{size:,.0f} MB"
            )
            found.append(measure(database))
            database.close()
    print(f"{'':32}{'10,000':>12}{'1,000,000':>12}{'ratio':>8}")
    for name, small in found[0].items():
        large = found[1][name]
        print(f"{name:32}{small:>9.0f} µs{large:>9.0f} µs{large / small:>7.2f}×")


if __name__ == "__main__":
    main()
