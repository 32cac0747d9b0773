"""Every output shape as one compiled closure: what a handler returned becomes what the model promises.

Keeps only modelled members, formats timestamps (floats in the house), and refuses an answer that lacks a
required member: an SDK in a typed language would fail on it far from the cause. A shape that needs no work
has no closure. Must not know HTTP.
"""

from collections.abc import Callable
from typing import Any

import orjson

from passbox.wire.shapes import Shape, Shapes, UnsupportedModel, resolve
from passbox.wire.timestamps import WRITE

Project = Callable[[Any], Any]


class OutputFault(Exception):
    """A handler returned what the model does not allow: a fault of ours, never of the caller."""


class Kept:
    """A list, or an item of one, that many answers of one operation have: projected and written once."""

    __slots__ = ("_json", "_value")

    def __init__(self, value: Any) -> None:
        self._value = value
        self._json: orjson.Fragment | None = None

    def written(self, project: Project) -> orjson.Fragment:
        """Its JSON; the value is let go."""
        value = self._value
        if self._json is None:
            self._json = orjson.Fragment(orjson.dumps(project(value)))
            self._value = None
        return self._json


class Projections:
    """The closures of one service, compiled when an operation first needs them."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes
        self._done: dict[str, Project | None] = {}

    def of(self, ref: Shape) -> Project | None:
        """The closure of a shape, or None where values pass unchanged."""
        name = ref["shape"]
        if name in self._done:
            return self._done[name]
        shape = resolve(self._shapes, ref)
        self._done[name] = lambda value: (self._done[name] or _same)(value)
        self._done[name] = project = self._compile(name, shape)
        return project

    def _compile(self, name: str, shape: Shape) -> Project | None:
        kind = shape["type"]
        if shape.get("document"):
            return None
        if kind == "structure":
            return self._structure(name, shape)
        if kind == "list":
            item = self.of(shape["member"])
            return None if item is None else _each(item)
        if kind == "map":
            item = self.of(shape["value"])
            return None if item is None else _each_value(item)
        if kind == "timestamp":
            return WRITE[shape.get("timestampFormat", "unixTimestamp")]
        if kind == "blob":
            raise UnsupportedModel(f"{name}: a blob in an output")
        return None

    def _structure(self, name: str, shape: Shape) -> Project:
        required = frozenset(shape.get("required", ()))
        members = []
        for member, ref in shape["members"].items():
            if "location" in ref:
                raise UnsupportedModel(f"{name}.{member}: location {ref['location']} in an output")
            members.append((member, ref.get("locationName", member), self.of(ref), member in required))
        union = bool(shape.get("union"))

        def project(value: Any) -> Any:
            out = {}
            for member, key, child, needed in members:
                item = value.get(member)
                if item is not None:
                    out[key] = item if child is None else child(item)
                elif needed:
                    raise OutputFault(f"{name}.{member} is required and the handler left it out")
            if union and len(out) != 1:
                raise OutputFault(f"{name} is a union and has {len(out)} members")
            return out

        return project


def _each(item: Project) -> Project:
    def project(value: Any) -> Any:
        if type(value) is Kept:
            return value.written(project)
        return [one.written(item) if type(one) is Kept else item(one) for one in value]

    return project


def _each_value(item: Project) -> Project:
    return lambda value: {key: item(one) for key, one in value.items()}


def _same(value: Any) -> Any:
    return value
