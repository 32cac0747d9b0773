"""The book under random histories: after every step it balances and follows from its transfers."""

import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from passbox.ledger import book, prices, statements
from passbox.state import transfers
from passbox.state.database import Database

PAYERS = st.sampled_from(["111111111111", "222222222222", "333333333333"])
COST_TYPES = st.sampled_from(sorted(prices.RATES))
QUANTITIES = st.integers(0, 10**12)


class Book(RuleBasedStateMachine):
    """Reserves, posts and voids in any order, and tries what must be refused."""

    open_ = Bundle("open")

    @initialize()
    def start(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.database = Database(Path(self.directory.name) / "book.sqlite")
        self.jobs = 0
        self.posted: dict[str, int] = {}
        self.settled: list[transfers.Transfer] = []

    @rule(target=open_, payer=PAYERS, cost_type=COST_TYPES, quantity=QUANTITIES)
    def reserve(self, payer: str, cost_type: str, quantity: int) -> transfers.Transfer:
        self.jobs += 1
        estimate = prices.charge(cost_type, quantity)
        with self.database.write() as tx:
            return book.reserve(
                tx,
                job=f"job-{self.jobs}",
                collaboration="c",
                payer=payer,
                cost_type=cost_type,
                estimate=estimate,
            )

    @rule(reservation=open_, quantity=QUANTITIES)
    def post(self, reservation: transfers.Transfer, quantity: int) -> None:
        measured = prices.charge(reservation.cost_type, quantity)
        if reservation in self.settled:
            with pytest.raises(book.BookError), self.database.write() as tx:
                book.post(tx, reservation, measured)
            return
        with self.database.write() as tx:
            book.post(tx, reservation, measured)
        self.posted[reservation.payer] = self.posted.get(reservation.payer, 0) + measured.amount
        self.settled.append(reservation)

    @rule(reservation=open_)
    def void(self, reservation: transfers.Transfer) -> None:
        if reservation in self.settled:
            with pytest.raises(book.BookError), self.database.write() as tx:
                book.void(tx, reservation)
            return
        with self.database.write() as tx:
            book.void(tx, reservation)
        self.settled.append(reservation)

    @rule(reservation=open_)
    def reserve_again(self, reservation: transfers.Transfer) -> None:
        estimate = prices.charge(reservation.cost_type, 1)
        with pytest.raises(book.BookError), self.database.write() as tx:
            book.reserve(
                tx,
                job=reservation.job,
                collaboration="c",
                payer=reservation.payer,
                cost_type=reservation.cost_type,
                estimate=estimate,
            )

    @rule(reservation=open_, quantity=QUANTITIES)
    def crash_in_the_middle(self, reservation: transfers.Transfer, quantity: int) -> None:
        if reservation in self.settled:
            return
        with pytest.raises(ZeroDivisionError), self.database.write() as tx:  # noqa: PT012
            book.post(tx, reservation, prices.charge(reservation.cost_type, quantity))
            raise ZeroDivisionError  # as a crash would

    @invariant()
    def balances(self) -> None:
        if not hasattr(self, "database"):
            return
        with self.database.read() as tx:
            book.check(tx)
            lines = statements.lines(transfers.all_(tx))
            reserved = {entry.id for entry in transfers.all_(tx, kind="reserve")}
            open_ = {
                entry.id
                for job in range(1, self.jobs + 1)
                for entry in book.open_reservations(tx, f"job-{job}")
            }
        assert open_ == reserved - {entry.id for entry in self.settled}
        for payer in {line.payer for line in lines}:
            posted = sum(line.posted for line in lines if line.payer == payer)
            assert posted == self.posted.get(payer, 0)

    def teardown(self) -> None:
        self.database.close()
        self.directory.cleanup()


TestBook = Book.TestCase
TestBook.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "book.sqlite")


def reserved(database: Database) -> transfers.Transfer:
    with database.write() as tx:
        return book.reserve(
            tx,
            job="j",
            collaboration="c",
            payer="111111111111",
            cost_type=prices.MODEL_TRAINING,
            estimate=prices.records(prices.MODEL_TRAINING, 10),
        )


@pytest.mark.parametrize("statement", ["UPDATE transfer SET amount = 1", "DELETE FROM transfer"])
def test_a_transfer_is_never_changed(database: Database, statement: str) -> None:
    reserved(database)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        database._connection().execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE balance SET debits_pending = debits_pending + 1",
        "UPDATE balance SET credits_posted = 5 WHERE book_account LIKE 'room/%'",
        "DELETE FROM balance WHERE book_account LIKE 'room/%'",
    ],
)
def test_a_doctored_balance_is_seen(database: Database, statement: str) -> None:
    reserved(database)
    database._connection().execute(statement)
    with pytest.raises(book.BookError), database.read() as tx:
        book.check(tx)


@pytest.mark.parametrize(
    ("charge", "amount"),
    [
        (prices.query_compute("CR.1X", 16, 60), 1_066_667),  # 32 CRPU for a minute at $2.00 an hour
        (prices.query_compute("CR.1X", 16, 0.5), 1_066_667),  # a minute at least
        (prices.query_compute("CR.4X", 2, 3600), 32_000_000),
        (prices.records(prices.MODEL_TRAINING, 1000), 10_000),
        (prices.records(prices.MODEL_TRAINING, 1), 10),
        (prices.records(prices.MODEL_INFERENCE, 1_000_000), 10_000_000),
        (prices.records(prices.MODEL_INFERENCE, 0), 0),
    ],
)
def test_charges_by_the_public_price_units(charge: prices.Charge, amount: int) -> None:
    assert charge.amount == amount
