"""The runtime on a container engine: Docker or Podman, through the docker SDK and the engine's socket.

Knows the engine's API; must not know what the process inside is for. The engine is asked for as little as can
be: namespaces, limits and binds. The root is ours, bound read-only over an image that holds nothing but
directories and links, so what runs is what was unpacked and checked here, and nothing is ever pulled. What
stages, attests, watches, measures and ends a container is its steward (`steward.py`); the service's own
network, variables and files reach neither.

Runs as root only: staging mounts, and the way into a container's network, need it. Without root there is
bubblewrap.
"""

import contextlib
import io
import json
import math
import os
import platform
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator, Mapping
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from passbox.backends.runtimes import gate, layout, linux, seccomp, seccomp_profile, selftest
from passbox.backends.runtimes.base import Isolation, Limits, Report, Root, SandboxSpec, Usage
from passbox.backends.runtimes.cgroup import Group, of_process
from passbox.backends.runtimes.gpus import Gpus, Reservation, find_gpus
from passbox.backends.runtimes.handle import ShepherdedSandbox
from passbox.backends.runtimes.network import EmptyNetwork
from passbox.errors import Misconfigured

DEFAULT_ADDRESS = "unix:///var/run/docker.sock"
NO_SDK = "pip install 'passbox[docker]'"
_LABEL = "passbox.service"
_SKELETON = "localhost/passbox/root"
_STAGES = "/run/passbox"
_FIRST_JOB_UID = 0x60000000  # another range than bubblewrap's; engines take numbers below 2^31
_ENGINE_SECONDS = 60
_OWN_PROCESSES = 2  # process 1, and what becomes the program
_DETAIL = 1000  # characters of what an engine says
_SOURCE = str(Path(__file__).parents[3])
_HOLDER = SandboxSpec(  # of a network: it does nothing, for as long as it is let
    ("/usr/bin/sleep", "infinity"),
    Root(),
    # few processes, but an engine's own start of a container counts among them
    Limits(memory_bytes=64 << 20, seconds=math.inf, cpus=0.1, processes=32, tmp_bytes=1 << 20, log_bytes=0),
    host="network",
)
_BOOT = (
    "import sys; sys.path.append(sys.argv[1]); from passbox.backends.runtimes import steward; steward.main()"
)
_MASKED = (
    "/sys",
    *(f"/proc/{name}" for name in (*layout.KERNEL_FILES, "acpi", "kcore", "latency_stats", "scsi")),
)
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


class DockerRuntime:
    """Seals with the engine that answers at `address`. One instance may start sandboxes from many threads."""

    def __init__(self, address: str = DEFAULT_ADDRESS, gpus: Gpus | None = None) -> None:
        self._address = address
        self.gpus = find_gpus() if gpus is None else gpus
        self._thread = threading.local()
        self._skeletons: dict[str, str] = {}
        self._swept = False

    # -- the engine ----------------------------------------------------------------------------------------

    @property
    def _engine(self) -> Any:
        """The engine's API for this thread. Misconfigured where there is none."""
        if not hasattr(self._thread, "api"):
            if not self._address.startswith("unix://"):
                raise Misconfigured(
                    f"{self._address} is no engine of this machine; give unix:///path/to/socket"
                )
            try:
                from docker import APIClient
            except ImportError as error:
                raise Misconfigured(f"container engines need the docker SDK: {NO_SDK}") from error
            try:
                self._thread.api = APIClient(base_url=self._address, version="auto", timeout=_ENGINE_SECONDS)
            except Exception as error:
                raise Misconfigured(
                    f"no container engine answers at {self._address}; start Docker or Podman, or set "
                    "PASSBOX_DOCKER_HOST",
                    detail=str(error)[:_DETAIL],
                ) from error
        return self._thread.api

    @cached_property
    def _version(self) -> Mapping[str, Any]:
        version: Mapping[str, Any] = self._engine.version()
        return version

    @property
    def name(self) -> str:
        """`docker` or `podman`."""
        parts = self._version.get("Components") or ()
        return "podman" if any("Podman" in part.get("Name", "") for part in parts) else "docker"

    @cached_property
    def _unlimited(self) -> tuple[str, ...]:
        """What the engine cannot limit here."""
        info = self._engine.info()
        wanted = {"memory": "MemoryLimit", "pids": "PidsLimit", "cpu": "CpuCfsQuota"}
        return tuple(name for name, field in wanted.items() if not info.get(field, False))

    def check(self) -> Report:
        """Really starts a container and looks; says what is missing and how to get it."""
        try:
            version = str(self._version.get("Version"))
            selftest.try_one(self)
        except Misconfigured as error:
            missing = ((error.message, error.detail or "see `passbox doctor`"),)
            return Report("docker", Isolation.NONE, "not usable", missing)
        if self._unlimited:
            lacking = f"{self.name} cannot limit {', '.join(self._unlimited)}"
            fix = "start its daemon as root with these cgroup controllers"
            return Report(self.name, Isolation.DEGRADED, version, ((lacking, fix),), self.gpus.count)
        return Report(self.name, Isolation.SEALED, version, gpus=self.gpus.count)

    def network(self, hosts: tuple[str, ...]) -> "EngineNetwork":
        """That of one more container, which sleeps until the network is let go of: an engine's own networks
        are more than an empty one, and it lets containers share nothing else. Misconfigured as `start`."""
        holder = self.start(_HOLDER)
        try:
            return EngineNetwork(hosts, holder)
        except BaseException as error:
            holder.kill()
            if isinstance(error, OSError):
                raise Misconfigured(
                    "the kernel makes no network for several instances", detail=str(error)
                ) from error
            raise

    # -- starting ------------------------------------------------------------------------------------------

    def start(self, spec: SandboxSpec) -> "EngineSandbox":
        """Starts it. Misconfigured where the engine or this machine cannot, Busy where the GPUs are in use,
        ValueError for a contradictory spec."""
        if os.geteuid() != 0:
            raise Misconfigured(
                "a container engine seals only for a service that runs as root; use bubblewrap"
            )
        network = _joined(spec)
        if platform.machine() not in seccomp.ARCHITECTURES:
            raise Misconfigured(f"there is no system-call filter for {platform.machine()} yet")
        command = gate.command(spec.arguments, spec.environment, spec.directory) if spec.arguments else []
        engine = self._engine
        self._sweep()
        with contextlib.ExitStack() as undo:
            held = self.gpus.reserve(spec.gpus)
            undo.callback(held.close)
            spec = self.gpus.with_libraries(spec)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            events, reports = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.callback(ours.close)
            undo.callback(events.close)
            passed = [theirs.detach(), reports.detach()]
            if spec.log is not None:
                passed.append(os.open(spec.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
            process = _spawn([*passed, *held.descriptors])
            undo.callback(_put_down, process)
            for descriptor in passed:
                os.close(descriptor)
            stage, uid = f"{_STAGES}/{os.getpid()}-{process.pid}", _FIRST_JOB_UID + process.pid
            placed = layout.lay_out(spec, stage, uid)
            placed.show("bind", gate.PROGRAMS, f"{stage}/bin")
            placed.show("bind", gate.PIPES, f"{stage}/io")
            plan = self._plan(spec, placed, passed) | {"devices": held.numbers()}
            _tell(process, plan | {"network": network and network.inode})
            sandbox = EngineSandbox(process, ours, events, stage, held, network)
            sandbox.await_staged()
            undo.callback(sandbox.remove)
            try:
                sandbox.run(engine, self._create(engine, spec, placed, command, held))
            except OSError as error:  # the SDK's errors are among them
                raise Misconfigured(
                    "the container engine refused a container", detail=str(error)[:_DETAIL]
                ) from error
            sandbox.await_start()
            undo.pop_all()
        return sandbox

    @cached_property
    def _filter(self) -> str:
        return seccomp_profile.profile()

    @cached_property
    def _programs(self) -> Mapping[str, str]:
        return gate.programs()

    def _plan(self, spec: SandboxSpec, placed: layout.Layout, passed: list[int]) -> dict[str, Any]:
        """What the steward needs to know; `passed`: control, events and perhaps the log."""
        return {
            "service": os.getpid(),
            "owner": [os.geteuid(), os.getegid()],
            "control": passed[0],
            "events": passed[1],
            "log": passed[2] if spec.log is not None else None,
            "log_bytes": spec.limits.log_bytes,
            "first_uid": _FIRST_JOB_UID,
            "groups": {},
            "stage": placed.stage,
            "binds": placed.binds,
            "lent": placed.lent,
            "files": placed.files,
            "writable": placed.writable,
            "memory_bytes": spec.limits.memory_bytes,
            "rlimits": {f"RLIMIT_{name.upper()}": [most, most] for name, most in _rlimits(spec).items()},
            # where the engine has no control groups, there is nothing to compare
            "limits": None
            if self._unlimited
            else [spec.limits.memory_bytes, spec.limits.processes + _OWN_PROCESSES, spec.limits.cpus],
            "programs": self._programs,
            "filter": self._filter,
            "seconds": spec.limits.seconds,
            "targets": [view.target for view in placed.views if view.kind == "write"],
            "seen": {view.target: view.source for view in _views(placed)},
            "host": spec.host,
        }

    def _create(
        self, engine: Any, spec: SandboxSpec, placed: layout.Layout, command: list[str], held: Reservation
    ) -> str:
        """A container that was not started yet; its id."""
        host = engine.create_host_config(
            **_limits(spec),
            **self._seal(placed.stage, _joined(spec)),
            mounts=list(_mounts(placed)),
            devices=[f"{node}:/dev/{node.name}:rw" for node in held.nodes],
        )
        host |= {"MaskedPaths": list(_MASKED), "ReadonlyPaths": list(_READ_ONLY)}
        made = engine.create_container(
            image=self._skeleton(engine, placed),
            command=command,
            user=f"{placed.uid}:{placed.uid}",
            working_dir=spec.directory,
            hostname=spec.host if spec.network is None else None,  # else the steward names it, see there
            labels={_LABEL: _identity(os.getpid())},
            host_config=host,
        )
        return str(made["Id"])

    def _seal(self, stage: str, network: "EngineNetwork | None") -> dict[str, Any]:
        options = ["no-new-privileges"]
        if self.name == "podman":
            options += [f"seccomp={stage}/seccomp.json", f"mask={':'.join(_MASKED)}"]
        else:
            options.append(f"seccomp={self._filter}")
        return {
            "network_mode": "none" if network is None else f"container:{network.container}",
            "ipc_mode": "private",
            "read_only": self.name == "docker",  # the steward closes the root of the other, see there
            "cap_drop": ["ALL"],
            "security_opt": options,
            "auto_remove": True,
            "log_config": {"Type": "none" if self.name == "docker" else "k8s-file"},
        }

    def _skeleton(self, engine: Any, placed: layout.Layout) -> str:
        """An image of nothing but the directories and links of a layout; made once."""
        content = _skeleton_tar(placed)
        tag = sha256(content).hexdigest()[:24]
        if tag not in self._skeletons:
            try:
                self._skeletons[tag] = engine.inspect_image(f"{_SKELETON}:{tag}")["Id"]
            except OSError:
                answer = engine.import_image_from_data(content)
                id = json.loads(answer.strip().splitlines()[-1])["status"]
                engine.tag(id, _SKELETON, tag)
                self._skeletons[tag] = id
        return self._skeletons[tag]

    def _sweep(self) -> None:
        """Removes, once, what services that are gone have left in the engine and under the staging place."""
        if self._swept:
            return
        self._swept = True
        engine = self._engine
        for found in engine.containers(all=True, filters={"label": _LABEL}):
            service = found["Labels"][_LABEL]
            if _identity(int(service.partition(".")[0])) != service:
                with contextlib.suppress(OSError):
                    engine.remove_container(found["Id"], force=True)
        for stage in Path(_STAGES).glob("*-*"):
            if not any(Path("/proc", number).exists() for number in stage.name.split("-")):
                _take_away(str(stage))


class EngineSandbox(ShepherdedSandbox):
    """A container (base.Sandbox), looked after by its steward.

    id: the engine's name of it; process: its process 1, once it runs
    """

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        control: socket.socket,
        events: socket.socket,
        stage: str,
        held: Reservation,
        network: "EngineNetwork | None",
    ) -> None:
        super().__init__(process, control, events, Group({}), held)
        self._stage = stage
        self._network = network
        self._engine: Any = None
        self.id = ""
        self.process = 0
        self._counted = Group({})

    def await_staged(self) -> None:
        """Returns once everything to bind is there; Misconfigured if it cannot be."""
        self._await("staged")

    def run(self, engine: Any, id: str) -> None:
        """Starts the container, whose process 1 waits at its gate, and tells the steward which it is."""
        self._engine, self.id = engine, id
        engine.start(id)
        self.process = engine.inspect_container(id)["State"]["Pid"]
        self._counted = of_process(self.process)
        self._control.send(json.dumps({"process": self.process}).encode())

    def usage(self) -> Usage | None:
        """What the engine's own control groups count (base.Sandbox)."""
        cpu, memory = self._counted.cpu_seconds(), self._counted.memory_bytes()
        return None if cpu is None or memory is None or self._exit is not None else Usage(cpu, memory)

    def _finish(self, data: bytes) -> None:
        super()._finish(data)
        if self._network is not None:
            self.remove()
            self._network.left()

    def remove(self) -> None:
        """Ends and removes the container, where its steward did not; never an error."""
        if self.id:
            with contextlib.suppress(OSError):
                self._engine.remove_container(self.id, force=True)
        _take_away(self._stage)

    def _sweep(self) -> None:
        self.remove()
        super()._sweep()


class EngineNetwork(EmptyNetwork):
    """The network of a container that does nothing else (base.Network).

    container: its id; inode: of its network namespace
    """

    def __init__(self, hosts: tuple[str, ...], holder: EngineSandbox) -> None:
        """OSError where the kernel gives it no addresses."""
        super().__init__(hosts, within=holder.process)
        self._holder = holder
        self._closed = False
        self.container = holder.id
        self.inode = os.fstat(self.net).st_ino

    def close(self) -> None:
        """Lets go of it; sandboxes that run in it keep it."""
        self._closed = True
        self._holder.kill()
        super().close()

    def left(self) -> None:
        """A sandbox that was in it is gone: Podman removes no container whose network another one has."""
        if self._closed:
            self._holder.remove()


def _joined(spec: SandboxSpec) -> EngineNetwork | None:
    """The network that a sandbox shares."""
    network = spec.network
    if network is None:
        return None
    if not isinstance(network, EngineNetwork) or spec.host not in network.hosts:
        raise ValueError(f"the host {spec.host} is not of the network that it was given")
    return network


def _take_away(stage: str) -> None:
    with contextlib.suppress(OSError):
        linux.unmount(stage)
    with contextlib.suppress(OSError):
        Path(stage).rmdir()


def _identity(process: int) -> str:
    """A process and when it started, so that its number may be given again; empty where it is gone."""
    try:
        words = Path("/proc", str(process), "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return f"{process}.{words[19]}"


def _spawn(passed: list[int]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _BOOT, _SOURCE],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=passed,
        env={},
        cwd="/",
        start_new_session=True,
    )


def _put_down(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _tell(process: "subprocess.Popen[bytes]", plan: Mapping[str, Any]) -> None:
    if process.stdin is None:
        raise AssertionError
    with process.stdin as file:
        file.write(json.dumps(plan).encode())


def _views(placed: layout.Layout) -> Iterator[layout.View]:
    """What is bound."""
    for view in placed.views:
        if view.kind in ("bind", "write"):
            yield view


def _mounts(placed: layout.Layout) -> Iterator[Any]:
    from docker.types import Mount

    for view in _views(placed):
        yield Mount(view.target, view.source, type="bind", read_only=view.kind == "bind")


def _rlimits(spec: SandboxSpec) -> dict[str, int]:
    """By the engine's names."""
    limits = spec.limits
    longest = max([limits.tmp_bytes, *(out.max_bytes for out in spec.outputs)]) + (1 << 16)
    return {
        "core": 1,  # not 0: the kernel then does not even call a core handler
        "nofile": limits.open_files,
        "nproc": limits.processes + _OWN_PROCESSES,
        "fsize": longest,  # a little more than any directory holds, so that a full one says ENOSPC
        "memlock": 65536,
        "msgqueue": 0,
        "rtprio": 0,
    }


def _limits(spec: SandboxSpec) -> dict[str, Any]:
    from docker.types import Ulimit

    limits = spec.limits
    return {
        "mem_limit": limits.memory_bytes,
        "memswap_limit": limits.memory_bytes,
        "nano_cpus": int(min(limits.cpus, os.cpu_count() or 1) * 1e9),  # more is an error to Docker
        "pids_limit": limits.processes + _OWN_PROCESSES,
        "ulimits": [Ulimit(name=name, soft=most, hard=most) for name, most in _rlimits(spec).items()],
    }


def _skeleton_tar(placed: layout.Layout) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for view in placed.views:
            member = tarfile.TarInfo(view.target.lstrip("/"))
            member.mode = 0o755
            if view.kind == "directory":
                member.type = tarfile.DIRTYPE
            elif view.kind == "link":
                member.type, member.linkname = tarfile.SYMTYPE, view.source
            else:
                continue
            tar.addfile(member)
    return buffer.getvalue()
