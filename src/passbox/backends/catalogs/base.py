"""The contract of a catalog: it knows where an account's tables lie and what columns they have.

1. A table reference is the modelled `tableReference` union of `cleanrooms`.
2. `describe` raises ResourceNotFoundException for a table that is not there, saying where it was looked for,
   and ValidationException for one that cannot be read; both are shown to the table's owner only. It ends
   within a minute.
3. `remembered` gives at once, without reading a file or asking anybody, what `describe` gave and would give
   again; else None.
4. `fetch` gives the files of the whole table as it is now: where they lie, or copied to `into` as they were
   when they were listed. It raises what `describe` does, also where anything of the table is missing, and
   JobFailed (INSUFFICIENT_COMPUTE) where it is larger than `most_bytes`. What it left behind where it failed
   is the caller's to remove.
5. What `fetch` gives names the buckets that the table was copied from.
6. An account's reference never reaches another account's files: they are found and read in the account's own
   role, where the catalog knows roles.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from passbox.analysis.plan import Column
from passbox.backends.engines.base import TableFiles
from passbox.names import Role


class Catalog(Protocol):
    """A way to find tables."""

    def remembered(self, account: str, reference: Mapping[str, Any]) -> tuple[Column, ...] | None:
        """What `describe` gave, while it still holds."""

    def describe(self, account: str, reference: Mapping[str, Any]) -> tuple[Column, ...]:
        """The columns of one account's table, names in lower case."""

    def fetch(
        self,
        account: str,
        reference: Mapping[str, Any],
        role: Role,
        into: Path,
        most_bytes: int,
        /,
    ) -> TableFiles:
        """The table's files, for one run. into: an empty directory of the job's own."""
