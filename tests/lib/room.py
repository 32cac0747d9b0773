"""The real API over a fresh home, on a free loopback port, with boto3 clients for accounts made on the way.

Beside boto3, tests may only do what an operator does: make accounts and put files into their catalogs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.exceptions import ClientError

from lib.wire_server import REGION, serving
from passbox import boto3_session
from passbox.access import keys
from passbox.serve import application
from passbox.settings import Settings
from passbox.state import accounts
from passbox.state.database import Database

# The service must refuse by itself what botocore would not even send.
_CONFIG = Config(retries={"total_max_attempts": 1}, max_pool_connections=4, parameter_validation=False)
_SESSION = boto3_session(region_name=REGION)
_NUMBERS = count(1)


class Room:
    """A running room. Accounts get numbers that no other account of the test process has."""

    def __init__(self, settings: Settings, address: str) -> None:
        self.settings = settings
        self.address = address
        self._database = Database(settings.database)
        self._key = keys.load_key_file(settings.key_file)
        self._keys: dict[str, tuple[str, str]] = {}
        self._clients: dict[tuple[str, str], Any] = {}

    def account(self) -> str:
        """A new account with an access key."""
        number = f"{next(_NUMBERS):012d}"
        with self._database.write() as tx:
            accounts.create(tx, number, f"account {number}")
            self._keys[number] = keys.create(tx, self._key, number, None, None)
        return number

    def accounts(self, number: int) -> list[str]:
        """Several new accounts."""
        return [self.account() for _ in range(number)]

    def key(self, account: str) -> tuple[str, str]:
        """The id and the secret of an account's access key."""
        return self._keys[account]

    def client(self, service: str, account: str) -> Any:
        """A stock boto3 client of an account."""
        place = service, account
        if place not in self._clients:
            id, secret = self._keys[account]
            self._clients[place] = _SESSION.client(
                service,
                endpoint_url=self.address,
                aws_access_key_id=id,
                aws_secret_access_key=secret,
                config=_CONFIG,
            )
        return self._clients[place]

    def cleanrooms(self, account: str) -> Any:
        """The account's client of `cleanrooms`."""
        return self.client("cleanrooms", account)

    def cleanroomsml(self, account: str) -> Any:
        """The account's client of `cleanroomsml`."""
        return self.client("cleanroomsml", account)

    def passbox(self, account: str) -> Any:
        """The account's client of `passbox`, what this room has beyond AWS."""
        return self.client("passbox", account)

    def put_csv(self, account: str, table: str, text: str, database: str = "db") -> dict[str, Any]:
        """Puts a CSV file into an account's catalog and returns its tableReference."""
        folder = self.settings.accounts / account / "catalog" / database / table
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "part-0.csv").write_text(text)
        return {"glue": {"databaseName": database, "tableName": table}}

    def close(self) -> None:
        """Lets go of the database and of every connection."""
        for client in self._clients.values():
            client.close()
        self._database.close()


@contextmanager
def running(home: Path, **more: Any) -> Iterator[Room]:
    """A room over an empty home, until the block ends. more: settings beside the home and the region"""
    settings = Settings(home=home, region=REGION, **more)
    with serving(application(settings)) as address:
        room = Room(settings, address)
        try:
            yield room
        finally:
            room.close()


def pays(**cost_types: bool) -> dict[str, Any]:
    """A (Membership)PaymentConfiguration; the keywords are query, job, training, inference, synthetic."""
    machine = {
        name: {"isResponsible": cost_types[short]}
        for short, name in (
            ("training", "modelTraining"),
            ("inference", "modelInference"),
            ("synthetic", "syntheticDataGeneration"),
        )
        if short in cost_types
    }
    output: dict[str, Any] = {"queryCompute": {"isResponsible": cost_types.get("query", False)}}
    if "job" in cost_types:
        output["jobCompute"] = {"isResponsible": cost_types["job"]}
    if machine:
        output["machineLearning"] = machine
    return output


def named(account: str, *abilities: str, payment: Any = None, ml: list[str] | None = None) -> dict[str, Any]:
    """A MemberSpecification."""
    member: dict[str, Any] = {
        "accountId": account,
        "memberAbilities": list(abilities),
        "displayName": f"member {account}",
    }
    if payment is not None:
        member["paymentConfiguration"] = payment
    if ml is not None:
        member["mlMemberAbilities"] = {"customMLMemberAbilities": ml}
    return member


def collaborate(
    room: Room, creator: str, members: list[dict[str, Any]], *abilities: str, payment: Any = None, **more: Any
) -> str:
    """Creates a collaboration and returns its id; abilities and payment are the creator's."""
    if payment is not None:
        more["creatorPaymentConfiguration"] = payment
    answer = room.cleanrooms(creator).create_collaboration(
        **{
            "name": "a collaboration",
            "description": "for tests",
            "members": members,
            "creatorMemberAbilities": list(abilities),
            "creatorDisplayName": "the creator",
            "queryLogStatus": "DISABLED",
            **more,
        }
    )
    return str(answer["collaboration"]["id"])


def join(room: Room, account: str, collaboration: str, payment: Any = None) -> str:
    """Joins and returns the membership's id."""
    more = {} if payment is None else {"paymentConfiguration": payment}
    answer = room.cleanrooms(account).create_membership(
        collaborationIdentifier=collaboration, queryLogStatus="DISABLED", **more
    )
    return str(answer["membership"]["id"])


def refused(error: ClientError) -> tuple[str, str]:
    """(code, message) of a refusal."""
    return error.response["Error"]["Code"], error.response["Error"]["Message"]


def everything(method: Any, key: str, **params: Any) -> list[Any]:
    """All entries of a list operation, two to a page."""
    found: list[Any] = []
    while True:
        page = method(maxResults=2, **params)
        assert len(page[key]) <= 2
        found += page[key]
        if "nextToken" not in page:
            return found
        params["nextToken"] = page["nextToken"]
