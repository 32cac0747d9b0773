"""Configured model algorithm associations: an algorithm in a room, and what may leave of its jobs."""

from passbox.access import fetch
from passbox.access.call import Call, invalid
from passbox.errors import ConflictException
from passbox.operations import quotas
from passbox.operations.brought import asked, described, new
from passbox.operations.configured_model_algorithm import compiled
from passbox.operations.registry import Output, Params, operation
from passbox.operations.submission import UNDER_WAY, WORKING
from passbox.operations.tags import check_tags
from passbox.state import resources
from passbox.state.resources import Resource

KIND = "configured_model_algorithm_association"


def record(row: Resource) -> Output:
    """The modelled association; the collaboration's view leaves the tags out by its shape."""
    return {**described(row), "configuredModelAlgorithmAssociationArn": row.arn}


def _check_policies(call: Call, params: Params) -> None:
    """What the model's shapes cannot say: accounts are members, custom redaction comes in both parts, and
    expressions are of RE2, so that nothing is found unusable only when logs are to be published."""
    policies = params.get("privacyConfiguration", {}).get("policies", {})
    members = {row.account for row in resources.find(call.tx, "member", collaboration=call.collaboration.id)}
    for kind in ("trainedModels", "trainedModelInferenceJobs"):
        for index, policy in enumerate(policies.get(kind, {}).get("containerLogs", [])):
            place = f"privacyConfiguration.policies.{kind}.containerLogs[{index}]"
            strangers = sorted(set(policy["allowedAccountIds"]) - members)
            if strangers:
                raise invalid(
                    f"{place}.allowedAccountIds",
                    f"{', '.join(strangers)} is not a member of the collaboration; name members only.",
                )
            if "filterPattern" in policy:
                compiled(f"{place}.filterPattern", policy["filterPattern"])
            redaction = policy.get("logRedactionConfiguration")
            if redaction is None:
                continue
            if ("CUSTOM" in redaction["entitiesToRedact"]) != ("customEntityConfig" in redaction):
                raise invalid(
                    f"{place}.logRedactionConfiguration",
                    "customEntityConfig and the entity CUSTOM go together: give both or neither.",
                )
            identifiers = redaction.get("customEntityConfig", {}).get("customDataIdentifiers", ())
            for number, identifier in enumerate(identifiers):
                part = f"logRedactionConfiguration.customEntityConfig.customDataIdentifiers[{number}]"
                compiled(f"{place}.{part}", identifier)


@operation("cleanroomsml.CreateConfiguredModelAlgorithmAssociation")
def create_configured_model_algorithm_association(call: Call, params: Params) -> Output:
    """Brings one of the caller's own algorithms into the collaboration."""
    check_tags(params.get("tags"))
    algorithm = resources.first(
        call.tx, "configured_model_algorithm", arn=params["configuredModelAlgorithmArn"]
    )
    if algorithm is None or algorithm.account != call.account:
        fetch.missing("configured_model_algorithm", params["configuredModelAlgorithmArn"])
    _check_policies(call, params)
    quotas.hold(call, "configured_model_algorithm_associations", KIND, membership=call.membership.id)
    if resources.first(call.tx, KIND, membership=call.membership.id, name=params["name"]):
        raise ConflictException(
            f"An association named {params['name']} exists already.", reason="ALREADY_EXISTS"
        )
    row = new(call, KIND, params["name"], asked(params), parent=algorithm.id)
    resources.add(call.tx, row)
    return {"configuredModelAlgorithmAssociationArn": row.arn}


@operation("cleanroomsml.GetConfiguredModelAlgorithmAssociation")
def get_configured_model_algorithm_association(call: Call, params: Params) -> Output:
    """The caller's association."""
    return record(fetch.of_membership(call, KIND, params["configuredModelAlgorithmAssociationArn"]))


@operation("cleanroomsml.GetCollaborationConfiguredModelAlgorithmAssociation")
def get_collaboration_configured_model_algorithm_association(call: Call, params: Params) -> Output:
    """Any member's association, for every member."""
    return record(fetch.of_collaboration(call, KIND, params["configuredModelAlgorithmAssociationArn"]))


@operation("cleanroomsml.ListConfiguredModelAlgorithmAssociations")
def list_configured_model_algorithm_associations(call: Call, params: Params) -> Output:
    """The caller's associations."""
    key = "configuredModelAlgorithmAssociations"
    return call.page(params, KIND, record, key, kept=True, membership=call.membership.id)


@operation("cleanroomsml.ListCollaborationConfiguredModelAlgorithmAssociations")
def list_collaboration_configured_model_algorithm_associations(call: Call, params: Params) -> Output:
    """All active members' associations."""
    key = "collaborationConfiguredModelAlgorithmAssociations"
    accounts = fetch.active_accounts(call)
    return call.page(
        params, KIND, record, key, kept=True, accounts=accounts, collaboration=call.collaboration.id
    )


@operation("cleanroomsml.DeleteConfiguredModelAlgorithmAssociation")
def delete_configured_model_algorithm_association(call: Call, params: Params) -> None:
    """Deletes the association, once nothing in progress uses it."""
    row = fetch.of_membership(call, KIND, params["configuredModelAlgorithmAssociationArn"])
    for kind in WORKING:
        for job in resources.find(call.tx, kind, statuses=UNDER_WAY, collaboration=call.collaboration.id):
            if row.arn in _used(call, job):
                raise ConflictException("Work in progress uses the association; wait for it or cancel it.")
    resources.remove(call.tx, row)


def _used(call: Call, job: Resource) -> list[str]:
    """The associations whose images or policies a job goes by; an export goes by those of its model."""
    body = job.body
    if job.kind == "trained_model_export_job":
        body = resources.require(call.tx, "trained_model", body["trainedModelId"]).body
    several: list[str] | None = body.get("configuredModelAlgorithmAssociations")
    return several or [body["configuredModelAlgorithmAssociationArn"]]
