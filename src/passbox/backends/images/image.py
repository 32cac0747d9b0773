"""An image as a job sees it: a digest, what to run by the conventions of docker and SageMaker, and its root.

Knows container configuration; must not know where images are kept or how they are sealed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from passbox.backends.runtimes.base import Mount, Root

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAM = "/opt/program"


@dataclass(frozen=True)
class Image:
    """What a SandboxSpec needs of an image.

    digest:      "sha256:…" of the manifest; of the configuration where an engine's archive has no manifest
                 (docs/how-to/images.md); or over the tree of a folder of programs
    entrypoint, command: as the image's configuration has them
    environment: the image's own variables, PATH always among them; a job's variables come on top
    directory:   where the process starts
    root, mounts: what it sees beside the job's own mounts
    """

    digest: str
    root: Root
    environment: Mapping[str, str] = field(default_factory=lambda: {"PATH": DEFAULT_PATH})
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    directory: str = "/"
    mounts: tuple[Mount, ...] = ()

    def arguments(
        self, role: str, entrypoint: Sequence[str] = (), arguments: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """The command for `role` ("train" or "serve").

        An entrypoint that the job gives takes the place of everything; else it is `docker run IMAGE role`:
        the image's own entrypoint with the role, or, where it has none, the program of that name on PATH.
        """
        if entrypoint:
            return (*entrypoint, *arguments)
        return (*self.entrypoint, role, *arguments)


def from_configuration(digest: str, rootfs: Path, configuration: Mapping[str, Any]) -> Image:
    """An Image from an OCI image configuration (its "config" object) and an unpacked root."""
    variables = dict(entry.partition("=")[::2] for entry in configuration.get("Env") or ())
    return Image(
        digest=digest,
        root=Root(image=rootfs),
        environment={"PATH": DEFAULT_PATH, **variables},
        entrypoint=tuple(configuration.get("Entrypoint") or ()),
        command=tuple(configuration.get("Cmd") or ()),
        directory=configuration.get("WorkingDir") or "/",
    )


def from_program(digest: str, program: Path, prefix: Path, base_prefix: Path) -> Image:
    """An Image that runs a folder of programs on the service's own Python."""
    places = (PROGRAM, f"{prefix}/bin", f"{base_prefix}/bin", DEFAULT_PATH)
    return Image(
        digest=digest,
        root=Root(prefixes=(prefix, base_prefix)),
        environment={"PATH": ":".join(dict.fromkeys(places))},
        directory=PROGRAM,
        mounts=(Mount(program, PROGRAM),),
    )
