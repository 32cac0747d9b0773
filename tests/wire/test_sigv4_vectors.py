"""The verifier against botocore's copy of the public SigV4 test suite."""

import re
from calendar import timegm
from pathlib import Path
from typing import NamedTuple

import pytest

from passbox.wire.canonical import ALGORITHM, Request, canonical_request, fold, sign
from passbox.wire.errors import Refused
from passbox.wire.sigv4 import Key, Verifier

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
NOW = timegm((2015, 8, 30, 12, 36, 0))
SCOPE = b"20150830/us-east-1/service/aws4_request"
MOMENT = b"20150830T123600Z"


class Vector(NamedTuple):
    name: str
    request: Request
    body: bytes
    canonical: bytes
    authorization: bytes

    @property
    def signed(self) -> list[bytes]:
        return self.authorization.split(b"SignedHeaders=")[1].split(b",")[0].split(b";")

    @property
    def signature(self) -> bytes:
        return self.authorization.split(b"Signature=")[1]

    @property
    def has_token(self) -> bool:
        return any(name == b"x-amz-security-token" for name, _ in self.request.headers)


def parse(name: str, text: bytes) -> tuple[Request, bytes]:
    """A request as the suite writes it: the target may hold spaces, a folded header goes on."""
    head, _, body = text.replace(b"\r", b"").partition(b"\n\n")
    first, *lines = head.strip(b"\n").split(b"\n")
    method, rest = first.split(b" ", 1)
    path, _, query = rest.rsplit(b" ", 1)[0].partition(b"?")
    headers: list[tuple[bytes, bytes]] = []
    for line in lines:
        if line[:1].isspace():
            key, value = headers.pop()
            headers.append((key, value + b" " + line.strip()))
        else:
            key, value = line.split(b":", 1)
            headers.append((key.lower(), value))
    return Request(method.decode(), path, query, headers), body


@pytest.fixture(scope="module")
def suite(botocore_vectors: Path) -> list[Vector]:
    found = []
    for path in sorted((botocore_vectors / "auth" / "aws4_testsuite").rglob("*.req")):
        request, body = parse(path.stem, path.read_bytes())
        canonical = path.with_suffix(".creq").read_bytes().replace(b"\r", b"")
        authorization = path.with_suffix(".authz").read_bytes().strip()
        token = re.search(rb"^x-amz-security-token:(.*)$", canonical, re.MULTILINE)
        if token and not any(name == b"x-amz-security-token" for name, _ in request.headers):
            # The suite keeps this one beside the request, with the credentials.
            request = request._replace(headers=[*request.headers, (b"x-amz-security-token", token[1])])
        found.append(Vector(path.stem, request, body, canonical, authorization))
    return found


def verifier(now: float = NOW) -> Verifier:
    keys = {"AKIDEXAMPLE": Key("111111111111", SECRET)}
    return Verifier(keys.get, region="us-east-1", services=("service",), clock=lambda: now)


def authorized(vector: Vector) -> Request:
    headers = [*vector.request.headers, (b"authorization", vector.authorization)]
    return vector.request._replace(headers=headers)


def test_the_suite_is_whole(suite: list[Vector]) -> None:
    assert len(suite) >= 31


def test_canonical_request_and_signature(suite: list[Vector]) -> None:
    """Those with a token too: it is the same text, whatever we think of temporary credentials."""
    for vector in suite:
        payload = vector.canonical.rsplit(b"\n", 1)[1]
        canonical = canonical_request(vector.request, fold(vector.request.headers), vector.signed, payload)
        assert canonical == vector.canonical, vector.name
        assert sign(SECRET, SCOPE, MOMENT, canonical) == vector.signature, vector.name


def test_every_vector_verifies(suite: list[Vector]) -> None:
    for vector in suite:
        if not vector.has_token:
            request = authorized(vector)
            claim = verifier().claim(request)
            assert verifier().account(claim, request, vector.body) == "111111111111", vector.name


def test_a_token_is_refused(suite: list[Vector]) -> None:
    tokens = [vector for vector in suite if vector.has_token]
    assert len(tokens) >= 2
    for vector in tokens:
        with pytest.raises(Refused, match="Temporary credentials"):
            verifier().claim(authorized(vector))


def test_every_vector_fails_when_altered(suite: list[Vector]) -> None:
    for vector in suite:
        if vector.has_token:
            continue
        request = authorized(vector)
        claim = verifier().claim(request)
        others = [
            (request._replace(method="PUT"), vector.body),
            (request._replace(path=request.path + b"x"), vector.body),
            (request._replace(query=request.query + b"&x=y"), vector.body),
            (request, vector.body + b" "),
        ]
        for other, body in others:
            with pytest.raises(Refused) as caught:
                verifier().account(claim, other, body)
            assert caught.value.code == "InvalidSignatureException", vector.name


def test_algorithm_name() -> None:
    assert ALGORITHM == b"AWS4-HMAC-SHA256"
