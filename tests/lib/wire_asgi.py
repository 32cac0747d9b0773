"""An Application called without a socket: one signed request, with anything about it changed on the way."""

import asyncio
import json
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from lib.wire_server import KEY_ID, REGION, SECRET
from passbox.wire.canonical import Request, canonical_request, fold, sign

HOST = "passbox.test"
Headers = list[tuple[bytes, bytes]]


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The error's class, or nothing."""
        return self.headers.get("x-amzn-errortype", "")

    @property
    def message(self) -> str:
        return str(json.loads(self.body)["message"])


class Sent(NamedTuple):
    """A request on its way; tests replace what they want to be wrong."""

    method: str
    path: bytes
    query: bytes
    headers: Headers
    body: bytes

    def without(self, name: str) -> "Sent":
        return self._replace(headers=[(key, value) for key, value in self.headers if key != name.encode()])

    def plus(self, name: str, value: str) -> "Sent":
        return self._replace(headers=[*self.headers, (name.encode(), value.encode())])

    def but(self, name: str, change: Callable[[str], str]) -> "Sent":
        headers = [
            (key, change(value.decode()).encode() if key == name.encode() else value)
            for key, value in self.headers
        ]
        return self._replace(headers=headers)


def signed(
    method: str,
    target: str,
    body: bytes = b"",
    *,
    headers: dict[str, str] | None = None,
    service: str = "cleanrooms",
    region: str = REGION,
    key_id: str = KEY_ID,
    secret: str = SECRET,
    token: str | None = None,
    auth: Any = SigV4Auth,
) -> Sent:
    """A request that botocore signed now."""
    sent_headers = {"Content-Type": "application/json"} if body else {}
    request = AWSRequest(
        method=method, url=f"http://{HOST}{target}", data=body, headers={**sent_headers, **(headers or {})}
    )
    auth(Credentials(key_id, secret, token), service, region).add_auth(request)
    url = urlsplit(request.url)
    listed = [(name.lower().encode(), value.encode()) for name, value in request.headers.items()]
    if not any(name == b"host" for name, _ in listed):
        listed.insert(0, (b"host", HOST.encode()))
    if body:
        listed.append((b"content-length", b"%d" % len(body)))
    return Sent(method, url.path.encode(), url.query.encode(), listed, body)


def resigned(sent: Sent) -> Sent:
    """The same, signed over host and date alone, as an SDK may, and by the verifier's own canonical form.

    For what botocore would not put into a request at all.
    """
    headers = fold(sent.headers)
    request = Request(sent.method, sent.path, sent.query, sent.headers)
    payload = sha256(sent.body).hexdigest().encode()
    canonical = canonical_request(request, headers, [b"host", b"x-amz-date"], payload)
    credential = headers[b"authorization"].split(b"Credential=")[1].split(b",")[0]
    signature = sign(SECRET, credential.split(b"/", 1)[1], headers[b"x-amz-date"], canonical).decode()
    value = f"AWS4-HMAC-SHA256 Credential={credential.decode()}, SignedHeaders=host;x-amz-date"
    return sent.without("authorization").plus("authorization", f"{value}, Signature={signature}")


def call(app: Any, sent: Sent, *, chunks: Iterable[bytes] | None = None, hang: bool = False) -> Answer:
    """What the application answers. `hang`: the last chunk never comes."""
    return asyncio.run(_call(app, sent, chunks, hang))


async def _call(app: Any, sent: Sent, chunks: Iterable[bytes] | None, hang: bool) -> Answer:
    queue = [{"type": "http.request", "body": part, "more_body": True} for part in chunks or [sent.body]]
    if not hang:
        queue[-1]["more_body"] = False
    out: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if queue:
            return queue.pop(0)
        if hang:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        out.append(message)

    scope = {
        "type": "http",
        "method": sent.method,
        "path": sent.path.decode("latin-1"),
        "raw_path": sent.path,
        "query_string": sent.query,
        "headers": sent.headers,
    }
    await app(scope, receive, send)
    if not out:
        return Answer(0, {}, b"")
    headers = {name.decode(): value.decode() for name, value in out[0]["headers"]}
    return Answer(out[0]["status"], headers, b"".join(message["body"] for message in out[1:]))
