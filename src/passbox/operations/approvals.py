"""Who must agree to a change request, and how far that is.

Its creator does not vote: the request is its voice. Voters are the other members that were active when it
was made; they are kept with their votes. Who leaves or is removed is no longer waited for. Nobody left to
wait for is agreement.
"""

from collections.abc import Mapping

from passbox.state import resources
from passbox.state.database import Transaction
from passbox.state.resources import Resource

KIND = "collaboration_change_request"
# Each action: the statuses that it is possible in, and the one that it leads to (the last APPROVE does).
ACTIONS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "APPROVE": (("PENDING",), "APPROVED"),
    "DENY": (("PENDING",), "DENIED"),
    "CANCEL": (("PENDING", "APPROVED"), "CANCELLED"),
    "COMMIT": (("APPROVED",), "COMMITTED"),
}


def voters(tx: Transaction, collaboration: Resource) -> list[str]:
    """The active members other than the creator, in the order in which they were named."""
    rows = resources.find(tx, "member", statuses=["ACTIVE"], collaboration=collaboration.id)
    return [row.account for row in rows if row.account != collaboration.account]


def standing(votes: Mapping[str, str]) -> str:
    """The status that votes come to, before anybody cancels or commits."""
    if "DENIED" in votes.values():
        return "DENIED"
    return "PENDING" if "PENDING" in votes.values() else "APPROVED"


def wait_no_longer(tx: Transaction, collaboration: str, account: str) -> None:
    """Stops waiting for a member that is gone: a request that only its vote was missing from is APPROVED."""
    for request in resources.find(tx, KIND, statuses=["PENDING"], collaboration=collaboration):
        votes: dict[str, str] = dict(request.body["votes"])
        if votes.get(account) == "PENDING":
            del votes[account]
            resources.change(tx, request, status=standing(votes), body={"votes": votes})
