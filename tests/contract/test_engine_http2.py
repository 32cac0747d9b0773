"""The engine's client against a server that lies: every lie ends in a Failure, none in a wait or a crash."""

import contextlib
import socket
import struct
import threading

import grpc
import pytest

from passbox.backends.engines import http2
from passbox.backends.engines.http2 import Channel, Failure

OK = b"\x00\x0bgrpc-status\x010"
HEAD = b"\x88"  # :status 200


def frame(kind, flags, payload=b"", stream=1, length=None):
    size = len(payload) if length is None else length
    return struct.pack(">I", size << 8 | kind) + struct.pack(">BI", flags, stream) + payload


def message(data):
    return struct.pack(">BI", 0, len(data)) + data


def trailers(status, text=""):
    fields = ((b"grpc-status", status), (b"grpc-message", text.encode()))
    return b"".join(b"\x00" + bytes([len(n)]) + n + bytes([len(v)]) + v for n, v in fields)


@pytest.fixture
def ask():
    """Makes one streaming call to a server that sends exactly the given bytes; returns what was answered."""
    open_ends = []

    def call(*sent, request=b"question"):
        ours, theirs = socket.socketpair()
        open_ends.extend((ours, theirs))
        ours.settimeout(5)

        def serve():
            with contextlib.suppress(OSError):  # the client has hung up
                theirs.sendall(b"".join(sent))
                theirs.shutdown(socket.SHUT_WR)
                while theirs.recv(1 << 16):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        channel = Channel(ours)
        try:
            stub = channel.unary_stream("/a/b", bytes, bytes)
            return list(stub(request))
        finally:
            channel.close()
            thread.join()

    yield call
    for end in open_ends:
        end.close()


def test_messages_across_frames_and_within_one(ask):
    data = message(b"one") + message(b"") + message(b"three")
    cut = [data[:2], data[2:9], data[9:]]
    frames = [frame(1, 4, HEAD), *(frame(0, 0, part) for part in cut), frame(1, 5, OK)]
    assert ask(frame(4, 0, b"", 0), *frames) == [b"one", b"", b"three"]


def test_padding_pings_settings_and_unknown_frames(ask):
    frames = [
        frame(4, 0, struct.pack(">HI", 5, 1 << 20), 0),
        frame(6, 0, b"12345678", 0),
        frame(99, 0, b"whatever", 0),
        frame(1, 4, HEAD),
        frame(0, 8, b"\x03" + message(b"padded") + b"\0\0\0"),
        frame(1, 1, OK[:5]),
        frame(9, 4, OK[5:]),
    ]
    assert ask(*frames) == [b"padded"]


def test_a_status_is_told(ask):
    with pytest.raises(Failure) as caught:
        ask(frame(1, 5, HEAD + trailers(b"3", "not%20so")))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "not so"


LIES = {
    "silence": [],
    "half a frame": [b"\0\0"],
    "the end in a frame": [frame(1, 4, HEAD), frame(0, 0, b"abc", length=100)],
    "the end in a message": [frame(1, 4, HEAD), frame(0, 0, struct.pack(">BI", 0, 100) + b"abc")],
    "a message of 4 GiB": [frame(1, 4, HEAD), frame(0, 0, struct.pack(">BI", 0, (1 << 32) - 1))],
    "a compressed message": [frame(1, 4, HEAD), frame(0, 0, b"\x01" + message(b"x")[1:])],
    "data that end without a status": [frame(1, 4, HEAD), frame(0, 1, message(b"x"))],
    "no status": [frame(1, 5, HEAD)],
    "an odd status": [frame(1, 5, trailers(b"999"))],
    "more padding than frame": [frame(1, 4, HEAD), frame(0, 8, b"\xff" + b"x" * 10)],
    "headers that are no HPACK": [frame(1, 4, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")],
    "a header block without end": [frame(1, 0, HEAD), *[frame(9, 0, b"\x00" * (1 << 16))] * 20],
    "a bomb of headers": [frame(1, 4, (b"\x40\x01a\x7f\x81\x1e" + b"b" * 4096) + b"\xbe" * 4000)],
    "a reset": [frame(1, 4, HEAD), frame(3, 0, b"\0\0\0\2")],
    "goodbye": [frame(7, 0, b"\0" * 8, 0)],
    "data of another call": [frame(0, 0, b"x", 3)],
    "a large frame of no kind": [frame(99, 0, b"x", 0, length=(1 << 24) - 1)],
    "an empty window update": [frame(8, 0, b"", 0)],
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_end_in_a_failure(ask, lie):
    with pytest.raises(Failure):
        ask(*LIES[lie])


def test_a_large_question_waits_for_the_servers_window(ask):
    grow = struct.pack(">I", 200_000)
    frames = [frame(8, 0, grow, 0), frame(8, 0, grow, 1), frame(1, 4, HEAD), frame(1, 5, OK)]
    assert ask(frame(4, 0, b"", 0), *frames, request=b"q" * 200_000) == []


def windows(data):
    """The frames that a client has sent, as (stream, increment) of its window updates."""
    found, at = [], len(http2.PREFACE)
    while at < len(data):
        length = int.from_bytes(data[at : at + 3], "big")
        if data[at + 3] == http2.WINDOW_UPDATE:
            found.append(struct.unpack_from(">II", data, at + 5))
        at += 9 + length
    return found


def test_each_window_is_given_back_as_much_as_came_through_it(monkeypatch):
    """A second call's stream has seen nothing of the first's data: to give that back as well would open its
    window beyond 2^31 - 1, which servers answer with the end of the connection.
    """
    monkeypatch.setattr(http2, "REFILL", 3000)
    ours, theirs = socket.socketpair()
    with theirs:
        ours.settimeout(5)
        theirs.settimeout(5)
        channel, body = Channel(ours), message(b"x" * 995)  # 1000 bytes on each stream and message
        for stream, count in ((1, 2), (3, 2), (5, 4)):
            parts = [frame(1, 4, HEAD, stream), *[frame(0, 0, body, stream)] * count]
            theirs.sendall(b"".join([*parts, frame(1, 5, OK, stream)]))
            assert len(list(channel.unary_stream("/a/b", bytes, bytes)(b"q"))) == count
        channel.close()
        sent = b"".join(iter(lambda: theirs.recv(1 << 16), b""))
    opening = (0, http2.WINDOW - http2.DEFAULT_WINDOW)
    assert windows(sent) == [opening, (0, 3000), (3, 1000), (0, 3000), (5, 2000)]


def test_what_uploads_is_not_there():
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(Failure):
        Channel(ours).stream_unary("/x")(iter(()))


def test_limits_are_what_they_say():
    assert http2.HEADERS_LIMIT < http2.MESSAGE_LIMIT < 1 << 32
