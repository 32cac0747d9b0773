"""`passbox synthesize`: a file in, a file and a report out; nothing is written where something is wrong."""

import errno
import json
import os
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet
import pytest
from click.testing import CliRunner, Result

from passbox.__main__ import cli


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = random.Random(3)
    ages = [draw.randrange(18, 90) for _ in range(2_000)]
    table = pa.table(
        {
            "Age": pa.array(ages, pa.int16()),
            "spent": [age * 2.5 for age in ages],
            "sex": [draw.choice("fm") for _ in ages],
            "zip": pa.array([draw.choice([100, 200, 300]) for _ in ages], pa.int32()),
            "late": [draw.random() < age / 100 for age in ages],
        }
    )
    path = tmp_path_factory.mktemp("data") / "people.parquet"
    parquet.write_table(table, path)
    return path


def run(file: Path, out: Path, *more: str) -> Result:
    # so few rows are judged with much noise
    allowed = ("--max-attack-score", "0.95")
    arguments = ["synthesize", str(file), "--epsilon", "3", "--out", str(out), *allowed, *more]
    return CliRunner().invoke(cli, arguments, catch_exceptions=False)


def test_rows_and_report(file: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "made.parquet", tmp_path / "report.html"
    more = ("--target", "late", "--categorical", "zip", "--report", str(page))
    ran = run(file, out, *more)
    assert ran.exit_code == 0, ran.output
    assert "(3, 1e-09)-differentially private for one row of the input" in ran.stdout
    made, real = parquet.read_table(out), parquet.read_table(file)
    assert made.schema.equals(real.schema)
    assert set(made["zip"].to_pylist()) <= {100, 200, 300, None}
    assert page.read_text().startswith("<!doctype html>")
    assert list(tmp_path.iterdir()) in ([out, page], [page, out])


def test_json_and_csv(file: Path, tmp_path: Path) -> None:
    source, out, report = tmp_path / "in.csv", tmp_path / "out.csv", tmp_path / "report.json"
    arrow_csv.write_csv(parquet.read_table(file), source)
    ran = run(source, out, "--json", "--report", str(report))
    told = json.loads(ran.stdout)
    assert told["privacy"]["private"] is True
    assert told["table"]["rows"] == arrow_csv.read_csv(out).num_rows
    assert json.loads(report.read_text())["privacy"] == told["privacy"]


def test_a_seed_repeats_and_is_said_not_to_be_private(file: Path, tmp_path: Path) -> None:
    made = []
    for name in ("a.csv", "b.csv"):
        ran = run(file, tmp_path / name, "--seed", "7")
        assert "NOT PRIVATE" in ran.stdout
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--target", "nope"], "There is no column nope; there are Age, spent, sex, zip, late."),
        (["--declaration", "{said}"], "The declaration is about a column nope"),
        (["--declaration", "{junk}"], "is not a JSON file"),
        (["--declaration", "{odd}"], "is not of its type int16"),
        (["--epsilon", "0"], "epsilon"),
        (["--epsilon", "nan"], "epsilon"),
        (["--epsilon", "0.0001"], "raise epsilon"),
        (["--delta", "1e-300"], "delta"),
        (["--seed", "-5"], "seed"),
        (["--report", "nowhere/r.html"], "is no directory"),
        (["--report", "{out}"], "must end in .html or .json"),
        (["--declaration", "{list}"], "declaration"),
        (["--declaration", "{number}"], "low"),
        (["--declaration", "{fraction}"], "maximumRows"),
        (["--declaration", "{unknown}"], "no key foo; there are columns, person, dependencies"),
        (["--declaration", "{inner}"], "no key lowest within columns"),
        (["--declaration", "{twice}"], "more than one columnName age"),
        (["--declaration", "{still}"], "Age declares a `step` of 0"),
        (["--declaration", "{again}"], "sex declares one of its `values` more than once"),
        (["--epsilon", "60"], "0.0001<=x<=10"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_written(
    file: Path, tmp_path: Path, more: list[str], words: str
) -> None:
    said: dict[str, Any] = {
        "said": {"columns": [{"columnName": "nope", "low": "1", "high": "2"}]},
        "list": [1],
        "number": {"columns": [{"columnName": "age", "low": 0, "high": 9}]},
        "fraction": {"person": {"columnName": "sex", "maximumRows": 2.5}},
        "unknown": {"foo": 1},
        "inner": {"columns": [{"columnName": "age", "lowest": "0"}]},
        "twice": {"columns": [{"columnName": "age", "low": "0", "high": "9"}] * 2},
        "still": {"columns": [{"columnName": "age", "low": "0", "high": "9", "step": "0"}]},
        "again": {"columns": [{"columnName": "sex", "values": ["f", "m", "f"]}]},
        "odd": {"columns": [{"columnName": "age", "low": "young", "high": "old"}]},
    }
    for name, document in said.items():
        (tmp_path / name).write_text(json.dumps(document))
    (tmp_path / "junk").write_text("{")
    places = {name: str(tmp_path / name) for name in (*said, "junk", "out")}
    ran = run(file, tmp_path / "out.csv", *(one.format(**places) for one in more))
    assert ran.exit_code != 0
    assert words in ran.output
    assert "Traceback" not in ran.output
    assert not (tmp_path / "out.csv").exists()


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "in.parquet").write_text("no parquet")
    ran = run(tmp_path / "in.parquet", tmp_path / "out.csv")
    assert (ran.exit_code, "cannot be read" in ran.output) == (1, True)


def test_names_and_types_that_cannot_be_are_refused_in_a_line(file: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a,b,a,d,e,f\n" + "1,2,3,4,5,6\n" * 2_000)
    ran = run(tmp_path / "in.csv", tmp_path / "out.csv")
    assert (ran.exit_code, "more than one column a" in ran.output) == (1, True)
    table = parquet.read_table(file)
    views = table.set_column(2, "sex", table["sex"].cast(pa.string_view()))
    parquet.write_table(views, tmp_path / "in.parquet")
    ran = run(tmp_path / "in.parquet", tmp_path / "out.csv")
    assert (ran.exit_code, "sex is of type string_view" in ran.output) == (1, True)


@pytest.mark.parametrize("place", ["out", "report"])
def test_a_full_disk_names_the_place_and_leaves_nothing(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    out, report = tmp_path / "out.parquet", tmp_path / "report.json"

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(
        *(("passbox.synthesize.write", full) if place == "out" else (Path, "write_bytes", full))
    )
    more = () if place == "out" else ("--report", str(report))
    ran = run(file, out, *more)
    failed = out if place == "out" else report
    assert (ran.exit_code, f"{failed} was not written: No space left" in ran.output) == (1, True)
    assert "--home" not in ran.output
    assert list(tmp_path.iterdir()) == []


def test_a_seeded_report_claims_no_privacy(file: Path, tmp_path: Path) -> None:
    ran = run(file, tmp_path / "out.csv", "--seed", "7", "--json", "--report", str(tmp_path / "r.json"))
    for told in (json.loads(ran.stdout), json.loads((tmp_path / "r.json").read_text())):
        assert told["privacy"]["private"] is False
        assert told["scores"]["private"] is False
        assert told["scores"]["noisy"] is True
