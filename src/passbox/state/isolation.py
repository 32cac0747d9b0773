"""How well the jobs of a collaboration must be sealed: each member demands a level, the strictest holds.

Knows state; must not know runtimes. Levels are `sealed`, `degraded` (sealed without hard limits) and `none`.
"""

from passbox import names
from passbox.state import resources
from passbox.state.database import Transaction
from passbox.state.resources import Resource

KIND = "isolation_demand"
LEVELS = ("none", "degraded", "sealed")  # each more than the one before


def demands(tx: Transaction, collaboration: str) -> list[Resource]:
    """The demands of its active members, one of each at most. body: {"isolation": level}"""
    members = resources.find(tx, "member", statuses=["ACTIVE"], collaboration=collaboration)
    accounts = [member.account for member in members]
    return resources.find(tx, KIND, collaboration=collaboration, accounts=accounts) if accounts else []


def demanded(tx: Transaction, collaboration: str) -> str:
    """The strictest level that an active member demands; `none` where nobody does."""
    levels = [LEVELS.index(row.body["isolation"]) for row in demands(tx, collaboration)]
    return LEVELS[max(levels, default=0)]


def demand(tx: Transaction, membership: Resource, level: str) -> Resource:
    """Sets or replaces what the member of a membership demands."""
    found = resources.first(tx, KIND, membership=membership.id)
    if found is not None:
        return resources.change(tx, found, body={"isolation": level})
    now = names.now()
    return resources.add(
        tx,
        Resource(
            kind=KIND,
            id=names.new_id(),
            arn=f"{membership.arn}/isolation-demand",
            account=membership.account,
            collaboration=membership.collaboration,
            membership=membership.id,
            created=now,
            updated=now,
            body={"isolation": level},
        ),
    )
