"""The form of a run manifest: canonical JSON, seals, signatures; whatever is changed of it is noticed."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passbox import manifest
from passbox.manifest import NotGenuine, Signer

SIGNER, OTHER = Signer(b"k" * 32), Signer(b"o" * 32)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


def made() -> dict[str, Any]:
    seal, opening = manifest.sealed({"queryString": "SELECT 1"})
    shut, _ = manifest.sealed([1, 2])
    document = {
        "version": manifest.VERSION,
        "job": {"kind": "TRAINED_MODEL", "name": "späte \U0001f600", "run": "x"},
        "endedAt": 1_700_000_000_000,
        "query": seal,
        "outputs": [{"receiverAccountId": None, "files": shut}],
        "flag": True,
    }
    openings = [{"seal": seal, **opening}]
    return {"manifest": document, "signature": SIGNER.sign(document), "openings": openings}


def check(whole: dict[str, Any], key: str | None = SIGNER.public) -> manifest.Checked:
    return manifest.check(whole["manifest"], whole["signature"], whole["openings"], key)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of everything in a JSON value, the value itself left out."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [] if path == () else [path]
    for key, member in pairs:
        found += places(member, (*path, key))
    return found


def changed(value: Any) -> Any:
    """Another value, as like as can be."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return value[:-1] + ("A" if value[-1:] != "A" else "B")
    return [*value, None] if isinstance(value, list) else {**value, "more": None}


def test_what_a_room_signed_is_genuine() -> None:
    found = check(made())
    assert found.document["job"]["kind"] == "TRAINED_MODEL"
    assert list(found.opened.values()) == [{"queryString": "SELECT 1"}]
    assert (found.shut, found.key) == (1, SIGNER.id)


@pytest.mark.parametrize("path", places(made()), ids=lambda path: ".".join(map(str, path)))
def test_every_change_is_noticed(path: tuple[Any, ...]) -> None:
    for way in ("changed", "gone"):
        whole = copy.deepcopy(made())
        *above, last = path
        place: Any = whole
        for step in above:
            place = place[step]
        if way == "changed":
            place[last] = changed(place[last])
        elif len(path) == 1 or path == ("openings", 0):
            continue  # a whole part that is missing is no manifest; an opening may be kept back
        else:
            del place[last]
        if way == "gone" and path == ("openings", 0, "seal"):
            check(whole)  # the opening alone says which seal is its own
            continue
        with pytest.raises(NotGenuine):
            check(whole)


def test_another_key_is_noticed_only_by_who_knows_the_right_one() -> None:
    whole = made()
    whole["signature"] = OTHER.sign(whole["manifest"])
    with pytest.raises(NotGenuine, match="was signed with the key"):
        check(whole)
    assert check(whole, None).key == OTHER.id


def test_an_opening_of_another_manifest_opens_nothing() -> None:
    whole, other = made(), made()
    whole["openings"] = other["openings"]
    with pytest.raises(NotGenuine, match="opening"):
        check(whole)
    whole["openings"] = made()["openings"] * 2
    with pytest.raises(NotGenuine):
        check(whole)


@pytest.mark.parametrize("value", [1.5, float("nan"), {1: 2}, b"x", [{"a": (1,)}], "\ud800"])
def test_what_has_no_form_is_not_signed(value: Any) -> None:
    with pytest.raises(ValueError):
        SIGNER.sign({"version": manifest.VERSION, "x": value})
    with pytest.raises(NotGenuine):
        manifest.check({"version": manifest.VERSION, "x": value}, SIGNER.sign({}))


@pytest.mark.parametrize(
    "text", ['{"a":1,"a":1}', '{"a":1.0}', '{"a":1e3}', '{"a":NaN}', "[" * 100_000, "{", "\ufeff{}"]
)
def test_what_two_readers_could_read_differently_is_not_read(text: str) -> None:
    with pytest.raises(ValueError):
        manifest.parse(text)


@given(JSON)
def test_the_form_is_one_and_reads_back(value: Any) -> None:
    try:
        form = manifest.canonical(value)
    except UnicodeEncodeError:
        return
    assert manifest.parse(form) == value
    assert manifest.canonical(manifest.parse(form)) == form
    assert manifest.canonical(json.loads(json.dumps(value))) == form


@given(JSON, JSON)
def test_a_seal_is_opened_by_its_value_alone(one: Any, other: Any) -> None:
    try:
        seal, opening = manifest.sealed(one)
        same = manifest.canonical(one) == manifest.canonical(other)
    except UnicodeEncodeError:
        return
    assert manifest.opens(opening, seal)
    assert manifest.opens({**opening, "value": other}, seal) == same
    assert manifest.sealed(one)[0] != seal  # so nobody can guess


def test_a_short_nonce_opens_nothing() -> None:
    seal, opening = manifest.sealed("x", b"short")
    assert not manifest.opens(opening, seal)
