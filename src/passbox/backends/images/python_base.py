"""The running Python as the root of an image: interpreter, standard library, a shell, and what these load.

Knows this machine's Python and its libraries; must not know images. Python finds its prefix from where it
lies, so it moves to /usr/local; every library goes beside libc, where the loader looks by itself.
"""

import shutil
import sys
import sysconfig
from pathlib import Path

from passbox.backends import closure
from passbox.errors import Misconfigured

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
SITE = f"usr/local/lib/python{VERSION}/site-packages"
_LIBRARY = f"usr/local/lib/python{VERSION}"
_LEFT_OUT = shutil.ignore_patterns(
    "__pycache__", "site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "turtledemo",
    "ensurepip", "lib2to3", "config-*", "*.a", "_tkinter*", "_test*", "_ctypes_test*", "xxlimited*",
)  # fmt: skip
_PROGRAMS = {"bin/sh": Path("/bin/sh"), "usr/bin/env": Path("/usr/bin/env")}


def lay_out(root: Path) -> None:
    """Puts it all under the new directory `root`. Misconfigured for a Python that no loader starts."""
    python = Path(sys.executable).resolve()
    loader = closure.interpreter(python)
    if loader is None:
        raise Misconfigured(f"{python} cannot be taken along: give --from an image that has a Python")
    target = root / _LIBRARY
    shutil.copytree(sysconfig.get_path("stdlib"), target, ignore=_LEFT_OUT, symlinks=False)
    (root / SITE).mkdir()
    binaries = root / "usr/local/bin"
    binaries.mkdir(parents=True)
    shutil.copyfile(python, binaries / f"python{VERSION}")
    (binaries / f"python{VERSION}").chmod(0o755)
    for name in ("python3", "python"):
        (binaries / name).symlink_to(f"python{VERSION}")
    for name, program in _PROGRAMS.items():
        _copy(program, root / name)
    _copy(loader, root / str(loader).lstrip("/"))
    needed = {path for one in (python, *_PROGRAMS.values()) for path in closure.libraries(loader, one)}
    for module in sorted(target.rglob("*.so")):
        needed |= closure.libraries(loader, module)
    libc = next(path for path in needed if path.name.startswith(("libc.", "libc-", "ld-musl")))
    for library in needed - {loader}:
        _copy(library, root / str(libc.parent).lstrip("/") / library.name)
    for name in ("tmp", "etc", "opt", "var"):
        (root / name).mkdir(exist_ok=True)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copyfile(source, target)
        target.chmod(0o755)
