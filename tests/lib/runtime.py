"""Helpers of the runtimes' exam: short programs run under a runtime, and what came of them."""

import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from passbox.backends.runtimes.base import Exit, Limits, Mount, Output, Root, Runtime, Sandbox, SandboxSpec

MEMORY = 256 << 20
PYTHON = (sys.executable, "-I", "-S", "-c")
ROOT = Root(prefixes=(Path(sys.prefix), Path(sys.base_prefix)))

# A probe is the body of a function that does something forbidden: it returns if that worked.
_PROBE = """
import ctypes, errno, os, signal, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def syscall(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(argument) for argument in arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
def probe():
{body}
try:
    probe()
except (OSError, ValueError) as error:  # ValueError: how `resource` says EPERM
    print("refused", errno.errorcode.get(getattr(error, "errno", 0), error), flush=True)
else:
    print("reached", flush=True)
"""


@dataclass(frozen=True)
class Ran:
    """How a program ended and what it said."""

    exit: Exit
    log: str


def probe(body: str) -> str:
    """The program that tries `body` and prints "reached" or "refused ERRNO"."""
    return _PROBE.format(body=textwrap.indent(textwrap.dedent(body).strip(), "    "))


class Bench:
    """A runtime and a directory to try it in."""

    def __init__(self, runtime: Runtime, directory: Path) -> None:
        self.runtime = runtime
        self.directory = directory
        self.log = directory / "log"

    def output(self, name: str, target: str, max_bytes: int = 1 << 20, max_files: int = 1000) -> Output:
        host = self.directory / name
        host.mkdir()
        return Output(host, target, max_bytes, max_files)

    def mount(self, name: str, target: str, **files: str) -> Mount:
        host = self.directory / name
        host.mkdir(mode=0o700)
        for file, content in files.items():
            (host / file).write_text(content)
            (host / file).chmod(0o600)
        return Mount(host, target)

    def spec(self, code: str, *arguments: str, root: Root = ROOT, **changes: Any) -> SandboxSpec:
        """A spec that runs the Python `code`; keywords are fields of Limits or of SandboxSpec."""
        limits = {"memory_bytes": MEMORY, "seconds": 30.0, "processes": 64, "tmp_bytes": 4 << 20}
        limits |= {name: changes.pop(name) for name in list(changes) if name in Limits.__dataclass_fields__}
        fields = {"log": self.log, **changes}
        command = (*PYTHON, textwrap.dedent(code), *arguments)
        return SandboxSpec(arguments=command, root=root, limits=Limits(**limits), **fields)

    def start(self, code: str, *arguments: str, **changes: Any) -> Sandbox:
        return self.runtime.start(self.spec(code, *arguments, **changes))

    def run(self, code: str, *arguments: str, **changes: Any) -> Ran:
        ended = self.start(code, *arguments, **changes).wait(60)
        assert ended is not None
        return Ran(ended, self.log.read_text(errors="replace"))

    def said(self, text: str) -> None:
        """Waits until the log holds `text`."""
        for _ in poll("the log never said " + text):
            if text in self.log.read_text(errors="replace"):
                return


def poll(failure: str, seconds: float = 20.0) -> Iterator[None]:
    """Iterates until the caller is content; AssertionError with `failure` when that takes too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(0.005)
    raise AssertionError(failure)


def prefixes_below(folder: str) -> list[str]:
    """What of `folder` a sandbox has to show because this Python lies below it."""
    paths = [Path(prefix) for prefix in (sys.prefix, sys.base_prefix)]
    return [path.relative_to(folder).parts[0] for path in paths if path.is_relative_to(folder)]


def processes_with(mark: str) -> list[int]:
    """The host's processes that have `mark` on their command line, this one aside."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if mark.encode() in words:
                found.append(int(process.name))
    return found
