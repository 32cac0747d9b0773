"""Accounts and their access keys. Secrets are stored sealed (see keys at `passbox.access.keys`)."""

import sqlite3
from dataclasses import dataclass

from sqlalchemy import bindparam, insert, select

from passbox import names
from passbox.errors import Misconfigured
from passbox.state.database import Statement, Transaction
from passbox.state.tables import access_key, account

_KEY = Statement(
    select(access_key.c.account, access_key.c.sealed_secret).where(access_key.c.id == bindparam("id"))
)
_ADD = Statement(insert(account))
_ADD_KEY = Statement(insert(access_key))
_KEYS = Statement(select(access_key.c.id, access_key.c.account).order_by(access_key.c.created))
_ALL = Statement(select(account).order_by(account.c.id))
_EXISTS = Statement(select(account.c.id).where(account.c.id == bindparam("id")))


@dataclass(frozen=True)
class Account:
    """An account of this room: twelve digits and a name for people; the ids of its access keys."""

    id: str
    name: str
    created: float
    access_keys: tuple[str, ...] = ()


def create(tx: Transaction, id: str, name: str) -> None:
    """Adds an account; adding the same account again is an error."""
    try:
        tx.execute(_ADD, {"id": id, "name": name, "created": names.now()})
    except sqlite3.IntegrityError:
        raise Misconfigured(f"Account {id} exists already; see `passbox account list`.") from None


def add_key(tx: Transaction, id: str, account_id: str, sealed_secret: bytes) -> None:
    """Adds an access key to an account."""
    row = {"id": id, "account": account_id, "sealed_secret": sealed_secret, "created": names.now()}
    try:
        tx.execute(_ADD_KEY, row)
    except sqlite3.IntegrityError:
        raise Misconfigured(f"The access key {id} exists already; choose another --access-key-id.") from None


def find_key(tx: Transaction, id: str) -> tuple[str, bytes] | None:
    """(account, sealed secret) of an access key."""
    row = tx.row(_KEY, {"id": id})
    return None if row is None else (row["account"], row["sealed_secret"])


def list_(tx: Transaction) -> list[Account]:
    """All accounts, by number."""
    keys: dict[str, list[str]] = {}
    for row in tx.rows(_KEYS):
        keys.setdefault(row["account"], []).append(row["id"])
    return [Account(**dict(row), access_keys=tuple(keys.get(row["id"], ()))) for row in tx.rows(_ALL)]


def exists(tx: Transaction, id: str) -> bool:
    """Whether the account is known here."""
    return tx.row(_EXISTS, {"id": id}) is not None
