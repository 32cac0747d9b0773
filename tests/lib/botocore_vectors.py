"""botocore's own test vectors for SigV4 and rest-json, fetched once into .cache/ and never committed.

They lie only in the source distribution. pip fetches it from whatever index it is configured for; nothing
of it is installed. Several test processes may ask at once, so a file lock guards the download.
"""

import fcntl
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import botocore

_CACHE = Path(__file__).parents[2] / ".cache"
_WANTED = ("tests/unit/auth/aws4_testsuite/", "tests/unit/protocols/")


def vectors() -> Path:
    """The directory that holds `auth/aws4_testsuite` and `protocols` of the installed version."""
    version = botocore.__version__
    target = _CACHE / f"botocore-{version}"
    _CACHE.mkdir(exist_ok=True)
    with (_CACHE / "botocore.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _fetch(version, target)
    return target


def _fetch(version: str, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=_CACHE) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir"]
        command += ["--no-binary", "botocore", "--dest", scratch, f"botocore=={version}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            raise RuntimeError(f"botocore's source distribution could not be fetched:\n{done.stderr}")
        archive = next(Path(scratch).glob("botocore-*.tar.gz"))
        unpacked = Path(scratch) / "unpacked"
        with tarfile.open(archive) as tar:
            prefix = f"botocore-{version}/"
            chosen = [m for m in tar.getmembers() if m.name.removeprefix(prefix).startswith(_WANTED)]
            tar.extractall(unpacked, members=chosen, filter="data")
        (unpacked / prefix / "tests" / "unit").rename(target)
