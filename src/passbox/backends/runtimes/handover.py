"""A connection into a sandbox's own network, handed out as an open descriptor.

Knows network namespaces and SCM_RIGHTS; must not know what listens there. A forked child of the shepherd
enters the namespace, connects to the sandbox's loopback and passes the connected socket over the control
channel; nothing else of the host ever has a way in, and the sandbox has none out.
"""

import json
import os
import socket

from passbox.backends.runtimes import linux


def serve_connection(network: int, port: int, timeout: float, control: socket.socket) -> None:
    """In a forked child: connects to 127.0.0.1:`port` inside and sends the answer. Never returns."""
    try:
        linux.setns(network, linux.CLONE_NEWNET)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream:
            stream.settimeout(timeout)
            stream.connect(("127.0.0.1", port))
            stream.settimeout(None)
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            socket.send_fds(control, [b"{}"], [stream.fileno()])
    except OSError as error:
        refused = isinstance(error, ConnectionRefusedError)
        answer = {"refused": refused, "late": isinstance(error, TimeoutError), "message": str(error)}
        control.send(json.dumps(answer).encode())
    finally:
        os._exit(0)


def receive_connection(control: socket.socket, port: int) -> socket.socket:
    """In the service: the socket, or the error that the helper met."""
    data, descriptors, _, _ = socket.recv_fds(control, 4096, 1)
    if not data:
        raise RuntimeError("the sandbox has ended")
    if descriptors:
        return socket.socket(fileno=descriptors[0])
    answer = json.loads(data)
    if answer.get("refused"):
        raise ConnectionRefusedError(f"nothing listens on port {port} of the sandbox")
    if answer.get("late"):
        raise TimeoutError(f"port {port} of the sandbox does not answer")
    raise RuntimeError(f"no connection into the sandbox: {answer.get('message')}")
