"""Results in members' own S3 buckets, or in those of any server that speaks S3.

An object is put in one request, or in parts that become an object together: it appears whole or not at all.
Logs and metrics go to the accounts' folders (`local`), whose operator hands them on: there is no other place
for them. Must not know jobs, or what the files are.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from passbox import names
from passbox.backends import aws
from passbox.backends.objects import address
from passbox.backends.objects.local import Local
from passbox.errors import ValidationException
from passbox.names import Role

PART_BYTES = 64 << 20  # what fits into one is put in one request
_PIECE = 1 << 20
MOST_PARTS = 10_000  # S3's own


class S3:
    """Buckets, written to in the roles of their owners."""

    def __init__(self, clients: aws.Clients, local: Local) -> None:
        self._clients, self._local = clients, local

    def check(self, account: str, uri: str, role: Role | None) -> None:
        """Raises ValidationException where `uri` is no place, or `role` no role, of this account."""
        address.place(account, uri)
        _required(account, role)

    def deliver(self, account: str, uri: str, role: Role | None, files: Mapping[str, Path]) -> list[str]:
        """Puts each host file under `uri/key`; returns the full `s3://` addresses, in key order."""
        place = address.place(account, uri)
        targets = {key: address.target(place, key) for key in sorted(files)}
        for path in files.values():
            if not stat.S_ISREG(path.lstat().st_mode):
                raise ValueError(f"{path} is not a file")
        client = self._clients.client("s3", account, _required(account, role))
        try:
            for key, target in targets.items():
                with files[key].open("rb") as file:
                    _put(client, target[0], "/".join(target[1:]), file)
        except aws.faults() as error:
            raise aws.refusal(f"{uri!r} does not take the files", error) from error
        finally:
            client.close()
        return [f"s3://{'/'.join(target)}" for target in targets.values()]

    def read(self, account: str, uri: str, role: Role, most_bytes: int) -> Iterator[bytes]:
        """The object at an `s3://bucket/key`, in pieces."""
        bucket, *key = address.object_(account, uri)
        client = self._clients.client("s3", account, role)
        try:
            body = client.get_object(Bucket=bucket, Key="/".join(key))["Body"]
            yield from address.within(body.iter_chunks(_PIECE), most_bytes, uri)
        except (*aws.faults(), *aws.broken()) as error:
            raise aws.refusal(f"{uri!r} cannot be read in the role {role.arn}", error) from error
        finally:
            client.close()

    def publish(self, account: str, group: str, stream: str, file: Path) -> None:
        """Puts a log or metrics file at accounts/ACCOUNT/logs/GROUP/STREAM."""
        self._local.publish(account, group, stream, file)


def _required(account: str, role: Role | None) -> Role:
    if role is None:
        raise ValidationException(
            f"Results go to S3 in a role of account {account}, and it has named none: give its membership a "
            "defaultResultConfiguration with a roleArn, or an ML configuration."
        )
    if names.arn_account(role.arn) != account:
        raise ValidationException(f"The role {role.arn} is not of account {account}.")
    return role


def _put(client: Any, bucket: str, key: str, file: BinaryIO) -> None:
    size = os.fstat(file.fileno()).st_size
    if size <= PART_BYTES:
        client.put_object(Bucket=bucket, Key=key, Body=file)
        return
    length = max(PART_BYTES, -(-size // MOST_PARTS))
    upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    named = {"Bucket": bucket, "Key": key, "UploadId": upload}
    try:
        parts: list[dict[str, Any]] = []
        while chunk := file.read(length):
            number = len(parts) + 1
            etag = client.upload_part(**named, PartNumber=number, Body=chunk)["ETag"]
            parts.append({"PartNumber": number, "ETag": etag})
        client.complete_multipart_upload(**named, MultipartUpload={"Parts": parts})
    except BaseException:
        try:
            client.abort_multipart_upload(**named)
        except aws.faults():
            pass  # its bucket's lifecycle rules must remove the parts; what matters is the first error
        raise
