"""A script's limits, each really broken: memory, time, size of its results; and what it says of itself."""

import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from passbox.backends.engines import script as program
from passbox.backends.runtimes.base import Isolation
from passbox.backends.runtimes.bubblewrap import BubblewrapRuntime
from passbox.errors import JobFailed
from passbox.jobs import script
from passbox.jobs.kind import Machine, Workspace

MEMORY = 1 << 30


@pytest.fixture(scope="module")
def runtime() -> BubblewrapRuntime:
    made = BubblewrapRuntime()
    if made.check().isolation is not Isolation.SEALED:
        pytest.skip("this machine cannot limit memory")
    return made


def ran(runtime: BubblewrapRuntime, place: Path, body: str, seconds: float = 60.0) -> script.Ran:
    """What a script with this body, which may use `spark`, leaves."""
    workspace = Workspace(place, lambda _line: None)
    job = workspace.directory("job")
    head = "def entrypoint(context):\n    spark = context['sparkSession']\n"
    (job / program.SCRIPT).write_text(head + textwrap.indent(textwrap.dedent(body), "    "))
    script.order(job, "analysis.py", [], None)
    tools: Any = SimpleNamespace(runtime=runtime, machine=Machine(MEMORY, 2.0))
    return script.run(job, seconds, False, workspace, tools)


def refusal(runtime: BubblewrapRuntime, place: Path, body: str, seconds: float = 60.0) -> JobFailed:
    with pytest.raises(JobFailed) as caught:
        ran(runtime, place, body, seconds)
    return caught.value


def test_what_it_writes_and_counts(runtime: BubblewrapRuntime, tmp_path: Path) -> None:
    found = ran(runtime, tmp_path, "return {'results': {'n': spark.range(1000)}}")
    assert (list(found.results), found.rows) == (["n/part-00000.parquet"], 1000)


def test_memory(runtime: BubblewrapRuntime, tmp_path: Path) -> None:
    told = refusal(runtime, tmp_path, "held = b'x' * (3 << 30)")
    assert told.code == "INSUFFICIENT_COMPUTE"
    assert "memory" in told.message


def test_time(runtime: BubblewrapRuntime, tmp_path: Path) -> None:
    told = refusal(runtime, tmp_path, "import time\ntime.sleep(600)", seconds=4.0)
    assert (told.code, told.message) == (
        "INSUFFICIENT_COMPUTE",
        "The script ran longer than the 4 s it was given.",
    )


def test_results_that_are_too_large(runtime: BubblewrapRuntime, tmp_path: Path) -> None:
    body = """
    import os
    with open("/results/large", "wb") as file:
        for _ in range(4096):
            file.write(os.urandom(1 << 20))
    """
    told = refusal(runtime, tmp_path, body)
    # the file system is full: the script sees it, and its exception is its own
    assert told.code == "MALFORMED_SCRIPT"
    held = sum(path.stat().st_size for path in (tmp_path / "results").rglob("*") if path.is_file())
    assert held <= MEMORY // 4


def test_a_count_that_is_a_lie(runtime: BubblewrapRuntime, tmp_path: Path) -> None:
    body = """
    import os
    os.mkdir("/results/n")
    open("/results/n/part-00000.parquet", "wb").write(b"PAR1")
    open("/report/rows.json", "w").write('{"n": "many", "m": -1, "k": 1e300}')
    os._exit(0)
    """
    found = ran(runtime, tmp_path, body)
    assert list(found.results) == ["n/part-00000.parquet"]
    assert found.rows == 0
