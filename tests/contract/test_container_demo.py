"""The demo's image keeps the contract: it learns what there is, and scores batches without a header."""

import random
from importlib.resources import files
from pathlib import Path

import pytest

from lib.container import URI, Room, log
from passbox.backends.runtimes.base import Isolation
from passbox.backends.runtimes.bubblewrap import BubblewrapRuntime
from passbox.disclosure import metrics
from passbox.jobs.transform import Asked

pytest.importorskip("sklearn")
DEFINITIONS = [{"name": name, "regex": f"^{name}=([0-9.]+)"} for name in ("rows", "auc", "accuracy")]


def flights(number, seed):
    """Rows whose label follows from the delay and the carrier, with missing values and a quoted text."""
    chance = random.Random(seed)
    lines = ["carrier,origin,distance,dep_delay,late"]
    for _ in range(number):
        carrier, delay = chance.choice(['"AA"', '"B6"', '"U,S"']), chance.gauss(10, 20)
        late = int(delay + (15 if carrier == '"B6"' else 0) > 30)
        distance = chance.choice(["", "500", "1400"])
        lines.append(f'{carrier},"JFK",{distance},{delay:.1f},{late}')
    return "\n".join(lines) + "\n"


@pytest.fixture
def room(tmp_path):
    runtime = BubblewrapRuntime()
    if runtime.check().isolation is Isolation.NONE:
        pytest.skip("this machine cannot seal")
    made = Room(tmp_path, runtime)
    yield made
    made.close()


def test_train_and_serve(room):
    room.images.add(URI, Path(str(files("passbox.demo") / "image")))
    rows = {"part-00000.csv": flights(1500, 1), "part-00001.csv": flights(1500, 2)}
    row = room.training({"train": room.channel("learn", rows)})
    result = room.run(row)
    assert result.failure is None, log(result)
    found, _ = metrics.collect(log(result).encode(), DEFINITIONS)
    measured = {metric.name: metric.value for metric in found}
    assert measured["rows"] == 3000
    assert measured["auc"] > 0.95
    assert measured["accuracy"] > 0.9
    room.keep(row, result)
    scored = flights(600, 3)
    channel = room.channel("score", {"part-00000.csv": scored, "part-00001.csv": scored})
    job = room.inference(row, channel)
    whole, cut = room.run(job), room.run(job, asked=Asked(2000, None))
    assert whole.failure is None, log(whole)
    assert cut.failure is None, log(cut)
    for name, path in whole.deliveries[0].files.items():
        chances = [float(line) for line in path.read_text().splitlines()]
        truth = [line.endswith(",1") for line in scored.splitlines()[1:]]
        assert sum((chance > 0.5) == late for chance, late in zip(chances, truth, strict=True)) > 560
        assert cut.deliveries[0].files[name].read_text() == path.read_text()


def test_it_says_what_is_wrong(room):
    room.images.add(URI, Path(str(files("passbox.demo") / "image")))
    channel = room.channel("learn", {"part-00000.csv": flights(100, 1)})
    row = room.training({"train": channel}, hyperparameters={"label": "gone"})
    result = room.run(row)
    assert result.failure[0] == "AlgorithmError"
    assert "the channel has no column gone" in log(result)
