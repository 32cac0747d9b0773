"""Root of the API process: the only file that names wire, access, operations and the console together.

A request: `wire` parses and verifies it → `enter` fetches its subject and checks the policy → one function of
`operations` → one transaction.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from passbox.access.call import Aside, Call, Room, Undone
from passbox.access.fetch import enter
from passbox.access.items import Items
from passbox.access.keys import Keys, load_key_file
from passbox.backends import choice
from passbox.errors import Misconfigured
from passbox.ledger.prices import RateCard, read_rates
from passbox.names import PageTokens
from passbox.operations import OPERATIONS, reads_only
from passbox.operations.quotas import DEFAULTS
from passbox.settings import Settings, read_toml
from passbox.state.database import Database, Group
from passbox.wire.app import Application, Key
from passbox.wire.model import Requests, load_services
from passbox.wire.project import Kept
from passbox.wire.together import Later

Output = Mapping[str, Any] | None


def application(settings: Settings) -> Application:
    """The whole API over the home directory of `settings`, as an ASGI application."""
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = Database(settings.database)
    keys = Keys(database, load_key_file(settings.key_file))
    load_key_file(
        settings.signing_key_file
    )  # made at the first start, so that its public key can be given out

    services = load_services()
    dispatcher = Dispatcher(settings, database, Requests(services))

    def find_key(id: str) -> Key | None:
        found = keys.find(id)
        return None if found is None else Key(*found)

    return Application(
        services,
        find_key,
        dispatcher,
        implemented=frozenset(OPERATIONS),
        region=settings.region,
        # reads are shorter than the way to a thread and back
        inline=frozenset(filter(reads_only, OPERATIONS)),
        changes=dispatcher,
        plain_routes={"/health": lambda: {"status": "ok"}},
    )


class Dispatcher:
    """Answers verified requests, each in one transaction; what changes something also in groups."""

    def __init__(self, settings: Settings, database: Database, requests: Requests) -> None:
        self._database = database
        self._room = Room(
            region=settings.region,
            tokens=PageTokens(load_key_file(settings.key_file)),
            catalog=choice.catalog(settings),
            objects=choice.objects(settings),
            requests=requests,
            quotas=quotas(settings),
            rates=rates(settings),
            items=Items(Kept),
            engine="spark" if settings.spark_remote else "sail",
        )

    def __call__(self, account: str, operation: str, params: dict[str, Any]) -> Output:
        """(account, operation, parameters) → output.

        Raises Later where a read needs something slow first: it may run on the event loop.
        """
        if reads_only(operation):
            try:
                with self._database.read() as tx:
                    return self._perform(Call(account, operation, tx, self._room), params)
            except Aside as aside:
                raise Later(aside.settle) from None
        change = self.change(account, operation, params)
        while True:
            try:
                with self._database.group() as group:
                    return change(group)
            except Later as later:
                later.work()

    def begin(self) -> Group:
        """Waits for the writers' turn."""
        return self._database.begin()

    def begin_at_once(self) -> Group | None:
        """The same, or None where another has the turn."""
        return self._database.begin_at_once()

    def change(self, account: str, operation: str, params: dict[str, Any]) -> Callable[[Group], Output]:
        """What makes the call in a group. Raises Later where something slow must be worked out before."""
        known: dict[Any, Any] = {}

        def make(group: Group) -> Output:
            try:
                with group.write() as tx:
                    return self._perform(Call(account, operation, tx, self._room, known=known), params)
            except Undone as undone:
                return undone.output
            except Aside as aside:
                raise Later(aside.settle) from None

        return make

    @staticmethod
    def _perform(call: Call, params: dict[str, Any]) -> Output:
        enter(call, params)
        return OPERATIONS[call.operation](call, params)


def quotas(settings: Settings) -> dict[str, float]:
    """The operator's own quotas, from HOME/quotas.toml."""
    path = settings.home / "quotas.toml"
    found = {name: float(one) if type(one) is Decimal else one for name, one in read_toml(path).items()}
    unknown = sorted(set(found) - set(DEFAULTS))
    if unknown:
        raise Misconfigured(f"{path}: there is no quota {unknown[0]}; there are {', '.join(DEFAULTS)}.")
    wrong = [name for name, value in found.items() if type(value) not in (int, float) or not value >= 0]
    if wrong:
        raise Misconfigured(f"{path}: {wrong[0]} must be a number, zero or more; inf is no limit.")
    return found


def rates(settings: Settings) -> RateCard:
    """The operator's own rate card, from HOME/rates.toml."""
    path = settings.home / "rates.toml"
    return read_rates(read_toml(path), str(path))
