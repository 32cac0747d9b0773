"""Removing what the room keeps of a resource, so that it stays removed."""

import os
from pathlib import Path

from passbox.backends import trees


def forget(kept: Path) -> None:
    """Removes a directory of the vault durably; it may be gone already.

    It is renamed first, in one step that is on the disk when this returns, so that no job finds half of it.
    """
    leaving = kept.with_name(f".{kept.name}.leaving")
    trees.remove(leaving)
    if kept.exists():
        kept.rename(leaving)
        _sync(kept.parent)
    trees.remove(leaving)
    if kept.parent.exists():
        _sync(kept.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
