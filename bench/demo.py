"""`passbox demo` end to end, and where its seconds go, as a stacked bar in bench/demo.svg.

python -m bench.demo
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from passbox.state import resources
from passbox.state.database import Database

REPEATS = 3
PICTURE = Path(__file__).parent / "demo.svg"


def _run() -> dict[str, float]:
    """Seconds of one run: in all, and each part."""
    with tempfile.TemporaryDirectory(prefix="passbox-bench-") as directory:
        home = Path(directory) / "home"
        command = [str(Path(sys.executable).with_name("passbox")), "demo", "--json", "--home", str(home)]
        told = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
        with Database(home / "passbox.sqlite").read() as tx:
            channels = [row.body["usage"] for row in resources.find(tx, "ml_input_channel")]
            [model] = [row.body["usage"] for row in resources.find(tx, "trained_model")]
            [scoring] = [row.body["usage"] for row in resources.find(tx, "trained_model_inference_job")]
    parts = {
        "engine start (2)": sum(usage["engineStartSeconds"] for usage in channels),
        "queries (2)": sum(usage["querySeconds"] for usage in channels),
        "training": model["seconds"],
        "inference": scoring["seconds"],
    }
    return {
        **parts,
        "everything that is ours": told["seconds"] - sum(parts.values()),
        "total": told["seconds"],
    }


def measure() -> dict[str, float]:
    """Medians of each part over the runs. The containers' seconds include the start of their sandboxes."""
    runs = [_run() for _ in range(REPEATS)]
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def draw(parts: dict[str, float], target: Path = PICTURE) -> None:
    """One stacked bar, seconds to the right."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 1.8))
    left = 0.0
    for name, seconds in parts.items():
        if name == "total":
            continue
        axes.barh([0], [seconds], left=left, label=f"{name} {seconds:.1f} s")
        left += seconds
    axes.set_yticks([])
    axes.set_xlabel(f"seconds (median of {REPEATS} runs of `passbox demo`, total {parts['total']:.1f} s)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.6), ncols=3, frameon=False)
    figure.savefig(target, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    found: dict[str, Any] = measure()
    for name, seconds in found.items():
        print(f"{name:26} {seconds:6.2f} s")
    draw(found)
    print(f"picture: {PICTURE}")


if __name__ == "__main__":
    main()
