"""What a sandbox sees: a SandboxSpec turned into bubblewrap's arguments and the shepherd's staging list.

Knows paths and the host's file system (it looks, it never writes); must not know processes, cgroups or
namespaces. Every source is made visible under one staging directory (the shepherd's is STAGE, in a mount
namespace of its own), because an unprivileged uid cannot walk through directories such as /root.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from passbox.backends.runtimes.base import Output, SandboxSpec

STAGE = "/tmp"  # noqa: S108  a mount point inside a private mount namespace, not a shared directory
UID = 1000
_OWN = ("/proc", "/dev", "/dev/shm", "/tmp", "/sys", "/run")  # noqa: S108  paths inside the sandbox
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_HOST_ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "protocols", "services")
_INODE_BYTES = 4096
# Beneath /proc: what programs have no use for and what tells of the host and of others' jobs. meminfo, stat,
# loadavg and cpuinfo are read by Python, the JVM and numerical libraries, so they stay.
KERNEL_FILES = (
    "keys", "key-users", "timer_list", "sched_debug", "kallsyms", "kmsg", "cmdline", "config.gz", "modules",
    "interrupts", "softirqs", "schedstat", "diskstats", "vmstat", "zoneinfo", "buddyinfo", "pagetypeinfo",
    "slabinfo", "vmallocinfo", "locks", "iomem", "ioports", "pressure/cpu", "pressure/io", "pressure/memory",
    "pressure/irq",
)  # fmt: skip

_ETC = {
    "passwd": "user:x:{uid}:{uid}::/tmp:/bin/sh\n",
    "group": "user:x:{uid}:\n",
    "resolv.conf": "",
    "timezone": "Etc/UTC\n",  # Sail refuses to open a session without it
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}


class View(NamedTuple):
    """One step of building the root, in order. kind: `bind` (read-only), `write`, `link` (to `source`),
    `directory`, `proc`, `dev`, `device` or `mask` (hidden once the root is built)."""

    kind: str
    target: str
    source: str = ""


@dataclass
class Layout:
    """What is staged and what the process is shown of it.

    stage: where sources are made visible; uid: whom the process runs as, inside
    binds: {stage name: host path}; lent: those of them that the job reads as if it owned them
    files: {stage name: content}; writable: what the process may write
    views: how the root is put together
    """

    stage: str
    uid: int
    binds: dict[str, str] = field(default_factory=dict)
    lent: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    writable: list[dict[str, object]] = field(default_factory=list)
    views: list[View] = field(default_factory=list)

    def show(self, kind: str, target: str, source: str = "") -> None:
        """Adds a view."""
        self.views.append(View(kind, target, source))

    def places(self, kind: str) -> dict[str, str | None]:
        """target → stage name of each view of a kind; None where its source is not staged by itself."""
        known = {f"{self.stage}/{name}": name for name in (*self.binds, *self.files)}
        known |= {f"{self.stage}/{item['name']}": str(item["name"]) for item in self.writable}
        return {view.target.rstrip("/"): known.get(view.source) for view in self.views if view.kind == kind}

    def bind(self, source: Path, target: str, lent: bool = False) -> None:
        """A read-only view of a host file or directory."""
        if not source.exists():
            raise ValueError(f"{source} does not exist")
        name = f"b{len(self.binds)}"
        if lent:
            self.lent.append(name)
        self.binds[name] = os.path.realpath(source)
        self.show("bind", target, f"{self.stage}/{name}")

    def device(self, node: Path) -> None:
        """A device node of the host, to be opened and used, under /dev."""
        name = f"d{len(self.binds)}"
        self.binds[name] = str(node)
        self.show("device", f"/dev/{node.name}", f"{self.stage}/{name}")

    def file(self, content: str, target: str) -> None:
        """A read-only file of ours."""
        name = f"f{len(self.files)}"
        self.files[name] = content
        self.show("bind", target, f"{self.stage}/{name}")

    def scratch(
        self, target: str, size: int, inodes: int, mode: int, host: Path | None = None, sized: bool = True
    ) -> None:
        """A writable directory: a sized tmpfs, its files copied to `host` at the end if that is given, or
        (not sized) the host directory itself, watched."""
        name = f"w{len(self.writable)}"
        self.writable.append(
            {"name": name, "bytes": size, "inodes": inodes, "mode": mode, "sized": sized,
             "host": None if host is None else os.path.realpath(host)}
        )  # fmt: skip
        self.show("write", target, f"{self.stage}/{name}")


def lay_out(spec: SandboxSpec, stage: str = STAGE, uid: int = UID, devices: Sequence[Path] = ()) -> Layout:
    """The layout of a spec, with these device nodes; ValueError for a spec that contradicts itself."""
    if not spec.arguments:
        raise ValueError("a sandbox needs a command")
    for name in spec.environment:
        if not name or "=" in name:
            raise ValueError(f"{name!r} cannot be the name of a variable")
    texts = (*spec.arguments, *spec.environment, *spec.environment.values(), spec.directory)
    if any("\0" in text for text in texts):
        raise ValueError("an argument or a variable holds a zero byte")
    layout = Layout(stage, uid)
    targets = [_clean(mount.target) for mount in spec.mounts] + [_clean(out.target) for out in spec.outputs]
    if len(set(targets)) < len(targets):
        raise ValueError("two mounts or outputs have the same target")
    etc = _etc(spec, uid)
    if spec.root.image is None:
        _host_root(layout, etc)
    else:
        _image_root(layout, spec.root.image, targets, etc)
    _kernel_views(layout, spec)
    for node in devices:
        layout.device(node)
    for prefix in _outermost(spec.root.prefixes if spec.root.image is None else ()):
        layout.bind(prefix, str(prefix))  # after /tmp, which may hold them
    _granted(layout, spec)
    if any("\0" in view.target for view in layout.views):
        raise ValueError("a target holds a zero byte")
    return layout


_WORDS = {"bind": "--ro-bind", "write": "--bind", "link": "--symlink", "directory": "--dir", "proc": "--proc",
          "dev": "--dev", "device": "--dev-bind"}  # fmt: skip


def bubblewrap_arguments(layout: Layout, spec: SandboxSpec) -> list[str]:
    """What bubblewrap is told, without the command."""
    arguments = [
        "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session",
        "--cap-drop", "ALL", "--uid", str(layout.uid), "--gid", str(layout.uid), "--hostname", spec.host,
        "--clearenv",
    ]  # fmt: skip
    if spec.network is not None:
        arguments.append("--share-net")  # the one that the shepherd has entered
    for name, value in spec.environment.items():
        arguments += ["--setenv", name, value]
    for view in layout.views:
        if view.kind == "mask":
            continue  # bubblewrap reads its whole table of mounts again for each; the shepherd does it
        arguments += [_WORDS[view.kind], *([view.source] if view.source else []), view.target]
    # /proc too: the kernel lets the owner of a namespace write some of /proc/sys
    for place in ("/proc", "/dev", "/"):
        arguments += ["--remount-ro", place]
    return [*arguments, "--chdir", spec.directory]


def _clean(target: str) -> str:
    path = os.path.normpath(target)
    if not path.startswith("/") or path != target.rstrip("/") or path in ("/", *_OWN):
        raise ValueError(f"{target!r} cannot be a target: absolute, normal, and none of {', '.join(_OWN)}")
    return path


def _etc(spec: SandboxSpec, uid: int) -> dict[str, str]:
    """Our own files of /etc by name."""
    own = {name: content.format(uid=uid) for name, content in _ETC.items()}
    known = {spec.host: "127.0.0.1"} if spec.network is None else spec.network.hosts
    lines = [
        "127.0.0.1 localhost",
        "::1 localhost",
        *(f"{address} {name}" for name, address in known.items()),
    ]
    return {**own, "hostname": f"{spec.host}\n", "hosts": "".join(f"{line}\n" for line in lines)}


def _host_root(layout: Layout, etc: Mapping[str, str]) -> None:
    layout.show("bind", "/usr", "/usr")
    for name in _MERGED:
        path = Path("/", name)
        if path.is_symlink():
            layout.show("link", str(path), str(path.readlink()))
        elif path.is_dir():
            layout.show("bind", str(path), str(path))
    for name, content in etc.items():
        layout.file(content, f"/etc/{name}")
    for name in _HOST_ETC:
        if Path("/etc", name).exists():
            layout.bind(Path("/etc", name), f"/etc/{name}")
    for directory in ("/run", "/sys", "/var"):
        layout.show("directory", directory)
    layout.show("link", "/var/tmp", "/tmp")  # noqa: S108


def _outermost(prefixes: tuple[Path, ...]) -> Iterator[Path]:
    """The prefixes without those that /usr or another one already shows."""
    kept = [Path("/usr")]
    for prefix in sorted({Path(os.path.normpath(path)) for path in prefixes}):
        if prefix == Path("/") or not prefix.is_absolute():
            raise ValueError(f"{prefix} cannot be a prefix")
        if not any(prefix.is_relative_to(outer) for outer in kept):
            kept.append(prefix)
            yield prefix


def _image_root(layout: Layout, image: Path, targets: list[str], own_etc: Mapping[str, str]) -> None:
    """An image as `/`. Directories on the way to a mount point that the image lacks are taken apart and put
    together again entry by entry, so that nothing is ever written into the image."""
    etc = {f"/etc/{name}": content for name, content in own_etc.items()}
    for name in ("passwd", "group"):
        own = _text(image / "etc" / name)
        if own:
            etc[f"/etc/{name}"] = own.rstrip("\n") + "\n" + etc[f"/etc/{name}"]
    if (image / "etc/nsswitch.conf").exists():
        del etc["/etc/nsswitch.conf"]
    split = {"/"}
    for target in (*targets, *etc):
        if not _exists_plainly(image, target):
            split.update(str(parent) for parent in Path(target).parents)
    layout.lent.append("image")
    layout.binds["image"] = os.path.realpath(image)
    _take_apart(layout, image, "/", split, {*targets, *etc, *_OWN})
    for directory in ("/run", "/sys"):
        layout.show("directory", directory)
    for target, content in etc.items():
        layout.file(content, target)


def _take_apart(layout: Layout, image: Path, directory: str, split: set[str], taken: set[str]) -> None:
    for entry in sorted(os.scandir(str(image) + directory), key=lambda entry: entry.name):
        path = f"{directory.rstrip('/')}/{entry.name}"
        if path in split and entry.is_dir(follow_symlinks=False):
            layout.show("directory", path)
            _take_apart(layout, image, path, split, taken)
        elif path in taken or path in split:
            continue
        elif entry.is_symlink():
            layout.show("link", path, str(Path(entry.path).readlink()))
        elif entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False):
            layout.show("bind", path, f"{layout.stage}/image{path}")


def _exists_plainly(image: Path, target: str) -> bool:
    """Whether the image has the target with no link on the way, so that it can be mounted over."""
    path = Path(str(image) + target)
    return path.exists() and not any(
        step.is_symlink() for step in (path, *path.parents) if step.is_relative_to(image)
    )


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() and not path.is_symlink() else ""


def _kernel_views(layout: Layout, spec: SandboxSpec) -> None:
    layout.show("proc", "/proc")
    layout.show("dev", "/dev")
    for name in KERNEL_FILES:
        if Path("/proc", name).exists():
            layout.show("mask", f"/proc/{name}")
    inodes = max(1024, spec.limits.tmp_bytes // _INODE_BYTES)
    for target in ("/dev/shm", "/tmp"):  # noqa: S108
        layout.scratch(target, spec.limits.tmp_bytes, inodes, 0o1777)


def _granted(layout: Layout, spec: SandboxSpec) -> None:
    sized = _in_memory(spec)
    granted = [(mount.target, mount) for mount in spec.mounts] + [(out.target, out) for out in spec.outputs]
    for target, item in sorted(granted, key=lambda pair: pair[0].count("/")):
        if isinstance(item, Output):
            layout.scratch(target, item.max_bytes, item.max_files, 0o700, item.host, target in sized)
        else:
            layout.bind(item.source, target, lent=True)


def _in_memory(spec: SandboxSpec) -> set[str]:
    """The outputs that fit a tmpfs, the smallest first, in half of the job's memory."""
    left, chosen = spec.limits.memory_bytes // 2, set()
    for out in sorted(spec.outputs, key=lambda out: out.max_bytes):
        if out.max_bytes <= left:
            left -= out.max_bytes
            chosen.add(out.target)
    return chosen
