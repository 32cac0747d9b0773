"""The parts of the container contract that need no container: batches, instances, keys, deletion."""

import io
from urllib.parse import unquote

import botocore.session
import pytest

from passbox.errors import JobFailed
from passbox.jobs.batches import batches
from passbox.jobs.forget import forget
from passbox.jobs.instances import instance
from passbox.jobs.standing import segment

GIB = 1 << 30


def cut(text, most, **options):
    return [(batch.body.decode(), batch.records) for batch in batches(io.BytesIO(text), most, **options)]


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [
        (b"", 10, []),
        (b"h\n", 10, []),
        (b"h\n1\n2\n", 10, [("h\n1\n2\n", 2)]),
        (b"h\n1\n2", 10, [("h\n1\n2", 2)]),
        (b"h\n1\n2\n3\n", 6, [("h\n1\n2\n", 2), ("3\n", 1)]),
        (b"h\n1\n2\n3\n", 5, [("h\n1\n", 1), ("2\n3\n", 2)]),
        (b'h\n"a\nb"\n2\n', 9, [('h\n"a\nb"\n', 1), ("2\n", 1)]),
        (b'h\n"a""\nb"\n2\n', 100, [('h\n"a""\nb"\n2\n', 2)]),
        (b'"h\n1",x\n2\n', 100, [('"h\n1",x\n2\n', 1)]),
        (b'h\n"never closed\n2\n', 100, [('h\n"never closed\n2\n', 1)]),
    ],
)
def test_batches(text, most, expected):
    assert cut(text, most) == expected


def test_batches_without_a_header():
    assert cut(b"1\n2\n", 2, header=False) == [("1\n", 1), ("2\n", 1)]


@pytest.mark.parametrize("text", [b"h\n12345\n", b'h\n"' + b"\n" * 100, b"header\n1\n"])
def test_a_record_that_fits_no_request(text):
    with pytest.raises(JobFailed, match="maxPayloadInMB"):
        cut(text, 5)


@pytest.mark.parametrize(
    ("type", "cpus", "gib"),
    [
        ("ml.m5.large", 2, 8),
        ("ml.m5.xlarge", 4, 16),
        ("ml.m5.24xlarge", 96, 384),
        ("ml.m4.10xlarge", 40, 160),
        ("ml.c4.8xlarge", 36, 60),
        ("ml.c5.18xlarge", 72, 144),
        ("ml.c5n.9xlarge", 36, 96),
        ("ml.r5d.2xlarge", 8, 64),
        ("ml.c7i.48xlarge", 192, 384),
        ("ml.r7i.large", 2, 16),
        ("ml.t3.medium", 2, 4),
        ("ml.t3.2xlarge", 8, 32),
    ],
)
def test_instances_have_their_published_sizes(type, cpus, gib):
    made = instance(type, cpus=1000, memory_bytes=10_000 * GIB)
    assert (made.cpus, made.memory_bytes) == (cpus, gib * GIB)


def test_instances_are_no_larger_than_the_machine():
    made = instance("ml.m5.24xlarge", cpus=2.0, memory_bytes=3 * GIB)
    assert (made.cpus, made.memory_bytes) == (2.0, 3 * GIB)


@pytest.mark.parametrize(
    "type", ["ml.g5.xlarge", "ml.p3dn.24xlarge", "ml.trn1n.32xlarge", "ml.x9.huge", "m5"]
)
def test_instances_that_there_are_not(type):
    with pytest.raises(JobFailed, match=type):
        instance(type, cpus=2.0, memory_bytes=GIB)


@pytest.mark.parametrize("shape", ["InstanceType", "InferenceInstanceType"])
def test_every_modelled_type_is_known_or_has_accelerators(shape):
    model = botocore.session.get_session().get_service_model("cleanroomsml")
    for type in model.shape_for(shape).enum:
        if type[3] in "gp" or type.startswith("ml.trn"):
            with pytest.raises(JobFailed, match="accelerators"):
                instance(type, cpus=1000, memory_bytes=10_000 * GIB)
        else:
            made = instance(type, cpus=1000, memory_bytes=10_000 * GIB)
            assert made.cpus >= 2
            assert made.memory_bytes >= 4 * GIB


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("late-arrivals_1.0~", "late-arrivals_1.0~"),
        ("late arrivals", "late%20arrivals"),
        ("a/b\\c%d", "a%2Fb%5Cc%25d"),
        (".", "%2E"),
        ("..", "%2E%2E"),
        ("...", "..."),
        ("Zürich 東京", "Zürich%20東京"),
        ("tab\there", "tab%09here"),
        ("a\u200bb", "a%E2%80%8Bb"),
    ],
)
def test_names_in_keys_are_safe_and_reversible(name, key):
    assert segment(name) == key
    assert unquote(key) == name


def test_the_longest_names_fit_a_key():
    assert len(segment("東" * 63).encode()) <= 255
    assert segment("\u200b" * 63).startswith("%sha256-")
    assert segment("\u200b" * 63) != segment("\u200b" * 62 + "\u200c")


def test_forgetting_is_repeatable(tmp_path):
    kept = tmp_path / "trained_model" / "id"
    forget(kept)
    kept.mkdir(parents=True)
    (kept / "model.tar.gz").write_text("x")
    forget(kept)
    forget(kept)
    assert list(kept.parent.iterdir()) == []
