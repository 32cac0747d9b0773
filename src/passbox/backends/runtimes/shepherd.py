"""The process beside every sandbox: it stages, starts, watches, ends and reports one tree of processes.

A process of its own, forked from one that the runtime keeps warm (`forkserver.py`), so it is single-threaded
(namespaces want that), survives the service's threads, and ends the tree when the service dies. It lives by a
plan (see `bubblewrap.py`), answers requests on the control socket and reports on the events socket:

    {"started": pid} or {"failed": text, "unsealed": [property]}   then   {"exit": {cause, status, ...}}

Knows the kernel's side of a sandbox; must not know specs, jobs or settings, and imports only light modules.

How the tree ends: process 1 of the sandbox's pid namespace dies, and the kernel kills everything in it,
which nothing inside can leave or outlive. bubblewrap's process 1 dies with bubblewrap (--die-with-parent),
that with the shepherd, and the shepherd ends it when the service's end of the control socket closes or its
process ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import socket
import time

from passbox.backends.runtimes import attest, linux, staging, tracing
from passbox.backends.runtimes.cgroup import Group
from passbox.backends.runtimes.handover import serve_connection

TYPE_CHECKING = False  # importing typing would cost every start milliseconds
if TYPE_CHECKING:
    from typing import Any

_TICK = 0.1
_START_SECONDS = 20.0
_HEAD = 1000
_NOT_FOUND = "bwrap: execvp "
_NOTE = b"\n[passbox: the log is longer than its limit and was cut here]\n"


class Shepherd:
    """The state of one sandbox."""

    def __init__(self, plan: dict[str, Any], control: socket.socket, events: socket.socket) -> None:
        self.plan = plan
        self.control = control
        self.events = events
        self.group = Group(plan["groups"])
        self.privileged = plan["first_uid"] is not None
        # a process id is unique while its process lives, and so is the user made from ours
        self.uid = plan["first_uid"] + os.getpid() if self.privileged else os.getuid()
        self.gid = self.uid if self.privileged else os.getgid()
        self.bwrap = 0
        self.init = 0
        self.init_handle = self.network = -1
        self.namespace = 0
        self.cause = ""
        self.kill_at: float | None = None
        self.started = time.monotonic()
        self.log_left: int = plan["log_bytes"]
        self.helpers: set[int] = set()
        self.log_head = b""
        self.forced = False
        self.peak = 0
        self.look_at = 0.0
        self.log_read = self.status_read = self.gate = -1

    # -- start ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Stages and starts the sandbox, and checks the seal before the program's first instruction;
        RuntimeError if it cannot be made, Unsealed if it does not hold."""
        staging.enter_namespace(self.privileged, self.plan["shared"])
        identities = staging.stage(self.plan["stage"], self.plan, self.uid, self.gid, self.privileged)
        linux.hide_from_tracers()  # only now: it would have closed our own uid_map to us
        self.log_read, log_write = os.pipe()
        self.status_read, status_write = os.pipe()
        block_read, self.gate = os.pipe()
        inherited = {"--json-status-fd": status_write, "--block-fd": block_read}
        self.bwrap = os.fork()
        if self.bwrap == 0:
            self._become_bwrap(log_write, inherited)
        for descriptor in (log_write, status_write, block_read):
            os.close(descriptor)
        os.set_blocking(self.log_read, False)
        self._find_init()
        # from here and not by itself: the kernel may let a move wait for milliseconds, in which bubblewrap
        # sets everything up; then it waits for us, so all that it starts is born inside
        self.group.take(self.bwrap, self.init)
        granted = self._granted(identities)
        self.started = time.monotonic()
        program = tracing.watch_exec(
            self.init,
            self._release,
            lambda process: self._close(process, granted),
            _START_SECONDS,
        )
        if program is None:
            self._require_setup()

    def _close(self, process: int, granted: attest.Granted) -> None:
        """Hides what the kernel tells of the host, then checks the seal."""
        linux.within(process, "mnt", lambda: linux.mask(self.plan["masked"]))
        attest.require_sealed(process, granted)

    def _release(self) -> None:
        """Lets bubblewrap go on, which waits for us with everything set up."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self.gate, b"go")
        os.close(self.gate)

    def _granted(self, identities: dict[str, tuple[int, int]]) -> attest.Granted:
        null = os.stat("/dev/null")
        shown = {target: name and identities[name] for target, name in self.plan["shown"].items()}
        shown |= dict.fromkeys(self.plan["masked"], (null.st_dev, null.st_ino))
        return attest.Granted(
            service=self.plan["namespaces"],
            network=os.fstat(self.plan["shared"][0]).st_ino if self.plan["shared"] else None,
            uid=self.uid,
            gid=self.gid,
            shown=shown,
            writable={target: identities[name] for target, name in self.plan["written"].items()},
            rlimits=self.plan["rlimits"],
            group=self.group,
            limits=self.plan["limits"],
            devices=self.plan["devices"],
        )

    def _become_bwrap(self, log: int, inherited: dict[str, int]) -> None:
        """In the forked child: limits, the job's own user, and bubblewrap instead of us. Never returns."""
        shepherd = os.getppid()
        try:
            for name, limits in self.plan["rlimits"].items():
                _limit(getattr(resource, name), *limits)
            if self.privileged:
                os.setgroups([])
                os.setresgid(self.gid, self.gid, self.gid)
                os.setresuid(self.uid, self.uid, self.uid)
            linux.die_with_parent(signal.SIGKILL)  # after the change of user, which resets it
            if os.getppid() != shepherd:
                os._exit(1)
            null = os.open("/dev/null", os.O_RDWR)
            for source, target in ((null, 0), (log, 1), (log, 2)):
                os.dup2(source, target)
            given = {**inherited, "--seccomp": self.plan["seccomp"], "--args": self.plan["args"]}
            _keep_only({0, 1, 2, *given.values()})
            words = [word for name, descriptor in given.items() for word in (name, str(descriptor))]
            os.umask(0o022)
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these, and exec would pass it on
                signal.signal(number, signal.SIG_DFL)
            os.execve(self.plan["bwrap"], ["bwrap", *words, "--", *self.plan["command"]], {})  # noqa: S606
        except BaseException as error:
            os.write(2, f"bwrap: {error}\n".encode())
        finally:
            os._exit(1)

    def _find_init(self) -> None:
        """Reads from bubblewrap which process is number 1 of the sandbox, and holds on to it."""
        text, deadline = b"", time.monotonic() + _START_SECONDS
        while b'"child-pid"' not in text or b"}" not in text:
            ready, _, _ = select.select([self.status_read], [], [], max(0, deadline - time.monotonic()))
            chunk = os.read(self.status_read, 4096) if ready else b""
            if not chunk:
                raise RuntimeError(f"bubblewrap did not start: {self._said()}")
            text += chunk
        self.init = json.loads(text[: text.index(b"}") + 1])["child-pid"]
        self.init_handle = os.pidfd_open(self.init)
        self.network = os.open(f"/proc/{self.init}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.namespace = os.stat(f"/proc/{self.init}/ns/pid").st_ino

    def _said(self) -> str:
        """What bubblewrap wrote so far, for the operator; it goes to the log as well."""
        time.sleep(0.05)
        while select.select([self.log_read], [], [], 0)[0] and self._drain():
            pass
        return self.log_head.decode(errors="replace").strip() or "it said nothing"

    def _require_setup(self) -> None:
        """The sandbox ends already: fine if its program ran, which bubblewrap tells by an exit code."""
        text, chunk = b"", b"-"
        while chunk:
            chunk = os.read(self.status_read, 4096)
            text += chunk
        if b'"exit-code"' in text:
            return
        said = self._said()
        if not said.startswith(_NOT_FOUND):
            raise RuntimeError(f"bubblewrap could not seal: {said}")

    # -- watch ---------------------------------------------------------------------------------------------

    def watch(self) -> tuple[int, float]:
        """Looks after the tree until it has ended; returns (exit code, CPU seconds)."""
        handle = self._end_handle()
        service = self._service_handle()
        poll = select.poll()
        for descriptor in {handle, service, self.log_read, self.control.fileno()} - {-1}:
            poll.register(descriptor, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll(_TICK * 1000)}
            if self.log_read in ready and not self._drain():
                poll.unregister(self.log_read)
            if service in ready or (self.control.fileno() in ready and not self._serve()):
                self._end("killed")
                for descriptor in {service, self.control.fileno()} & ready:
                    poll.unregister(descriptor)
            if handle in ready:
                break
            self._tick()
        return self._ended()

    def _end_handle(self) -> int:
        """What becomes readable when the tree has ended."""
        return os.pidfd_open(self.bwrap)

    def _ended(self) -> tuple[int, float]:
        """(exit code, or 128 + signal; CPU seconds)."""
        _, status, usage = os.wait4(self.bwrap, 0)
        code = os.waitstatus_to_exitcode(status)
        return 128 - code if code < 0 else code, usage.ru_utime + usage.ru_stime

    def _service_handle(self) -> int:
        """Readable when the service's process ends; -1 where it already has (its socket says so too)."""
        with contextlib.suppress(OSError):
            return os.pidfd_open(self.plan["service"])
        return -1

    def _drain(self) -> bool:
        """Moves what the process wrote into the log; False once nobody can write any more."""
        try:
            chunk = os.read(self.log_read, 1 << 16)
        except BlockingIOError:
            return True
        if len(self.log_head) < _HEAD:
            self.log_head += chunk[:_HEAD]
        if chunk and self.log_left > 0 and self.plan["log"] is not None:
            os.write(self.plan["log"], chunk[: self.log_left])
            if len(chunk) > self.log_left:
                os.write(self.plan["log"], _NOTE)
        self.log_left -= len(chunk)
        return bool(chunk)

    def _serve(self) -> bool:
        """Answers one request; False when the service is gone."""
        data = self.control.recv(4096)
        if not data:
            return False
        request = json.loads(data)
        if request["do"] == "connect":
            helper = os.fork()
            if helper == 0:
                serve_connection(self.network, request["port"], request["timeout"], self.control)
            self.helpers.add(helper)
        elif request["grace"] > 0:
            self._signal_all(signal.SIGTERM)
            self.cause = self.cause or "killed"
            self.kill_at = time.monotonic() + request["grace"]
        else:
            self._end("killed")
        return True

    def _tick(self) -> None:
        now = time.monotonic()
        if self.kill_at is not None and now >= self.kill_at:
            self._end(self.cause)
        elif now - self.started >= self.plan["seconds"]:
            self._end("timed out")
        elif self.group.out_of_memory_kills():
            self._end("out of memory")
        elif now >= self.look_at:
            if self._too_large():
                self._end("out of memory")
            elif staging.over_limit(self.plan["stage"], self.plan["writable"]):
                self._end("disk full")
            # looking at many files takes time: never more than a tenth of it
            self.look_at = now + 10 * (time.monotonic() - now)
        with contextlib.suppress(ChildProcessError):
            while self._reap_other():
                pass

    def _too_large(self) -> bool:
        """Where no cgroup limits memory, looking is better than nothing; the runtime reports DEGRADED."""
        if self.group.limits_memory():
            return False
        used = staging.used_bytes(self.plan["stage"], self.plan["writable"])
        for process in self._members():
            with contextlib.suppress(OSError), open(f"/proc/{process}/status") as file:
                lines = (line.split() for line in file if line.startswith("RssAnon"))
                used += sum(int(words[1]) * 1024 for words in lines)
        self.peak = max(self.peak, used)
        return bool(used > self.plan["memory_bytes"])

    def _reap_other(self) -> bool:
        """Waits for one ended child that is not bubblewrap."""
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None or found.si_pid == self.bwrap:
            return False
        os.waitpid(found.si_pid, 0)
        self.helpers.discard(found.si_pid)
        return True

    # -- end -----------------------------------------------------------------------------------------------

    def _members(self) -> list[int]:
        """Every process of the sandbox, found by its pid namespace, process 1 first or absent."""
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError):
                    if os.stat(f"/proc/{name}/ns/pid").st_ino == self.namespace:
                        found.append(int(name))
        return found

    def _signal_all(self, number: int) -> None:
        for process in self._members():
            if process != self.init:
                with contextlib.suppress(OSError):
                    os.kill(process, number)

    def _end(self, cause: str) -> None:
        """Ends the tree, now. The first cause is the one that counts."""
        self.cause = self.cause or cause
        self.forced = True
        self._strike()

    def _strike(self) -> None:
        with contextlib.suppress(OSError):
            if self.init_handle >= 0:
                signal.pidfd_send_signal(self.init_handle, signal.SIGKILL)
            elif self.bwrap:
                os.kill(self.bwrap, signal.SIGKILL)

    def finish(self) -> None:
        """Makes sure that nobody is left."""
        self._strike()
        for helper in self.helpers:
            os.kill(helper, signal.SIGKILL)  # ours and not waited for, so the number is still its own
        if self.init_handle >= 0:
            select.select([self.init_handle], [], [], 5.0)
        deadline = time.monotonic() + 5.0
        while self.group.processes() and time.monotonic() < deadline:
            self.group.kill()
            time.sleep(0.002)

    def leave(self) -> None:
        """Takes away what was made outside of the sandbox."""
        self.group.remove()

    def report(self, code: int, cpu_seconds: float) -> dict[str, Any]:
        """The Exit, as JSON; the log and the outputs are complete by then."""
        seconds = time.monotonic() - self.started
        os.set_blocking(self.log_read, True)
        while self._drain():
            pass
        if self.log_head.startswith(_NOT_FOUND.encode()) and code == 1:
            code = 127
        if self.forced and code == 0:
            code = 128 + signal.SIGKILL
        if not self.cause:
            self.cause = "out of memory" if code and self.group.out_of_memory_kills() else "exited"
        detail = None
        try:
            owner = self.plan["owner"]
            staging.collect(self.plan["stage"], self.plan["writable"], owner[0], owner[1])
        except OSError as error:
            self.cause, code, detail = "disk full", code or 1, str(error)
        measured = self.group.cpu_seconds()
        return {
            "cause": self.cause,
            "status": code,
            "seconds": seconds,
            "cpu_seconds": cpu_seconds if measured is None else measured,
            "peak_memory_bytes": self.group.peak_memory_bytes() or self.peak or None,
            "detail": detail,
        }


def _keep_only(kept: set[int]) -> None:
    """Lets these descriptors and no other survive the coming exec."""
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):  # the listing's own is gone by now
            os.set_inheritable(descriptor, descriptor in kept)


def _limit(which: int, soft: int, hard: int) -> None:
    """Never more than the service has itself."""
    _, ceiling = resource.getrlimit(which)
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(which, (soft, hard))


def live(plan: dict[str, Any], kind: type[Shepherd] = Shepherd) -> None:
    """Lives one sandbox's life."""
    control = socket.socket(fileno=plan["control"])
    events = socket.socket(fileno=plan["events"])
    shepherd = kind(plan, control, events)
    linux.adopt_orphans()
    try:
        shepherd.start()
        events.send(json.dumps({"started": shepherd.init}).encode())
        code, cpu_seconds = shepherd.watch()
        shepherd.finish()
        answer: dict[str, Any] = {"exit": shepherd.report(code, cpu_seconds)}
    except Exception as error:
        shepherd.finish()
        unsealed = error.properties if isinstance(error, attest.Unsealed) else []
        answer = {"failed": f"{type(error).__name__}: {error}", "unsealed": unsealed}
    shepherd.leave()
    with contextlib.suppress(OSError):
        events.send(json.dumps(answer).encode())
