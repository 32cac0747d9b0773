"""A routed request becomes params: labels from the path, scalars and lists from the query, the JSON body.

Everything is read strictly: bad percent escapes, text that is not UTF-8, a scalar given twice and a body
that is not one JSON object are refused as SerializationException. Knows where a member travels; must not
know who sent it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson

from passbox.wire.check import Check, Checks
from passbox.wire.errors import SERIALIZATION, Refused
from passbox.wire.faults import Faults, Path
from passbox.wire.shapes import FLOATS, INTEGERS, Shape, Shapes, UnsupportedModel, resolve, structure

Decode = Callable[[Sequence[bytes], bytes, bytes], dict[str, Any]]
Read = Callable[[Any], dict[str, Any]]

_INTEGER = re.compile(r"-?\d{1,19}", re.ASCII)
_FLOAT = re.compile(r"-?\d{1,32}(?:\.\d{1,32})?(?:[eE][+-]?\d{1,3})?", re.ASCII)
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_MOST_QUERY_PARAMETERS = 512


def compile_decoder(shapes: Shapes, ref: Shape | None, labels: Sequence[str], checks: Checks) -> Decode:
    """The function (raw labels in order, raw query, body) → params of one operation.

    ref:    the operation's input, or None where it has none
    labels: the names in the operation's URI, in order
    """
    if ref is None:
        return lambda labels, query, body: {}  # noqa: ARG005
    shape = structure(shapes, ref)
    required = frozenset(shape.get("required", ()))
    in_path: dict[str, tuple[str, Check]] = {}
    in_query: dict[str, tuple[str, Check, bool, bool]] = {}
    from_text = Checks(shapes, timestamp="iso8601")
    for name, member in shape["members"].items():
        location = member.get("location")
        key = member.get("locationName", name)
        if location == "uri":
            in_path[key] = (name, _text(resolve(shapes, member), from_text.of(member)))
        elif location == "querystring":
            target = resolve(shapes, member)
            many = target["type"] == "list"
            scalar = resolve(shapes, target["member"]) if many else target
            check = _text(scalar, from_text.of(member), many=many)
            in_query[key] = (name, check, many, name in required)
        elif location is not None:
            raise UnsupportedModel(f"{ref['shape']}.{name}: location {location}")
    path_members = [in_path[label] for label in labels]
    body_members = checks.members(shape)

    def decode(labels: Sequence[bytes], query: bytes, body: bytes) -> dict[str, Any]:
        faults = Faults()
        params: dict[str, Any] = {}
        for (name, check), raw in zip(path_members, labels, strict=True):
            params[name] = check(_unquote(raw), (None, name), faults)
        if in_query:
            _read_query(query, in_query, params, faults)
        if body_members:
            document = _read_body(body)
            for name, key, check, needed in body_members:
                value = document.get(key)
                if value is not None:
                    params[name] = check(value, (None, key), faults)
                elif needed:
                    faults.broken((None, key), "Member must not be null")
        faults.raise_if_any()
        return params

    return decode


def compile_reader(shapes: Shapes, ref: Shape | None, checks: Checks) -> Read:
    """The function document → params of one operation: all members of its input from one JSON object, under
    the names that SDKs give them, wherever a request would carry them. Another name is refused, as SDKs do
    before they send.
    """
    shape = {"members": {}} if ref is None else structure(shapes, ref)
    check = checks.whole(shape)

    def read(document: Any) -> dict[str, Any]:
        faults = Faults()
        params: dict[str, Any] = check(document, None, faults)
        for name in sorted(set(document) - set(shape["members"])) if type(document) is dict else ():
            faults.broken((None, name), "Must be left out: the request has no such member")
        faults.raise_if_any()
        return params

    return read


def has_body(shapes: Shapes, ref: Shape | None) -> bool:
    """Whether any member of the input travels in the body."""
    return ref is not None and any(
        "location" not in member for member in shapes[ref["shape"]]["members"].values()
    )


def _text(shape: Shape, check: Check, *, many: bool = False) -> Check:
    """A check whose value arrives as text (or as a list of texts) and is read as the shape's type first."""
    kind = shape["type"]
    if kind in ("string", "timestamp"):
        return check
    read: Callable[[str], Any]
    if kind in INTEGERS:
        expected, read = "an integer", lambda text: int(text) if _INTEGER.fullmatch(text) else None
    elif kind in FLOATS:
        expected, read = "a number", lambda text: float(text) if _FLOAT.fullmatch(text) else None
    elif kind == "boolean":
        expected, read = "true or false", {"true": True, "false": False}.get
    else:
        raise UnsupportedModel(f"a {kind} as text")

    def one(text: Any, path: Path, faults: Faults) -> Any:
        value = read(text)
        return faults.malformed(path, expected) if value is None else check(value, path, faults)

    def each(texts: Any, path: Path, faults: Faults) -> Any:
        values = [read(text) for text in texts]
        return faults.malformed(path, f"each {expected}") if None in values else check(values, path, faults)

    return each if many else one


def _read_query(
    query: bytes,
    wanted: Mapping[str, tuple[str, Check, bool, bool]],
    params: dict[str, Any],
    faults: Faults,
) -> None:
    given: dict[str, list[str]] = {}
    parts = query.split(b"&") if query else []
    if len(parts) > _MOST_QUERY_PARAMETERS:
        raise Refused(SERIALIZATION, 400, f"The query has more than {_MOST_QUERY_PARAMETERS} parameters.")
    for part in parts:
        raw_name, _, raw_value = part.partition(b"=")
        if (key := _unquote(raw_name)) in wanted:
            given.setdefault(key, []).append(_unquote(raw_value))
    for key, (name, check, many, needed) in wanted.items():
        values = given.get(key)
        path = (None, name)
        if many:
            # SDKs do not send an empty list at all, so a required one that is absent is empty.
            if values is not None or needed:
                params[name] = check(values or [], path, faults)
        elif values is None:
            if needed:
                faults.broken(path, "Member must not be null")
        elif len(values) > 1:
            faults.malformed(path, "given once")
        else:
            params[name] = check(values[0], path, faults)


def _unquote(raw: bytes) -> str:
    """Percent-decode. A `+` stays a plus: that is how the signature reads it too."""
    try:
        if b"%" not in raw:
            return raw.decode()
        if not _BAD_ESCAPE.search(raw):
            return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        pass
    raise Refused(SERIALIZATION, 400, "The path and the query must be percent-encoded UTF-8.")


def _read_body(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise Refused(SERIALIZATION, 400, f"The request body is not valid JSON ({where}).") from None
    if type(document) is not dict:
        raise Refused(SERIALIZATION, 400, "The request body must be a JSON object.")
    return document
