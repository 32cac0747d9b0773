"""A load of requests signed beforehand: each connection sends one and waits for its whole answer."""

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest, prepare_request_dict
from botocore.serialize import create_serializer

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def signed(client: Any, operation: str, parameters: list[dict[str, Any]]) -> list[bytes]:
    """The bytes that a boto3 client would send for each set of parameters, signed by botocore's signer."""
    model = client.meta.service_model.operation_model(operation)
    serializer = create_serializer(client.meta.service_model.protocol, include_validation=False)
    credentials = client._request_signer._credentials
    signer = SigV4Auth(credentials, model.service_model.signing_name, client.meta.region_name)
    found = []
    for each in parameters:
        made = serializer.serialize_to_request(each, model)
        prepare_request_dict(made, client.meta.endpoint_url)
        request = AWSRequest(made["method"], made["url"], headers=made["headers"], data=made["body"])
        signer.add_auth(request)
        prepared = request.prepare()
        body = prepared.body or b""
        host, path = prepared.url.split("/", 3)[2:]
        headers = {**dict(prepared.headers.items()), "Host": host, "Content-Length": str(len(body))}
        lines = [
            f"{prepared.method} /{path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        found.append("\r\n".join([*lines, "", ""]).encode() + body)
    return found


class _Connection(asyncio.Protocol):
    """Sends the next request when the last one is answered. Anything but a 2xx ends the run.

    A server that closes after its answer is dialled again by `lost`.
    """

    def __init__(
        self, requests: Iterator[bytes], done: "asyncio.Future[None]", lost: Callable[["_Connection"], None]
    ) -> None:
        self._requests = requests
        self._done = done
        self._lost = lost
        self._buffer = b""
        self._waiting: bytes | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send(self._waiting or next(self._requests, None))

    def _send(self, request: bytes | None) -> None:
        self._waiting = request
        if request is not None:
            self._transport.write(request)
            return
        self._transport.close()
        if not self._done.done():
            self._done.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        length = _LENGTH.search(self._buffer, 0, head) if head >= 0 else None
        if length is None or len(self._buffer) < head + 4 + int(length[1]):
            return
        if self._buffer[9:10] != b"2":
            self._fail(RuntimeError(self._buffer[:1000].decode(errors="replace")))
            return
        closes = b"connection: close" in self._buffer[:head].lower()
        self._buffer, self._waiting = b"", None
        if not closes:
            self._send(next(self._requests, None))

    def connection_lost(self, error: Exception | None) -> None:
        if self._waiting is not None or error is not None:
            self._fail(error or ConnectionError("the server closed the connection before its answer"))
        elif not self._done.done():
            self._lost(self)

    def _fail(self, error: Exception) -> None:
        if not self._done.done():
            self._done.set_exception(error)
            self._transport.close()


async def drive(port: int, requests: list[bytes], connections: int, many: int) -> float:
    """Sends `many` requests (each once, or one again and again) and gives requests a second."""
    loop = asyncio.get_running_loop()
    supply = islice(cycle(requests) if len(requests) == 1 else iter(requests), many)
    ends = [loop.create_future() for _ in range(connections)]
    dials: set[asyncio.Task[Any]] = set()

    def dial(connection: _Connection) -> None:
        task = loop.create_task(loop.create_connection(lambda: connection, "127.0.0.1", port))
        dials.add(task)
        task.add_done_callback(dials.discard)

    begun = time.perf_counter()
    for end in ends:
        dial(_Connection(supply, end, dial))
    await asyncio.gather(*ends)
    return many / (time.perf_counter() - begun)
