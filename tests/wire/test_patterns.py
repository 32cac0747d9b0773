"""Every pattern of both models: a full match, in a time that a stranger cannot stretch."""

from time import perf_counter
from typing import Any

import pytest

from lib.wire_server import SERVICES
from passbox.wire.patterns import compile_pattern
from passbox.wire.shapes import UnsupportedModel

PATTERNS = {
    f"{service.name}.{name}": shape
    for service in SERVICES
    for name, shape in service.shapes.items()
    if "pattern" in shape
}


def matches(name: str, text: str) -> bool:
    shape = PATTERNS[name]
    return bool(compile_pattern(shape["pattern"], shape.get("max"))(text))


# Repetitions that lead a backtracking engine astray: long sound beginnings with an unsound end.
SEEDS = [
    "a",
    "a-",
    "-",
    " ",
    "a ",
    "a.",
    "0",
    ".",
    "/",
    "arn:aws:cleanrooms:",
    ":0",
    "\t",
    "é",
    "s3://a",
    "_",
]


@pytest.mark.parametrize("name", PATTERNS)
def test_no_pattern_can_hang(name: str) -> None:
    shape: Any = PATTERNS[name]
    longest = min(shape.get("max", 100_000), 100_000)
    match = compile_pattern(shape["pattern"], shape.get("max"))
    started = perf_counter()
    for seed in SEEDS:
        text = (seed * longest)[: longest - 1]
        match(text + "\x00")
        match(text + "!")
        prefix = "arn:aws:entityresolution:"
        match((prefix + text)[: longest - 1] + "\x00")
    # Linear matching takes milliseconds; AthenaTableName took 9 s at 26 characters in a backtracking engine.
    assert perf_counter() - started < 2


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("cleanrooms.AthenaTableName", "flights_2013", True),
        ("cleanrooms.AthenaTableName", "flights-2013", False),
        ("cleanrooms.AthenaTableName", "a" * 127 + "-", False),
        ("cleanrooms.AthenaTableName", "", False),
        ("cleanrooms.SnowflakeTableName", "Flüge 2013_a-b", True),
        ("cleanrooms.SnowflakeTableName", "a;b", False),
        ("cleanrooms.SnowflakeTableName", "a\tb", False),
        ("cleanrooms.SnowflakeAccountIdentifier", "org.acc", True),
        ("cleanrooms.DatabricksObject", "a b", False),
        ("cleanrooms.DatabricksObject", "表", True),
        ("cleanrooms.S3LocationBucketString", "my-bucket.eu", True),
        ("cleanrooms.S3LocationBucketString", "192.168.0.1", False),
        ("cleanrooms.S3LocationBucketString", "-bucket", False),
        ("cleanrooms.CollaborationName", "late arrivals", True),
        ("cleanrooms.CollaborationName", "  \t ", False),
        ("cleanrooms.CollaborationName", "two\nlines", False),
        ("cleanrooms.CollaborationDescription", "two\r\nlines", True),
        ("cleanrooms.AccountId", "123456789012", True),
        ("cleanrooms.AccountId", "١٢٣٤٥٦٧٨٩٠١٢", False),
        ("cleanrooms.AccountId", "123456789012\n", False),
        ("cleanrooms.ColumnName", "dep delay-x", True),
        ("cleanrooms.ColumnName", "Dep", False),
        ("cleanroomsml.UUID", "01234567-89ab-cdef-0123-456789abcdef", True),
        ("cleanroomsml.UUID", "x01234567-89ab-cdef-0123-456789abcdef", False),
        ("cleanroomsml.UUID", "01234567-89ab-cdef-0123-456789abcdefx", False),
        ("cleanroomsml.S3Path", "s3://b\nc", False),
    ],
)
def test_matches(name: str, text: str, expected: bool) -> None:
    assert matches(name, text) is expected


def test_lookaround_without_a_bound_is_refused() -> None:
    with pytest.raises(UnsupportedModel):
        compile_pattern("(?=a)(a+)+", None)
    with pytest.raises(UnsupportedModel):
        compile_pattern("(?=a)(a+)+", 256)
