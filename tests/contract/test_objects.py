"""The exam of object stores: deliveries whole or not at all, and never outside the account's buckets.

Folders and S3 sit the same exam; what only one of them can do wrong comes after it.
"""

import os
import stat

import pytest

from lib.aws import REGION, stand
from passbox.backends import aws
from passbox.backends.objects import s3
from passbox.backends.objects.local import Local
from passbox.backends.objects.s3 import S3
from passbox.errors import ValidationException
from passbox.names import Role

US, THEM = "111111111111", "222222222222"
MEMBERSHIP = f"arn:aws:cleanrooms:{REGION}:{US}:membership/11111111-0000-4000-8000-000000000000"
WRITER, BLIND, READER = (f"arn:aws:iam::{US}:role/{name}" for name in ("writer", "blind", "reader"))


@pytest.fixture
def accounts(tmp_path):
    made = tmp_path / "accounts"
    made.mkdir()
    return made


@pytest.fixture
def store(accounts):
    return Local(accounts)


@pytest.fixture
def source(tmp_path):
    file = tmp_path / "result.csv"
    file.write_text("a\n1\n")
    return file


def tree(accounts):
    return {str(path.relative_to(accounts)) for path in accounts.rglob("*") if not path.is_dir()}


class Folders:
    """Deliveries by the local store."""

    role = None

    def __init__(self, accounts):
        self.accounts, self.store = accounts, Local(accounts)
        self.reader = Role(READER, MEMBERSHIP)

    def put(self, key, content):
        path = self.accounts / US / "buckets" / "bucket" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def objects(self):
        place = self.accounts / US / "buckets"
        return {
            str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()
        }


class Buckets:
    """Deliveries to an S3 server, in a role that may write to one bucket and do nothing else."""

    role = Role(WRITER, MEMBERSHIP)

    def __init__(self, accounts, servers):
        self.accounts, self.admin = accounts, servers.bucket("bucket")
        self.store = S3(aws.Clients(REGION), Local(accounts))
        for key in self.objects():
            self.admin.delete_object(Bucket="bucket", Key=key.removeprefix("bucket/"))
        self.reader = Role(READER, MEMBERSHIP)

    def put(self, key, content):
        self.admin.put_object(Bucket="bucket", Key=key, Body=content)

    def objects(self):
        listed = self.admin.list_objects_v2(Bucket="bucket").get("Contents", ())
        found = [item["Key"] for item in listed if not item["Key"].endswith("/")]
        read = self.admin.get_object
        return {f"bucket/{key}": read(Bucket="bucket", Key=key)["Body"].read() for key in found}


@pytest.fixture(scope="module")
def servers():
    with (
        stand({WRITER: ["Write:bucket"], BLIND: [], READER: ["Read:bucket"]}) as made,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in made.environment().items():
            patch.setenv(name, value)
        yield made


@pytest.fixture
def buckets(accounts, servers):
    servers.asked.clear()
    return Buckets(accounts, servers)


@pytest.fixture(params=["local", "s3"])
def exam(request, accounts):
    return Folders(accounts) if request.param == "local" else request.getfixturevalue("buckets")


def test_delivery(exam, source):
    exam.store.check(US, "s3://bucket/some/prefix/", exam.role)
    files = {"b/2.csv": source, "a.csv": source}
    given = exam.store.deliver(US, "s3://bucket/some/prefix/", exam.role, files)
    assert given == ["s3://bucket/some/prefix/a.csv", "s3://bucket/some/prefix/b/2.csv"]
    assert exam.objects() == {address.removeprefix("s3://"): b"a\n1\n" for address in given}
    exam.store.check(US, "s3://bucket/some/prefix", exam.role)


def test_delivering_again_gives_the_same(exam, source):
    first = exam.store.deliver(US, "s3://bucket", exam.role, {"a": source, "ä b+=&%": source})
    before = exam.objects()
    again = exam.store.deliver(US, "s3://bucket", exam.role, {"a": source, "ä b+=&%": source})
    assert again == first == ["s3://bucket/a", "s3://bucket/ä b+=&%"]
    assert exam.objects() == before


@pytest.mark.parametrize(
    "uri",
    [
        "bucket/x", "http://bucket/x", "s3:/bucket", "s3://", "s3:///x", "s3://Bucket", "s3://ab", "s3://..",
        "s3://.incoming", "s3://a..b", "s3://-ab", "s3://ab-", "s3://192.168.0.1", "s3://" + "a" * 64,
        "s3://bucket/../x", "s3://bucket/./x", "s3://bucket/a//b", "s3://bucket//", "s3://bucket/a\0b",
        "s3://bucket/a\nb", "s3://bucket/a\\..\\b", "s3://bücket", "s3://buck et", "s3://bucket/" + "a" * 256,
        "s3://bucket/" + "a/" * 600,
    ],
)  # fmt: skip
def test_odd_places_are_refused(exam, source, uri):
    with pytest.raises(ValidationException):
        exam.store.check(US, uri, exam.role)
    with pytest.raises(ValidationException):
        exam.store.deliver(US, uri, exam.role, {"a": source})
    assert exam.objects() == {}


@pytest.mark.parametrize(
    "key", ["", ".", "..", "../x", "/etc/x", "a//b", "a/", "a/../../b", "a\0", "x" * 256]
)
def test_odd_keys_are_refused_before_anything_is_delivered(exam, source, key):
    with pytest.raises(ValidationException):
        exam.store.deliver(US, "s3://bucket/p", exam.role, {"0-good": source, key: source})
    assert exam.objects() == {}


@pytest.mark.parametrize("account", ["", "..", "1" * 11, f"../{US}", f"{US}/x", "١" * 12])
def test_odd_accounts_are_refused(exam, source, account):
    with pytest.raises(ValidationException):
        exam.store.check(account, "s3://bucket", exam.role)
    with pytest.raises(ValidationException):
        exam.store.deliver(account, "s3://bucket", exam.role, {"a": source})


def test_only_plain_files_are_delivered(exam, tmp_path, source):
    link = tmp_path / "link"
    link.symlink_to(source)
    for odd in (link, tmp_path):
        with pytest.raises(ValueError, match="not a file"):
            exam.store.deliver(US, "s3://bucket", exam.role, {"a": odd})
    assert exam.objects() == {}


def test_reading_gives_the_object_whole(exam):
    content = bytes(range(256)) * 12_000  # more than a piece
    exam.put("code/main.py", content)
    pieces = list(exam.store.read(US, "s3://bucket/code/main.py", exam.reader, len(content)))
    assert b"".join(pieces) == content
    exam.put("empty", b"")
    assert b"".join(exam.store.read(US, "s3://bucket/empty", exam.reader, 0)) == b""


def test_reading_stops_before_it_is_too_much(exam):
    exam.put("large", b"x" * (3 << 20))
    pieces = []
    with pytest.raises(ValidationException, match="too large"):
        pieces.extend(exam.store.read(US, "s3://bucket/large", exam.reader, 2 << 20))
    assert sum(map(len, pieces)) <= 2 << 20


@pytest.mark.parametrize(
    "uri",
    ["s3://bucket/nothing", "s3://bucket/code", "s3://bucket/code/", "s3://bucket", "s3://nowhere/a",
     "s3://bucket/../a", "s3://bucket/code//main.py", "bucket/code/main.py"],
)  # fmt: skip
def test_what_is_not_there_is_not_read(exam, uri):
    exam.put("code/main.py", b"x")
    with pytest.raises(ValidationException):
        list(exam.store.read(US, uri, exam.reader, 100))


def test_links_are_not_read(store, accounts, source):
    folder = accounts / US / "buckets" / "bucket"
    folder.mkdir(parents=True)
    (folder / "link").symlink_to(source)
    (folder.parent / "linked").symlink_to(source.parent)
    os.mkfifo(folder / "pipe")
    for key in ("bucket/link", "linked/result.csv", "bucket/pipe"):
        with pytest.raises(ValidationException):
            list(store.read(US, f"s3://{key}", Role(READER, MEMBERSHIP), 100))


def test_reading_needs_a_role_that_may(buckets):
    buckets.put("main.py", b"x")
    with pytest.raises(ValidationException):
        list(buckets.store.read(US, "s3://bucket/main.py", Role(BLIND, MEMBERSHIP), 100))
    theirs = Role(f"arn:aws:iam::{THEM}:role/reader", MEMBERSHIP)
    with pytest.raises(ValidationException, match="not of account"):
        list(buckets.store.read(US, "s3://bucket/main.py", theirs, 100))


def test_words_go_to_the_accounts_folder(exam, source):
    exam.store.publish(US, "aws/cleanroomsml/TrainedModels", "m.log", source)
    assert tree(exam.accounts) == {f"{US}/logs/aws/cleanroomsml/TrainedModels/m.log"}


def test_modes(store, accounts, source):
    store.deliver(US, "s3://bucket/some/prefix/", None, {"b/2.csv": source, "a.csv": source})
    place = accounts / US / "buckets" / "bucket" / "some" / "prefix"
    assert stat.S_IMODE((place / "a.csv").stat().st_mode) == 0o600
    for folder in (place / "b", place, accounts / US, accounts / US / "buckets"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_an_object_appears_whole_or_not_at_all(store, accounts, source, monkeypatch):
    store.deliver(US, "s3://bucket", None, {"a": source})
    source.write_text("new")

    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="disk full"):
        store.deliver(US, "s3://bucket", None, {"a": source})
    monkeypatch.undo()
    assert tree(accounts) == {f"{US}/buckets/bucket/a"}
    assert (accounts / US / "buckets/bucket/a").read_text() == "a\n1\n"


def test_equal_buckets_of_two_accounts_are_two(store, accounts, source):
    store.deliver(US, "s3://bucket", None, {"a": source})
    store.deliver(THEM, "s3://bucket", None, {"b": source})
    assert tree(accounts) == {f"{US}/buckets/bucket/a", f"{THEM}/buckets/bucket/b"}


@pytest.mark.parametrize("level", ["", "buckets", "buckets/bucket", "buckets/bucket/p"])
def test_links_on_the_way_are_refused(store, accounts, tmp_path, source, level):
    outside = tmp_path / "outside"
    outside.mkdir()
    link = accounts / US / level
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside)
    with pytest.raises(ValidationException):
        store.check(US, "s3://bucket/p", None)
    with pytest.raises(ValidationException):
        store.deliver(US, "s3://bucket/p", None, {"a": source})
    assert list(outside.iterdir()) == []


def test_a_link_in_the_objects_place_is_replaced_not_followed(store, accounts, tmp_path, source):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    place = accounts / US / "buckets" / "bucket"
    place.mkdir(parents=True)
    (place / "a").symlink_to(secret)
    store.deliver(US, "s3://bucket", None, {"a": source})
    assert secret.read_text() == "mine"
    assert (place / "a").read_text() == "a\n1\n"
    assert not (place / "a").is_symlink()


def test_a_file_where_a_folder_must_be(store, source):
    store.deliver(US, "s3://bucket", None, {"a": source})
    with pytest.raises(ValidationException):
        store.check(US, "s3://bucket/a", None)
    with pytest.raises(ValidationException):
        store.deliver(US, "s3://bucket", None, {"a/b": source})
    store.deliver(US, "s3://bucket", None, {"d/e": source})
    with pytest.raises(ValidationException):
        store.deliver(US, "s3://bucket", None, {"d": source})


def test_s3_is_written_to_in_the_role_of_the_account_for_its_membership(buckets, servers, source):
    buckets.store.deliver(US, "s3://bucket", buckets.role, {"a": source})
    assert {asked["RoleArn"] for asked in servers.asked} == {WRITER}
    assert {asked["ExternalId"] for asked in servers.asked} == {MEMBERSHIP}


def test_without_a_role_of_its_own_nothing_goes_to_s3(buckets, source):
    for role in (None, Role(f"arn:aws:iam::{THEM}:role/writer", MEMBERSHIP)):
        with pytest.raises(ValidationException, match="role"):
            buckets.store.check(US, "s3://bucket", role)
        with pytest.raises(ValidationException, match="role"):
            buckets.store.deliver(US, "s3://bucket", role, {"a": source})
    assert buckets.objects() == {}


@pytest.mark.parametrize(
    ("uri", "role", "code"),
    [("s3://bucket", BLIND, "AccessDenied"), ("s3://bucket2", WRITER, "AccessDenied|NoSuchBucket")],
)
def test_what_s3_refuses_says_so_without_its_words(buckets, source, uri, role, code):
    with pytest.raises(ValidationException, match=rf"^'{uri}' does not take the files \(({code})\)\.$"):
        buckets.store.deliver(US, uri, Role(role, MEMBERSHIP), {"a": source})
    assert buckets.objects() == {}


def test_large_objects_go_in_parts_and_appear_whole_or_not_at_all(buckets, source, monkeypatch):
    monkeypatch.setattr(s3, "PART_BYTES", 5 << 20)
    content = os.urandom(1 << 20) * 12
    source.write_bytes(content)
    for _ in range(2):
        buckets.store.deliver(US, "s3://bucket/p", buckets.role, {"a": source})
        assert buckets.objects() == {"bucket/p/a": content}
    put, parts = s3._put, []

    class Breaking:
        """A client that fails at the second part."""

        def __init__(self, client):
            self.client = client

        def __getattr__(self, name):
            return getattr(self.client, name)

        def upload_part(self, **given):
            parts.append(given["PartNumber"])
            if len(parts) == 2:
                raise OSError("the connection broke")
            return self.client.upload_part(**given)

    monkeypatch.setattr(s3, "_put", lambda client, *rest: put(Breaking(client), *rest))
    with pytest.raises(OSError, match="broke"):
        buckets.store.deliver(US, "s3://bucket/q", buckets.role, {"a": source})
    assert buckets.objects() == {"bucket/p/a": content}
    assert not buckets.admin.list_multipart_uploads(Bucket="bucket").get("Uploads")
