"""What a policy's logRedactionConfiguration hides in lines of text, and what stands there instead.

| entity | what is hidden | replaced by |
|---|---|---|
| ALL_PERSONALLY_IDENTIFIABLE_INFORMATION | what `personal` finds | `[REDACTED:PII]` |
| NUMBERS | every run of digits of any script, with its sign, point and exponent | `[REDACTED:NUMBER]` |
| CUSTOM | what the customDataIdentifiers match, each line by itself | `[REDACTED:CUSTOM]` |

Several redactions add up; places that touch are one, named by the first of CUSTOM, PII, NUMBER in it. Nothing
comes through by failure: `CannotRedact` is raised where an identifier is no RE2 expression, the library is
not there, or a hostile pair of expression and log would take too long. A line longer than LONGEST is cut.
Pure.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from passbox.disclosure import personal
from passbox.patterns import BadPattern, compile_pattern

LONGEST = 32_768  # characters of a line that are looked through; the rest of it is hidden as a whole
CUT = "[REDACTED: the rest of a long line]"
PERSONAL = "ALL_PERSONALLY_IDENTIFIABLE_INFORMATION"
_RANKS = ("CUSTOM", "PII", "NUMBER")
_NUMBER = compile_pattern(r"[+\-]?\pN+(?:[.,:/'’_\-]?\pN+)*(?:[eE][+\-]?\pN+)?")
_CHUNK = 1 << 19  # characters that are looked through at once, to bound memory
_MOST_WORK = 1_000_000_000  # characters that RE2 may have to look at for customDataIdentifiers

Found = tuple[int, int, int]  # start, end, rank


class CannotRedact(ValueError):
    """The redaction cannot be done, so nothing may be shown. The message says what is wrong, without data."""


class Redaction:
    """Everything that several logRedactionConfigurations hide together."""

    def __init__(self, configurations: Iterable[Mapping[str, Any]]) -> None:
        self._entities: set[str] = set()
        self._custom: list[Any] = []
        self._work = 0
        for one in configurations:
            self._entities.update(one["entitiesToRedact"])
            if "CUSTOM" not in one["entitiesToRedact"]:
                continue
            identifiers = one.get("customEntityConfig", {}).get("customDataIdentifiers", ())
            if not identifiers:
                raise CannotRedact("CUSTOM is asked for without customDataIdentifiers")
            for number, text in enumerate(identifiers, start=1):
                try:
                    self._custom.append(compile_pattern(text))
                except BadPattern:
                    raise CannotRedact(
                        f"customDataIdentifier {number} is not a regular expression (RE2 syntax)"
                    ) from None
        unknown = self._entities - {PERSONAL, "NUMBERS", "CUSTOM"}
        if unknown:
            raise CannotRedact(f"{', '.join(sorted(unknown))} is an entity that is not known here")

    def applied(self, lines: Sequence[str]) -> list[str]:
        """The same number of lines with what must be hidden replaced; CannotRedact where it cannot."""
        if not self._entities:
            return list(lines)
        done: list[str] = []
        for chunk in _chunks(lines):
            text = "\n".join(chunk)
            done.extend(_replaced(text, self._find(text, chunk)).split("\n"))
        return [f"{new}{CUT}" if len(old) > LONGEST else new for old, new in zip(lines, done, strict=True)]

    def _find(self, text: str, chunk: Sequence[str]) -> list[Found]:
        found: list[Found] = []
        if self._custom:
            found += self._find_custom(chunk)
        if PERSONAL in self._entities:
            try:
                found += [(start, end, 1) for start, end in personal.find(text)]
            except Exception as error:  # whatever it is, it must not let anything through
                raise CannotRedact("the finder of personal information failed") from error
        if "NUMBERS" in self._entities:
            found += [(*match.span(), 2) for match in _NUMBER.finditer(text)]
        return sorted(found)

    def _find_custom(self, chunk: Sequence[str]) -> Iterator[Found]:
        """By line, because an expression may look as far as its line goes for each of its matches."""
        at = 0
        for line in chunk:
            for pattern in self._custom:
                for match in pattern.finditer(line):
                    start, end = match.span()
                    self._work += len(line) - start
                    if self._work > _MOST_WORK:
                        raise CannotRedact("the customDataIdentifiers match too often in lines too long")
                    if end > start:
                        yield at + start, at + end, 0
            at += len(line) + 1


def _chunks(lines: Sequence[str]) -> Iterator[list[str]]:
    """The lines, cut to LONGEST, some at a time."""
    chunk: list[str] = []
    size = 0
    for line in lines:
        chunk.append(line[:LONGEST])
        size += len(chunk[-1]) + 1
        if size > _CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _replaced(text: str, found: Sequence[Found]) -> str:
    """The text with every place replaced; its line ends stay. found: sorted by start."""
    parts: list[str] = []
    done = index = 0
    while index < len(found):
        start, end, rank = found[index]
        index += 1
        while index < len(found) and found[index][0] <= end:  # it touches or overlaps
            end, rank = max(end, found[index][1]), min(rank, found[index][2])
            index += 1
        word = f"[REDACTED:{_RANKS[rank]}]"
        within = text[start:end].count("\n")
        parts += (text[done:start], "\n".join([word] * (within + 1)))
        done = end
    parts.append(text[done:])
    return "".join(parts)
