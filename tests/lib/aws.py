"""Servers that stand in for AWS, on free loopback ports: Glue and IAM by moto, S3 by SeaweedFS, and an STS.

Every role of an account is one access key. moto makes it in that account and so keeps accounts apart;
SeaweedFS knows it with what it may do, and checks every signature; the STS gives it to the room, for the
room's own key alone, and remembers what it was asked. So servers refuse what a role may not do, not tests.
"""

import contextlib
import http.server
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import boto3
from botocore.config import Config

from lib.environments import binaries

REGION = "us-east-1"
ROOM = ("room-key", "room-secret")
ADMIN = ("admin-key", "admin-secret")
_START_SECONDS = 60.0


class NotStarted(Exception):
    """A server did not come up."""


@dataclass
class Stand:
    """The running servers. roles: ARN → its access key; asked: the parameters of every AssumeRole."""

    glue: str
    s3: str
    sts: str
    roles: dict[str, tuple[str, str]]
    asked: list[dict[str, str]] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        """What the room is given: its own key, and where the services are."""
        return {
            "AWS_ACCESS_KEY_ID": ROOM[0],
            "AWS_SECRET_ACCESS_KEY": ROOM[1],
            "AWS_ENDPOINT_URL_GLUE": self.glue,
            "AWS_ENDPOINT_URL_S3": self.s3,
            "AWS_ENDPOINT_URL_STS": self.sts,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def as_role(self, service: str, role: str) -> Any:
        """A client of `glue` or `s3` in a role, past the room."""
        return client(service, {"glue": self.glue, "s3": self.s3}[service], self.roles[role])

    def bucket(self, name: str) -> Any:
        """An administrator's client, once the bucket is there."""
        made = client("s3", self.s3, ADMIN)
        if name not in (one["Name"] for one in made.list_buckets()["Buckets"]):
            made.create_bucket(Bucket=name)
        return made


def client(service: str, endpoint: str, key: tuple[str, str]) -> Any:
    """A stock client with a key of its own."""
    return boto3.session.Session().client(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=key[0],
        aws_secret_access_key=key[1],
        config=Config(retries={"total_max_attempts": 2}, connect_timeout=5, read_timeout=20),
    )


@contextlib.contextmanager
def stand(roles: Mapping[str, Sequence[str]]) -> Iterator[Stand]:
    """All servers. roles: ARN → what its key may do in S3, in SeaweedFS's words, such as `Read:bucket`."""
    with contextlib.ExitStack() as stack:
        glue = stack.enter_context(moto())
        keys = {arn: _key(glue, arn) for arn in roles}
        allowed = {keys[arn]: list(actions) for arn, actions in roles.items()}
        s3 = stack.enter_context(seaweed({**allowed, ADMIN: ["Admin"]}))
        made = Stand(glue, s3, "", keys)
        made.sts = stack.enter_context(_sts(made))
        yield made


@contextlib.contextmanager
def moto() -> Iterator[str]:
    """Glue, IAM and STS; its keys are not checked, and those of an account see that account's resources."""
    port = _free()
    command = [str(binaries("aws") / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    with _process(command, port):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def seaweed(keys: Mapping[tuple[str, str], Sequence[str]]) -> Iterator[str]:
    """S3 that checks its keys. keys: (id, secret) → what it may do"""
    identities = [
        {"name": id, "credentials": [{"accessKey": id, "secretKey": secret}], "actions": list(actions)}
        for (id, secret), actions in keys.items()
    ]
    with tempfile.TemporaryDirectory(prefix="seaweed-") as directory:
        config = Path(directory) / "s3.json"
        config.write_text(json.dumps({"identities": identities}))
        port = _free()
        others = (
            "master.port",
            "volume.port",
            "filer.port",
            "admin.port",
            "s3.port.iceberg",
            "s3.port.lance",
        )
        grpc = tuple(f"{name}.port.grpc" for name in ("s3", "master", "volume", "filer", "admin"))
        command = [
            str(binaries("aws") / "weed"), "mini", f"-dir={directory}", "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1", "-master.telemetry=false", "-admin.ui=false", "-webdav=false",
            f"-s3.port={port}", f"-s3.config={config}", *(f"-{name}={_free()}" for name in (*others, *grpc)),
        ]  # fmt: skip
        with _process(command, port):
            address = f"http://127.0.0.1:{port}"
            _await(lambda: client("s3", address, next(iter(keys))).list_buckets())
            yield address


def _key(endpoint: str, role: str) -> tuple[str, str]:
    """An access key in the role's account."""
    account = role.split(":")[4]
    given = client("sts", endpoint, ROOM).assume_role(
        RoleArn=f"arn:aws:iam::{account}:role/admin", RoleSessionName="tests"
    )["Credentials"]
    iam = boto3.session.Session().client(
        "iam",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
        aws_session_token=given["SessionToken"],
    )
    user = role.rpartition("/")[2]
    iam.create_user(UserName=user)
    key = iam.create_access_key(UserName=user)["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


@contextlib.contextmanager
def _sts(made: Stand) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            asked = {name: value[0] for name, value in parse_qs(body).items()}
            made.asked.append(asked)
            key = made.roles.get(asked["RoleArn"])
            if key is None or f"Credential={ROOM[0]}/" not in self.headers["Authorization"]:
                self._answer(403, "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>")
                return
            expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
            fields = {
                "AccessKeyId": key[0], "SecretAccessKey": key[1], "SessionToken": "", "Expiration": expires,
            }  # fmt: skip
            inner = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items())
            user = f"<AssumedRoleUser><Arn>{asked['RoleArn']}</Arn></AssumedRoleUser>"
            result = f"<AssumeRoleResult><Credentials>{inner}</Credentials>{user}</AssumeRoleResult>"
            self._answer(200, f"<AssumeRoleResponse>{result}</AssumeRoleResponse>")

        def _answer(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@contextlib.contextmanager
def _process(command: list[str], port: int) -> Iterator[None]:
    """A server of ours, until the end of the `with`, once it listens."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={"PATH": os.environ["PATH"]}, start_new_session=True
        )
        try:
            _await(lambda: _connect(process, port))
            yield
        except NotStarted:
            log.seek(0)
            raise NotStarted(f"{command[0]} did not start:\n{log.read()[-4000:].decode()}") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _connect(process: "subprocess.Popen[bytes]", port: int) -> None:
    if process.poll() is not None:
        raise NotStarted
    socket.create_connection(("127.0.0.1", port), 1.0).close()


def _await(works: Any) -> None:
    """Returns once `works()` raises nothing."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            works()
            return
        except NotStarted:
            raise
        except Exception as error:
            if time.monotonic() > deadline:
                raise NotStarted from error
            time.sleep(0.05)
