"""What an engine makes of typed parameters: the values of `spec/parameters.md`, and comparisons by type."""

import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from lib.engine import Exam
from lib.parameters import Compared, compared, given
from passbox.analysis import parameters
from passbox.backends.runtimes.base import Isolation
from passbox.backends.runtimes.bubblewrap import BubblewrapRuntime

PEOPLE = pa.table(
    {
        "id": pa.array([1], pa.int64()),
        "word": ["Ada"],
        "owed": pa.array([Decimal("1.10")], pa.decimal128(10, 2)),
        "share": [0.1],
        "good": [True],
        "day": [dt.date(2013, 6, 1)],
        "seen": pa.array([dt.datetime(2013, 6, 1, 12, tzinfo=dt.UTC)], pa.timestamp("us", "UTC")),
    }
)
ARROW = {
    "tinyint": pa.int8(), "smallint": pa.int16(), "int": pa.int32(), "bigint": pa.int64(),
    "float": pa.float32(), "double": pa.float64(), "boolean": pa.bool_(), "string": pa.string(),
    "binary": pa.binary(), "date": pa.date32(), "timestamp": pa.timestamp("us", "UTC"),
    "timestamp_ntz": pa.timestamp("us"),
}  # fmt: skip


@pytest.fixture(scope="module")
def exam(tmp_path_factory: pytest.TempPathFactory) -> Exam:
    runtime = BubblewrapRuntime()
    if runtime.check().isolation is Isolation.NONE:
        pytest.skip("this machine cannot seal")
    made = Exam(runtime, tmp_path_factory.mktemp("exam"))
    made.parquet("people", PEOPLE)
    return made


def test_the_very_values_with_their_types(exam: Exam) -> None:
    rows = {f"p{number}": row for number, row in enumerate(given()) if row.bound is not None}
    bound = {name: row.parameter for name, row in rows.items()}
    outputs = ", ".join(f":{name} AS {name}" for name in bound)
    _, (file,) = exam.run(exam.approved(f"SELECT {outputs} FROM people", **bound))
    table = parquet.read_table(file)
    [found] = table.to_pylist()
    for name, row in rows.items():
        kind, value = row.bound
        assert found[name] == value, row
        type = table.schema.field(name).type
        if kind.startswith("decimal"):
            assert str(type).replace("128", "").replace(" ", "") == kind
        else:
            assert type == ARROW[kind], row


def test_comparisons_go_by_type(exam: Exam) -> None:
    rows = compared()
    names = {f"p{number}": row for number, row in enumerate(rows)}
    bound = {name: parameters.value(name, row.type, row.text) for name, row in names.items()}
    outputs = ", ".join(f"{_condition(row, name)} AS {name}" for name, row in names.items())
    [found] = exam.rows(f"SELECT {outputs} FROM people", **bound)
    assert found == {name: row.holds for name, row in names.items()}


def test_a_limit_may_be_a_parameter(exam: Exam) -> None:
    for text, rows in (("0", []), ("1", [{"id": 1}])):
        limit = parameters.value("p", "INT", text)
        assert exam.rows("SELECT id FROM people LIMIT :p", p=limit) == rows


def _condition(row: Compared, name: str) -> str:
    return f"({row.condition.replace(':p', f':{name}')})"
