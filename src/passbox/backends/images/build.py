"""Makes an image from a folder of code and its requirements.txt, without a container engine.

Layers: the running Python (or the root of an image that was added before), the requirements as wheels, the
folder itself. Knows pip and how images are put together; must not know where images are kept. Nothing of a
package is run while it is installed: wheels only. The same folder, Python and wheels give the same digest.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from passbox.backends.images import program, python_base, writer
from passbox.backends.images.image import DEFAULT_PATH, PROGRAM
from passbox.errors import Misconfigured

REQUIREMENTS = "requirements.txt"
_INSTALL_SECONDS = 3600
_PYTHON = re.compile(r"python3\.(\d+)")
_PREFIXES = ("usr/local", "usr", "opt/conda", "opt/venv")
_ON_PYTHON = b"#!/usr/bin/env python3\n"
_SAID = 2000  # characters of what pip says


@dataclass(frozen=True)
class Base:
    """What an image is built on. root: its files; config: its "config" object"""

    root: Path
    config: Mapping[str, Any]


@dataclass(frozen=True)
class _Python:
    """Where a root keeps its Python's packages, and which Python that is ("3.11")."""

    version: str
    site: str

    @property
    def is_ours(self) -> bool:
        return self.version == python_base.VERSION


def build_image(folder: Path, layout: Path, scratch: Path, name: str, base: Base | None = None) -> str:
    """Writes the image as an OCI layout into the new directory `layout`; returns its digest.

    folder: with an executable `train`, `serve` or both. base: None for the running Python
    Misconfigured for a folder that is no program, or requirements that pip cannot install.
    """
    if not program.is_program(folder):
        raise Misconfigured(f"{folder} holds no executable `train` or `serve`")
    layers = []
    if base is None:
        root = scratch / "base"
        root.mkdir()
        python_base.lay_out(root)
        config: Mapping[str, Any] = {"Env": [f"PATH={DEFAULT_PATH}"]}
        python: _Python | None = _Python(python_base.VERSION, python_base.SITE)
        program.compile_all(root / "usr", root, "/")
        layers.append(writer.write_layer(layout, root))
    else:
        python, config = _python_of(base.root), base.config
        layers.append(writer.write_layer(layout, base.root))
    if (folder / REQUIREMENTS).is_file():
        if python is None:
            raise Misconfigured(f"the image to build on has no Python, which {REQUIREMENTS} needs")
        packages = scratch / "packages"
        _install(folder / REQUIREMENTS, packages, python)
        layers.append(writer.write_layer(layout, packages))
    code = scratch / "code"
    place = code / PROGRAM.lstrip("/")
    place.parent.mkdir(parents=True)
    program.copy(folder, place, compile=python is not None and python.is_ours)
    layers.append(writer.write_layer(layout, code))
    return writer.write_image(layout, layers, _configuration(config), name)


def _configuration(base: Mapping[str, Any]) -> dict[str, Any]:
    """The base's, with the program in front on PATH; a role is then found there by its name."""
    variables = dict(entry.partition("=")[::2] for entry in base.get("Env") or ())
    variables["PATH"] = f"{PROGRAM}:{variables.get('PATH', DEFAULT_PATH)}"
    entries = [f"{name}={value}" for name, value in variables.items()]
    return {"Env": entries, "WorkingDir": PROGRAM, "Cmd": ["train"]}


def _python_of(root: Path) -> _Python | None:
    """The Python of a root, the one that comes first on a usual PATH."""
    for prefix in _PREFIXES:
        for binary in sorted((root / prefix / "bin").glob("python3.*")):
            found = _PYTHON.fullmatch(binary.name)
            if found is None:
                continue
            version = f"3.{found[1]}"
            for site in (f"lib/python{version}/site-packages", "lib/python3/dist-packages"):
                if (root / prefix / site).is_dir():
                    return _Python(version, f"{prefix}/{site}")
    return None


def _install(requirements: Path, root: Path, python: _Python) -> None:
    """Wheels of the requirements and of all they need, for the image's Python, under the new `root`."""
    site = root / python.site
    site.mkdir(parents=True)
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile",
        "--only-binary=:all:", "--no-warn-script-location", "--target", str(site),
        "--requirement", requirements.name,
    ]  # fmt: skip
    if not python.is_ours:
        command += ["--python-version", python.version, "--implementation", "cp"]
    ran = subprocess.run(
        command, capture_output=True, text=True, cwd=requirements.parent,
        timeout=_INSTALL_SECONDS, check=False,
    )  # fmt: skip
    if ran.returncode:
        said = ran.stderr.strip()[-_SAID:]
        raise Misconfigured(f"pip cannot install {requirements} as wheels for {python.version}: {said}")
    for left in site.rglob("__pycache__"):
        shutil.rmtree(left)
    if (site / "bin").is_dir():
        _move_scripts(site / "bin", root / python.site.partition("/lib/")[0] / "bin")
    if python.is_ours:
        program.compile_all(site, root, "/")


def _move_scripts(source: Path, target: Path) -> None:
    """Scripts where PATH finds them, and on the image's Python: pip wrote the one that it ran on."""
    target.mkdir(parents=True)
    for script in sorted(source.iterdir()):
        lines = script.read_bytes().splitlines(keepends=True)
        if lines[1:2] and lines[1].startswith(b"'''exec' "):  # how pip writes a path too long for #!
            lines[:3] = [_ON_PYTHON]
        elif lines and lines[0].startswith(b"#!") and b"python" in lines[0]:
            lines[0] = _ON_PYTHON
        (target / script.name).write_bytes(b"".join(lines))
        (target / script.name).chmod(0o755)
    shutil.rmtree(source)
