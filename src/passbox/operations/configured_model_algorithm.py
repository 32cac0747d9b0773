"""Configured model algorithms: an account's container images for training and inference, immutable."""

import re
from typing import Any

from passbox import names
from passbox.access.call import Call, invalid
from passbox.errors import AccessDeniedException, ConflictException
from passbox.operations import quotas
from passbox.operations.registry import Output, Params, operation
from passbox.operations.tags import check_tags
from passbox.patterns import BadPattern, compile_pattern
from passbox.state import resources
from passbox.state.resources import Resource

KIND = "configured_model_algorithm"
_SHOWN = 100  # characters of an expression in a refusal
_IMAGE = re.compile(r"[^\s@:/]+(:[0-9]+)?(/[^\s@:/]+)+(:[^\s@:/]+)?", re.ASCII)


def own_role(call: Call, field: str, arn: str) -> None:
    """A role of another account is refused."""
    if names.arn_account(arn) != call.account:
        raise AccessDeniedException(f"{field} must be a role of your own account, {call.account}.")


def compiled(field: str, text: str) -> Any:
    """A member's regular expression; what is none of RE2 is refused here, where its author can mend it."""
    try:
        return compile_pattern(text)
    except BadPattern as error:
        raise invalid(
            field,
            f"{field}: {text[:_SHOWN]!r} is not a regular expression in RE2 syntax ({error}), which has "
            "neither look-around nor back references.",
        ) from error


def _check_metrics(params: Params) -> None:
    """A metric is what the first group of its expression finds."""
    definitions = params.get("trainingContainerConfig", {}).get("metricDefinitions", [])
    for index, definition in enumerate(definitions):
        place = f"trainingContainerConfig.metricDefinitions[{index}].regex"
        if compiled(place, definition["regex"]).groups < 1:
            raise invalid(place, f"{place}: put the number in a group, for example loss=([0-9.]+).")


def record(row: Resource) -> Output:
    """The modelled algorithm."""
    return {
        **row.body,
        "configuredModelAlgorithmArn": row.arn,
        "name": row.name,
        "createTime": row.created,
        "updateTime": row.updated,
    }


@operation("cleanroomsml.CreateConfiguredModelAlgorithm")
def create_configured_model_algorithm(call: Call, params: Params) -> Output:
    """Names the images of an algorithm; at least one of training and inference."""
    check_tags(params.get("tags"))
    own_role(call, "roleArn", params["roleArn"])
    configs = [key for key in ("trainingContainerConfig", "inferenceContainerConfig") if key in params]
    if not configs:
        raise invalid(
            "trainingContainerConfig",
            "Give trainingContainerConfig, inferenceContainerConfig or both: an algorithm without an image "
            "can do nothing.",
        )
    for key in configs:
        uri = params[key]["imageUri"]
        if not _IMAGE.fullmatch(uri):
            raise invalid(
                f"{key}.imageUri",
                f"{key}.imageUri must have the form registry/repository[:tag]; digests are not supported.",
            )
    _check_metrics(params)
    quotas.hold(call, "configured_model_algorithms", KIND, account=call.account)
    if resources.first(call.tx, KIND, account=call.account, name=params["name"]):
        raise ConflictException(
            f"An algorithm named {params['name']} exists already.", reason="ALREADY_EXISTS"
        )
    now, id = names.now(), names.new_id()
    row = Resource(
        kind=KIND,
        id=id,
        arn=names.arn("cleanrooms-ml", call.room.region, call.account, f"configured-model-algorithm/{id}"),
        account=call.account,
        name=params["name"],
        created=now,
        updated=now,
        body={key: value for key, value in params.items() if key != "name"},
    )
    resources.add(call.tx, row)
    return {"configuredModelAlgorithmArn": row.arn}


@operation("cleanroomsml.GetConfiguredModelAlgorithm")
def get_configured_model_algorithm(call: Call, params: Params) -> Output:
    """The caller's algorithm."""
    return record(call.target)


@operation("cleanroomsml.ListConfiguredModelAlgorithms")
def list_configured_model_algorithms(call: Call, params: Params) -> Output:
    """The caller's algorithms."""
    return call.page(params, KIND, record, "configuredModelAlgorithms", kept=True, account=call.account)


@operation("cleanroomsml.DeleteConfiguredModelAlgorithm")
def delete_configured_model_algorithm(call: Call, params: Params) -> None:
    """Deletes the algorithm, once no collaboration uses it."""
    if resources.first(call.tx, "configured_model_algorithm_association", parent=call.target.id):
        raise ConflictException(
            "The algorithm is associated to a collaboration; delete its associations first.",
            reason="SUBRESOURCES_EXIST",
        )
    resources.remove(call.tx, call.target)
