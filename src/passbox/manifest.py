"""A run manifest's form: canonical JSON, sealed values, an Ed25519 signature, and how all of it is checked.

A document is a JSON object of strings, whole numbers, booleans, nulls, lists and objects; its canonical form
has sorted keys, no spaces and no escapes but those that JSON needs, in UTF-8. Signed are CONTEXT and that
form.

A value that not every reader may see stands in the document as a seal: SHA-256 of a 32-byte nonce and the
value's canonical form. Without the nonce a seal says nothing, however few the values that it could be; with
it the value is proved. Who may see a value is given its opening.

This module knows cryptography; it must not know rooms, jobs or who may see what.
"""

import base64
import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from passbox.errors import PassboxError

VERSION = "passbox-run-manifest-1"
CONTEXT = f"{VERSION}\0".encode()
_NONCE = 32
_DEEPEST = 32


class NotGenuine(PassboxError):
    """The manifest is not what a room signed."""


def canonical(value: Any) -> bytes:
    """The one form of a document or of a sealed value; ValueError for what has none, floats among it."""
    _check(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _check(value: Any, depth: int = 0) -> None:
    if depth > _DEEPEST:
        raise ValueError("too deep")
    if isinstance(value, dict):
        for key, member in value.items():
            if type(key) is not str:
                raise ValueError(f"{key!r} is no name")
            _check(member, depth + 1)
    elif isinstance(value, list):
        for member in value:
            _check(member, depth + 1)
    elif value is not None and type(value) not in (str, int, bool):
        raise ValueError(f"{type(value).__name__} has no canonical form")


def parse(text: str | bytes) -> Any:
    """JSON without repeated names and without floats; ValueError for other text."""

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name is there twice")
        return found

    def no_float(text: str) -> None:
        raise ValueError(f"{text} is no whole number")

    try:
        return json.loads(text, object_pairs_hook=members, parse_float=no_float, parse_constant=no_float)
    except RecursionError:
        raise ValueError("too deep") from None


# -- sealed values -------------------------------------------------------------------------------------------


def sealed(value: Any, nonce: bytes | None = None) -> tuple[str, dict[str, Any]]:
    """(seal, opening) of a value. An opening is {"nonce", "value"}."""
    nonce = secrets.token_bytes(_NONCE) if nonce is None else nonce
    return _seal(nonce, value), {"nonce": _text(nonce), "value": value}


def _seal(nonce: bytes, value: Any) -> str:
    return f"sealed:sha256:{hashlib.sha256(nonce + canonical(value)).hexdigest()}"


def opens(opening: Mapping[str, Any], seal: str) -> bool:
    """Whether an opening is that of a seal."""
    try:
        nonce = base64.b64decode(opening["nonce"], validate=True)
        return len(nonce) == _NONCE and secrets.compare_digest(_seal(nonce, opening["value"]), seal)
    except (KeyError, TypeError, ValueError):
        return False


def seals(document: Any) -> Iterator[str]:
    """Every seal in a document."""
    if isinstance(document, dict):
        for member in document.values():
            yield from seals(member)
    elif isinstance(document, list):
        for member in document:
            yield from seals(member)
    elif isinstance(document, str) and document.startswith("sealed:sha256:"):
        yield document


# -- signatures ----------------------------------------------------------------------------------------------


class Signer:
    """A room's key, made of a seed of 32 bytes."""

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)

    @property
    def public(self) -> str:
        """The public key, in PEM."""
        return _pem(self._key.public_key())

    @property
    def id(self) -> str:
        """What the key is known by: SHA-256 of its 32 public bytes."""
        return key_id(self.public)

    def sign(self, document: Any) -> dict[str, str]:
        """The signature of a document, as it stands beside it."""
        return {
            "algorithm": "Ed25519",
            "keyId": self.id,
            "publicKey": self.public,
            "value": _text(self._key.sign(CONTEXT + canonical(document))),
        }


def key_id(pem: str) -> str:
    """What a public key in PEM is known by."""
    return f"sha256:{hashlib.sha256(_raw(_public(pem))).hexdigest()}"


@dataclass(frozen=True)
class Checked:
    """A genuine manifest. document: what was signed; opened: seal → the value that is proved to be in it;
    shut: how many seals stay shut; key: the id of the key that signed it."""

    document: dict[str, Any]
    opened: dict[str, Any]
    shut: int
    key: str


def check(document: Any, signature: Any, openings: Sequence[Any] = (), key: str | None = None) -> Checked:
    """Raises NotGenuine where anything of it was changed.

    key: the public key in PEM that the reader trusts; without one only the manifest's own is asked, which
    proves that nothing was changed since, not who signed.
    """
    try:
        pem, value = signature["publicKey"], base64.b64decode(signature["value"], validate=True)
        own = _public(pem)
        named = {"algorithm": "Ed25519", "keyId": key_id(pem), "publicKey": _pem(own), "value": _text(value)}
        content = canonical(document)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise NotGenuine("The manifest or its signature is not of the form that a room gives it.") from None
    if dict(signature) != named or not isinstance(document, dict) or document.get("version") != VERSION:
        raise NotGenuine("The manifest's signature does not have the form that a room gives it.")
    if key is not None and _raw(_public(key)) != _raw(own):
        raise NotGenuine(f"The manifest was signed with the key {named['keyId']}, not with {key_id(key)}.")
    try:
        own.verify(value, CONTEXT + content)
    except InvalidSignature:
        raise NotGenuine(
            "The signature does not fit: the manifest was changed after it was signed."
        ) from None
    shut, opened = list(seals(document)), {}
    for opening in openings:
        found = next((seal for seal in shut if isinstance(opening, dict) and opens(opening, seal)), None)
        if found is None or opening.get("seal", found) != found or set(opening) - {"seal", "nonce", "value"}:
            raise NotGenuine("An opening does not fit any seal of the manifest: it was changed.")
        shut.remove(found)
        opened[found] = opening["value"]
    return Checked(document, opened, len(shut), named["keyId"])


def _public(pem: str) -> Ed25519PublicKey:
    try:
        found = load_pem_public_key(pem.encode())
    except UnsupportedAlgorithm:
        raise ValueError("the public key is of a kind that is not known") from None
    if not isinstance(found, Ed25519PublicKey):
        raise ValueError("the public key is not one of Ed25519")
    return found


def _pem(key: Ed25519PublicKey) -> str:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
