"""Access keys at rest: sealed under the key file, bound to their id."""

from pathlib import Path

import pytest

from passbox.access import keys
from passbox.errors import Misconfigured
from passbox.state import accounts
from passbox.state.database import Database, Statement


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database(tmp_path / "passbox.sqlite")
    with database.write() as tx:
        accounts.create(tx, "111111111111", "a")
    return database


def test_a_key_comes_back_for_its_id_only(tmp_path: Path, database: Database) -> None:
    key = keys.load_key_file(tmp_path / "key")
    with database.write() as tx:
        id, secret = keys.create(tx, key, "111111111111", None, None)
    found = keys.Keys(database, key)
    assert found.find(id) == ("111111111111", secret)
    assert found.find("AKIAOTHER") is None
    assert keys.load_key_file(tmp_path / "key") == key


def test_a_sealed_secret_does_not_fit_another_id(tmp_path: Path, database: Database) -> None:
    from sqlalchemy import text

    key = keys.load_key_file(tmp_path / "key")
    with database.write() as tx:
        keys.create(tx, key, "111111111111", "AKIAONE", "one")
        keys.create(tx, key, "111111111111", "AKIATWO", "two")
    swap = "UPDATE access_key SET sealed_secret = (SELECT sealed_secret FROM access_key WHERE id = 'AKIAONE')"
    with database.write() as tx:
        tx.execute(Statement(text(swap)))
    with pytest.raises(Misconfigured):
        keys.Keys(database, key).find("AKIATWO")


def test_another_key_file_opens_nothing(tmp_path: Path, database: Database) -> None:
    with database.write() as tx:
        keys.create(tx, keys.load_key_file(tmp_path / "key"), "111111111111", "AKIAONE", "one")
    with pytest.raises(Misconfigured, match="does not fit"):
        keys.Keys(database, keys.load_key_file(tmp_path / "other")).find("AKIAONE")


def test_a_short_key_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"short")
    path.chmod(0o600)
    with pytest.raises(Misconfigured, match="32 bytes"):
        keys.load_key_file(path)
