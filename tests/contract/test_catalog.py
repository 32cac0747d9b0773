"""The exam of catalogs: where tables lie, what columns they have, and whose they are."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from passbox.backends.catalogs import sniff
from passbox.backends.catalogs.local import CACHE, Local
from passbox.errors import ResourceNotFoundException, ValidationException
from passbox.names import Role

US, THEM = "111111111111", "222222222222"


@pytest.fixture
def catalog(tmp_path):
    return Local(tmp_path)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / US / "catalog" / "db" / "t"
    made.mkdir(parents=True)
    return made


def describe(catalog, table="t", database="db", account=US):
    reference = {"glue": {"databaseName": database, "tableName": table}}
    found = catalog.fetch(account, reference, Role(f"arn:aws:iam::{account}:role/r", None), None, 0)
    assert catalog.describe(account, reference) == found.columns
    return found


def types(catalog):
    return {column.name: column.type for column in describe(catalog).columns}


def test_parquet_types_come_from_the_footers(catalog, folder):
    kinds = {
        "I8": (pa.int8(), "tinyint"), "i32": (pa.int32(), "int"), "i64": (pa.int64(), "bigint"),
        "u64": (pa.uint64(), "decimal(20,0)"), "f": (pa.float32(), "float"), "x": (pa.float64(), "double"),
        "s": (pa.large_string(), "string"), "b": (pa.bool_(), "boolean"), "d": (pa.date32(), "date"),
        "t": (pa.timestamp("ns"), "timestamp"), "tz": (pa.timestamp("us", "UTC"), "timestamp"),
        "m": (pa.decimal128(12, 3), "decimal(12,3)"), "c": (pa.dictionary(pa.int8(), pa.string()), "string"),
    }  # fmt: skip
    empty = pa.schema([(name, kind) for name, (kind, _) in kinds.items()]).empty_table()
    for number in range(2):
        parquet.write_table(empty, folder / f"{number}.parquet")
    found = describe(catalog)
    assert found.format == "parquet"
    assert [file.name for file in found.files] == ["0.parquet", "1.parquet"]
    assert types(catalog) == {name.lower(): spark for name, (_, spark) in kinds.items()}


def test_csv_types_hold_every_value_of_every_file(catalog, folder, monkeypatch):
    monkeypatch.setattr(sniff, "BLOCK_BYTES", 1 << 12)
    many = "1,1,true,2013-01-01,2013-01-01,x,\n" * 2000
    head = "whole,wide,flag,day,moment,Word,void\n"
    (folder / "a.csv").write_text(head + many)
    (folder / "b.csv").write_text(head + many + '2,2.5,False,2013-01-02,2013-01-02T03:04:05Z,"7",""\n')
    assert types(catalog) == {
        "whole": "bigint", "wide": "double", "flag": "boolean", "day": "date",
        "moment": "timestamp", "word": "string", "void": "string",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "x"], "string"),
        (["9223372036854775807", "1"], "bigint"),
        (["9223372036854775808", "1"], "double"),
        (["true", "1"], "string"),
        (["1", "2013-01-01"], "string"),
        (["2013-01-01 10:00:00", "2013-01-01T10:00:00+02:00"], "timestamp"),
        (["2013-01-01", "soon"], "string"),
        (["", "1"], "bigint"),
        (["", ""], "string"),
    ],
)
def test_csv_types_widen(catalog, folder, values, kind):
    (folder / "a.csv").write_text("v,w\n" + "".join(f"{value},z\n" for value in values))
    assert types(catalog)["v"] == kind


def test_a_csv_of_a_header_alone(catalog, folder):
    (folder / "a.csv").write_text("a,b\n")
    assert types(catalog) == {"a": "string", "b": "string"}


def test_schema_json_decides(catalog, folder):
    (folder / "a.csv").write_text("B,a\n1,2\n")
    declared = [{"name": "a", "type": "DECIMAL(10, 2)"}, {"name": "b", "type": "integer"}]
    (folder / "schema.json").write_text(json.dumps({"columns": declared}))
    found = describe(catalog).columns
    assert [(column.name, column.type) for column in found] == [("b", "int"), ("a", "decimal(10,2)")]
    assert not (folder / CACHE).exists()


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"columns": []}',
        '{"columns": [{"name": "a"}]}',
        '{"columns": [{"name": "a", "type": "int"}, {"name": "b", "type": "string) x"}]}',
        '{"columns": [{"name": "a", "type": "int"}]}',
        '{"columns": [{"name": "a", "type": "int"}, {"name": "A", "type": "int"}]}',
        '{"columns": [{"name": "a", "type": "int"}, {"name": "c", "type": "int"}]}',
        "[" * 100_000,
    ],
)
def test_a_wrong_schema_json_is_refused(catalog, folder, content):
    (folder / "a.csv").write_text("a,b\n1,2\n")
    (folder / "schema.json").write_text(content)
    with pytest.raises(ValidationException, match=r"schema\.json"):
        describe(catalog)


def test_what_was_found_is_kept_until_a_file_changes(catalog, folder, monkeypatch):
    file = folder / "a.csv"
    file.write_text("a\n1\n")
    assert types(catalog) == {"a": "bigint"}
    with monkeypatch.context() as patch:
        patch.setattr(sniff, "columns", lambda *_: pytest.fail("looked again"))
        assert types(catalog) == {"a": "bigint"}
    file.write_text("a\nx\n")
    os.utime(file, ns=(1, 1))
    assert types(catalog) == {"a": "string"}
    for nonsense in ("{", "[]", '{"files": 1}', '{"files": {}, "columns": [1]}'):
        (folder / CACHE).write_text(nonsense)
        assert types(catalog) == {"a": "string"}


def test_a_missing_table_says_where_it_was_looked_for(catalog, folder):
    with pytest.raises(ResourceNotFoundException, match=f"accounts/{US}/catalog/db/none"):
        describe(catalog, "none")


def test_nobody_reaches_another_accounts_tables(catalog, folder):
    (folder / "a.csv").write_text("a\n1\n")
    with pytest.raises(ResourceNotFoundException):
        describe(catalog, account=THEM)


@pytest.mark.parametrize("name", ["", ".", "..", "../db", "a/b", "a\0b", "/etc", "-x", "ä", "a" * 129, "t\n"])
def test_odd_names_are_refused(catalog, folder, name):
    for place in ({"table": name}, {"database": name}):
        with pytest.raises(ValidationException):
            describe(catalog, **place)


@pytest.mark.parametrize("account", ["", "..", "1" * 11, "1" * 13, f"{US}/", f"{THEM}/../{US}", "١" * 12])
def test_odd_accounts_are_refused(catalog, folder, account):
    with pytest.raises(ValidationException):
        describe(catalog, account=account)


@pytest.mark.parametrize("level", ["file", "schema.json", "t", "db", "catalog", "account"])
def test_links_are_refused_wherever_they_lie(catalog, tmp_path, folder, level):
    secret = tmp_path / THEM / "catalog" / "db" / "t"
    secret.mkdir(parents=True)
    (secret / "a.csv").write_text("secret\n1\n")
    (folder / "b.csv").write_text("a\n1\n")
    if level == "file":
        (folder / "a.csv").symlink_to(secret / "a.csv")
    elif level == "schema.json":
        (folder / "schema.json").symlink_to(secret / "a.csv")
    else:
        ours, theirs = {
            "t": (folder, secret),
            "db": (folder.parent, secret.parent),
            "catalog": (folder.parent.parent, secret.parent.parent),
            "account": (tmp_path / US, tmp_path / THEM),
        }[level]
        ours.rename(tmp_path / "away")
        ours.symlink_to(theirs)
    with pytest.raises(ValidationException, match=r"link|opened"):
        describe(catalog)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "no .parquet or .csv"),
        ({"_SUCCESS": "", ".hidden": ""}, "no .parquet or .csv"),
        ({"a.csv": "a\n1\n", "b.parquet": ""}, "mixes"),
        ({"a.txt": ""}, "neither"),
        ({"a.csv": "a\n1\n", "b.csv": "b\n1\n"}, "other columns"),
        ({"a.csv": "a,A\n1,2\n"}, "two columns"),
        ({"a.csv": "a,\n1,2\n"}, "usable name"),
        ({"a.csv": ""}, "no header"),
        ({"a.csv": "a,b\n1,2,3\n"}, "not CSV"),
        ({"a.csv": "a\n\udcff\n"}, "not CSV"),
        ({"a.parquet": "no"}, "not a Parquet"),
    ],
)
def test_folders_that_are_no_table(catalog, folder, files, said):
    for name, content in files.items():
        (folder / name).write_text(content, errors="surrogateescape")
    with pytest.raises(ValidationException, match=said):
        describe(catalog)


def test_partitions_and_nested_types_are_refused(catalog, folder):
    parquet.write_table(pa.table({"a": [[1]]}), folder / "a.parquet")
    with pytest.raises(ValidationException, match="type list"):
        describe(catalog)
    (folder / "year=2013").mkdir()
    with pytest.raises(ValidationException, match="partitions"):
        describe(catalog)


def test_parquet_files_must_agree(catalog, folder):
    parquet.write_table(pa.table({"a": [1]}), folder / "a.parquet")
    parquet.write_table(pa.table({"a": ["1"]}), folder / "b.parquet")
    with pytest.raises(ValidationException, match="another type"):
        describe(catalog)


@pytest.mark.parametrize("kind", ["snowflake", "athena", "databricks"])
def test_other_kinds_are_refused(catalog, kind):
    with pytest.raises(ValidationException, match="only glue tables"):
        catalog.describe(US, {kind: {"tableName": "t"}})
