"""The privacy budget of a collaboration under differential privacy: millionths of epsilon. Part of the book.

A privacy budget template of type DIFFERENTIAL_PRIVACY gives all members' protected tables of a
collaboration one budget. What a query costs is one transfer from `privacy/COLLABORATION/MONTH` to
`room/privacy`: reserved in the submission's own transaction, posted before the query reads anything, never
given back. Its month is that of the submission. With autoRefresh CALENDAR_MONTH only the month's transfers
count, with NONE all that the collaboration ever spent, also under a template that was deleted or changed
since.
"""

import math
from dataclasses import dataclass

from passbox import names
from passbox.errors import ValidationException
from passbox.ledger import book
from passbox.ledger.prices import MILLI
from passbox.state import resources, schemas, transfers
from passbox.state.database import Transaction
from passbox.state.resources import Resource
from passbox.state.transfers import Transfer

KIND = "privacy_budget_template"
TYPE = "DIFFERENTIAL_PRIVACY"
UNIT = "epsilon_micro"
MICRO = 1_000_000


def of_measure(users: int) -> int:
    """The micro-epsilon that one measure costs with the noise of so many users, rounded up.

    Laplace noise of epsilon E and sensitivity S has the standard deviation √2·S/E. That shall be what `users`
    users can contribute, users·S; so E = √2/users.
    """
    return math.isqrt(2 * MICRO**2 // users**2) + 1


def most(measures: int, budget: int, users: int) -> int:
    """How many aggregates, of so many measures each, so much micro-epsilon is enough for."""
    return max(0, budget) // (measures * of_measure(users))


@dataclass(frozen=True)
class Budget:
    """What a template gives in the period that is now. total, used: micro-epsilon"""

    template: Resource
    total: int
    used: int
    users: int

    @property
    def remaining(self) -> int:
        """What is left, never below 0."""
        return max(0, self.total - self.used)


def template(tx: Transaction, collaboration: str) -> Resource | None:
    """The collaboration's template; None where no active member has set one."""
    active = schemas.active_accounts(tx, collaboration)
    return resources.first(tx, KIND, collaboration=collaboration, accounts=active, statuses=[TYPE])


def of_template(tx: Transaction, template: Resource) -> Budget:
    """The budget that a template of type DIFFERENTIAL_PRIVACY gives, as it stands."""
    parameters = template.body["parameters"]["differentialPrivacy"]
    monthly = template.body["autoRefresh"] == "CALENDAR_MONTH"
    period = names.month(names.now()) if monthly else None
    used = sum(transfers.spent(tx, _account(template.collaboration or ""), period=period, unit=UNIT))
    return Budget(template, parameters["epsilon"] * MICRO, used, parameters["usersNoisePerQuery"])


def exhausted(budget: Budget, amount: int) -> ValidationException | None:
    """Why so much micro-epsilon cannot be spent now; None where it can."""
    if amount <= budget.remaining:
        return None
    template = budget.template
    later = (
        "Wait for the next calendar month (UTC), or a"
        if template.body["autoRefresh"] == "CALENDAR_MONTH"
        else "A"
    )
    return ValidationException(
        f"The query costs {_shown(amount)} of the privacy budget, and {_shown(budget.remaining)} of "
        f"{_shown(budget.total)} are left. {later}sk {template.account} for more "
        "(UpdatePrivacyBudgetTemplate), or query fewer aggregates.",
        reason="INVALID_CONFIGURATION",
    )


def reserve(tx: Transaction, *, job: str, budget: Budget, amount: int) -> None:
    """Holds so much micro-epsilon for a job.

    Raises ValidationException (INVALID_CONFIGURATION) where the budget does not leave it; the caller's
    transaction is to be undone then.
    """
    refusal = exhausted(budget, amount)
    if refusal is not None:
        raise refusal
    at, collaboration = names.now(), budget.template.collaboration or ""
    month = names.month(at)
    book.hold(
        tx,
        Transfer(
            id=f"{job}/privacy/reserve",
            kind="reserve",
            debit=f"{_account(collaboration)}/{month}",
            credit="room/privacy",
            unit=UNIT,
            amount=amount,
            job=job,
            collaboration=collaboration,
            payer="",
            cost_type="privacy",
            month=month,
            quantity=MILLI,
            quantity_unit="queries",
            price=0,
            price_per=1,
            at=at,
        ),
    )


def _account(collaboration: str) -> str:
    return f"privacy/{collaboration}"


def _shown(amount: int) -> str:
    return f"epsilon {amount / MICRO:.6f}".rstrip("0").rstrip(".")
