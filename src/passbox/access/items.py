"""Items of lists that depend on one row and on nobody who asks: made once for each version of the row, and
whole pages of them once for as long as the same versions are on it.

Knows rows by their place, which no two versions ever share; must not know what an item is, nor how it is
written.
"""

from collections.abc import Callable
from typing import Any

from passbox.state import resources
from passbox.state.database import Transaction
from passbox.state.resources import Place, Resource

ITEMS = 10_000  # of some hundred bytes each
PAGES = 200  # of up to a hundred items

Item = Any


class Items:
    """Remembers items and pages; the oldest leave first. `keep` wraps what is made more than seldom."""

    def __init__(self, keep: Callable[[Any], Item]) -> None:
        self._keep = keep
        self._items: dict[tuple[str, Place], Item] = {}
        self._pages: dict[tuple[str, tuple[Place, ...]], Item] = {}

    def page(
        self,
        tx: Transaction,
        operation: str,
        places: tuple[Place, ...],
        project: Callable[[Resource], dict[str, Any]],
    ) -> Item:
        """An operation's items at these places, in their order. `tx` has read them and changes nothing: only
        what is committed is remembered.
        """
        found = self._pages.get((operation, places))
        if found is None:
            found = self._keep(self._make(tx, operation, places, project))
            _remember(self._pages, (operation, places), found, PAGES)
        return found

    def _make(
        self,
        tx: Transaction,
        operation: str,
        places: tuple[Place, ...],
        project: Callable[[Resource], dict[str, Any]],
    ) -> list[Item]:
        found = {place: self._items.get((operation, place)) for place in places}
        missing = [place for place, item in found.items() if item is None]
        for row in resources.at(tx, missing) if missing else ():
            place = (row.sequence, row.version)
            found[place] = self._keep(project(row))
            _remember(self._items, (operation, place), found[place], ITEMS)
        return list(found.values())


def _remember(where: dict[Any, Item], key: Any, item: Item, most: int) -> None:
    where[key] = item
    while len(where) > most:
        where.pop(next(iter(where)), None)
