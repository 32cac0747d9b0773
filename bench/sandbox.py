"""Start of a sandbox to the first line of user code, beside the same Python started bare. Medians, in
turns.

python -m bench.sandbox

"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from passbox.backends.runtimes.base import Limits, Root, SandboxSpec
from passbox.backends.runtimes.bubblewrap import BubblewrapRuntime

REPEATS = 15
PROGRAM = "import time; print(time.clock_gettime(time.CLOCK_MONOTONIC))"


def _bare() -> float:
    begun = time.clock_gettime(time.CLOCK_MONOTONIC)
    told = subprocess.run([sys.executable, "-I", "-c", PROGRAM], capture_output=True, check=True, text=True)
    return float(told.stdout) - begun


def _sealed(runtime: BubblewrapRuntime, log: Path) -> float:
    prefixes = tuple(dict.fromkeys((Path(sys.prefix), Path(sys.base_prefix))))
    spec = SandboxSpec(
        arguments=(sys.executable, "-I", "-c", PROGRAM),
        root=Root(prefixes=prefixes),
        limits=Limits(memory_bytes=1 << 30, seconds=60),
        log=log,
    )
    begun = time.clock_gettime(time.CLOCK_MONOTONIC)
    sandbox = runtime.start(spec)
    ended = sandbox.wait()
    if ended is None or ended.status != 0:
        raise RuntimeError(f"the sandbox ended {ended}")
    return float(log.read_text()) - begun


def measure() -> dict[str, float]:
    """Milliseconds from the call to the first line of Python, bare and sealed."""
    runtime = BubblewrapRuntime()
    runtime.check()
    bare, sealed = [], []
    with tempfile.TemporaryDirectory() as directory:
        for turn in range(REPEATS + 1):
            log = Path(directory) / f"{turn}.log"
            times = _bare(), _sealed(runtime, log)
            if turn:  # the first warms up
                bare.append(times[0] * 1000)
                sealed.append(times[1] * 1000)
    return {"bare": statistics.median(bare), "sealed": statistics.median(sealed)}


def main() -> None:
    found = measure()
    above = found["sealed"] - found["bare"]
    print(f"start to first line of Python: bare {found['bare']:.0f} ms, sealed {found['sealed']:.0f} ms")
    print(f"above bare: {above:.0f} ms (bound 60 ms)")


if __name__ == "__main__":
    main()
