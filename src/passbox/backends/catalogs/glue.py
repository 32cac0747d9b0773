"""Tables in members' own Glue catalogs, with their files in S3 (or in servers that speak like them).

At the door, where no role of the table's is known yet, columns are asked for in the account's role
`passbox-catalog` (or as the operator named it): one role per account, made by the account, that may read its
catalog. For a run the role of the association reads the catalog and the files, which are copied into the
job's directory, because the engine has no network.

Must not know rules or queries.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from passbox import names
from passbox.analysis.plan import Column
from passbox.backends import aws
from passbox.backends.catalogs import copying, hive
from passbox.backends.engines.base import TableFiles
from passbox.backends.engines.tables import partition_folder
from passbox.errors import ResourceNotFoundException, ValidationException
from passbox.names import Role

MOST_PARTITIONS = 10_000
FOLDER_BYTES = 255  # the longest name of a folder


class Glue:
    """The Glue catalog of every account. role: the name of the role for the door."""

    def __init__(self, region: str, role: str) -> None:
        self._door = aws.Clients(region, aws.AT_THE_DOOR)
        self._clients = aws.Clients(region)
        self._role = role

    def remembered(self, _account: str, _reference: Mapping[str, Any]) -> None:
        """Nothing: only Glue can say whether a table is still as it was."""

    def describe(self, account: str, reference: Mapping[str, Any]) -> tuple[Column, ...]:
        """Columns of a `glue` reference {databaseName, tableName, region?}, partition columns last."""
        if not names.ACCOUNT.fullmatch(account):
            raise ValidationException(f"{account!r} is no account.")
        role = Role(f"arn:aws:iam::{account}:role/{self._role}", None)
        return hive.layout(_Found(self._door, account, reference, role).table).offered

    def fetch(
        self,
        account: str,
        reference: Mapping[str, Any],
        role: Role,
        into: Path,
        most_bytes: int,
    ) -> TableFiles:
        """The table's files, copied below `into`."""
        found = _Found(self._clients, account, reference, role)
        layout = hive.layout(found.table)
        folders = found.folders(into, len(layout.partitions))
        client = self._clients.client("s3", account, role, found.region)
        try:
            files = copying.copy(client, folders, f".{layout.format}", most_bytes)
        finally:
            client.close()
        return TableFiles(
            tuple(files),
            layout.format,
            layout.columns,
            layout.form,
            into,
            layout.partitions,
            frozenset(folder.bucket for folder in folders),
        )


class _Found:
    """One table in the catalog, asked for in one role."""

    def __init__(self, clients: aws.Clients, account: str, reference: Mapping[str, Any], role: Role) -> None:
        if set(reference) != {"glue"}:
            kind = ", ".join(sorted(reference)) or "no"
            raise ValidationException(f"The catalog has only glue tables, not {kind} tables.")
        named = reference["glue"]
        self.region: str | None = named.get("region")
        self._database, self._name = named["databaseName"], named["tableName"]
        self._whole = f"{self._database}.{self._name}"
        self._asked = {"CatalogId": account, "DatabaseName": self._database}
        client = clients.client("glue", account, role, self.region)
        try:
            self._client = client
            self.table: Mapping[str, Any] = client.get_table(**self._asked, Name=self._name)["Table"]
        except aws.faults() as error:
            if aws.code(error) == "EntityNotFoundException":
                raise ResourceNotFoundException(
                    f"There is no table {self._whole}: looked in the Glue catalog of account {account}."
                ) from None
            raise aws.refusal(
                f"Glue cannot be asked for the table {self._whole} in the role {role.arn}; the role must "
                "trust the room and allow glue:GetTable and glue:GetPartitions",
                error,
            ) from error

    def folders(self, into: Path, partition_columns: int) -> list[copying.Folder]:
        """Where the table's files lie, and where those of each partition go to below `into`."""
        if not partition_columns:
            bucket, prefix = hive.bucket_and_prefix(self.table["StorageDescriptor"], "the table")
            return [copying.Folder(bucket, prefix, into)]
        folders: dict[Path, copying.Folder] = {}
        for partition in self._partitions():
            values = list(partition["Values"])
            if len(values) != partition_columns:
                raise ValidationException(f"The partition {'/'.join(values)!r} has not one value a column.")
            hive.check_partition(self.table, partition)
            place = into.joinpath(*(_folder(number, value) for number, value in enumerate(values)))
            if place in folders:
                raise ValidationException(f"The partition {'/'.join(values)!r} is there twice.")
            what = f"the partition {'/'.join(values)!r}"
            folders[place] = copying.Folder(
                *hive.bucket_and_prefix(partition["StorageDescriptor"], what), place
            )
        if not folders:
            raise ValidationException(f"The table {self._whole} has no partitions in the catalog.")
        return list(folders.values())

    def _partitions(self) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        pages = self._client.get_paginator("get_partitions").paginate(**self._asked, TableName=self._name)
        try:
            for page in pages:
                found += page["Partitions"]
                if len(found) > MOST_PARTITIONS:
                    raise ValidationException(f"The table has more than {MOST_PARTITIONS} partitions.")
        except aws.faults() as error:
            raise aws.refusal(f"The partitions of {self._whole} cannot be listed", error) from error
        return found


def _folder(number: int, value: str) -> str:
    name = partition_folder(number, value)
    if len(name) > FOLDER_BYTES:
        raise ValidationException(f"The partition value {value!r} is too long.")
    return name
