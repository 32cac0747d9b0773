"""Regular expressions of members: what is one, why not, and that none takes long to compile."""

import time

import pytest

from passbox.patterns import BadPattern, compile_pattern


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rows=([0-9.]+)",
        r"\x{2019}\{[0-9]{1,900}\}",  # code points and braces are no counts
        "a{1,1000}",
        "|".join([r"\pL"] * 200),
        "|".join(["[a-z]{1,50}"] * 20),
        "(a" * 200 + ")?" * 200,
    ],
)
def test_good_ones_compile_at_once(text: str) -> None:
    began = time.process_time()
    compile_pattern(text)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a(", "missing )"),
        ("(?=a)", "invalid perl operator"),
        (r"\1", "invalid escape sequence"),
        ("a{1001}", "add up"),
        (r"\pL{1,900}", "too large"),
        ("|".join(["a{1,900}"] * 100), "add up to more than 1,000"),
        (r"\\x{900}|\\x{900}", "add up"),
        (r"\Q\\Ex{900}|\Q\\Ex{900}", "add up"),
        (r"x\x41{900}|(?:\cx){900}", "add up"),
        ("a" + "{1,9}" * 200, "add up"),
        ("\udc80", "surrogate"),
    ],
)
def test_bad_ones_are_refused_at_once_with_the_reason(text: str, why: str) -> None:
    began = time.process_time()
    with pytest.raises(BadPattern, match=why.replace(")", r"\)")):
        compile_pattern(text)
    assert time.process_time() - began < 0.5
