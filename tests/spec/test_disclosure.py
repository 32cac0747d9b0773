"""What may leave of a container's words: the tables in `disclosure/`, and what no table says well."""

import math
import re
import statistics
import time
from fractions import Fraction

import pytest

from lib.disclosure import TABLES, rows
from passbox.disclosure import logs, messages, metrics, sizes
from passbox.synthesis import noise

CONFIGURED = ("A", "B", "C")
ENTITIES = {
    "numbers": "NUMBERS",
    "pii": "ALL_PERSONALLY_IDENTIFIABLE_INFORMATION",
    "custom": "CUSTOM",
    "broken": "CUSTOM",
}


def log_of(name):
    return (TABLES / name).read_text().split("```\n")[1]


def policies(text):
    found = []
    for part in text.split("&&") if text else ():
        accounts, _, pattern = part.strip().partition(":")
        words = accounts.split()
        policy = {"allowedAccountIds": [word for word in words if word.isupper()]}
        if pattern.strip():
            policy["filterPattern"] = pattern.strip()
        if "summary" in words:
            policy["logType"] = "ERROR_SUMMARY"
        entities = [ENTITIES[word] for word in words if word in ENTITIES]
        if entities:
            policy["logRedactionConfiguration"] = {"entitiesToRedact": entities}
        if "CUSTOM" in entities:
            identifiers = ["out of \\w+", *(["(bad"] if "broken" in words else [])]
            redaction = policy["logRedactionConfiguration"]
            redaction["customEntityConfig"] = {"customDataIdentifiers": identifiers}
        found.append(policy)
    return found


@pytest.mark.parametrize(("policy", "account", "status", "shown", "why"), rows("logs.md"))
def test_logs(policy, account, status, shown, why):
    log = log_of("logs.md")
    given = logs.release(log.encode(), policies(policy), ["A", "B", "C", "D"], CONFIGURED)[account]
    lines = log.splitlines()
    if re.fullmatch("[1-4 ]*", shown):
        expected = [lines[int(number) - 1] for number in shown.split()]
    else:
        expected = shown.split("; ")
    assert given.text.splitlines() == expected
    assert given.outcome.status == f"PUBLISH_{status}"
    assert why in (given.outcome.details or "")
    assert bool(why) == bool(given.outcome.details)


@pytest.mark.parametrize(("policy", "shown"), rows("failures.md"))
def test_failure_messages(policy, shown):
    text = "no column late\nrow 17 of ann@example.com\n"
    message = messages.failure_message(3, text, policies(policy), ["A", "B"])
    if shown == "nothing":
        assert message == f"The container ended with exit status 3. {messages.WITHHELD}"
    else:
        assert message.split("\n") == shown.split("; ")


def one_more(values, _variance):
    return [value + 1 for value in values]


@pytest.mark.parametrize(("level", "regex", "account", "status", "values", "why"), rows("metrics.md"))
def test_metrics(level, regex, account, status, values, why):
    definitions = [{"name": "loss", "regex": regex}]
    level = None if level == "unset" else level
    log = log_of("metrics.md").encode()
    given = metrics.release(log, definitions, level, ["A", "B", "D"], CONFIGURED, one_more)[account]
    assert [metric.value for metric in given.metrics] == [float(value) for value in values.split()]
    assert given.outcome.status == f"PUBLISH_{status}"
    assert why in (given.outcome.details or "")
    assert bool(why) == bool(given.outcome.details)


# -- logs ----------------------------------------------------------------------------------------------------


def released(log, pattern=""):
    return logs.release(log, policies(f"A: {pattern}"), ["A"], CONFIGURED)["A"]


@pytest.mark.parametrize(
    ("log", "text"),
    [
        (b"one\r\ntwo", "one\ntwo\n"),
        (b"10 %\r20 %\rdone\n", "10 %\r20 %\rdone\n"),
        (b"\xff\xfe broken", "�� broken\n"),
        (b"\n\n", "\n\n"),
        (b"a\x0bb\x0cc\xe2\x80\xa8d", "a�b�c\u2028d\n"),
        (b"\x1b[1;31mred\x1b[0m \x1b]0;title\x07ok\x00", "red ok�\n"),
        ("an\u200bn \u202eevil\u202c".encode(), "ann evil\n"),
    ],
)
def test_what_a_line_is(log, text):
    assert released(log).text == text


def test_a_pattern_cannot_reach_around_a_carriage_return():
    assert released(b"secret\rok\n", "^ok").text == ""


def test_an_empty_log_says_so():
    assert released(b"").outcome.details == logs.EMPTY


def test_patterns_that_stall_other_engines_are_linear():
    line = b"a" * 1_000_000 + b"!\n"
    began = time.perf_counter()
    released(line, "(a+)+$")
    released(line, "(a|aa)+$")
    assert time.perf_counter() - began < 20


def test_a_pattern_that_would_need_much_memory_is_none():
    assert released(b"x\n", "((a{1,100}){1,100}){1,100}").outcome.status == "PUBLISH_FAILED"


def test_what_is_stored():
    assert released(b"x\n").outcome.stored() == {"status": "PUBLISH_SUCCEEDED"}
    assert set(released(b"").outcome.stored()) == {"status", "details"}


# -- failures ------------------------------------------------------------------------------------------------


def test_a_failure_text_is_cut_and_harmless():
    assert messages.failure_text(b"x" * 3000) == "x" * 1024
    assert messages.failure_text("é".encode() * 1025) == "é" * 1024
    assert messages.failure_text(b"\x1b[2Jboo\x00\n\tok") == "boo�\n\tok"


def test_no_reader_no_words():
    assert messages.released_failure("words", policies("A:"), []) is None


def test_a_failure_without_a_file():
    assert messages.failure_message(1, " \n", [], ["A"]) == "The container ended with exit status 1."
    assert "not in the image" in messages.failure_message(127, "", [], ["A"])


# -- metrics -------------------------------------------------------------------------------------------------


def test_an_algorithm_without_metrics_says_nothing():
    assert metrics.release(b"loss=1\n", [], "NONE", ["A"], CONFIGURED, one_more) == {}


def test_metrics_are_in_the_order_of_the_log():
    definitions = [{"name": "b", "regex": "b=(.+)"}, {"name": "a", "regex": "a=([0-9]+)"}]
    found, bad = metrics.collect(b"a=1\na=2 b=3\n", definitions)
    assert [(metric.name, metric.value, metric.line) for metric in found] == [
        ("a", 1.0, 1),
        ("b", 3.0, 2),
        ("a", 2.0, 2),
    ]
    assert bad == ()


def test_a_bad_definition_does_not_hide_the_others():
    definitions = [{"name": "bad", "regex": "("}, {"name": "good", "regex": "x=(.+)"}]
    given = metrics.release(b"x=1\n", definitions, "NONE", ["A"], CONFIGURED, one_more)["A"]
    assert [metric.name for metric in given.metrics] == ["good"]
    assert "of bad is not" in given.outcome.details


def test_a_flood_of_values_is_cut():
    definitions = [{"name": "x", "regex": "x=(.+)"}]
    given = metrics.release(b"x=1\n" * 20_000, definitions, "NONE", ["A"], CONFIGURED, one_more)["A"]
    assert len(given.metrics) == metrics.MOST_VALUES
    assert given.outcome.details == metrics.CUT


def exact(values, name="loss"):
    return [metrics.Metric(name, value, line) for line, value in enumerate(values, 1)]


SOURCE = noise.seeded(1)


def really(values, variance):
    return noise.add(values, variance, SOURCE)[0].tolist()


@pytest.mark.parametrize(("level", "deviation"), [("LOW", 0.01), ("MEDIUM", 0.05), ("HIGH", 0.2)])
@pytest.mark.parametrize("value", [0.75, -96.0, 3e-7])
def test_the_noise_is_as_large_as_documented(level, deviation, value):
    told = [
        metric.value
        for name in range(4000)
        for metric in metrics.noised(exact([value], str(name)), metrics.SHARES[level], really)
    ]
    expected = deviation * metrics.magnitude([value])
    assert statistics.stdev(told) == pytest.approx(expected, rel=0.1)
    assert statistics.mean(told) == pytest.approx(value, abs=expected / 10)


def test_a_longer_series_tells_no_more():
    means = [
        statistics.mean(m.value for m in metrics.noised(exact([1.0] * 400), Fraction(1, 20), really))
        for _ in range(400)
    ]
    assert statistics.stdev(means) == pytest.approx(0.05, rel=0.2)


def test_of_a_long_series_some_are_told_the_last_among_them():
    kept = metrics.noised(exact(range(1, 1001)), Fraction(1, 100), lambda values, _variance: values)
    assert len(kept) == metrics.MOST_NOISY
    assert kept[-1].value == 1000
    assert [metric.value for metric in kept[:2]] == [40, 80]
    assert all(metric.line is None for metric in kept)


def test_noisy_numbers_hold_no_digits_below_the_step():
    told = metrics.noised(exact([1 / 3, 2 / 7]), Fraction(1, 100), really)
    assert all((metric.value / (0.5 / metrics.STEPS)).is_integer() for metric in told)


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ([0.0], 1.0),
        ([1.0], 1.0),
        ([-1.5], 2.0),
        ([0.3, 0.1], 0.5),
        ([1e300], 2.0**997),
        ([5e-324], 2.0**-1000),
    ],
)
def test_magnitudes(values, size):
    assert metrics.magnitude(values) == size
    told = metrics.noised(exact(values), Fraction(1, 5), lambda counts, _variance: counts)
    assert [metric.value for metric in told] == pytest.approx(values, abs=size / metrics.STEPS)


def test_noise_upon_the_largest_numbers_is_a_number():
    told = metrics.noised(exact([1.7e308, -1.7e308]), Fraction(1, 5), really)
    assert all(math.isfinite(metric.value) for metric in told)


def test_every_member_is_given_the_same_noise():
    definitions = [{"name": "x", "regex": "x=(.+)"}]
    given = metrics.release(b"x=1\n" * 9, definitions, "HIGH", ["A", "B"], CONFIGURED, really)
    assert given["A"].metrics == given["B"].metrics != ()


# -- sizes ---------------------------------------------------------------------------------------------------


def test_sizes():
    assert sizes.in_bytes({"unit": "GB", "value": 0.01}) == 10_000_000
    assert sizes.in_bytes({"unit": "GB", "value": 100}) == 100_000_000_000
    assert [sizes.readable(number) for number in (999, 1500, 2_500_000, 3_000_000_000)] == [
        "999 bytes",
        "1.50 kB",
        "2.50 MB",
        "3.00 GB",
    ]
