"""The GPUs of this machine: which there are, what a program needs beside them, and whose they are right now.

Knows the device nodes and libraries that NVIDIA's driver brings; must not know sandboxes or jobs. A node is
reserved by a lock on the node itself (flock(2)): it is one for the whole machine, whoever may take it may use
the device anyway, and the kernel releases it with the last process that holds it, however that ended.

Both runtimes hand a GPU on in the same way: its node, the driver's control nodes and, for an image, the
driver's libraries. No toolkit of the vendor is needed or used: it would write into the image.
"""

import fcntl
import os
import platform
import re
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from passbox.backends.runtimes.base import Busy, Mount, SandboxSpec
from passbox.errors import Misconfigured

LIBRARIES = (
    "/usr/local/nvidia/lib64"  # where CUDA images look, on their LD_LIBRARY_PATH, for what a host adds
)
_NODE = re.compile(r"nvidia[0-9]+", re.ASCII)
_CONTROL = ("nvidiactl", "nvidia-uvm")
_LIBRARY = re.compile(
    r"lib(cuda|cudadebugger|nvidia-(ml|cfg|ptxjitcompiler|nvvm\w*|gpucomp|opencl|pkcs11[\w-]*))\.so\.[0-9.]+",
    re.ASCII,
)
_NEEDED = "libcuda.so.1"
_LDCONFIG = ("/sbin/ldconfig", "/usr/sbin/ldconfig")
_ARCHITECTURES = {"x86_64": "x86-64", "aarch64": "AArch64"}  # ldconfig's words
_OPEN_TO_ALL = 0o006
_DRIVER_FIX = "install NVIDIA's driver with its compute libraries, then: nvidia-modprobe -c 0 -u"


@dataclass
class Reservation:
    """GPUs that nobody else has while a descriptor of it is open, here or in a process that was given it.

    nodes: host paths of all device nodes to show, control nodes among them, each as /dev/NAME
    """

    nodes: tuple[Path, ...] = ()
    descriptors: list[int] = field(default_factory=list)

    def numbers(self) -> dict[str, int]:
        """Path in the sandbox → device number."""
        return {f"/dev/{node.name}": node.stat().st_rdev for node in self.nodes}

    def close(self) -> None:
        """Lets go of them; whoever else was given them keeps them."""
        while self.descriptors:
            os.close(self.descriptors.pop())

    __del__ = close


@dataclass(frozen=True)
class Gpus:
    """GPUs that sandboxes may be given.

    devices:   one node for each; control: the nodes that a program needs whichever it has
    libraries: the driver's, by the name that programs load → host path
    missing:   why devices that are there cannot be used, and what to do about it
    """

    devices: tuple[Path, ...] = ()
    control: tuple[Path, ...] = ()
    libraries: Mapping[str, Path] = field(default_factory=dict)
    missing: tuple[str, str] | None = None

    @property
    def count(self) -> int:
        """How many a sandbox can be given."""
        return 0 if self.missing else len(self.devices)

    def reserve(self, count: int) -> Reservation:
        """So many of them, until the reservation is closed. Misconfigured where there are not so many, Busy
        where too few of them are free."""
        if count == 0:
            return Reservation()
        if count > self.count:
            raise Misconfigured(f"{count} GPUs were asked for and this machine has {self.count}")
        held = Reservation()
        chosen: list[Path] = []
        for device in self.devices:
            descriptor = _locked(device)
            if descriptor is None:
                continue
            held.descriptors.append(descriptor)
            chosen.append(device)
            if len(chosen) == count:
                held.nodes = (*chosen, *self.control)
                return held
        held.close()
        raise Busy(f"{count} GPUs were asked for and only {len(chosen)} are free")

    def with_libraries(self, spec: SandboxSpec) -> SandboxSpec:
        """The spec with the driver's libraries where it has a GPU and an image, which does not bring them;
        the host's own programs find the host's."""
        if not spec.gpus or spec.root.image is None:
            return spec
        mounts = (Mount(path, f"{LIBRARIES}/{name}") for name, path in self.libraries.items())
        searched = [path for path in (spec.environment.get("LD_LIBRARY_PATH"), LIBRARIES) if path]
        variables = {**spec.environment, "LD_LIBRARY_PATH": ":".join(searched)}
        return replace(spec, mounts=(*spec.mounts, *mounts), environment=variables)


def _locked(device: Path) -> int | None:
    """A descriptor that holds the lock of a device, or None where somebody else does."""
    descriptor = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return descriptor


def find_gpus(where: Path = Path("/dev"), libraries: Mapping[str, Path] | None = None) -> Gpus:
    """The NVIDIA GPUs with nodes in `where`. libraries: the driver's, which ldconfig tells otherwise."""
    nodes = sorted(
        (path for path in where.glob("nvidia*") if _NODE.fullmatch(path.name) and path.is_char_device()),
        key=lambda path: int(path.name.removeprefix("nvidia")),
    )
    if not nodes:
        return Gpus()
    control = tuple(where / name for name in _CONTROL)
    found = _libraries() if libraries is None else libraries
    return Gpus(tuple(nodes), control, found, _missing((*nodes, *control), found))


def _missing(nodes: tuple[Path, ...], libraries: Mapping[str, Path]) -> tuple[str, str] | None:
    absent = [str(node) for node in nodes if not node.is_char_device()]
    if absent:
        return f"GPUs without {', '.join(absent)}", _DRIVER_FIX
    # a job runs as a user of its own, which is in no group
    closed = [str(node) for node in nodes if stat.S_IMODE(node.stat().st_mode) & _OPEN_TO_ALL != _OPEN_TO_ALL]
    if closed:
        return f"jobs may not open {', '.join(closed)}", f"chmod 0666 {' '.join(closed)}"
    if _NEEDED not in libraries:
        return f"GPUs without {_NEEDED}", _DRIVER_FIX
    return None


def _libraries() -> dict[str, Path]:
    """The driver's libraries that the linker of this machine knows, by name."""
    ldconfig = next((path for path in _LDCONFIG if os.access(path, os.X_OK)), None)
    if ldconfig is None:
        return {}
    try:
        said = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, timeout=10, env={}).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return _listed(said, _ARCHITECTURES.get(platform.machine(), ""))


def _listed(said: str, architecture: str) -> dict[str, Path]:
    """What of `ldconfig -p` is the driver's; of several files of one name the linker takes the first."""
    found: dict[str, Path] = {}
    for line in said.splitlines():
        words = line.split()
        if len(words) < 3 or words[-2] != "=>" or not _LIBRARY.fullmatch(words[0]):
            continue
        if architecture and f",{architecture}" in line:
            found.setdefault(words[0], Path(os.path.realpath(words[-1])))
    return found
