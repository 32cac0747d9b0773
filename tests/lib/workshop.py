"""A collaboration of three with a table and an algorithm, and work that ends without an engine or a sandbox.

`owner` created the collaboration and brings the table `visits`; `vendor` brings the algorithm; `runner` has
CAN_QUERY. Everything goes over boto3, except `work`: it stands in for the worker and walks every job that
waits through the real spine, with kinds of jobs that make up what a run would have measured. So states,
ledger, deliveries and the vault are the real ones, and a channel or a model is ACTIVE within milliseconds.
"""

import json
import sqlite3
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from lib.room import Room, collaborate, join, named, running
from passbox.__main__ import cli
from passbox.access.keys import load_key_file
from passbox.analysis import ApprovedPlan
from passbox.backends.catalogs.local import Local as LocalCatalog
from passbox.backends.engines import writer
from passbox.backends.engines.base import Target, Written
from passbox.backends.objects.local import Local
from passbox.backends.runtimes.base import Isolation
from passbox.errors import JobFailed
from passbox.jobs import delete_ml_input_channel_data, delete_trained_model_output, spine, standing
from passbox.jobs import protected_job as real_job
from passbox.jobs import protected_query as real_query
from passbox.jobs import trained_model_export_job as real_export
from passbox.jobs.kind import Delivery, Machine, NotYet, Result, Tools, Workspace
from passbox.ledger import prices
from passbox.manifest import Signer
from passbox.names import Role
from passbox.state import jobs, resources, statuses
from passbox.state.database import Database, Transaction
from passbox.state.resources import Resource

RECEIVES = ["CAN_RECEIVE_MODEL_OUTPUT", "CAN_RECEIVE_INFERENCE_OUTPUT"]
IMAGE = "vendor.example/models/late:1"
QUERY = "SELECT id, spent FROM visits"
PARTIES = ("owner", "runner", "vendor")
VISITS = "id,spent,ssn\n1,2.5,x\n2,3.5,y\n"
RECORDS = 250
POLICIES: dict[str, Any] = {
    "trainedModelExports": {"filesToExport": ["MODEL"], "maxSize": {"unit": "GB", "value": 1}}
}


class Made:
    """A kind of job whose run is made up: `fields` and `charges` as a real one measures them.

    A resource whose name begins with `fails` fails.
    """

    def __init__(self, cost_type: str, fields: Mapping[str, Any]) -> None:
        self.cost_type = cost_type
        self.fields = fields

    def plan(
        self, tx: Transaction, resource: Resource, tools: Tools
    ) -> tuple[Resource, tuple[str, str, Role] | None]:
        if resource.kind != "trained_model_inference_job":
            return resource, None
        model = resources.require(tx, "trained_model", resource.body["trainedModelId"])
        return resource, standing.destination(tx, resource, model, RECEIVES[1], tools)

    def run(
        self, plan: tuple[Resource, tuple[str, str, Role] | None], workspace: Workspace, _tools: Tools
    ) -> Result:
        resource, receiver = plan
        if (resource.name or "").startswith("fails"):
            return Result(failure=("AlgorithmError", "It failed, as its name says."))
        kept = workspace.directory("kept")
        for name in ("model.tar.gz", "output.tar.gz"):
            with tarfile.open(kept / name, "w:gz"):
                pass
        measured = (
            prices.crpu_milliseconds("CR.1X", 16, 90)
            if self.cost_type == prices.QUERY_COMPUTE
            else RECORDS * prices.MILLI
        )
        deliveries = () if receiver is None else (Delivery(*receiver, {"results": kept / "output.tar.gz"}),)
        return Result(self.fields, {self.cost_type: measured}, kept, deliveries)


class Pretends:
    """An engine to which every query's answer is the same, after 90 seconds; one with the parameter `fails`
    fails, one with `late` takes too long.
    """

    name = "sail"

    def run(self, plan: ApprovedPlan, _tables: Any, targets: Sequence[Target], *_more: Any) -> Written:
        import pyarrow as pa

        if "fails" in plan.parameters:
            raise JobFailed("INSUFFICIENT_COMPUTE", "It failed, as its parameter says.", detail="a secret")
        if "late" in plan.parameters:
            raise JobFailed("TIMED_OUT", "It ran longer than it was given.")
        rows = {"id": [1, 2]}
        if plan.privacy is not None:  # exact integers: a key for each group, and the measures
            parts = {"k": plan.privacy.groups, "m": plan.privacy.sensitivities}
            rows = {f"{sign}{n}": [0] for sign, part in parts.items() for n in range(len(part))}
        batch = pa.record_batch(rows)
        results = [
            writer.Parts(batch.schema, target.directory, target.format, writer.Options())
            for target in targets
        ]
        counted = writer.fill([batch], results)
        return Written(counted.rows, counted.files, counted.bytes, start_seconds=1.0, seconds=89.0)


KINDS: dict[str, Any] = {
    "ml_input_channel": Made(
        prices.QUERY_COMPUTE, {"numberOfRecords": RECORDS, "numberOfFiles": 1.0, "sizeInGb": 0.5}
    ),
    "trained_model": Made(
        prices.MODEL_TRAINING,
        {"trainingContainerImageDigest": "sha256:" + "0" * 64, "isolation": "sealed"},
    ),
    "trained_model_inference_job": Made(
        prices.MODEL_INFERENCE, {"inferenceContainerImageDigest": "sha256:" + "1" * 64}
    ),
    "trained_model_export_job": real_export,
    "protected_query": real_query,
    "protected_job": real_job,
    "delete_ml_input_channel_data": delete_ml_input_channel_data,
    "delete_trained_model_output": delete_trained_model_output,
}


def work(
    room: Room, isolation: Isolation = Isolation.SEALED, engine: Any = None, objects: Any = None
) -> None:
    """Walks every job that waits to its end, in this process and thread, on a machine that seals so well."""
    home = room.settings.home
    nothing: Any = None
    tools = Tools(
        vault=room.settings.vault,
        scratch=room.settings.scratch,
        catalog=LocalCatalog(room.settings.accounts),
        objects=objects or Local(room.settings.accounts),
        engine=engine or Pretends(),
        runtime=nothing,
        images=nothing,
        isolation=isolation,
        machine=Machine(1 << 30, 1.0),
        signer=Signer(load_key_file(room.settings.signing_key_file)),
    )
    for folder in (tools.vault / "staging", tools.scratch):
        folder.mkdir(parents=True, exist_ok=True)
    database = Database(home / "passbox.sqlite")
    try:
        while True:
            with database.write() as tx:
                job = jobs.claim(tx, "test")
            if job is None:
                return
            try:
                if job.cancel:
                    raise spine.Cancelled
                spine.walk(database, tools, KINDS, job)
            except NotYet:
                pass
            except spine.Cancelled:
                status = statuses.OF[job.kind].cancelled
                spine.abandon(database, tools, job, status, "CANCELLED", "The job was cancelled.")
    finally:
        database.close()


def expire(room: Room, channel: str) -> None:
    """What the calendar does: the retention of a channel, by its ARN, is over."""
    with closing(sqlite3.connect(room.settings.database)) as connection, connection:
        connection.execute(
            "UPDATE job SET lease = 0 WHERE state = 'queued' AND resource = ? "
            "AND kind = 'delete_ml_input_channel_data'",
            (channel.rpartition("/")[2],),
        )


def ledger(home: Path) -> dict[str, Any]:
    """`passbox ledger show` and `transfers`: what the operator sees, and a proof that the book balances."""

    def shown(command: str) -> Any:
        arguments = ["ledger", command, "--json", "--home", str(home)]
        return json.loads(CliRunner().invoke(cli, arguments, catch_exceptions=False).stdout)

    assert shown("check")["balances"] is True
    return {"lines": shown("show")["lines"], "transfers": shown("transfers")}


@contextmanager
def limited(home: Path, **quotas: float) -> Iterator[Room]:
    """A room whose operator has set quotas of its own."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "quotas.toml").write_text("".join(f"{name} = {value}\n" for name, value in quotas.items()))
    with running(home) as room:
        yield room


class Workshop:
    """The collaboration and its parties.

    payment: party → its PaymentConfiguration, which is also what it accepts; a party beyond the three is
    invited too, and joins when a test says so; policies: of the algorithm's association; accounts: party →
    account, new ones where not given; configs: the algorithm's containers; visits: the text of the table
    """

    def __init__(
        self,
        room: Room,
        payment: Mapping[str, Any] | None = None,
        *,
        policies: Mapping[str, Any] | None = POLICIES,
        accounts: Mapping[str, str] | None = None,
        configs: Mapping[str, Any] | None = None,
        visits: str | None = None,
    ) -> None:
        self.room = room
        payment = payment or {}
        self.accounts = dict(accounts or {})
        guests = [party for party in payment if party not in PARTIES]
        for party in (*PARTIES, *guests):
            self.accounts.setdefault(party, room.account())
        owner, runner, vendor = (self.accounts[party] for party in PARTIES)
        self.id = collaborate(
            room,
            owner,
            [
                named(runner, "CAN_QUERY", payment=payment.get("runner"), ml=RECEIVES),
                named(vendor, payment=payment.get("vendor"), ml=RECEIVES),
                *(named(self.accounts[party], payment=payment[party]) for party in guests),
            ],
            payment=payment.get("owner"),
        )
        self.memberships = {
            party: join(room, self.accounts[party], self.id, payment.get(party)) for party in PARTIES
        }
        algorithm = self.algorithm(f"late {self.id}", **(configs or {}))
        self.association = self.associate(algorithm=algorithm, policies=policies)
        self.table = self.bring("visits", VISITS if visits is None else visits, hidden=["ssn"])

    def account(self, party: str) -> str:
        return self.accounts[party]

    def cleanrooms(self, party: str = "runner") -> Any:
        return self.room.cleanrooms(self.accounts[party])

    def ml(self, party: str = "runner") -> Any:
        return self.room.cleanroomsml(self.accounts[party])

    def role(self, party: str) -> str:
        return f"arn:aws:iam::{self.accounts[party]}:role/passbox"

    def own(self, party: str = "runner") -> dict[str, str]:
        """The party's membershipIdentifier as a parameter."""
        return {"membershipIdentifier": self.memberships[party]}

    def whole(self) -> dict[str, str]:
        """The collaborationIdentifier as a parameter."""
        return {"collaborationIdentifier": self.id}

    def algorithm(self, name: str = "late", party: str = "vendor", **more: Any) -> str:
        """A configured model algorithm for training and inference; returns its ARN."""
        configs = {
            "trainingContainerConfig": {"imageUri": IMAGE},
            "inferenceContainerConfig": {"imageUri": IMAGE},
        }
        params = {"name": name, "roleArn": self.role(party), **(more or configs)}
        return str(self.ml(party).create_configured_model_algorithm(**params)["configuredModelAlgorithmArn"])

    def associate(
        self,
        name: str = "late",
        party: str = "vendor",
        policies: Mapping[str, Any] | None = None,
        algorithm: str | None = None,
        **more: Any,
    ) -> str:
        """Brings an algorithm, a new one where none is given; returns the association's ARN."""
        if algorithm is None:
            count = len(self.ml(party).list_configured_model_algorithms()["configuredModelAlgorithms"])
            algorithm = self.algorithm(f"{name} {count}", party)
        if policies is not None:
            more["privacyConfiguration"] = {"policies": policies}
        answer = self.ml(party).create_configured_model_algorithm_association(
            **self.own(party), configuredModelAlgorithmArn=algorithm, name=name, **more
        )
        return str(answer["configuredModelAlgorithmAssociationArn"])

    def bring(
        self, name: str, text: str, *, party: str = "owner", hidden: Sequence[str] = (), database: str = "db"
    ) -> str:
        """Brings a table with the custom rule: any query of the runner's, for the one algorithm; the `hidden`
        columns may not come out. Returns the table association's id."""
        owner = self.accounts[party]
        client = self.room.cleanrooms(owner)
        reference = self.room.put_csv(owner, name, text, database)
        table = client.create_configured_table(
            name=name,
            tableReference=reference,
            allowedColumns=text.partition("\n")[0].split(","),
            analysisMethod="DIRECT_QUERY",
        )["configuredTable"]["id"]
        client.create_configured_table_analysis_rule(
            configuredTableIdentifier=table,
            analysisRuleType="CUSTOM",
            analysisRulePolicy={
                "v1": {
                    "custom": {
                        "allowedAnalyses": ["ANY_QUERY"],
                        "allowedAnalysisProviders": [self.accounts["runner"]],
                        "additionalAnalyses": "REQUIRED",
                        "disallowedOutputColumns": [*hidden],
                    }
                }
            },
        )
        brought = client.create_configured_table_association(
            name=name, **self.own(party), configuredTableIdentifier=table, roleArn=self.role(party)
        )["configuredTableAssociation"]["id"]
        self.allow(brought, self.association, party=party)
        return str(brought)

    def allow(self, table: str, *associations: str, verb: str = "create", party: str = "owner") -> None:
        """Lets the table feed these algorithm associations and no others."""
        getattr(self.cleanrooms(party), f"{verb}_configured_table_association_analysis_rule")(
            **self.own(party),
            configuredTableAssociationIdentifier=table,
            analysisRuleType="CUSTOM",
            analysisRulePolicy={
                "v1": {"custom": {"allowedResultReceivers": [], "allowedAdditionalAnalyses": [*associations]}}
            },
        )

    def configure(self, party: str = "runner", **location: Any) -> None:
        """Gives a party an ML configuration with a destination."""
        location = location or {
            "roleArn": self.role(party),
            "destination": {"s3Destination": {"s3Uri": f"s3://results-{self.accounts[party]}/room"}},
        }
        self.ml(party).put_ml_configuration(**self.own(party), defaultOutputLocation=location)

    def channel_request(self, name: str = "visits", query: str = QUERY, **changes: Any) -> dict[str, Any]:
        source = {"sqlParameters": {"queryString": query}, **changes.pop("source", {})}
        return {
            **self.own(),
            "configuredModelAlgorithmAssociations": [self.association],
            "name": name,
            "retentionInDays": 1,
            "inputChannel": {
                "roleArn": self.role("runner"),
                "dataSource": {"protectedQueryInputParameters": source},
            },
            **changes,
        }

    def channel(self, name: str = "visits", **changes: Any) -> str:
        """Submits a channel; returns its ARN."""
        request = self.channel_request(name, **changes)
        return str(self.ml().create_ml_input_channel(**request)["mlInputChannelArn"])

    def get_channel(self, arn: str) -> Any:
        return self.ml().get_ml_input_channel(**self.own(), mlInputChannelArn=arn)

    def active_channel(self, name: str = "visits", **changes: Any) -> str:
        arn = self.channel(name, **changes)
        work(self.room)
        assert self.get_channel(arn)["status"] == "ACTIVE"
        return arn

    def model_request(self, channel: str, name: str = "late", **changes: Any) -> dict[str, Any]:
        return {
            **self.own(),
            "name": name,
            "configuredModelAlgorithmAssociationArn": self.association,
            "resourceConfig": {"instanceType": "ml.m5.xlarge", "volumeSizeInGB": 1},
            "dataChannels": [{"mlInputChannelArn": channel, "channelName": "train"}],
            **changes,
        }

    def model(self, channel: str, name: str = "late", **changes: Any) -> Any:
        """Submits a training; returns the answer: trainedModelArn and versionIdentifier."""
        return self.ml().create_trained_model(**self.model_request(channel, name, **changes))

    def active_model(self, channel: str, name: str = "late", **changes: Any) -> str:
        answer = self.model(channel, name, **changes)
        work(self.room)
        return str(answer["trainedModelArn"])

    def next_version(self, channel: str, model: str, name: str, **changes: Any) -> str:
        """Submits an incremental training of a model's latest version; returns the new version."""
        base = {"trainedModelArn": model, "channelName": "base", **changes.pop("base", {})}
        answer = self.model(channel, name, incrementalTrainingDataChannels=[base], **changes)
        assert answer["trainedModelArn"] == model
        return str(answer["versionIdentifier"])

    def inference_request(
        self, model: str, channel: str, name: str = "score", receiver: str = "runner", **changes: Any
    ) -> dict[str, Any]:
        return {
            **self.own(),
            "name": name,
            "trainedModelArn": model,
            "resourceConfig": {"instanceType": "ml.m5.xlarge"},
            "dataSource": {"mlInputChannelArn": channel},
            "outputConfiguration": {"members": [{"accountId": self.accounts[receiver]}]},
            **changes,
        }

    def inference(self, model: str, channel: str, name: str = "score", **changes: Any) -> str:
        """Submits an inference job; returns its ARN."""
        request = self.inference_request(model, channel, name, **changes)
        return str(self.ml().start_trained_model_inference_job(**request)["trainedModelInferenceJobArn"])

    def export_request(
        self, model: str, name: str = "take", receiver: str = "runner", **changes: Any
    ) -> dict[str, Any]:
        return {
            **self.own(),
            "name": name,
            "trainedModelArn": model,
            "outputConfiguration": {"members": [{"accountId": self.accounts[receiver]}]},
            **changes,
        }

    def export(self, model: str, name: str = "take", **changes: Any) -> None:
        """Submits an export."""
        self.ml().start_trained_model_export_job(**self.export_request(model, name, **changes))

    def transfers(self) -> list[dict[str, Any]]:
        """The book's entries of this collaboration, oldest first."""
        return [
            entry
            for entry in ledger(self.room.settings.home)["transfers"]
            if entry["collaboration"] == self.id
        ]

    def lines(self) -> list[dict[str, Any]]:
        """What the ledger says of this collaboration: a line for each payer and cost type."""
        return [line for line in ledger(self.room.settings.home)["lines"] if line["collaboration"] == self.id]
