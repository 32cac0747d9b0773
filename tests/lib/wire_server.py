"""A real uvicorn on a free loopback port with a dispatch of the test's own, and boto3 clients for it."""

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import uvicorn
from botocore.config import Config

from passbox import boto3_session
from passbox.wire.app import Application, Key, Limits
from passbox.wire.model import Service, load_services, operation_names
from passbox.wire.protocol import http_protocol

REGION = "us-east-1"
KEY_ID = "AKIDPASSBOXTEST00001"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
ACCOUNT = "111111111111"

LIMITS = Limits()
SERVICES: tuple[Service, ...] = load_services()
ALL_OPERATIONS = operation_names(SERVICES)


def find_key(key_id: str) -> Key | None:
    """The one key that exists."""
    return Key(ACCOUNT, SECRET) if key_id == KEY_ID else None


def application(dispatch: Callable[..., Any], **options: Any) -> Application:
    """An application in which every modelled operation is implemented by `dispatch`."""
    options.setdefault("implemented", ALL_OPERATIONS)
    return Application(SERVICES, find_key, dispatch, region=REGION, **options)


@contextmanager
def serving(app: Application, limits: Limits = LIMITS) -> Iterator[str]:
    """The address of a running server."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, log_level="critical", access_log=False, lifespan="on", http=http_protocol(limits), ws="none"
    )
    server = uvicorn.Server(config)
    started = threading.Event()
    startup = server.startup

    async def announce(sockets: Any = None) -> None:
        await startup(sockets)
        started.set()

    server.startup = announce  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        if not started.wait(20):
            raise RuntimeError("uvicorn did not start")
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


def client(name: str, address: str, **options: Any) -> Any:
    """A stock boto3 client, of a session that knows all our services; it never retries."""
    keys: Mapping[str, Any] = {
        "aws_access_key_id": KEY_ID,
        "aws_secret_access_key": SECRET,
        "region_name": REGION,
        **options,
    }
    config = Config(retries={"total_max_attempts": 1})
    return boto3_session().client(name, endpoint_url=address, config=config, **keys)
