"""Who receives what a protected query or job makes, and where: the modelled output configuration, resolved.

A member's own location is the default of its membership, and nobody else's to see. Whether somebody still may
and can receive is asked at the door and again when the query runs, so the answer lies here, in words that the
runner may read.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from passbox.names import Role
from passbox.state import resources
from passbox.state.database import Transaction

ABILITY = "CAN_RECEIVE_RESULTS"
QUERIES, JOBS = "defaultResultConfiguration", "defaultJobResultConfiguration"
Location = Mapping[str, Any]


@dataclass(frozen=True)
class Receiver:
    """One account and its location.

    field:    where the configuration names it, for example `s3` or `distribute.locations[1].member`
    location: a modelled Protected(Query|Job)S3OutputConfiguration; None where it has none
    role:     its own, in which it is written to; None where it has named none
    named:    the runner gave the location itself, so it may read what is wrong with it
    problem:  why it cannot receive, None where it can
    """

    field: str
    account: str
    location: Location | None
    role: Role | None
    named: bool
    problem: str | None


def receivers(
    tx: Transaction, collaboration: str, runner: str, configuration: Mapping[str, Any], default: str = QUERIES
) -> list[Receiver]:
    """Everybody whom a Protected(Query|Job)OutputConfiguration names; `s3` is the runner itself.

    default: which of a membership's settings says where it receives, QUERIES or JOBS
    """
    found = []
    for field, where in _places(configuration):
        named = field.endswith("s3")
        account = runner if named else str(where["accountId"])
        location = where if named else default_location(tx, collaboration, account, default)
        problem = _problem(tx, collaboration, account, location, default)
        role = _role(tx, collaboration, account, default)
        found.append(Receiver(field, account, location, role, named, problem))
    return found


def default_location(
    tx: Transaction, collaboration: str, account: str, default: str = QUERIES
) -> Location | None:
    """Where a member wants results that nobody else says the place of."""
    given, _ = _default(tx, collaboration, account, default)
    found: Location | None = given.get("outputConfiguration", {}).get("s3")
    return found


def _default(
    tx: Transaction, collaboration: str, account: str, default: str
) -> tuple[Mapping[str, Any], str]:
    """The modelled default result configuration of an account, empty without one; its membership's ARN."""
    membership = resources.first(
        tx, "membership", statuses=["ACTIVE"], collaboration=collaboration, account=account
    )
    if membership is None:
        return {}, ""
    return membership.body.get(default, {}), membership.arn


def _role(tx: Transaction, collaboration: str, account: str, default: str) -> Role | None:
    """The role of the account's default result configuration, else of its ML configuration."""
    given, membership = _default(tx, collaboration, account, default)
    if "roleArn" in given:
        return Role(given["roleArn"], membership)
    configuration = resources.first(tx, "ml_configuration", collaboration=collaboration, account=account)
    if configuration is None or not membership:
        return None
    return Role(configuration.body["defaultOutputLocation"]["roleArn"], membership)


def able(tx: Transaction, collaboration: str) -> list[str]:
    """The active members that may receive results."""
    rows = resources.find(tx, "member", statuses=["ACTIVE"], collaboration=collaboration)
    return [row.account for row in rows if ABILITY in row.body["abilities"]]


def address(location: Location, id: str) -> str:
    """`s3://BUCKET/KEYPREFIX/ID`: the files of a run lie in a folder of their own and replace nothing."""
    prefix = location.get("keyPrefix", "").rstrip("/")
    return "/".join(part for part in (f"s3://{location['bucket']}", prefix, id) if part)


def _places(configuration: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if "distribute" in configuration:
        for number, one in enumerate(configuration["distribute"]["locations"]):
            for kind, where in one.items():
                yield f"distribute.locations[{number}].{kind}", where
        return
    for kind, where in configuration.items():
        yield kind, where


def unable(tx: Transaction, collaboration: str, account: str) -> str | None:
    """Why an account may not receive results, wherever; None where it may."""
    member = resources.get(tx, "member", f"{collaboration}/{account}")
    if member is None or member.status != "ACTIVE":
        return f"{account} is not an active member of the collaboration."
    if ABILITY not in member.body["abilities"]:
        having = ", ".join(able(tx, collaboration)) or "no active member"
        return f"{account} does not have the ability {ABILITY}; {having} may receive results."
    return None


def _problem(
    tx: Transaction, collaboration: str, account: str, location: Location | None, default: str
) -> str | None:
    problem = unable(tx, collaboration, account)
    if problem is None and location is None:
        return (
            f"{account} has no default result configuration; it must give its membership one with "
            f"UpdateMembership ({default}) first."
        )
    return problem
