"""Calls that change something, made together: those that wait are made one after another on the event loop
and last by one commit. They are short, and a commit costs more than several of them.

    begin → call, call, … (the loop) → commit (a thread) → all are answered

Nobody is answered before the commit that holds their change, not even with a refusal: it may rest on the
change of another. Knows groups and threads; must not know what a call does.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from typing import Any, Generic, Protocol, TypeVar

MOST = 64  # calls in a group

T = TypeVar("T")


class Group(Protocol):
    """Calls that last by one commit; a call that raises has changed nothing."""

    def commit(self) -> None:
        """Everything lasts, or nothing does if this raises."""


G = TypeVar("G", bound=Group)


class Later(Exception):
    """A call was undone because it needs something slow: `work` is for a thread; then make the call again."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work


class Together(Generic[G]):
    """One group after the other.

    begin:   may wait for other writers; it and `commit` run in a thread
    at_once: begins without waiting, on the loop, or gives None
    """

    def __init__(self, begin: Callable[[], G], at_once: Callable[[], G | None] = lambda: None) -> None:
        self._begin = begin
        self._at_once = at_once
        self._waiting: deque[tuple[Callable[[G], Any], Context, asyncio.Future[_Outcome]]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="together")
        self._making: asyncio.Task[None] | None = None

    async def run(self, call: Callable[[G], T]) -> T:
        """What `call` returns in a group that has been committed, or what it raises."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[_Outcome] = loop.create_future()
        self._waiting.append((call, copy_context(), answer))
        if self._making is None:
            self._making = loop.create_task(self._make())
        outcome = await answer
        if outcome.error is not None:
            raise outcome.error
        return outcome.value  # type: ignore[no-any-return]

    def shutdown(self) -> None:
        """Waits for the thread; nothing runs after."""
        self._thread.shutdown()

    async def _make(self) -> None:
        try:
            while self._waiting:
                await self._group()
        finally:
            self._making = None

    async def _group(self) -> None:
        in_thread = asyncio.get_running_loop().run_in_executor
        made: list[tuple[asyncio.Future[_Outcome], _Outcome]] = []
        failed: _Outcome | None = None
        try:
            group = self._at_once()
            if group is None:
                group = await in_thread(self._thread, self._begin)
            while self._waiting and len(made) < MOST:
                call, context, answer = self._waiting.popleft()
                made.append((answer, context.run(_outcome, call, group)))
            await in_thread(self._thread, group.commit)
        except Exception as error:  # nothing of the group lasts, and every caller hears why
            failed = _Outcome(None, error)
            if not made:
                made = [(answer, failed) for _, _, answer in self._waiting]
                self._waiting.clear()
        for answer, outcome in made:
            if not answer.done():
                answer.set_result(failed or outcome)


class _Outcome:
    """What a call returned or raised."""

    __slots__ = ("error", "value")

    def __init__(self, value: Any, error: Exception | None) -> None:
        self.value = value
        self.error = error


def _outcome(call: Callable[[Any], Any], group: Any) -> _Outcome:
    try:
        return _Outcome(call(group), None)
    except Exception as error:
        return _Outcome(None, error)
