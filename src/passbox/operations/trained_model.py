"""Trained models: training jobs and what they leave, in versions under one ARN.

A version is a row of its own; all versions of a model share the ARN of the base version, whose version
identifier is "NULL" as in the service model's prose. Omitted, the identifier means the latest version for
reading, the latest that is ACTIVE for using, and the base version for cancelling and deleting
(docs/decisions/0007). Tags belong to the ARN: the base version's row holds them.
"""

from collections.abc import Callable, Mapping
from typing import Any

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
from passbox.state import resources
from passbox.state.resources import Resource

KIND = "trained_model"
BASE_VERSION = "NULL"
_LIVE = (*UNDER_WAY, "ACTIVE")
_VERSIONS_PAGE = 10


def recorder(call: Call) -> Callable[[Resource], Output]:
    """Makes the modelled model of a row as the caller sees it: logs and metrics are each viewer's own."""

    def record(row: Resource) -> Output:
        return {**described(row), **published(row, call.account), "trainedModelArn": row.arn}

    return record


def published(row: Resource, account: str) -> Output:
    """What became of an account's own logs and metrics of a job, once it has ended."""
    found: dict[str, dict[str, str]] = row.body.get("published", {}).get(account, {})
    output = {}
    for kind in ("logs", "metrics"):
        if kind in found:
            output[f"{kind}Status"] = found[kind]["status"]
            if "details" in found[kind]:
                output[f"{kind}StatusDetails"] = found[kind]["details"]
    return output


def versions(call: Call, arn: str) -> list[Resource]:
    """Every version of a model of the caller's membership, the base version first."""
    found = resources.find(call.tx, KIND, arn=arn, membership=call.membership.id)
    return found or fetch.missing(KIND, arn)


def version(rows: list[Resource], identifier: str | None, *, default: int) -> Resource:
    """The version with this identifier; without one the `default`-th (-1 latest, 0 base)."""
    if identifier is None:
        return rows[default]
    found = next((row for row in rows if row.body["versionIdentifier"] == identifier), None)
    return found or fetch.missing("trained_model_version", identifier)


def usable_version(rows: list[Resource], identifier: str | None) -> Resource:
    """The version that a job may use: the one named, or the latest that is ACTIVE."""
    if identifier is None:
        found = next((row for row in reversed(rows) if row.status == "ACTIVE"), rows[-1])
    else:
        found = version(rows, identifier, default=-1)
    if found.status != "ACTIVE":
        raise ConflictException(f"The model {found.name} is {found.status}; it must be ACTIVE.")
    return found


def readable_channel(call: Call, field: str, arn: str, association: str) -> Resource:
    """An ACTIVE channel of the caller that was made for this algorithm association."""
    channel = fetch.of_membership(call, "ml_input_channel", arn)
    if association not in channel.body["configuredModelAlgorithmAssociations"]:
        raise invalid(
            field,
            f"{field}: the channel {channel.name} was made for another configured model algorithm "
            "association; its tables' owners allowed it for that one only.",
        )
    if channel.status != "ACTIVE":
        raise ConflictException(f"The channel {channel.name} is {channel.status}; it must be ACTIVE.")
    return channel


def algorithm_of(call: Call, association: Resource) -> Resource:
    """The algorithm behind an association, whosever it is: for its images, not to be shown."""
    return resources.require(call.tx, "configured_model_algorithm", association.parent or "")


def _check_channel_names(channels: list[dict[str, Any]]) -> None:
    taken = [channel["channelName"] for channel in channels]
    if len(taken) > 20:
        raise invalid("dataChannels", f"A training job has at most 20 channels, not {len(taken)}.")
    twice = next((name for name in taken if taken.count(name) > 1), None)
    if twice is not None:
        raise invalid("dataChannels", f"channelName {twice} is used twice; each must be unique in the job.")


def _instances(body: Mapping[str, Any]) -> int:
    """How many instances a training asks for."""
    count: int = body["resourceConfig"].get("instanceCount", 1)
    return count


def _hold_quotas(call: Call, instances: int) -> None:
    quotas.hold(call, "training_jobs_per_membership", KIND, UNDER_WAY, membership=call.membership.id)
    quotas.hold(call, "training_jobs_per_account", KIND, UNDER_WAY, account=call.account)
    under_way = resources.find(call.tx, KIND, statuses=UNDER_WAY, account=call.account)
    there = sum(_instances(row.body) for row in under_way)
    quotas.refuse(call, "training_instances_per_account", there, instances)


def _bases(call: Call, params: Params, association: str) -> list[tuple[str, Resource]]:
    """(channel name, version) of each model that the training starts from."""
    bases = []
    for index, channel in enumerate(params.get("incrementalTrainingDataChannels", [])):
        rows = versions(call, channel["trainedModelArn"])
        base = usable_version(rows, channel.get("versionIdentifier"))
        if base.body["configuredModelAlgorithmAssociationArn"] != association:
            place = f"incrementalTrainingDataChannels[{index}].trainedModelArn"
            raise invalid(place, f"{place}: the model was trained with another algorithm association.")
        quotas.hold(call, "trained_model_versions", KIND, _LIVE, arn=base.arn)
        bases.append((channel["channelName"], base))
    return bases


@operation("cleanroomsml.CreateTrainedModel")
def create_trained_model(call: Call, params: Params) -> Output:
    """Submits a training job; with an incremental channel it becomes a new version of that model."""
    check_tags(params.get("tags"))
    association_arn = params["configuredModelAlgorithmAssociationArn"]
    association = fetch.of_collaboration(call, "configured_model_algorithm_association", association_arn)
    if "trainingContainerConfig" not in algorithm_of(call, association).body:
        raise invalid(
            "configuredModelAlgorithmAssociationArn",
            "configuredModelAlgorithmAssociationArn: the algorithm has no training container.",
        )
    _check_channel_names(params["dataChannels"] + params.get("incrementalTrainingDataChannels", []))
    channels = [
        readable_channel(
            call, f"dataChannels[{index}].mlInputChannelArn", channel["mlInputChannelArn"], association.arn
        )
        for index, channel in enumerate(params["dataChannels"])
    ]
    bases = _bases(call, params, association.arn)
    payer = payers.resolve(
        paying_members(call.tx, call.collaboration.id),
        prices.MODEL_TRAINING,
        "mlModelTrainingPayerAccountId",
        params.get("mlModelTrainingPayerAccountId"),
    )
    _hold_quotas(call, _instances(params))
    name = params["name"]
    if resources.first(call.tx, KIND, statuses=_LIVE, membership=call.membership.id, name=name):
        raise ConflictException(
            f"A trained model named {name} exists already; choose another name.", reason="ALREADY_EXISTS"
        )
    _tag_model(call, params, bases)
    tables = sources(*channels, *(base for _, base in bases))
    row = _row(call, params, bases, payer, tables)
    resources.add(call.tx, row)
    records = sum(channel.body["numberOfRecords"] for channel in channels)
    basis = f"the {records:,} records of its channels, once"
    cost = Cost(prices.MODEL_TRAINING, payer, records * prices.MILLI, basis)
    submit(call, row, KIND, cost, tables=tables)
    return {"trainedModelArn": row.arn, "versionIdentifier": row.body["versionIdentifier"]}


def _tag_model(call: Call, params: Params, bases: list[tuple[str, Resource]]) -> None:
    """Puts the tags that come with a new version on the model that it is one of."""
    if bases and params.get("tags"):
        first = versions(call, bases[0][1].arn)[0]
        tags = {**first.body.get("tags", {}), **params["tags"]}
        check_tags(tags)
        resources.change(call.tx, first, body={"tags": tags})


def _row(
    call: Call, params: Params, bases: list[tuple[str, Resource]], payer: str, tables: list[str]
) -> Resource:
    body, id = asked(params), names.new_id()
    body |= {
        "versionIdentifier": id if bases else BASE_VERSION,
        "mlModelTrainingPayerAccountId": payer,
        "sources": tables,
    }
    if bases:
        body.pop("tags", None)
        body["incrementalTrainingDataChannels"] = [
            {
                "channelName": channel,
                "versionIdentifier": base.body["versionIdentifier"],
                "modelName": base.name,
                "trainedFrom": base.id,
            }
            for channel, base in bases
        ]
    arn = bases[0][1].arn if bases else None
    return new(call, KIND, params["name"], body, status="CREATE_PENDING", id=id, arn=arn)


@operation("cleanroomsml.GetTrainedModel")
def get_trained_model(call: Call, params: Params) -> Output:
    """A version of the caller's model; the latest where none is named."""
    rows = versions(call, params["trainedModelArn"])
    row = version(rows, params.get("versionIdentifier"), default=-1)
    tags = {"tags": rows[0].body["tags"]} if "tags" in rows[0].body else {}
    return {**recorder(call)(row), **progress(call.tx, row), **tags}


@operation("cleanroomsml.GetCollaborationTrainedModel")
def get_collaboration_trained_model(call: Call, params: Params) -> Output:
    """A version of a model of the collaboration, for every member."""
    rows = fetch.versions_of_collaboration(call, params["trainedModelArn"])
    row = version(rows, params.get("versionIdentifier"), default=-1)
    return {**recorder(call)(row), **progress(call.tx, row)}


@operation("cleanroomsml.ListTrainedModels")
def list_trained_models(call: Call, params: Params) -> Output:
    """The caller's models, a row for each version."""
    return call.page(params, KIND, recorder(call), "trainedModels", membership=call.membership.id)


@operation("cleanroomsml.ListCollaborationTrainedModels")
def list_collaboration_trained_models(call: Call, params: Params) -> Output:
    """The collaboration's models, a row for each version, for every member."""
    key = "collaborationTrainedModels"
    scope: resources.Filters = {"collaboration": call.collaboration.id}
    return call.page(params, KIND, recorder(call), key, accounts=fetch.active_accounts(call), **scope)


@operation("cleanroomsml.ListTrainedModelVersions")
def list_trained_model_versions(call: Call, params: Params) -> Output:
    """The versions of one of the caller's models."""
    versions(call, params["trainedModelArn"])
    return call.page(
        params,
        KIND,
        recorder(call),
        "trainedModels",
        default=_VERSIONS_PAGE,
        statuses=[params["status"]] if "status" in params else None,
        membership=call.membership.id,
        arn=params["trainedModelArn"],
    )


@operation("cleanroomsml.CancelTrainedModel")
def cancel_trained_model(call: Call, params: Params) -> None:
    """Calls a training job off."""
    rows = versions(call, params["trainedModelArn"])
    cancel(call.tx, version(rows, params.get("versionIdentifier"), default=0))


@operation("cleanroomsml.DeleteTrainedModelOutput")
def delete_trained_model_output(call: Call, params: Params) -> None:
    """Removes a version's files; its record stays and ends INACTIVE."""
    row = version(versions(call, params["trainedModelArn"]), params.get("versionIdentifier"), default=0)
    if row.status not in ("ACTIVE", "CREATE_FAILED", "CANCEL_FAILED", "DELETE_FAILED"):
        raise ConflictException(f"The model is {row.status}; only output that rests can be deleted.")
    for kind in (KIND, "trained_model_inference_job", "trained_model_export_job"):
        for job in resources.find(call.tx, kind, statuses=UNDER_WAY, membership=call.membership.id):
            used = [base["trainedFrom"] for base in job.body.get("incrementalTrainingDataChannels", [])]
            if row.id in (*used, job.body.get("trainedModelId")):
                raise ConflictException("A job in progress uses the model; wait for it or cancel it.")
    resources.change(call.tx, row, status="DELETE_PENDING")
    submit(call, row, "delete_trained_model_output")
