"""Every input shape as one compiled closure: JSON value in, checked value out, all faults collected.

Enforces type, required, min, max, pattern, enum and union membership from the model. Members that the
model does not have are dropped, a null member counts as absent, timestamps become floats. Closures instead
of an interpreter, because a request meets them on every call. Must not know HTTP.
"""

import math
from collections.abc import Callable
from typing import Any

from passbox.wire.faults import Faults, Path
from passbox.wire.patterns import compile_pattern
from passbox.wire.shapes import FLOATS, INTEGERS, Shape, Shapes, UnsupportedModel, resolve
from passbox.wire.timestamps import EXPECTED, READ

Check = Callable[[Any, Path, Faults], Any]


class Checks:
    """The closures of one service, compiled when an operation first needs them."""

    def __init__(self, shapes: Shapes, *, timestamp: str = "unixTimestamp") -> None:
        self._shapes = shapes
        self._timestamp = timestamp
        self._done: dict[str, Check] = {}

    def of(self, ref: Shape) -> Check:
        """The closure of the shape that a member, list item or map value refers to."""
        name = ref["shape"]
        done = self._done.get(name)
        if done is not None:
            return done
        shape = resolve(self._shapes, ref)
        # A shape that contains itself meets this stand-in while its own closure is being made.
        self._done[name] = lambda value, path, faults: self._done[name](value, path, faults)
        self._done[name] = check = self._compile(shape)
        return check

    def _compile(self, shape: Shape) -> Check:
        kind = shape["type"]
        if shape.get("document"):
            return _document
        if kind == "structure":
            return self._union(shape) if shape.get("union") else self._structure(shape)
        if kind == "list":
            return _list(shape, self.of(shape["member"]))
        if kind == "map":
            return _map(shape, self.of(shape["key"]), self.of(shape["value"]))
        if kind == "timestamp":
            return _timestamp(shape.get("timestampFormat", self._timestamp))
        return _scalar(shape)

    def members(self, shape: Shape) -> list[tuple[str, str, Check, bool]]:
        """(name, name on the wire, closure, required) of each member that travels in JSON."""
        required = frozenset(shape.get("required", ()))
        return [
            (name, ref.get("locationName", name), self.of(ref), name in required)
            for name, ref in shape["members"].items()
            if "location" not in ref
        ]

    def whole(self, shape: Shape) -> Check:
        """The closure of an input as one JSON object: every member, wherever it travels, by its own name."""
        required = frozenset(shape.get("required", ()))
        members = shape["members"].items()
        return _record([(name, name, self.of(ref), name in required) for name, ref in members])

    def _structure(self, shape: Shape) -> Check:
        return _record(self.members(shape))

    def _union(self, shape: Shape) -> Check:
        members = {key: (name, child) for name, key, child, _ in self.members(shape)}

        def check(value: Any, path: Path, faults: Faults) -> Any:
            if type(value) is not dict:
                return faults.malformed(path, "an object")
            given = [key for key, item in value.items() if item is not None and key != "__type"]
            if len(given) != 1:
                return faults.malformed(path, f"a union with exactly one member set, not {len(given)}")
            key = given[0]
            if key not in members:
                return faults.malformed((path, key), f"a known member of the union: {', '.join(members)}")
            name, child = members[key]
            return {name: child(value[key], (path, key), faults)}

        return check


def _record(members: list[tuple[str, str, Check, bool]]) -> Check:
    def check(value: Any, path: Path, faults: Faults) -> Any:
        if type(value) is not dict:
            return faults.malformed(path, "an object")
        out = {}
        for name, key, child, required in members:
            item = value.get(key)
            if item is not None:
                out[name] = child(item, (path, key), faults)
            elif required:
                faults.broken((path, key), "Member must not be null")
        return out

    return check


def _document(value: Any, path: Path, faults: Faults) -> Any:  # noqa: ARG001 -- a Check takes three
    return value


def _bounds(shape: Shape) -> tuple[float, float, str]:
    """(min, max, what Smithy says when a value or a length lies outside)."""
    low, high = shape.get("min"), shape.get("max")
    if low is not None and high is not None:
        text = f"between {low} and {high}, inclusive"
    elif low is not None:
        text = f"greater than or equal to {low}"
    else:
        text = f"less than or equal to {high}"
    return (-math.inf if low is None else low), (math.inf if high is None else high), text


def _list(shape: Shape, item: Check) -> Check:
    low, high, text = _bounds(shape)
    text = f"Member must have length {text}"

    def check(value: Any, path: Path, faults: Faults) -> Any:
        if type(value) is not list:
            return faults.malformed(path, "a list")
        if not low <= len(value) <= high:
            faults.broken(path, text, length=len(value))
        return [item(one, (path, index), faults) for index, one in enumerate(value)]

    return check


def _map(shape: Shape, key: Check, item: Check) -> Check:
    low, high, text = _bounds(shape)
    text = f"Member must have length {text}"

    def check(value: Any, path: Path, faults: Faults) -> Any:
        if type(value) is not dict:
            return faults.malformed(path, "an object")
        if not low <= len(value) <= high:
            faults.broken(path, text, length=len(value))
        return {key(k, (path, k), faults): item(v, (path, k), faults) for k, v in value.items()}

    return check


def _timestamp(form: str) -> Check:
    if form not in READ:
        raise UnsupportedModel(f"timestampFormat {form}")
    read, expected = READ[form], EXPECTED[form]

    def check(value: Any, path: Path, faults: Faults) -> Any:
        moment = read(value)
        return faults.malformed(path, expected) if moment is None else moment

    return check


def _scalar(shape: Shape) -> Check:
    kind = shape["type"]
    if kind == "string":
        return _enum(shape["enum"]) if "enum" in shape else _string(shape)
    if kind in INTEGERS:
        return _integer(shape)
    if kind in FLOATS:
        return _float(shape)
    if kind == "boolean":
        return _boolean
    raise UnsupportedModel(f"a shape of type {kind}")


def _boolean(value: Any, path: Path, faults: Faults) -> Any:
    if type(value) is not bool:
        return faults.malformed(path, "true or false")
    return value


def _enum(values: list[str]) -> Check:
    allowed = frozenset(values)
    text = f"Member must satisfy enum value set: [{', '.join(values)}]"

    def check(value: Any, path: Path, faults: Faults) -> Any:
        if type(value) is not str:
            return faults.malformed(path, "a string")
        if value not in allowed:
            faults.broken(path, text)
        return value

    return check


def _string(shape: Shape) -> Check:
    low, high, length_text = _bounds(shape)
    length_text = f"Member must have length {length_text}"
    pattern = shape.get("pattern")
    match = compile_pattern(pattern, shape.get("max")) if pattern else None
    pattern_text = f"Member must satisfy regular expression pattern: {pattern}"

    def check(value: Any, path: Path, faults: Faults) -> Any:
        if type(value) is not str:
            return faults.malformed(path, "a string")
        length = len(value)
        if not low <= length <= high:
            faults.broken(path, length_text, length=length)
        # What is too long is never matched: the bound on the work a pattern can cause.
        if match is not None and length <= high and not match(value):
            faults.broken(path, pattern_text)
        return value

    return check


def _integer(shape: Shape) -> Check:
    smallest, largest = INTEGERS[shape["type"]]
    expected = f"an integer between {smallest} and {largest}"
    low, high, text = _bounds(shape)
    text = f"Member must be {text}"

    def check(value: Any, path: Path, faults: Faults) -> Any:
        if type(value) is not int or not smallest <= value <= largest:
            return faults.malformed(path, expected)
        if not low <= value <= high:
            faults.broken(path, text)
        return value

    return check


def _float(shape: Shape) -> Check:
    low, high, text = _bounds(shape)
    text = f"Member must be {text}"

    def check(value: Any, path: Path, faults: Faults) -> Any:
        if type(value) is not int and type(value) is not float:
            return faults.malformed(path, "a number")
        number = float(value)
        if not math.isfinite(number):
            return faults.malformed(path, "a finite number")
        if not low <= number <= high:
            faults.broken(path, text)
        return number

    return check
