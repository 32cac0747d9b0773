"""The images that this service knows, under their registry paths.

Knows a directory: `index.json` maps `registry/repository:tag` to a digest and the account it belongs to, and
`DIGEST/` holds what was unpacked (`rootfs`, or `program`) with `image.json`. Must not know jobs. Images
never change: adding under a name again moves the name and keeps the old digest, which running jobs may still
use.
"""

import fcntl
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from passbox.backends.images import oci, program
from passbox.backends.images.image import Image, from_configuration, from_program
from passbox.errors import JobFailed, Misconfigured

_MAX_BYTES = 64 << 30


class ImageStore:
    """Images under `directory` (`Settings.images`). Safe to use from several processes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def add(self, uri: str, path: Path, owner: str | None = None) -> Image:
        """Makes the image at `path` known as `uri`: an OCI layout (directory or archive), a `docker save`
        archive, or a folder with an executable `train` or `serve`. Misconfigured for anything else.

        owner: the one account whose algorithms may use it; None for an image that every account may use
        """
        name = _name(uri)
        if "@" in name:
            raise Misconfigured("an image is added under a tag; its digest follows from its content")
        if not path.exists():
            raise Misconfigured(f"{path} does not exist")
        self._directory.mkdir(parents=True, exist_ok=True)
        with self._locked():
            fresh = Path(tempfile.mkdtemp(prefix=".adding-", dir=self._directory))
            try:
                digest = _fill(fresh / "image", path, fresh / "scratch", name.rpartition(":")[2])
                kept = self._directory / digest.partition(":")[2]
                if not kept.exists():
                    (fresh / "image").rename(kept)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
            self._write({**self._index(), name: (digest, owner)})
        return self._image(digest)

    def resolve(self, uri: str, account: str) -> Image:
        """The image of `registry/repository:tag` for an account's algorithm; JobFailed with the command that
        would add it. An image of another account is, to the letter, one that is not there.
        """
        digest, owner = self._index().get(_name(uri), (None, None))
        if digest is not None and owner in (None, account):
            return self._image(digest)
        raise JobFailed(
            "IMAGE_NOT_FOUND",
            f"The container image {uri} is not known to this service. "
            f"Its operator can add it with: passbox image add {uri} PATH",
        )

    def list(self) -> tuple[tuple[str, Image], ...]:
        """(name with tag, image), sorted by name."""
        return tuple((name, self._image(digest)) for name, (digest, _) in sorted(self._index().items()))

    def owners(self) -> Mapping[str, str | None]:
        """name with tag → the account it belongs to."""
        return {name: owner for name, (_, owner) in self._index().items()}

    def _image(self, digest: str) -> Image:
        place = self._directory / digest.partition(":")[2]
        described = json.loads((place / "image.json").read_text())
        if described["kind"] == "program":
            return from_program(digest, place / "program", Path(sys.prefix), Path(sys.base_prefix))
        return from_configuration(digest, place / "rootfs", described["config"])

    def _index(self) -> Mapping[str, tuple[str, str | None]]:
        path = self._directory / "index.json"
        if not path.exists():
            return {}
        found = json.loads(path.read_text())["images"]
        return {name: (entry["digest"], entry["account"]) for name, entry in found.items()}

    def _write(self, images: Mapping[str, tuple[str, str | None]]) -> None:
        path = self._directory / "index.json"
        unfinished = path.with_suffix(".part")
        with unfinished.open("w") as file:
            entries = {name: {"digest": digest, "account": owner} for name, (digest, owner) in images.items()}
            json.dump({"images": dict(sorted(entries.items()))}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._directory / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _fill(place: Path, path: Path, scratch: Path, tag: str) -> str:
    """Unpacks or copies into the new directory `place`; returns the digest."""
    place.mkdir(mode=0o755)
    described: dict[str, Any] = {}
    if program.is_program(path):
        digest = program.copy(path, place / "program")
        described = {"kind": "program", "digest": digest}
    else:
        scratch.mkdir()
        manifest = oci.open_layout(path, scratch, tag)
        oci.unpack(manifest, place / "rootfs", _MAX_BYTES)
        digest = manifest.digest
        described = {"kind": "oci", "digest": digest, "config": dict(manifest.configuration)}
    (place / "image.json").write_text(json.dumps(described, indent=1))
    return digest


def _name(uri: str) -> str:
    """`registry/repository:tag`, with `@digest` if there is one; the default tag is latest."""
    tagged, at, digest = uri.strip().partition("@")
    last = tagged.rpartition("/")[2]
    if not last or any(sign.isspace() for sign in tagged) or (at and not digest.startswith("sha256:")):
        raise Misconfigured(
            f"{uri!r} is not an image's registry path, such as registry.example/models/churn:1"
        )
    named = tagged if ":" in last else f"{tagged}:latest"
    return f"{named}@{digest}" if at else named
