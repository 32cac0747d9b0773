"""Signed requests: passbox beside moto_server and beside a bare "hello" of the same server.

One API process each, one load process; every request is signed by botocore beforehand, then sent over 1 and
over 16 connections. passbox writes to SQLite with full durability, moto to memory. moto_server closes each
connection after its answer. Medians of interleaved rounds.

    python -m bench.wire
"""

import asyncio
import json
import multiprocessing
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import world
from bench.load import drive, signed

ROUNDS = 3
CONNECTIONS = (1, 16)
STORED = (100, 100_000)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _serve_passbox(home: str, port: int) -> None:
    import uvicorn

    from passbox.serve import application
    from passbox.settings import Settings
    from passbox.wire.app import Limits
    from passbox.wire.protocol import http_protocol

    app = application(Settings(Path(home)))
    uvicorn.run(
        app, port=port, log_level="error", access_log=False, http=http_protocol(Limits()), ws="none",
        server_header=False, date_header=False, proxy_headers=False,
    )  # fmt: skip


async def _hello(scope: Any, _receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hello"})


def _serve_hello(port: int) -> None:
    import uvicorn

    uvicorn.run(_hello, port=port, log_level="error", access_log=False, ws="none", lifespan="off")


@contextmanager
def _process(target: Any, *arguments: Any) -> Iterator[None]:
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


@contextmanager
def _moto(port: int) -> Iterator[None]:
    command = [str(Path(sys.executable).with_name("moto_server")), "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _await(url: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(url, timeout=1)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _tables(endpoint: str, key: tuple[str, str], round_: str, many: int) -> dict[str, list[bytes]]:
    """create, get and list of configured tables; get and list repeat one request."""
    import boto3

    client = boto3.client(
        "cleanrooms", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=key[0],
        aws_secret_access_key=key[1],
    )  # fmt: skip
    made = client.create_configured_table(**world.configured_table(f"{round_}-first"))["configuredTable"][
        "id"
    ]
    return {
        "create": signed(
            client, "CreateConfiguredTable", [world.configured_table(f"{round_}-{n}") for n in range(many)]
        ),
        "get": signed(client, "GetConfiguredTable", [{"configuredTableIdentifier": made}]),
        "list": signed(client, "ListConfiguredTables", [{"maxResults": 100}]),
    }


def _models(endpoint: str, room: world.World, round_: str, many: int) -> list[bytes]:
    import boto3

    client = boto3.client(
        "cleanroomsml", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=room.key[0],
        aws_secret_access_key=room.key[1],
    )  # fmt: skip
    return signed(
        client, "CreateTrainedModel", [world.trained_model(room, f"{round_}-{n}") for n in range(many)]
    )


def _fill(room: world.World, number: int) -> None:
    """Stores configured tables of other accounts and of this one, up to `number` rows each."""
    from passbox.state import resources
    from passbox.state.database import Database

    database = Database(room.settings.database)
    with database.write() as tx:
        [pattern] = resources.find(tx, "configured_table", account=world.ACCOUNT, limit=1)
        present = resources.count(tx, "configured_table", most=number, account=world.ACCOUNT)
        for n in range(present, number):
            id = f"00000000-0000-4000-8000-{n:012d}"
            row = pattern._replace(
                id=id, arn=f"arn:aws:cleanrooms:us-east-1:{world.ACCOUNT}:configuredtable/{id}"
            )
            resources.add(tx, row)
    database.close()


def _rate(port: int, requests: list[bytes], connections: int, many: int) -> float:
    return asyncio.run(drive(port, requests, connections, many))


def _count(name: str, base: str) -> int:
    """How many requests a round sends: enough for about a second."""
    slow = {"create": 150, "get": 200, "list": 100}
    quick = {"create": 1000, "get": 2500, "list": 1200, "create (reserves)": 800, "hello": 8000}
    return slow[name] if base == "moto" else quick[name]


def measure() -> dict[str, Any]:
    """name → connections → requests a second for each server; and passbox at 100 and at 100,000 rows."""
    results: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory(prefix="passbox-bench-") as directory:
        room = world.make(Path(directory))
        ports = {name: _free_port() for name in ("passbox", "moto", "hello")}
        endpoints = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        with (
            _process(_serve_passbox, directory, ports["passbox"]),
            _moto(ports["moto"]),
            _process(_serve_hello, ports["hello"]),
        ):
            for endpoint in endpoints.values():
                _await(endpoint)
            print("servers are up", file=sys.stderr)
            for server in ("passbox", "moto"):
                warm = _tables(endpoints[server], room.key, f"{server}-warm", 110)["create"]
                _rate(ports[server], warm, 1, len(warm))  # a list has its 100 rows
            hello = [b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"]
            for round_ in range(ROUNDS):
                for connections in CONNECTIONS:
                    for server in ("passbox", "moto"):
                        many = _count("create", server)
                        made = _tables(endpoints[server], room.key, f"{server}{round_}-{connections}", many)
                        for name, requests in made.items():
                            rate = _rate(ports[server], requests, connections, _count(name, server))
                            results.setdefault(f"{name} @{connections}", {}).setdefault(server, []).append(
                                rate
                            )
                    many = _count("create (reserves)", "passbox")
                    models = _models(endpoints["passbox"], room, f"m{round_}-{connections}", many)
                    rate = _rate(ports["passbox"], models, connections, many)
                    results.setdefault(f"create (reserves) @{connections}", {}).setdefault(
                        "passbox", []
                    ).append(rate)
                    rate = _rate(ports["hello"], hello, connections, _count("hello", "hello"))
                    results.setdefault(f"hello @{connections}", {}).setdefault("hello", []).append(rate)
            flat = _flat(room, ports["passbox"], endpoints["passbox"])
    medians = {
        name: {server: statistics.median(rates) for server, rates in servers.items()}
        for name, servers in results.items()
    }
    return {"rates": medians, "flat": flat}


def _flat(room: world.World, port: int, endpoint: str) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for number in STORED:
        _fill(room, number)
        rates: dict[str, list[float]] = {}
        for round_ in range(ROUNDS):
            made = _tables(endpoint, room.key, f"flat{number}-{round_}", 600)
            for name, requests in made.items():
                many = 600 if name == "create" else _count(name, "passbox")
                rates.setdefault(name, []).append(_rate(port, requests, 16, many))
        for name, values in rates.items():
            found.setdefault(name, {})[number] = statistics.median(values)
    return found


def show(results: dict[str, Any]) -> None:
    """The table that people read."""
    rates = results["rates"]
    print(f"{'requests a second':24} {'passbox':>9} {'moto':>9} {'ratio':>7} {'of hello':>9}")
    for name, servers in rates.items():
        if "hello" in servers:
            continue
        connections = name.rsplit("@", 1)[1]
        hello = rates[f"hello @{connections}"]["hello"]
        peer = servers.get("moto") or rates[f"create @{connections}"]["moto"]
        ours = servers["passbox"]
        print(f"{name:24} {ours:9,.0f} {peer:9,.0f} {ours / peer:6.1f}x {ours / hello:8.0%}")
    for connections in CONNECTIONS:
        print(f"{f'hello @{connections}':24} {rates[f'hello @{connections}']['hello']:9,.0f}")
    for name, rows in results["flat"].items():
        few, many = (rows[number] for number in STORED)
        print(
            f"{name} @16: {few:,.0f} at {STORED[0]:,} rows, {many:,.0f} at {STORED[1]:,}: {many / few:.2f}x"
        )


def main() -> None:
    results = measure()
    show(results)
    target = Path(__file__).parent / "results" / "wire.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
