"""Removing what a hostile program left: any depth, any modes, any kind of file, and nothing beside it."""

import os
import stat
from pathlib import Path

import pytest

from passbox.backends import trees


def chain(top: Path, depth: int, name: str = "d") -> None:
    """Directories in one another, deeper than a path can say."""
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.mkfifo("fifo", dir_fd=here)
    os.symlink("/etc/passwd", "link", dir_fd=here)
    os.close(here)


@pytest.mark.parametrize("name", ["d", "1", "D" * 250])
def test_any_depth(tmp_path: Path, name: str) -> None:
    chain(tmp_path / "left", 3000, name)
    trees.remove(tmp_path / "left")
    assert list(tmp_path.iterdir()) == []


def test_names_that_look_like_those_of_what_is_moved(tmp_path: Path) -> None:
    top = tmp_path / "left"
    for outer in "123":
        for inner in "1234":
            (top / outer / inner / "1").mkdir(parents=True)
            (top / outer / inner / "2").write_text("x")
    trees.remove(top)
    assert not top.exists()


def test_nothing_is_removed_through_a_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    top = tmp_path / "left"
    (top / "below").mkdir(parents=True)
    (top / "link").symlink_to(outside)
    (top / "below" / "link").symlink_to(outside)
    trees.remove(top)
    assert (outside / "kept").read_text() == "kept"
    (tmp_path / "top").symlink_to(outside)
    trees.remove(tmp_path / "top")
    assert (outside / "kept").read_text() == "kept"
    assert not (tmp_path / "top").is_symlink()


def test_modes_do_not_matter(tmp_path: Path) -> None:
    top = tmp_path / "left"
    (top / "closed" / "deeper").mkdir(parents=True)
    (top / "closed" / "deeper" / "file").write_text("x")
    for path in (top / "closed" / "deeper", top / "closed", top):
        path.chmod(0)
    trees.remove(top)
    assert not top.exists()


def test_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    trees.remove(tmp_path / "none")
    (tmp_path / "file").write_text("x")
    trees.remove(tmp_path / "file")
    assert stat.S_ISDIR(tmp_path.stat().st_mode)
    assert list(tmp_path.iterdir()) == []
