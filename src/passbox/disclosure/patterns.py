"""Regular expressions that members write, matched in linear time. Knows RE2, not what they guard."""

from typing import Any

import re2

_MEMORY = 8 << 20


class BadPattern(ValueError):
    """The text is no regular expression of RE2, or one that would need too much memory."""


def compile_pattern(text: str) -> Any:
    """A compiled RE2 expression; BadPattern where it is none. Back references and look-around are none."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY
    try:
        return re2.compile(text, options)
    except (re2.error, UnicodeError) as error:
        raise BadPattern(str(error)) from error


def lines(log: bytes) -> list[str]:
    """The lines of what a program wrote, without their ends; what is not UTF-8 is replaced.

    Only `\\n` and `\\r\\n` end a line: what a program redraws with `\\r` stays one line.
    """
    text = log.decode("utf-8", "replace")
    found = [line.removesuffix("\r") for line in text.split("\n")]
    if found and not found[-1]:
        found.pop()
    return found
