"""A batch transform: the files of a channel are scored by one or several servers, the answers kept in order.

A file goes to one server as a whole, the next free one; its answers stand in the order of its records. Must not
know state, nor how a server is started.

| a server                                            | then                                               |
|-----------------------------------------------------|----------------------------------------------------|
| answers 2xx                                         | its answer is kept                                 |
| answers 429 or 5xx, or hangs up without a whole answer, and lives | the request is made again, three times at most |
| answers anything else, too late, too much, no HTTP  | the job fails                                      |
| ends                                                | the job fails                                      |
| is lost by the machine                              | the job is done again as a whole, by the worker    |
"""  # noqa: E501  a table

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from passbox.jobs.batches import Batch, Header, batches
from passbox.jobs.serving import AnswerTooLarge, Busy, Gone, Server

PAUSES = (0.1, 0.5, 2.0)  # seconds before a request is made again
_CONTENT_TYPE = "text/csv"


@dataclass(frozen=True)
class Asked:
    """How to ask. payload_bytes: of a request, at most; accept: the type of answer that is asked for."""

    payload_bytes: int
    accept: str | None
    header: Header = Header.FIRST


class Transform:
    """One pass over the files. records: scored so far; written: results by name, once the pass is over."""

    def __init__(self, asked: Asked, most_bytes: int, progress: Callable[[str], None]) -> None:
        self.asked = asked
        self._progress = progress
        self.records = 0
        self.written: list[Path] = []
        self._left = most_bytes
        self._files = 0
        self._lock = threading.Lock()
        self._errors: list[BaseException] = []

    def run(self, files: Sequence[Path], results: Path, servers: Sequence[Server]) -> None:
        """Scores every file into `results`/NAME.out. Raises what the first server that cannot go on raises:
        JobFailed, Gone, or AnswerTooLarge where all answers together are more than `most_bytes`.
        """
        waiting: queue.SimpleQueue[tuple[int, Path]] = queue.SimpleQueue()
        for number, path in enumerate(files, start=1):
            waiting.put((number, path))
        self._files = len(files)
        working = [
            threading.Thread(target=self._serve, args=(server, waiting, results)) for server in servers
        ]
        for thread in working:
            thread.start()
        for thread in working:
            thread.join()
        if self._errors:
            raise self._errors[0]
        self.written = [results / f"{path.name}.out" for path in files]

    def _serve(self, server: Server, waiting: "queue.SimpleQueue[tuple[int, Path]]", results: Path) -> None:
        try:
            server.await_ready()
            while not self._errors:
                number, path = waiting.get_nowait()
                with self._lock:
                    self._progress(f"scoring file {number} of {self._files}")
                self._file(server, path, results / f"{path.name}.out")
        except queue.Empty:
            return
        except BaseException as error:  # to be raised where the others are waited for
            self._errors.append(error)
        finally:
            server.close()

    def _file(self, server: Server, path: Path, result: Path) -> None:
        headers = {"Content-Type": _CONTENT_TYPE}
        if self.asked.accept:
            headers["Accept"] = self.asked.accept
        with path.open("rb") as source, result.open("wb") as target:
            for batch in batches(source, self.asked.payload_bytes, header=self.asked.header):
                if self._errors:
                    return
                self._batch(server, batch, headers, target)

    def _batch(self, server: Server, batch: Batch, headers: dict[str, str], target: BinaryIO) -> None:
        place = target.tell()
        for pause in (*PAUSES, None):
            try:
                written = server.invoke(batch.body, headers, target, self._left)
                break
            except (Busy, Gone) as error:
                if pause is None or server.ended():
                    raise
                if isinstance(error, Busy):
                    server.close()
                target.seek(place)
                target.truncate()
                time.sleep(pause)
        with self._lock:
            self._left -= written
            self.records += batch.records
            if self._left < 0:  # what several servers answered at once
                raise AnswerTooLarge
