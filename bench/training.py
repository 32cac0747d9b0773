"""Training and inference sealed, beside the same programs and the same bytes outside.

    python -m bench.training

File: one file read through a channel, by the time that the reading program itself measures. Pipe: the same
file as an epoch, beside `cat FILE | cat`, into room of 64 KiB (as `shutil` copies) and, each on its own line,
by `read(n)` of 8 KiB (Python's own buffer), 256 KiB (pandas' CSV reader) and 1 MiB (Arrow's blocks). Round:
the demo's image learns from 10,000 rows and scores them, by the worker's own code, beside its two scripts run
bare with an HTTP client. Medians of turns; the ratios of a turn share its noise.
"""

import http.client
import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from passbox.backends.images.image import Image
from passbox.backends.images.store import ImageStore
from passbox.backends.runtimes.base import Isolation, Limits, Mount, Root, SandboxSpec
from passbox.backends.runtimes.bubblewrap import BubblewrapRuntime
from passbox.disclosure import sizes
from passbox.jobs import trained_model, trained_model_inference_job
from passbox.jobs.channels import Input
from passbox.jobs.container import Container
from passbox.jobs.instances import Instances
from passbox.jobs.kind import Machine, Tools, Workspace
from passbox.jobs.pipes import Pipes
from passbox.jobs.transform import Asked
from passbox.names import Role

BYTES = 512 << 20
ROWS = 10_000
REPEATS = 5
ROUNDS = 3
READ = """
import sys, time
room = bytearray(1 << 16)  # a cache holds it
began, used, total = time.perf_counter(), time.process_time(), 0
with open(sys.argv[1], "rb", buffering=0) as file:
    while got := file.readinto(room):
        total += got
print(total / (time.perf_counter() - began), time.process_time() - used)
"""
CHUNKS = {"8 KiB": 8 << 10, "256 KiB": 256 << 10, "1 MiB": 1 << 20}
READ_CHUNKS = """
import sys, time
size, total = int(sys.argv[2]), 0
began, used = time.perf_counter(), time.process_time()
with open(sys.argv[1], "rb", buffering=0) as file:
    while got := file.read(size):
        total += len(got)
print(total / (time.perf_counter() - began), time.process_time() - used)
"""
PYTHON = (sys.executable, "-I", "-S", "-c")
ROOT = Root(prefixes=tuple(dict.fromkeys((Path(sys.prefix), Path(sys.base_prefix)))))


def _inside(
    runtime: BubblewrapRuntime, mount: Mount, name: str, log: Path, chunk: int = 0
) -> tuple[float, float]:
    """Bytes a second that a sealed program reads of a file or a pipe, and the CPU seconds that it takes."""
    spec = SandboxSpec(
        arguments=(*PYTHON, READ_CHUNKS if chunk else READ, f"{mount.target}/{name}", str(chunk)),
        root=ROOT,
        limits=Limits(memory_bytes=1 << 30, seconds=120),
        mounts=(mount,),
        log=log,
    )
    ended = runtime.start(spec).wait()
    if ended is None or ended.status != 0:
        raise RuntimeError(f"the reader ended {ended}: {log.read_text()}")
    speed, cpu = map(float, log.read_text().split())
    return speed, cpu


def _outside(path: Path) -> float:
    said = subprocess.run([*PYTHON, READ, str(path)], capture_output=True, check=True, text=True)
    return float(said.stdout.split()[0])


def _cats(path: Path) -> tuple[float, float]:
    command = ["/bin/sh", "-c", f"cat {path} | cat > /dev/null"]
    cost = _timed(lambda: float(subprocess.run(command, check=True).returncode))
    return path.stat().st_size / cost.wall, cost.cpu


def _piped(runtime: BubblewrapRuntime, pipes: Path, path: Path, chunk: int) -> float:
    pipes.mkdir()
    with Pipes(pipes, {"train": [path]}):
        speed, _ = _inside(
            runtime, Mount(pipes, "/opt/ml/input/data"), "train_0", pipes.with_name("log"), chunk
        )
    shutil.rmtree(pipes)
    return speed


def reading(runtime: BubblewrapRuntime, home: Path) -> dict[str, float]:
    """Bytes a second of each way, and the medians of the turns' ratios."""
    channel, pipes = home / "channel", home / "pipes"
    channel.mkdir()
    path = channel / "part-00000"
    with path.open("wb") as file:
        for _ in range(BYTES >> 20):
            file.write(os.urandom(1 << 20))
    turns = []
    for turn in range(REPEATS + 1):
        pipes.mkdir()
        feeding = time.process_time()
        with Pipes(pipes, {"train": [path]}):
            piped, taken = _inside(runtime, Mount(pipes, "/opt/ml/input/data"), "train_0", home / "log")
        feeding = time.process_time() - feeding
        shutil.rmtree(pipes)
        chunked = {name: _piped(runtime, pipes, path, chunk) for name, chunk in CHUNKS.items()}
        filed, _ = _inside(runtime, Mount(channel, "/opt/ml/input/data/train"), path.name, home / "log")
        if turn:  # the first warms up
            cats, cpu = _cats(path)
            turns.append(
                {"outside": _outside(path), "cats": cats, "file": filed, "pipe": piped,
                 "cats' CPU": cpu, "pipe's CPU": feeding + taken, **chunked}
            )  # fmt: skip
    found = {name: statistics.median(one[name] for one in turns) for name in turns[0]}
    found["file / outside"] = statistics.median(one["file"] / one["outside"] for one in turns)
    found["cats' CPU / pipe's"] = statistics.median(one["cats' CPU"] / one["pipe's CPU"] for one in turns)
    for name in CHUNKS:
        found[f"{name} / cats"] = statistics.median(one[name] / one["cats"] for one in turns)
    found["pipe / cats"] = statistics.median(one["pipe"] / one["cats"] for one in turns)
    return found


# -- a round ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """Seconds: wall and CPU, children included."""

    wall: float
    cpu: float


def _timed(work: Callable[[], float]) -> Cost:
    def used() -> float:
        both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(one.ru_utime + one.ru_stime for one in both)

    wall, cpu = time.perf_counter(), used()
    inside = work()
    return Cost(time.perf_counter() - wall, used() - cpu + inside)


def rows(path: Path) -> None:
    """A table whose label follows from two of its columns."""
    import random

    chance = random.Random(7)
    with path.open("w") as file:
        file.write("carrier,distance,dep_delay,hour,late\n")
        for _ in range(ROWS):
            carrier, delay = chance.choice(("AA", "B6", "UA")), chance.gauss(10, 20)
            late = int(delay + (15 if carrier == "B6" else 0) > 30)
            file.write(
                f'"{carrier}",{chance.randint(100, 3000)},{delay:.1f},{chance.randint(0, 23)},{late}\n'
            )


class Round:
    """One training and one inference of the demo's image on one channel."""

    def __init__(self, runtime: BubblewrapRuntime, home: Path) -> None:
        self.home = home
        self.channel = home / "rows"
        self.channel.mkdir()
        rows(self.channel / "part-00000.csv")
        self.folder = Path(str(files("passbox.demo") / "image"))
        self.images = ImageStore(home / "images")
        self.image = self.images.add("registry.local/demo:1", self.folder)
        nothing: Any = None
        self.tools = Tools(
            vault=home, scratch=home, catalog=nothing, objects=nothing, engine=nothing, runtime=runtime,
            images=self.images, isolation=Isolation.SEALED, machine=Machine(4 << 30, 2.0), signer=nothing,
        )  # fmt: skip
        self._number = 0

    def _workspace(self) -> Workspace:
        self._number += 1
        path = self.home / f"work{self._number}"
        path.mkdir()
        return Workspace(path, lambda _: None)

    def _container(self, image: Image) -> Container:
        return Container(image, Instances().give("ml.m5.large", cpus=2.0, memory_bytes=4 << 30), {}, 600.0)

    def sealed(self) -> float:
        """As the worker does it; returns the CPU seconds of what ran inside."""
        training = trained_model.Plan(
            name="late", arn="arn", id="late", container=self._container(self.image),
            arguments=self.image.arguments("train"), hyperparameters={},
            inputs=(Input("train", self.channel, "text/csv"),), file_format="csv", records=ROWS,
            volume_bytes=sizes.GIGABYTE, instances=1, max_artifact_bytes=sizes.GIGABYTE, policies=(),
            metrics=(), noise=None, readers=(),
        )  # fmt: skip
        trained = trained_model.run(training, self._workspace(), self.tools)
        if trained.kept is None:
            raise RuntimeError(f"the training failed: {trained.failure}")
        inference = trained_model_inference_job.Plan(
            id="late", container=self._container(self.image), arguments=self.image.arguments("serve"),
            archive=trained.kept / trained_model.MODEL_FILE, data=self.channel,
            asked=Asked(6 * sizes.MEGABYTE, None), payload_mb=6, max_output_bytes=sizes.GIGABYTE,
            receiver=("", "", Role("", "")), policies=(),
        )  # fmt: skip
        scored = trained_model_inference_job.run(inference, self._workspace(), self.tools)
        if scored.failure is not None:
            raise RuntimeError(f"the inference failed: {scored.failure}")
        inside = [result.fields["usage"].get("cpuSeconds", 0.0) for result in (trained, scored)]
        return float(sum(inside))

    def bare(self) -> float:
        """The two scripts with the same variables and files, and a client of the second."""
        home = self._workspace().path
        places = {name: home / name for name in ("model", "output", "input/config")}
        for place in places.values():
            place.mkdir(parents=True)
        (home / "input/config/hyperparameters.json").write_text("{}")
        variables = {
            "PATH": os.pathsep.join((f"{sys.prefix}/bin", "/usr/bin", "/bin")),
            "HOME": str(home),
            "SM_MODEL_DIR": str(places["model"]),
            "SM_OUTPUT_DATA_DIR": str(places["output"]),
            "SM_INPUT_DIR": str(home / "input"),
            "SM_CHANNEL_TRAIN": str(self.channel),
            "SM_NUM_CPUS": "2",
        }
        subprocess.run([self.folder / "train"], env=variables, check=True, stdout=subprocess.DEVNULL)
        server = subprocess.Popen([self.folder / "serve"], env=variables, stderr=subprocess.DEVNULL)
        try:
            _ask(self.channel / "part-00000.csv", home / "results")
        finally:
            server.send_signal(signal.SIGKILL)
            server.wait()
        return 0.0  # they are children, which are counted already


def _ask(source: Path, target: Path) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", 8080)
    while True:
        try:
            connection.request("GET", "/ping")
            if connection.getresponse().read() is not None:
                break
        except OSError:
            connection.close()
            time.sleep(0.02)
    connection.request("POST", "/invocations", source.read_bytes(), {"Content-Type": "text/csv"})
    target.write_bytes(connection.getresponse().read())
    connection.close()


def rounds(runtime: BubblewrapRuntime, home: Path) -> tuple[Cost, Cost]:
    """Medians of a sealed and of a bare round."""
    one = Round(runtime, home)
    turns = [(_timed(one.sealed), _timed(one.bare)) for _ in range(ROUNDS + 1)][1:]
    sealed, bare = zip(*turns, strict=True)
    return _median(sealed), _median(bare)


def _median(costs: tuple[Cost, ...]) -> Cost:
    return Cost(statistics.median(cost.wall for cost in costs), statistics.median(cost.cpu for cost in costs))


def measure() -> dict[str, Any]:
    """Everything, in one run."""
    runtime = BubblewrapRuntime()
    runtime.check()
    with tempfile.TemporaryDirectory(prefix="bench-training-") as name:
        (Path(name) / "round").mkdir()
        sealed, bare = rounds(runtime, Path(name) / "round")
        return {**reading(runtime, Path(name)), "sealed": vars(sealed), "bare": vars(bare)}


def main() -> None:
    """Prints the figures with their bounds."""
    found = measure()
    sealed, bare = found["sealed"], found["bare"]
    for name in ("outside", "cats", "file", "pipe"):
        print(f"{name:10}{found[name] / 1e9:8.2f} GB/s")
    print(f"File is {found['file / outside']:.0%} of outside (bound 90%)")
    saved = found["cats' CPU / pipe's"]
    print(f"Pipe is {found['pipe / cats']:.1f} x cat | cat by the clock (bound 3), {saved:.1f} x by CPU")
    for name in CHUNKS:
        print(f"  by read({name}): {found[name] / 1e9:.2f} GB/s, {found[f'{name} / cats']:.1f} x")
    wall, cpu = sealed["wall"] / bare["wall"], sealed["cpu"] / bare["cpu"]
    print(f"a round on {ROWS:,} rows: sealed {sealed['wall']:.2f} s, bare {bare['wall']:.2f} s")
    print(f"sealed / bare: {wall:.2f} by the clock, {cpu:.2f} by CPU (bound 1.5)")
    print(json.dumps(found), file=sys.stderr)


if __name__ == "__main__":
    main()
