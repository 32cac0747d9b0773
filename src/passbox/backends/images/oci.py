"""An OCI image layout, or an archive of one, or what `docker save` writes, unpacked into a directory.

Knows the OCI image format; must not know where images are kept. Layers may be hostile: every path is resolved
inside the new root, nothing is written through a link that leads out of it, devices and pipes are refused,
set-uid bits and owners are dropped, bytes and entries are counted before they are written, and every blob
must have the digest that its parent names.
"""

import gzip
import hashlib
import io
import json
import os
import platform
import shutil
import stat
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from passbox.backends import trees
from passbox.errors import Misconfigured

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_LINKS = 40
_DEPTH = 200
_CHUNK = 1 << 20
_METADATA_BYTES = 16 << 20
_ENTRY_BYTES = 1 << 14  # what an entry counts at least: it costs the reader memory too
_HEADER_BYTES = 1 << 20  # of a name or of extended attributes, which tarfile reads into memory
_HEADERS = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip


@dataclass(frozen=True)
class Manifest:
    """digest: of the manifest; configuration: the image's "config" object; layers: (file, digest), lowest
    first."""

    digest: str
    configuration: Mapping[str, Any]
    layers: tuple[tuple[Path, str], ...]


class _Member(tarfile.TarInfo):
    """An entry whose headers fit into memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Member":
        member = super().frombuf(buf, encoding, errors)
        if member.type in _HEADERS and member.size > _HEADER_BYTES:
            raise Misconfigured("the image holds an entry whose name or attributes are too long")
        return member


def open_layout(path: Path, scratch: Path, tag: str, max_bytes: int) -> Manifest:
    """Reads and checks the metadata of a layout; an archive is spread into `scratch`, `max_bytes` at most.

    tag: which image to take where a layout names several. Misconfigured for what is not an image.
    """
    directory = path if path.is_dir() else _spread(path, scratch, max_bytes)
    try:
        if (directory / "index.json").is_file():
            return _from_index(directory, tag)
        if (directory / "manifest.json").is_file():
            return _from_docker(directory)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Misconfigured(f"the metadata of {path} is not that of an image", detail=repr(error)) from error
    raise Misconfigured(
        f"{path} is no image: neither an OCI layout (index.json), nor an archive of one, nor a folder with "
        "an executable `train` or `serve`"
    )


def unpack(manifest: Manifest, rootfs: Path, max_bytes: int) -> None:
    """Applies the layers to the new directory `rootfs`; Misconfigured for a broken or hostile layer."""
    rootfs.mkdir(mode=0o755)
    left = max_bytes
    for file, digest in manifest.layers:
        with file.open("rb") as raw:
            start = raw.read(4)
            raw.seek(0)
            hashed = _Hashing(raw)
            try:
                layer = _Layer(rootfs, left)
                source = _decompressed(hashed, start)
                with tarfile.open(fileobj=source, mode="r|", tarinfo=_Member) as tar:
                    for member in tar:
                        layer.apply(tar, member)
                left = layer.left
            except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error) as error:
                raise Misconfigured(
                    "a layer of the image is broken; save or build the image again", detail=repr(error)
                ) from error
            if hashed.finish() != digest:
                raise Misconfigured(f"a layer of the image is not {digest}, as its manifest says")


# -- metadata ------------------------------------------------------------------------------------------------


def _spread(archive: Path, scratch: Path, max_bytes: int) -> Path:
    try:
        with tarfile.open(archive, tarinfo=_Member) as tar:
            for member in tar:
                max_bytes -= max(member.size, _ENTRY_BYTES)
                if max_bytes < 0:
                    raise Misconfigured("the image is larger than images may be")
                tar.extract(member, scratch, filter="data")
    except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error) as error:
        raise Misconfigured(
            f"{archive} is no archive of an image, or a broken one; save it again", detail=repr(error)
        ) from error
    return scratch


def _blob(directory: Path, digest: str) -> Path:
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256" or len(value) != 64 or set(value) - set("0123456789abcdef"):
        raise Misconfigured(f"the image names a blob by {digest!r}; only sha256 is understood")
    path = directory / "blobs" / algorithm / value
    if not path.is_file() or path.is_symlink():
        raise Misconfigured(f"the image lacks its blob {digest}")
    return path


def _metadata(path: Path, digest: str | None) -> Any:
    if path.stat().st_size > _METADATA_BYTES:
        raise Misconfigured(f"{path.name} of the image is too large")
    content = path.read_bytes()
    if digest is not None and f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
        raise Misconfigured(f"a blob of the image is not {digest}, as its parent says")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Misconfigured(f"{path.name} of the image is not JSON") from error


def _from_index(directory: Path, tag: str) -> Manifest:
    index = _metadata(directory / "index.json", None)
    digest = _chosen(directory, index["manifests"], tag)
    manifest = _metadata(_blob(directory, digest), digest)
    described = manifest["config"]["digest"]
    configuration = _metadata(_blob(directory, described), described)
    _require_machine(configuration)
    layers = tuple((_blob(directory, layer["digest"]), layer["digest"]) for layer in manifest["layers"])
    return Manifest(digest, _settings(configuration), layers)


def _chosen(directory: Path, entries: list[Any], tag: str) -> str:
    """The digest of the one manifest for this machine and this tag."""
    wanted = {"os": "linux", "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine())}
    fitting = [
        entry
        for entry in entries
        if all((entry.get("platform") or wanted).get(name) == value for name, value in wanted.items())
    ]
    named = [entry for entry in fitting if tag in _names(entry)]
    fitting = named or fitting
    if len(fitting) != 1:
        raise Misconfigured(
            f"the layout holds {len(fitting)} images for {wanted['os']}/{wanted['architecture']}; "
            "it must hold one, or name one by the tag"
        )
    digest: str = fitting[0]["digest"]
    if "index" in fitting[0].get("mediaType", "") or "list" in fitting[0].get("mediaType", ""):
        return _chosen(directory, _metadata(_blob(directory, digest), digest)["manifests"], tag)
    return digest


def _require_machine(configuration: Mapping[str, Any]) -> None:
    wanted = _ARCHITECTURES.get(platform.machine(), platform.machine())
    made_for = configuration.get("os", "linux"), configuration.get("architecture", wanted)
    if made_for != ("linux", wanted):
        raise Misconfigured(f"the image is for {'/'.join(map(str, made_for))}; this is linux/{wanted}")


def _settings(configuration: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the image says of its programs: the "config" object, of the types that are read of it."""
    settings: Any = configuration.get("config") or {}
    if not isinstance(settings, dict) or not isinstance(settings.get("WorkingDir") or "", str):
        raise Misconfigured("the image's configuration is broken: WorkingDir")
    for name in ("Env", "Entrypoint", "Cmd"):
        texts = settings.get(name) or []
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise Misconfigured(f"the image's configuration is broken: {name} is no list of texts")
    return settings


def _names(entry: Mapping[str, Any]) -> set[str]:
    name = (entry.get("annotations") or {}).get("org.opencontainers.image.ref.name", "")
    return {name, name.rpartition(":")[2]}


def _from_docker(directory: Path) -> Manifest:
    """`docker save` before version 25: no digests but those of the unpacked layers, in the configuration."""
    entries = _metadata(directory / "manifest.json", None)
    if len(entries) != 1:
        raise Misconfigured(f"the archive holds {len(entries)} images; save one at a time")
    path = _inside(directory, entries[0]["Config"])
    configuration = _metadata(path, None)
    _require_machine(configuration)
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    layers = [_inside(directory, name) for name in entries[0]["Layers"]]
    digests = configuration["rootfs"]["diff_ids"]
    return Manifest(digest, _settings(configuration), tuple(zip(layers, digests, strict=True)))


def _inside(directory: Path, name: str) -> Path:
    path = (directory / name).resolve()
    if not path.is_relative_to(directory.resolve()) or not path.is_file():
        raise Misconfigured(f"the archive lacks {name}")
    return path


# -- layers --------------------------------------------------------------------------------------------------


class _Hashing(io.RawIOBase):
    """A reader that knows the digest of everything that was read."""

    def __init__(self, raw: BinaryIO) -> None:
        self.raw, self.hash = raw, hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self.raw.read(size)
        self.hash.update(data)
        return data

    def finish(self) -> str:
        while self.read(_CHUNK):
            pass
        return f"sha256:{self.hash.hexdigest()}"


def _decompressed(source: _Hashing, start: bytes) -> BinaryIO:
    """The layer's tar, by the first bytes of its file."""
    if start.startswith(b"\x1f\x8b"):
        return cast(BinaryIO, gzip.GzipFile(fileobj=cast(BinaryIO, source), mode="rb"))
    if start == b"\x28\xb5\x2f\xfd":
        import pyarrow  # heavy, and few images need it

        return cast(BinaryIO, pyarrow.CompressedInputStream(pyarrow.PythonFile(source, "r"), "zstd"))
    return cast(BinaryIO, source)


class _Layer:
    """One layer being applied."""

    def __init__(self, rootfs: Path, left: int) -> None:
        self.rootfs = rootfs
        self.left = left
        self.made: set[Path] = set()
        self.ways: set[Path] = set()  # to what was made

    def apply(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        name = os.path.normpath(member.name)
        if name == ".":
            return
        self.left -= max(member.size, _ENTRY_BYTES)
        if self.left < 0:
            raise Misconfigured("the image is larger than images may be")
        if name.startswith("/") or name.split("/")[0] == "..":
            raise Misconfigured("a layer of the image holds a path that leads out of it")
        if name.count("/") >= _DEPTH:
            raise Misconfigured(f"a layer of the image holds a path deeper than {_DEPTH} directories")
        parent, _, base = name.rpartition("/")
        place = self._resolved(parent)
        if base == ".wh..wh..opq":
            self._forget(place)
        elif base.startswith(".wh."):
            self._remove(place / self._plain(base.removeprefix(".wh.")))
        else:
            place.mkdir(parents=True, exist_ok=True)
            self._make(tar, member, place / base)
            self.made.add(place / base)
            self.ways.update(place.parents, (place,))

    def _plain(self, name: str) -> str:
        if name in ("", ".", "..") or "/" in name:
            raise Misconfigured("a layer of the image removes what it must not name")
        return name

    def _resolved(self, path: str) -> Path:
        """The real place of a path inside the root; links are followed as if the root were `/`."""
        steps, place, followed = [step for step in path.split("/") if step][::-1], self.rootfs, 0
        while steps:
            step = steps.pop()
            if step == "..":
                place = place if place == self.rootfs else place.parent
            elif step != ".":
                further = place / step
                if further.is_symlink():
                    followed += 1
                    if followed > _LINKS:
                        raise Misconfigured("a layer of the image has links that go in circles")
                    target = os.readlink(further)  # noqa: PTH115  a Path would fold the dots
                    place = self.rootfs if target.startswith("/") else place
                    steps += [part for part in target.split("/") if part][::-1]
                else:
                    place = further
        return place

    def _make(self, tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
        if member.isdir():
            if path.is_symlink() or not path.is_dir():
                self._remove(path, even_ours=True)
                path.mkdir(mode=0o755)
            return
        if path.is_symlink() or path.exists():
            self._remove(path, even_ours=True)
        if member.issym():
            path.symlink_to(member.linkname)
        elif member.islnk():
            self._link(member.linkname, path)
        elif member.isreg():
            self._file(tar, member, path)
        else:
            raise Misconfigured("a layer of the image holds a device or a pipe")

    def _link(self, name: str, path: Path) -> None:
        parent, _, base = os.path.normpath(name).rpartition("/")
        original = self._resolved(parent) / base
        if original.is_symlink():
            path.symlink_to(os.readlink(original))  # noqa: PTH115  as it stands
        elif original.is_file():
            os.link(original, path, follow_symlinks=False)
        else:
            raise Misconfigured("a layer of the image links to what is not there")

    def _file(self, tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
        source = tar.extractfile(member)
        if source is None:
            raise Misconfigured("a layer of the image is broken")
        with path.open("xb") as target:
            shutil.copyfileobj(source, target, _CHUNK)
        path.chmod(0o755 if member.mode & 0o111 else 0o644)
        os.utime(path, (member.mtime, member.mtime))  # compiled Python is checked against it

    def _forget(self, directory: Path) -> None:
        """Removes what lower layers put into a directory, and keeps what this one did."""
        for path in list(directory.iterdir()) if directory.is_dir() else ():
            if not path.is_symlink() and path.is_dir() and (path in self.made or path in self.ways):
                self._forget(path)
            else:
                self._remove(path)

    def _remove(self, path: Path, even_ours: bool = False) -> None:
        if path in self.made and not even_ours:
            return
        with_links = path.lstat().st_mode if path.is_symlink() or path.exists() else 0
        if stat.S_ISDIR(with_links):
            trees.remove(path)
        elif with_links:
            path.unlink()
