"""Access keys: which account a key belongs to, and the secret that signs for it.

Secrets are sealed with AES-256-GCM under the key file (mode 0600), bound to the access key's id, so a copied
database alone signs nothing.
"""

import os
import secrets
import string
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from passbox.errors import Misconfigured
from passbox.state import accounts
from passbox.state.database import Database, Transaction

_ALPHABET = string.ascii_letters + string.digits + "/+"
_REMEMBERED = 10_000


def load_key_file(path: Path) -> bytes:
    """The 32 bytes of the key file; made on first use. Refuses one that others may read."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return _make_key_file(path)
    with os.fdopen(descriptor, "rb") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise Misconfigured(f"{path} may be read by others; run: chmod 600 {path}")
        key = file.read()
    if len(key) != 32:
        raise Misconfigured(f"{path} is not a key file of 32 bytes; restore it from a backup.")
    return key


def _make_key_file(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secrets.token_bytes(32))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(scratch, path)  # whoever comes second keeps the first one's key
    except FileExistsError:
        pass
    finally:
        scratch.unlink()
    return load_key_file(path)


def create(tx: Transaction, key: bytes, account: str, id: str | None, secret: str | None) -> tuple[str, str]:
    """Adds an access key to an account and returns (id, secret); this is the only time the secret is seen."""
    id = id or "AKIA" + "".join(secrets.choice(string.ascii_uppercase + "234567") for _ in range(16))
    secret = secret or "".join(secrets.choice(_ALPHABET) for _ in range(40))
    nonce = secrets.token_bytes(12)
    sealed = nonce + AESGCM(key).encrypt(nonce, secret.encode(), id.encode())
    accounts.add_key(tx, id, account, sealed)
    return id, secret


class Keys:
    """Finds access keys, remembering those found; a key that is not there is asked for again each time."""

    def __init__(self, database: Database, key: bytes) -> None:
        self._database = database
        self._cipher = AESGCM(key)
        self._found: dict[str, tuple[str, str]] = {}

    def find(self, id: str) -> tuple[str, str] | None:
        """(account, secret) of an access key id."""
        found = self._found.get(id)
        if found is not None:
            return found
        with self._database.read() as tx:
            row = accounts.find_key(tx, id)
        if row is None:
            return None
        account, sealed = row
        try:
            secret = self._cipher.decrypt(sealed[:12], sealed[12:], id.encode()).decode()
        except InvalidTag:
            raise Misconfigured(
                "The key file does not fit this database; restore the one that was made with it."
            ) from None
        if len(self._found) < _REMEMBERED:
            self._found[id] = account, secret
        return account, secret
