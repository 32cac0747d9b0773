"""A folder of programs as an image: copied once, named by the digest of its tree.

Knows files; must not know registries. The folder holds an executable `train`, `serve` or both, and whatever
code stands beside them; it runs on the service's own Python and packages.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from passbox.backends.images.image import PROGRAM
from passbox.errors import Misconfigured

ROLES = ("train", "serve")
_LEFT_OUT = ("__pycache__", ".git", ".venv")


def is_program(path: Path) -> bool:
    """Whether a path looks like a folder of programs."""
    return path.is_dir() and any((path / role).exists() for role in ROLES)


def copy(source: Path, target: Path, compile: bool = True) -> str:
    """Copies the folder into the new directory `target` and returns its digest.

    compile: whether the Python that runs it is the one that runs this.
    Misconfigured for a role that is not executable and for links, which could lead out of the folder.
    """
    for role in ROLES:
        path = source / role
        if path.exists() and not (path.is_file() and os.access(path, os.X_OK)):
            raise Misconfigured(f"{path} is not an executable file: chmod +x {path}")
    digest = hashlib.sha256()
    target.mkdir(mode=0o755)
    for relative in _entries(source, Path()):
        original, copied = source / relative, target / relative
        if original.is_symlink() or not (original.is_dir() or original.is_file()):
            raise Misconfigured(f"{original} is neither a plain file nor a directory; copy what it leads to")
        if original.is_dir():
            copied.mkdir(mode=0o755)
            digest.update(f"d {relative.as_posix()}\0".encode())
            continue
        shutil.copyfile(original, copied)
        mode = 0o755 if os.access(original, os.X_OK) else 0o644
        copied.chmod(mode)
        content = hashlib.sha256(copied.read_bytes()).hexdigest()
        digest.update(f"f {mode:o} {relative.as_posix()}\0{content}\0".encode())
    if compile:
        compile_all(target, target, PROGRAM)
    return f"sha256:{digest.hexdigest()}"


def _entries(source: Path, directory: Path) -> Iterator[Path]:
    """Every entry as a path relative to `source`, parents first, sorted."""
    for path in sorted((source / directory).iterdir()):
        if path.name in _LEFT_OUT:
            continue
        relative = directory / path.name
        yield relative
        if path.is_dir() and not path.is_symlink():
            yield from _entries(source, relative)


def compile_all(directory: Path, root: Path, shown_as: str) -> None:
    """Compiles now: where it runs it is read-only, and every start would compile again.

    root: the directory of the host that will be `shown_as`. In a process of its own, with a fixed order of
    sets: what this one has loaded already would change the bytes, and so the digest.
    """
    subprocess.run(
        [sys.executable, "-m", "compileall", "-qq", "--invalidation-mode", "unchecked-hash",
         "-s", str(root), "-p", shown_as, str(directory)],
        env={"PYTHONHASHSEED": "0"}, cwd="/", check=False, stdout=subprocess.DEVNULL,
    )  # fmt: skip
