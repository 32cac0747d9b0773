"""The exam of engines: Spark's answers, under the seal, and nothing left behind."""

import contextlib
import datetime as dt
import json
import os
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from lib.engine import Exam, Marked
from lib.runtime import poll, processes_with
from passbox.backends.engines.base import Resources, Target
from passbox.backends.engines.sail import Sail
from passbox.backends.runtimes.base import Isolation
from passbox.backends.runtimes.bubblewrap import BubblewrapRuntime
from passbox.backends.runtimes.unsafe import UnsafeRuntime
from passbox.errors import JobFailed

UTC = dt.UTC
NOON = dt.datetime(2013, 6, 1, 12, 0, 0, 250_000, UTC)
PEOPLE = pa.table(
    {
        "id": pa.array([1, 2, 3], pa.int64()),
        "Name": ["Ada", 'O\'Hara, "Bo"', None],
        "seen": pa.array([NOON, None, NOON + dt.timedelta(days=1)], pa.timestamp("ms", "UTC")),
        "owed": pa.array([Decimal("1.10"), Decimal("-2.25"), None], pa.decimal128(10, 2)),
        "secret": ["s1", "s2", "s3"],
    }
)
ORDERS = (
    "Person,amount,placed,paid\n1,1.5,2013-06-01 12:00:00,true\n1,2,2013-06-01T12:00:00+02:00,false\n2,,,\n"
)


@pytest.fixture(scope="module")
def sealed():
    runtime = BubblewrapRuntime()
    if runtime.check().isolation is Isolation.NONE:
        pytest.skip("this machine cannot seal")
    return runtime


@pytest.fixture
def exam(sealed, tmp_path):
    made = Exam(sealed, tmp_path)
    made.parquet("people", PEOPLE)
    made.csv("my-orders", ORDERS)
    return made


@pytest.fixture
def nothing_left(exam):
    yield
    assert all(sandbox.wait(0) is not None for sandbox in exam.runtime.started)
    for _ in poll("a process of the engine is left"):
        if not processes_with(exam.runtime.mark):
            return


def failure(exam, plan, **resources) -> JobFailed:
    with pytest.raises(JobFailed) as caught:
        exam.run(plan, **resources)
    return caught.value


def test_types_and_nulls_of_parquet(exam, nothing_left):
    rows = exam.rows("SELECT id, name, seen, owed, owed * 2 AS twice FROM people ORDER BY id")
    assert rows[0] == {
        "id": 1,
        "name": "Ada",
        "seen": NOON,
        "owed": Decimal("1.10"),
        "twice": Decimal("2.20"),
    }
    assert rows[1]["name"] == 'O\'Hara, "Bo"'
    assert rows[1]["seen"] is None
    assert rows[2] == {
        "id": 3,
        "name": None,
        "seen": NOON + dt.timedelta(days=1),
        "owed": None,
        "twice": None,
    }
    assert exam.said[0] == "starting the query engine"


def test_types_and_nulls_of_csv_and_a_join(exam):
    rows = exam.rows(
        "SELECT p.id, o.amount, o.placed, o.paid FROM people p JOIN `my-orders` o ON p.id = o.person "
        "ORDER BY p.id, o.placed"
    )
    ten = dt.datetime(2013, 6, 1, 10, tzinfo=UTC)
    assert rows == [
        {"id": 1, "amount": 2.0, "placed": ten, "paid": False},
        {"id": 1, "amount": 1.5, "placed": ten + dt.timedelta(hours=2), "paid": True},
        {"id": 2, "amount": None, "placed": None, "paid": None},
    ]


def test_declared_types_win_over_those_of_the_files(exam):
    exam.parquet("years", pa.table({"y": ["1999", "2001"]}), columns={"y": "int"})
    assert exam.rows("SELECT max(y) + 1 AS next FROM years") == [{"next": 2002}]


def test_several_files_are_one_table(exam):
    exam.parquet("parts", pa.table({"n": [1, 2]}), pa.table({"n": [3]}))
    assert exam.rows("SELECT count(*) AS many, sum(n) AS total FROM parts") == [{"many": 3, "total": 6}]
    # each operator is guarded against overflow, which nests three levels
    assert exam.rows(f"SELECT {' + '.join(['n'] * 12)} AS x FROM parts WHERE n = 1") == [{"x": 12}]


def test_csv_output_counts_and_times(exam):
    written, files = exam.run(exam.approved("SELECT id, name, seen FROM people ORDER BY id"), "csv")
    text = files[0].read_text()
    assert text == (
        '"id","name","seen"\n1,"Ada","2013-06-01T12:00:00.250000Z"\n2,"O\'Hara, ""Bo""",\n'
        '3,,"2013-06-02T12:00:00.250000Z"\n'
    )
    assert [file.name for file in files] == ["part-00000.csv"]
    assert (written.rows, written.files, written.bytes) == (3, 1, len(text))
    assert written.cpu_seconds is None or written.cpu_seconds > 0


def test_an_empty_answer_is_one_file_with_its_schema(exam):
    assert exam.text("SELECT id, name FROM people WHERE id > 9") == '"id","name"\n'
    _, (file,) = exam.run(exam.approved("SELECT id, owed FROM people WHERE id > 9"))
    assert str(parquet.read_schema(file).field("owed").type) == "decimal128(10, 2)"


def test_parameters_are_bound_never_spliced(exam):
    for value in ("it's", "x' OR 1=1 --", "\\", ":p", "`id`"):
        rows = exam.rows("SELECT count(*) AS n, max(:p) AS p FROM people WHERE name = :p OR id = 1", p=value)
        assert rows == [{"n": 1, "p": value}]


def test_only_the_columns_of_the_plan_are_there(exam, nothing_left):
    plan = exam.hostile("SELECT secret FROM people", {"people": ("id", "name")})
    assert failure(exam, plan).code == "MALFORMED_QUERY"
    plan = exam.hostile("SELECT * FROM people", {"people": ("id",)})
    _, (file,) = exam.run(plan)
    assert parquet.read_schema(file).names == ["id"]


@pytest.mark.parametrize("where", ["/etc/hostname", "people", "/proc/1/environ"])
def test_what_the_plan_does_not_name_cannot_be_read(exam, where):
    path = str(exam.tables["people"].files[0]) if where == "people" else where
    reader = "parquet" if where == "people" else "text"
    plan = exam.hostile(f"SELECT * FROM {reader}.`{path}`", {"my-orders": ("person",)})
    # Sail answers a path that is not there with no rows, and one that it may not open with an error.
    with contextlib.suppress(JobFailed):
        written, files = exam.run(plan)
        assert written.rows == 0 or Path("/etc/hostname").read_text().encode() not in files[0].read_bytes()


def test_the_sandbox_is_given_the_files_of_the_plan_alone(exam):
    exam.rows("SELECT count(*) AS n FROM people")
    (spec,) = exam.runtime.specs
    assert [mount.source for mount in spec.mounts] == list(exam.tables["people"].files)
    assert not any(name.startswith(("AWS", "PASSBOX", "PATH")) for name in spec.environment)
    assert spec.outputs == ()


def test_one_run_writes_into_every_target(exam, tmp_path):
    folders = {"csv": tmp_path / "text", "parquet": tmp_path / "binary", "scratch": tmp_path / "scratch"}
    for folder in folders.values():
        folder.mkdir()
    targets = [Target(folders[format], format, single_file=True) for format in ("csv", "parquet")]
    tables = {"people": exam.tables["people"]}
    given = Resources(1 << 30, 2.0, 60.0)
    plan = exam.approved("SELECT id FROM people")
    written = Sail(exam.runtime).run(plan, tables, targets, given, folders["scratch"])
    assert (written.rows, written.files) == (3, 2)
    assert len(exam.runtime.started) == 1
    (text,), (binary,) = (list(folders[format].iterdir()) for format in ("csv", "parquet"))
    assert sorted(text.read_text().split()) == ['"id"', "1", "2", "3"]
    assert sorted(parquet.read_table(binary)["id"].to_pylist()) == [1, 2, 3]
    nested = exam.approved("SELECT array(id) AS a FROM people")
    with pytest.raises(JobFailed, match="CSV cannot hold"):
        Sail(exam.runtime).run(nested, tables, targets, given, folders["scratch"])


def test_files_must_be_those_of_the_plan(exam, tmp_path):
    plan = exam.approved("SELECT id FROM people")
    with pytest.raises(ValueError, match="not those"):
        Sail(exam.runtime).run(plan, exam.tables, [Target(tmp_path, "csv")], None, tmp_path)


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT nosuch(id) AS x FROM people", "unknown function: nosuch"),
        ("SELEC 1", "found SELEC"),
        ("SELECT id, id AS ID FROM people", "more than one column named"),
        ("SELECT array(id) AS a FROM people", "CSV cannot hold"),
    ],
)
def test_a_malformed_query_is_told_why(exam, nothing_left, sql, said):
    with pytest.raises(JobFailed, match=said) as caught:
        exam.run(exam.hostile(sql, {"people": ("id",)}), "csv")
    assert caught.value.code == "MALFORMED_QUERY"


def test_a_failure_on_values_tells_no_value(exam, nothing_left):
    columns = {"people": ("id", "name", "secret")}
    for sql in ("SELECT cast(secret AS int) AS x FROM people", "SELECT 1 / (id - 1) AS x FROM people"):
        error = failure(exam, exam.hostile(sql, columns))
        assert error.code == "MALFORMED_QUERY"
        assert "s1" not in error.message
    exam.csv("bad", "n\n1\nJohn\n", columns={"n": "int"})
    error = failure(exam, exam.hostile("SELECT n FROM bad", {"bad": ("n",)}))
    assert (error.code, "John" in error.message) == ("INVALID_RESOURCE", False)


JOIN = "SELECT sum(a.id + b.id) AS c FROM range(30000000) a JOIN range(30000000) b ON a.id = b.id"


def test_a_full_memory_pool_is_insufficient_compute(exam, nothing_left):
    error = failure(exam, exam.hostile(JOIN, {}), memory_bytes=320 << 20)
    assert error.code == "INSUFFICIENT_COMPUTE"
    assert "320 MiB" in error.message


def test_an_out_of_memory_kill_is_insufficient_compute(exam, nothing_left):
    exam.runtime.environment["SAIL_RUNTIME__MEMORY_POOL__TYPE"] = "unbounded"
    error = failure(exam, exam.hostile(JOIN, {}), memory_bytes=320 << 20)
    assert error.code == "INSUFFICIENT_COMPUTE"
    assert "320 MiB" in error.message


FOREVER = "SELECT count(*) AS c FROM range(3000000) a, range(3000000) b WHERE a.id * b.id % 7 = 3"


def test_time_is_limited(exam, nothing_left):
    error = failure(exam, exam.hostile(FOREVER, {}), seconds=1.5)
    assert error.code == "TIMED_OUT"
    assert "1.5 s" in error.message


CHILD = """
import json, os, sys
sys.path[:0] = json.loads(sys.argv[1])
from pathlib import Path
from lib.engine import Exam
from passbox.backends.engines import connect
from passbox.backends.runtimes.bubblewrap import BubblewrapRuntime
connect.preload()
child = os.fork()  # as the worker does: the client is imported before the fork
if child:
    os.waitpid(child, 0)
    os._exit(0)
print(os.getpid(), flush=True)
exam = Exam(BubblewrapRuntime(), Path(sys.argv[2]))
exam.runtime.mark = sys.argv[3]
exam.said = type("Said", (), {"append": lambda self, text: print(text, flush=True)})()
exam.run(exam.hostile(sys.argv[4], {}))
"""


def test_killing_the_caller_ends_the_engine(sealed, tmp_path):
    mark = Marked(sealed).mark
    command = [sys.executable, "-c", CHILD, json.dumps(sys.path), str(tmp_path), mark, FOREVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as caller:
        child = int(caller.stdout.readline())
        assert caller.stdout.readline() == "starting the query engine\n"
        assert caller.stdout.readline() == "running the query\n"
        assert processes_with(mark)
        os.kill(child, signal.SIGKILL)
        for _ in poll("the engine outlived its caller", seconds=2):
            if not [process for process in processes_with(mark) if process != caller.pid]:
                break


def test_without_a_seal_it_runs_too(tmp_path):
    exam = Exam(UnsafeRuntime(), tmp_path)
    exam.csv("my-orders", ORDERS)
    assert exam.rows("SELECT count(*) AS n FROM `my-orders`") == [{"n": 3}]
