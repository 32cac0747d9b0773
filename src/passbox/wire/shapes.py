"""How a botocore shape is looked up, and which traits the wire can carry.

Knows the JSON form of a service model; must not know requests, responses or HTTP.
"""

from collections.abc import Mapping
from typing import Any

Shape = Mapping[str, Any]
Shapes = Mapping[str, Shape]

INTEGERS = {"integer": (-(2**31), 2**31 - 1), "long": (-(2**63), 2**63 - 1)}
FLOATS = frozenset({"float", "double"})

# Neither service uses these. A model that starts to must fail loudly, not be half understood.
_FOREIGN_MEMBER = ("jsonvalue", "streaming", "hostLabel", "eventpayload", "idempotencyToken")


class UnsupportedModel(Exception):
    """A service model uses a trait that the wire does not carry."""


def resolve(shapes: Shapes, ref: Mapping[str, Any]) -> Shape:
    """The shape a reference points to, refusing traits that would silently be ignored."""
    for trait in _FOREIGN_MEMBER:
        if ref.get(trait):
            raise UnsupportedModel(f"{ref['shape']}: {trait}")
    return shapes[ref["shape"]]


def structure(shapes: Shapes, ref: Mapping[str, Any]) -> Shape:
    """The input or output structure of an operation; a payload member is refused."""
    shape = resolve(shapes, ref)
    if "payload" in shape:
        raise UnsupportedModel(f"{ref['shape']}: payload")
    return shape
