"""Trained model inference jobs: a trained model scores a channel, and one receiver gets the results."""

from collections.abc import Callable

from passbox import names
from passbox.access import fetch
from passbox.access.call import Call, invalid
from passbox.errors import ConflictException
from passbox.ledger import payers, prices
from passbox.operations import quotas
from passbox.operations.brought import asked, described, new
from passbox.operations.member import paying_members
from passbox.operations.registry import Output, Params, operation
from passbox.operations.submission import UNDER_WAY, Cost, cancel, progress, sources, submit
from passbox.operations.tags import check_tags
from passbox.operations.trained_model import (
    algorithm_of,
    published,
    readable_channel,
    usable_version,
    version,
    versions,
)
from passbox.state import resources
from passbox.state.resources import Resource

KIND = "trained_model_inference_job"
_DEFAULT_PAYLOAD = 6  # MB, as documented


def _record(call: Call, row: Resource) -> Output:
    return {**described(row), **published(row, call.account), "trainedModelInferenceJobArn": row.arn}


def receiver(call: Call, params: Params, ability: str) -> str:
    """The one account that receives, if it may and has said where."""
    [member] = params["outputConfiguration"]["members"]
    account: str = member["accountId"]
    place = "outputConfiguration.members[0].accountId"
    row = resources.get(call.tx, "member", f"{call.collaboration.id}/{account}")
    if row is None or row.status != "ACTIVE":
        raise invalid(place, f"{place}: {account} is not an active member of the collaboration.")
    if ability not in (row.body.get("mlAbilities") or {}).get("customMLMemberAbilities", []):
        raise invalid(place, f"{place}: {account} does not have the ability {ability}.")
    configuration = resources.first(
        call.tx, "ml_configuration", collaboration=call.collaboration.id, account=account
    )
    if configuration is None or "destination" not in configuration.body["defaultOutputLocation"]:
        raise invalid(
            place,
            f"{place}: {account} has no ML configuration with a destination; it must call "
            "PutMLConfiguration first.",
        )
    return account


@operation("cleanroomsml.StartTrainedModelInferenceJob")
def start_trained_model_inference_job(call: Call, params: Params) -> Output:
    """Submits an inference job; the payer of it is settled here."""
    check_tags(params.get("tags"))
    rows = versions(call, params["trainedModelArn"])
    model = usable_version(rows, params.get("trainedModelVersionIdentifier"))
    association = fetch.of_collaboration(
        call,
        "configured_model_algorithm_association",
        params.get("configuredModelAlgorithmAssociationArn")
        or model.body["configuredModelAlgorithmAssociationArn"],
    )
    place = "configuredModelAlgorithmAssociationArn"
    if association.account != names.arn_account(model.body["configuredModelAlgorithmAssociationArn"]):
        raise invalid(
            place,
            f"{place}: the model was trained with an algorithm of another member, whose policies decide what "
            "leaves of it; use an algorithm association of that member.",
        )
    if "inferenceContainerConfig" not in algorithm_of(call, association).body:
        raise invalid(place, f"{place}: the algorithm has no inference container.")
    _check_header(params)
    place = "dataSource.mlInputChannelArn"
    channel = readable_channel(call, place, params["dataSource"]["mlInputChannelArn"], association.arn)
    source = channel.body["inputChannel"]["dataSource"]["protectedQueryInputParameters"]
    if source.get("resultFormat", "CSV") != "CSV":
        raise invalid(place, f"{place}: inference reads a channel line by line; make one with CSV.")
    receiver(call, params, "CAN_RECEIVE_INFERENCE_OUTPUT")
    payer = payers.resolve(
        paying_members(call.tx, call.collaboration.id),
        prices.MODEL_INFERENCE,
        "mlModelInferencePayerAccountId",
        params.get("mlModelInferencePayerAccountId"),
    )
    quotas.hold(call, "inference_jobs_per_membership", KIND, UNDER_WAY, membership=call.membership.id)
    quotas.hold(call, "inference_jobs_per_account", KIND, UNDER_WAY, account=call.account)
    _check_name(call, params["name"])
    row = _row(call, params, model, association, payer)
    resources.add(call.tx, row)
    records = channel.body["numberOfRecords"]
    basis = f"the {records:,} records of its channel"
    cost = Cost(prices.MODEL_INFERENCE, payer, records * prices.MILLI, basis)
    submit(call, row, KIND, cost, tables=sources(channel))
    return {"trainedModelInferenceJobArn": row.arn}


def _check_header(params: Params) -> None:
    said = params.get("environment", {}).get(names.CSV_HEADER)
    if said is not None and said not in names.CSV_HEADERS:
        place = f"environment.{names.CSV_HEADER}"
        raise invalid(place, f"{place} must be one of {', '.join(names.CSV_HEADERS)}; it is {said}.")


def _check_name(call: Call, name: str) -> None:
    # results are delivered under the job's name, so a name is used once
    used = resources.find(call.tx, KIND, membership=call.membership.id, name=name)
    if any(row.status in (*UNDER_WAY, "ACTIVE") for row in used):
        raise ConflictException(
            f"An inference job named {name} exists already; choose another name.", reason="ALREADY_EXISTS"
        )


def _row(call: Call, params: Params, model: Resource, association: Resource, payer: str) -> Resource:
    body = {
        **asked(params),
        "configuredModelAlgorithmAssociationArn": association.arn,
        "trainedModelVersionIdentifier": model.body["versionIdentifier"],
        "trainedModelId": model.id,
        "mlModelInferencePayerAccountId": payer,
        "containerExecutionParameters": params.get("containerExecutionParameters")
        or {"maxPayloadInMB": _DEFAULT_PAYLOAD},
    }
    return new(call, KIND, params["name"], body, status="CREATE_PENDING", parent=model.id)


@operation("cleanroomsml.GetTrainedModelInferenceJob")
def get_trained_model_inference_job(call: Call, params: Params) -> Output:
    """The caller's inference job."""
    row = fetch.of_membership(call, KIND, params["trainedModelInferenceJobArn"])
    return {**_record(call, row), **progress(call.tx, row)}


def _parents(params: Params, find: Callable[[str], list[Resource]]) -> list[str] | None:
    """The versions whose jobs are asked for; None for those of all models. find: ARN → versions in sight."""
    wanted = params.get("trainedModelVersionIdentifier")
    if "trainedModelArn" not in params:
        return None if wanted is None else [wanted]  # a version's row has its identifier
    rows = find(params["trainedModelArn"])
    return [row.id for row in (rows if wanted is None else [version(rows, wanted, default=-1)])]


@operation("cleanroomsml.ListTrainedModelInferenceJobs")
def list_trained_model_inference_jobs(call: Call, params: Params) -> Output:
    """The caller's inference jobs."""
    return call.page(
        params,
        KIND,
        lambda row: _record(call, row),
        "trainedModelInferenceJobs",
        parents=_parents(params, lambda arn: versions(call, arn)),
        membership=call.membership.id,
    )


@operation("cleanroomsml.ListCollaborationTrainedModelInferenceJobs")
def list_collaboration_trained_model_inference_jobs(call: Call, params: Params) -> Output:
    """The collaboration's inference jobs, for every member."""
    return call.page(
        params,
        KIND,
        lambda row: _record(call, row),
        "collaborationTrainedModelInferenceJobs",
        parents=_parents(params, lambda arn: fetch.versions_of_collaboration(call, arn)),
        accounts=fetch.active_accounts(call),
        collaboration=call.collaboration.id,
    )


@operation("cleanroomsml.CancelTrainedModelInferenceJob")
def cancel_trained_model_inference_job(call: Call, params: Params) -> None:
    """Calls an inference job off."""
    cancel(call.tx, fetch.of_membership(call, KIND, params["trainedModelInferenceJobArn"]))
