"""Signatures that must not pass, one fault each, through the whole application."""

import re
from collections.abc import Callable
from time import time
from typing import Any

import pytest
from botocore.auth import SigV4QueryAuth

from lib.wire_asgi import Sent, call, resigned, signed
from lib.wire_server import ACCOUNT, KEY_ID, SECRET, application

TARGET = "/tags/arn%3Aaws%3Acleanrooms%3Aus-east-1%3A111111111111%3Aconfiguredtable%2Fa"
CREATE = "/collaborations"

asked: list[str] = []


def dispatch(account: str, operation: str, params: dict[str, Any]) -> dict[str, Any]:
    asked.append(account)
    return {"tags": {}}


def app(skew: float = 0.0) -> Any:
    return application(dispatch, clock=lambda: time() + skew)


def authorization(pattern: str, text: str) -> Callable[[Sent], Sent]:
    return lambda sent: sent.but("authorization", lambda value: re.sub(pattern, text, value))


def test_a_sound_one_passes() -> None:
    asked.clear()
    assert call(app(), signed("GET", TARGET)).status == 200
    assert call(app(), signed("POST", TARGET, b'{"tags":{}}')).status == 200
    assert asked == [ACCOUNT] * 2


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        (lambda s: s.without("authorization"), 403, "MissingAuthenticationTokenException"),
        (authorization("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), 400, "IncompleteSignatureException"),
        (authorization("AWS4-HMAC-SHA256", "Bearer"), 400, "IncompleteSignatureException"),
        (authorization("/aws4_request", "/aws5_request"), 400, "IncompleteSignatureException"),
        (authorization("/aws4_request", ""), 400, "IncompleteSignatureException"),
        (authorization("/aws4_request", "/x/aws4_request"), 400, "IncompleteSignatureException"),
        (authorization("us-east-1", "eu-west-1"), 403, "InvalidSignatureException"),
        (authorization("/cleanrooms/", "/s3/"), 403, "InvalidSignatureException"),
        (authorization("/cleanrooms/", "/cleanrooms-ml/"), 403, "InvalidSignatureException"),
        (authorization(r"/20\d{6}/", "/20200101/"), 403, "InvalidSignatureException"),
        (authorization(KEY_ID, "AKIDNOBODY"), 403, "UnrecognizedClientException"),
        (authorization(KEY_ID, "é"), 400, "IncompleteSignatureException"),
        (authorization("Signature=.", "Signature=z"), 403, "InvalidSignatureException"),
        (authorization("Signature=.*", "Signature="), 403, "InvalidSignatureException"),
        (authorization("Signature=.*", "Signature=" + "0" * 64), 403, "InvalidSignatureException"),
        (authorization(", Signature=.*", ""), 400, "IncompleteSignatureException"),
        (authorization("$", ", Signature=" + "0" * 64), 400, "IncompleteSignatureException"),
        (authorization("$", ", Extra=1"), 400, "IncompleteSignatureException"),
        (authorization("SignedHeaders=host;", "SignedHeaders="), 403, "InvalidSignatureException"),
        (authorization("host;x-amz-date", "x-amz-date;host"), 400, "IncompleteSignatureException"),
        (authorization("host;", "Host;"), 400, "IncompleteSignatureException"),
        (authorization("host;", "host;host;"), 400, "IncompleteSignatureException"),
        (authorization("host;x-amz-date", "host"), 403, "InvalidSignatureException"),
        (authorization("host;", "host;not-sent;"), 403, "InvalidSignatureException"),
        (lambda s: s.plus("authorization", "AWS4-HMAC-SHA256 x=y"), 400, "IncompleteSignatureException"),
        (lambda s: s.without("x-amz-date"), 400, "IncompleteSignatureException"),
        (lambda s: s.but("x-amz-date", lambda v: v[:-1]), 400, "IncompleteSignatureException"),
        (lambda s: s.but("x-amz-date", lambda v: v[:9] + "996161Z"), 400, "IncompleteSignatureException"),
        (lambda s: s.but("x-amz-date", lambda v: v[:9] + "000000Z"), 403, "InvalidSignatureException"),
        (lambda s: s.plus("x-amz-date", "20200101T000000Z"), 400, "IncompleteSignatureException"),
        (lambda s: s.plus("x-amz-added", "later"), 403, "InvalidSignatureException"),
        (lambda s: s.plus("x-amz-security-token", "t"), 403, "UnrecognizedClientException"),
        (lambda s: s.plus("host", "other"), 403, "InvalidSignatureException"),
        (lambda s: s.but("host", lambda v: "other"), 403, "InvalidSignatureException"),
        (lambda s: s.plus("x-amz-content-sha256", "UNSIGNED-PAYLOAD"), 403, "InvalidSignatureException"),
        (lambda s: s._replace(query=b"a=b"), 403, "InvalidSignatureException"),
        (
            lambda s: s._replace(query=b"X-Amz-Algorithm=AWS4-HMAC-SHA256"),
            400,
            "IncompleteSignatureException",
        ),
        (lambda s: s._replace(query=b"aX-Amz-Algorithm=x"), 403, "InvalidSignatureException"),
        (
            lambda s: s._replace(query=b"aX-Amz-Algorithm=x").without("authorization"),
            403,
            "MissingAuthenticationTokenException",
        ),
        (lambda s: s._replace(method="DELETE"), 403, "InvalidSignatureException"),
        (lambda s: s._replace(path=s.path.replace(b"%3A", b":")), 403, "InvalidSignatureException"),
        (lambda s: s._replace(path=s.path.replace(b"%3A", b"%3a")), 403, "InvalidSignatureException"),
        (lambda s: s._replace(path=s.path + b"b"), 403, "InvalidSignatureException"),
    ],
)
def test_one_fault(change: Callable[[Sent], Sent], status: int, code: str) -> None:
    asked.clear()
    answer = call(app(), change(signed("GET", TARGET)))
    assert (answer.status, answer.code) == (status, code), answer.body
    assert not asked


def test_a_scope_of_another_day() -> None:
    """Signed soundly with the key of that day, as one could who only ever got hold of that key."""
    sent = signed("GET", TARGET)
    moved = resigned(sent.but("authorization", lambda value: re.sub(r"/20\d{6}/", "/20200101/", value)))
    answer = call(app(), moved)
    assert (answer.status, answer.code) == (403, "InvalidSignatureException")
    assert call(app(), resigned(sent)).status == 200


def test_an_altered_body() -> None:
    sent = signed("POST", TARGET, b'{"tags":{"a":"b"}}')
    answer = call(app(), sent._replace(body=b'{"tags":{"a":"c"}}'))
    assert (answer.status, answer.code) == (403, "InvalidSignatureException")


@pytest.mark.parametrize("declared", ["UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "0" * 64])
def test_a_body_that_is_not_what_was_signed(declared: str) -> None:
    """Soundly signed, but over a hash that is not the body's."""
    sent = signed("POST", TARGET, b'{"tags":{}}', headers={"X-Amz-Content-SHA256": declared})
    answer = call(app(), sent)
    assert (answer.status, answer.code) == (403, "InvalidSignatureException")
    assert "body" in answer.message


@pytest.mark.parametrize(
    ("skew", "status"), [(-330, 403), (-290, 200), (0, 200), (290, 200), (330, 403), (86400, 403)]
)
def test_the_clock(skew: float, status: int) -> None:
    answer = call(app(skew), signed("GET", TARGET))
    assert answer.status == status
    if status == 403:
        assert answer.code == "InvalidSignatureException"
        assert ("expired" if skew > 0 else "not yet current") in answer.message


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"secret": SECRET + "x"}, "InvalidSignatureException"),
        ({"secret": ""}, "InvalidSignatureException"),
        ({"key_id": "AKIDNOBODY"}, "UnrecognizedClientException"),
        ({"region": "eu-west-1"}, "InvalidSignatureException"),
        ({"service": "execute-api"}, "InvalidSignatureException"),
        ({"token": "a-session-token"}, "UnrecognizedClientException"),
    ],
)
def test_soundly_signed_with_the_wrong_thing(options: dict[str, str], code: str) -> None:
    answer = call(app(), signed("GET", TARGET, **options))  # type: ignore[arg-type]
    assert (answer.status, answer.code) == (403, code)


def test_a_token_is_refused_in_words() -> None:
    answer = call(app(), signed("GET", TARGET, token="a-session-token"))
    assert "Temporary credentials are not supported" in answer.message


def test_headers_are_folded_as_botocore_folds_them() -> None:
    sent = signed("GET", TARGET, headers={"X-Amz-Meta": "a   b"})
    assert call(app(), sent).status == 200
    assert call(app(), sent.but("x-amz-meta", lambda v: " a b ")).status == 200
    assert call(app(), sent.but("x-amz-meta", lambda v: "ab")).status == 403


def presigned(expires: int = 60, **options: Any) -> Sent:
    def auth(*args: Any) -> SigV4QueryAuth:
        return SigV4QueryAuth(*args, expires=expires)

    return signed("GET", TARGET, auth=auth, **options)


def test_presigned() -> None:
    assert call(app(), presigned()).status == 200
    assert call(app(1000), presigned(expires=2000)).status == 200


@pytest.mark.parametrize(
    ("options", "skew", "status"),
    [
        ({}, 120, 403),
        ({}, -330, 403),
        ({"expires": 0}, 0, 400),
        ({"expires": 604801}, 0, 400),
        ({"token": "t"}, 0, 403),
        ({"secret": "wrong"}, 0, 403),
    ],
)
def test_presigned_but_not_so(options: dict[str, Any], skew: float, status: int) -> None:
    answer = call(app(skew), presigned(**options))
    assert answer.status == status, answer.body


@pytest.mark.parametrize(
    ("pattern", "text", "status"),
    [
        (rb"X-Amz-Expires=60", b"X-Amz-Expires=600", 403),
        (rb"X-Amz-Expires=60", b"X-Amz-Expires=-1", 400),
        (rb"&X-Amz-Expires=60", b"", 400),
        (rb"$", b"&X-Amz-Expires=60", 400),
        (rb"$", b"&added=later", 403),
        (rb"SHA256&", b"SHA512&", 400),
        (rb"SignedHeaders=host", b"SignedHeaders=", 400),
        (rb"Signature=.", b"Signature=%00", 403),
        (rb"%2Faws4_request", b"", 400),
        (rb"X-Amz-Date=[^&]*", b"X-Amz-Date=%FF", 400),
    ],
)
def test_a_presigned_query_altered(pattern: bytes, text: bytes, status: int) -> None:
    sent = presigned()
    answer = call(app(), sent._replace(query=re.sub(pattern, text, sent.query, count=1)))
    assert answer.status == status, answer.body
