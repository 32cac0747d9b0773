"""Images made without an engine: the same bytes again, sealed on every runtime, and taken by real engines."""

import base64
import hashlib
import zipfile
from pathlib import Path

import pytest

from lib.runtime import Bench
from lib.runtime_images import directory, file, layout, shell, symlink
from passbox.backends.images.store import ImageStore
from passbox.backends.runtimes.base import Limits, SandboxSpec
from passbox.errors import JobFailed, Misconfigured

ACCOUNT = "111111111111"
URI = "registry.example/models/churn:1"
TRAIN = """#!/usr/bin/env python3
import sqlite3, ssl, subprocess, sys
import helper, small
said = subprocess.run(["small-says"], capture_output=True, text=True, check=True).stdout.strip()
print(sys.argv, sys.prefix, helper.NAME, small.__cached__ is not None, said)
"""


def wheel(place: Path) -> None:
    """A wheel made by hand, so that no index is asked."""
    files = {
        "small/__init__.py": "def main():\n    print('small says')\n",
        "small-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: small\nVersion: 1.0\n",
        "small-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "small-1.0.dist-info/entry_points.txt": "[console_scripts]\nsmall-says = small:main\n",
    }
    record = "small-1.0.dist-info/RECORD"
    lines = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}")
    with zipfile.ZipFile(place / "small-1.0-py3-none-any.whl", "w") as archive:
        for name, content in {**files, record: "\n".join([*lines, f"{record},,"]) + "\n"}.items():
            archive.writestr(name, content)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("folder")
    (place / "train").write_text(TRAIN)
    (place / "train").chmod(0o755)
    (place / "helper.py").write_text("NAME = 'helped'\n")
    (place / "wheels").mkdir()
    wheel(place / "wheels")
    (place / "requirements.txt").write_text("--no-index\n--find-links ./wheels\nsmall==1.0\n")
    return place


@pytest.fixture(scope="module")
def built(folder, tmp_path_factory):
    """(store, image, archive), made once."""
    place = tmp_path_factory.mktemp("built")
    store = ImageStore(place / "images")
    return store, store.build(URI, folder, out=place / "image.tar"), place / "image.tar"


def run(bench, image, *arguments):
    spec = SandboxSpec(
        arguments=image.arguments("train", (), arguments), root=image.root, log=bench.log,
        limits=Limits(256 << 20, 60, tmp_bytes=1 << 20), environment=image.environment,
        directory=image.directory, mounts=image.mounts,
    )  # fmt: skip
    ended = bench.runtime.start(spec).wait(60)
    assert ended.status == 0, bench.log.read_text()
    return bench.log.read_text()


@pytest.mark.parametrize("name", ["bubblewrap", "docker", "podman"])
def test_it_runs_sealed_on_a_python_of_its_own(built, runtimes, name, tmp_path):
    said = run(Bench(runtimes(name), tmp_path), built[1], "a", "b")
    assert said == "['/opt/program/train', 'a', 'b'] /usr/local helped True small says\n"


def test_everything_in_it_is_compiled_already(built):
    root = built[1].root.image
    [site] = root.glob("usr/local/lib/python3.*/site-packages")
    for package in (site / "small", site.parent, site.parent / "json", root / "opt/program"):
        names = {path.name.partition(".")[0] for path in (package / "__pycache__").iterdir()}
        assert names >= {path.stem for path in package.glob("*.py")}


def test_the_same_inputs_give_the_same_digest(built, folder, tmp_path):
    assert ImageStore(tmp_path / "images").build(URI, folder).digest == built[1].digest


def test_the_archive_is_the_image(built, tmp_path):
    assert ImageStore(tmp_path / "images").add(URI, built[2]).digest == built[1].digest


@pytest.mark.parametrize("name", ["docker", "podman"])
def test_an_engine_loads_the_archive_and_gives_it_back(built, runtimes, name, tmp_path):
    from docker import APIClient

    address = runtimes(name)._address
    engine = APIClient(base_url=address, version="auto", timeout=120)
    with built[2].open("rb") as archive:
        list(engine.load_image(archive))
    known = engine.inspect_image(URI)
    store = ImageStore(tmp_path / "images")
    back = store.add_from_engine(URI, address, owner=ACCOUNT)
    assert back.digest == (known["Id"] if known["Id"].startswith("sha256:") else f"sha256:{known['Id']}")
    assert _tree(back.root.image) == _tree(built[1].root.image)
    assert store.resolve(URI, ACCOUNT) == back
    with pytest.raises(JobFailed):
        store.resolve(URI, "222222222222")
    with pytest.raises(Misconfigured, match="does not give"):
        store.add_from_engine("registry.example/none:1", address)


def _tree(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): str(path.readlink())
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def test_on_an_image_that_was_added_before(built, folder, tmp_path):
    store = built[0]
    image = store.build("registry.example/models/second", folder, on=URI)
    assert _tree(image.root.image) == _tree(built[1].root.image)
    assert image.environment["PATH"].startswith("/opt/program:/opt/program:")
    assert image.digest != built[1].digest


def test_on_an_image_without_python_there_are_no_requirements(folder, tmp_path):
    store = ImageStore(tmp_path / "images")
    (tmp_path / "source").mkdir()
    layout(tmp_path / "source", shell())
    store.add("registry.example/shell", tmp_path / "source")
    with pytest.raises(Misconfigured, match="has no Python"):
        store.build(URI, folder, on="registry.example/shell")
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "serve").write_text("#!/bin/sh\necho serving\n")
    (plain / "serve").chmod(0o755)
    assert (store.build(URI, plain, on="registry.example/shell").root.image / "opt/program/serve").exists()


def test_wheels_for_the_python_that_the_image_has(folder, tmp_path):
    store = ImageStore(tmp_path / "images")
    (tmp_path / "source").mkdir()
    older = "usr/local/lib/python3.9/site-packages"
    layout(tmp_path / "source", [file("usr/local/bin/python3.9", "", 0o755), directory(older)])
    store.add("registry.example/older", tmp_path / "source")
    root = store.build(URI, folder, on="registry.example/older").root.image
    assert (root / older / "small/__init__.py").exists()
    assert (root / "usr/local/bin/small-says").read_text().startswith("#!/usr/bin/env python3\n")
    assert not list(root.rglob("*.pyc"))  # the running Python cannot compile for another


@pytest.mark.parametrize(
    ("requirements", "said"),
    [
        ("--no-index\nnowhere==1", "pip cannot install"),
        ("--no-index\n--find-links ./sources\nsource==1.0", "pip cannot install"),  # would run its setup.py
    ],
)
def test_what_is_no_wheel_is_not_installed(tmp_path, requirements, said):
    place = tmp_path / "folder"
    (place / "sources").mkdir(parents=True)
    (place / "sources" / "source-1.0.tar.gz").write_bytes(b"")
    (place / "train").write_text("")
    (place / "train").chmod(0o755)
    (place / "requirements.txt").write_text(requirements)
    store = ImageStore(tmp_path / "images")
    with pytest.raises(Misconfigured, match=said):
        store.build(URI, place, on=_tiny(store, tmp_path))
    assert [name for name, _ in store.list()] == ["registry.example/tiny:latest"]


def _tiny(store, tmp_path) -> str:
    (tmp_path / "tiny").mkdir()
    python = [file("usr/bin/python3.11", "", 0o755), directory("usr/lib/python3/dist-packages")]
    layout(tmp_path / "tiny", [*python, symlink("bin", "usr/bin")])
    store.add("registry.example/tiny", tmp_path / "tiny")
    return "registry.example/tiny"


def test_a_folder_without_a_role_is_no_program(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(Misconfigured, match="no executable `train` or `serve`"):
        ImageStore(tmp_path / "images").build(URI, tmp_path / "folder")


# -- leaving -------------------------------------------------------------------------------------------------


def test_an_exported_image_comes_back_the_same(tmp_path):
    store = ImageStore(tmp_path / "images")
    (tmp_path / "source").mkdir()
    layout(tmp_path / "source", [file("a", "1")], [file("a", "2"), symlink("b", "a")], config={"Cmd": ["x"]})
    added = store.add(URI, tmp_path / "source")
    digest = store.export(URI, tmp_path / "out.tar")
    back = store.add("registry.example/back", tmp_path / "out.tar")
    assert back.digest == digest != added.digest
    assert _tree(back.root.image) == _tree(added.root.image)
    assert back.command == added.command == ("x",)
    assert store.export(URI, tmp_path / "again.tar") == digest
    assert (tmp_path / "again.tar").read_bytes() == (tmp_path / "out.tar").read_bytes()


def test_a_folder_of_programs_is_not_exported(folder, tmp_path):
    store = ImageStore(tmp_path / "images")
    store.add(URI, folder)
    with pytest.raises(Misconfigured, match="folder of programs"):
        store.export(URI, tmp_path / "out.tar")
    assert not (tmp_path / "out.tar").exists()


def test_content_goes_with_its_last_name_and_not_under_a_running_job(tmp_path):
    store = ImageStore(tmp_path / "images")
    for number in "12":
        (tmp_path / number).mkdir()
        layout(tmp_path / number, [file("x", number)])
    first = store.add("registry.example/a", tmp_path / "1")
    store.add("registry.example/b", tmp_path / "1")
    second = store.add("registry.example/c", tmp_path / "2")
    store.remove("registry.example/a", in_use=False)
    assert first.root.image.exists()
    store.remove("registry.example/c", in_use=True)
    assert second.root.image.exists()
    with pytest.raises(JobFailed):
        store.resolve("registry.example/c", ACCOUNT)
    store.remove("registry.example/b", in_use=False)
    assert not first.root.image.exists()
    assert not second.root.image.exists()
    with pytest.raises(Misconfigured, match="there is no image"):
        store.remove("registry.example/b", in_use=False)
