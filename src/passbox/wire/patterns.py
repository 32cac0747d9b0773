"""A model's `pattern` as a full match that takes linear time in whatever a stranger sends.

Three engines, in this order:
1. Python's `re` (ASCII classes, as Java's) where no group repeats and at most one wildcard runs: there is
   nothing to backtrack into, and it is ten times faster than the next.
2. RE2 for repeating groups and for `\\p{…}`, which `re` refuses. `cleanrooms.AthenaTableName`, exponential
   in `re`, is one of these.
3. `re` again for what RE2 refuses (lookaround), and only where the model bounds the length to a size at
   which backtracking is harmless. The length is always checked first.

Must not know shapes beyond pattern and length.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import re2

from passbox.wire.shapes import UnsupportedModel

Match = Callable[[str], Any]

_NOT_BLANK = re.compile(r"^\(\?!\\s[*+]\$\)")
_BACKTRACKS = re.compile(r"\)[*+{]|\(\?[!=<]|\\p\{")
_WILDCARD = re.compile(r"\.[*+]")
_BOUND = 255


@cache
def compile_pattern(pattern: str, longest: int | None) -> Match:
    """A function that is truthy when the whole of a string matches.

    longest: the model's `max` for the string, if it has one.
    """
    rest = _NOT_BLANK.sub("", pattern)
    if not _BACKTRACKS.search(rest) and len(_WILDCARD.findall(rest)) <= 1:
        return re.compile(pattern, re.ASCII).fullmatch
    options = re2.Options()
    options.log_errors = False
    try:
        match: Match = re2.compile(pattern, options).fullmatch
    except re2.error:
        if longest is None or longest > _BOUND:
            raise UnsupportedModel(f"pattern {pattern!r} cannot be matched in linear time") from None
        return re.compile(pattern, re.ASCII).fullmatch
    return match
