"""What a sandbox sees: a SandboxSpec turned into bubblewrap's arguments and the shepherd's staging list.

Knows paths and the host's file system (it looks, it never writes); must not know processes, cgroups or
namespaces. The shepherd makes every source visible under STAGE in a mount namespace of its own, because the
unprivileged uid that bubblewrap runs with cannot walk through directories such as /root.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from passbox.backends.runtimes.base import Output, SandboxSpec

STAGE = "/tmp"  # noqa: S108  a mount point inside a private mount namespace, not a shared directory
UID = GID = 1000
HOST_NAME = "algo-1"
_OWN = ("/proc", "/dev", "/dev/shm", "/tmp", "/sys", "/run")  # noqa: S108  paths inside the sandbox
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_HOST_ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "protocols", "services")
_INODE_BYTES = 4096
_KERNEL_FILES = ("keys", "key-users", "timer_list", "sched_debug", "kallsyms", "kmsg")

_ETC = {
    "passwd": f"user:x:{UID}:{GID}::/tmp:/bin/sh\n",
    "group": f"user:x:{GID}:\n",
    "hosts": f"127.0.0.1 localhost {HOST_NAME}\n::1 localhost\n",
    "hostname": f"{HOST_NAME}\n",
    "resolv.conf": "",
    "timezone": "Etc/UTC\n",  # Sail refuses to open a session without it
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}


@dataclass
class Layout:
    """What the shepherd stages and what bubblewrap is told.

    binds: {stage name: host path}; lent: those of them that the job reads as if it owned them
    files: {stage name: content}; writable: what the process may write
    arguments: of bubblewrap, without the command
    """

    binds: dict[str, str] = field(default_factory=dict)
    lent: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    writable: list[dict[str, object]] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)

    def bind(self, source: Path, target: str, lent: bool = False) -> None:
        """A read-only view of a host file or directory."""
        if not source.exists():
            raise ValueError(f"{source} does not exist")
        name = f"b{len(self.binds)}"
        if lent:
            self.lent.append(name)
        self.binds[name] = os.path.realpath(source)
        self.arguments += ["--ro-bind", f"{STAGE}/{name}", target]

    def file(self, content: str, target: str) -> None:
        """A read-only file of ours."""
        name = f"f{len(self.files)}"
        self.files[name] = content
        self.arguments += ["--ro-bind", f"{STAGE}/{name}", target]

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
        self.arguments += ["--bind", f"{STAGE}/{name}", target]


def lay_out(spec: SandboxSpec) -> Layout:
    """The layout of a spec; ValueError for a spec that contradicts itself."""
    if not spec.arguments:
        raise ValueError("a sandbox needs a command")
    layout = Layout()
    layout.arguments += [
        "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session",
        "--cap-drop", "ALL", "--uid", str(UID), "--gid", str(GID), "--hostname", HOST_NAME, "--clearenv",
    ]  # fmt: skip
    for name, value in spec.environment.items():
        if not name or "=" in name:
            raise ValueError(f"{name!r} cannot be the name of a variable")
        layout.arguments += ["--setenv", name, value]
    targets = [_clean(mount.target) for mount in spec.mounts] + [_clean(out.target) for out in spec.outputs]
    if len(set(targets)) < len(targets):
        raise ValueError("two mounts or outputs have the same target")
    if spec.root.image is None:
        _host_root(layout)
    else:
        _image_root(layout, spec.root.image, targets)
    _kernel_views(layout, spec)
    for prefix in _outermost(spec.root.prefixes if spec.root.image is None else ()):
        layout.bind(prefix, str(prefix))  # after /tmp, which may hold them
    _granted(layout, spec)
    # /proc too: the kernel lets the owner of a namespace write some of /proc/sys
    for place in ("/proc", "/dev", "/"):
        layout.arguments += ["--remount-ro", place]
    layout.arguments += ["--chdir", spec.directory]
    if any("\0" in argument for argument in (*layout.arguments, *spec.arguments)):
        raise ValueError("an argument or a variable holds a zero byte")
    return layout


def _clean(target: str) -> str:
    path = os.path.normpath(target)
    if not path.startswith("/") or path != target.rstrip("/") or path in ("/", *_OWN):
        raise ValueError(f"{target!r} cannot be a target: absolute, normal, and none of {', '.join(_OWN)}")
    return path


def _host_root(layout: Layout) -> None:
    layout.arguments += ["--ro-bind", "/usr", "/usr"]
    for name in _MERGED:
        path = Path("/", name)
        if path.is_symlink():
            layout.arguments += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            layout.arguments += ["--ro-bind", str(path), str(path)]
    for name, content in _ETC.items():
        layout.file(content, f"/etc/{name}")
    for name in _HOST_ETC:
        if Path("/etc", name).exists():
            layout.bind(Path("/etc", name), f"/etc/{name}")
    for directory in ("/run", "/sys", "/var"):
        layout.arguments += ["--dir", directory]
    layout.arguments += ["--symlink", "/tmp", "/var/tmp"]  # noqa: S108


def _outermost(prefixes: tuple[Path, ...]) -> Iterator[Path]:
    """The prefixes without those that /usr or another one already shows."""
    kept = [Path("/usr")]
    for prefix in sorted({Path(os.path.normpath(path)) for path in prefixes}):
        if prefix == Path("/") or not prefix.is_absolute():
            raise ValueError(f"{prefix} cannot be a prefix")
        if not any(prefix.is_relative_to(outer) for outer in kept):
            kept.append(prefix)
            yield prefix


def _image_root(layout: Layout, image: Path, targets: list[str]) -> None:
    """An image as `/`. Directories on the way to a mount point that the image lacks are taken apart and put
    together again entry by entry, so that nothing is ever written into the image."""
    etc = {f"/etc/{name}": content for name, content in _ETC.items()}
    for name in ("passwd", "group"):
        own = _text(image / "etc" / name)
        if own:
            etc[f"/etc/{name}"] = own.rstrip("\n") + "\n" + _ETC[name]
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
        layout.arguments += ["--dir", directory]
    for target, content in etc.items():
        layout.file(content, target)


def _take_apart(layout: Layout, image: Path, directory: str, split: set[str], taken: set[str]) -> None:
    for entry in sorted(os.scandir(str(image) + directory), key=lambda entry: entry.name):
        path = f"{directory.rstrip('/')}/{entry.name}"
        if path in split and entry.is_dir(follow_symlinks=False):
            layout.arguments += ["--dir", path]
            _take_apart(layout, image, path, split, taken)
        elif path in taken or path in split:
            continue
        elif entry.is_symlink():
            layout.arguments += ["--symlink", str(Path(entry.path).readlink()), path]
        elif entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False):
            layout.arguments += ["--ro-bind", f"{STAGE}/image{path}", path]


def _exists_plainly(image: Path, target: str) -> bool:
    """Whether the image has the target with no link on the way, so that it can be mounted over."""
    path = Path(str(image) + target)
    return path.exists() and not any(
        step.is_symlink() for step in (path, *path.parents) if step.is_relative_to(image)
    )


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() and not path.is_symlink() else ""


def _kernel_views(layout: Layout, spec: SandboxSpec) -> None:
    layout.arguments += ["--proc", "/proc", "--dev", "/dev"]
    for name in _KERNEL_FILES:
        if Path("/proc", name).exists():
            layout.arguments += ["--ro-bind", "/dev/null", f"/proc/{name}"]
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
