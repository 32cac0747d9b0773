"""Where results go to another member's bucket, S3's answers tell the submitter nothing: not what it is
called, not whether it is there, not who may write to it. The S3 server is a real one.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lib.aws import REGION, stand
from lib.queries import Desk
from lib.room import Room, running
from lib.workshop import work
from passbox.backends import aws
from passbox.backends.objects.local import Local
from passbox.backends.objects.s3 import S3
from passbox.errors import ValidationException
from passbox.state import jobs

VOLATILE = ("id", "createTime", "statistics")


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with running(tmp_path / "home") as room:
        yield room


def test_why_a_delivery_failed_is_told_to_nobody_else(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    desk, noted = Desk(room), []
    said = jobs.note
    monkeypatch.setattr(jobs, "note", lambda tx, job, line: (noted.append(line), said(tx, job, line))[1])
    role = {name: f"arn:aws:iam::{desk.accounts['partner']}:role/{name}" for name in ("writer", "blind")}
    places = {
        "is there, and its role may not write": ("there", role["blind"]),
        "is not there": ("absent", role["writer"]),
        "is somebody else's": ("foreign", role["writer"]),
        "has a role that nobody can assume": ("there", role["writer"].replace("writer", "nobody")),
    }
    seen, codes = [], set()
    with stand({role["writer"]: ["Write:there", "Write:absent"], role["blind"]: []}) as servers:
        for bucket in ("there", "foreign"):
            servers.bucket(bucket)
        for name, value in servers.environment().items():
            monkeypatch.setenv(name, value)
        store = Watched(S3(aws.Clients(REGION), Local(room.settings.accounts)), codes)
        for bucket, arn in places.values():
            seen.append(outcome(desk, store, bucket, arn))
        delivered = outcome(desk, store, "there", role["writer"])
    assert delivered["status"] == "SUCCESS", delivered
    assert codes == {"AccessDenied", "NoSuchBucket"}, "what must not be told apart has to differ"
    assert seen[0]["status"] == "FAILED"
    assert seen == [seen[0]] * len(places), seen
    told = repr(seen) + repr(noted)
    assert not [word for word in ("there", "absent", "foreign", "inbox", *codes) if word in told], told


class Watched:
    """A store that keeps what it refused with. SeaweedFS says AccessDenied of a bucket that is not there; AWS
    says NoSuchBucket, so that is what it says here.
    """

    def __init__(self, store: S3, codes: set[str]) -> None:
        self._store, self._codes = store, codes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def deliver(self, *given: Any) -> Any:
        try:
            if "s3://absent/" in given[1]:
                answer = ClientError({"Error": {"Code": "NoSuchBucket"}}, "PutObject")
                raise aws.refusal(f"{given[1]!r} does not take the files", answer)
            return self._store.deliver(*given)
        except ValidationException as error:
            self._codes.add(str(error).rpartition("(")[2].rstrip(")."))
            raise


def outcome(desk: Desk, store: Any, bucket: str, role: str) -> dict[str, Any]:
    """Everything that the runner sees of a query whose result goes to the partner's default."""
    s3 = {"bucket": bucket, "resultFormat": "CSV", "keyPrefix": "inbox"}
    configuration = {"outputConfiguration": {"s3": s3}, "roleArn": role}
    desk.client("partner").update_membership(**desk.own("partner"), defaultResultConfiguration=configuration)
    before = len(desk.entries())
    started = desk.start(output=desk.member("partner"))
    work(desk.room, objects=store)
    found = desk.get(started["id"])
    explained = desk.room.passbox(desk.accounts["runner"]).explain_job(
        **desk.own(), jobIdentifier=started["id"]
    )
    units = found["statistics"]["billedResourceUtilization"]
    kept = {
        key: value for key, value in explained.items() if key not in ("ResponseMetadata", "jobIdentifier")
    }
    shown = {key: value for key, value in found.items() if key not in VOLATILE}
    return {**shown, "units": units, "explained": kept, "entries": desk.entries()[before:]}
