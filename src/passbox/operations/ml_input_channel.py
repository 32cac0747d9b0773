"""ML input channels: the result of an approved query, kept in the room for one algorithm to read."""

from passbox.access import fetch
from passbox.access.call import Call, invalid
from passbox.analysis import Purpose
from passbox.errors import ConflictException
from passbox.ledger import payers, prices
from passbox.operations import query, quotas, synthetic_data
from passbox.operations.brought import asked, described, new
from passbox.operations.configured_model_algorithm import own_role
from passbox.operations.member import paying_members
from passbox.operations.privacy_budget import access_budgets
from passbox.operations.registry import Output, Params, operation
from passbox.operations.submission import IN_PROGRESS, UNDER_WAY, progress, sources, submit
from passbox.operations.tags import check_tags
from passbox.state import resources
from passbox.state.resources import Resource

KIND = "ml_input_channel"
LIVE = (*IN_PROGRESS, "ACTIVE")
_SOURCE = "inputChannel.dataSource.protectedQueryInputParameters"


def record(row: Resource) -> Output:
    """The modelled channel. What only its creator may see, the collaboration's shapes leave out."""
    return {**described(row), "mlInputChannelArn": row.arn}


@operation("cleanroomsml.CreateMLInputChannel")
def create_ml_input_channel(call: Call, params: Params) -> Output:
    """Submits the query whose result becomes the channel; who pays for what of it is settled here."""
    check_tags(params.get("tags"))
    [association_arn] = params["configuredModelAlgorithmAssociations"]
    association = fetch.of_collaboration(call, "configured_model_algorithm_association", association_arn)
    own_role(call, "inputChannel.roleArn", params["inputChannel"]["roleArn"])
    source = params["inputChannel"]["dataSource"]["protectedQueryInputParameters"]
    worker = query.worker(call, source.get("computeConfiguration", {}), f"{_SOURCE}.computeConfiguration")
    sql, place = source["sqlParameters"], f"{_SOURCE}.sqlParameters"
    purpose = Purpose(runner=call.account, additional_analysis=association.arn)
    plan = query.approved(call, sql, place, purpose)
    tables = query.sources(call, plan)
    named = params.get("payerConfiguration", {})
    members = paying_members(call.tx, call.collaboration.id)
    payer = payers.resolve(
        members,
        prices.QUERY_COMPUTE,
        "payerConfiguration.computePayerAccountId",
        named.get("computePayerAccountId"),
    )
    costs, configuration = [query.cost(payer, worker)], {"computePayerAccountId": payer}
    template = synthetic_data.template(call, sql)
    if template is not None:
        synthetic_data.check_outputs(f"{place}.analysisTemplateArn", template, plan.outputs)
        costs.append(synthetic_data.cost(call, members, named.get("syntheticDataPayerAccountId")))
        configuration["syntheticDataPayerAccountId"] = costs[-1].payer
    elif "syntheticDataPayerAccountId" in named:
        field = synthetic_data.PAYER
        raise invalid(field, f"{field}: this channel generates no synthetic data; leave the field out.")
    _check_name(call, params["name"])
    body = {
        **asked(params),
        "payerConfiguration": configuration,
        "workers": worker,
        "sources": tables,
    }
    if template is not None:
        body["syntheticDataConfiguration"] = {"syntheticDataParameters": synthetic_data.parameters(template)}
        body["syntheticDataDeclaration"] = synthetic_data.declaration(template)
    row = new(call, KIND, params["name"], body, status="CREATE_PENDING")
    resources.add(call.tx, row)
    job = submit(call, row, KIND, *costs, tables=tables)
    resources.change(call.tx, row, body={"protectedQueryIdentifier": job.id})
    return {"mlInputChannelArn": row.arn}


def _check_name(call: Call, name: str) -> None:
    quotas.hold(call, "ml_input_channels", KIND, LIVE, membership=call.membership.id)
    if resources.first(call.tx, KIND, statuses=LIVE, membership=call.membership.id, name=name):
        raise ConflictException(
            f"A channel named {name} exists already; delete its data first or choose another name.",
            reason="ALREADY_EXISTS",
        )


@operation("cleanroomsml.GetMLInputChannel")
def get_ml_input_channel(call: Call, params: Params) -> Output:
    """The caller's channel."""
    return _whole(call, fetch.of_membership(call, KIND, params["mlInputChannelArn"]))


@operation("cleanroomsml.GetCollaborationMLInputChannel")
def get_collaboration_ml_input_channel(call: Call, params: Params) -> Output:
    """A channel of the collaboration, for every member."""
    return _whole(call, fetch.of_collaboration(call, KIND, params["mlInputChannelArn"]))


def _whole(call: Call, row: Resource) -> Output:
    """The record, how far the channel is, and how often its tables can be used still."""
    return {**record(row), **progress(call.tx, row), **access_budgets(call.tx, sources(row))}


@operation("cleanroomsml.ListMLInputChannels")
def list_ml_input_channels(call: Call, params: Params) -> Output:
    """The caller's channels."""
    return call.page(params, KIND, record, "mlInputChannelsList", kept=True, membership=call.membership.id)


@operation("cleanroomsml.ListCollaborationMLInputChannels")
def list_collaboration_ml_input_channels(call: Call, params: Params) -> Output:
    """The collaboration's channels, for every member."""
    key = "collaborationMLInputChannelsList"
    accounts = fetch.active_accounts(call)
    return call.page(
        params, KIND, record, key, kept=True, accounts=accounts, collaboration=call.collaboration.id
    )


@operation("cleanroomsml.DeleteMLInputChannelData")
def delete_ml_input_channel_data(call: Call, params: Params) -> None:
    """Removes the channel's rows; its record stays and ends INACTIVE."""
    row = fetch.of_membership(call, KIND, params["mlInputChannelArn"])
    if row.status not in ("ACTIVE", "CREATE_FAILED", "DELETE_FAILED"):
        raise ConflictException(f"The channel is {row.status}; only data that rests can be deleted.")
    for kind in ("trained_model", "trained_model_inference_job"):
        for job in resources.find(call.tx, kind, statuses=UNDER_WAY, membership=call.membership.id):
            used = [channel["mlInputChannelArn"] for channel in job.body.get("dataChannels", [])]
            used.append(job.body.get("dataSource", {}).get("mlInputChannelArn"))
            if row.arn in used:
                raise ConflictException("A job in progress reads the channel; wait for it or cancel it.")
    resources.change(call.tx, row, status="DELETE_PENDING")
    for report in resources.find(call.tx, "synthetic_data_report", parent=row.id):
        resources.remove(call.tx, report)
    submit(call, row, "delete_ml_input_channel_data")
