"""Inference jobs: a trained model scores a channel in a sealed server, and one receiver gets the results.

SageMaker's batch transform as Clean Rooms ML uses it: input split by record, several records in a request,
the answers put together in order, one line for each record. What part-00000.csv holds comes out as
part-00000.csv.out.
"""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from passbox.backends.runtimes import artifacts
from passbox.backends.runtimes.base import Mount, Sandbox
from passbox.disclosure import sizes
from passbox.errors import JobFailed
from passbox.jobs import container, live, standing
from passbox.jobs.batches import Header
from passbox.jobs.container import Container
from passbox.jobs.kind import Delivery, Output, Result, Tools, Workspace
from passbox.jobs.serving import AnswerTooLarge, Gone, Patience, Server
from passbox.jobs.trained_model import MODEL_FILE
from passbox.jobs.transform import Asked, Transform
from passbox.ledger import prices
from passbox.names import CSV_HEADER, CSV_HEADERS, Role
from passbox.state.database import Transaction
from passbox.state.resources import Resource

LONGEST_SECONDS = 25 * 3600  # as documented for inference jobs
_ENDING_SECONDS = 2.0


@dataclass(frozen=True)
class Plan:
    """Everything about an inference that was decided before it runs. receiver: account, s3 address, role"""

    id: str
    container: Container
    arguments: tuple[str, ...]
    archive: Path
    data: Path
    asked: Asked
    payload_mb: int
    max_output_bytes: int
    receiver: tuple[str, str, Role]
    policies: tuple[Mapping[str, Any], ...]
    instances: int = 1
    patience: Patience = field(default_factory=Patience)


def plan(tx: Transaction, resource: Resource, tools: Tools) -> Plan:
    """What the inference may use and who receives its results, from what state says now."""
    body, machine = resource.body, tools.machine
    instances = body["resourceConfig"].get("instanceCount", 1)
    association = standing.association(tx, body["configuredModelAlgorithmAssociationArn"])
    config = standing.container(tx, association, "inferenceContainerConfig")
    policies = standing.policies(association, "trainedModelInferenceJobs")
    model = standing.model(tx, body["trainedModelId"], tools)
    channel = standing.channel(tx, body["dataSource"]["mlInputChannelArn"], tools)
    if standing.result_format(channel) != "csv":
        raise JobFailed("INVALID_RESOURCE", "Inference reads a channel line by line; make one with CSV.")
    receiver = standing.destination(tx, resource, model, "CAN_RECEIVE_INFERENCE_OUTPUT", tools)
    image = tools.images.resolve(config["imageUri"], association.account)
    payload_mb = body["containerExecutionParameters"]["maxPayloadInMB"]
    return Plan(
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
            LONGEST_SECONDS,
        ),
        arguments=image.arguments("serve"),
        archive=tools.kept(model) / MODEL_FILE,
        data=tools.kept(channel),
        asked=Asked(
            payload_mb * sizes.MEGABYTE,
            body["outputConfiguration"].get("accept"),
            Header(body.get("environment", {}).get(CSV_HEADER, CSV_HEADERS[0])),
        ),
        payload_mb=payload_mb,
        max_output_bytes=sizes.in_bytes(policies.get("maxOutputSize", sizes.MOST_OUTPUT)),
        receiver=receiver,
        policies=tuple(policies.get("containerLogs", ())),
        instances=instances,
    )


def run(plan: Plan, workspace: Workspace, tools: Tools) -> Result:
    """Starts the servers, sends them every file, and puts the answers together."""
    model, results = workspace.directory("model"), workspace.directory("results")
    workspace.progress("unpacking the model")
    artifacts.unpack(plan.archive, model, max_bytes=container.disk(workspace.path, 100 * sizes.GIGABYTE))
    most = container.disk(workspace.path, plan.max_output_bytes)
    transform = Transform(plan.asked, most, workspace.progress)
    files = sorted(path for path in plan.data.iterdir() if path.is_file())
    # no more than there are files: a file is scored by one server
    logs = [workspace.path / f"log.{number}" for number in range(min(plan.instances, max(1, len(files))))]
    sandboxes: list[Sandbox] = []
    failure: tuple[str, str] | None = None
    output = Output("TrainedModelInferenceJobs", plan.id, workspace.path / "log", plan.policies)
    try:
        workspace.progress("starting the container" if len(logs) == 1 else f"starting {len(logs)} containers")
        for log in logs:
            mounts = (Mount(model, container.MODEL),)
            spec = plan.container.spec(plan.arguments, _variables(plan), mounts=mounts, log=log)
            sandboxes.append(container.start(tools, spec))
        servers = [Server(sandbox, plan.patience) for sandbox in sandboxes]
        usages = [sandbox.usage for sandbox in sandboxes]
        with live.watched(output, logs, usages, plan.container.instance.cpus, workspace):
            transform.run(files, results, servers)
    except JobFailed as refused:
        failure = refused.code, refused.message
    except AnswerTooLarge:
        failure = (
            "MAX_OUTPUT_SIZE_EXCEEDED",
            f"The results are larger than the {sizes.readable(plan.max_output_bytes)} that maxOutputSize of "
            "the algorithm association allows, or than the disk of the service can hold.",
        )
    except Gone:
        failure = _left(sandboxes, plan.container)
    finally:
        exits = [sandbox.kill() for sandbox in sandboxes]
        container.discard(model)
    return Result(
        fields={
            "inferenceContainerImageDigest": plan.container.image.digest,
            "isolation": tools.isolation.value,
            "scaled": plan.container.instance.scaled,
            "usage": container.usage(container.together(exits), transform.records) if exits else {},
        },
        measured={prices.MODEL_INFERENCE: transform.records * prices.MILLI},
        deliveries=(Delivery(*plan.receiver, {path.name: path for path in transform.written}),),
        output=replace(output, log=_joined(logs, workspace)),
        failure=failure,
    )


def _joined(logs: Sequence[Path], workspace: Workspace) -> Path:
    """The logs of all instances, one after the other."""
    with (workspace.path / "log").open("wb") as whole:
        for log in logs:
            if log.exists():
                with log.open("rb") as one:
                    shutil.copyfileobj(one, whole)
    return workspace.path / "log"


def _variables(plan: Plan) -> dict[str, str]:
    return {
        "SM_MODEL_DIR": container.MODEL,  # not SageMaker's here, but a server need not know where it runs
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": str(plan.payload_mb),
        "SAGEMAKER_BATCH_STRATEGY": "MULTI_RECORD",
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "1",
    }


def _left(sandboxes: Sequence[Sandbox], of: Container) -> tuple[str, str]:
    """Why a server is gone: what the first that ended says."""
    deadline = time.monotonic() + _ENDING_SECONDS
    while True:
        for sandbox in sandboxes:
            if (ended := sandbox.wait(0.05)) is not None:
                broken = container.broken_limit(ended, of)
                return broken or (
                    "AlgorithmError",
                    f"The container ended with exit status {ended.status} while it served.",
                )
        if time.monotonic() > deadline:
            return "AlgorithmError", "The container closed the connection without an answer."
