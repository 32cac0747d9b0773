"""What may leave as an artifact and what fails the job: links, devices, tricks with names and sizes."""

import io
import os
import socket
import tarfile

import pytest

from passbox.backends.runtimes.artifacts import harvest, unpack
from passbox.errors import JobFailed

LARGE = 1 << 20


@pytest.fixture
def model(tmp_path):
    directory = tmp_path / "model"
    (directory / "deep" / "er").mkdir(parents=True)
    (directory / "deep" / "er" / "weights.bin").write_bytes(bytes(range(256)) * 10)
    (directory / "run.sh").write_text("#!/bin/sh\n")
    (directory / "run.sh").chmod(0o700)
    (directory / "ümläut.txt").write_text("x")
    return directory


def refused(directory, tmp_path, **limits) -> str:
    archive = tmp_path / "model.tar.gz"
    with pytest.raises(JobFailed) as raised:
        harvest(directory, archive, **({"max_bytes": LARGE} | limits))
    assert list(tmp_path.glob("model.tar.gz*")) == []
    return raised.value.code


def test_there_and_back(model, tmp_path):
    archive, back = tmp_path / "model.tar.gz", tmp_path / "back"
    back.mkdir()
    packed = harvest(model, archive, max_bytes=LARGE)
    assert (packed.files, packed.content_bytes) == (3, 2560 + 10 + 1)
    assert packed.archive_bytes == archive.stat().st_size
    assert unpack(archive, back, max_bytes=LARGE).content_bytes == packed.content_bytes
    assert (back / "deep/er/weights.bin").read_bytes() == (model / "deep/er/weights.bin").read_bytes()
    assert (back / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (back / "ümläut.txt").read_text() == "x"


def test_the_same_files_give_the_same_bytes(model, tmp_path):
    first, second = tmp_path / "1", tmp_path / "2"
    harvest(model, first, max_bytes=LARGE)
    for path in model.rglob("*"):
        os.utime(path, (1, 1))
    (model / "run.sh").chmod(0o755)
    harvest(model, second, max_bytes=LARGE)
    assert first.read_bytes() == second.read_bytes()


def test_nothing_at_all_is_an_empty_archive(tmp_path):
    (tmp_path / "empty").mkdir()
    packed = harvest(tmp_path / "empty", tmp_path / "a", max_bytes=0)
    assert packed.files == packed.content_bytes == 0


def _symlink(at, tmp_path):
    (tmp_path / "secret").write_text("s")
    (at / "link").symlink_to(tmp_path / "secret")


def _directory_link(at, tmp_path):
    (at / "link").symlink_to("/etc")


def _hard_link(at, tmp_path):
    (tmp_path / "secret").write_text("s")
    os.link(tmp_path / "secret", at / "link")


def _fifo(at, tmp_path):
    os.mkfifo(at / "fifo")


def _socket(at, tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(at / "s"))


def _set_uid(at, tmp_path):
    (at / "run.sh").chmod(0o4755)


def _set_gid(at, tmp_path):
    (at / "run.sh").chmod(0o2755)


def _newline(at, tmp_path):
    (at / "a\nb").touch()


def _escape_sequence(at, tmp_path):
    (at / "a\x1b[2Jb").touch()


def _backslash(at, tmp_path):
    (at / "..\\..\\x").touch()


def _not_text(at, tmp_path):
    os.close(os.open(os.fsencode(at) + b"/\xff\xfe", os.O_CREAT | os.O_WRONLY))


def _blank_end(at, tmp_path):
    (at / "run ").touch()


def _deep(at, tmp_path):
    (at / "/".join("d" * 80)).mkdir(parents=True)


@pytest.mark.parametrize(
    "trick",
    [_symlink, _directory_link, _hard_link, _fifo, _socket, _set_uid, _set_gid, _newline, _escape_sequence,
     _backslash, _not_text, _blank_end, _deep],
)  # fmt: skip
def test_a_trick_fails_the_job(model, tmp_path, trick):
    trick(model, tmp_path)
    assert refused(model, tmp_path) == "FORBIDDEN_ARTIFACT"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device")
def test_a_device_fails_the_job(model, tmp_path):
    os.mknod(model / "null", 0o020666, os.makedev(1, 3))
    assert refused(model, tmp_path) == "FORBIDDEN_ARTIFACT"


def test_a_linked_directory_is_not_harvested(model, tmp_path):
    (tmp_path / "way").symlink_to(model)
    with pytest.raises(OSError, match=r"directory|links"):
        harvest(tmp_path / "way", tmp_path / "a", max_bytes=LARGE)


def test_sizes_count_holes(model, tmp_path):
    with (model / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    assert refused(model, tmp_path) == "MAX_ARTIFACT_SIZE_EXCEEDED"


def test_too_large_and_too_many_name_the_limit_and_no_file(model, tmp_path):
    assert refused(model, tmp_path, max_bytes=2570) == "MAX_ARTIFACT_SIZE_EXCEEDED"
    assert refused(model, tmp_path, max_files=4) == "TOO_MANY_ARTIFACT_FILES"
    harvest(model, tmp_path / "a", max_bytes=2571, max_files=5)
    with pytest.raises(JobFailed, match="2570 bytes") as raised:
        harvest(model, tmp_path / "b", max_bytes=2570)
    assert "weights" not in str(raised.value)


def _archive(tmp_path, *members, content=b"x"):
    path = tmp_path / "hostile.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, fields in members:
            member = tarfile.TarInfo(name)
            member.size = len(content) if fields.get("type", tarfile.REGTYPE) == tarfile.REGTYPE else 0
            for field, value in fields.items():
                setattr(member, field, value)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    "members",
    [
        [("../out", {})],
        [("/etc/out", {})],
        [("a/../../out", {})],
        [("link", {"type": tarfile.SYMTYPE, "linkname": "/etc"})],
        [("d", {"type": tarfile.SYMTYPE, "linkname": ".."}), ("d/out", {})],
        [("a", {}), ("b", {"type": tarfile.LNKTYPE, "linkname": "a"})],
        [("null", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3})],
        [("fifo", {"type": tarfile.FIFOTYPE})],
        [("su", {"mode": 0o4755})],
        [("a\nb", {})],
    ],
    ids=lambda members: members[-1][0].replace("\n", "?"),
)
def test_a_hostile_archive_is_not_unpacked(tmp_path, members):
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(JobFailed) as raised:
        unpack(_archive(tmp_path, *members), target, max_bytes=LARGE)
    assert raised.value.code == "FORBIDDEN_ARTIFACT"
    assert not (tmp_path / "out").exists()


def test_a_bomb_is_not_unpacked(tmp_path):
    (tmp_path / "target").mkdir()
    bomb = _archive(tmp_path, ("a", {}), ("b", {}), content=bytes(LARGE))
    with pytest.raises(JobFailed) as raised:
        unpack(bomb, tmp_path / "target", max_bytes=LARGE)
    assert raised.value.code == "MAX_ARTIFACT_SIZE_EXCEEDED"
    assert not (tmp_path / "target/b").exists()


def test_a_broken_archive_says_so(tmp_path):
    (tmp_path / "target").mkdir()
    for content in (b"nonsense", _archive(tmp_path, ("a", {}), content=os.urandom(5000)).read_bytes()[:2000]):
        (tmp_path / "broken").write_bytes(content)
        with pytest.raises(JobFailed) as raised:
            unpack(tmp_path / "broken", tmp_path / "target", max_bytes=LARGE)
        assert raised.value.code == "INVALID_ARTIFACT"
