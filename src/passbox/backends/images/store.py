"""The images that this service knows, under their registry paths.

Knows a directory: `index.json` maps `registry/repository:tag` to a digest and the account it belongs to, and
`DIGEST/` holds what was unpacked (`rootfs`, or `program`) with `image.json`. Must not know jobs. Images
never change: adding under a name again moves the name and keeps the old digest, which running jobs may still
use.
"""

import fcntl
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from passbox.backends import trees
from passbox.backends.images import engine, oci, program, writer
from passbox.backends.images.build import Base, build_image
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
        name = self._plain(uri)
        if not path.exists():
            raise Misconfigured(f"{path} does not exist")
        with self._scratch() as fresh, self._locked():
            digest = _fill(fresh / "image", path, fresh / "scratch", name.rpartition(":")[2])
            if not self._place(digest).exists():
                (fresh / "image").rename(self._place(digest))
            self._write({**self._index(), name: (digest, owner)})
        return self._image(digest)

    def add_from_engine(self, uri: str, address: str, owner: str | None = None) -> Image:
        """Adds the image that the engine at `address` knows as `uri`; its digest is the engine's id of it."""
        with self._scratch() as scratch:
            engine.save(address, self._plain(uri), scratch / "saved.tar")
            return self.add(uri, scratch / "saved.tar", owner)

    def build(
        self, uri: str, folder: Path, owner: str | None = None, *, on: str = "", out: Path | None = None
    ) -> Image:
        """Makes an image of a folder of code (see `build.py`) and adds it as `uri`.

        on: the name of an image of this store to build on; empty for the running Python
        out: where to write the image as an archive too
        """
        name = self._plain(uri)
        with self._scratch() as scratch:
            base = self._base(on) if on else None
            build_image(folder, scratch / "layout", scratch, name, base)
            made = self.add(uri, scratch / "layout", owner)
            if out is not None:
                writer.write_archive(scratch / "layout", out)
        return made

    def _base(self, uri: str) -> Base:
        digest, described = self._described(uri)
        if described["kind"] != "oci":
            raise Misconfigured(f"{uri} is a folder of programs; build on an image, or on the running Python")
        return Base(self._place(digest) / "rootfs", described["config"])

    def export(self, uri: str, out: Path) -> str:
        """Writes an image as an archive for `docker load`, `podman load` and `add`; returns its digest there.

        It is one layer of what was unpacked, so the digest is not that of the image it was added from.
        """
        name = self._plain(uri)
        base = self._base(uri)
        with self._scratch() as scratch:
            layer = writer.write_layer(scratch / "layout", base.root)
            digest = writer.write_image(scratch / "layout", [layer], base.config, name)
            writer.write_archive(scratch / "layout", out)
        return digest

    def remove(self, uri: str, *, in_use: bool) -> None:
        """Forgets a name. Content that no name means goes as well, unless jobs may be running on it
        (`in_use`); then it goes with the next removal. Misconfigured for a name that is not there."""
        name = self._plain(uri)
        with self._locked():
            images = dict(self._index())
            if images.pop(name, None) is None:
                raise Misconfigured(f"there is no image {uri}; see `passbox image list`")
            self._write(images)
            kept = {digest.partition(":")[2] for digest, _ in images.values()}
            for place in [] if in_use else list(self._directory.iterdir()):
                if place.is_dir() and place.name not in kept and not place.name.startswith("."):
                    leaving = place.with_name(f".removing-{place.name}")
                    place.rename(leaving)
                    trees.remove(leaving)

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

    @staticmethod
    def _plain(uri: str) -> str:
        name = _name(uri)
        if "@" in name:
            raise Misconfigured("an image is known by a tag; its digest follows from its content")
        return name

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        """A directory on the store's own disk, gone at the end."""
        self._directory.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=".adding-", dir=self._directory))
        try:
            yield fresh
        finally:
            trees.remove(fresh)

    def _place(self, digest: str) -> Path:
        return self._directory / digest.partition(":")[2]

    def _described(self, uri: str) -> tuple[str, Mapping[str, Any]]:
        digest, _ = self._index().get(_name(uri), (None, None))
        if digest is None:
            raise Misconfigured(f"there is no image {uri}; see `passbox image list`")
        return digest, json.loads((self._place(digest) / "image.json").read_text())

    def _image(self, digest: str) -> Image:
        place = self._place(digest)
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
        manifest = oci.open_layout(path, scratch, tag, _MAX_BYTES)
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
