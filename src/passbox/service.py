"""`passbox serve`: the API in this process, the worker in one of its own, ended together.

Knows the two roots and uvicorn; must not know what they do.
"""

import multiprocessing
import signal
import socket
import threading
from collections.abc import Callable
from multiprocessing.process import BaseProcess

import structlog
import uvicorn

from passbox import telemetry
from passbox.errors import Misconfigured
from passbox.settings import Settings
from passbox.wire.app import Limits
from passbox.wire.protocol import http_protocol

_log = structlog.get_logger(__name__)
_spawn = multiprocessing.get_context("spawn")
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def run(
    settings: Settings,
    host: str,
    port: int,
    slots: int,
    ready: Callable[[str], None],
    *,
    certificate: str | None = None,
    key: str | None = None,
    json_logs: bool = False,
) -> None:
    """Serves until SIGINT or SIGTERM; `ready` is called with the endpoint once requests are answered."""
    from passbox.serve import application

    telemetry.configure(as_json=json_logs)
    listener = _listen(host, port)
    app = application(settings)
    if host not in LOOPBACK and certificate is None:
        _log.warning("serve.no_tls", advice="requests are signed but not secret; give --tls-certificate")
    if settings.unsafe_no_sandbox:
        _log.warning("serve.unsafe", advice="members' code runs unsealed; every job it touches will show it")
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(settings, slots, json_logs, ended), daemon=True)
    scheme = "https" if certificate else "http"
    bound = listener.getsockname()
    endpoint = f"{scheme}://{f'[{bound[0]}]' if ':' in bound[0] else bound[0]}:{bound[1]}"
    config = uvicorn.Config(
        app,
        http=http_protocol(Limits()),
        ws="none",
        proxy_headers=False,
        log_config=None,
        access_log=False,
        lifespan="on",
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=5,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    server = _Server(config, lambda: ready(endpoint))
    # uvicorn raises the signal that ended it once more, for us to leave in order
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    watcher.start()
    try:
        server.run(sockets=[listener])
    finally:
        ended.set()
        watcher.join()


def _leave(_number: int, _frame: object) -> None:
    raise SystemExit(0)


class _Server(uvicorn.Server):
    """Says when it answers."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._say_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._say_started()


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise Misconfigured(
            f"Cannot listen on {host}:{port} ({error.strerror}); choose another --host or --port."
        ) from None


def _worker(settings: Settings, slots: int, json_logs: bool) -> None:
    from passbox import work

    telemetry.configure(as_json=json_logs)
    work.main(settings, slots)


def _watch(settings: Settings, slots: int, json_logs: bool, ended: threading.Event) -> None:
    """Keeps one worker alive: a worker that dies is a fault of ours, said loudly, and replaced."""
    process: BaseProcess | None = None
    while not ended.is_set():
        if process is None or not process.is_alive():
            if process is not None:
                _log.error("worker.died", exit_code=process.exitcode)
                ended.wait(1.0)
            process = _spawn.Process(target=_worker, args=(settings, slots, json_logs), name="passbox-worker")
            process.start()
        ended.wait(0.2)
    if process is not None:
        process.terminate()
        process.join(10)
        if process.is_alive():
            process.kill()
