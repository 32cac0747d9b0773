"""The book under random histories: after every step it balances, follows from its transfers, and keeps every
spend cap and every access budget.
"""

import contextlib
import math
import sqlite3
import tempfile
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from passbox import names
from passbox.errors import Misconfigured, ServiceQuotaExceededException, ValidationException
from passbox.ledger import book, budgets, caps, prices, statements
from passbox.ledger.prices import MILLI, PUBLISHED, Price, RateCard, read_rates
from passbox.state import resources, transfers
from passbox.state.database import Database
from passbox.state.resources import Resource

PAYERS = st.sampled_from(["111111111111", "222222222222"])
COST_TYPES = st.sampled_from([prices.QUERY_COMPUTE, prices.MODEL_INFERENCE])  # with one tier, with two
QUANTITIES = st.integers(0, 10**12)
LIMITS = st.integers(0, 10**9)
PERIODS = st.sampled_from(caps.PERIODS)
TABLES = ("visits", "more")
USES = st.one_of(st.none(), st.integers(0, 3))
OCTOBER, NOVEMBER = 1_793_000_000.0, 1_794_000_000.0  # seconds since the epoch, in 2026


class Book(RuleBasedStateMachine):
    """Reserves, posts, voids, gives back, caps and turns the page of the month in any order, and tries what
    must be refused.
    """

    open_ = Bundle("open")

    @initialize()
    def start(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.database = Database(Path(self.directory.name) / "book.sqlite")
        self.patch = pytest.MonkeyPatch()
        self.now = OCTOBER
        self.patch.setattr(names, "now", lambda: self.now)
        self.jobs = 0
        self.owed: dict[tuple[str, str, str], int] = {}  # payer, cost type, month → posted less given back
        self.held: dict[str, transfers.Transfer] = {}
        self.settled: dict[str, int] = {}
        self.measured: dict[tuple[str, str, str], int] = {}  # by the same key, what owed was charged for
        self.quantity: dict[str, int] = {}  # of a job that was charged
        self.counted: dict[str, int] = {}  # measured, when a reservation was made
        self.limits: dict[tuple[str, str, str], int] = {}

    def spent(self, payer: str, cost_type: str, month: str | None) -> int:
        """What the model says a payer has spent and reserved in a month, or in all."""
        owed = [
            amount
            for (who, what, when), amount in self.owed.items()
            if (who, what) == (payer, cost_type) and month in (None, when)
        ]
        held = [
            one.amount
            for one in self.held.values()
            if (one.payer, one.cost_type) == (payer, cost_type) and month in (None, one.month)
        ]
        return sum(owed) + sum(held)

    def cost(self, payer: str, cost_type: str, month: str, quantity: int, least: int = 0) -> int:
        """Micro-dollars as the public prices say it: inference is $10 a million up to 1,000 million a month
        and $0.20 above. least: what is counted before it at least.
        """
        if cost_type == prices.QUERY_COMPUTE:
            return math.ceil(Fraction(quantity * 2_000_000, 3_600_000))
        before = max(least, self.measured.get((payer, cost_type, month), 0))
        below, above = (
            max(0, min(top, before + quantity) - max(bottom, before))
            for bottom, top in ((0, 10**12), (10**12, 10**30))
        )
        return math.ceil(Fraction(below, 100) + Fraction(above, 5_000))

    def left(self, payer: str, cost_type: str, month: str) -> int:
        found = [10**30]
        for period in caps.PERIODS:
            limit = self.limits.get((payer, cost_type, period))
            if limit is not None:
                found.append(limit - self.spent(payer, cost_type, month if period == "MONTH" else None))
        return min(found)

    @rule()
    def month_turns(self) -> None:
        self.now = NOVEMBER

    @rule(payer=PAYERS, cost_type=COST_TYPES, period=PERIODS, limit=LIMITS)
    def cap(self, payer: str, cost_type: str, period: str, limit: int) -> None:
        with self.database.write() as tx:
            standing = caps.put(
                tx, payer=payer, collaboration="c", cost_type=cost_type, period=period, limit=limit
            )
        self.limits[payer, cost_type, period] = limit
        month = names.month(self.now) if period == "MONTH" else None
        assert standing.left == limit - self.spent(payer, cost_type, month)

    @rule(payer=PAYERS, cost_type=COST_TYPES, period=PERIODS)
    def lift(self, payer: str, cost_type: str, period: str) -> None:
        with self.database.write() as tx:
            found = caps.remove(tx, payer=payer, collaboration="c", cost_type=cost_type, period=period)
        assert found == (self.limits.pop((payer, cost_type, period), None) is not None)

    @rule(target=open_, payer=PAYERS, cost_type=COST_TYPES, quantity=QUANTITIES)
    def reserve(self, payer: str, cost_type: str, quantity: int) -> transfers.Transfer | None:
        self.jobs += 1
        job = f"job-{self.jobs}"
        amount = self.cost(payer, cost_type, names.month(self.now), quantity)

        def submit() -> transfers.Transfer:
            with self.database.write() as tx:
                return book.reserve(
                    tx,
                    job=job,
                    collaboration="c",
                    payer=payer,
                    cost_type=cost_type,
                    quantity=quantity,
                    price=PUBLISHED[cost_type],
                )

        if amount > self.left(payer, cost_type, names.month(self.now)):
            with pytest.raises(ServiceQuotaExceededException, match="lets this collaboration spend"):
                submit()
            return None
        entry = submit()
        self.held[entry.id] = entry
        self.counted[entry.id] = self.measured.get((payer, cost_type, names.month(self.now)), 0)
        return entry

    @rule(reservation=open_, quantity=QUANTITIES)
    def post(self, reservation: transfers.Transfer | None, quantity: int) -> None:
        if reservation is None:
            return
        if reservation.id not in self.held:
            with pytest.raises(book.BookError), self.database.write() as tx:
                book.post(tx, reservation, quantity)
            return
        key = reservation.payer, reservation.cost_type, reservation.month
        least = self.counted[reservation.id]
        full = self.cost(*key, quantity, least)
        expected = min(full, reservation.amount + max(0, self.left(*key)))
        with self.database.write() as tx:
            assert book.post(tx, reservation, quantity).amount == expected
        del self.held[reservation.id]
        self.owed[key] = self.owed.get(key, 0) + expected
        self.settled[reservation.job] = expected
        self.measured[key] = self.measured.get(key, 0) + quantity
        self.quantity[reservation.job] = quantity

    @rule(reservation=open_)
    def give_back(self, reservation: transfers.Transfer | None) -> None:
        if reservation is None:
            return
        amount = self.settled.pop(reservation.job, None)
        with self.database.write() as tx:
            if amount is None:
                entries = transfers.of_job(tx, reservation.job)
                if any(entry.kind == "refund" for entry in entries):
                    with pytest.raises(book.BookError):
                        book.refund(tx, reservation.job)
                else:
                    assert book.refund(tx, reservation.job) == []
                return
            [back] = book.refund(tx, reservation.job)
        assert back.amount == amount
        key = reservation.payer, reservation.cost_type, reservation.month
        self.owed[key] -= amount
        self.measured[key] -= self.quantity[reservation.job]

    @rule(reservation=open_)
    def void(self, reservation: transfers.Transfer | None) -> None:
        if reservation is None:
            return
        if reservation.id not in self.held:
            with pytest.raises(book.BookError), self.database.write() as tx:
                book.void(tx, reservation)
            return
        with self.database.write() as tx:
            book.void(tx, reservation)
        del self.held[reservation.id]

    @rule(reservation=open_)
    def reserve_again(self, reservation: transfers.Transfer | None) -> None:
        if reservation is None:
            return
        # where a cap is overdrawn, the cap refuses before the book does
        with pytest.raises((book.BookError, ServiceQuotaExceededException)), self.database.write() as tx:
            book.reserve(
                tx,
                job=reservation.job,
                collaboration="c",
                payer=reservation.payer,
                cost_type=reservation.cost_type,
                quantity=0,
                price=PUBLISHED[reservation.cost_type],
            )

    @rule(reservation=open_, quantity=QUANTITIES)
    def crash_in_the_middle(self, reservation: transfers.Transfer | None, quantity: int) -> None:
        if reservation is None or reservation.id not in self.held:
            return
        with pytest.raises(ZeroDivisionError), self.database.write() as tx:  # noqa: PT012
            book.post(tx, reservation, quantity)
            raise ZeroDivisionError  # as a crash would

    @invariant()
    def balances(self) -> None:
        if not hasattr(self, "database"):
            return
        with self.database.read() as tx:
            book.check(tx)
            lines = statements.lines(tx)
            open_ = {
                entry.id
                for job in range(1, self.jobs + 1)
                for entry in book.open_reservations(tx, f"job-{job}")
            }
            for line in lines:
                assert line in statements.statement(tx, line.payer, line.month, self.now).lines
        assert open_ == set(self.held)
        for line in lines:
            key = line.payer, line.cost_type, line.month
            assert line.posted == self.owed.get(key, 0)
            assert line.posted + line.reserved == self.spent(*key)
        assert sum(line.posted for line in lines) == sum(self.owed.values())

    def teardown(self) -> None:
        self.patch.undo()
        self.database.close()
        self.directory.cleanup()


def template(table: str, lifetime: int | None, monthly: int | None, generation: str) -> Resource:
    """A privacy budget template as the operations write it; at least one limit is given."""
    limits = [
        *(
            []
            if monthly is None
            else [{"type": "CALENDAR_MONTH", "budget": monthly, "autoRefresh": "ENABLED"}]
        ),
        *([] if lifetime is None else [{"type": "LIFETIME", "budget": lifetime}]),
    ]
    now = names.now()
    return Resource(
        kind=budgets.KIND,
        id=f"budget-{table}-{generation}",
        arn=f"arn:{table}",
        account="333333333333",
        parent=table,
        status=budgets.TYPE,
        created=now,
        updated=now,
        body={
            "table": table,
            "parameters": {"accessBudget": {"budgetParameters": limits}},
            "generation": generation,
            "since": now,
        },
    )


class BookOfUses(Book):
    """And uses tables between: limits them, edits the limits, begins work or calls it off, in any order."""

    works = Bundle("works")

    @initialize()
    def start(self) -> None:
        super().start()
        # table → its lifetime and monthly limits, its generation
        self.limited: dict[str, tuple[int | None, int | None, str]] = {}
        # (work, table) → the generation and month that hold its use
        self.taken: dict[tuple[str, str], tuple[str, str]] = {}
        self.begun: set[str] = set()
        self.generations = self.worked = 0

    def room_for(self, table: str) -> int | None:
        """The uses that the model says are left."""
        if table not in self.limited:
            return None
        lifetime, monthly, generation = self.limited[table]
        mine = [
            month for (_, which), (when, month) in self.taken.items() if (which, when) == (table, generation)
        ]
        left = [] if lifetime is None else [lifetime - len(mine)]
        left += [] if monthly is None else [monthly - mine.count(names.month(self.now))]
        return min(left)

    @rule(table=st.sampled_from(TABLES), lifetime=USES, monthly=USES)
    def limit(self, table: str, lifetime: int | None, monthly: int | None) -> None:
        self.generations += 1
        generation = f"g{self.generations}"
        with self.database.write() as tx:
            found = resources.first(tx, budgets.KIND, parent=table)
            if lifetime is None and monthly is None:
                if found is not None:
                    resources.remove(tx, found)
                self.limited.pop(table, None)
                return
            row = template(table, lifetime, monthly, generation)
            if found is None:
                resources.add(tx, row)
            else:
                resources.change(tx, found, body=row.body)
        self.limited[table] = lifetime, monthly, generation

    @rule(target=works, tables=st.lists(st.sampled_from(TABLES), max_size=3))
    def use(self, tables: list[str]) -> str:
        self.worked += 1
        work = f"work-{self.worked}"
        exhausted = [table for table in tables if self.room_for(table) == 0]
        refused = pytest.raises(ValidationException, match="has no use left")
        with refused if exhausted else contextlib.nullcontext(), self.database.write() as tx:
            budgets.reserve(tx, job=work, collaboration="c", associations=tables)
        if not exhausted:
            for table in tables:
                if table in self.limited:
                    self.taken[work, table] = self.limited[table][2], names.month(self.now)
        return work

    @rule(work=works)
    def begin(self, work: str) -> None:
        with self.database.write() as tx:
            budgets.spend(tx, work)
        self.begun.add(work)

    @rule(work=works)
    def end_for_nothing(self, work: str) -> None:
        """What a worker does with work that is called off or fails: uses come back if it never began."""
        with self.database.write() as tx:
            for reservation in book.open_reservations(tx, work):
                book.void(tx, reservation)
            assert book.refund(tx, work) == []
        if work not in self.begun:
            self.taken = {key: value for key, value in self.taken.items() if key[0] != work}

    @invariant()
    def budgets_hold(self) -> None:
        if not hasattr(self, "limited"):
            return
        with self.database.read() as tx:
            for table in TABLES:
                left = budgets.remaining(tx, table)
                assert left == self.room_for(table)
                assert left is None or left >= 0


TestBook = BookOfUses.TestCase
TestBook.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)


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
            quantity=10 * MILLI,
            price=PUBLISHED[prices.MODEL_TRAINING],
        )


@pytest.mark.parametrize("statement", ["UPDATE transfer SET amount = 1", "DELETE FROM transfer"])
def test_a_transfer_is_never_changed(database: Database, statement: str) -> None:
    reserved(database)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        database._connection().execute(statement)


@pytest.mark.parametrize("amount", [0, 2])
def test_what_is_not_one_use_is_seen(database: Database, amount: int) -> None:
    with database.write() as tx:
        resources.add(tx, template("visits", 5, None, "g"))
        budgets.reserve(tx, job="j", collaboration="c", associations=["visits"])
        book.check(tx)
        [use] = transfers.of_job(tx, "j")
        book.hold(tx, use._replace(id="j/other", amount=amount, sequence=None))
        with pytest.raises(book.BookError):
            book.check(tx)


def test_a_use_that_was_given_back_is_seen(database: Database) -> None:
    with database.write() as tx:
        resources.add(tx, template("visits", 5, None, "g"))
        budgets.reserve(tx, job="j", collaboration="c", associations=["visits"])
        budgets.spend(tx, "j")
        book.check(tx)
        use = transfers.of_job(tx, "j")[-1]
        back = use._replace(
            id="j/back", kind="refund", settles=None, debit=use.credit, credit=use.debit, sequence=None
        )
        transfers.add(tx, back)
        transfers.move(tx, back, posted=1, quantity=-back.quantity, charges=-1)
        with pytest.raises(book.BookError) as caught:
            book.check(tx)
    assert caught.value.detail == "j/back is not one use of a table"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE balance SET debits_pending = debits_pending + 1",
        "UPDATE balance SET credits_posted = 5 WHERE book_account LIKE 'room/%'",
        "UPDATE balance SET quantity = 5",
        "UPDATE balance SET charges = charges + 1",
        "DELETE FROM balance WHERE book_account LIKE 'room/%'",
    ],
)
def test_a_doctored_balance_is_seen(database: Database, statement: str) -> None:
    reserved(database)
    database._connection().execute(statement)
    with pytest.raises(book.BookError), database.read() as tx:
        book.check(tx)


def test_what_a_tier_counted_follows_whatever_ends_first(database: Database) -> None:
    for end in (book.void, lambda tx, one: book.post(tx, one, MILLI)):
        with database.write() as tx:
            first, second = (
                book.reserve(
                    tx,
                    job=names.new_job_id(),
                    collaboration="c",
                    payer="p",
                    cost_type=prices.MODEL_INFERENCE,
                    quantity=10**12,
                    price=PUBLISHED[prices.MODEL_INFERENCE],
                )
                for _ in range(2)
            )
            book.post(tx, first, 10**12)
            end(tx, second)
            assert book.check(tx)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("price = price + 1", "is not quantity times price"),
        ("quantity = quantity - 1000", "is not quantity times price"),
        ("tier_from = 1, tier_price = 0", "is not quantity times price"),
        ("counted = 1", "counted other than"),
    ],
)
def test_a_price_that_was_changed_afterwards_is_seen(database: Database, change: str, words: str) -> None:
    reserved(database)
    database._connection().execute("DROP TRIGGER transfer_never_updated")
    database._connection().execute(f"UPDATE transfer SET {change}")
    with pytest.raises(book.BookError) as caught, database.read() as tx:
        book.check(tx)
    assert words in str(caught.value.detail)


@pytest.mark.parametrize(
    ("cost_type", "quantity", "amount"),
    [
        # 32 CRPU for a minute at $2.00 an hour
        (prices.QUERY_COMPUTE, prices.crpu_milliseconds("CR.1X", 16, 60), 1_066_667),
        (prices.QUERY_COMPUTE, prices.crpu_milliseconds("CR.1X", 16, 0.5), 1_066_667),  # a minute at least
        (prices.QUERY_COMPUTE, prices.crpu_milliseconds("CR.4X", 2, 3600), 32_000_000),
        (prices.MODEL_TRAINING, 1000 * MILLI, 10_000),
        (prices.MODEL_TRAINING, 1 * MILLI, 10),
        (prices.MODEL_INFERENCE, 1_000_000 * MILLI, 10_000_000),
        (prices.MODEL_INFERENCE, 1_001_000_000 * MILLI, 10_000_200_000),
        (prices.MODEL_INFERENCE, 0, 0),
        (prices.SYNTHETIC_DATA, 1500, 3_000_000),
    ],
)
def test_charges_by_the_public_price_units(cost_type: str, quantity: int, amount: int) -> None:
    assert RateCard().price(cost_type, NOVEMBER).of(quantity) == amount


def test_a_rate_holds_from_its_day_on() -> None:
    card = read_rates(
        {
            "rates": [
                {"effective": date(2026, 11, 1), "modelTraining": Decimal("0.02"), "queryCompute": 3},
                {"effective": date(2026, 12, 1), "modelTraining": 0},
            ]
        },
        "rates.toml",
    )
    two = [3, {"above": 5, "price": Decimal("0.5")}]
    written = {"rates": [{"effective": date(2026, 11, 1), "queryCompute": two}]}
    tier = read_rates(written, "rates.toml").rates[-1]
    assert tier.price == Price(3_000_000, 3_600, tier_from=18_000, tier_micro_dollars=500_000)
    assert tier.price.of(4 * 3_600 * MILLI, counted=3 * 3_600 * MILLI) == 2 * 3_000_000 + 2 * 500_000
    november = 1_793_491_200.0  # 2026-11-01 00:00 UTC
    assert card.price(prices.MODEL_TRAINING, november - 0.001) == Price(10_000, 1_000)
    assert card.price(prices.MODEL_TRAINING, november) == Price(20_000, 1_000)
    assert card.price(prices.QUERY_COMPUTE, november + 40 * 86_400) == Price(3_000_000, 3_600)
    assert card.price(prices.MODEL_TRAINING, november + 30 * 86_400) == Price(0, 1_000)
    assert [rate.effective.isoformat() for rate in card.listing(november)] == [
        "2026-11-01", "0001-01-01", "2026-11-01", "2026-12-01", "0001-01-01", "0001-01-01",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"prices": []}, "[[rates]] tables and nothing else"),
        ({"rates": {"queryCompute": 1}}, "[[rates]] tables and nothing else"),
        ({"rates": [{"queryCompute": 1}]}, "need a day"),
        ({"rates": [{"effective": "2026-11-01"}]}, "need a day"),
        ({"rates": [{"effective": date(2026, 11, 1), "storage": 1}]}, "no cost type storage"),
        ({"rates": [{"effective": date(2026, 11, 1), "queryCompute": "2"}]}, "number of dollars"),
        ({"rates": [{"effective": date(2026, 11, 1), "queryCompute": True}]}, "number of dollars"),
        ({"rates": [{"effective": date(2026, 11, 1), "queryCompute": -1}]}, "0 to 1,000,000 dollars"),
        ({"rates": [{"effective": date(2026, 11, 1), "queryCompute": Decimal("0.0000001")}]}, "six decimals"),
        ({"rates": [{"effective": date(2026, 11, 1), "queryCompute": Decimal("NaN")}]}, "six decimals"),
        ({"rates": [{"effective": date(2026, 11, 1), "queryCompute": Decimal("1e999999")}]}, "six decimals"),
        (
            {"rates": [{"effective": date(2026, 11, 1), "queryCompute": Decimal("1." + "0" * 40 + "1")}]},
            "six",
        ),
        *(
            ({"rates": [{"effective": date(2026, 11, 1), "modelInference": price}]}, words)
            for price, words in (
                ([], "two prices are written"),
                ([1], "two prices are written"),
                ([1, 2], "two prices are written"),
                ([1, {"above": 1}], "two prices are written"),
                ([1, {"above": 0, "price": 1}], "whole number"),
                ([1, {"above": Decimal("1.5"), "price": 1}], "whole number"),
                ([1, {"above": 10**10, "price": 1}], "whole number"),
                ([1, {"above": 1, "price": 2}], "must not be above the first"),
                (["x", {"above": 1, "price": 2}], "number of dollars"),
                ([3, {"above": 1, "price": -1}], "0 to 1,000,000 dollars"),
            )
        ),
        ({"rates": ["x"]}, "[[rates]] tables and nothing else"),
        ({"rates": [{"effective": date(2026, 11, 1)}, {"effective": date(2026, 11, 1)}]}, "two rates tables"),
    ],
)
def test_a_wrong_rate_card_is_refused(document: dict[str, object], words: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        read_rates(document, "rates.toml")
    assert words in refused.value.message
    assert refused.value.message.startswith("rates.toml: ")
