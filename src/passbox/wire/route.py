"""Which operation a request names: a trie over the raw segments of the path, one per signing name.

Routing comes before decoding, because an ARN travels as one percent-encoded segment and its decoded slashes
must not become separators. `/tags/{arn}` exists in two services: the service in the signature's scope
decides. Must not decode, and must not know what an operation does.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from passbox.wire.errors import UNKNOWN_OPERATION, WRONG_METHOD, Refused
from passbox.wire.model import Operation, Service

_DEEPEST = 32
# A dot segment means another path to the signature than to the trie, an empty one means no resource.
_NEVER = frozenset({b"", b".", b".."})


class Route(NamedTuple):
    """An operation and the raw values of its labels, in the order of its URI."""

    operation: Operation
    labels: Sequence[bytes]


class _Node:
    __slots__ = ("label", "literals", "methods")

    def __init__(self) -> None:
        self.literals: dict[bytes, _Node] = {}
        self.label: _Node | None = None
        self.methods: dict[str, Operation] = {}

    def add(self, operation: Operation) -> None:
        node = self
        for segment in operation.uri.split("/")[1:]:
            if segment.startswith("{"):
                node.label = node.label or _Node()
                node = node.label
            else:
                node = node.literals.setdefault(segment.encode(), _Node())
        if operation.method in node.methods:
            raise ValueError(f"{operation.full_name} and {node.methods[operation.method].full_name} collide")
        node.methods[operation.method] = operation

    def find(self, segments: Sequence[bytes], index: int, labels: list[bytes]) -> "_Node | None":
        """The node at the end of the path; a literal wins over a label."""
        if index == len(segments):
            return self if self.methods else None
        segment = segments[index]
        literal = self.literals.get(segment)
        if literal is not None:
            found = literal.find(segments, index + 1, labels)
            if found is not None:
                return found
        if self.label is not None:
            labels.append(segment)
            found = self.label.find(segments, index + 1, labels)
            if found is not None:
                return found
            labels.pop()
        return None


class Router:
    """The operations of several services on one address."""

    def __init__(self, services: Iterable[Service]) -> None:
        self._roots: dict[str, _Node] = {}
        for service in services:
            root = self._roots.setdefault(service.signing_name, _Node())
            for operation in service.operations.values():
                root.add(operation)

    def route(self, signing_name: str, method: str, raw_path: bytes) -> Route:
        """Raises Refused: 404 for a path that no operation has, 405 for a method that it lacks."""
        labels: list[bytes] = []
        node = _find(self._roots[signing_name], raw_path, labels)
        if node is None:
            raise unknown_path()
        operation = node.methods.get(method)
        if operation is None:
            allowed = ", ".join(sorted(node.methods))
            raise Refused(
                WRONG_METHOD,
                405,
                f"The path allows {allowed}.",
                headers=[(b"allow", allowed.encode())],
            )
        return Route(operation, labels)

    def knows(self, raw_path: bytes) -> bool:
        """Whether any service has this path."""
        return any(_find(root, raw_path, []) is not None for root in self._roots.values())


def unknown_path() -> Refused:
    return Refused(UNKNOWN_OPERATION, 404, "No operation has this path.")


def _find(root: _Node, raw_path: bytes, labels: list[bytes]) -> _Node | None:
    segments = raw_path.split(b"/", _DEEPEST + 1)
    if segments[0] or len(segments) > _DEEPEST or not _NEVER.isdisjoint(segments[1:]):
        return None
    return root.find(segments, 1, labels)
