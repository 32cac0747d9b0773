"""Training jobs: a container learns from channels, sealed, and leaves a model and outputs in the room.

The SageMaker training contract: /opt/ml/input holds configuration and channels, /opt/ml/model and
/opt/ml/output take what the container leaves; a status other than 0 is a failure, explained in
/opt/ml/output/failure. Kept of a version are model.tar.gz and output.tar.gz.
"""

import contextlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from passbox.backends.images.image import PROGRAM
from passbox.backends.runtimes import artifacts
from passbox.backends.runtimes.base import Exit, Mount, SandboxSpec
from passbox.backends.runtimes.base import Output as Writable
from passbox.disclosure import messages, sizes
from passbox.errors import JobFailed
from passbox.jobs import channels, container, live, standing
from passbox.jobs.channels import MODEL_TYPE, REPLICATED, Input
from passbox.jobs.container import Container
from passbox.jobs.kind import Output, Result, Tools, Workspace
from passbox.ledger import prices
from passbox.state.database import Transaction
from passbox.state.resources import Resource

DEFAULT_SECONDS = 24 * 3600  # SageMaker's default of maxRuntimeInSeconds
MODEL_FILE, OUTPUT_FILE = "model.tar.gz", "output.tar.gz"
_CODE, _INPUT, _OUTPUT = "/opt/ml/code", "/opt/ml/input", "/opt/ml/output"
_DATA_TYPES = {"csv": "text/csv", "parquet": "application/x-parquet"}
_INTERFACE, _GROUP = "lo", "homogeneousCluster"
_LONGEST_VARIABLE = 100_000  # bytes; the kernel takes 128 KiB


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
    instances: int
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
    data = [standing.channel(tx, one["mlInputChannelArn"], tools) for one in body["dataChannels"]]
    instances = body["resourceConfig"].get("instanceCount", 1)
    image = tools.images.resolve(config["imageUri"], association.account)
    machine = tools.machine
    return Plan(
        name=resource.name or "",
        arn=resource.arn,
        id=resource.id,
        container=Container(
            image,
            tools.instances.give(
                body["resourceConfig"]["instanceType"],
                cpus=machine.cpus,
                memory_bytes=machine.memory_bytes,
                gpus=machine.gpus,
                count=instances,
            ),
            body.get("environment", {}),
            float(body.get("stoppingCondition", {}).get("maxRuntimeInSeconds", DEFAULT_SECONDS)),
        ),
        arguments=image.arguments("train", config.get("entrypoint", ()), config.get("arguments", ())),
        hyperparameters=body.get("hyperparameters", {}),
        inputs=_inputs(tx, body, data, tools),
        file_format=standing.result_format(data[0]),
        records=sum(channel.body["numberOfRecords"] for channel in data),
        volume_bytes=body["resourceConfig"]["volumeSizeInGB"] * sizes.GIGABYTE,
        instances=instances,
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
    mode = body.get("trainingInputMode", "File")
    found = [
        Input(
            data["channelName"],
            tools.kept(channel),
            _DATA_TYPES[standing.result_format(channel)],
            mode,
            data.get("s3DataDistributionType", REPLICATED),
        )
        for data, channel in zip(body["dataChannels"], channels, strict=True)
    ]
    for base in body.get("incrementalTrainingDataChannels", []):
        archive = tools.kept(standing.model(tx, base["trainedFrom"], tools)) / MODEL_FILE
        found.append(Input(base["channelName"], archive, MODEL_TYPE))
    if any(one.name in (".", "..") for one in found):
        raise JobFailed("INVALID_CHANNEL", "A channel cannot be called . or .., which are no directories.")
    return tuple(found)


def run(plan: Plan, workspace: Workspace, tools: Tools) -> Result:
    """Trains, on every instance at once, and packs what the containers left."""
    hosts = tuple(f"algo-{number}" for number in range(1, plan.instances + 1))
    left = [_Left(workspace, index) for index in range(plan.instances)]
    writable = container.writable(plan.container.instance.memory_bytes, plan.volume_bytes)
    log = workspace.path / "log"
    output = Output("TrainedModels", plan.id, log, plan.policies, plan.metrics, plan.noise)
    try:
        with contextlib.ExitStack() as stack:
            workspace.progress("starting the container")
            network = stack.enter_context(container.network(tools, hosts))
            sandboxes = []
            for index in range(plan.instances):
                mounts = stack.enter_context(channels.shown(plan.inputs, workspace, index, plan.instances))
                spec = _spec(plan, left[index], writable, hosts, index)
                spec = replace(spec, mounts=(*spec.mounts, *mounts), network=network)
                sandboxes.append(container.start(tools, spec))
                stack.callback(sandboxes[-1].kill)
            workspace.progress("training")
            logs, usages = [one.log for one in left], [one.usage for one in sandboxes]
            with live.watched(output, logs, usages, plan.container.instance.cpus, workspace):
                exits, counts = container.end(sandboxes)
        ended = exits[counts]
        _join_logs(log, [one.log for one in left])
        failure = container.broken_limit(ended, plan.container, writable["model"])
        if failure is None and ended.status != 0:
            failure = _own_failure(plan, ended, left[counts].output, log)
        if failure is None:
            workspace.progress("packing the artifacts")
            failure = _pack(plan, left, workspace.directory("kept"))
    finally:
        for one in left:
            container.discard(one.model, one.output, one.data)
    return Result(
        fields={
            "trainingContainerImageDigest": plan.container.image.digest,
            "isolation": tools.isolation.value,
            "scaled": plan.container.instance.scaled,
            "usage": container.usage(container.together(exits), plan.records),
        },
        measured={prices.MODEL_TRAINING: plan.records * prices.MILLI},
        kept=workspace.path / "kept" if failure is None else None,
        output=output,
        failure=failure,
    )


class _Left:
    """What one instance leaves: its log, and directories for what it writes."""

    def __init__(self, workspace: Workspace, index: int) -> None:
        mark = f"-{index + 1}" if index else ""
        self.log = workspace.path / f"log{mark}"
        self.model = workspace.directory(f"model{mark}")
        self.output = workspace.directory(f"output{mark}")
        self.data = workspace.directory(f"data{mark}")
        self.config = workspace.directory(f"config{mark}")


def _join_logs(log: Path, parts: list[Path]) -> None:
    """Puts what the instances said one behind the other, in order of the hosts."""
    for part in parts[1:]:
        with log.open("ab") as whole, part.open("rb") as source:
            shutil.copyfileobj(source, whole)
        part.unlink()


def _spec(
    plan: Plan, left: _Left, writable: Mapping[str, int], hosts: tuple[str, ...], index: int
) -> SandboxSpec:
    """The sandbox of one instance, without its channels."""
    for name, content in _configuration(plan, hosts, index).items():
        (left.config / name).write_text(json.dumps(content))
    places = {
        "model": (left.model, container.MODEL),
        "output": (left.output, _OUTPUT),
        "data": (left.data, f"{_OUTPUT}/data"),
    }
    # where the toolkit looks for scripts
    code = [Mount(one.source, _CODE) for one in plan.container.image.mounts if one.target == PROGRAM]
    return plan.container.spec(
        plan.arguments,
        _variables(plan, hosts, index),
        mounts=(Mount(left.config, f"{_INPUT}/config"), *code),
        outputs=tuple(Writable(host, place, writable[name]) for name, (host, place) in places.items()),
        log=left.log,
        host=hosts[index],
    )


def _configuration(plan: Plan, hosts: tuple[str, ...], index: int) -> dict[str, Any]:
    """The files of /opt/ml/input/config."""
    type = plan.container.instance.type
    return {
        "hyperparameters.json": dict(plan.hyperparameters),
        "inputdataconfig.json": {one.name: one.described() for one in plan.inputs},
        "resourceconfig.json": {
            "current_host": hosts[index],
            "hosts": list(hosts),
            "network_interface_name": _INTERFACE,
            "current_instance_type": type,
            "current_group_name": _GROUP,
            "instance_groups": [{"instance_group_name": _GROUP, "instance_type": type, "hosts": list(hosts)}],
        },
    }


def _variables(plan: Plan, hosts: tuple[str, ...], index: int) -> dict[str, str]:
    """The contract's variables, and those that the public sagemaker-training toolkit would derive from the
    files: a script written for it runs without it. With it, the toolkit sets its own."""
    hyperparameters = dict(plan.hyperparameters)
    configuration = _configuration(plan, hosts, index)
    variables = {
        **{f"SM_HP_{name.upper()}": value for name, value in hyperparameters.items() if _is_name(name)},
        "SM_MODEL_DIR": container.MODEL,
        "SM_OUTPUT_DIR": _OUTPUT,
        "SM_OUTPUT_DATA_DIR": f"{_OUTPUT}/data",
        "SM_INPUT_DIR": _INPUT,
        "SM_INPUT_CONFIG_DIR": f"{_INPUT}/config",
        "SM_INPUT_DATA_CONFIG": json.dumps(configuration["inputdataconfig.json"]),
        "SM_RESOURCE_CONFIG": json.dumps(configuration["resourceconfig.json"]),
        "SM_CHANNELS": json.dumps(sorted(one.name for one in plan.inputs)),
        **channels.variables(plan.inputs),
        "SM_HPS": json.dumps(hyperparameters),
        "SM_USER_ARGS": json.dumps([word for name in sorted(hyperparameters) for word in
                                    (f"-{name}" if len(name) == 1 else f"--{name}", hyperparameters[name])]),
        "SM_HOSTS": json.dumps(hosts),
        "SM_CURRENT_HOST": hosts[index],
        "SM_CURRENT_INSTANCE_TYPE": plan.container.instance.type,
        "SM_CURRENT_INSTANCE_GROUP": _GROUP,
        "SM_NETWORK_INTERFACE_NAME": _INTERFACE,
        "SM_NUM_CPUS": str(max(1, int(plan.container.instance.cpus))),
        "SM_NUM_GPUS": str(plan.container.instance.gpus),
        "SM_LOG_LEVEL": "20",
        "FILE_FORMAT": plan.file_format,
        "TRAINING_JOB_NAME": plan.name,
        "TRAINING_JOB_ARN": plan.arn,
    }  # fmt: skip
    variables["SM_TRAINING_ENV"] = json.dumps(_training_environment(plan, hosts, index))
    return {name: value for name, value in variables.items() if len(value.encode()) < _LONGEST_VARIABLE}


def _is_name(text: str) -> bool:
    return bool(text) and "=" not in text and "\0" not in text


def _training_environment(plan: Plan, hosts: tuple[str, ...], index: int) -> dict[str, Any]:
    """SM_TRAINING_ENV: the same again as one document, by the toolkit's names."""
    configuration = _configuration(plan, hosts, index)
    return {
        "channel_input_dirs": {one.name: one.place for one in plan.inputs},
        "current_host": hosts[index],
        "hosts": list(hosts),
        "hyperparameters": dict(plan.hyperparameters),
        "input_config_dir": f"{_INPUT}/config",
        "input_data_config": configuration["inputdataconfig.json"],
        "input_dir": _INPUT,
        "is_master": index == 0,
        "job_name": plan.name,
        "log_level": 20,
        "master_hostname": hosts[0],
        "model_dir": container.MODEL,
        "network_interface_name": _INTERFACE,
        "num_cpus": max(1, int(plan.container.instance.cpus)),
        "num_gpus": plan.container.instance.gpus,
        "output_data_dir": f"{_OUTPUT}/data",
        "output_dir": _OUTPUT,
        "resource_config": configuration["resourceconfig.json"],
    }


def _own_failure(plan: Plan, ended: Exit, output: Path, log: Path) -> tuple[str, str]:
    """A container that failed by its own account. Its words go to the log, which the policies guard, and to
    the message only as far as every reader may read that log."""
    text = messages.failure_text(container.failure_file(output))
    if text.strip():
        with log.open("ab") as file:
            file.write(f"\n{text}\n".encode())
    return "AlgorithmError", messages.failure_message(ended.status, text, plan.policies, plan.readers)


def _pack(plan: Plan, left: list[_Left], kept: Path) -> tuple[str, str] | None:
    """One archive of each kind; where several instances leave a file of one name, the first host's counts."""
    models, data = [one.model for one in left], [one.data for one in left]
    most = plan.max_artifact_bytes
    try:
        model = artifacts.harvest(models[0], kept / MODEL_FILE, others=models[1:], max_bytes=most)
        rest = most - model.content_bytes
        artifacts.harvest(data[0], kept / OUTPUT_FILE, others=data[1:], max_bytes=rest)
    except JobFailed as refused:
        if refused.code == "MAX_ARTIFACT_SIZE_EXCEEDED":
            return refused.code, (
                f"Model and output together are larger than the {sizes.readable(most)} that the algorithm "
                "association's maxArtifactSize allows."
            )
        return refused.code, refused.message
    return None
