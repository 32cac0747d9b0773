"""Inference jobs: a trained model scores a channel in a sealed server, and one receiver gets the results.

SageMaker's batch transform as Clean Rooms ML uses it: input split by record, several records in a request,
the answers put together in order, one line for each record. What part-00000.csv holds comes out as
part-00000.csv.out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from passbox.backends.runtimes import artifacts
from passbox.backends.runtimes.base import Mount, Sandbox
from passbox.disclosure import sizes
from passbox.errors import JobFailed
from passbox.jobs import container, standing
from passbox.jobs.batches import batches
from passbox.jobs.container import Container
from passbox.jobs.instances import instance
from passbox.jobs.kind import Delivery, Output, Result, Tools, Workspace
from passbox.jobs.serving import AnswerTooLarge, Gone, Patience, Server
from passbox.jobs.trained_model import MODEL_FILE
from passbox.ledger import prices
from passbox.names import Role
from passbox.state.database import Transaction
from passbox.state.resources import Resource

LONGEST_SECONDS = 25 * 3600  # as documented for inference jobs
_CONTENT_TYPE = "text/csv"
_ENDING_SECONDS = 2.0


@dataclass(frozen=True)
class Plan:
    """Everything about an inference that was decided before it runs. receiver: account, s3 address, role"""

    id: str
    container: Container
    arguments: tuple[str, ...]
    archive: Path
    data: Path
    payload_bytes: int
    payload_mb: int
    accept: str | None
    max_output_bytes: int
    receiver: tuple[str, str, Role]
    policies: tuple[Mapping[str, Any], ...]
    patience: Patience = field(default_factory=Patience)


def plan(tx: Transaction, resource: Resource, tools: Tools) -> Plan:
    """What the inference may use and who receives its results, from what state says now."""
    body, machine = resource.body, tools.machine
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
            instance(
                body["resourceConfig"]["instanceType"], cpus=machine.cpus, memory_bytes=machine.memory_bytes
            ),
            body.get("environment", {}),
            LONGEST_SECONDS,
        ),
        arguments=image.arguments("serve"),
        archive=tools.kept(model) / MODEL_FILE,
        data=tools.kept(channel),
        payload_bytes=payload_mb * sizes.MEGABYTE,
        payload_mb=payload_mb,
        accept=body["outputConfiguration"].get("accept"),
        max_output_bytes=sizes.in_bytes(policies.get("maxOutputSize", sizes.MOST_OUTPUT)),
        receiver=receiver,
        policies=tuple(policies.get("containerLogs", ())),
    )


def run(plan: Plan, workspace: Workspace, tools: Tools) -> Result:
    """Starts the server, sends it every file, and puts the answers together."""
    model, results = workspace.directory("model"), workspace.directory("results")
    log = workspace.path / "log"
    workspace.progress("unpacking the model")
    artifacts.unpack(plan.archive, model, max_bytes=container.disk(workspace.path, 100 * sizes.GIGABYTE))
    workspace.progress("starting the container")
    spec = plan.container.spec(
        plan.arguments, _variables(plan), mounts=(Mount(model, container.MODEL),), log=log
    )
    sandbox = container.start(tools, spec)
    transform = _Transform(plan, sandbox, workspace)
    failure: tuple[str, str] | None = None
    try:
        transform.run(results)
    except JobFailed as refused:
        failure = refused.code, refused.message
    except Gone:
        failure = _left(sandbox, plan.container)
    finally:
        transform.server.close()
        ended = sandbox.kill()
        container.discard(model)
    return Result(
        fields={
            "inferenceContainerImageDigest": plan.container.image.digest,
            "isolation": tools.isolation.value,
            "usage": container.usage(ended, transform.records),
        },
        measured={prices.MODEL_INFERENCE: transform.records * prices.MILLI},
        deliveries=(Delivery(*plan.receiver, {path.name: path for path in transform.written}),),
        output=Output("TrainedModelInferenceJobs", plan.id, log, plan.policies),
        failure=failure,
    )


def _variables(plan: Plan) -> dict[str, str]:
    return {
        "SM_MODEL_DIR": container.MODEL,  # not SageMaker's here, but a server need not know where it runs
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": str(plan.payload_mb),
        "SAGEMAKER_BATCH_STRATEGY": "MULTI_RECORD",
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "1",
    }


class _Transform:
    """One pass over the channel's files. records: scored so far; written: the results, in order."""

    def __init__(self, plan: Plan, sandbox: Sandbox, workspace: Workspace) -> None:
        self.plan = plan
        self.workspace = workspace
        self.server = Server(sandbox, plan.patience)
        self.records = 0
        self.written: list[Path] = []
        self._left = container.disk(workspace.path, plan.max_output_bytes)

    def run(self, results: Path) -> None:
        """JobFailed or Gone where it cannot go on."""
        self.server.await_ready()
        files = sorted(path for path in self.plan.data.iterdir() if path.is_file())
        for number, path in enumerate(files, start=1):
            self.workspace.progress(f"scoring file {number} of {len(files)}")
            self._file(path, results / f"{path.name}.out")

    def _file(self, path: Path, result: Path) -> None:
        headers = {"Content-Type": _CONTENT_TYPE}
        if self.plan.accept:
            headers["Accept"] = self.plan.accept
        with path.open("rb") as source, result.open("wb") as target:
            for batch in batches(source, self.plan.payload_bytes):
                try:
                    self._left -= self.server.invoke(batch.body, headers, target, self._left)
                except AnswerTooLarge:
                    most = sizes.readable(self.plan.max_output_bytes)
                    raise JobFailed(
                        "MAX_OUTPUT_SIZE_EXCEEDED",
                        f"The results are larger than the {most} that maxOutputSize of the algorithm "
                        "association allows, or than the disk of the service can hold.",
                    ) from None
                self.records += batch.records
        self.written.append(result)


def _left(sandbox: Sandbox, of: Container) -> tuple[str, str]:
    """Why the server is gone."""
    ended = sandbox.wait(_ENDING_SECONDS)
    if ended is None:
        return "AlgorithmError", "The container closed the connection without an answer."
    broken = container.broken_limit(ended, of)
    return broken or (
        "AlgorithmError",
        f"The container ended with exit status {ended.status} while it served.",
    )
