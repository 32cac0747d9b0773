"""What strangers, broken clients and clumsy scripts send: a 4xx that says what is wrong, never a 5xx."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from lib.wire_asgi import Sent, call, resigned, signed
from lib.wire_server import application, serving
from passbox.wire.app import Limits
from passbox.wire.together import Later

UUID = "01234567-89ab-cdef-0123-456789abcdef"
CREATE = {
    "name": "flights",
    "members": [],
    "description": "d",
    "creatorMemberAbilities": [],
    "creatorDisplayName": "airline",
    "queryLogStatus": "DISABLED",
}
asked: list[dict[str, Any]] = []


def dispatch(account: str, operation: str, params: dict[str, Any]) -> dict[str, Any]:
    asked.append(params)
    return {"collaborationList": [], "tags": {}}


# A CreateCollaboration whose body is sound gets this far, so anything else was refused for its body.
def decode(body: bytes, **options: Any) -> Any:
    def reached(account: str, operation: str, params: dict[str, Any]) -> None:
        asked.append(params)

    return call(application(reached), signed("POST", "/collaborations", body, **options))


def with_member(name: str, value: Any) -> bytes:
    return json.dumps({**CREATE, name: value}).encode()


def test_the_body_that_the_others_are_made_from_is_sound() -> None:
    asked.clear()
    decode(json.dumps(CREATE).encode())
    assert asked == [CREATE]


def test_unknown_and_null_members_are_dropped() -> None:
    asked.clear()
    decode(json.dumps({**CREATE, "unheardOf": [1], "tags": None}).encode())
    assert asked == [CREATE]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nonsense",
        b"[]",
        b"null",
        b'"text"',
        b"1",
        b"{}{}",
        b'{"name":NaN}',
        b'{"name":Infinity}',
        b'{"name":1e999}',
        b'{"name":"\xff"}',
        b'{"name":"\xed\xa0\x80"}',
        b'{"name":"\\ud800"}',
        b'\xef\xbb\xbf{"name":"bom"}',
        b'{"name":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"name":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}",
        b"\x00",
        "{}".encode("utf-16"),
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_body_that_is_no_json_object(body: bytes) -> None:
    answer = decode(body)
    assert (answer.status, answer.code) == (400, "SerializationException")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", 7),
        ("name", True),
        ("name", ["flights"]),
        ("name", {}),
        ("members", {}),
        ("members", "none"),
        ("members", [None]),
        ("members", [7]),
        ("creatorMemberAbilities", [7]),
        ("creatorMemberAbilities", [None]),
        ("tags", []),
        ("tags", {"a": 1}),
        ("tags", {"a": None}),
        ("creatorPaymentConfiguration", {"queryCompute": {"isResponsible": "yes"}}),
        ("creatorPaymentConfiguration", {"queryCompute": {"isResponsible": 1}}),
    ],
)
def test_a_value_of_the_wrong_type(name: str, value: Any) -> None:
    answer = decode(with_member(name, value))
    assert (answer.status, answer.code) == (400, "SerializationException")
    assert f"'/{name}" in answer.message


WORKER = "/memberships/" + UUID + "/protectedQueries"


def query(**computed: Any) -> Any:
    body = {
        "type": "SQL",
        "sqlParameters": {"queryString": "SELECT 1"},
        "computeConfiguration": {"worker": {"type": "CR.1X", **computed}},
    }
    return call(application(dispatch), signed("POST", WORKER, json.dumps(body).encode()))


@pytest.mark.parametrize("number", [2.0, 2.5, "2", True, 2**31, 2**64, 10**40, -(2**63), [2], {}])
def test_a_number_that_is_no_int32(number: Any) -> None:
    answer = query(number=number)
    assert (answer.status, answer.code) == (400, "SerializationException")
    assert "'/computeConfiguration/worker/number'" in answer.message


@pytest.mark.parametrize("number", [0, 1, -5, 1025, 2**31 - 1])
def test_a_number_out_of_range(number: int) -> None:
    answer = query(number=number)
    assert (answer.status, answer.code) == (400, "ValidationException")
    told = "Value at '/computeConfiguration/worker/number' failed to satisfy constraint"
    assert (
        answer.message == f"1 validation error detected. {told}: Member must be between 2 and 1024, inclusive"
    )


@pytest.mark.parametrize(
    "union", [{}, {"spark": {}, "other": 1}, {"other": {}}, {"spark": None}, {"spark": {}, "": 1}]
)
def test_a_union_has_exactly_one_known_member(union: Any) -> None:
    answer = query(number=2, properties=union)
    assert (answer.status, answer.code) == (400, "SerializationException")
    assert "'/computeConfiguration/worker/properties" in answer.message
    assert query(number=2, properties={"spark": {"a": "b"}, "__type": "x"}).status == 500  # reached the house


def test_every_violation_is_reported() -> None:
    body = {
        "name": " ",
        "members": [{"accountId": "12", "memberAbilities": ["CAN_FLY"], "displayName": "x" * 101}],
        "description": "d" * 256,
        "creatorMemberAbilities": [],
        "queryLogStatus": "MAYBE",
        "tags": {"": "v"},
    }
    answer = decode(json.dumps(body).encode())
    assert (answer.status, answer.code) == (400, "ValidationException")
    fields = json.loads(answer.body)
    assert fields["reason"] == "FIELD_VALIDATION_FAILED"
    assert sorted({field["name"] for field in fields["fieldList"]}) == [
        "creatorDisplayName",
        "description",
        "members.0.accountId",
        "members.0.displayName",
        "members.0.memberAbilities.0",
        "name",
        "queryLogStatus",
        "tags.",
    ]
    assert fields["message"].startswith(f"{len(fields['fieldList'])} validation errors detected. Value")
    assert "CAN_FLY" not in fields["message"]  # a refusal does not echo what was sent


def test_the_list_of_violations_is_bounded() -> None:
    answer = decode(with_member("creatorMemberAbilities", ["CAN_FLY"] * 100_000))
    assert answer.message.startswith("100000 validation errors detected.")
    assert len(answer.body) < 100_000


def ml(target: str, **options: Any) -> Any:
    return call(application(dispatch), resigned(signed("GET", target, service="cleanrooms-ml", **options)))


@pytest.mark.parametrize(
    ("target", "code", "path"),
    [
        ("?maxResults=0", "ValidationException", "/maxResults"),
        ("?maxResults=101", "ValidationException", "/maxResults"),
        ("?maxResults=", "SerializationException", "/maxResults"),
        ("?maxResults=ten", "SerializationException", "/maxResults"),
        ("?maxResults=1.0", "SerializationException", "/maxResults"),
        ("?maxResults=1e1", "SerializationException", "/maxResults"),
        ("?maxResults=%D9%A1", "SerializationException", "/maxResults"),
        ("?maxResults=" + "9" * 5000, "SerializationException", "/maxResults"),
        ("?maxResults=1&maxResults=1", "SerializationException", "/maxResults"),
        ("?nextToken=a&nextToken=b", "SerializationException", "/nextToken"),
        ("?nextToken=", "ValidationException", "/nextToken"),
        ("?nextToken=%FF", "SerializationException", ""),
        ("?nextToken=%zz", "SerializationException", ""),
        ("?nextToken=%", "SerializationException", ""),
        ("?" + "a=b&" * 600, "SerializationException", ""),
    ],
)
def test_queries(target: str, code: str, path: str) -> None:
    answer = ml("/configured-model-algorithms" + target)
    assert (answer.status, answer.code) == (400, code), answer.body
    assert path in answer.message


@pytest.mark.parametrize(
    "label", ["%FF", "%zz", "%C3%28", "x", "..%2F..", "a" * 5000, "%00", "%0A" + UUID, UUID + "%0A"]
)
def test_labels(label: str) -> None:
    answer = ml(f"/memberships/{label}/ml-configurations")
    assert answer.status == 400, answer.body


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/nothing", 404),
        ("GET", "/collaborations/", 404),
        ("GET", "//collaborations", 404),
        ("GET", f"/memberships/{UUID}/../{UUID}", 404),
        ("GET", "/collaborations/.", 404),
        ("GET", "/" + "a/" * 500, 404),
        ("GET", f"/memberships/{UUID}/trained-models", 404),  # of the other service
        ("PUT", "/collaborations", 405),
        ("HEAD", "/collaborations", 405),
        ("OPTIONS", "/collaborations", 405),
        ("BREW", "/collaborations", 405),
    ],
)
def test_paths(method: str, target: str, status: int) -> None:
    sent = signed(method, target)
    answer = call(application(dispatch), sent)
    assert answer.status == status
    if status == 404:
        assert answer.code == "UnknownOperationException"
        assert call(application(dispatch), sent.without("authorization")).status in (403, 404)
    else:
        assert answer.headers["allow"] == "GET, POST"


def test_an_unknown_path_is_404_without_a_signature_too() -> None:
    sent = signed("GET", "/favicon.ico").without("authorization")
    assert call(application(dispatch), sent).status == 404
    known = signed("GET", "/collaborations").without("authorization")
    assert call(application(dispatch), known).code == "MissingAuthenticationTokenException"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda s: s, 200),
        (lambda s: s.without("content-type").plus("content-type", "application/json; charset=utf-8"), 200),
        (lambda s: s.without("content-type").plus("content-type", "APPLICATION/JSON"), 200),
        (lambda s: s.without("content-type").plus("content-type", "application/x-amz-json-1.1"), 200),
        (lambda s: s.without("content-type"), 415),
        (lambda s: s.without("content-type").plus("content-type", "text/plain"), 415),
        (lambda s: s.without("content-type").plus("content-type", "application/xml"), 415),
        (lambda s: s.without("content-type").plus("content-type", "application/jsonp"), 415),
        (lambda s: s.plus("content-type", "application/json"), 415),
        (lambda s: s.plus("content-encoding", "gzip"), 415),
    ],
)
def test_content_types(change: Callable[[Sent], Sent], status: int) -> None:
    """The type is not part of this signature, so that it can be changed on its own."""
    target = "/tags/arn%3Aaws%3Acleanrooms%3Aus-east-1%3A111111111111%3Ax"
    sent = signed("POST", target, b'{"tags":{}}')
    answer = call(application(dispatch), change(resigned(sent)))
    assert answer.status == status, answer.body
    if status == 415:
        assert answer.code == "UnsupportedMediaTypeException"


def test_the_body_limit() -> None:
    app = application(dispatch, limits=Limits(body=1000))
    sent = signed("POST", "/collaborations", b"x" * 1001)
    answer = call(app, sent)
    assert (answer.status, answer.code) == (413, "RequestEntityTooLargeException")
    assert answer.headers["connection"] == "close"
    # Chunked, so that nothing is announced; and announced as less than what comes.
    chunked = sent.without("content-length").plus("transfer-encoding", "chunked")
    assert call(app, chunked, chunks=[b"x" * 400] * 3).status == 413
    small = signed("POST", "/collaborations", b"x" * 1000)
    assert call(app, small).status == 400
    assert call(app, sent.but("content-length", lambda _: "9" * 400)).status == 413
    # What announces too much is refused before a byte of it is awaited.
    assert call(app, sent, chunks=[b""], hang=True).status == 413


def test_all_bodies_together_are_bounded() -> None:
    app = application(dispatch, limits=Limits(body=1000, buffered=500))
    sent = signed("POST", "/collaborations", b"x" * 900)
    answer = call(app, sent)
    assert (answer.status, answer.code) == (429, "ThrottlingException")
    assert call(app, signed("POST", "/collaborations", b"x" * 500)).status == 400


def test_a_body_that_never_ends() -> None:
    app = application(dispatch, limits=Limits(body_seconds=0.05))
    sent = signed("POST", "/collaborations", b"{}")
    answer = call(app, sent, chunks=[b"{"], hang=True)
    assert (answer.status, answer.code) == (408, "RequestTimeoutException")
    assert answer.headers["connection"] == "close"


def test_a_client_that_leaves_gets_nothing() -> None:
    async def leave() -> list[Any]:
        sent = signed("POST", "/collaborations", b"{}")
        out: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            out.append(message)

        scope = {"type": "http", "method": "POST", "raw_path": sent.path, "path": "", "query_string": b""}
        await application(dispatch)({**scope, "headers": sent.headers}, receive, send)
        return out

    assert asyncio.run(leave()) == []


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda s: s._replace(headers=s.headers + [(b"a%d" % n, b"") for n in range(200)]), 431),
        (lambda s: s.plus("a", "b" * 40_000), 431),
        (lambda s: s._replace(query=b"a=" + b"b" * 40_000), 414),
        (lambda s: s._replace(path=b"/" + b"b" * 40_000), 414),
    ],
)
def test_heads(change: Callable[[Sent], Sent], status: int) -> None:
    assert call(application(dispatch), change(signed("GET", "/collaborations"))).status == status


def test_too_many_at_once() -> None:
    app = application(dispatch, limits=Limits(in_flight=0))
    answer = call(app, signed("GET", "/collaborations"))
    assert (answer.status, answer.code) == (429, "ThrottlingException")


def test_plain_routes_need_no_signature() -> None:
    app = application(dispatch, plain_routes={"/health": lambda: {"status": "ok"}})
    sent = Sent("GET", b"/health", b"", [(b"host", b"x")], b"")
    assert json.loads(call(app, sent).body) == {"status": "ok"}
    assert call(app, sent._replace(method="POST")).status == 404


@pytest.mark.parametrize("inline", [True, False])
def test_inline_and_threaded_answer_alike(inline: bool) -> None:
    names = frozenset({"cleanrooms.ListCollaborations"}) if inline else frozenset()
    answer = call(application(dispatch, inline=names), signed("GET", "/collaborations"))
    assert (answer.status, answer.body) == (200, b'{"collaborationList":[]}')


def test_what_an_inline_read_needs_first_is_done_in_a_thread() -> None:
    at: list[threading.Thread] = []

    def not_so_short(account: str, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        if not at:
            raise Later(lambda: at.append(threading.current_thread()))
        at.append(threading.current_thread())
        return dispatch(account, operation, params)

    app = application(not_so_short, inline=frozenset({"cleanrooms.ListCollaborations"}))
    assert call(app, signed("GET", "/collaborations")).status == 200
    work, read = at
    assert work is not read
    assert read is threading.main_thread()


def raw(address: str, data: bytes, *, shut: bool = True) -> bytes:
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        answer = b""
        with suppress(ConnectionError):  # the server may stop listening before all is sent
            connection.sendall(data)
            if shut:
                connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                answer += part
    return answer


def test_what_is_hardly_http() -> None:
    with serving(application(dispatch)) as address:
        for data in [
            b"\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET /collaborations HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            b"POST /collaborations HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
            b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /collaborations HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n",
            b"GET /collaborations HTTP/1.0\r\n\r\n",
            b"GET http://other/collaborations HTTP/1.1\r\nHost: a\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00",
        ]:
            answer = raw(address, data)
            assert answer[:12] in (b"", *(b"HTTP/1.1 %d" % status for status in (400, 403, 404))), (
                data,
                answer,
            )
        # The server still stands.
        assert raw(address, b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").startswith(
            b"HTTP/1.1 404"
        )


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\nHost: a\r\n"])
def test_a_head_that_never_ends(start: bytes) -> None:
    with serving(application(dispatch)) as address:
        answer = raw(address, start + b"a" * 1_000_000, shut=False)
        assert answer.startswith((b"HTTP/1.1 431", b"HTTP/1.1 400")), answer


@pytest.mark.parametrize("start", [b"", b"GET", b"GET / HTTP/1.1\r\nHost: a\r\n"])
def test_a_head_that_never_comes(start: bytes) -> None:
    """Without a shut-down of the sending side: only the server's patience ends it."""
    with serving(application(dispatch), Limits(head_seconds=0.1)) as address:
        assert raw(address, start, shut=False).startswith(b"HTTP/1.1 408")


def test_patience_is_for_heads_only() -> None:
    """A connection that is kept alive, and a body larger than a head may be, are not cut off."""
    with serving(
        application(dispatch), Limits(head_seconds=0.1, header_bytes=2000, target_bytes=0)
    ) as address:
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            for _ in range(3):
                connection.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\n\r\n")
                assert connection.recv(65536).startswith(b"HTTP/1.1 404")
            connection.sendall(
                b"POST /tags/x HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n" + b"a" * 9000
            )
            assert connection.recv(65536).startswith(b"HTTP/1.1 403")
