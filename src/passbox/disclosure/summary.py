"""ERROR_SUMMARY: what went wrong, without anything that the program could choose freely.

Of a log's Python tracebacks: which exceptions ended them, by names of a fixed list, and roughly how often. Of
other errors: roughly how many lines are marked ERROR, CRITICAL or FATAL. A traceback is text that any program
can write, so files, lines, functions and names of its own are not told: they could be made of rows, and
which files the image holds is not known here. A message can quote any value too; it is given only where a
filterPattern is found in its line. Without a pattern a summary is one of fewer than 2^48, whatever the log.
Pure.
"""

import builtins
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

MOST_ERRORS = 5
OWN = "an exception of the program's own"
KNOWN = frozenset(
    name
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, BaseException)
) | {
    "json.decoder.JSONDecodeError",
    "numpy.linalg.LinAlgError",
    "pandas.errors.EmptyDataError",
    "pandas.errors.ParserError",
    "pyarrow.lib.ArrowInvalid",
    "sklearn.exceptions.NotFittedError",
    "torch.OutOfMemoryError",
    "torch.cuda.OutOfMemoryError",
    "xgboost.core.XGBoostError",
}
_LONGEST_MESSAGE = 512
_HEAD = "Traceback (most recent call last):"
_FRAME = re.compile(r'\s*File "[^"]{1,4096}", line [0-9]')
_TYPE = re.compile(r"([A-Za-z_][\w.]{0,255})(?::|$)", re.ASCII)
_MARK_NAMES = ("ERROR", "CRITICAL", "FATAL")
_MARKS = re.compile(rf"\b({'|'.join(_MARK_NAMES)})\b")


@dataclass(frozen=True)
class Failure:
    """One traceback. type: of the exception, of KNOWN or OWN; message: its last line."""

    type: str
    message: str


def summarise(lines: Sequence[str], allowed: Callable[[str], bool]) -> list[str]:
    """The lines of the summary, in an order that is not the log's; none where the log shows no error.

    allowed: whether a line of the log may be shown as it is
    """
    failures = list(_failures(lines))
    seen = Counter(failure.type for failure in failures)
    messages: dict[str, str] = {}
    for failure in failures:
        if allowed(failure.message):
            messages.setdefault(failure.type, failure.message[:_LONGEST_MESSAGE])
    found = []
    told = sorted(type for type, _ in seen.most_common(MOST_ERRORS))
    for type in told:
        found.append(f"{type}{f', {_roughly(seen[type])} times' if seen[type] > 1 else ''}")
        if type in messages:
            found.append(f"  {messages[type]}")
    if len(seen) > MOST_ERRORS:
        found.append("and other exceptions")
    return found + _marked(lines, {failure.message for failure in failures}, allowed)


def _marked(lines: Sequence[str], told: set[str], allowed: Callable[[str], bool]) -> list[str]:
    """Roughly how many lines say of themselves that they are errors, and those that may be shown."""
    marks: Counter[str] = Counter()
    shown: list[str] = []
    for line in lines:
        mark = _MARKS.search(line)
        if mark is None:
            continue
        marks[mark[1]] += 1
        if line not in told and len(shown) < MOST_ERRORS and allowed(line):
            shown.append(f"  {line[:_LONGEST_MESSAGE]}")
    counts = [
        f"{_roughly(marks[mark])} line{'s' if marks[mark] > 1 else ''} marked {mark}"
        for mark in _MARK_NAMES
        if marks[mark]
    ]
    return [*counts, *shown]


def _roughly(number: int) -> str:
    """A count by its size: 1, 2-9, 10-99 or 100 and more."""
    return "1" if number == 1 else "2-9" if number < 10 else "10-99" if number < 100 else "100 or more"


def _failures(lines: Sequence[str]) -> Iterator[Failure]:
    """Every traceback that ends with an exception, in the order of the log."""
    at = 0
    while at < len(lines):
        before, head, _ = lines[at].partition(_HEAD)
        at += 1
        if not head:
            continue
        while at < len(lines):
            line = lines[at].removeprefix(before)
            if not _FRAME.match(line) and line[:1] not in (" ", "\t", "|"):
                break
            at += 1
        if at < len(lines):
            line = lines[at].removeprefix(before)
            type = _TYPE.match(line)
            if type is not None:
                yield Failure(type[1] if type[1] in KNOWN else OWN, line)
