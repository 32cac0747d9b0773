"""Trained model export jobs: a version's files go to one receiver, as far as the algorithm's owner allows."""

from passbox.access import fetch
from passbox.access.call import Call
from passbox.errors import AccessDeniedException, ConflictException
from passbox.operations.brought import described, new
from passbox.operations.registry import Output, Params, operation
from passbox.operations.submission import IN_PROGRESS, submit
from passbox.operations.trained_model import usable_version, version, versions
from passbox.operations.trained_model_inference_job import receiver
from passbox.state import resources
from passbox.state.resources import Resource

KIND = "trained_model_export_job"


@operation("cleanroomsml.StartTrainedModelExportJob")
def start_trained_model_export_job(call: Call, params: Params) -> None:
    """Submits an export. The member who trained the model calls; without an export policy nothing leaves."""
    rows = versions(call, params["trainedModelArn"])
    model = usable_version(rows, params.get("trainedModelVersionIdentifier"))
    association = fetch.of_collaboration(
        call,
        "configured_model_algorithm_association",
        model.body["configuredModelAlgorithmAssociationArn"],
    )
    policies = association.body.get("privacyConfiguration", {}).get("policies", {})
    if "trainedModelExports" not in policies:
        raise AccessDeniedException(
            "The algorithm association has no trainedModelExports policy, so its models stay in the room. "
            "Its owner can associate the algorithm again with one."
        )
    receiver(call, params, "CAN_RECEIVE_MODEL_OUTPUT")
    name = params["name"]
    _check_name(call, name, model)
    body = {
        "outputConfiguration": params["outputConfiguration"],
        "trainedModelArn": model.arn,
        "trainedModelVersionIdentifier": model.body["versionIdentifier"],
        "trainedModelId": model.id,
        **({"description": params["description"]} if "description" in params else {}),
    }
    row = new(call, KIND, name, body, status="CREATE_PENDING", parent=model.id)
    resources.add(call.tx, row)
    submit(call, row, KIND)


def _check_name(call: Call, name: str, model: Resource) -> None:
    # files are delivered under the model's and the export's name, so that pair is used once, even where the
    # model of the earlier export has been deleted since
    used = resources.find(
        call.tx, KIND, statuses=(*IN_PROGRESS, "ACTIVE"), membership=call.membership.id, name=name
    )
    if any(resources.require(call.tx, "trained_model", row.parent or "").name == model.name for row in used):
        raise ConflictException(
            f"An export named {name} of a model named {model.name} exists already; choose another name.",
            reason="ALREADY_EXISTS",
        )


@operation("cleanroomsml.ListCollaborationTrainedModelExportJobs")
def list_collaboration_trained_model_export_jobs(call: Call, params: Params) -> Output:
    """The exports of a model, of one version where it is named."""
    wanted = params.get("trainedModelVersionIdentifier")
    rows = fetch.versions_of_collaboration(call, params["trainedModelArn"])
    rows = rows if wanted is None else [version(rows, wanted, default=-1)]

    parents = [row.id for row in rows]
    return call.page(params, KIND, described, "collaborationTrainedModelExportJobs", parents=parents)
