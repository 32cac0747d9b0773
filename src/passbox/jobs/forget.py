"""Removing what the room keeps of a resource, so that it stays removed."""

import os
import shutil
from pathlib import Path


def forget(kept: Path) -> None:
    """Removes a directory of the vault durably; it may be gone already.

    It is renamed first, in one step that is on the disk when this returns, so that no job finds half of it.
    """
    leaving = kept.with_name(f".{kept.name}.leaving")
    shutil.rmtree(leaving, ignore_errors=True)
    if kept.exists():
        kept.rename(leaving)
        _sync(kept.parent)
    shutil.rmtree(leaving, ignore_errors=True)
    if kept.parent.exists():
        _sync(kept.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
