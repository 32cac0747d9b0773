"""Items of lists that depend on one row and on nobody who asks: made once for each version of the row.

Knows rows by their place, which no two versions ever share; must not know what an item is, nor how it is
written.
"""

from collections.abc import Callable, Iterable
from typing import Any

from passbox.state import resources
from passbox.state.database import Transaction
from passbox.state.resources import Place, Resource

MOST = 10_000  # items of some hundred bytes each; the oldest leave first

Item = Any


class Items:
    """Remembers items. `keep` makes one of an operation's output for a row."""

    def __init__(self, keep: Callable[[dict[str, Any]], Item]) -> None:
        self._keep = keep
        self._made: dict[tuple[str, Place], Item] = {}

    def of(
        self,
        tx: Transaction,
        operation: str,
        places: Iterable[Place],
        project: Callable[[Resource], dict[str, Any]],
    ) -> list[Item]:
        """The items of an operation at these places, in their order. `tx` has read them and changes nothing:
        only what is committed is remembered.
        """
        found = {place: self._made.get((operation, place)) for place in places}
        missing = [place for place, item in found.items() if item is None]
        for row in resources.at(tx, missing) if missing else ():
            place = Place(row.sequence, row.version)
            found[place] = self._made[operation, place] = self._keep(project(row))
        while len(self._made) > MOST:
            self._made.pop(next(iter(self._made)), None)
        return list(found.values())
