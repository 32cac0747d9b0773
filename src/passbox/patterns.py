"""Regular expressions that members write, matched in linear time.

Knows RE2, not what the expressions guard. One place compiles them for who takes them in and for who applies
them later, so that what was taken can be applied.
"""

import re
from typing import Any

import re2

_MEMORY = 8 << 20
_MOST_REPEATS = 1000  # all counts of an expression together; RE2 has the same limit for each by itself
# an escape that is no count, or a count
_COUNT = re.compile(r"\\(?:x\{[0-9A-Fa-f]*\}|.)|\{([0-9]+)(?:,([0-9]*))?\}", re.DOTALL)


class BadPattern(ValueError):
    """The text is no regular expression of RE2, or needs too much memory; the message says why."""


def compile_pattern(text: str) -> Any:
    """A compiled RE2 expression; BadPattern where it is none. Back references and look-around are none, and
    counts that add up to much: RE2 takes seconds, and more than linear time, to compile such alternatives.
    """
    if _repeats(text) > _MOST_REPEATS:
        raise BadPattern(f"its counts in braces add up to more than {_MOST_REPEATS:,}")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY
    try:
        return re2.compile(text, options)
    except re2.error as error:
        why = error.args[0] if error.args else "it needs too much memory"
        raise BadPattern(why.decode(errors="replace") if isinstance(why, bytes) else str(why)) from error
    except UnicodeError as error:
        raise BadPattern("it holds half of a surrogate pair") from error


def _repeats(text: str) -> int:
    if "\\Q" in text:  # what is quoted has no escapes, so that none can be passed over
        text = text.replace("\\", "")
    counts = (found[2] or found[1] for found in _COUNT.finditer(text))
    return sum(int(count[:5]) for count in counts if count)
