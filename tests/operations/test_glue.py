"""The room over Glue, S3 and STS by the real service: tables in members' catalogs, results in their buckets.

What each role may do is the servers' to refuse: an owner's reads its bucket, a receiver's writes to its own.
"""

import contextlib
import hashlib
import io
import itertools
import tarfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

import lib.room
from lib.aws import Stand, stand
from lib.queries import ENDS, Desk, s3
from lib.scripts import BUCKET, Studio
from lib.service import Service, serving_home, wait
from lib.workshop import IMAGE, Workshop, ledger
from passbox.backends.images.store import ImageStore

ROWS, AGES = 60, 4
TRAIN = """
#!/usr/bin/env python3
import csv, glob, json, os
rows = []
for path in glob.glob(os.environ["SM_CHANNEL_TRAIN"] + "/*.csv"):
    rows += csv.DictReader(open(path))
ages = {row["age"] for row in rows}
model = {"rows": len(rows), "ages": sorted(ages), "spent": sum(float(row["spent"]) for row in rows)}
json.dump(model, open(os.environ["SM_MODEL_DIR"] + "/model.json", "w"))
"""
TEXT = "org.apache.hadoop.mapred.TextInputFormat"
PARQUET = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat"
PARQUET_SERDE = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"
LAZY = "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe"
OPEN_CSV = "org.apache.hadoop.hive.serde2.OpenCSVSerde"


def role(account: str, name: str = "passbox") -> str:
    return f"arn:aws:iam::{account}:role/{name}"


class Catalog:
    """Puts members' tables into Glue and S3, where a Room puts a CSV file into a folder."""

    def __init__(self, servers: Stand) -> None:
        self.servers = servers

    def put_csv(self, account: str, table: str, text: str, database: str = "db") -> dict[str, Any]:
        bucket = f"data-{account}"
        objects = self.servers.bucket(bucket)
        glue = self.servers.as_role("glue", role(account))
        with contextlib.suppress(glue.exceptions.AlreadyExistsException):
            glue.create_database(DatabaseInput={"Name": database})
        header, _, body = text.partition("\n")
        names = header.split(",")
        asked = {"DatabaseName": database}
        if table != "people":
            # the desk's table is LazySimpleSerDe's, the other one OpenCSVSerde's with a header
            lazy = "secret" in names
            content = body.replace(",", "|") if lazy else text
            objects.put_object(Bucket=bucket, Key=f"{table}/part", Body=content.encode())
            serde, form = (LAZY, {"field.delim": "|"}) if lazy else (OPEN_CSV, {})
            properties = {} if lazy else {"skip.header.line.count": "1"}
            storage = self._storage(bucket, f"{table}/", names, TEXT, serde, form)
            glue.create_table(
                **asked, TableInput={"Name": table, "StorageDescriptor": storage, "Parameters": properties}
            )
        else:
            self._people(glue, objects, bucket, [line.split(",") for line in body.splitlines()])
        return {"glue": {"databaseName": database, "tableName": table}}

    def _people(self, glue: Any, objects: Any, bucket: str, rows: list[list[str]]) -> None:
        """Parquet, partitioned by age."""
        asked = {"DatabaseName": "db"}
        storage = self._storage(bucket, "people/", ["ssn"], PARQUET, PARQUET_SERDE, {})
        keys = [{"Name": "age", "Type": "int"}]
        glue.create_table(
            **asked, TableInput={"Name": "people", "StorageDescriptor": storage, "PartitionKeys": keys}
        )
        for age in sorted({row[1] for row in rows}):
            sink = io.BytesIO()
            parquet.write_table(pa.table({"SSN": [ssn for ssn, one in rows if one == age]}), sink)
            objects.put_object(Bucket=bucket, Key=f"people/age={age}/0", Body=sink.getvalue())
            place = {**storage, "Location": f"s3://{bucket}/people/age={age}"}
            glue.create_partition(
                **asked, TableName="people", PartitionInput={"Values": [age], "StorageDescriptor": place}
            )

    @staticmethod
    def _storage(
        bucket: str, prefix: str, names: list[str], format: str, serde: str, form: dict[str, str]
    ) -> dict[str, Any]:
        types = {"id": "int", "spent": "double"}
        return {
            "Columns": [{"Name": name, "Type": types.get(name, "string")} for name in names],
            "Location": f"s3://{bucket}/{prefix}",
            "InputFormat": format,
            "SerdeInfo": {"SerializationLibrary": serde, "Parameters": form},
        }


@pytest.fixture(scope="module")
def numbers() -> list[str]:
    """The workshop's accounts (owner, runner, vendor) and the desk's (owner, runner, partner, guest)."""
    return [f"{next(lib.room._NUMBERS):012d}" for _ in range(7)]


@pytest.fixture(scope="module")
def servers(numbers: list[str]) -> Iterator[Stand]:
    owner, runner, vendor, desk_owner, desk_runner, desk_partner, _ = numbers
    doors = {role(account, "passbox-catalog"): [] for account in (owner, vendor, desk_owner)}
    reads = {account: [f"Read:data-{account}", f"List:data-{account}"] for account in (owner, desk_owner)}
    roles = {
        **doors,
        **{role(account): actions for account, actions in reads.items()},
        role(vendor): [f"Read:data-{vendor}", f"List:data-{vendor}", f"Write:results-{vendor}"],
        role(runner): [f"Write:results-{runner}"],
        role(desk_runner): ["Write:results"],
        role(desk_partner): ["Read:scripts", "Write:partner-own"],
    }
    with stand(roles) as made:
        for bucket in (
            f"results-{runner}",
            f"results-{vendor}",
            "results",
            "closed",
            "scripts",
            "partner-own",
        ):
            made.bucket(bucket)
        yield made


@pytest.fixture(scope="module")
def service(
    servers: Stand, numbers: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    home, image = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("image") / "late"
    image.mkdir()
    (image / "train").write_text(textwrap.dedent(TRAIN).lstrip())
    (image / "train").chmod(0o755)
    ImageStore(home / "images").add(IMAGE, image)
    ours = itertools.chain(map(int, numbers), lib.room._NUMBERS)
    chosen = {**servers.environment(), "PASSBOX_CATALOG": "glue", "PASSBOX_OBJECTS": "s3"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in chosen.items():
            patch.setenv(name, value)
        patch.setattr(lib.room, "_NUMBERS", ours)
        with serving_home(home) as service:
            patch.setattr(service.room, "put_csv", Catalog(servers).put_csv)
            yield service


@pytest.fixture(scope="module")
def shop(service: Service) -> Workshop:
    visits = "".join(f"{number},{number % 7}.5,s{number}\n" for number in range(ROWS))
    shop = Workshop(
        service.room,
        policies={"trainedModelExports": {"filesToExport": ["MODEL"], "maxSize": {"unit": "GB", "value": 1}}},
        configs={"trainingContainerConfig": {"imageUri": IMAGE}},
        visits=f"id,spent,ssn\n{visits}",
    )
    people = "".join(f"s{number},{number % AGES}\n" for number in range(0, ROWS, 3))
    shop.bring("people", f"ssn,age\n{people}", party="vendor", hidden=["ssn"])
    shop.configure("vendor")
    return shop


class Jobs(Studio):
    """A desk that runs jobs too, with the scripts in a bucket."""

    def __init__(self, room: lib.room.Room, servers: Stand) -> None:
        Desk.__init__(self, room)
        self.servers = servers

    def put(self, text: str | bytes, key: str, party: str = "partner") -> str:
        content = text.encode() if isinstance(text, str) else text
        self.servers.bucket(BUCKET).put_object(Bucket=BUCKET, Key=key, Body=content)
        return hashlib.sha256(content).hexdigest()


@pytest.fixture(scope="module")
def desk(service: Service, shop: Workshop, servers: Stand) -> Jobs:
    """After the shop, whose accounts are the first."""
    desk = Jobs(service.room, servers)
    location = {"outputConfiguration": s3(), "roleArn": role(desk.accounts["runner"])}
    desk.client().update_membership(**desk.own(), defaultResultConfiguration=location)
    return desk


def objects(servers: Stand, bucket: str) -> dict[str, bytes]:
    client = servers.bucket(bucket)
    listed = client.list_objects_v2(Bucket=bucket).get("Contents", ())
    keys = [item["Key"] for item in listed if not item["Key"].endswith("/")]
    return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def test_two_glue_tables_become_a_channel_a_model_and_an_export(shop: Workshop, servers: Stand) -> None:
    query = "SELECT v.id, v.spent, p.age FROM visits v JOIN people p ON v.ssn = p.ssn WHERE p.age > 0"
    channel = shop.channel("joined", query=query)
    found = wait(lambda: shop.get_channel(channel), seconds=60)
    assert found["status"] == "ACTIVE", found
    joined = [number for number in range(0, ROWS, 3) if number % AGES]
    assert found["numberOfRecords"] == len(joined)

    model = shop.model(channel)["trainedModelArn"]
    get = shop.ml().get_trained_model
    trained = wait(lambda: get(**shop.own(), trainedModelArn=model), seconds=60)
    assert trained["status"] == "ACTIVE", trained
    shop.export(model, receiver="vendor")
    listed = shop.ml().list_collaboration_trained_model_export_jobs
    exports = "collaborationTrainedModelExportJobs"
    wait(lambda: listed(**shop.whole(), trainedModelArn=model)[exports][0], ("ACTIVE",), 60)

    vendor, runner = shop.account("vendor"), shop.account("runner")
    [(key, archive)] = objects(servers, f"results-{vendor}").items()
    assert key == f"room/{shop.id}/late/{runner}/take/model.tar.gz"
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        file = tar.extractfile("model.json")
        assert file is not None
        spent = sum(number % 7 + 0.5 for number in joined)
        assert file.read().decode() == (
            f'{{"rows": {len(joined)}, "ages": ["1", "2", "3"], "spent": {spent}}}'
        )


def test_roles_are_assumed_for_their_memberships_and_nothing_is_left(shop: Workshop, servers: Stand) -> None:
    asked = {(one["RoleArn"], one.get("ExternalId")) for one in servers.asked}
    region = lib.room.REGION
    for party in ("owner", "vendor"):
        account, id = shop.account(party), shop.memberships[party]
        assert (role(account), f"arn:aws:cleanrooms:{region}:{account}:membership/{id}") in asked
        assert (role(account, "passbox-catalog"), None) in asked
    assert not [external for arn, external in asked if arn.endswith(":role/passbox") and external is None]
    home = shop.room.settings.home
    assert not [path for path in home.rglob("tables") if path.is_dir()]
    assert not list((home / "accounts").rglob("*.csv"))


def test_a_protected_querys_result_goes_to_s3(desk: Desk, servers: Stand) -> None:
    query = desk.start("SELECT id FROM visits")["id"]
    assert wait(lambda: desk.get(query), ENDS, 60)["status"] == "SUCCESS"
    assert objects(servers, "results") == {f"room/{query}/part-00000.csv": b'"id"\n1\n2\n'}


def test_a_script_in_s3_runs_over_a_glue_table_and_its_result_goes_to_s3(desk: Jobs, servers: Stand) -> None:
    desk.receive("partner")
    desk.lend("buyers", "id,spent,ssn\n1,2.5,s1\n2,4.0,s2\n", columns=["id", "spent"])
    text = (
        "def entrypoint(context):\n"
        "    buyers = context['referencedTables']['buyers']\n"
        "    return {'results': {'total': buyers.groupBy().sum('spent').toDF('spent')}}\n"
    )
    template = desk.script(text, "buyers")
    hashes = template["sourceMetadata"]["artifacts"]["entryPointHash"]
    assert hashes == {"sha256": hashlib.sha256(text.encode()).hexdigest()}
    job = desk.run(template)["id"]
    ended = wait(lambda: desk.job(job), ENDS, 90)
    assert ended["status"] == "SUCCESS", ended.get("error")
    found = objects(servers, "partner-own")
    assert set(found) == {f"jobs/{job}/total/part-00000.parquet", f"jobs/{job}/total/_SUCCESS"}
    table = parquet.read_table(io.BytesIO(found[f"jobs/{job}/total/part-00000.parquet"]))
    assert table.to_pylist() == [{"spent": 6.5}]
    # in the role of the partner's template, for its membership
    partner = desk.accounts["partner"]
    membership = f"arn:aws:cleanrooms:{lib.room.REGION}:{partner}:membership/{desk.memberships['partner']}"
    assert (role(partner), membership) in {(one["RoleArn"], one.get("ExternalId")) for one in servers.asked}


def test_a_result_that_s3_does_not_take_is_refunded(desk: Desk, servers: Stand, service: Service) -> None:
    query = desk.start("SELECT id FROM visits", s3("closed"))["id"]
    ended = wait(lambda: desk.get(query), ENDS, 60)
    assert (ended["status"], ended["error"]["message"]) == ("FAILED", "The results could not be delivered.")
    assert objects(servers, "closed") == {}
    job = service.job(query).id
    assert [line["kind"] for line in _entries(service, job)] == ["reserve", "post", "refund"]


def test_a_runner_who_guesses_where_the_data_lies_is_not_told(
    desk: Desk, servers: Stand, service: Service
) -> None:
    """Its bucket, one that takes nothing and one that is not there: all that the runner sees is alike."""
    right = f"data-{desk.accounts['owner']}"
    before = objects(servers, right)
    seen = {bucket: _guess(desk, service, bucket) for bucket in (right, "closed", "nowhere")}
    assert seen["closed"]["status"] == "FAILED"
    assert seen["closed"]["error"]["message"] == "The results could not be delivered."
    assert seen[right] == seen["closed"] == seen["nowhere"]
    assert objects(servers, right) == before


def test_the_right_guess_is_not_told_beside_another_receiver_either(
    desk: Jobs, servers: Stand, service: Service
) -> None:
    """One who has received in the meantime, and one who has not because its turn would have been later."""
    own = {"outputConfiguration": s3("partner-own", "taken"), "roleArn": role(desk.accounts["partner"])}
    desk.client("partner").update_membership(**desk.own("partner"), defaultResultConfiguration=own)
    right = f"data-{desk.accounts['owner']}"
    before = objects(servers, right)
    for first in (True, False):
        seen = {}
        for bucket in (right, "closed"):
            locations = [s3(bucket), desk.member("partner")]
            output = {"distribute": {"locations": locations if first else locations[::-1]}}
            seen[bucket] = _guess(desk, service, bucket, output)
        assert seen[right] == seen["closed"]
        charged = seen[right]["statistics"]["billedResourceUtilization"]["units"]
        assert bool(charged) is not first, seen
    assert objects(servers, right) == before


def _guess(desk: Desk, service: Service, bucket: str, output: Any = None) -> dict[str, Any]:
    """What the runner is told of a query for this bucket, its name and what differs for every query aside."""
    started = desk.start("SELECT id FROM visits", output or s3(bucket))
    ended = wait(lambda: desk.get(started["id"]), ENDS, 60)
    explained = desk.room.passbox(desk.accounts["runner"]).explain_job(
        **desk.own(), jobIdentifier=started["id"]
    )
    book = _entries(service, service.job(started["id"]).id)
    for told in (ended, explained):
        for volatile in ("id", "createTime", "resultConfiguration", "ResponseMetadata", "jobIdentifier"):
            told.pop(volatile, None)
    del ended["statistics"]["totalDurationInMillis"]
    return {**ended, "explained": explained, "book": [(entry["kind"], entry["cost_type"]) for entry in book]}


def test_without_a_role_nothing_can_be_delivered(desk: Jobs) -> None:
    """The partner has named no role, and the room writes in no other."""
    desk.default("partner")
    with pytest.raises(desk.client().exceptions.ValidationException) as told:
        desk.start("SELECT id FROM visits", desk.member("partner"))
    message = told.value.response["Error"]["Message"]
    assert "nothing can be delivered to the default location" in message
    assert "partner-own" not in message


def test_a_table_that_glue_does_not_know_is_refused_at_the_door(desk: Desk) -> None:
    client = desk.client("owner")
    for reference, error in (
        ({"glue": {"databaseName": "db", "tableName": "none"}}, "ResourceNotFoundException"),
        ({"athena": {"workGroup": "w", "databaseName": "db", "tableName": "t"}}, "ValidationException"),
    ):
        with pytest.raises(getattr(client.exceptions, error)):
            client.create_configured_table(
                name="t", tableReference=reference, allowedColumns=["a"], analysisMethod="DIRECT_QUERY"
            )


def _entries(service: Service, job: str) -> list[dict[str, Any]]:
    return [entry for entry in ledger(Path(service.settings.home))["transfers"] if entry["job"] == job]
