"""Channels as pipes: NAME_0, NAME_1, … in a directory, one for each time that the program reads the channel.

Knows FIFOs and splice; must not know containers or who reads. The reader may be hostile: one that never opens
a pipe, closes it early, stops reading or opens it again holds up nothing but itself.

The pipe of an epoch carries the files of the channel one behind the other, in order of their names. It is
gone once it was read, so a second look at it is an error instead of a wait without end; the pipe of the next
epoch is there before this one is opened.
"""

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

_PIPE_BYTES = 1 << 20  # what a process without privileges may ask for
_JOIN_SECONDS = 0.02
# In this time a fast reader takes about half of a full pipe. Without it the kernel wakes the feeder for every
# few pages that are read, and the two then spend more time on changing places than on bytes.
_PAUSE_SECONDS = 20e-6


class Pipes:
    """The pipes of one instance, fed while the block lasts. channels: name → its files, in order."""

    def __init__(self, directory: Path, channels: Mapping[str, Sequence[Path]]) -> None:
        self._directory = directory
        self._stopping = False
        self._broken: list[BaseException] = []
        self._feeders = [
            threading.Thread(target=self._feed, args=(name, files), daemon=True)
            for name, files in channels.items()
        ]
        for name in channels:
            self._make(name, 0)

    def __enter__(self) -> "Pipes":
        for feeder in self._feeders:
            feeder.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the feeding. Where a file could not be read, OSError: what was read instead was cut short."""
        self._stopping = True
        held: dict[Path, int] = {}
        for feeder in self._feeders:
            while feeder.is_alive():
                self._let_go(held)
                feeder.join(_JOIN_SECONDS)
        for descriptor in held.values():
            os.close(descriptor)
        for path in self._directory.iterdir():
            if path.is_fifo():  # whoever opens it would wait
                path.unlink()
        if self._broken and error is None:
            raise self._broken[0]

    def _let_go(self, held: dict[Path, int]) -> None:
        """Gives feeders that wait what they wait for: a reader, held because the wait may begin only now, and
        room in the pipe, where somebody outside the job's reach has it open still."""
        for path in self._directory.iterdir():
            if path not in held and path.is_fifo():
                with contextlib.suppress(FileNotFoundError):
                    held[path] = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        for descriptor in held.values():
            with contextlib.suppress(BlockingIOError):
                os.read(descriptor, _PIPE_BYTES)

    def _make(self, name: str, epoch: int) -> Path:
        path = self._directory / f"{name}_{epoch}"
        os.mkfifo(path, 0o644)
        return path

    def _feed(self, name: str, files: Sequence[Path]) -> None:
        path, epoch = self._directory / f"{name}_0", 0
        try:
            while not self._stopping:
                epoch += 1
                following = self._make(name, epoch)
                pipe = os.open(path, os.O_WRONLY | os.O_CLOEXEC)  # waits for a reader
                try:
                    self._pour(pipe, files)
                finally:
                    path.unlink()  # before the end is seen: whoever looks again finds nothing
                    os.close(pipe)
                path = following
        except BaseException as error:
            self._broken.append(error)

    def _pour(self, pipe: int, files: Sequence[Path]) -> None:
        """Moves the files into a pipe, until its reader has gone or the feeding ends."""
        pause = 0.0
        with contextlib.suppress(OSError):  # the user may have many large pipes already
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            pause = _PAUSE_SECONDS
        for path in files:
            with path.open("rb", buffering=0) as source:
                moved = 1
                while moved and not self._stopping:
                    try:
                        moved = os.splice(source.fileno(), pipe, _PIPE_BYTES)
                    except BrokenPipeError:
                        return
                    if pause and moved < _PIPE_BYTES:  # the pipe is full: its reader has enough for longer
                        time.sleep(pause)
