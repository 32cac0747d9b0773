"""`passbox doctor`: what this machine can do, what is missing, and the command that fixes it."""

import importlib.metadata
import importlib.util
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from passbox.backends.runtimes.base import Report
from passbox.errors import Misconfigured
from passbox.jobs.instances import read_instances
from passbox.settings import Settings, read_toml

LEAST_FREE = 5 << 30


@dataclass(frozen=True)
class Finding:
    """One thing looked at. state: `ok`, `degraded` or `missing`."""

    what: str
    state: str
    detail: str
    fix: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Looks at Python, the sandbox, the GPUs, the engine, the disk and the home directory."""
    looked = [_python(), *_sandboxes(settings), _gpus(), _engine(), _instances(settings)]
    return [*looked, _disk(settings), _home(settings)]


def _python() -> Finding:
    return Finding("python", "ok", sys.version.split()[0])


def _sandboxes(settings: Settings) -> list[Finding]:
    """The runtime that was chosen, which must work, and the other one where it does."""
    from passbox.backends.runtimes.bubblewrap import BubblewrapRuntime
    from passbox.backends.runtimes.docker import DockerRuntime

    engine = settings.runtime == "docker"
    found = []
    if Path(settings.docker_host.removeprefix("unix://")).exists() or engine:
        found = _sandbox(DockerRuntime(settings.docker_host).check(), chosen=engine)
    return [*_sandbox(BubblewrapRuntime().check(), chosen=not engine), *found]


def _sandbox(report: Report, chosen: bool) -> list[Finding]:
    lacking = "missing" if chosen else "degraded"
    state = {"sealed": "ok", "degraded": "degraded"}.get(report.isolation.value, lacking)
    use = "" if chosen else " (PASSBOX_RUNTIME chooses another)"
    main = Finding(f"sandbox {report.name}", state, f"{report.version}: {report.isolation.value}{use}")
    return [main, *(Finding(f"  {what}", state, "", fix) for what, fix in report.missing)]


def _gpus() -> Finding:
    from passbox.backends.runtimes.gpus import find_gpus

    found = find_gpus()
    if found.missing:
        return Finding("gpus", "degraded", *found.missing)
    if not found.count:
        return Finding("gpus", "ok", "0: instance types with GPUs are refused")
    names = ", ".join(device.name for device in found.devices)
    return Finding("gpus", "ok", f"{found.count} for jobs ({names})")


def _engine() -> Finding:
    absent = [name for name in ("pysail", "pyspark", "pyarrow") if importlib.util.find_spec(name) is None]
    if absent:
        return Finding("engine sail", "missing", ", ".join(absent), "pip install passbox")
    return Finding("engine sail", "ok", f"pysail {importlib.metadata.version('pysail')}")


def _instances(settings: Settings) -> Finding:
    path = settings.home / "instances.toml"
    try:
        table = read_instances(read_toml(path), str(path))
    except Misconfigured as error:
        return Finding("instances", "missing", error.message, f"mend {path}")
    larger = "refused" if table.refuse else "scaled to it, which the job says"
    return Finding(
        "instances", "ok", f"{len(table.own)} types of the operator's own; larger than the machine: {larger}"
    )


def _disk(settings: Settings) -> Finding:
    place = next(path for path in (settings.home, *settings.home.parents) if path.exists())
    free = shutil.disk_usage(place).free
    detail = f"{free / (1 << 30):.1f} GiB free at {place}"
    if free < LEAST_FREE:
        return Finding("disk", "degraded", detail, "free some space, or give another --home")
    return Finding("disk", "ok", detail)


def _home(settings: Settings) -> Finding:
    if not settings.database.exists():
        fix = f"passbox account create 111111111111 --name NAME --home {settings.home}"
        return Finding("home", "ok", f"{settings.home} is empty", fix)
    for key in (settings.key_file, settings.signing_key_file):
        mode = key.stat().st_mode & 0o777 if key.exists() else None
        if mode is None and key == settings.signing_key_file:
            continue  # made when the service starts
        if mode != 0o600:
            why = f"{key.name} is missing or open to others"
            return Finding("home", "missing", why, f"restore {key}, then: chmod 600 {key}")
    return Finding("home", "ok", str(settings.home))
