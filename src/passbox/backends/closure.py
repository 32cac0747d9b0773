"""What a program of this machine needs to run elsewhere: its loader and its shared libraries.

Knows ELF and the dynamic loader (glibc's or musl's, which lists for itself); must not know what the files are
for. Only for the operator's own programs: the loader opens them.
"""

import re
import struct
import subprocess
from pathlib import Path

_PT_INTERP = 3
_LISTED = re.compile(r"^\s*(?:\S+ => )?(/\S+)(?: \(0x[0-9a-f]+\))?$", re.MULTILINE)
_SECONDS = 60


def interpreter(program: Path) -> Path | None:
    """The loader that an ELF file names; None for a static program, a library without one, or no ELF file."""
    with program.open("rb") as file:
        head = file.read(64)
        if head[:6] not in (b"\x7fELF\x02\x01", b"\x7fELF\x02\x02") or len(head) < 64:
            return None
        order = "<" if head[5] == 1 else ">"
        (start,) = struct.unpack_from(f"{order}Q", head, 32)
        size, count = struct.unpack_from(f"{order}HH", head, 54)
        file.seek(start)
        table = file.read(size * count)
        for place in range(0, len(table), size):
            (kind,) = struct.unpack_from(f"{order}I", table, place)
            if kind == _PT_INTERP:
                offset, _, _, length = struct.unpack_from(f"{order}QQQQ", table, place + 8)
                file.seek(offset)
                return Path(file.read(length).rstrip(b"\0").decode())
    return None


def libraries(loader: Path, binary: Path) -> set[Path]:
    """The files that `loader` would load with a program or library, by the paths under which it finds them;
    the loader itself is among them. Empty for what is no dynamic ELF file of its kind."""
    said = subprocess.run(
        [str(loader), "--list", str(binary)],
        capture_output=True, text=True, env={}, timeout=_SECONDS, check=False,
    )  # fmt: skip
    return {Path(path) for path in _LISTED.findall(said.stdout)} if said.returncode == 0 else set()
