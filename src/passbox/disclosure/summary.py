"""ERROR_SUMMARY: what went wrong and where in the code, without what the error says.

Of every Python traceback in a log: the exception's type, the file's base name, line and function of its
innermost frames. Of other errors: how many lines are marked ERROR, CRITICAL or FATAL. These are words of the
algorithm's code, not of the data. A message can quote any value, so it is given only where a filterPattern is
found in its line. What an author of malicious code could still tell is bounded: MOST_ERRORS short names and
numbers. Pure.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

MOST_ERRORS = 10
MOST_FRAMES = 3
_LONGEST_MESSAGE = 512
_HEAD = "Traceback (most recent call last):"
_FRAME = re.compile(r'\s*File "([^"]{1,4096})", line ([0-9]{1,7})(?:, in (\S{1,256}))?')
_TYPE = re.compile(r"([A-Za-z_][\w.]{0,255})(?::|$)", re.ASCII)
_MARKS = re.compile(r"\b(ERROR|CRITICAL|FATAL)\b")
_ODD = re.compile(r"[^\w.<>\-]", re.ASCII)
_LONGEST_NAME = 64


@dataclass(frozen=True)
class Failure:
    """One traceback. type: of the exception; frames: the innermost first; message: its last line."""

    type: str
    frames: tuple[str, ...]
    message: str


def summarise(lines: Sequence[str], allowed: Callable[[str], bool]) -> list[str]:
    """The lines of the summary; none where the log shows no error.

    allowed: whether a line of the log may be shown as it is
    """
    failures = list(_failures(lines))
    seen: Counter[tuple[str, tuple[str, ...]]] = Counter()
    messages: dict[tuple[str, tuple[str, ...]], str] = {}
    for failure in failures:
        what = failure.type, failure.frames
        seen[what] += 1
        if allowed(failure.message):
            messages.setdefault(what, failure.message[:_LONGEST_MESSAGE])
    found = []
    for (type, frames), times in list(seen.items())[:MOST_ERRORS]:
        places = ", from ".join(frames) or "a place that the log does not show"
        found.append(f"{type} at {places}{f', {times} times' if times > 1 else ''}")
        if (type, frames) in messages:
            found.append(f"  {messages[type, frames]}")
    if len(seen) > MOST_ERRORS:
        found.append(f"and {len(seen) - MOST_ERRORS} other errors")
    return found + _marked(lines, {failure.message for failure in failures}, allowed)


def _marked(lines: Sequence[str], told: set[str], allowed: Callable[[str], bool]) -> list[str]:
    """How many lines say of themselves that they are errors, and those that may be shown."""
    marks: Counter[str] = Counter()
    shown: list[str] = []
    for line in lines:
        mark = _MARKS.search(line)
        if mark is None:
            continue
        marks[mark[1]] += 1
        if line not in told and len(shown) < MOST_ERRORS and allowed(line):
            shown.append(f"  {line[:_LONGEST_MESSAGE]}")
    counts = [f"{number} line{'s' if number > 1 else ''} marked {mark}" for mark, number in marks.items()]
    return [*counts, *shown]


def _failures(lines: Sequence[str]) -> Iterator[Failure]:
    """Every traceback that ends with an exception, in the order of the log."""
    at = 0
    while at < len(lines):
        before, head, _ = lines[at].partition(_HEAD)
        at += 1
        if not head:
            continue
        frames: list[str] = []
        while at < len(lines):
            line = lines[at].removeprefix(before)
            frame = _FRAME.match(line)
            if frame is not None:
                frames.append(_place(frame))
            elif line[:1] not in (" ", "\t", "|"):
                break
            at += 1
        if at < len(lines):
            line = lines[at].removeprefix(before)
            type = _TYPE.match(line)
            if type is not None:
                yield Failure(_name(type[1]), tuple(reversed(frames[-MOST_FRAMES:])), line)


def _place(frame: re.Match[str]) -> str:
    path, line, function = frame.groups()
    file = _name(path.replace("\\", "/").rpartition("/")[2])
    return f"{file}:{line}" + (f" in {_name(function)}" if function else "")


def _name(text: str) -> str:
    return _ODD.sub("?", text)[-_LONGEST_NAME:]
