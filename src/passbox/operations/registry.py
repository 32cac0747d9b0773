"""The list of operations that exist: a function registers under the model's name of the operation.

    @operation("cleanrooms.CreateCollaboration")
    def create_collaboration(call, params): ...

A function receives a permitted Call and validated parameters and returns the output as a dict; `wire` keeps
of it what the output shape has. What is not registered is answered 501 and listed in
tests/golden/unimplemented.txt.
"""

from collections.abc import Callable
from typing import Any

from passbox.access.call import Call

Params = dict[str, Any]
Output = dict[str, Any]
Operation = Callable[[Call, Params], Output | None]

OPERATIONS: dict[str, Operation] = {}


def operation(name: str) -> Callable[[Operation], Operation]:
    """Registers a function as the operation `service.Operation`."""

    def register(function: Operation) -> Operation:
        if name in OPERATIONS:
            raise ValueError(f"{name} has two functions")
        OPERATIONS[name] = function
        return function

    return register


def reads_only(name: str) -> bool:
    """Whether the operation changes nothing, so that a snapshot is enough."""
    return name.split(".")[1].startswith(("Get", "List", "BatchGet", "Explain"))
