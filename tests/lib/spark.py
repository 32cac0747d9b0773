"""A real Spark Connect server, for those tests that want Spark itself: the same release as our client.

Spark comes from PyPI as `pyspark`, 500 MB and its jars, into a directory of its own under .cache/, once; it
wants the machine's Java. Nothing of it is imported: our interpreter has `pyspark-client`, and the two would
be one package. The server listens on loopback, and ends with the `with`.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

_CACHE = Path(__file__).parents[2] / ".cache"
_START_SECONDS = 120.0


def unavailable() -> str | None:
    """Why Spark cannot be had here, or None."""
    return None if shutil.which("java") else "Spark needs Java, and there is none on the PATH"


def home() -> Path:
    """SPARK_HOME of the release that our client is of; several test processes may ask at once."""
    release = version("pyspark-client")
    place = _CACHE / f"pyspark-{release}"
    _CACHE.mkdir(exist_ok=True)
    with (_CACHE / "pyspark.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / ".installed").exists():
            shutil.rmtree(place, ignore_errors=True)
            install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(place)]
            done = subprocess.run(
                [*install, f"pyspark=={release}"], capture_output=True, text=True, timeout=900, check=False
            )
            if done.returncode:
                raise RuntimeError(f"pyspark could not be installed:\n{done.stderr}")
            (place / ".installed").touch()
    return place / "pyspark"


@contextlib.contextmanager
def server(cores: int = 2, properties: Mapping[str, str] | None = None) -> Iterator[str]:
    """The `sc://…` of a Spark that runs `local[cores]` in a directory of its own."""
    with process(cores, properties) as (remote, _):
        yield remote


@contextlib.contextmanager
def process(cores: int = 2, properties: Mapping[str, str] | None = None) -> Iterator[tuple[str, int]]:
    """The same, with the id of the one process that all of it runs in."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="spark-") as name:
        given = {
            "spark.connect.grpc.binding.address": "127.0.0.1",
            "spark.connect.grpc.binding.port": str(port),
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.ui.enabled": "false",
            "spark.local.dir": name,
            "spark.sql.warehouse.dir": f"{name}/warehouse",
            "spark.sql.shuffle.partitions": str(cores),
            **(properties or {}),
        }
        command = [str(home() / "bin" / "spark-submit"), "--master", f"local[{cores}]"]
        command += [word for item in given.items() for word in ("--conf", "=".join(item))]
        command += ["--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "spark-internal"]
        environment = {**os.environ, "SPARK_HOME": str(home()), "TZ": "Etc/UTC", "SPARK_NO_DAEMONIZE": "1"}
        environment.pop("SPARK_REMOTE", None)
        with (Path(name) / "log").open("wb") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=name, env=environment, start_new_session=True
            )
        try:
            _await(process, port, Path(name) / "log")
            yield f"sc://127.0.0.1:{port}", process.pid
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _await(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.1)
    raise RuntimeError(f"Spark did not start:\n{log.read_text(errors='replace')[-3000:]}")
