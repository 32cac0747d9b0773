"""Programs that tests run against, each in an environment of its own under .cache/, made once by pip.

So their dependencies stay out of ours, and `make install` stays light.
"""

import fcntl
import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_CACHE = Path(__file__).parents[2] / ".cache"


def binaries(name: str, pins: Sequence[str]) -> Path:
    """The directory of programs of an environment with `pins`; several test processes may ask at once."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(" ".join(pins).encode()).hexdigest()[:8]
    home = _CACHE / f"{name}-py{version}-{digest}"
    stamp = home / ".installed"
    _CACHE.mkdir(exist_ok=True)
    with (_CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists():
            _run(name, [sys.executable, "-m", "venv", "--clear", str(home)])
            install = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--prefer-binary"]
            _run(name, [*install, *pins])
            stamp.touch()
    return home / "bin"


def _run(name: str, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} could not be installed:\n{done.stderr}")
