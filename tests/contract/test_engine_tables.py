"""The engines' exam on how tables are written: forms of CSV, JSON lines, gzip, partitions in folders."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from lib.engine import Exam
from passbox.analysis.plan import Column
from passbox.backends.engines.base import NO_QUOTE, Form, TableFiles
from passbox.backends.engines.tables import NULL_PARTITION, partition_folder
from passbox.backends.runtimes.base import Isolation
from passbox.backends.runtimes.bubblewrap import BubblewrapRuntime
from passbox.backends.runtimes.unsafe import UnsafeRuntime


@pytest.fixture(params=["sealed", "unsafe"])
def exam(request: pytest.FixtureRequest, tmp_path: Path) -> Exam:
    runtime = BubblewrapRuntime() if request.param == "sealed" else UnsafeRuntime()
    if request.param == "sealed" and runtime.check().isolation is Isolation.NONE:
        pytest.skip("nothing here can seal")
    return Exam(runtime, tmp_path)


def columns(**types: str) -> tuple[Column, ...]:
    return tuple(Column(*item) for item in types.items())


def answer(exam, tmp_path, name, content, types, form):
    """What a query of everything gives of one file."""
    folder = tmp_path / "laid"
    folder.mkdir()
    (folder / name).write_bytes(content)
    format = "json" if ".json" in name else "csv"
    exam.tables["t"] = TableFiles((folder / name,), format, columns(**types), form, folder)
    return [tuple(row.values()) for row in exam.rows(f"SELECT {', '.join(types)} FROM t")]


TWO = {"n": "int", "s": "string"}


def lazy(delimiter: str, header: bool = False, null: str = "\\N") -> Form:
    return Form(delimiter, NO_QUOTE, NO_QUOTE, header, null)


@pytest.mark.parametrize(
    ("name", "content", "types", "form", "expected"),
    [
        ("0.csv", "1|a,\"b\n\\N|\\N\nx|\n", TWO, lazy("|"), [(1, 'a,"b'), (None, None), (None, None)]),
        ("0.csv", "1\x01a\n", TWO, lazy("\x01"), [(1, "a")]),
        ("0.csv", "N|S\n1|it's\n", TWO, lazy("|", True, "it's"), [(1, None)]),
        ("0.csv", "n;s\n1;'a;b\\'c\nd'\n;x\n", TWO, Form(";", "'", "\\"), [(1, "a;b'c\nd"), (None, "x")]),
        ("0.csv", "1,2\n", {"b": "int", "a": "int"}, Form(header=False), [(1, 2)]),
        ("0.csv.gz", "n\n1\n", {"n": "int"}, Form(), [(1,)]),
        ("0.json", '{"n":1,"s":"x"}\n{"s":null,"more":2}\n', TWO, Form(), [(1, "x"), (None, None)]),
        ("0.json.gz", '{"n":1}\n', {"n": "int"}, Form(), [(1,)]),
    ],
)  # fmt: skip
def test_forms(exam, tmp_path, name, content, types, form, expected) -> None:
    raw = gzip.compress(content.encode()) if name.endswith(".gz") else content.encode()
    assert answer(exam, tmp_path, name, raw, types, form) == expected


@pytest.mark.parametrize("format", ["parquet", "csv", "json"])
def test_partition_columns_come_from_folders(exam: Exam, tmp_path: Path, format) -> None:
    folder, files = tmp_path / "laid", []
    values = [("01", "a/b=c%'"), ("2", ".."), (NULL_PARTITION, NULL_PARTITION)]
    for number, (year, place) in enumerate(values):
        below = folder / partition_folder(0, year) / partition_folder(1, place)
        below.mkdir(parents=True)
        files.append(below / f"{number}.{format}")
        if format == "parquet":
            parquet.write_table(pa.table({"N": [number]}), files[-1])
        else:
            files[-1].write_text(f"n\n{number}\n" if format == "csv" else f'{{"n":{number}}}\n')
    exam.tables["t"] = TableFiles(
        tuple(files), format, columns(n="bigint"), Form(), folder, columns(year="int", place="string")
    )
    assert exam.rows("SELECT n, year, place FROM t ORDER BY n") == [
        {"n": 0, "year": 1, "place": "a/b=c%'"},
        {"n": 1, "year": 2, "place": ".."},
        {"n": 2, "year": None, "place": None},
    ]
