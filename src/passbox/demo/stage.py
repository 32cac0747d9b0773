"""The demo's stage: four parties with stock boto3 clients, and a service of its own that they talk to.

Acts as the room's operator: makes accounts, puts tables into catalogs and the vendor's image into the store,
and starts `passbox serve`. Knows no step of the job.
"""

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from passbox import service
from passbox.access import keys
from passbox.backends.images.store import ImageStore
from passbox.demo import data
from passbox.errors import Misconfigured
from passbox.settings import Settings
from passbox.state import accounts
from passbox.state.database import Database

AIRLINE, BUREAU, REGISTRY, VENDOR = "111111111111", "222222222222", "333333333333", "444444444444"
PARTIES = {
    AIRLINE: "airline",
    BUREAU: "weather bureau",
    REGISTRY: "aircraft registry",
    VENDOR: "model vendor",
}
TABLES = {"flights": AIRLINE, "weather": BUREAU, "planes": REGISTRY}
IMAGE = f"{VENDOR}.dkr.ecr.us-east-1.amazonaws.com/late-arrivals:1"
POLL_SECONDS = 0.1
LONGEST_SECONDS = 300.0


@dataclass
class Stage:
    """The room while the demo runs: clients for each party and what has happened so far."""

    endpoint: str
    home: Path
    pairs: dict[str, tuple[str, str]]
    say: Callable[[str], None]
    started: float
    timings: dict[str, float] = field(default_factory=dict)
    _clients: dict[tuple[str, str], Any] = field(default_factory=dict)

    def client(self, service_name: str, account: str) -> Any:
        """A stock boto3 client of one party."""
        import boto3

        if (service_name, account) not in self._clients:
            id, secret = self.pairs[account]
            self._clients[service_name, account] = boto3.client(
                service_name,
                endpoint_url=self.endpoint,
                region_name="us-east-1",
                aws_access_key_id=id,
                aws_secret_access_key=secret,
            )
        return self._clients[service_name, account]

    def cleanrooms(self, account: str) -> Any:
        return self.client("cleanrooms", account)

    def ml(self, account: str) -> Any:
        return self.client("cleanroomsml", account)

    def tell(self, line: str) -> None:
        """A line with the time since the start."""
        self.say(f"[{time.monotonic() - self.started:6.2f} s] {line}")

    def wait(self, label: str, get: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Polls until the job rests, saying how far it is."""
        begun, said = time.monotonic(), ""
        while time.monotonic() - begun < LONGEST_SECONDS:
            found = get()
            status = found["status"]
            progress = found.get("statusDetails", {}).get("message", "")
            if status in ("ACTIVE", "CREATE_FAILED", "INACTIVE"):
                took = time.monotonic() - begun
                self.timings[label] = took
                if status != "ACTIVE":
                    raise Misconfigured(f"{label} ended {status}: {progress}")
                self.tell(f"{label}: {status} after {took:.1f} s")
                return found
            if progress != said:
                self.tell(f"{label}: {progress}")
                said = progress
            time.sleep(POLL_SECONDS)
        raise Misconfigured(f"{label} is still {status} after {LONGEST_SECONDS:.0f} s")


def open_accounts(settings: Settings) -> dict[str, tuple[str, str]]:
    """What the operator does first: accounts, the owners' tables, the vendor's image."""
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = keys.load_key_file(settings.key_file)
    pairs = {}
    database = Database(settings.database)
    with database.write() as tx:
        for account, name in PARTIES.items():
            accounts.create(tx, account, name)
            pairs[account] = keys.create(tx, key, account, None, None)
    database.close()
    for account in PARTIES:
        (settings.accounts / account).mkdir(parents=True, mode=0o700)
    data.place(settings.accounts, TABLES)
    with as_file(files("passbox.demo") / "image") as folder:
        ImageStore(settings.images).add(IMAGE, folder, owner=VENDOR)
    return pairs


def _serve(settings: Settings, pipe: Any) -> None:
    log = os.open(settings.home / "service.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 2)
    service.run(settings, "127.0.0.1", 0, 2, pipe.send, json_logs=True)


@contextlib.contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """`passbox serve` in a process of its own, on a free port."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(settings, sender))
    process.start()
    try:
        if not receiver.poll(20):
            raise Misconfigured(f"The service did not start; see {settings.home / 'service.log'}.")
        yield receiver.recv()
    finally:
        process.terminate()
        process.join(15)
