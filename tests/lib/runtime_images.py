"""OCI layouts made by hand, honest and hostile, and one small image that really runs."""

import gzip
import hashlib
import io
import json
import os
import platform
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Member = tuple[str, dict[str, Any], bytes]
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


def file(name: str, content: str | bytes = b"", mode: int = 0o644, **fields: Any) -> Member:
    data = content.encode() if isinstance(content, str) else content
    return name, {"mode": mode, "size": len(data), **fields}, data


def directory(name: str) -> Member:
    return name, {"type": tarfile.DIRTYPE, "mode": 0o755}, b""


def symlink(name: str, target: str) -> Member:
    return name, {"type": tarfile.SYMTYPE, "linkname": target}, b""


def hard_link(name: str, target: str) -> Member:
    return name, {"type": tarfile.LNKTYPE, "linkname": target}, b""


def layer(members: Iterable[Member]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, fields, data in members:
            member = tarfile.TarInfo(name)
            for field, value in fields.items():
                setattr(member, field, value)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _blob(at: Path, content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    place = at / "blobs/sha256" / digest
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return {"digest": f"sha256:{digest}", "size": len(content)}


def layout(
    at: Path,
    *layers: Iterable[Member],
    config: dict[str, Any] | None = None,
    tag: str = "latest",
    architecture: str = ARCHITECTURE,
    platform: dict[str, str] | None = None,
    compress: Callable[[bytes], bytes] = lambda content: gzip.compress(content, 1, mtime=0),
) -> str:
    """Writes an OCI layout (or adds an image to it); returns the manifest's digest."""
    tars = [layer(members) for members in layers]
    digests = [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars]
    configuration = {
        "architecture": architecture,
        "os": "linux",
        "config": config or {},
        "rootfs": {"type": "layers", "diff_ids": digests},
    }
    manifest = {
        "schemaVersion": 2,
        "config": _blob(at, json.dumps(configuration).encode()),
        "layers": [_blob(at, compress(tar)) for tar in tars],
    }
    described = _blob(at, json.dumps(manifest).encode())
    index = at / "index.json"
    entries = json.loads(index.read_text())["manifests"] if index.exists() else []
    entries.append(
        {
            **described,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "platform": platform or {"os": "linux", "architecture": ARCHITECTURE},
            "annotations": {"org.opencontainers.image.ref.name": tag},
        }
    )
    index.write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    (at / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return str(described["digest"])


def nested(at: Path) -> str:
    """Puts the index of a layout into an index of its own, as registries keep images for many machines."""
    index = at / "index.json"
    described = _blob(at, index.read_bytes())
    described["mediaType"] = "application/vnd.oci.image.index.v1+json"
    index.write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
    return str(described["digest"])


def docker_archive(
    at: Path,
    *layers: Iterable[Member],
    config: dict[str, Any] | None = None,
    architecture: str = ARCHITECTURE,
) -> None:
    """What `docker save` wrote before version 25."""
    tars = [layer(members) for members in layers]
    digests = [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars]
    described = {"architecture": architecture, "config": config or {}, "rootfs": {"diff_ids": digests}}
    configuration = json.dumps(described).encode()
    names = [f"{number}/layer.tar" for number in range(len(tars))]
    entries = [{"Config": "config.json", "RepoTags": ["x:1"], "Layers": names}]
    with tarfile.open(at, "w") as tar:
        for name, data in [
            ("config.json", configuration),
            ("manifest.json", json.dumps(entries).encode()),
            *zip(names, tars, strict=True),
        ]:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def shell() -> list[Member]:
    """A shell and a few programs with the libraries that they need, taken from this machine."""
    programs = ["/bin/sh", "/bin/cat", "/bin/ls", "/usr/bin/env", "/usr/bin/id"]
    said = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=True).stdout
    libraries = sorted(set(re.findall(r"(/\S+\.so\S*)", said)))
    members = [directory("bin"), directory("lib"), directory("tmp"), symlink("usr", ".")]
    for path in [*programs, *libraries]:
        name = path.lstrip("/").removeprefix("usr/")
        members.append(file(name, Path(os.path.realpath(path)).read_bytes(), 0o755))
    return members
