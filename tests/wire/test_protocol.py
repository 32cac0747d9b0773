"""What is written in one turn of the loop leaves in one piece, and before the connection closes."""

import asyncio

from passbox.wire.protocol import _Gathering


class Sent(asyncio.Transport):
    """A transport that keeps what was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.pieces.append(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


def sent(*turns: list[bytes | None]) -> Sent:
    """What was sent when these were written, turn by turn; None closes."""
    transport = Sent()

    async def run() -> None:
        gathering = _Gathering(transport, asyncio.get_running_loop())
        for turn in turns:
            for piece in turn:
                gathering.close() if piece is None else gathering.write(piece)
            await asyncio.sleep(0)
        assert gathering.is_closing() is transport.closed  # all else is the transport's

    asyncio.run(run())
    return transport


def test_a_head_and_its_body_leave_together_and_another_turn_is_another_piece() -> None:
    assert sent([b"head", b"body"], [b"next"]).pieces == [b"headbody", b"next"]


def test_what_was_written_is_sent_before_the_connection_closes_and_nothing_after() -> None:
    found = sent([b"last", None, b"late"], [b"later"])
    assert found.closed
    assert found.pieces == [b"last"]
