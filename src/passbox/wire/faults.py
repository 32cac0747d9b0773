"""What is wrong with a request, collected in one go and worded as Smithy's restJson1 suite words it.

A value of the wrong JSON type is malformed and ends as a SerializationException; a value of the right type
that breaks a constraint ends as a ValidationException. Where both occur the first wins, since a constraint
on a value that could not be read means nothing. Knows wording; must not know shapes.

Source: Smithy, `aws.protocoltests.restjson`, the malformed-request and validation suites.
"""

from typing import Any

from passbox.errors import ValidationException
from passbox.wire.errors import SERIALIZATION, Refused

# A path is a linked list, so that checking a sound value builds no strings: (path of the parent, name).
Path = tuple[Any, Any] | None

# More than this and the answer would be larger than any reader wants; the count stays right.
_LISTED = 50
_LONGEST_NAME = 128


def render(path: Path) -> str:
    """`/dataChannels/0/channelName`; the body itself is `/`."""
    names: list[str] = []
    while path is not None:
        path, name = path
        names.append(str(name)[:_LONGEST_NAME])
    return "/" + "/".join(reversed(names))


class Faults:
    """The malformed and the broken values of one request."""

    __slots__ = ("_broken", "_count", "_malformed")

    def __init__(self) -> None:
        self._malformed: list[tuple[str, str]] = []
        self._broken: list[tuple[str, str, str]] = []
        self._count = 0

    def malformed(self, path: Path, expected: str) -> None:
        """The value at `path` cannot be read as what the model says."""
        if len(self._malformed) < _LISTED:
            self._malformed.append((render(path), expected))

    def broken(self, path: Path, constraint: str, *, length: int | None = None) -> None:
        """The value at `path` breaks a constraint."""
        self._count += 1
        if len(self._broken) < _LISTED:
            subject = "Value" if length is None else f"Value with length {length}"
            self._broken.append((render(path), subject, constraint))

    def raise_if_any(self) -> None:
        """Raise Refused (SerializationException) or ValidationException, or return."""
        if self._malformed:
            told = "; ".join(f"Value at '{path}' must be {text}" for path, text in self._malformed)
            raise Refused(SERIALIZATION, 400, told)
        if self._count:
            noun = "error" if self._count == 1 else "errors"
            told = "; ".join(
                f"{subject} at '{path}' failed to satisfy constraint: {text}"
                for path, subject, text in self._broken
            )
            raise ValidationException(
                f"{self._count} validation {noun} detected. {told}",
                # fields are named here as operations name theirs: `dataChannels.0.channelName`
                fields=[(path[1:].replace("/", "."), text) for path, _, text in self._broken],
            )
