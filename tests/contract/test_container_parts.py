"""The parts of the container contract that need no container: batches, instances, keys, deletion."""

import io
import tomllib
from decimal import Decimal
from urllib.parse import unquote

import botocore.session
import pytest

from passbox.errors import JobFailed, Misconfigured
from passbox.jobs.batches import Header, batches
from passbox.jobs.forget import forget
from passbox.jobs.instances import Instances, read_instances
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
    assert cut(b"h\n1\n2\n", 2, header=Header.NONE) == [("1\n", 1), ("2\n", 1)]


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
    made = Instances().give(type, cpus=1000, memory_bytes=10_000 * GIB, gpus=16)
    assert (made.cpus, made.memory_bytes, made.scaled, made.gpus) == (cpus, gib * GIB, None, 0)


@pytest.mark.parametrize(
    ("type", "cpus", "gib", "gpus"),
    [
        ("ml.g4dn.xlarge", 4, 16, 1),
        ("ml.g4dn.12xlarge", 48, 192, 4),
        ("ml.g4dn.16xlarge", 64, 256, 1),
        ("ml.g5.2xlarge", 8, 32, 1),
        ("ml.g5.24xlarge", 96, 384, 4),
        ("ml.g5.48xlarge", 192, 768, 8),
        ("ml.g6.16xlarge", 64, 256, 1),
        ("ml.g6e.12xlarge", 48, 384, 4),
        ("ml.g6e.48xlarge", 192, 1536, 8),
        ("ml.p2.xlarge", 4, 61, 1),
        ("ml.p2.16xlarge", 64, 732, 16),
        ("ml.p3.2xlarge", 8, 61, 1),
        ("ml.p3.16xlarge", 64, 488, 8),
        ("ml.p3dn.24xlarge", 96, 768, 8),
        ("ml.p4d.24xlarge", 96, 1152, 8),
        ("ml.p5.48xlarge", 192, 2048, 8),
        ("ml.p5.4xlarge", 16, 256, 1),
    ],
)
def test_gpus_as_published(type, cpus, gib, gpus):
    made = Instances().give(type, cpus=1000, memory_bytes=10_000 * GIB, gpus=gpus)
    assert (made.cpus, made.memory_bytes, made.gpus) == (cpus, gib * GIB, gpus)
    scaled = Instances().give(type, cpus=2, memory_bytes=GIB, gpus=gpus)
    assert (scaled.cpus, scaled.memory_bytes, scaled.gpus) == (2, GIB, gpus)
    assert f"{type} has {cpus} vCPUs" in (scaled.scaled or "")


@pytest.mark.parametrize(
    ("type", "count", "gpus", "code", "said"),
    [
        ("ml.g5.xlarge", 1, 0, "UNSUPPORTED_INSTANCE_TYPE", "ml.g5.xlarge has 1 GPU and this machine can "
         "give a job none. Choose a type without, for example ml.m5.xlarge"),
        ("ml.p3.8xlarge", 1, 0, "UNSUPPORTED_INSTANCE_TYPE", "4 GPUs and this machine can give a job none"),
        ("ml.p3.8xlarge", 1, 3, "INSTANCE_TYPE_TOO_LARGE", "ml.p3.8xlarge has 4 GPUs and a job may have 3"),
        ("ml.g5.xlarge", 2, 1, "INSTANCE_TYPE_TOO_LARGE", "2 instances of ml.g5.xlarge have 2 GPUs and a job "
         "may have 1 here. Choose a type with fewer GPUs, or fewer instances."),
    ],
)  # fmt: skip
def test_gpus_are_never_scaled(type, count, gpus, code, said):
    with pytest.raises(JobFailed) as refused:
        Instances().give(type, cpus=1000, memory_bytes=10_000 * GIB, gpus=gpus, count=count)
    assert refused.value.code == code
    assert said in refused.value.message


@pytest.mark.parametrize(
    ("machine", "count", "given"),
    [
        ((4.0, 16), 1, (4.0, 16, None)),
        ((4.0, 12), 1, (4.0, 12, "ml.m5.xlarge has 4 vCPUs and 16 GiB of memory; a job may have 4 and 12.0")),
        ((2.0, 64), 1, (2.0, 16, "ml.m5.xlarge has 4 vCPUs and 16 GiB of memory; a job may have 2 and 64.0")),
        ((8.0, 32), 2, (4.0, 16, None)),
        ((8.0, 32), 4, (2.0, 8, "each of 4 instances of a job may have 2 and 8.0 GiB here.")),
    ],
)
def test_a_type_larger_than_the_machine_is_scaled_and_says_so_or_is_refused(machine, count, given):
    room = {"cpus": machine[0], "memory_bytes": machine[1] * GIB, "count": count}
    made = Instances().give("ml.m5.xlarge", **room)
    assert (made.cpus, made.memory_bytes) == (given[0], given[1] * GIB)
    assert (given[2] or "") in (made.scaled or "")
    assert (made.scaled is None) == (given[2] is None)
    strict = Instances(refuse=True)
    if given[2] is None:
        assert strict.give("ml.m5.xlarge", **room) == made
    else:
        with pytest.raises(JobFailed) as refused:
            strict.give("ml.m5.xlarge", **room)
        assert refused.value.code == "INSTANCE_TYPE_TOO_LARGE"
        assert given[2].rstrip(".") in refused.value.message


def test_the_operators_own_types():
    text = """
        oversize = "refuse"
        [types."ml.m5.xlarge"]
        vcpus = 1
        memoryGiB = 0.5
        [types."ml.g5.xlarge"]
        vcpus = 2
        memoryGiB = 2
        [types."ml.g6.xlarge"]
        vcpus = 2
        memoryGiB = 2
        gpus = 2
    """
    table = read_instances(tomllib.loads(text, parse_float=Decimal), "instances.toml")
    assert table.refuse
    for type, cpus, memory in (("ml.m5.xlarge", 1.0, GIB // 2), ("ml.g5.xlarge", 2.0, 2 * GIB)):
        made = table.give(type, cpus=2.0, memory_bytes=4 * GIB, gpus=4)
        assert (made.cpus, made.memory_bytes, made.scaled, made.gpus) == (cpus, memory, None, 0)
    assert table.give("ml.g6.xlarge", cpus=2.0, memory_bytes=4 * GIB, gpus=4).gpus == 2
    closed = read_instances(tomllib.loads("gpus = 1"), "instances.toml")
    assert closed.give("ml.g5.xlarge", cpus=9, memory_bytes=99 * GIB, gpus=8).gpus == 1
    with pytest.raises(JobFailed, match="4 GPUs and a job may have 1 here"):
        closed.give("ml.g5.12xlarge", cpus=9, memory_bytes=99 * GIB, gpus=8)
    assert read_instances({}, "").give("ml.m5.large", cpus=9, memory_bytes=99 * GIB).memory_bytes == 8 * GIB


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("size = 1", "there is no setting size"),
        ("oversize = 'yes'", "scale or refuse"),
        ("oversize = 1", "scale or refuse"),
        ("gpus = 'all'", "gpus must be a whole number"),
        ("types = 1", "types holds tables"),
        ("[types]\n'ml.m5.xlarge' = 4", "types holds tables"),
        ("[types.'ml.m5.xlarge']\nvcpus = 2", "needs vcpus and memoryGiB"),
        ("[types.'ml.m5.xlarge']\nvcpus = 2\nmemoryGiB = 4\ndisks = 1", "needs vcpus and memoryGiB"),
        ("[types.'ml.m5.xlarge']\nvcpus = 2\nmemoryGiB = 4\ngpus = 1.5", "gpus must be a whole number"),
        ("[types.'ml.m5.xlarge']\nvcpus = 2\nmemoryGiB = 4\ngpus = -1", "gpus must be a whole number"),
        ("[types.'ml.m5.xlarge']\nvcpus = 2\nmemoryGiB = 4\ngpus = true", "gpus must be a whole number"),
        ("[types.'ml.m5.xlarge']\nvcpus = 0\nmemoryGiB = 4", "vcpus must be a number from 1"),
        ("[types.'ml.m5.xlarge']\nvcpus = true\nmemoryGiB = 4", "vcpus must be a number"),
        ("[types.'ml.m5.xlarge']\nvcpus = nan\nmemoryGiB = 4", "vcpus must be a number"),
        ("[types.'ml.m5.xlarge']\nvcpus = 2\nmemoryGiB = 2026-01-01", "memoryGiB must be a number"),
        ("[types.'ml.m5.xlarge']\nvcpus = 2\nmemoryGiB = 1e999999", "memoryGiB must be a number"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_line(text, said):
    with pytest.raises(Misconfigured, match=said):
        read_instances(tomllib.loads(text, parse_float=Decimal), "instances.toml")


@pytest.mark.parametrize(
    "type",
    [
        "ml.g5.xlarge",
        "ml.p3dn.24xlarge",
        "ml.p3dn.2xlarge",
        "ml.g9.xlarge",
        "ml.trn1n.32xlarge",
        "ml.x9.huge",
        "m5",
    ],
)
def test_instances_that_there_are_not(type):
    with pytest.raises(JobFailed, match=type):
        Instances().give(type, cpus=2.0, memory_bytes=GIB)


@pytest.mark.parametrize("shape", ["InstanceType", "InferenceInstanceType"])
def test_every_modelled_type_is_known_or_has_accelerators(shape):
    model = botocore.session.get_session().get_service_model("cleanroomsml")
    for type in model.shape_for(shape).enum:
        if type.startswith("ml.trn"):
            with pytest.raises(JobFailed, match="accelerators"):
                Instances().give(type, cpus=1000, memory_bytes=10_000 * GIB, gpus=16)
        else:
            made = Instances().give(type, cpus=1000, memory_bytes=10_000 * GIB, gpus=16)
            assert (made.gpus > 0) == (type[3] in "gp")
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
