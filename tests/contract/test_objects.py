"""The exam of object stores: deliveries whole or not at all, and never outside the account's buckets."""

import os
import stat

import pytest

from passbox.backends.objects.local import Local
from passbox.errors import ValidationException

US, THEM = "111111111111", "222222222222"


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


def test_delivery_and_its_modes(store, accounts, source):
    store.check(US, "s3://bucket/some/prefix/", None)
    given = store.deliver(US, "s3://bucket/some/prefix/", None, {"b/2.csv": source, "a.csv": source})
    assert given == ["s3://bucket/some/prefix/a.csv", "s3://bucket/some/prefix/b/2.csv"]
    place = accounts / US / "buckets" / "bucket" / "some" / "prefix"
    assert (place / "b" / "2.csv").read_text() == "a\n1\n"
    assert stat.S_IMODE((place / "a.csv").stat().st_mode) == 0o600
    for folder in (place / "b", place, accounts / US, accounts / US / "buckets"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    store.check(US, "s3://bucket/some/prefix", None)


def test_delivering_again_gives_the_same(store, accounts, source):
    first = store.deliver(US, "s3://bucket", None, {"a": source})
    before = tree(accounts)
    assert store.deliver(US, "s3://bucket", None, {"a": source}) == first == ["s3://bucket/a"]
    assert tree(accounts) == before


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
def test_odd_places_are_refused(store, accounts, source, uri):
    with pytest.raises(ValidationException):
        store.check(US, uri, None)
    with pytest.raises(ValidationException):
        store.deliver(US, uri, None, {"a": source})
    assert tree(accounts) == set()


@pytest.mark.parametrize(
    "key", ["", ".", "..", "../x", "/etc/x", "a//b", "a/", "a/../../b", "a\0", "x" * 256]
)
def test_odd_keys_are_refused_before_anything_is_delivered(store, accounts, source, key):
    with pytest.raises(ValidationException):
        store.deliver(US, "s3://bucket/p", None, {"0-good": source, key: source})
    assert tree(accounts) == set()


@pytest.mark.parametrize("account", ["", "..", "1" * 11, f"../{US}", f"{US}/x", "١" * 12])
def test_odd_accounts_are_refused(store, source, account):
    with pytest.raises(ValidationException):
        store.check(account, "s3://bucket", None)
    with pytest.raises(ValidationException):
        store.deliver(account, "s3://bucket", None, {"a": source})


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


def test_only_plain_files_are_delivered(store, accounts, tmp_path, source):
    link = tmp_path / "link"
    link.symlink_to(source)
    for odd in (link, tmp_path):
        with pytest.raises(ValueError, match="not a file"):
            store.deliver(US, "s3://bucket", None, {"a": odd})
    assert tree(accounts) == set()
