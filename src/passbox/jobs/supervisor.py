"""The worker's one loop: claims jobs, walks each in a child process that can be killed, and keeps its lease.

    claim ─▶ forked child walks the spine ─▶ ended
               │ cancelled: killed, reservations voided
               │ child died: put back, at most ATTEMPTS times, then failed with INTERNAL_ERROR
               ╰ lease lost: killed, another worker has it

A job that fails is data (the spine stores it); a failure of ours is logged loudly with its traceback.
Must not know what a job does.
"""

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess

import structlog

from passbox.jobs import spine
from passbox.jobs.kind import Kind, NotYet, Tools
from passbox.jobs.spine import Checkpoint
from passbox.state import jobs, statuses
from passbox.state.database import Database
from passbox.state.jobs import Job, LeaseLost

POLL_SECONDS = 0.1
RENEW_SECONDS = 1.0
RETRY_SECONDS = 2.0

_log = structlog.get_logger(__name__)
_fork = multiprocessing.get_context("fork")


class Supervisor:
    """Runs up to `slots` jobs at a time.

    prepare: called first thing in every child, for example to tie its life to this process
    """

    def __init__(
        self,
        database: Database,
        tools: Tools,
        kinds: Mapping[str, Kind],
        *,
        name: str,
        slots: int,
        prepare: Callable[[], None] = lambda: None,
        checkpoint: Checkpoint = lambda _: None,
    ) -> None:
        self._database = database
        self._tools = tools
        self._kinds = kinds
        self._name = name
        self._slots = slots
        self._prepare = prepare
        self._checkpoint = checkpoint
        self._running: dict[str, tuple[Job, BaseProcess, float]] = {}

    def run(self, stopping: Callable[[], bool]) -> None:
        """Works until `stopping()`; what runs then is put back for the next worker."""
        spine.sweep(self._database, self._tools)
        while not stopping():
            busy = self.step()
            time.sleep(POLL_SECONDS / 5 if busy else POLL_SECONDS)
        for job, process, _ in self._running.values():
            self._kill(process)
            with contextlib.suppress(LeaseLost), self._database.write() as tx:
                jobs.put_back(tx, job, 0)
        self._running.clear()

    def step(self) -> bool:
        """One turn: looks after what runs, claims what waits. Whether it started something."""
        for id in list(self._running):
            self._look_after(*self._running[id])
        self._end_called_off()
        if len(self._running) >= self._slots:
            return False
        with self._database.read() as tx:
            waiting = jobs.any_waiting(tx)
        if not waiting:
            return False
        with self._database.write() as tx:
            job = jobs.claim(tx, self._name)
        if job is None:
            return False
        self._begin(job)
        return True

    def _end_called_off(self) -> None:
        """Ends what was cancelled while it waited; that takes no slot, so it never waits for one."""
        with self._database.read() as tx:
            called_off = jobs.any_called_off(tx)
        while called_off:
            with self._database.write() as tx:
                job = jobs.claim_called_off(tx, self._name)
            if job is None:
                return
            self._abandon_cancelled(job)

    def _begin(self, job: Job) -> None:
        if job.step == "approve" and job.cancel:
            self._abandon_cancelled(job)
        elif job.step == "approve" and job.attempt > spine.ATTEMPTS:
            self._abandon_broken(job)
        else:
            # a connection must not be open on both sides of a fork
            self._database.close()
            process = _fork.Process(target=self._child, args=(job,), daemon=False)
            process.start()
            self._running[job.id] = (job, process, time.monotonic())

    def _look_after(self, job: Job, process: BaseProcess, renewed: float) -> None:
        if not process.is_alive():
            process.join()
            del self._running[job.id]
            self._settle(job, process.exitcode)
            return
        if time.monotonic() - renewed < RENEW_SECONDS:
            with self._database.read() as tx:
                cancelled = jobs.cancel_requested(tx, job)
        else:
            try:
                with self._database.write() as tx:
                    cancelled = jobs.renew(tx, job)
            except LeaseLost:
                # either the child has just ended the job, or another worker has taken it over
                with self._database.read() as tx:
                    stored = jobs.get(tx, job.id)
                if stored is not None and stored.state == "running":
                    self._kill(process)
                return
            self._running[job.id] = (job, process, time.monotonic())
        if cancelled:
            self._kill(process)
            del self._running[job.id]
            self._settle(job, None)

    def _settle(self, job: Job, exit_code: int | None) -> None:
        """Looks at what a child left: an ended job, a cancelled one, or one that must be tried again."""
        with self._database.read() as tx:
            stored = jobs.get(tx, job.id)
        if stored is None or stored.state != "running" or stored.attempt != job.attempt:
            return
        if stored.cancel and stored.step == "approve":
            self._abandon_cancelled(stored)
            return
        _log.error("job.child_died", job=job.id, kind=job.kind, step=stored.step, exit_code=exit_code)
        if stored.step == "approve" and stored.attempt >= spine.ATTEMPTS:
            self._abandon_broken(stored)
            return
        with self._database.write() as tx:
            jobs.retry(tx, stored, RETRY_SECONDS)

    def _abandon_cancelled(self, job: Job) -> None:
        status = statuses.OF[job.kind].cancelled
        spine.abandon(self._database, self._tools, job, status, "CANCELLED", "The job was cancelled.")

    def _abandon_broken(self, job: Job) -> None:
        status = statuses.OF[job.kind].failed
        message = "The service failed; nothing was charged. Submit again, or ask the operator to look."
        spine.abandon(self._database, self._tools, job, status, "INTERNAL_ERROR", message)

    @staticmethod
    def _kill(process: BaseProcess) -> None:
        process.kill()
        process.join()

    def _child(self, job: Job) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._prepare()
        structlog.contextvars.bind_contextvars(
            job=job.id, kind=job.kind, account=job.account, collaboration=job.collaboration
        )
        database = Database(self._database.path)
        try:
            spine.walk(database, self._tools, self._kinds, job, self._checkpoint)
        except (spine.Cancelled, LeaseLost, NotYet) as told:
            _log.info("job.stopped", reason=type(told).__name__)
        except BaseException:
            _log.exception("job.broken")
            raise SystemExit(70) from None
