"""What the exams share."""

import contextlib
import socket

import pytest

from lib import container_engines
from passbox.backends.runtimes.base import Isolation
from passbox.backends.runtimes.bubblewrap import BubblewrapRuntime
from passbox.backends.runtimes.docker import DockerRuntime
from passbox.backends.runtimes.unsafe import UnsafeRuntime


@pytest.fixture
def unused_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture(scope="session")
def runtimes():
    """Occupants by name, each made once. One that cannot seal here is a skip with the reason."""
    made = {"unsafe": UnsafeRuntime()}
    with contextlib.ExitStack() as stack:

        def occupant(name):
            if name not in made:
                if name == "bubblewrap":
                    one = BubblewrapRuntime()
                else:
                    one = DockerRuntime(stack.enter_context(container_engines.running(name)))
                report = one.check()
                if report.isolation is Isolation.NONE:
                    container_engines.missing(f"{name} cannot seal here: {report.missing}")
                made[name] = one
            return made[name]

        yield occupant
