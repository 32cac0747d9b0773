"""10M × 1M rows joined to Parquet: CPU seconds of passbox, Sail alone, DuckDB and Spark, side by side.

The bound is on the second: at most 1.1 times. Both start cold, their servers included. Spark is passbox's
other engine, on a `local[2]` as an operator would keep it: its start, and a first small join that compiles
its code, are left out; without Java its line says so.

    python -m bench.join
"""

import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests.lib import spark as real_spark

from bench import channel
from passbox.backends.catalogs import sniff
from passbox.backends.engines import connect
from passbox.backends.engines.base import Resources, TableFiles, Target
from passbox.backends.engines.spark import Spark
from passbox.backends.runtimes.bubblewrap import BubblewrapRuntime

LEFT, RIGHT = 10_000_000, 1_000_000
QUERY = "SELECT a.id, a.amount, a.word, b.score FROM big a JOIN small b ON a.key = b.key WHERE b.score > 0.1"
WARM_UP = QUERY + " AND a.key < 10000"
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
    """passbox, sail, duckdb, and spark where there is Java → medians."""
    connect.preload()
    with tempfile.TemporaryDirectory(prefix="bench-join-") as name:
        work = Path(name)
        tables = prepare(work)
        runs = channel._runs(QUERY, "parquet", tables, work, BubblewrapRuntime())
        figures = channel._medians(runs, repeats)
        if real_spark.unavailable() is None:
            figures["spark local[2]"] = spark(tables, work, repeats)
        return figures


def spark(tables: Mapping[str, TableFiles], work: Path, repeats: int) -> channel.Cost:
    """The median of what passbox on a warm Spark takes: CPU of the client and of Spark's process."""
    with real_spark.process(properties={"spark.driver.memory": "3g"}) as (remote, process):

        def run(query: str) -> channel.Cost:
            approved = channel.plan(query, tables)
            target = Target(channel._fresh(work / "out"), "parquet")
            began, used = time.perf_counter(), time.process_time() + _cpu(process)
            given = {name: tables[name] for name in approved.tables}
            Spark(remote).run(approved, given, [target], Resources(4 << 30, 2.0, 300.0), work)
            return channel.Cost(time.perf_counter() - began, time.process_time() + _cpu(process) - used)

        run(WARM_UP)
        runs = [run(QUERY) for _ in range(repeats)]
    return channel.Cost(statistics.median(r.wall for r in runs), statistics.median(r.cpu for r in runs))


def _cpu(process: int) -> float:
    """Seconds of CPU that a process has used, its threads included."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Prints the figures as a table."""
    figures = measure()
    print(f"{'':22}{'wall s':>9}{'CPU s':>9}{'CPU / Sail':>12}")
    for who, cost in figures.items():
        print(f"{who:22}{cost.wall:9.3f}{cost.cpu:9.3f}{cost.cpu / figures['sail'].cpu:12.2f}")
    if (reason := real_spark.unavailable()) is not None:
        print(f"{'spark local[2]':22}not measured: {reason}")


if __name__ == "__main__":
    main()
