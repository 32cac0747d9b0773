"""Access budgets: how often a table may be used. Part of the book.

A privacy budget template of type ACCESS_BUDGET limits the uses of one table association for a calendar period
(UTC, a week begins on Sunday), for its lifetime, or for both. A use is one transfer from
`table/ASSOCIATION/GENERATION/PERIOD` to `room/access`:

    reserved   in the submission's own transaction, for every table that the work draws on or for none
    posted     as the run begins, before anything is read, and never given back
    voided     where the run never began

Each edit of the template begins a new generation: accounts of its own, in which nothing is used yet. PERIOD
is the day on which the use's period began, so a generation's accounts add up to its lifetime. A period that
is not refreshed is the one in which the generation began; once it is over, nothing is left.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from passbox import names
from passbox.errors import ValidationException
from passbox.ledger import book, epsilon
from passbox.ledger.book import USE
from passbox.ledger.prices import MILLI
from passbox.state import resources, transfers
from passbox.state.database import Transaction
from passbox.state.resources import Resource
from passbox.state.transfers import Transfer

KIND = "privacy_budget_template"
TYPE = "ACCESS_BUDGET"
LIFETIME = "LIFETIME"
EACH = {"CALENDAR_DAY": "day", "CALENDAR_WEEK": "week", "CALENDAR_MONTH": "month"}


@dataclass(frozen=True)
class Limit:
    """One of a budget's limits in the period that is now.

    type: CALENDAR_DAY, CALENDAR_WEEK, CALENDAR_MONTH or LIFETIME. start, end: seconds since the epoch, no end
    of a lifetime. refresh: ENABLED or DISABLED, None for a lifetime. remaining: uses that are left.
    """

    type: str
    budget: int
    refresh: str | None
    start: float
    end: float | None
    remaining: int


@dataclass(frozen=True)
class Budget:
    """A table's budget as it stands: one limit, or a calendar's and the lifetime's."""

    template: Resource
    limits: tuple[Limit, ...]

    @property
    def remaining(self) -> int:
        """The uses that all limits leave."""
        return min(limit.remaining for limit in self.limits)

    @property
    def account(self) -> str:
        """The book account that a use is taken from now."""
        start = next((limit for limit in self.limits if limit.end is not None), self.limits[0]).start
        return f"{_accounts(self.template)}/{_day(start)}"


def calendar(type: str, at: float) -> tuple[float, float]:
    """Start and end of the calendar period of this type that a time lies in, in seconds since the epoch."""
    day = datetime.fromtimestamp(at, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match type:
        case "CALENDAR_DAY":
            start, end = day, day + timedelta(days=1)
        case "CALENDAR_WEEK":
            start = day - timedelta(days=day.isoweekday() % 7)
            end = start + timedelta(days=7)
        case "CALENDAR_MONTH":
            start = day.replace(day=1)
            end = (start + timedelta(days=31)).replace(day=1)
        case _:
            raise LookupError(f"no calendar period {type}")
    return start.timestamp(), end.timestamp()


def of_table(tx: Transaction, association: str) -> Budget | None:
    """The budget of a table association, by its id; None where its uses are not limited."""
    for template in resources.all_under(tx, KIND, association):
        if template.status == TYPE:
            return of_template(tx, template)
    return None


def of_template(tx: Transaction, template: Resource) -> Budget:
    """The budget that a template of type ACCESS_BUDGET gives, as it stands."""
    parameters = template.body["parameters"]["accessBudget"]["budgetParameters"]
    now = names.now()
    return Budget(template, tuple(_limit(tx, template, parameter, now) for parameter in parameters))


def all_(tx: Transaction) -> list[Budget]:
    """Every budget of the room, the oldest first."""
    return [of_template(tx, template) for template in resources.find(tx, KIND, statuses=[TYPE])]


def remaining(tx: Transaction, association: str) -> int | None:
    """How often a table association, by its id, can be used now; None where that is not limited."""
    budget = of_table(tx, association)
    return None if budget is None else budget.remaining


def exhausted(tx: Transaction, association: str) -> ValidationException | None:
    """Why a table association, by its id, cannot be used now; None where it can."""
    budget = of_table(tx, association)
    return None if budget is None or budget.remaining >= 1 else _refusal(budget)


def reserve(tx: Transaction, *, job: str, collaboration: str, associations: Iterable[str]) -> None:
    """Holds one use of each table association for a job, by their ids.

    Raises ValidationException (INVALID_CONFIGURATION) where one has none left; the caller's transaction is
    to be undone then.
    """
    for association in dict.fromkeys(associations):
        refusal = exhausted(tx, association)
        if refusal is not None:
            raise refusal
        budget = of_table(tx, association)
        if budget is None:
            continue
        at = names.now()
        use = Transfer(
            id=f"{job}/access/{association}/reserve",
            kind="reserve",
            debit=budget.account,
            credit="room/access",
            unit=USE,
            amount=1,
            job=job,
            collaboration=collaboration,
            payer="",
            cost_type=f"access/{association}",
            month=names.month(at),
            quantity=MILLI,
            quantity_unit="uses",
            price=0,
            price_per=1,
            at=at,
        )
        book.hold(tx, use)


def spend(tx: Transaction, job: str) -> None:
    """Posts the uses and the epsilon that a job holds, for good: it begins, and nothing shows how far it then
    reads.
    """
    for reservation in book.open_reservations(tx, job):
        if reservation.unit in (USE, epsilon.UNIT):
            book.spend(tx, reservation)


def _accounts(template: Resource) -> str:
    return f"table/{template.parent}/{template.body['generation']}"


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


def _limit(tx: Transaction, template: Resource, parameter: Mapping[str, Any], now: float) -> Limit:
    type, budget, since = parameter["type"], parameter["budget"], template.body["since"]
    if type == LIFETIME:
        used = sum(transfers.spent(tx, _accounts(template), period=None, unit=USE))
        return Limit(type, budget, None, since, None, max(0, budget - used))
    refresh = parameter["autoRefresh"]
    start, end = calendar(type, now if refresh == "ENABLED" else since)
    used = sum(transfers.spent(tx, _accounts(template), period=_day(start), unit=USE))
    return Limit(type, budget, refresh, start, end, max(0, budget - used) if now < end else 0)


def _refusal(budget: Budget) -> ValidationException:
    template = budget.template
    # where both are used up, the lifetime: waiting does not help
    limit = min(budget.limits, key=lambda one: (one.remaining, one.type != LIFETIME))
    table, owner = template.body["table"], template.account
    if limit.type == LIFETIME:
        allowed, later = f"{limit.budget} in all", ""
    elif limit.refresh == "ENABLED" and limit.end is not None:
        allowed, later = f"{limit.budget} a {EACH[limit.type]}", f"Wait until {_day(limit.end)} (UTC), or "
    else:
        allowed, later = f"{limit.budget} for one {EACH[limit.type]}, which is not refreshed", ""
    ask = f"{'ask' if later else 'Ask'} its owner {owner} for more (UpdatePrivacyBudgetTemplate)."
    return ValidationException(
        f"The table {table} has no use left: its access budget is {allowed}. {later}{ask}",
        reason="INVALID_CONFIGURATION",
    )
