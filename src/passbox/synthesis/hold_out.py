"""The rows that a synthesis never sees: one in twenty, drawn with a key, so that its result can be judged
by them.

Each row, or each person, is drawn on its own with the same chance: what becomes of one says nothing of
another, and none follows from what a row holds. So whoever is held out costs nothing of the fit's budget,
and the other way round. This module knows no synthesis.
"""

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

ONE_IN = 20  # AWS: 5 % of the rows


def hold_out(table: pa.Table, key: bytes, person: str | None = None) -> tuple[pa.Table, pa.Table]:
    """(fit, held out): the table's rows in two parts, in their order; the same key draws the same rows.

    key:    secret, fresh for every table.
    person: the column that tells whose a row is; all rows of one person fall on the same side. NULL is one
    person.
    """
    units = np.arange(table.num_rows)
    if person is not None:
        whose: Any = table.column(person).combine_chunks()
        whose = pc.dictionary_encode(whose, null_encoding="encode")
        units = np.asarray(whose.indices if isinstance(whose, pa.DictionaryArray) else whose, dtype=np.intp)
    held = chosen(key, b"hold out", int(units.max(initial=-1)) + 1, 1 / ONE_IN)[units]
    return table.filter(pa.array(~held)), table.filter(pa.array(held))


def chosen(key: bytes, purpose: bytes, count: int, share: float) -> NDArray[np.bool_]:
    """For each of `count` things whether it is drawn, each with the chance `share`, independently of the
    others.

    The keystream of ChaCha20, 64 bits for each thing: whoever does not know the key cannot guess.
    """
    secret = hashlib.blake2b(purpose, key=hashlib.sha256(key).digest(), digest_size=32).digest()
    stream = Cipher(ChaCha20(secret, bytes(16)), mode=None).encryptor()
    words = np.frombuffer(stream.update(bytes(8 * count)), dtype="<u8")
    return words < np.uint64(min(2**64 - 1, round(share * 2**64)))
