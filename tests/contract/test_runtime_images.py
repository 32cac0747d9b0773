"""Images: what is unpacked, what is refused, what a name means, and that one really runs sealed."""

import io
import json
import os
import tarfile
import threading

import pytest

from lib.runtime import Bench
from lib.runtime_images import (
    ARCHITECTURE,
    directory,
    docker_archive,
    file,
    hard_link,
    layout,
    nested,
    shell,
    symlink,
)
from passbox.backends.images.store import ImageStore
from passbox.backends.runtimes.base import Isolation, Limits, Mount, SandboxSpec
from passbox.backends.runtimes.bubblewrap import BubblewrapRuntime
from passbox.errors import JobFailed, Misconfigured

ACCOUNT = "111111111111"
URI = "registry.example/models/churn"


@pytest.fixture
def store(tmp_path):
    return ImageStore(tmp_path / "images")


@pytest.fixture
def source(tmp_path):
    place = tmp_path / "source"
    place.mkdir()
    return place


def tree(image) -> dict[str, str | None]:
    root = image.root.image
    return {
        str(path.relative_to(root)): str(path.readlink()) if path.is_symlink() else path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def test_a_layout_is_unpacked_layer_by_layer(store, source):
    digest = layout(
        source,
        [directory("a"), file("a/gone", "1"), file("a/kept", "1"), file("b/old/x", "1"), symlink("c", "a")],
        [file("a/.wh.gone"), file("a/kept", "2"), file("b/.wh..wh..opq"), file("b/new", "2"),
         file("c/more", "2"), hard_link("b/linked", "a/kept")],
        config={"Entrypoint": ["/run"], "Cmd": ["x"], "Env": ["A=1=2"], "WorkingDir": "/a"},
    )  # fmt: skip
    image = store.add(URI, source)
    assert image.digest == digest
    assert (image.entrypoint, image.command, image.directory) == (("/run",), ("x",), "/a")
    assert image.environment["A"] == "1=2"
    assert image.environment["PATH"].endswith("/bin")
    assert tree(image) == {"a/kept": "2", "a/more": "2", "b/linked": "2", "b/new": "2", "c": "a"}


def test_an_archive_of_a_layout_gives_the_same_image(store, source, tmp_path):
    digest = layout(source, [file("x", "1")])
    archive = tmp_path / "image.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(source, ".")
    assert store.add(URI, archive).digest == digest


def test_a_docker_archive(store, tmp_path):
    docker_archive(tmp_path / "saved.tar", [file("x", "1")], [file("x", "2")], config={"Cmd": ["/x"]})
    image = store.add(URI, tmp_path / "saved.tar")
    assert tree(image) == {"x": "2"}
    assert image.command == ("/x",)


def test_set_uid_is_dropped_and_everything_is_readable(store, source):
    layout(source, [file("su", "1", 0o4700), file("secret", "1", 0o600), directory("d"), file("d/x", "1")])
    root = store.add(URI, source).root.image
    assert [oct((root / name).stat().st_mode & 0o7777) for name in ("su", "secret")] == ["0o755", "0o644"]


@pytest.mark.parametrize(
    "members",
    [
        [file("../out", "x")],
        [file("/out", "x")],
        [file("a/../../out", "x")],
        [("null", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}, b"")],
        [("fifo", {"type": tarfile.FIFOTYPE}, b"")],
        [hard_link("passwd", "../../../../../../etc/passwd")],
        [file("a/.wh..", "")],
        [symlink("a", "b"), symlink("b", "a"), file("a/x", "1")],
        [symlink("a", "/etc"), hard_link("shadow", "a/shadow")],
        [hard_link("x", "x")],
        [directory("d"), hard_link("x", "d")],
        [file("a", "1"), file("a/b", "1")],
        [file("n" * 300, "1")],
        [("sda", {"type": tarfile.BLKTYPE, "devmajor": 8}, b"")],
        [file("/".join("d" * 1500), "1")],
    ],
)
def test_a_hostile_layer_is_refused(store, source, members, tmp_path):
    layout(source, members)
    with pytest.raises(Misconfigured):
        store.add(URI, source)
    assert not (tmp_path / "out").exists()
    assert store.list() == ()
    assert [path.name for path in (tmp_path / "images").iterdir() if path.is_dir()] == []


def test_a_link_that_leads_out_is_followed_inside(store, source, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    layout(
        source,
        [symlink("way", str(outside)), file("way/x", "1"), symlink("up", "../../.."), file("up/y", "1")],
    )
    root = store.add(URI, source).root.image
    assert list(outside.iterdir()) == []
    assert (root / str(outside).lstrip("/") / "x").read_text() == "1"
    assert (root / "y").read_text() == "1"


def test_an_opaque_directory_hides_what_lower_layers_put_below_what_this_one_makes(store, source):
    layout(
        source,
        [file("a/b/low", "1"), file("a/c/low", "1"), file("a/low", "1")],
        [file("a/b/high", "2"), file("a/.wh..wh..opq"), directory("a/c")],
    )
    assert tree(store.add(URI, source)) == {"a/b/high": "2"}


def test_layers_of_zstd(store, source):
    digest = layout(source, [file("x", "1" * 10_000)], compress=zstd)
    image = store.add(URI, source)
    assert (image.digest, tree(image)) == (digest, {"x": "1" * 10_000})


def zstd(content: bytes) -> bytes:
    import pyarrow

    return pyarrow.Codec("zstd").compress(content, asbytes=True)


def test_of_an_index_the_image_for_this_machine(store, source):
    layout(source, [file("x", "other")], platform={"os": "linux", "architecture": "s390x"})
    layout(source, [file("x", "windows")], platform={"os": "windows", "architecture": ARCHITECTURE})
    layout(source, [file("x", "signature")], platform={"os": "unknown", "architecture": "unknown"})
    digest = layout(source, [file("x", "ours")])
    inner = nested(source)
    assert store.add(URI, source).digest == digest
    assert inner != digest


def test_an_image_for_another_machine_is_refused(store, source, tmp_path):
    layout(source, [file("x", "1")], architecture="s390x")
    with pytest.raises(Misconfigured, match="linux/s390x"):
        store.add(URI, source)
    docker_archive(tmp_path / "saved.tar", [file("x", "1")], architecture="s390x")
    with pytest.raises(Misconfigured, match="linux/s390x"):
        store.add(URI, tmp_path / "saved.tar")


@pytest.mark.parametrize(
    "index", [[], {}, {"manifests": 1}, {"manifests": [1]}, {"manifests": [{"digest": 1}]}, "x", None]
)
def test_metadata_of_another_shape_is_one_line(store, source, index):
    layout(source, [file("x", "1")])
    (source / "index.json").write_text(json.dumps(index))
    with pytest.raises(Misconfigured):
        store.add(URI, source)


def test_an_image_may_be_so_large_and_no_larger(store, source, tmp_path, monkeypatch):
    monkeypatch.setattr("passbox.backends.images.store._MAX_BYTES", 1 << 20)
    layout(source, [file("x", bytes((1 << 20) + 1))])
    with pytest.raises(Misconfigured, match="larger than images may be"):
        store.add(URI, source)
    many = tmp_path / "many"
    many.mkdir()
    layout(many, [file(str(number)) for number in range(65)])  # empty, but each costs an inode
    with pytest.raises(Misconfigured, match="larger than images may be"):
        store.add(URI, many)
    with tarfile.open(tmp_path / "bomb.tar.gz", "w:gz") as tar:
        tar.addfile(*_tar_file("index.json", bytes(2 << 20)))
    with pytest.raises(Misconfigured, match="larger than images may be"):
        store.add(URI, tmp_path / "bomb.tar.gz")


def _tar_file(name: str, content: bytes):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, io.BytesIO(content)


def test_attributes_that_fill_the_memory_are_refused(store, source):
    layout(source, [file("x", "1", pax_headers={"SCHILY.xattr.user.x": "y" * (2 << 20)})])
    with pytest.raises(Misconfigured, match="attributes are too long"):
        store.add(URI, source)


def test_a_whiteout_does_not_remove_through_a_link(store, source, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_text("1")
    layout(
        source, [symlink("way", str(tmp_path / "precious"))], [file("way/.wh.file"), file("way/.wh..wh..opq")]
    )
    store.add(URI, source)
    assert (tmp_path / "precious/file").exists()


@pytest.mark.parametrize("which", ["layer", "config", "manifest"])
def test_a_blob_that_is_not_what_it_says_is_refused(store, source, which):
    digest = layout(source, [file("x", "1")])
    manifest = json.loads((source / "blobs/sha256" / digest[7:]).read_text())
    wrong = {
        "layer": manifest["layers"][0]["digest"],
        "config": manifest["config"]["digest"],
        "manifest": digest,
    }
    blob = source / "blobs/sha256" / wrong[which][7:]
    blob.write_bytes(blob.read_bytes() + (b" " if which != "layer" else b"\0"))
    with pytest.raises(Misconfigured):
        store.add(URI, source)
    assert store.list() == ()


@pytest.mark.parametrize(
    "config", [{"Env": 7}, {"Entrypoint": "train"}, {"Cmd": [1]}, {"WorkingDir": [1]}, [1]]
)
def test_a_configuration_of_other_types_is_refused(store, source, config):
    layout(source, [file("x", "1")], config=config)
    with pytest.raises(Misconfigured, match="configuration is broken"):
        store.add(URI, source)
    assert store.list() == ()


def test_an_index_that_nests_too_deep_is_refused(store, source):
    layout(source, [file("x", "1")])
    (source / "index.json").write_text("[" * 100_000)
    with pytest.raises(Misconfigured, match="not JSON"):
        store.add(URI, source)


def test_the_tag_chooses_among_several(store, source):
    layout(source, [file("x", "1")], tag="1")
    layout(source, [file("x", "2")], tag="2")
    assert tree(store.add(f"{URI}:2", source)) == {"x": "2"}
    with pytest.raises(Misconfigured, match="holds 2 images"):
        store.add(f"{URI}:3", source)


def test_what_is_no_image_says_what_would_be_one(store, source, tmp_path):
    with pytest.raises(Misconfigured, match="executable `train` or `serve`"):
        store.add(URI, source)
    (tmp_path / "text").write_text("x")
    with pytest.raises(Misconfigured, match="no archive"):
        store.add(URI, tmp_path / "text")
    with pytest.raises(Misconfigured, match="does not exist"):
        store.add(URI, tmp_path / "nothing")


# -- names ---------------------------------------------------------------------------------------------------


def test_names(store, source):
    layout(source, [file("x", "1")])
    image = store.add("registry.example:5000/a/b", source)
    for name in ("registry.example:5000/a/b", "registry.example:5000/a/b:latest"):
        assert store.resolve(name, ACCOUNT) == image
    for name in ("registry.example:5000/a/b:2", "b", f"registry.example:5000/a/b@{image.digest}"):
        with pytest.raises(JobFailed, match=r"passbox image add .* PATH"):
            store.resolve(name, ACCOUNT)
    for name in ("", "a b", "a/", f"a@{'0' * 64}"):
        with pytest.raises(Misconfigured):
            store.resolve(name, ACCOUNT)


def test_an_image_of_another_account_is_not_there(store, source):
    layout(source, [file("x", "1")])
    image = store.add(URI, source, owner=ACCOUNT)
    assert store.resolve(URI, ACCOUNT) == image
    messages = set()
    for name in (URI, "registry.example/none"):
        with pytest.raises(JobFailed) as refused:
            store.resolve(name, "999999999999")
        messages.add((refused.value.code, refused.value.message.replace(name, "NAME")))
    assert len(messages) == 1
    assert store.add(URI, source).digest == image.digest  # the operator gives it to every account
    assert store.resolve(URI, "999999999999") == image


def test_adding_again_moves_the_name_and_keeps_the_old_image(store, source, tmp_path):
    layout(source, [file("x", "1")])
    old = store.add(URI, source)
    newer = tmp_path / "newer"
    newer.mkdir()
    layout(newer, [file("x", "2")])
    new = store.add(URI, newer)
    assert store.resolve(URI, ACCOUNT) == new != old
    assert tree(old) == {"x": "1"}
    assert store.add(URI, newer) == new
    assert [name for name, _ in store.list()] == [f"{URI}:latest"]


def test_many_may_add_at_once(store, source):
    layout(source, [file("x", "1")])
    threads = [threading.Thread(target=store.add, args=(f"{URI}:{n}", source)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.list()) == 8


# -- folders of programs -------------------------------------------------------------------------------------


def program(at, code="import helper\nprint(helper.NAME)\n"):
    (at / "train").write_text(f"#!/usr/bin/env python3\n{code}")
    (at / "train").chmod(0o755)
    (at / "helper.py").write_text("NAME = 'helped'\n")
    return at


def test_a_folder_of_programs_has_a_digest_of_its_content(store, source):
    first = store.add(URI, program(source))
    (source / "__pycache__").mkdir()
    os.utime(source / "train", (1, 1))
    assert store.add(URI, source) == first
    (source / "helper.py").write_text("NAME = 'other'\n")
    assert store.add(URI, source).digest != first.digest


def test_a_folder_must_be_runnable_and_hold_no_links(store, source):
    program(source)
    (source / "train").chmod(0o644)
    with pytest.raises(Misconfigured, match=r"chmod \+x"):
        store.add(URI, source)
    (source / "train").chmod(0o755)
    (source / "link").symlink_to("/etc/passwd")
    with pytest.raises(Misconfigured, match="plain file"):
        store.add(URI, source)


@pytest.mark.parametrize(
    ("entrypoint", "given", "arguments", "expected"),
    [
        ((), (), (), ("train",)),
        ((), (), ("--fast",), ("train", "--fast")),
        (("/init", "--"), (), (), ("/init", "--", "train")),
        (("/init",), ("python", "x.py"), ("1",), ("python", "x.py", "1")),
    ],
)
def test_what_is_run(store, source, entrypoint, given, arguments, expected):
    layout(source, [file("x", "1")], config={"Entrypoint": list(entrypoint), "Cmd": ["never"]})
    assert store.add(URI, source).arguments("train", given, arguments) == expected


# -- sealed --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runtime():
    made = BubblewrapRuntime()
    if made.check().isolation is Isolation.NONE:
        pytest.skip(f"this machine cannot seal: {made.check().missing}")
    return made


def run(bench, image, arguments, **fields):
    spec = SandboxSpec(
        arguments=arguments, root=image.root, limits=Limits(256 << 20, 30, tmp_bytes=1 << 20), log=bench.log,
        environment=image.environment, directory=image.directory, **fields,
    )  # fmt: skip
    return bench.runtime.start(spec).wait(60), bench.log.read_text()


def test_a_folder_of_programs_runs_on_the_hosts_python(store, source, runtime, tmp_path):
    image = store.add(URI, program(source, "import sys, helper, botocore\nprint(helper.NAME, sys.argv)\n"))
    bench = Bench(runtime, tmp_path)
    ended, log = run(bench, image, image.arguments("train", (), ("a",)), mounts=image.mounts)
    assert log == "helped ['/opt/program/train', 'a']\n"
    assert ended.status == 0


_TRAIN = """#!/bin/sh
id; cat /opt/ml/input/data/train/rows /etc/passwd; ls /opt/ml /
echo "$@" > /opt/ml/model/m
echo x > /opt/ml/code/y || echo read-only
"""


def test_an_image_runs_and_is_not_written_to(store, source, runtime, tmp_path):
    layout(
        source,
        shell(),
        [file("opt/ml/code/train", _TRAIN, 0o755), file("etc/passwd", "root:x:0:0::/:/bin/sh")],
        config={"Env": ["PATH=/opt/ml/code:/bin"], "WorkingDir": "/opt/ml/code"},
    )
    image = store.add(URI, source)
    bench = Bench(runtime, tmp_path)
    before = tree_of_names(image.root.image)
    out = bench.output("model", "/opt/ml/model")
    mount = bench.mount("train", "/opt/ml/input/data/train", rows="1,2\n")
    ended, log = run(bench, image, image.arguments("train", (), ("a", "b")), mounts=(mount,), outputs=(out,))
    assert ended.status == 0, log
    assert (out.host / "m").read_text() == "a b\n"
    assert "uid=1000(user)" in log
    assert "1,2\n" in log
    assert "read-only" in log.lower()
    assert "root:x:0:0::/:/bin/sh\nuser:x:1000" in log
    assert {"code", "input", "model", "bin", "lib", "proc", "dev", "tmp"} <= set(log.split())
    assert tree_of_names(image.root.image) == before


def tree_of_names(root) -> list[str]:
    return sorted(str(path) for path in root.rglob("*"))


def test_an_image_that_has_the_target_already(store, source, runtime, tmp_path):
    layout(
        source, shell(), [file("opt/ml/input/data/train/mine", "1"), file("etc/hosts", "x"), file("a", "1")]
    )
    image = store.add(URI, source)
    bench = Bench(runtime, tmp_path)
    mount = bench.mount("train", "/opt/ml/input/data/train", rows="1,2\n")
    (tmp_path / "single").write_text("lent")
    single = Mount(tmp_path / "single", "/a")
    ended, log = run(bench, image, ("ls", "/opt/ml/input/data/train"), mounts=(mount, single))
    assert (ended.status, log) == (0, "rows\n")
