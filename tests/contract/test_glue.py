"""The exam of catalogs, by Glue: what it says of a table, and the copy of its files, in its owner's roles."""

import gzip
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from lib.aws import REGION, stand
from passbox.backends import aws as clients
from passbox.backends.catalogs import copying
from passbox.backends.catalogs.glue import Glue
from passbox.backends.engines.base import NO_QUOTE, Form
from passbox.errors import JobFailed, ResourceNotFoundException, ValidationException
from passbox.names import Role

US, THEM = "111111111111", "222222222222"
MEMBERSHIP = f"arn:aws:cleanrooms:{REGION}:{US}:membership/11111111-0000-4000-8000-000000000000"
DOOR, READER, BLIND = (f"arn:aws:iam::{US}:role/{name}" for name in ("passbox-catalog", "reader", "blind"))
THEIRS = f"arn:aws:iam::{THEM}:role/reader"
THEIR_DOOR = f"arn:aws:iam::{THEM}:role/passbox-catalog"
MOST = 1 << 30

PARQUET = (
    "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
    "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe",
)
TEXT = "org.apache.hadoop.mapred.TextInputFormat"
OPEN_CSV = (TEXT, "org.apache.hadoop.hive.serde2.OpenCSVSerde")
LAZY = (TEXT, "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe")
JSON = (TEXT, "org.openx.data.jsonserde.JsonSerDe")


@pytest.fixture(scope="module")
def servers():
    roles = {
        DOOR: [], BLIND: [], THEIR_DOOR: [],
        READER: ["Read:mine", "List:mine"],
        THEIRS: ["Read:theirs", "List:theirs"],
    }  # fmt: skip
    with stand(roles) as made, pytest.MonkeyPatch.context() as patch:
        for name, value in made.environment().items():
            patch.setenv(name, value)
        made.as_role("glue", DOOR).create_database(DatabaseInput={"Name": "db"})
        made.bucket("theirs")
        made.admin = made.bucket("mine")
        yield made


class Tables:
    """Makes tables of account US, each under a name and prefix of its own."""

    def __init__(self, servers, name):
        self.servers, self.name = servers, name
        self.catalog = Glue(REGION, "passbox-catalog")
        self.glue = servers.as_role("glue", DOOR)

    def storage(self, kind, columns, parameters=None, prefix=""):
        return {
            "Columns": [{"Name": name, "Type": type} for name, type in columns.items()],
            "Location": f"s3://mine/{self.name}/{prefix}",
            "InputFormat": kind[0],
            "SerdeInfo": {"SerializationLibrary": kind[1], "Parameters": parameters or {}},
        }

    def make(self, kind, columns, parameters=None, keys=None, **more):
        storage = {**self.storage(kind, columns, parameters), **more.pop("storage", {})}
        named = [{"Name": name, "Type": type} for name, type in (keys or {}).items()]
        table = {"Name": self.name, "StorageDescriptor": storage, "PartitionKeys": named, **more}
        self.glue.create_table(DatabaseName="db", TableInput=table)

    def partition(self, values, storage):
        given = {"Values": values, "StorageDescriptor": storage}
        self.glue.create_partition(DatabaseName="db", TableName=self.name, PartitionInput=given)

    def put(self, key, content):
        body = content if isinstance(content, bytes) else content.encode()
        self.servers.admin.put_object(Bucket="mine", Key=f"{self.name}/{key}", Body=body)

    @property
    def reference(self):
        return {"glue": {"databaseName": "db", "tableName": self.name}}

    def describe(self, account=US):
        return {column.name: column.type for column in self.catalog.describe(account, self.reference)}

    def fetch(self, into, role=READER, most=MOST, account=US):
        into.mkdir(exist_ok=True)
        return self.catalog.fetch(account, self.reference, Role(role, MEMBERSHIP), into, most)


@pytest.fixture
def tables(servers, request):
    made = Tables(servers, f"t{abs(hash(request.node.name))}")
    servers.asked.clear()
    return made


def contents(found):
    return [file.read_bytes() for file in found.files]


def rows(file):
    sink = io.BytesIO()
    parquet.write_table(file, sink)
    return sink.getvalue()


def test_columns_at_the_door_come_in_the_accounts_own_role(tables, servers):
    columns = {
        "Whole": "INT", "wide": "decimal(12,3)", "plain": "decimal",
        "word": "varchar(20)", "many": "array<int>",
    }  # fmt: skip
    tables.make(PARQUET, columns, keys={"Day": "date"})
    assert tables.describe() == {
        "whole": "int", "wide": "decimal(12,3)", "plain": "decimal(10,0)", "word": "string", "day": "date",
    }  # fmt: skip
    assert tables.catalog.remembered(US, tables.reference) is None
    [asked] = servers.asked
    assert asked["RoleArn"] == DOOR
    assert "ExternalId" not in asked


def test_a_run_reads_in_the_associations_role_for_its_membership(tables, servers, tmp_path):
    tables.make(PARQUET, {"a": "bigint"})
    whole = rows(pa.table({"a": [1, 2]}))
    tables.put("1.parquet", whole)
    tables.put("2", whole)
    found = tables.fetch(tmp_path / "t")
    assert (found.format, found.folder, found.partitions) == ("parquet", tmp_path / "t", ())
    assert [file.name for file in found.files] == ["00000.parquet", "00001.parquet"]
    assert contents(found) == [whole, whole]
    assert {asked["RoleArn"] for asked in servers.asked} == {READER}
    assert {asked["ExternalId"] for asked in servers.asked} == {MEMBERSHIP}
    assert {asked["RoleSessionName"] for asked in servers.asked} == {
        "passbox-11111111-0000-4000-8000-000000000000"
    }


TABS = {"separatorChar": "\\t", "quoteChar": "'", "escapeChar": "'"}


def plain(delimiter, header, null):
    return Form(delimiter, NO_QUOTE, NO_QUOTE, header, null)


@pytest.mark.parametrize(
    ("kind", "parameters", "header", "form"),
    [
        (OPEN_CSV, {}, "1", Form(",", '"', "\\", True)),
        (OPEN_CSV, TABS, "0", Form("\t", "'", "'", False)),
        (LAZY, {}, None, plain("\x01", False, "\\N")),
        (LAZY, {"field.delim": "|", "serialization.null.format": "NA"}, "1", plain("|", True, "NA")),
        (LAZY, {"field.delim": "9", "serialization.format": "1"}, None, plain("\t", False, "\\N")),
        (JSON, {"paths": "a,b"}, None, Form()),
    ],
)  # fmt: skip
def test_forms_of_text(tables, tmp_path, kind, parameters, header, form):
    properties = {} if header is None else {"skip.header.line.count": header}
    tables.make(kind, {"a": "int", "b": "map<int,int>"}, parameters, Parameters=properties)
    tables.put("x", "1\n")
    found = tables.fetch(tmp_path / "t")
    assert found.form == form
    assert found.format == ("json" if kind == JSON else "csv")
    # what queries cannot read keeps its place in CSV
    assert [column.name for column in found.columns] == (["a"] if kind == JSON else ["a", "b"])
    assert tables.describe() == {"a": "int"}


def test_partitions_lie_in_folders_that_say_their_values(tables, tmp_path):
    tables.make(LAZY, {"a": "int"}, keys={"year": "int", "place": "string"})
    for values, prefix in (
        (["2013", "a/b"], "y=13/"),
        (["2014", "__HIVE_DEFAULT_PARTITION__"], "elsewhere"),
        (["2015", "."], "z"),
    ):
        tables.partition(values, tables.storage(LAZY, {"a": "int"}, prefix=prefix))
        tables.put(f"{prefix.rstrip('/')}/part", f"{values[0]}\n")
    tables.put("lost/part", "never read")
    found = tables.fetch(tmp_path / "t")
    assert [(column.name, column.type) for column in found.partitions] == [
        ("year", "int"),
        ("place", "string"),
    ]
    year, place = "passbox_partition_0", "passbox_partition_1"
    assert {str(file.parent.relative_to(tmp_path / "t")): file.read_text() for file in found.files} == {
        f"{year}=2013/{place}=a%2Fb": "2013\n",
        f"{year}=2014/{place}=__HIVE_DEFAULT_PARTITION__": "2014\n",
        f"{year}=2015/{place}=.": "2015\n",
    }


def test_a_partition_without_its_files_is_an_error(tables, tmp_path):
    tables.make(LAZY, {"a": "int"}, keys={"year": "int"})
    for year in ("2013", "2014"):
        tables.partition([year], tables.storage(LAZY, {"a": "int"}, prefix=f"year={year}/"))
    tables.put("year=2013/part", "1\n")
    tables.put("year=2014/_SUCCESS", "")
    with pytest.raises(ValidationException, match=r"no files at s3://mine/.*year=2014/"):
        tables.fetch(tmp_path / "t")


def test_a_table_whose_partitions_are_not_registered_is_an_error(tables, tmp_path):
    tables.make(LAZY, {"a": "int"}, keys={"year": "int"})
    tables.put("year=2013/part", "1\n")
    with pytest.raises(ValidationException, match="no partitions"):
        tables.fetch(tmp_path / "t")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"InputFormat": PARQUET[0], "SerdeInfo": {"SerializationLibrary": PARQUET[1]}}, "another format"),
        ({"Columns": [{"Name": "b", "Type": "int"}]}, "other columns"),
        (
            {"SerdeInfo": {"SerializationLibrary": LAZY[1], "Parameters": {"field.delim": ";"}}},
            "another form",
        ),
        ({"Location": "hdfs://mine/x"}, "location of the partition"),
    ],
)
def test_a_partition_that_is_written_otherwise_is_refused(tables, tmp_path, changed, said):
    tables.make(LAZY, {"a": "int"}, keys={"year": "int"})
    tables.partition(["2013"], {**tables.storage(LAZY, {"a": "int"}), **changed})
    tables.put("part", "1\n")
    with pytest.raises(ValidationException, match=said):
        tables.fetch(tmp_path / "t")


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"kind": (TEXT, "org.apache.hadoop.hive.serde2.RegexSerDe")}, "RegexSerDe"),
        ({"kind": ("org.apache.hudi.hadoop.HoodieParquetInputFormat", PARQUET[1])}, "Hoodie"),
        ({"Parameters": {"table_type": "ICEBERG"}}, "ICEBERG"),
        ({"Parameters": {"spark.sql.sources.provider": "delta"}}, "delta"),
        ({"Parameters": {"projection.enabled": "true"}}, "projected"),
        ({"TableType": "VIRTUAL_VIEW"}, "view"),
        ({"Parameters": {"skip.header.line.count": "2"}}, "skip.header.line.count"),
        ({"parameters": {"field.delim": "||"}}, "one ASCII sign"),
        ({"parameters": {"escape.delim": "\\"}}, "escape.delim"),
        ({"parameters": {"line.delim": ";"}}, "line feed"),
        ({"kind": JSON, "parameters": {"mapping.a": "b"}}, "mapping.a"),
        ({"columns": {"a": "int", "A": "int"}}, "two columns"),
        ({"keys": {"A": "int"}}, "two columns"),
        ({"keys": {"day": "array<int>"}}, "day"),
    ],
)
def test_tables_that_would_be_read_wrongly_are_refused_at_the_door(tables, made, said):
    tables.make(**{"kind": LAZY, "columns": {"a": "int"}, **made})
    with pytest.raises(ValidationException, match=said):
        tables.describe()


@pytest.mark.parametrize("location", ["", "mine/x", "hdfs://mine/x", "s3://M/x", "s3://"])
def test_locations_that_are_none(tables, tmp_path, location):
    tables.make(LAZY, {"a": "int"}, storage={"Location": location})
    with pytest.raises(ValidationException, match="location of the table"):
        tables.fetch(tmp_path / "t")


def test_what_lies_beside_the_data(tables, tmp_path):
    tables.make(LAZY, {"a": "int"})
    for key in ("part", "_SUCCESS", ".hidden", "_temporary/x", "", "sub_$folder$"):
        tables.put(key, "1\n" if key == "part" else "")
    tables.servers.admin.put_object(Bucket="mine", Key=f"{tables.name}2/part", Body=b"another table\n")
    assert contents(tables.fetch(tmp_path / "t")) == [b"1\n"]
    tables.put("sub/part", "2\n")
    with pytest.raises(ValidationException, match="folder 'sub/'"):
        tables.fetch(tmp_path / "again")


def test_gzip_is_known_by_its_names(tables, tmp_path):
    tables.make(LAZY, {"a": "int"})
    tables.put("1.csv.gz", gzip.compress(b"1\n"))
    found = tables.fetch(tmp_path / "t")
    assert [file.name for file in found.files] == ["00000.csv.gz"]
    tables.put("2.csv", "1\n")
    with pytest.raises(ValidationException, match="gzip"):
        tables.fetch(tmp_path / "mixed")


def test_a_table_that_is_not_there(tables, tmp_path):
    with pytest.raises(ResourceNotFoundException, match=f"Glue catalog of account {US}"):
        tables.describe()
    with pytest.raises(ResourceNotFoundException):
        tables.fetch(tmp_path / "t")


def test_nobody_reaches_another_accounts_tables(tables, tmp_path):
    tables.make(PARQUET, {"a": "bigint"})
    tables.put("x", rows(pa.table({"a": [1]})))
    with pytest.raises(ResourceNotFoundException):
        tables.describe(account=THEM)
    with pytest.raises(ResourceNotFoundException):
        tables.fetch(tmp_path / "t", role=THEIRS, account=THEM)
    # whoever names another's role, it is not assumed
    with pytest.raises(ValidationException, match="not of account"):
        tables.fetch(tmp_path / "u", role=READER, account=THEM)
    for odd in ("", "..", "1" * 11, "١" * 12):
        with pytest.raises(ValidationException):
            tables.describe(account=odd)


def test_a_location_in_anothers_bucket_is_the_roles_to_read_or_not(tables, servers, tmp_path):
    """Nothing but the role decides: the room has no rights of its own."""
    tables.make(LAZY, {"a": "int"}, storage={"Location": "s3://theirs/t/"})
    servers.admin.put_object(Bucket="theirs", Key="t/part", Body=b"secret\n")
    with pytest.raises(ValidationException, match=r"cannot be read \(AccessDenied\)"):
        tables.fetch(tmp_path / "t")


def test_roles_that_may_not(tables, tmp_path):
    tables.make(LAZY, {"a": "int"})
    tables.put("part", "1\n")
    with pytest.raises(ValidationException, match=r"cannot be read \(AccessDenied\)"):
        tables.fetch(tmp_path / "t", role=BLIND)
    unknown = f"arn:aws:iam::{US}:role/nobody"
    with pytest.raises(ValidationException, match=r"must trust the room .*\(AccessDenied\)"):
        tables.fetch(tmp_path / "u", role=unknown)


def test_the_bucket_that_the_table_lies_in_is_named(tables, tmp_path):
    tables.make(LAZY, {"a": "int"})
    tables.put("part", "1\n")
    assert tables.fetch(tmp_path / "t").buckets == {"mine"}


def test_everything_is_bounded(tables, tmp_path, monkeypatch):
    tables.make(LAZY, {"a": "int"})
    tables.put("1", "1\n")
    tables.put("2", "1\n")
    with pytest.raises(JobFailed) as told:
        tables.fetch(tmp_path / "a", most=3)
    assert told.value.code == "INSUFFICIENT_COMPUTE"
    with monkeypatch.context() as patch:
        patch.setattr(copying, "MOST_OBJECTS", 1)
        with pytest.raises(ValidationException, match="more than 1 files"):
            tables.fetch(tmp_path / "b")
    with monkeypatch.context() as patch:
        patch.setattr(copying, "MOST_SECONDS", -1.0)
        with pytest.raises(ValidationException, match="longer than"):
            tables.fetch(tmp_path / "c")


def test_an_object_that_changes_while_it_is_read(tables, tmp_path, monkeypatch):
    tables.make(LAZY, {"a": "int"})
    tables.put("part", "1\n")
    listed = copying._list

    def late(*given):
        found = listed(*given)
        tables.put("part", "22\n")
        return found

    monkeypatch.setattr(copying, "_list", late)
    with pytest.raises(ValidationException, match=r"PreconditionFailed|not as long"):
        tables.fetch(tmp_path / "t")


def test_a_broken_connection_goes_on_where_it_broke(tables, tmp_path, monkeypatch):
    tables.make(LAZY, {"a": "int"})
    whole = b"0123456789\n" * 300_000
    tables.put("part", whole)
    broken = clients.broken()[0]
    read, breaks = copying._read, []

    class Breaking:
        """A file that takes a megabyte and then sees the connection break off, twice."""

        def __init__(self, file):
            self.file = file

        def tell(self):
            return self.file.tell()

        def write(self, chunk):
            if self.file.tell() and len(breaks) < 2:
                breaks.append(self.file.tell())
                raise broken(actual_bytes=1, expected_bytes=2)
            return self.file.write(chunk)

    monkeypatch.setattr(
        copying, "_read", lambda client, one, file, end: read(client, one, Breaking(file), end)
    )
    monkeypatch.setattr(copying.time, "sleep", lambda _: None)
    assert contents(tables.fetch(tmp_path / "t")) == [whole]
    assert len(breaks) == 2


def test_a_service_that_is_not_there(tables, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")
    with pytest.raises(ValidationException, match="EndpointConnectionError"):
        Glue(REGION, "passbox-catalog").describe(US, tables.reference)


@pytest.mark.parametrize("kind", ["snowflake", "athena", "databricks"])
def test_other_kinds_are_refused(tables, kind):
    with pytest.raises(ValidationException, match="only glue tables"):
        tables.catalog.describe(US, {kind: {"tableName": "t"}})


def test_nothing_of_aws_is_in_what_members_read(tables, tmp_path):
    """The detail is the operator's; the message names the owner's own things and an error code."""
    tables.make(LAZY, {"a": "int"})
    tables.put("part", "1\n")
    with pytest.raises(ValidationException) as told:
        tables.fetch(tmp_path / "t", role=BLIND)
    assert told.value.message == "The table's files cannot be read (AccessDenied)."
    assert "ListObjectsV2" in (told.value.detail or "")
    assert list(Path(tmp_path / "t").iterdir()) == []
