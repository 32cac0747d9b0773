"""Root of the worker process: the only file that names concrete engines, runtimes, catalogs and stores."""

import multiprocessing
import os
import signal
import socket
import sys

from passbox.access.keys import load_key_file
from passbox.backends import choice
from passbox.backends.engines import connect
from passbox.backends.engines.sail import Sail
from passbox.backends.engines.spark import Spark
from passbox.backends.images.store import ImageStore
from passbox.backends.runtimes import linux
from passbox.backends.runtimes.base import Runtime
from passbox.backends.runtimes.bubblewrap import BubblewrapRuntime
from passbox.backends.runtimes.docker import DockerRuntime
from passbox.backends.runtimes.unsafe import UnsafeRuntime
from passbox.jobs import (
    delete_ml_input_channel_data,
    delete_trained_model_output,
    ml_input_channel,
    protected_job,
    protected_query,
    trained_model,
    trained_model_export_job,
    trained_model_inference_job,
)
from passbox.jobs.instances import Instances, read_instances
from passbox.jobs.kind import Kind, Machine, Tools
from passbox.jobs.supervisor import Supervisor
from passbox.manifest import Signer
from passbox.settings import Settings, read_toml
from passbox.state.database import Database

KINDS: dict[str, Kind] = {
    "ml_input_channel": ml_input_channel,
    "protected_query": protected_query,
    "protected_job": protected_job,
    "trained_model": trained_model,
    "trained_model_inference_job": trained_model_inference_job,
    "trained_model_export_job": trained_model_export_job,
    "delete_ml_input_channel_data": delete_ml_input_channel_data,
    "delete_trained_model_output": delete_trained_model_output,
}
MEMORY_SHARE = 0.8  # of the machine's memory, what all jobs together may use


def runtime(settings: Settings) -> Runtime:
    """The sandbox of this machine; without one only where the operator said so."""
    if settings.unsafe_no_sandbox:
        return UnsafeRuntime()
    return DockerRuntime(settings.docker_host) if settings.runtime == "docker" else BubblewrapRuntime()


def instances(settings: Settings) -> Instances:
    """The instance types of this room, with the operator's own from HOME/instances.toml."""
    path = settings.home / "instances.toml"
    return read_instances(read_toml(path), str(path))


def tools(settings: Settings, slots: int) -> Tools:
    """The outside world as jobs reach it."""
    chosen = runtime(settings)
    report = chosen.check()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Tools(
        vault=settings.vault,
        scratch=settings.scratch,
        catalog=choice.catalog(settings),
        objects=choice.objects(settings),
        engine=Spark(settings.spark_remote) if settings.spark_remote else Sail(chosen),
        runtime=chosen,
        images=ImageStore(settings.images),
        isolation=report.isolation,
        signer=Signer(load_key_file(settings.signing_key_file)),
        machine=Machine(int(memory * MEMORY_SHARE / slots), float(os.cpu_count() or 1), report.gpus),
        instances=instances(settings),
    )


def _die_with_parent() -> None:
    if sys.platform == "linux":
        linux.die_with_parent(signal.SIGKILL)


def main(settings: Settings, slots: int) -> None:
    """Works until SIGTERM, or until the service that started it is gone."""
    service = multiprocessing.parent_process()
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stop.append(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for folder in (settings.vault, settings.vault / "staging", settings.scratch):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    supervisor = Supervisor(
        Database(settings.database),
        tools(settings, slots),
        KINDS,
        name=f"{socket.gethostname()}/{os.getpid()}",
        slots=slots,
        prepare=_die_with_parent,
    )
    connect.preload()
    supervisor.run(lambda: bool(stop) or (service is not None and os.getppid() != service.pid))
