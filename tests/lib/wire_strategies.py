"""Hypothesis strategies made from the shapes of a service model: sound values, and such with one fault.

Knows the JSON form of a model, so that it stays independent of how the wire compiles it.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from hypothesis import strategies as st

_TEXT = st.characters(exclude_categories=["Cs"])
_PLAIN = st.characters(min_codepoint=0x21, max_codepoint=0xD7FF, exclude_characters="\x7f")
_LONGEST = 12
_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
# Parts of ARNs that are costly to draw letter by letter and teach nothing.
_FIXED = (
    (_UUID, "01234567-89ab-cdef-0123-456789abcdef"),
    ("[\\d]{12}", "123456789012"),
    ("[0-9]{12}", "123456789012"),
)
_ONE_CLASS = re.compile(r"(\[[^]]*\])([+*])")

# Any JSON object: what a member may hold whose shape is a document.
_DOCUMENTS = st.dictionaries(
    st.text(_TEXT, max_size=_LONGEST),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(_TEXT, max_size=_LONGEST),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(_TEXT, max_size=3), inner),
        max_leaves=6,
    ),
    max_size=3,
)

# What `st.from_regex` would find too slowly (lookaround) or not at all (\p).
_BY_PATTERN = (
    (re.compile(r"^\.\*\(\?!"), st.from_regex(r"[a-z0-9]{3,30}", fullmatch=True)),
    (
        re.compile(r"\\p\{L\}"),
        st.text(st.characters(categories=["L", "N", "Pc", "Pd"]), min_size=3, max_size=9),
    ),
    (re.compile(r"\\uD800"), st.text(_PLAIN, min_size=1, max_size=_LONGEST)),
)


class Strategies:
    """The strategies of one model."""

    def __init__(self, shapes: Mapping[str, Any], moments: st.SearchStrategy[Any]) -> None:
        self._shapes = shapes
        self._moments = moments
        self._of = cache(self._make)

    def of(self, name: str) -> st.SearchStrategy[Any]:
        """Values that satisfy every constraint of the shape."""
        return self._of(name)

    def _make(self, name: str) -> st.SearchStrategy[Any]:
        shape = self._shapes[name]
        kind = shape["type"]
        low, high = shape.get("min"), shape.get("max")
        if kind == "structure":
            return _DOCUMENTS if shape.get("document") else self._structure(shape)
        if kind == "list":
            low = low or 0
            return st.lists(
                self.of(shape["member"]["shape"]), min_size=low, max_size=min(high or 99, low + 2)
            )
        if kind == "map":
            key, value = self.of(shape["key"]["shape"]), self.of(shape["value"]["shape"])
            return st.dictionaries(key, value, min_size=low or 0, max_size=min(high or 99, (low or 0) + 2))
        if kind == "string":
            return _string(shape)
        if kind in ("integer", "long"):
            bits = 31 if kind == "integer" else 63
            return st.integers(-(2**bits) if low is None else low, 2**bits - 1 if high is None else high)
        if kind in ("double", "float"):
            return st.floats(low, high, allow_nan=False, allow_infinity=False)
        return {"boolean": st.booleans(), "timestamp": self._moments}[kind]

    def _structure(self, shape: Mapping[str, Any]) -> st.SearchStrategy[Any]:
        members = {name: self.of(ref["shape"]) for name, ref in shape["members"].items()}
        if shape.get("union"):
            return st.one_of(*(st.fixed_dictionaries({name: value}) for name, value in members.items()))
        required = {name: members.pop(name) for name in shape.get("required", ())}
        return st.fixed_dictionaries(required, optional=members)


def _string(shape: Mapping[str, Any]) -> st.SearchStrategy[str]:
    low, high, pattern = shape.get("min", 0), shape.get("max", 10**6), shape.get("pattern")
    if "enum" in shape:
        return st.sampled_from(shape["enum"])
    if pattern is None:
        return st.text(_TEXT, min_size=low, max_size=min(high, low + _LONGEST))
    for form, strategy in _BY_PATTERN:
        if form.search(pattern):
            return strategy
    if pattern == _UUID:
        return st.uuids().map(str)
    for part, example in _FIXED:
        pattern = pattern.replace(part, example)
    repeated = _ONE_CLASS.fullmatch(pattern)
    if repeated:
        pattern = f"{repeated[1]}{{{max(low, repeated[2] == '+')},{min(high, low + _LONGEST)}}}"
    found = st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True)
    return found.filter(lambda text: low <= len(text) <= high)


class Fault(NamedTuple):
    """One thing wrong with a JSON document, and the path under which it must be reported.

    keys: where to put `value`; Fault.REMOVE takes the key away
    """

    path: str
    keys: tuple[Any, ...]
    value: Any


REMOVE = object()
_WRONG_TYPE = {
    "string": 7,
    "integer": "seven",
    "long": 1.5,
    "double": "seven",
    "float": True,
    "boolean": 1,
    "timestamp": [],
    "structure": [],
    "list": {},
    "map": "seven",
}


def faults(shapes: Mapping[str, Any], name: str, value: Any, keys: tuple[Any, ...] = ()) -> Iterator[Fault]:
    """Every single fault that could be put into `value`, a sound document of the shape."""
    shape = shapes[name]
    path = "/" + "/".join(map(str, keys))
    kind = shape["type"]
    if shape.get("document"):
        return
    if keys:
        yield Fault(path, keys, _WRONG_TYPE[kind])
        yield from _constraints(shape, value, path, keys)
    if kind == "structure":
        for member, ref in shape["members"].items():
            if member in value:
                yield from faults(shapes, ref["shape"], value[member], (*keys, member))
                if member in shape.get("required", ()):
                    yield Fault(f"{path.rstrip('/')}/{member}", (*keys, member), REMOVE)
                    yield Fault(f"{path.rstrip('/')}/{member}", (*keys, member), None)
        if shape.get("union") and keys:
            yield Fault(path, (*keys, "unknown"), "member")
            yield Fault(path, keys, {})
    elif kind == "list":
        for index, item in enumerate(value):
            yield from faults(shapes, shape["member"]["shape"], item, (*keys, index))
    elif kind == "map":
        for key, item in value.items():
            yield from faults(shapes, shape["value"]["shape"], item, (*keys, key))


def _constraints(shape: Mapping[str, Any], value: Any, path: str, keys: tuple[Any, ...]) -> Iterator[Fault]:
    low, high, kind = shape.get("min"), shape.get("max"), shape["type"]
    if "enum" in shape:
        yield Fault(path, keys, "no such value")
    elif kind == "string":
        if high is not None:
            yield Fault(path, keys, "a" * (high + 1))
        if low:
            yield Fault(path, keys, "")
    elif kind in ("integer", "long", "double", "float"):
        if high is not None:
            yield Fault(path, keys, high + 1)
        if low is not None:
            yield Fault(path, keys, low - 1)
    elif kind == "list" and high is not None and high <= 100 and value:
        yield Fault(path, keys, [value[0]] * (high + 1))
    elif kind in ("list", "map") and low:
        yield Fault(path, keys, [] if kind == "list" else {})


def inject(document: Any, fault: Fault) -> None:
    """Put the fault into the document, in place."""
    *parents, last = fault.keys
    for key in parents:
        document = document[key]
    if fault.value is REMOVE:
        del document[last]
    else:
        document[last] = fault.value
