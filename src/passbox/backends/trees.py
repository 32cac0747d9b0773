"""Removes a directory whatever a hostile program has made of it: any depth, any modes, any kind of file.

The standard library recurses, so a chain of a thousand directories ends it. Here what lies deeper
is moved up instead, one level at a time. Nothing may write below the directory any more. Knows nothing else.
"""

import os
import stat
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove(path: Path) -> None:
    """Removes a directory and all below it, never through a link; no error where it is not there.

    OSError where the file system refuses, with the rest of it still there.
    """
    try:
        top = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        path.unlink()
        return
    try:
        os.fchmod(top, 0o700)
        moved = 0
        while directories := _empty_of_files(top):
            for name in directories:
                moved = _lift(top, name, moved)
    finally:
        os.close(top)
    path.rmdir()


def _empty_of_files(top: int) -> list[str]:
    """Removes what is no directory; the names of the directories."""
    directories = []
    for name in os.listdir(top):
        if stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
            directories.append(name)
        else:
            os.unlink(name, dir_fd=top)
    return directories


def _lift(top: int, name: str, moved: int) -> int:
    """Moves the directories of `name` up beside it and removes the rest of it; how many were moved so far."""
    os.chmod(name, 0o700, dir_fd=top)  # a directory, seen just now, and nobody writes here
    below = os.open(name, _DIRECTORY, dir_fd=top)
    try:
        for deeper in _empty_of_files(below):
            os.chmod(deeper, 0o700, dir_fd=below)
            moved += 1
            while _taken(top, str(moved)):
                moved += 1
            os.rename(deeper, str(moved), src_dir_fd=below, dst_dir_fd=top)
    finally:
        os.close(below)
    os.rmdir(name, dir_fd=top)
    return moved


def _taken(top: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=top, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
