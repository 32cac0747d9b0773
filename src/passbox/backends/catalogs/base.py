"""The contract of a catalog: it knows where an account's tables lie and what columns they have.

1. A table reference is the modelled `tableReference` union of `cleanrooms`.
2. `describe` raises ResourceNotFoundException for a table that is not there, saying where it was looked for,
   and ValidationException for one that cannot be read; both are shown to the table's owner only.
3. `remembered` gives at once, without reading a file, what `describe` gave and would give again; else None.
4. An account's reference never reaches another account's files.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from passbox.backends.engines.base import TableFiles


class Catalog(Protocol):
    """A way to find tables."""

    def remembered(self, account: str, reference: Mapping[str, Any]) -> TableFiles | None:
        """What `describe` gave, while it still holds."""

    def describe(self, account: str, reference: Mapping[str, Any]) -> TableFiles:
        """Files, format and columns of one account's table."""
