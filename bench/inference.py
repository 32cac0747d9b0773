"""Records scored a second through the sealed server, beside the same model called in one process.

Both sides do the same with the same batches: read CSV, predict, write a probability a line. Medians; starting
a server and loading the model are left out of both.

python -m bench.inference

"""

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path

from passbox.backends.images.store import ImageStore
from passbox.backends.runtimes.base import Limits, Mount, SandboxSpec
from passbox.backends.runtimes.bubblewrap import BubblewrapRuntime
from passbox.jobs.serving import Patience, Server
from passbox.jobs.transform import Asked, Transform

TRAINED, SCORED, TURNS = 10_000, 200_000, 5
PAYLOAD = 6_000_000  # bytes of a request, AWS's default
PROGRAM = """
import importlib.machinery, importlib.util, sys, time
folder, path, payload = sys.argv[1], sys.argv[2], int(sys.argv[3])
sys.path[:0] = [folder, sys.argv[4]]
loader = importlib.machinery.SourceFileLoader("serve", folder + "/serve")
spec = importlib.util.spec_from_loader("serve", loader)
serve = importlib.util.module_from_spec(spec)
loader.exec_module(serve)
from passbox.jobs.batches import batches
for _ in range(int(sys.argv[5])):
    begun = time.monotonic()
    with open(path, "rb") as source, open(path + ".out", "wb") as target:
        for batch in batches(source, payload):
            target.write(serve.score(batch.body))
    print(time.monotonic() - begun, flush=True)
"""


def _rows(number: int) -> str:
    chance = random.Random(number)
    lines = ["carrier,origin,distance,dep_delay,wind,late"]
    for _ in range(number):
        carrier, delay = chance.choice(["AA", "B6", "UA", "DL"]), chance.gauss(10, 20)
        late = int(delay + (15 if carrier == "B6" else 0) > 30)
        lines.append(f"{carrier},JFK,{chance.randrange(100, 3000)},{delay:.1f},{chance.random():.3f},{late}")
    return "\n".join(lines) + "\n"


def _train(image: Path, home: Path) -> Path:
    """A model of the demo's, trained bare; the directory that it lies in."""
    for folder in ("input/config", "input/data/train", "model", "output/data"):
        (home / folder).mkdir(parents=True)
    (home / "input/config/hyperparameters.json").write_text(json.dumps({}))
    (home / "input/data/train/part.csv").write_text(_rows(TRAINED))
    places = {"SM_INPUT_DIR": "input", "SM_MODEL_DIR": "model", "SM_OUTPUT_DATA_DIR": "output/data"}
    environment = {"PATH": os.defpath, **{name: str(home / place) for name, place in places.items()}}
    environment["SM_CHANNEL_TRAIN"] = str(home / "input/data/train")
    subprocess.run([sys.executable, str(image / "train")], check=True, env=environment, capture_output=True)
    return home / "model"


def _bare(image: Path, model: Path, file: Path) -> list[float]:
    source = str(Path(__file__).parents[1] / "src")
    command = [sys.executable, "-c", PROGRAM, str(image), str(file), str(PAYLOAD), source, str(TURNS + 1)]
    environment = {"PATH": os.defpath, "SM_MODEL_DIR": str(model)}
    told = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
    return [float(line) for line in told.stdout.split()][1:]


def _sealed(image: Path, model: Path, file: Path, home: Path) -> list[float]:
    store = ImageStore(home / "images")
    found = store.add("registry.example/bench:1", image)
    spec = SandboxSpec(
        arguments=found.arguments("serve"),
        root=found.root,
        limits=Limits(memory_bytes=4 << 30, seconds=600, cpus=float(os.cpu_count() or 1)),
        environment={"HOME": "/tmp", **found.environment, "SM_MODEL_DIR": "/opt/ml/model"},
        mounts=(*found.mounts, Mount(model, "/opt/ml/model")),
        directory=found.directory,
    )
    sandbox = BubblewrapRuntime().start(spec)
    times = []
    try:
        Server(sandbox, Patience()).await_ready()
        for turn in range(TURNS + 1):
            results = home / f"results{turn}"
            results.mkdir()
            begun = time.monotonic()
            Transform(Asked(PAYLOAD, "text/csv"), 1 << 30, lambda _: None).run(
                [file], results, [Server(sandbox, Patience())]
            )
            times.append(time.monotonic() - begun)
            if (results / f"{file.name}.out").read_bytes() != file.with_name(f"{file.name}.out").read_bytes():
                raise RuntimeError("the two sides do not score alike")
    finally:
        sandbox.kill()
    return times[1:]


def main() -> None:
    image = Path(str(files("passbox.demo") / "image"))
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        model = _train(image, home)
        file = home / "scored.csv"
        file.write_text(_rows(SCORED))
        bare = statistics.median(_bare(image, model, file))
        sealed = statistics.median(_sealed(image, model, file, home))
    print(f"in one process {SCORED / bare:,.0f} records/s, through the sealed server {SCORED / sealed:,.0f}")
    print(f"share of the same model in one process: {bare / sealed:.0%} (bound 70 %)")


if __name__ == "__main__":
    main()
