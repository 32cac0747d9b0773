"""10M × 1M rows joined to Parquet: CPU seconds of passbox's engine, Sail alone and DuckDB, side by side.

The issue's bound is on the second: at most 1.1 times. Both start cold, their servers included.

    python -m bench.join
"""

import tempfile
from pathlib import Path

from bench import channel
from passbox.backends.catalogs import sniff
from passbox.backends.engines import connect
from passbox.backends.engines.base import TableFiles
from passbox.backends.runtimes.bubblewrap import BubblewrapRuntime

LEFT, RIGHT = 10_000_000, 1_000_000
QUERY = "SELECT a.id, a.amount, a.word, b.score FROM big a JOIN small b ON a.key = b.key WHERE b.score > 0.1"
REPEATS = 3


def prepare(directory: Path) -> dict[str, TableFiles]:
    """Two tables with a key in common: `big` meets every row of `small` ten times."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as parquet

    chance = np.random.default_rng(1)
    big = {
        "id": np.arange(LEFT),
        "key": chance.integers(0, RIGHT, LEFT),
        "amount": chance.random(LEFT),
        "word": pa.array(np.array(["north", "south", "east", "west"])[chance.integers(0, 4, LEFT)]),
    }
    small = {"key": chance.permutation(RIGHT), "score": chance.random(RIGHT)}
    tables = {}
    for name, columns in (("big", big), ("small", small)):
        file = directory / f"{name}.parquet"
        parquet.write_table(pa.table(columns), file)
        tables[name] = TableFiles((file,), "parquet", tuple(sniff.columns([file], "parquet")))
    return tables


def measure(repeats: int = REPEATS) -> dict[str, channel.Cost]:
    """passbox, sail, duckdb → medians."""
    connect.preload()
    with tempfile.TemporaryDirectory(prefix="bench-join-") as name:
        work = Path(name)
        tables = prepare(work)
        runs = channel._runs(QUERY, "parquet", tables, work, BubblewrapRuntime())
        return channel._medians(runs, repeats)


def main() -> None:
    """Prints the figures as a table."""
    figures = measure()
    print(f"{'':22}{'wall s':>9}{'CPU s':>9}{'CPU / Sail':>12}")
    for who, cost in figures.items():
        print(f"{who:22}{cost.wall:9.3f}{cost.cpu:9.3f}{cost.cpu / figures['sail'].cpu:12.2f}")


if __name__ == "__main__":
    main()
