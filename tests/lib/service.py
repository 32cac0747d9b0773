"""`passbox serve` as an operator starts it: API and worker in processes of their own, to be killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lib.room import REGION, Room
from passbox.settings import Settings
from passbox.state import jobs
from passbox.state.database import Database

REST = ("ACTIVE", "INACTIVE", "CREATE_FAILED", "CANCEL_FAILED", "DELETE_FAILED")


class Service:
    """A running service over `home`; every start listens on the port of the first."""

    def __init__(self, home: Path, workers: int) -> None:
        self.settings = Settings(home=home, region=REGION)
        self.workers = workers
        self._port = "0"
        self._log = (home / "service.log").open("ab")
        self.address = self.start()
        self.room = Room(self.settings, self.address)

    def start(self) -> str:
        """Starts it; returns its address once it answers."""
        command = [sys.executable, "-m", "passbox", "serve", "--home", str(self.settings.home), "--json"]
        command += ["--port", self._port, "--region", REGION, "--workers", str(self.workers)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._log, text=True)
        assert self.process.stdout is not None
        address: str = json.loads(self.process.stdout.readline())["endpoint"]
        self._port = address.rpartition(":")[2]
        return address

    def kill_api(self) -> None:
        """SIGKILL of the process that answers requests."""
        self.process.kill()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def kill_worker(self, resource: str) -> None:
        """SIGKILL of the worker that holds the job of a resource."""
        worker = self.job(resource).worker
        assert worker is not None
        os.kill(int(worker.rpartition("/")[2]), signal.SIGKILL)

    def job(self, resource: str) -> jobs.Job:
        """The last job of a resource, by the last part of its ARN."""
        database = Database(self.settings.database)
        try:
            with database.read() as tx:
                return jobs.of_resource(tx, resource.rpartition("/")[2])[-1]
        finally:
            database.close()

    def stop(self) -> None:
        """Ends it as a terminal does."""
        self.room.close()
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()


@contextmanager
def serving_home(home: Path, workers: int = 2) -> Iterator[Service]:
    """A service over an empty home, until the block ends."""
    service = Service(home, workers)
    try:
        yield service
    finally:
        service.stop()


def wait(get: Callable[[], Any], statuses: tuple[str, ...] = REST, seconds: float = 30.0) -> Any:
    """What `get` answers once its status is one of `statuses`."""
    deadline = time.monotonic() + seconds
    while (found := get())["status"] not in statuses:
        assert time.monotonic() < deadline, f"it is still {found['status']}: {found.get('statusDetails')}"
        time.sleep(0.05)
    return found
