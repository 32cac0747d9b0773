"""Writes an OCI image layout: layers, configuration, manifest and index, the same bytes for the same files.

Knows the OCI image format and `docker load`; must not know where files come from. Names are sorted, owners
are root, times are the epoch, and links stay links.
"""

import gzip
import hashlib
import io
import json
import os
import platform
import stat
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from passbox.errors import Misconfigured

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_COMPRESSION = 1  # an image is made once and unpacked once; more would cost minutes for per cents
_CHUNK = 1 << 20
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True)
class Layer:
    """A written layer: its blob's digest and size, and the digest of the tar inside."""

    digest: str
    size: int
    content: str


class _Hashing(io.RawIOBase):
    """A writer that knows the digest and the number of what went through."""

    def __init__(self, target: BinaryIO) -> None:
        self.target, self.hash, self.size = target, hashlib.sha256(), 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.hash.update(data)
        self.size += len(data)
        return self.target.write(data)

    @property
    def digest(self) -> str:
        return f"sha256:{self.hash.hexdigest()}"


def write_layer(layout: Path, directory: Path) -> Layer:
    """Packs what lies under `directory`, as if it were `/`, into a blob of the layout."""
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    unfinished = blobs / ".layer"
    with unfinished.open("wb") as raw:
        packed = _Hashing(raw)
        compressed = gzip.GzipFile("", "wb", _COMPRESSION, cast(BinaryIO, packed), mtime=0)
        with compressed:
            plain = _Hashing(cast(BinaryIO, compressed))
            with tarfile.open(fileobj=cast(BinaryIO, plain), mode="w|", format=tarfile.PAX_FORMAT) as tar:
                for path in _entries(directory):
                    _add(tar, path, path.relative_to(directory).as_posix())
    unfinished.rename(blobs / packed.digest.partition(":")[2])
    return Layer(packed.digest, packed.size, plain.digest)


def _entries(directory: Path) -> list[Path]:
    return sorted(
        Path(where, name) for where, names, files in os.walk(directory) for name in (*names, *files)
    )


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    member = tarfile.TarInfo(name)
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        member.type, member.linkname, member.mode = tarfile.SYMTYPE, str(path.readlink()), 0o777
        tar.addfile(member)
    elif stat.S_ISDIR(status.st_mode):
        member.type, member.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(member)
    elif stat.S_ISREG(status.st_mode):
        member.size, member.mode = status.st_size, 0o755 if status.st_mode & 0o111 else 0o644
        with path.open("rb") as file:
            tar.addfile(member, file)
    else:
        raise Misconfigured(f"{name} is neither a file, a directory nor a link")


def write_image(layout: Path, layers: Sequence[Layer], config: Mapping[str, Any], name: str) -> str:
    """Writes the rest of a layout around its layers; returns the manifest's digest.

    config: the image's "config" object; name: `repository:tag`, for who loads the archive
    """
    configuration = {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": [layer.content for layer in layers]},
        "history": [{"created_by": "passbox"} for _ in layers],
    }
    described = _blob(layout, configuration, _CONFIG)
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": described,
        "layers": [{"mediaType": _LAYER, "digest": one.digest, "size": one.size} for one in layers],
    }
    entry = _blob(layout, manifest, _MANIFEST)
    tag = name.rpartition(":")[2]
    entry |= {
        "platform": {"os": "linux", "architecture": configuration["architecture"]},
        "annotations": {"org.opencontainers.image.ref.name": tag, "io.containerd.image.name": name},
    }
    index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [entry]}
    _write(layout / "index.json", index)
    _write(layout / "oci-layout", {"imageLayoutVersion": "1.0.0"})
    # what `docker load` reads where it does not know OCI layouts yet
    files = [f"blobs/sha256/{one.digest.partition(':')[2]}" for one in layers]
    config_file = f"blobs/sha256/{described['digest'].partition(':')[2]}"
    _write(layout / "manifest.json", [{"Config": config_file, "RepoTags": [name], "Layers": files}])
    return str(entry["digest"])


def _blob(layout: Path, content: Mapping[str, Any], media_type: str) -> dict[str, Any]:
    data = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    value = hashlib.sha256(data).hexdigest()
    (layout / "blobs" / "sha256" / value).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{value}", "size": len(data)}


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, sort_keys=True))


def write_archive(layout: Path, archive: Path) -> None:
    """A layout as one file, for `docker load`, `podman load` and `passbox image add`; whole or not at all."""
    unfinished = archive.with_name(archive.name + ".part")
    try:
        with tarfile.open(unfinished, "w", format=tarfile.PAX_FORMAT) as tar:
            for path in _entries(layout):
                _add(tar, path, path.relative_to(layout).as_posix())
        unfinished.replace(archive)
    finally:
        unfinished.unlink(missing_ok=True)
