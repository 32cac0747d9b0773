"""The main job on real data, by stock boto3 clients against a service of its own.

An airline (flights), a weather bureau (weather) and an aircraft registry (planes) predict late arrivals with
the model of a fourth party, a vendor. Nobody's table leaves its owner. Root of the demo: it starts the
service and acts as its operator; everything else goes over the wire.
"""

import contextlib
import json
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from passbox import service
from passbox.access import keys
from passbox.backends.images.store import ImageStore
from passbox.demo import data
from passbox.errors import Misconfigured
from passbox.ledger import book, statements
from passbox.settings import Settings
from passbox.state import accounts, transfers
from passbox.state.database import Database

AIRLINE, BUREAU, REGISTRY, VENDOR = "111111111111", "222222222222", "333333333333", "444444444444"
PARTIES = {
    AIRLINE: "airline",
    BUREAU: "weather bureau",
    REGISTRY: "aircraft registry",
    VENDOR: "model vendor",
}
TABLES = {"flights": AIRLINE, "weather": BUREAU, "planes": REGISTRY}
IMAGE = f"{VENDOR}.dkr.ecr.us-east-1.amazonaws.com/late-arrivals:1"
QUERY = """\
SELECT f.month, f.day, f.hour, f.carrier, f.origin, f.dest, f.distance, f.dep_delay,
       w.temp, w.wind_speed, w.visib, p.year AS plane_year, p.engines, p.seats,
       CASE WHEN f.arr_delay > 30 THEN 1 ELSE 0 END AS late
FROM flights f
JOIN weather w ON f.origin = w.origin AND f.time_hour = w.time_hour
JOIN planes p ON f.tailnum = p.tailnum
WHERE f.arr_delay IS NOT NULL AND f.month {months}
"""
ALLOWED = {
    "flights": [
        "month",
        "day",
        "hour",
        "carrier",
        "origin",
        "dest",
        "distance",
        "dep_delay",
        "arr_delay",
        "tailnum",
        "time_hour",
    ],
    "weather": ["origin", "time_hour", "temp", "wind_speed", "visib"],
    "planes": ["tailnum", "year", "engines", "seats"],
}
HIDDEN = {"flights": ["tailnum", "time_hour"], "weather": ["time_hour"], "planes": ["tailnum"]}
POLL_SECONDS = 0.1
LONGEST_SECONDS = 300.0


@dataclass
class Stage:
    """The room while the demo runs: clients for each party and what has happened so far."""

    endpoint: str
    home: Path
    pairs: dict[str, tuple[str, str]]
    say: Callable[[str], None]
    started: float
    timings: dict[str, float] = field(default_factory=dict)
    _clients: dict[tuple[str, str], Any] = field(default_factory=dict)

    def client(self, service_name: str, account: str) -> Any:
        """A stock boto3 client of one party."""
        import boto3

        if (service_name, account) not in self._clients:
            id, secret = self.pairs[account]
            self._clients[service_name, account] = boto3.client(
                service_name,
                endpoint_url=self.endpoint,
                region_name="us-east-1",
                aws_access_key_id=id,
                aws_secret_access_key=secret,
            )
        return self._clients[service_name, account]

    def cleanrooms(self, account: str) -> Any:
        return self.client("cleanrooms", account)

    def ml(self, account: str) -> Any:
        return self.client("cleanroomsml", account)

    def tell(self, line: str) -> None:
        """A line with the time since the start."""
        self.say(f"[{time.monotonic() - self.started:6.2f} s] {line}")


def run(home: Path | None, *, as_json: bool) -> None:
    """Runs the demo in `home`, or in a temporary directory that is kept for a look afterwards."""
    try:
        import boto3  # noqa: F401  the demo's own extra
    except ImportError:
        raise Misconfigured("The demo needs boto3; run: pip install 'passbox[demo]'") from None
    if home is None:
        home = Path(tempfile.mkdtemp(prefix="passbox-demo-"))
    elif home.exists() and any(home.iterdir()):
        raise Misconfigured(f"{home} is not empty; give the demo a directory of its own.")
    started = time.monotonic()

    def say(line: str) -> None:
        if not as_json:
            print(line, flush=True)

    settings = Settings(home.absolute())
    pairs = _open_accounts(settings)
    with _service(settings) as endpoint:
        stage = Stage(endpoint, settings.home, pairs, say, started)
        stage.tell(f"the service is ready at {endpoint} (home {home})")
        stage.timings["service"] = time.monotonic() - started
        report = _main_job(stage)
    report["seconds"] = round(time.monotonic() - started, 2)
    report["home"] = str(settings.home)
    report["timings"] = {name: round(seconds, 2) for name, seconds in stage.timings.items()}
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        _print(report)


def _open_accounts(settings: Settings) -> dict[str, tuple[str, str]]:
    """What the operator does first: accounts, the owners' tables, the vendor's image."""
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = keys.load_key_file(settings.key_file)
    pairs = {}
    database = Database(settings.database)
    with database.write() as tx:
        for account, name in PARTIES.items():
            accounts.create(tx, account, name)
            pairs[account] = keys.create(tx, key, account, None, None)
    database.close()
    for account in PARTIES:
        (settings.accounts / account).mkdir(parents=True, mode=0o700)
    data.place(settings.accounts, TABLES)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(_folder("image"))
        ImageStore(settings.images).add(IMAGE, folder)
    return pairs


@contextlib.contextmanager
def _folder(name: str) -> Iterator[Path]:
    from importlib.resources import as_file

    with as_file(files("passbox.demo") / name) as path:
        yield path


def _serve(settings: Settings, pipe: Any) -> None:
    log = os.open(settings.home / "service.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 2)
    service.run(settings, "127.0.0.1", 0, 2, pipe.send, json_logs=True)


@contextlib.contextmanager
def _service(settings: Settings) -> Iterator[str]:
    """`passbox serve` in a process of its own, on a free port."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(settings, sender))
    process.start()
    try:
        if not receiver.poll(20):
            raise Misconfigured(f"The service did not start; see {settings.home / 'service.log'}.")
        yield receiver.recv()
    finally:
        process.terminate()
        process.join(15)


def _main_job(stage: Stage) -> dict[str, Any]:
    collaboration, memberships = _found(stage)
    _bring_tables(stage, memberships)
    association = _bring_algorithm(stage, memberships)
    for table in TABLES:
        _allow(stage, memberships, table, association)
    _show_refusals(stage, memberships[AIRLINE], association)
    train = _channel(stage, memberships[AIRLINE], association, "flights-jan-to-sep", "<= 9")
    score = _channel(stage, memberships[AIRLINE], association, "flights-oct-to-dec", "> 9")
    model = _train(stage, memberships[AIRLINE], association, train)
    _infer(stage, memberships[AIRLINE], model, score)
    _export(stage, memberships[AIRLINE], collaboration, model)
    return _report(stage, collaboration, memberships, train, model)


def _pays(compute: bool, training: bool, inference: bool) -> dict[str, Any]:
    return {
        "queryCompute": {"isResponsible": compute},
        "machineLearning": {
            "modelTraining": {"isResponsible": training},
            "modelInference": {"isResponsible": inference},
        },
    }


def _found(stage: Stage) -> tuple[str, dict[str, str]]:
    """The collaboration with several payer candidates for each cost type, and everyone's membership."""
    payment = {
        AIRLINE: _pays(True, True, True),
        BUREAU: _pays(True, False, False),
        REGISTRY: _pays(False, False, False),
        VENDOR: _pays(False, True, True),
    }
    ml = {"customMLMemberAbilities": ["CAN_RECEIVE_MODEL_OUTPUT", "CAN_RECEIVE_INFERENCE_OUTPUT"]}
    created = stage.cleanrooms(AIRLINE).create_collaboration(
        name="Late arrivals",
        description="Predict which flights arrive more than 30 minutes late",
        creatorDisplayName=PARTIES[AIRLINE],
        creatorMemberAbilities=["CAN_QUERY", "CAN_RECEIVE_RESULTS"],
        creatorMLMemberAbilities=ml,
        creatorPaymentConfiguration=payment[AIRLINE],
        queryLogStatus="DISABLED",
        members=[
            {
                "accountId": account,
                "displayName": PARTIES[account],
                "memberAbilities": [],
                "paymentConfiguration": payment[account],
            }
            for account in (BUREAU, REGISTRY, VENDOR)
        ],
    )["collaboration"]
    stage.tell(f"the airline creates the collaboration {created['id']}")
    memberships = {}
    for account in PARTIES:
        joined = stage.cleanrooms(account).create_membership(
            collaborationIdentifier=created["id"],
            queryLogStatus="DISABLED",
            paymentConfiguration=payment[account],
        )["membership"]
        memberships[account] = joined["id"]
        stage.ml(account).put_ml_configuration(
            membershipIdentifier=joined["id"],
            defaultOutputLocation={
                "destination": {"s3Destination": {"s3Uri": f"s3://results-{account}/room"}},
                "roleArn": f"arn:aws:iam::{account}:role/passbox",
            },
        )
        stage.tell(f"the {PARTIES[account]} joins and accepts what it is asked to pay")
    return created["id"], memberships


def _bring_tables(stage: Stage, memberships: dict[str, str]) -> None:
    for table, owner in TABLES.items():
        client = stage.cleanrooms(owner)
        configured = client.create_configured_table(
            name=table,
            tableReference={"glue": {"databaseName": data.DATABASE, "tableName": table}},
            allowedColumns=ALLOWED[table],
            analysisMethod="DIRECT_QUERY",
        )["configuredTable"]["id"]
        client.create_configured_table_analysis_rule(
            configuredTableIdentifier=configured,
            analysisRuleType="CUSTOM",
            analysisRulePolicy={
                "v1": {
                    "custom": {
                        "allowedAnalyses": ["ANY_QUERY"],
                        "allowedAnalysisProviders": [AIRLINE],
                        "additionalAnalyses": "REQUIRED",
                        "disallowedOutputColumns": HIDDEN[table],
                    }
                }
            },
        )
        client.create_configured_table_association(
            name=table,
            membershipIdentifier=memberships[owner],
            configuredTableIdentifier=configured,
            roleArn=f"arn:aws:iam::{owner}:role/passbox",
        )
        stage.tell(
            f"the {PARTIES[owner]} brings its table {table}; {', '.join(HIDDEN[table])} may not come out"
        )


def _bring_algorithm(stage: Stage, memberships: dict[str, str]) -> str:
    client = stage.ml(VENDOR)
    algorithm = client.create_configured_model_algorithm(
        name="late-arrivals",
        roleArn=f"arn:aws:iam::{VENDOR}:role/passbox",
        trainingContainerConfig={
            "imageUri": IMAGE,
            "metricDefinitions": [
                {"name": "auc", "regex": r"^auc=([0-9.]+)"},
                {"name": "accuracy", "regex": r"^accuracy=([0-9.]+)"},
            ],
        },
        inferenceContainerConfig={"imageUri": IMAGE},
    )["configuredModelAlgorithmArn"]
    association: str = client.create_configured_model_algorithm_association(
        membershipIdentifier=memberships[VENDOR],
        configuredModelAlgorithmArn=algorithm,
        name="late-arrivals",
        privacyConfiguration={
            "policies": {
                "trainedModels": {
                    "containerLogs": [
                        {"allowedAccountIds": [VENDOR], "filterPattern": "^(rows|auc|accuracy)="}
                    ],
                    "containerMetrics": {"noiseLevel": "NONE"},
                    "maxArtifactSize": {"unit": "GB", "value": 0.1},
                },
                "trainedModelExports": {
                    "filesToExport": ["MODEL"],
                    "maxSize": {"unit": "GB", "value": 0.1},
                },
                "trainedModelInferenceJobs": {"maxOutputSize": {"unit": "GB", "value": 0.1}},
            }
        },
    )["configuredModelAlgorithmAssociationArn"]
    stage.tell("the model vendor brings its algorithm; only the vendor may read three kinds of log line")
    return association


def _allow(stage: Stage, memberships: dict[str, str], table: str, association: str) -> None:
    owner = TABLES[table]
    client = stage.cleanrooms(owner)
    page = client.list_configured_table_associations(membershipIdentifier=memberships[owner])
    [found] = page["configuredTableAssociationSummaries"]
    client.create_configured_table_association_analysis_rule(
        membershipIdentifier=memberships[owner],
        configuredTableAssociationIdentifier=found["id"],
        analysisRuleType="CUSTOM",
        analysisRulePolicy={
            "v1": {"custom": {"allowedResultReceivers": [], "allowedAdditionalAnalyses": [association]}}
        },
    )


def _request(association: str, name: str, query: str) -> dict[str, Any]:
    return {
        "configuredModelAlgorithmAssociations": [association],
        "name": name,
        "retentionInDays": 1,
        "inputChannel": {
            "roleArn": f"arn:aws:iam::{AIRLINE}:role/passbox",
            "dataSource": {
                "protectedQueryInputParameters": {
                    "sqlParameters": {"queryString": query},
                    "computeConfiguration": {"worker": {"type": "CR.1X", "number": 2}},
                }
            },
        },
    }


def _show_refusals(stage: Stage, membership: str, association: str) -> None:
    """What the room says no to: a column that may not come out, and a run that names no payer."""
    client = stage.ml(AIRLINE)
    tries = {
        "a query for the aircraft's tail numbers": (
            "SELECT p.tailnum FROM planes p",
            {"computePayerAccountId": BUREAU},
        ),
        "a run without a payer, where two members could pay": (QUERY.format(months="= 1"), None),
    }
    for label, (query, payer) in tries.items():
        request = _request(association, "refused", query)
        if payer is not None:
            request["payerConfiguration"] = payer
        try:
            client.create_ml_input_channel(membershipIdentifier=membership, **request)
        except client.exceptions.ValidationException as refusal:
            stage.tell(f"refused: {label}: {refusal.response['Error']['Message']}")
        else:
            raise AssertionError(f"{label} was not refused")


def _wait(stage: Stage, label: str, get: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Polls until the job rests, saying how far it is."""
    begun, said = time.monotonic(), ""
    while time.monotonic() - begun < LONGEST_SECONDS:
        found = get()
        status = found["status"]
        progress = found.get("statusDetails", {}).get("message", "")
        if status in ("ACTIVE", "CREATE_FAILED", "INACTIVE"):
            took = time.monotonic() - begun
            stage.timings[label] = took
            if status != "ACTIVE":
                raise Misconfigured(f"{label} ended {status}: {progress}")
            stage.tell(f"{label}: {status} after {took:.1f} s")
            return found
        if progress != said:
            stage.tell(f"{label}: {progress}")
            said = progress
        time.sleep(POLL_SECONDS)
    raise Misconfigured(f"{label} is still {status} after {LONGEST_SECONDS:.0f} s")


def _channel(stage: Stage, membership: str, association: str, name: str, months: str) -> dict[str, Any]:
    client = stage.ml(AIRLINE)
    arn = client.create_ml_input_channel(
        membershipIdentifier=membership,
        payerConfiguration={"computePayerAccountId": BUREAU},
        **_request(association, name, QUERY.format(months=months)),
    )["mlInputChannelArn"]
    stage.tell(f"the airline submits the channel {name}; the weather bureau pays for its compute")
    channel = _wait(
        stage,
        f"channel {name}",
        lambda: client.get_ml_input_channel(membershipIdentifier=membership, mlInputChannelArn=arn),
    )
    stage.tell(f"channel {name}: {channel['numberOfRecords']:,} records, {channel['sizeInGb'] * 1000:.1f} MB")
    return channel


def _train(stage: Stage, membership: str, association: str, channel: dict[str, Any]) -> dict[str, Any]:
    client = stage.ml(AIRLINE)
    arn = client.create_trained_model(
        membershipIdentifier=membership,
        name="late-arrivals",
        configuredModelAlgorithmAssociationArn=association,
        hyperparameters={"label": "late"},
        resourceConfig={"instanceType": "ml.m5.xlarge", "volumeSizeInGB": 10},
        dataChannels=[{"mlInputChannelArn": channel["mlInputChannelArn"], "channelName": "train"}],
        mlModelTrainingPayerAccountId=VENDOR,
    )["trainedModelArn"]
    stage.tell("the airline submits the training; the model vendor pays")
    return _wait(
        stage,
        "training",
        lambda: client.get_trained_model(membershipIdentifier=membership, trainedModelArn=arn),
    )


def _infer(stage: Stage, membership: str, model: dict[str, Any], channel: dict[str, Any]) -> None:
    client = stage.ml(AIRLINE)
    arn = client.start_trained_model_inference_job(
        membershipIdentifier=membership,
        name="autumn",
        trainedModelArn=model["trainedModelArn"],
        resourceConfig={"instanceType": "ml.m5.xlarge"},
        dataSource={"mlInputChannelArn": channel["mlInputChannelArn"]},
        outputConfiguration={"accept": "text/csv", "members": [{"accountId": AIRLINE}]},
        mlModelInferencePayerAccountId=AIRLINE,
    )["trainedModelInferenceJobArn"]
    stage.tell("the airline submits the inference and pays for it itself")
    _wait(
        stage,
        "inference",
        lambda: client.get_trained_model_inference_job(
            membershipIdentifier=membership, trainedModelInferenceJobArn=arn
        ),
    )


def _export(stage: Stage, membership: str, collaboration: str, model: dict[str, Any]) -> None:
    client = stage.ml(AIRLINE)
    client.start_trained_model_export_job(
        membershipIdentifier=membership,
        name="model",
        trainedModelArn=model["trainedModelArn"],
        outputConfiguration={"members": [{"accountId": AIRLINE}]},
    )

    def get() -> dict[str, Any]:
        page = client.list_collaboration_trained_model_export_jobs(
            collaborationIdentifier=collaboration, trainedModelArn=model["trainedModelArn"]
        )
        found: dict[str, Any] = page["collaborationTrainedModelExportJobs"][0]
        return found

    _wait(stage, "export", get)


def _report(
    stage: Stage,
    collaboration: str,
    memberships: dict[str, str],
    channel: dict[str, Any],
    model: dict[str, Any],
) -> dict[str, Any]:
    """What each party can see, asked as that party, and what each paid, from the book."""
    database = Database(stage.home / "passbox.sqlite")
    with database.read() as tx:
        book.check(tx)
        lines = statements.lines(transfers.all_(tx))
    database.close()
    parties = {}
    for account, name in PARTIES.items():
        tables = stage.cleanrooms(account).list_configured_tables()["configuredTableSummaries"]
        seen = stage.ml(account).get_collaboration_ml_input_channel(
            collaborationIdentifier=collaboration, mlInputChannelArn=channel["mlInputChannelArn"]
        )
        status = stage.ml(account).get_collaboration_trained_model(
            collaborationIdentifier=collaboration, trainedModelArn=model["trainedModelArn"]
        )
        received = sorted(
            path for path in (stage.home / "accounts" / account / "buckets").rglob("*") if path.is_file()
        )
        parties[account] = {
            "name": name,
            "tables": [table["name"] for table in tables],
            "recordsOfChannel": seen["numberOfRecords"],
            "seesSql": account == AIRLINE or "inputChannel" in seen,
            "logs": status.get("logsStatus") == "PUBLISH_SUCCEEDED",
            "metrics": status.get("metricsStatus") == "PUBLISH_SUCCEEDED",
            "received": [str(path) for path in received],
            "paid": {line.cost_type: line.posted for line in lines if line.payer == account},
        }
    return {
        "collaboration": collaboration,
        "parties": parties,
        "metrics": _metrics(stage.home / "accounts" / AIRLINE / "logs"),
    }


def _metrics(logs: Path) -> dict[str, float]:
    """The model's metrics as the airline was given them."""
    found = {}
    for file in sorted(logs.rglob("*.metrics.jsonl")):
        for row in file.read_text().splitlines():
            metric = json.loads(row)
            found[metric["name"]] = metric["value"]
    return found


def _print(report: dict[str, Any]) -> None:
    table = Table(title="Who saw what, and who paid", title_justify="left")
    for column in ("party", "own tables", "could see", "paid"):
        table.add_column(column, overflow="fold")
    for account, party in report["parties"].items():
        sees = [f"channel size ({party['recordsOfChannel']:,} records), not its rows"]
        sees += [
            label
            for key, label in (("seesSql", "the SQL"), ("metrics", "metrics"), ("logs", "logs"))
            if party[key]
        ]
        sees += [Path(path).name for path in party["received"]]
        paid = [
            f"{cost.split('.')[-1]} {statements.dollars(amount)}" for cost, amount in party["paid"].items()
        ]
        table.add_row(
            f"{party['name']}\n{account}",
            ", ".join(party["tables"]) or "none",
            "; ".join(sees),
            "\n".join(paid) or "nothing",
        )
    width = max(110, shutil.get_terminal_size().columns)
    Console(width=width).print(table)
    metrics = ", ".join(f"{name} {value:.3f}" for name, value in report["metrics"].items())
    print(f"Model (held-out fifth of its training data): {metrics}")
    for account in report["parties"]:
        for path in report["parties"][account]["received"]:
            print(f"{PARTIES[account]} received {path}")
    print(
        f"Done in {report['seconds']:.1f} s. Who paid for what: passbox ledger show --home {report['home']}"
    )
