"""Redactions and error summaries: tables, hostile logs, and that nothing is shown where a redaction fails."""

import math
import re
import resource
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.disclosure import rows
from passbox.disclosure import logs, personal, summary
from passbox.disclosure.redaction import CUT, LONGEST, PERSONAL, CannotRedact, Redaction
from passbox.disclosure.text import lines, readable

NUMBERS = {"entitiesToRedact": ["NUMBERS"]}
PII = {"entitiesToRedact": [PERSONAL]}


def custom(*identifiers):
    return {
        "entitiesToRedact": ["CUSTOM"],
        "customEntityConfig": {"customDataIdentifiers": list(identifiers)},
    }


def redacted(line, *configurations):
    return Redaction(configurations).applied([line])[0]


@pytest.mark.parametrize(("line", "shown"), rows("personal.md"))
def test_personal_information(line, shown):
    assert redacted(line, PII) == shown.replace("#", "[REDACTED:PII]")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("loss=-0.5e-3, 17 of 1,000", "loss=#, # of #"),
        ("conv2d x86 int8", "conv#d x# int#"),
        ("٣٤ ½ ² Ⅷ 三", "# # # # 三"),
        ("2026-11-24T13:00:01Z", "#T#Z"),
        ("nan inf", "nan inf"),
        ("", ""),
    ],
)
def test_numbers(line, shown):
    assert redacted(line, NUMBERS) == shown.replace("#", "[REDACTED:NUMBER]")


@given(st.text(max_size=200))
def test_no_digit_is_left_and_no_line_is_lost(text):
    text = readable(text)
    split = text.split("\n")
    done = Redaction([NUMBERS, PII, custom("a.*b")]).applied(split)
    assert len(done) == len(split)
    assert not any(sign.isnumeric() and sign < "\u3000" for line in done for sign in line)


@given(st.lists(st.sampled_from(["ann@example.com", "x", " ", "17", "\n", "é", "\U0001f600"]), max_size=30))
def test_places_are_right_whatever_stands_around(parts):
    text = "".join(parts)
    assert "example" not in "\n".join(Redaction([PII]).applied(text.split("\n")))


def test_custom_patterns_and_the_order_of_names():
    assert redacted("pat-17 in ward 4", custom("pat-[0-9]+", "ward \\d")) == (
        "[REDACTED:CUSTOM] in [REDACTED:CUSTOM]"
    )
    assert redacted("pat-17", custom("pat"), NUMBERS) == "[REDACTED:CUSTOM]"
    assert redacted("ann@example.com17", PII, NUMBERS) == "[REDACTED:PII]"
    assert redacted("aaa", custom("x*")) == "aaa"


def test_a_key_of_several_lines():
    body = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7"
    block = ["-----BEGIN PRIVATE KEY-----", body, body, "-----END PRIVATE KEY-----", "after"]
    done = Redaction([PII]).applied(block)
    assert len(done) == 5
    assert done[-1] == "after"
    assert body not in done


def test_a_finding_over_several_lines_keeps_them(monkeypatch):
    monkeypatch.setattr(personal, "find", lambda text: iter([(2, len(text) - 2)]))
    hidden = Redaction([PII]).applied(["a b", "c", "d e"])
    assert hidden == ["a [REDACTED:PII]", "[REDACTED:PII]", "[REDACTED:PII] e"]


# -- what cannot be redacted is not shown --------------------------------------------------------------------


def release(log, redaction):
    policy = {"allowedAccountIds": ["A"], "logRedactionConfiguration": redaction}
    return logs.release(log, [policy], ["A"], ["A"])["A"]


def test_without_the_library_nothing_is_published(monkeypatch):
    monkeypatch.setitem(sys.modules, "datafog_core", None)
    given = release(b"ann@example.com\n", PII)
    assert given.text == ""
    assert given.outcome.status == "PUBLISH_FAILED"
    assert "finder of personal information failed" in given.outcome.details


def test_a_finder_that_breaks_shows_nothing(monkeypatch):
    def broken(_text):
        raise RuntimeError("a secret")

    monkeypatch.setattr(personal, "find", broken)
    given = release(b"ann@example.com\n", PII)
    assert given.text == ""
    assert "secret" not in given.outcome.details


def test_an_unknown_entity_shows_nothing():
    with pytest.raises(CannotRedact, match="FACES"):
        Redaction([{"entitiesToRedact": ["FACES"]}])


def test_custom_without_identifiers_shows_nothing():
    with pytest.raises(CannotRedact):
        Redaction([{"entitiesToRedact": ["CUSTOM"]}])


# -- floods and hostile lines --------------------------------------------------------------------------------

LINE = b"epoch 17 loss=0.50 row 17 of ann@example.com 4111 1111 1111 1111 tel 212-555-0123 ip 10.0.0.1\n"


@pytest.mark.parametrize("megabytes", [2, pytest.param(16, marks=pytest.mark.slow)])
def test_a_flooded_log_is_redacted_in_seconds_and_within_bounds(megabytes):
    log = LINE * ((megabytes << 20) // len(LINE))  # 13 findings a line; the cap of a log is 16 MB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    given = release(log, {**custom("row [0-9]+"), "entitiesToRedact": [PERSONAL, "NUMBERS", "CUSTOM"]})
    assert time.process_time() - began < 4 * megabytes  # about 1 a megabyte where nothing else runs
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < (128 + 24 * megabytes) << 10
    assert given.text.count("\n") == log.count(b"\n")
    assert "ann" not in given.text
    assert not re.search("[0-9]", given.text)


@pytest.mark.parametrize(
    "line",
    [
        b"a" * 1_000_000,
        b"1" * 1_000_000,
        b"1 " * 500_000,
        b"a@" * 500_000,
        b"\xff\xfe" * 500_000,
        b"\x00" * 1_000_000,
        b"\x1b[31m" * 200_000,
        b"\x1b]0;" * 250_000,
        b"-----BEGIN PRIVATE KEY-----" * 37_000,
        "\u200b".encode() * 300_000,
    ],
    ids=lambda line: repr(line[:8]),
)
def test_long_and_hostile_lines(line):
    began = time.process_time()
    given = release(line + b"\nafter ann@example.com\n", {"entitiesToRedact": [PERSONAL, "NUMBERS"]})
    assert time.process_time() - began < 10
    first, second = given.text.split("\n")[:2]
    assert second == "after [REDACTED:PII]"
    assert len(first) <= LONGEST * 20
    assert given.outcome.status == "PUBLISH_SUCCEEDED"


def test_the_rest_of_a_long_line_is_hidden():
    line = "x" * LONGEST + "ann@example.com"
    assert redacted(line, NUMBERS) == "x" * LONGEST + CUT
    assert Redaction([]).applied([line]) == [line]


def test_an_expression_that_looks_far_for_every_match_is_given_up():
    began = time.process_time()
    given = release((b"a" * LONGEST + b"\n") * 40, custom("a[a ]*b|a"))
    assert given.text == ""
    assert "too often" in given.outcome.details
    assert time.process_time() - began < 60


@pytest.mark.parametrize(
    "hidden", ["ann\x1b[0m@example.com", "an\u200bn@example.com", "ann@\u202eexample.com"]
)
def test_what_is_not_seen_does_not_hide(hidden):
    given = release(hidden.encode() + b"\n", PII)
    assert given.text == "[REDACTED:PII]\n"


# -- summaries -----------------------------------------------------------------------------------------------

TRACEBACK = """\
epoch 1
Traceback (most recent call last):
  File "/opt/ml/code/train.py", line 88, in <module>
    fit(row)
  File "/opt/ml/code/train.py", line 41, in fit
    raise ValueError(f"row {row}")
    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
ValueError: row ann@example.com

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "C:\\code\\features.py", line 12, in encode
sklearn.exceptions.NotFittedError
"""


def test_a_summary_says_what_and_not_where_or_with_what():
    assert summary.summarise(TRACEBACK.splitlines(), lambda line: False) == [
        "ValueError",
        "sklearn.exceptions.NotFittedError",
    ]


def test_a_pattern_lets_the_message_into_the_summary():
    given = logs.release(
        TRACEBACK.encode(),
        [{"allowedAccountIds": ["A"], "logType": "ERROR_SUMMARY", "filterPattern": "^ValueError",
          "logRedactionConfiguration": PII}],
        ["A"], ["A"],
    )["A"]  # fmt: skip
    assert given.text.splitlines()[:2] == ["ValueError", "  ValueError: row [REDACTED:PII]"]


@pytest.mark.parametrize(
    ("times", "told"),
    [(1, ""), (2, ", 2-9 times"), (9, ", 2-9 times"), (10, ", 10-99 times"), (99, ", 10-99 times"),
     (100, ", 100 or more times"), (3333, ", 100 or more times")],
)  # fmt: skip
def test_a_summary_of_lines_with_a_prefix_and_of_many(times, told):
    text = "".join(f"[algo-1] {line}\n" for line in TRACEBACK.splitlines()[1:8])
    found = summary.summarise(lines((text * times).encode()), lambda line: False)
    assert found == [f"ValueError{told}"]


def fake(name, file="/ann smith", line=7, function="diabetic"):
    return f'Traceback (most recent call last):\n  File "{file}", line {line}, in {function}\n{name}: x\n'


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("KeyError", "KeyError"),
        ("torch.cuda.OutOfMemoryError", "torch.cuda.OutOfMemoryError"),
        ("ann_smith", summary.OWN),
        ("sklearn.exceptions.ann_smith", summary.OWN),
        ("ann_smith.KeyError", summary.OWN),
        ("KEYERROR", summary.OWN),
        ("Ann.O.Smith.41", summary.OWN),
    ],
)
def test_only_names_that_every_program_has_are_told(name, told):
    assert summary.summarise(fake(name).splitlines(), lambda line: False) == [told]


def test_no_name_no_summary():
    assert summary.summarise(fake("\u00c9rror").splitlines(), lambda line: False) == []


ROW = st.text("abcdefgh 0123456789", min_size=8, max_size=30).map(lambda text: f"zq{text}")


@given(st.lists(st.tuples(ROW, ROW, st.integers(0, 10**9), ROW), min_size=1, max_size=20))
def test_tracebacks_made_of_rows_leave_nothing_of_them(forged):
    log = "".join(fake(name.replace(" ", ""), file, line, function) for name, file, line, function in forged)
    (told,) = summary.summarise(log.splitlines(), lambda line: False)
    assert told.removeprefix(summary.OWN) in ("", ", 2-9 times", ", 10-99 times")


def test_a_summary_says_few_bits_whatever_the_log():
    names = sorted(summary.KNOWN)
    log = "".join(fake(name) for name in names for _ in range(2)) + "FATAL a\nERROR b\n" * 400
    found = summary.summarise(log.splitlines(), lambda line: False)
    assert len(found) == summary.MOST_ERRORS + 3
    assert found[summary.MOST_ERRORS :] == [
        "and other exceptions", "100 or more lines marked ERROR", "100 or more lines marked FATAL"
    ]  # fmt: skip
    backwards = "".join(fake(name) for name in ("OSError", "KeyError", "EOFError"))
    assert summary.summarise(backwards.splitlines(), lambda line: False) == [
        "EOFError",
        "KeyError",
        "OSError",
    ]
    shown = math.comb(len(names) + 1, summary.MOST_ERRORS) * 4**summary.MOST_ERRORS * 2  # most of all sizes
    assert shown * summary.MOST_ERRORS * 5**3 < 2**48


def test_a_log_without_errors_says_so():
    given = logs.release(b"fine\n", [{"allowedAccountIds": ["A"], "logType": "ERROR_SUMMARY"}], ["A"], ["A"])[
        "A"
    ]
    assert given.text == ""
    assert given.outcome.details == logs.NO_ERROR
