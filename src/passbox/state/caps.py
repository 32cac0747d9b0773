"""The rows of spend caps. What they mean is in `passbox.ledger.caps`; this file only reads and writes."""

from typing import Any, NamedTuple

from sqlalchemy import bindparam, delete, select
from sqlalchemy.dialects.sqlite import insert as upsert

from passbox.state.database import Statement, Transaction
from passbox.state.tables import cap as table


class Cap(NamedTuple):
    """limit in micro-dollars; period MONTH or LIFETIME; times in seconds since the epoch."""

    payer: str
    collaboration: str
    cost_type: str
    period: str
    limit: int
    created: float
    updated: float


_KEY = ("payer", "collaboration", "cost_type", "period")


def _where(*names: str) -> Any:
    return [table.c[name] == bindparam(name) for name in names]


_COLUMNS = [table.c[name] for name in Cap._fields]
_GET = Statement(select(*_COLUMNS).where(*_where(*_KEY)))
_OF_COST = Statement(select(*_COLUMNS).where(*_where(*_KEY[:3])).order_by(table.c.period))
_OF_PAYER = Statement(select(*_COLUMNS).where(*_where(*_KEY[:2])).order_by(table.c.cost_type, table.c.period))
_REMOVE = Statement(delete(table).where(*_where(*_KEY)))
_new = upsert(table)
_PUT = Statement(
    _new.on_conflict_do_update(
        index_elements=_KEY, set_={name: _new.excluded[name] for name in ("limit", "updated")}
    )
)


def put(tx: Transaction, cap: Cap) -> None:
    """Writes a cap, over the one there was."""
    _forget(tx, cap)
    tx.execute(_PUT, cap._asdict())


def get(tx: Transaction, payer: str, collaboration: str, cost_type: str, period: str) -> Cap | None:
    """One cap."""
    rows = tx.tuples(_GET, dict(zip(_KEY, (payer, collaboration, cost_type, period), strict=True)))
    return Cap._make(rows[0]) if rows else None


def of_cost(tx: Transaction, payer: str, collaboration: str, cost_type: str) -> list[Cap]:
    """The caps on one cost type: at most one for each period; read once."""
    found: list[Cap] | None = tx.seen.get(("cap", payer, collaboration, cost_type))
    if found is None:
        found = _caps(tx, _OF_COST, payer=payer, collaboration=collaboration, cost_type=cost_type)
        tx.seen["cap", payer, collaboration, cost_type] = found
    return found


def of_payer(tx: Transaction, payer: str, collaboration: str) -> list[Cap]:
    """All caps of a payer in a collaboration."""
    return _caps(tx, _OF_PAYER, payer=payer, collaboration=collaboration)


def remove(tx: Transaction, cap: Cap) -> None:
    """Deletes a cap."""
    _forget(tx, cap)
    tx.execute(_REMOVE, {name: getattr(cap, name) for name in _KEY})


def _forget(tx: Transaction, cap: Cap) -> None:
    """What was read of the caps that one is about to join, or to leave."""
    tx.seen.pop(("cap", *cap[:3]), None)


def _caps(tx: Transaction, statement: Statement, **values: str) -> list[Cap]:
    return [Cap._make(row) for row in tx.tuples(statement, values)]
