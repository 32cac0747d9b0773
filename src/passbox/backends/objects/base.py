"""The contract of an object store: where members receive what they agreed on, and keep scripts.

1. A location is an account and an `s3://bucket/prefix` of that account; it is written to in that account's
   role, where the store knows roles, and in no other.
2. `deliver` is idempotent: keys come from the caller, an object appears whole or not at all, and a second
   delivery of the same keys gives the same objects.
3. It raises ValidationException where the place does not take the files, and not before the store's own
   attempts are over where it cannot be reached. What it says is for the owner of the location.
4. `publish` puts a log or a metrics file where the account reads its own, under a group and a stream;
   again is the same.
5. `read` gives one object of the account, as it is now, in the account's role. It raises ValidationException
   where there is none, where it cannot be read, and before it has given more than `most_bytes`.
6. No key may leave its prefix: `..`, absolute keys and empty segments are refused.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from passbox.names import Role


class Objects(Protocol):
    """A way to hand over files."""

    def check(self, account: str, uri: str, role: Role | None, /) -> None:
        """Raises ValidationException where `uri` is no place this account can receive at, in this role.

        At once: nobody is asked.
        """

    def deliver(self, account: str, uri: str, role: Role | None, files: Mapping[str, Path], /) -> list[str]:
        """Puts each host file under `uri/key`; returns the full `s3://` addresses, in key order."""

    def read(self, account: str, uri: str, role: Role, most_bytes: int, /) -> Iterator[bytes]:
        """The object at an `s3://bucket/key`, in pieces."""

    def publish(self, account: str, group: str, stream: str, file: Path) -> None:
        """Puts one text file into the account's log group, for example `aws/cleanroomsml/TrainedModels`."""
