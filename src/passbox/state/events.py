"""One row for every transition of a resource or a job: what happened, in order, for ever."""

from sqlalchemy import bindparam, insert, select

from passbox import names
from passbox.state.database import Insertion, Statement, Transaction
from passbox.state.tables import event

_INSERT = Insertion(insert(event), ("at", "subject", "kind", "before", "after"))
_OF = Statement(
    select(event.c.at, event.c.kind, event.c.before, event.c.after)
    .where(event.c.subject == bindparam("subject"))
    .order_by(event.c.sequence)
)


def record(tx: Transaction, subject: str, kind: str, before: str | None, after: str | None) -> None:
    """Notes that `subject` (an identifier) went from one status to another."""
    tx.insert(_INSERT, (names.now(), subject, kind, before, after))


def of(tx: Transaction, subject: str) -> list[tuple[float, str, str | None, str | None]]:
    """(at, kind, before, after) of one subject, oldest first; reads the whole table, for people and tests."""
    return [tuple(row) for row in tx.rows(_OF, {"subject": subject})]
