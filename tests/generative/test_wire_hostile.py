"""Whatever bytes arrive, the answer is a refusal: no status of 500 or above, and no dispatch."""

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.wire_asgi import Sent, call, resigned, signed
from lib.wire_server import application

many = settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

# Pieces that get a request further in than noise would.
PATHS = st.one_of(
    st.sampled_from([b"/collaborations", b"/tags/x", b"/memberships/x/ml-configurations", b"", b"*", b"//"]),
    st.binary(max_size=40).map(lambda tail: b"/" + tail),
)
CREDENTIAL = b"AKIDPASSBOXTEST00001/20261124/us-east-1/cleanrooms/aws4_request"
PIECES = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(
        [
            b"AWS4-HMAC-SHA256",
            b"Credential=" + CREDENTIAL,
            b"SignedHeaders=host;x-amz-date",
            b"Signature=" + b"0" * 64,
            b"X-Amz-Algorithm=AWS4-HMAC-SHA256",
            b"X-Amz-Credential=" + CREDENTIAL.replace(b"/", b"%2F"),
            b"X-Amz-Date=20261124T000000Z",
            b"X-Amz-Expires=60",
            b"X-Amz-SignedHeaders=host",
            b"X-Amz-Signature=" + b"0" * 64,
            b"X-Amz-Signature=%FF",
            b"maxResults=%",
            b"=",
            b"%",
            b"/",
            b";",
        ]
    ),
)


def joined(separator: bytes) -> st.SearchStrategy[bytes]:
    return st.lists(PIECES, max_size=8).map(separator.join)


NAMES = st.sampled_from(
    [b"authorization", b"x-amz-date", b"host", b"content-type", b"x-amz-content-sha256", b"x-amz-\xff", b""]
)
VALUES = st.one_of(joined(b", "), joined(b" "), st.just(b"20261124T000000Z"), st.binary(max_size=20))
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=6)


def refuse(account: str, operation: str, params: dict[str, Any]) -> None:
    raise AssertionError("a request that nobody signed was dispatched")


@many
@given(st.sampled_from(["GET", "POST", "DELETE"]), PATHS, joined(b"&"), HEADERS, st.binary(max_size=20))
def test_noise(method: str, path: bytes, query: bytes, headers: Any, body: bytes) -> None:
    answer = call(application(refuse), Sent(method, path, query, headers, body))
    assert 400 <= answer.status < 500, answer


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["name", "members", "tags", "accountId", "description", "dataEncryptionMetadata"]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@many
@given(JSON)
def test_any_json_that_is_soundly_signed(document: Any) -> None:
    sent = resigned(signed("POST", "/collaborations", json.dumps(document).encode()))
    answer = call(application(refuse), sent)
    assert answer.status == 400, answer
    assert answer.code in ("ValidationException", "SerializationException")
