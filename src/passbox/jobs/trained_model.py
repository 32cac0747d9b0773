"""Training jobs: a container learns from channels, sealed, and leaves a model and outputs in the room.

The SageMaker training contract: /opt/ml/input holds configuration and channels, /opt/ml/model and
/opt/ml/output take what the container leaves; a status other than 0 is a failure, explained in
/opt/ml/output/failure. Kept of a version are model.tar.gz and output.tar.gz.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from passbox.backends.runtimes import artifacts
from passbox.backends.runtimes.base import Exit, Mount, SandboxSpec
from passbox.backends.runtimes.base import Output as Writable
from passbox.disclosure import messages, sizes
from passbox.errors import JobFailed
from passbox.jobs import container, standing
from passbox.jobs.container import Container
from passbox.jobs.instances import instance
from passbox.jobs.kind import Output, Result, Tools, Workspace
from passbox.ledger import prices
from passbox.state.database import Transaction
from passbox.state.resources import Resource

DEFAULT_SECONDS = 24 * 3600  # SageMaker's default of maxRuntimeInSeconds
MODEL_FILE, OUTPUT_FILE = "model.tar.gz", "output.tar.gz"
_INPUT, _OUTPUT = "/opt/ml/input", "/opt/ml/output"
_MODEL_TYPE = "application/x-sagemaker-model"
_DATA_TYPES = {"csv": "text/csv", "parquet": "application/x-parquet"}
_HOSTS = {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "lo"}
_LONGEST_VARIABLE = 100_000  # bytes; the kernel takes 128 KiB


@dataclass(frozen=True)
class Input:
    """A channel: `source` is shown at /opt/ml/input/data/NAME, or as NAME/model.tar.gz where it is a file."""

    name: str
    source: Path
    type: str


@dataclass(frozen=True)
class Plan:
    """Everything about a training that was decided before it runs. records: of the data channels."""

    name: str
    arn: str
    id: str
    container: Container
    arguments: tuple[str, ...]
    hyperparameters: Mapping[str, str]
    inputs: tuple[Input, ...]
    file_format: str
    records: int
    volume_bytes: int
    max_artifact_bytes: int
    policies: tuple[Mapping[str, Any], ...]
    metrics: tuple[Mapping[str, str], ...]
    noise: str | None
    readers: tuple[str, ...]


def plan(tx: Transaction, resource: Resource, tools: Tools) -> Plan:
    """What the training may use, from what state says now."""
    body = resource.body
    association = standing.association(tx, body["configuredModelAlgorithmAssociationArn"])
    config = standing.container(tx, association, "trainingContainerConfig")
    policies = standing.policies(association, "trainedModels")
    channels = [standing.channel(tx, data["mlInputChannelArn"], tools) for data in body["dataChannels"]]
    image = tools.images.resolve(config["imageUri"], association.account)
    machine = tools.machine
    return Plan(
        name=resource.name or "",
        arn=resource.arn,
        id=resource.id,
        container=Container(
            image,
            instance(
                body["resourceConfig"]["instanceType"], cpus=machine.cpus, memory_bytes=machine.memory_bytes
            ),
            body.get("environment", {}),
            float(body.get("stoppingCondition", {}).get("maxRuntimeInSeconds", DEFAULT_SECONDS)),
        ),
        arguments=image.arguments("train", config.get("entrypoint", ()), config.get("arguments", ())),
        hyperparameters=body.get("hyperparameters", {}),
        inputs=_inputs(tx, body, channels, tools),
        file_format=standing.result_format(channels[0]),
        records=sum(channel.body["numberOfRecords"] for channel in channels),
        volume_bytes=body["resourceConfig"]["volumeSizeInGB"] * sizes.GIGABYTE,
        max_artifact_bytes=sizes.in_bytes(policies.get("maxArtifactSize", sizes.MOST_ARTIFACTS)),
        policies=tuple(policies.get("containerLogs", ())),
        metrics=tuple(config.get("metricDefinitions", ())),
        noise=policies.get("containerMetrics", {}).get("noiseLevel"),
        readers=standing.readers(tx, resource),
    )


def _inputs(
    tx: Transaction, body: Mapping[str, Any], channels: list[Resource], tools: Tools
) -> tuple[Input, ...]:
    """Data channels first, then the models to start from."""
    found = [
        Input(data["channelName"], tools.kept(channel), _DATA_TYPES[standing.result_format(channel)])
        for data, channel in zip(body["dataChannels"], channels, strict=True)
    ]
    for base in body.get("incrementalTrainingDataChannels", []):
        archive = tools.kept(standing.model(tx, base["trainedFrom"], tools)) / MODEL_FILE
        found.append(Input(base["channelName"], archive, _MODEL_TYPE))
    if any(one.name in (".", "..") for one in found):
        raise JobFailed("INVALID_CHANNEL", "A channel cannot be called . or .., which are no directories.")
    return tuple(found)


def run(plan: Plan, workspace: Workspace, tools: Tools) -> Result:
    """Trains, and packs what the container left."""
    left = {name: workspace.directory(name) for name in ("model", "output", "data")}
    log = workspace.path / "log"
    writable = container.writable(plan.container.instance.memory_bytes, plan.volume_bytes)
    try:
        workspace.progress("starting the container")
        sandbox = container.start(tools, _spec(plan, workspace, left, log, writable))
        workspace.progress("training")
        ended = container.end(sandbox)
        failure = container.broken_limit(ended, plan.container, writable["model"])
        if failure is None and ended.status != 0:
            failure = _own_failure(plan, ended, left["output"], log)
        if failure is None:
            workspace.progress("packing the artifacts")
            failure = _pack(plan, left, workspace.directory("kept"))
    finally:
        container.discard(*left.values())
    return Result(
        fields={
            "trainingContainerImageDigest": plan.container.image.digest,
            "isolation": tools.isolation.value,
            "usage": container.usage(ended, plan.records),
        },
        measured={prices.MODEL_TRAINING: plan.records * prices.MILLI},
        kept=workspace.path / "kept" if failure is None else None,
        output=Output("TrainedModels", plan.id, log, plan.policies, plan.metrics, plan.noise),
        failure=failure,
    )


def _spec(
    plan: Plan, workspace: Workspace, left: Mapping[str, Path], log: Path, writable: Mapping[str, int]
) -> SandboxSpec:
    config = workspace.directory("config")
    for name, content in _configuration(plan).items():
        (config / name).write_text(json.dumps(content))
    places = {"model": container.MODEL, "output": _OUTPUT, "data": f"{_OUTPUT}/data"}
    mounts = [Mount(config, f"{_INPUT}/config")]
    for one in plan.inputs:
        place = f"{_INPUT}/data/{one.name}"
        mounts.append(Mount(one.source, f"{place}/{MODEL_FILE}" if one.type == _MODEL_TYPE else place))
    return plan.container.spec(
        plan.arguments,
        _variables(plan),
        mounts=tuple(mounts),
        outputs=tuple(Writable(left[name], place, writable[name]) for name, place in places.items()),
        log=log,
    )


def _configuration(plan: Plan) -> dict[str, Any]:
    """The files of /opt/ml/input/config. FastFile is written as File, as SageMaker does."""
    return {
        "hyperparameters.json": dict(plan.hyperparameters),
        "inputdataconfig.json": {
            one.name: {
                "TrainingInputMode": "File",
                "S3DistributionType": "FullyReplicated",
                "RecordWrapperType": "None",
                "ContentType": one.type,
            }
            for one in plan.inputs
        },
        "resourceconfig.json": {
            **_HOSTS,
            "current_instance_type": plan.container.instance.type,
            "current_group_name": "homogeneousCluster",
        },
    }


def _variables(plan: Plan) -> dict[str, str]:
    """The contract's variables, by the names of the public sagemaker-training toolkit.

    SM_CHANNEL_TRAIN is always set, because the Clean Rooms guide promises it: to the first data channel where
    none is called train.
    """
    places = {one.name: f"{_INPUT}/data/{one.name}" for one in plan.inputs}
    variables = {
        "SM_MODEL_DIR": container.MODEL,
        "SM_OUTPUT_DIR": _OUTPUT,
        "SM_OUTPUT_DATA_DIR": f"{_OUTPUT}/data",
        "SM_INPUT_DIR": _INPUT,
        "SM_INPUT_CONFIG_DIR": f"{_INPUT}/config",
        "SM_CHANNELS": json.dumps(sorted(places)),
        "SM_CHANNEL_TRAIN": next(iter(places.values())),
        **{f"SM_CHANNEL_{name.upper()}": place for name, place in places.items()},
        "SM_HPS": json.dumps(dict(plan.hyperparameters)),
        "SM_HOSTS": json.dumps(_HOSTS["hosts"]),
        "SM_CURRENT_HOST": str(_HOSTS["current_host"]),
        "SM_NUM_CPUS": str(max(1, int(plan.container.instance.cpus))),
        "SM_NUM_GPUS": "0",
        "FILE_FORMAT": plan.file_format,
        "TRAINING_JOB_NAME": plan.name,
        "TRAINING_JOB_ARN": plan.arn,
    }
    return {name: value for name, value in variables.items() if len(value.encode()) < _LONGEST_VARIABLE}


def _own_failure(plan: Plan, ended: Exit, output: Path, log: Path) -> tuple[str, str]:
    """A container that failed by its own account. Its words go to the log, which the policies guard, and to
    the message only as far as every reader may read that log."""
    text = messages.failure_text(container.failure_file(output))
    if text.strip():
        with log.open("ab") as file:
            file.write(f"\n{text}\n".encode())
    return "AlgorithmError", messages.failure_message(ended.status, text, plan.policies, plan.readers)


def _pack(plan: Plan, left: Mapping[str, Path], kept: Path) -> tuple[str, str] | None:
    try:
        model = artifacts.harvest(left["model"], kept / MODEL_FILE, max_bytes=plan.max_artifact_bytes)
        rest = plan.max_artifact_bytes - model.content_bytes
        artifacts.harvest(left["data"], kept / OUTPUT_FILE, max_bytes=rest)
    except JobFailed as refused:
        if refused.code == "MAX_ARTIFACT_SIZE_EXCEEDED":
            most = sizes.readable(plan.max_artifact_bytes)
            return refused.code, (
                f"Model and output together are larger than the {most} that the algorithm association's "
                "maxArtifactSize allows."
            )
        return refused.code, refused.message
    return None
