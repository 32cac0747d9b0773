"""The writer: what CSV and Parquet files look like, how they are split, what is refused."""

import csv
import datetime as dt
import os
import stat
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from passbox.backends.engines import writer
from passbox.backends.engines.writer import Options, Parts, fill, write
from passbox.errors import JobFailed

SCHEMA = pa.schema(
    [
        ("n", pa.int64()),
        ("text", pa.string()),
        ("at", pa.timestamp("us", "UTC")),
        ("local", pa.timestamp("us")),
        ("day", pa.date32()),
        ("owed", pa.decimal128(10, 2)),
        ("x", pa.float64()),
        ("ok", pa.bool_()),
    ]
)
ROW = {
    "n": -7,
    "text": "plain",
    "at": dt.datetime(2013, 1, 1, 10, tzinfo=dt.UTC),
    "local": dt.datetime(1, 1, 1, 0, 0, 0, 5),
    "day": dt.date(2020, 2, 29),
    "owed": Decimal("-1.10"),
    "x": 0.1,
    "ok": True,
}


def batch(*rows, schema=SCHEMA):
    return pa.RecordBatch.from_pylist(list(rows), schema=schema)


def text(tmp_path, *batches, schema=SCHEMA, **options):
    write(batches, schema, tmp_path, "csv", Options(**options))
    return "".join(file.read_text() for file in sorted(tmp_path.iterdir()))


def test_csv_of_every_type(tmp_path):
    said = text(tmp_path, batch(ROW, {}), header=False)
    plain = "-7,plain,2013-01-01T10:00:00.000000Z,0001-01-01T00:00:00.000005,2020-02-29,-1.10,0.1,true\n"
    assert said == plain + ",,,,,,,\n"


@pytest.mark.parametrize("awkward", ["", "a,b", 'say "hi"', "two\nlines", "cr\rlf", ",", '"'])
def test_csv_quotes_what_needs_it_and_reads_back(tmp_path, awkward):
    rows = [{**ROW, "text": awkward}, {**ROW, "text": "plain"}, {**ROW, "text": None}]
    text(tmp_path, batch(ROW), batch(*rows), batch(ROW))
    with (tmp_path / "part-00000.csv").open(newline="") as file:
        read = list(csv.reader(file))
    assert read[0] == SCHEMA.names
    assert [row[1] for row in read[1:]] == ["plain", awkward, "plain", "", "plain"]
    assert [row[6] for row in read[1:]] == ["0.1"] * 5
    assert [row[2] for row in read[1:]] == ["2013-01-01T10:00:00.000000Z"] * 5


def test_the_empty_text_is_not_null(tmp_path):
    schema = pa.schema([("a", pa.string()), ("b", pa.int64())])
    assert text(tmp_path, batch({"a": ""}, {"a": None}, schema=schema), schema=schema) == '"a","b"\n"",\n,\n'


@pytest.mark.parametrize("distinct", [2, 1000])
def test_doubles_read_back_equal(tmp_path, distinct):
    values = [0.1 + (n % distinct) * 1e-3 for n in range(1000)] + [1e300, -0.0, 5e-324, 1 / 3]
    schema = pa.schema([("x", pa.float64())])
    said = text(tmp_path, pa.record_batch([pa.array(values)], schema=schema), schema=schema, header=False)
    assert [float(line) for line in said.split()] == values


def test_a_slice_is_judged_by_its_own_text(tmp_path):
    schema = pa.schema([("a", pa.string())])
    whole = batch({"a": "x,y"}, {"a": "b"}, {"a": None}, schema=schema)
    assert text(tmp_path, whole.slice(1), schema=schema, header=False) == "b\n\n"


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_files_are_split_by_size_and_counted(tmp_path, format, monkeypatch):
    monkeypatch.setattr(writer, "ROW_GROUP_BYTES", 1 << 16)
    monkeypatch.setattr(writer, "SLICE_BYTES", 1 << 16)
    schema = pa.schema([("key", pa.string())])
    batches = [
        pa.record_batch([pa.array([os.urandom(16).hex() for _ in range(10_000)])], schema=schema)
        for _ in range(4)
    ]
    counted = write(batches, schema, tmp_path, format, Options(file_bytes=1 << 18))
    files = sorted(tmp_path.iterdir())
    assert counted.rows == 40_000
    assert counted.files == len(files) > 2
    assert counted.bytes == sum(file.stat().st_size for file in files)
    assert [file.name for file in files][:2] == [f"part-00000.{format}", f"part-00001.{format}"]
    assert all(file.stat().st_size < 1 << 19 for file in files)
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o600
    if format == "csv":
        assert all(file.read_text().startswith('"key"\n') for file in files)
        assert sum(len(file.read_text().split()) - 1 for file in files) == 40_000
    else:
        assert pa.concat_tables(map(parquet.read_table, files)) == pa.Table.from_batches(batches)


def test_one_file_when_asked(tmp_path):
    schema = pa.schema([("key", pa.int64())])
    batches = [pa.record_batch([pa.array(range(1000))], schema=schema)] * 20
    assert write(batches, schema, tmp_path, "parquet", Options(file_bytes=None)).files == 1


def test_the_same_rows_go_into_several_results(tmp_path):
    folders = {"csv": tmp_path / "text", "parquet": tmp_path / "binary"}
    for folder in folders.values():
        folder.mkdir()
    results = [Parts(SCHEMA, folder, format, Options()) for format, folder in folders.items()]
    counted = fill((batch(ROW) for _ in range(3)), results)
    files = [path for folder in folders.values() for path in folder.iterdir()]
    assert (counted.rows, counted.files) == (3, len(files)) == (3, 2)
    assert counted.bytes == sum(file.stat().st_size for file in files)
    assert parquet.read_table(folders["parquet"]).num_rows == 3
    assert len((folders["csv"] / "part-00000.csv").read_text().splitlines()) == 4


@pytest.mark.parametrize(("codec", "named"), [("zstd", "ZSTD"), ("snappy", "SNAPPY")])
def test_parquet_gathers_batches_into_row_groups(tmp_path, codec, named):
    write([batch(ROW)] * 50, SCHEMA, tmp_path, "parquet", Options(codec=codec))
    meta = parquet.ParquetFile(tmp_path / "part-00000.parquet").metadata
    assert (meta.num_rows, meta.num_row_groups) == (50, 1)
    assert meta.row_group(0).column(0).compression == named


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_nothing_is_one_file(tmp_path, format):
    counted = write([], SCHEMA, tmp_path, format)
    assert (counted.rows, counted.files) == (0, 1)
    if format == "parquet":
        assert parquet.read_schema(tmp_path / "part-00000.parquet") == SCHEMA


@pytest.mark.parametrize(
    ("format", "kind"),
    [
        ("csv", pa.list_(pa.int64())),
        ("csv", pa.struct([("a", pa.int64())])),
        ("csv", pa.map_(pa.string(), pa.int64())),
        ("csv", pa.binary()),
        ("csv", pa.duration("us")),
        ("parquet", pa.null()),
        ("parquet", pa.month_day_nano_interval()),
        ("parquet", pa.list_(pa.duration("us"))),
    ],
)
def test_types_without_a_form_are_refused_by_name(tmp_path, format, kind):
    with pytest.raises(JobFailed, match="'odd one'") as caught:
        write([], pa.schema([("odd one", kind)]), tmp_path, format)
    assert caught.value.code == "MALFORMED_QUERY"
    assert not list(tmp_path.iterdir())


def test_equal_names_are_refused(tmp_path):
    with pytest.raises(JobFailed, match="more than one column"):
        write([], pa.schema([("a", pa.int64()), ("A", pa.int64())]), tmp_path, "csv")


def test_a_full_directory_is_refused(tmp_path):
    (tmp_path / "part-00000.csv").write_text("mine")
    with pytest.raises(FileExistsError):
        write([batch(ROW)], SCHEMA, tmp_path, "csv")
    assert (tmp_path / "part-00000.csv").read_text() == "mine"


def test_a_failure_of_the_source_closes_the_file(tmp_path):
    def broken():
        yield batch(ROW)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        write(broken(), SCHEMA, tmp_path, "parquet")
