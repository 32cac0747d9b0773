"""A CSV file cut into the requests of a batch transform: whole records, as many as fit. Knows no HTTP.

The header row goes with the first batch of a file and with no other (user guide, inference model guidelines),
unless it is asked for otherwise, because programs are written for all three ways.
A record ends at a line end outside quotes: files are in the form that the engine's writer gives them, where
`"` is doubled inside quotes, so an odd number of quotes in a line means that the record goes on. For records
on one line each, which is what AWS speaks of, this is the same as a split by line.
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from passbox.errors import JobFailed
from passbox.names import CSV_HEADERS


@dataclass(frozen=True)
class Batch:
    """The body of one request, and how many records are in it, the header not counted."""

    body: bytes
    records: int


class Header(enum.Enum):
    """Which batches begin with the header row of the file: the first one of it, every one, or none."""

    FIRST, EVERY, NONE = CSV_HEADERS


def batches(file: BinaryIO, most_bytes: int, header: Header = Header.FIRST) -> Iterator[Batch]:
    """The batches of a file in order; none for a file without records.

    most_bytes: the largest body. JobFailed for a record that is larger by itself, or with the header.
    """
    records = _records(file, most_bytes)
    head = [next(records, b"")]
    packed = [] if header is Header.NONE else [*head]
    again = head if header is Header.EVERY else []
    size, count = sum(map(len, packed)), 0
    for record in records:
        if count and size + len(record) > most_bytes:
            yield Batch(b"".join(packed), count)
            packed, count = [*again], 0
            size = sum(map(len, packed))
        size += len(record)
        if size > most_bytes:
            raise JobFailed(
                "RECORD_TOO_LARGE",
                f"A record of the channel is larger than the {most_bytes} bytes of a request; raise "
                "maxPayloadInMB.",
            )
        packed.append(record)
        count += 1
    if count:
        yield Batch(b"".join(packed), count)


def _records(file: BinaryIO, most_bytes: int) -> Iterator[bytes]:
    """One record after the other; one that is longer than `most_bytes` need not be whole."""
    for line in file:
        parts, size, open_quotes = [line], len(line), line.count(b'"') % 2
        while open_quotes and size <= most_bytes and (more := file.readline()):
            parts.append(more)
            size += len(more)
            open_quotes ^= more.count(b'"') % 2
        yield b"".join(parts)
