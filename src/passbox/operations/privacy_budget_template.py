"""Privacy budget templates: what the owner of a table sets, and who may read it.

ACCESS_BUDGET says how often a table may be used, DIFFERENTIAL_PRIVACY how much all protected tables of a
collaboration may tell. What a template gives is in `privacy_budget`, how it is used up in
`passbox.ledger.budgets` and `passbox.ledger.epsilon`.
"""

from typing import Any

from passbox import names
from passbox.access import fetch
from passbox.access.call import Call, invalid
from passbox.errors import ConflictException
from passbox.ledger import epsilon
from passbox.ledger.budgets import EACH, KIND, LIFETIME, TYPE
from passbox.operations import quotas
from passbox.operations.brought import new
from passbox.operations.registry import Output, Params, operation
from passbox.operations.tags import check_tags
from passbox.state import resources, schemas
from passbox.state.resources import Resource

_MEMBERS = {"ACCESS_BUDGET": "accessBudget", "DIFFERENTIAL_PRIVACY": "differentialPrivacy"}


def record(row: Resource) -> Output:
    """The modelled template, or its summary; the collaboration's shapes leave out the membership."""
    return {
        **row.body,
        "id": row.id,
        "arn": row.arn,
        "membershipId": row.membership,
        "collaborationId": row.collaboration,
        "creatorAccountId": row.account,
        "privacyBudgetType": row.status,
        "createTime": row.created,
        "updateTime": row.updated,
    }


def budgeted_arn(association: Resource) -> str:
    """An association's ARN in the form that budgets name it by."""
    path = f"membership/{association.membership}/configuredtableassociation/{association.id}"
    return ":".join([*association.arn.split(":")[:5], path])


@operation("cleanrooms.CreatePrivacyBudgetTemplate")
def create_privacy_budget_template(call: Call, params: Params) -> Output:
    """Limits how often one of the caller's tables may be used, or what all protected tables may tell."""
    check_tags(params.get("tags"))
    type = params["privacyBudgetType"]
    asked = _parameters(params["parameters"], type)
    if type == epsilon.TYPE:
        return _create_policy(call, params, asked)
    if params.get("autoRefresh", "NONE") != "NONE":
        raise invalid(
            "autoRefresh",
            "autoRefresh of the template must be NONE or left out for ACCESS_BUDGET; say in each of "
            "parameters.accessBudget.budgetParameters whether it is refreshed.",
        )
    limits = _limits(asked["budgetParameters"])
    association = _association(call, asked["resourceArn"])
    if resources.first(call.tx, KIND, parent=association.id, statuses=[type]):
        raise ConflictException(
            f"The table {association.name} has an access budget already; change it with "
            "UpdatePrivacyBudgetTemplate or delete it first.",
            reason="ALREADY_EXISTS",
            resource_id=association.id,
            resource_type="CONFIGURED_TABLE_ASSOCIATION",
        )
    quotas.hold(call, "access_budget_templates", KIND, [type], collaboration=call.collaboration.id)
    body = {
        "membershipArn": call.membership.arn,
        "collaborationArn": call.collaboration.arn,
        "autoRefresh": "NONE",
        "table": association.name,
        "tags": params.get("tags", {}),
        **_generation(limits, asked["resourceArn"]),
    }
    # lists of budgets are asked for its name
    return _add(call, type, asked["resourceArn"], body, association.id)


def _add(call: Call, type: str, name: str | None, body: dict[str, Any], parent: str | None) -> Output:
    id = names.new_id()
    arn = names.arn("cleanrooms", call.room.region, call.account, f"privacybudgettemplate/{id}")
    # the type in place of a status, because lists go by it, too
    row = new(call, KIND, name, body, status=type, parent=parent, id=id, arn=arn)
    return {"privacyBudgetTemplate": record(resources.add(call.tx, row))}


def _create_policy(call: Call, params: Params, asked: Params) -> Output:
    """The collaboration's one template of type DIFFERENTIAL_PRIVACY, by a member who brought a protected
    table.
    """
    found = epsilon.template(call.tx, call.collaboration.id)
    if found is not None:
        raise ConflictException(
            f"The collaboration has a privacy budget template of type {epsilon.TYPE} already, of "
            f"{found.account}; it can be changed with UpdatePrivacyBudgetTemplate.",
            reason="ALREADY_EXISTS",
            resource_id=call.collaboration.id,
            resource_type="COLLABORATION",
        )
    own = resources.find(call.tx, "configured_table_association", membership=call.membership.id)
    if not any((schemas.table(call.tx, row).rule or {}).get("differentialPrivacy") for row in own):
        raise invalid(
            "privacyBudgetType",
            f"privacyBudgetType: {epsilon.TYPE} is for members who bring a table under differential privacy; "
            "add differentialPrivacy to the custom rule of one of your tables in the collaboration first.",
        )
    body = {
        "membershipArn": call.membership.arn,
        "collaborationArn": call.collaboration.arn,
        "autoRefresh": params.get("autoRefresh", "NONE"),
        "tags": params.get("tags", {}),
        "parameters": {"differentialPrivacy": {key: asked[key] for key in ("epsilon", "usersNoisePerQuery")}},
        # what the summary of a budget is called by and dated
        "generation": names.new_id(),
        "since": names.now(),
    }
    return _add(call, epsilon.TYPE, None, body, None)


def _generation(limits: list[Params], resource: str) -> dict[str, Any]:
    """What each edit of a template replaces: its limits, and the book accounts, for new ones without uses."""
    return {
        "parameters": {"accessBudget": {"resourceArn": resource, "budgetParameters": limits}},
        "generation": names.new_id(),
        "since": names.now(),
    }


def _parameters(parameters: Params, type: str) -> Params:
    member = _MEMBERS[type]
    if member not in parameters:
        raise invalid("parameters", f"parameters must hold {member} for the privacyBudgetType {type}.")
    asked: Params = parameters[member]
    return asked


def _limits(parameters: list[Params]) -> list[Params]:
    """The limits that were asked for; a calendar's is refreshed where the request says so."""
    place = "parameters.accessBudget.budgetParameters"
    periods = [one["type"] for one in parameters if one["type"] in EACH]
    if len(periods) > 1 or len(parameters) - len(periods) > 1:
        raise invalid(
            place,
            f"{place}: {' and '.join(one['type'] for one in parameters)} cannot be combined; give one of "
            f"{', '.join(EACH)}, or {LIFETIME}, or one of each.",
        )
    limits = []
    for index, one in enumerate(parameters):
        if one["type"] == LIFETIME and "autoRefresh" in one:
            field = f"{place}[{index}].autoRefresh"
            raise invalid(field, f"{field} must be left out: a {LIFETIME} budget is never refreshed.")
        limits.append(one if one["type"] == LIFETIME else {"autoRefresh": "DISABLED", **one})
    return limits


def _association(call: Call, arn: str) -> Resource:
    """The caller's table association that a budget is for."""
    place = "parameters.accessBudget.resourceArn"
    if "/intermediatetable/" in arn:
        raise invalid(
            place,
            f"{place}: intermediate tables are not available in this version; name a configured table "
            "association.",
        )
    found = resources.get(call.tx, "configured_table_association", arn.rpartition("/")[2])
    if found is None or found.membership != call.membership.id or budgeted_arn(found) != arn:
        fetch.missing("configured_table_association", arn)
    return found


@operation("cleanrooms.GetPrivacyBudgetTemplate")
def get_privacy_budget_template(call: Call, params: Params) -> Output:
    """The caller's template."""
    return {"privacyBudgetTemplate": record(_own(call, params))}


def _own(call: Call, params: Params) -> Resource:
    return fetch.of_membership(call, KIND, params["privacyBudgetTemplateIdentifier"])


@operation("cleanrooms.GetCollaborationPrivacyBudgetTemplate")
def get_collaboration_privacy_budget_template(call: Call, params: Params) -> Output:
    """A template of the collaboration, for every member."""
    row = fetch.of_collaboration(call, KIND, params["privacyBudgetTemplateIdentifier"])
    return {"collaborationPrivacyBudgetTemplate": record(row)}


@operation("cleanrooms.ListPrivacyBudgetTemplates")
def list_privacy_budget_templates(call: Call, params: Params) -> Output:
    """The caller's templates."""
    key = "privacyBudgetTemplateSummaries"
    return call.page(params, KIND, record, key, kept=True, membership=call.membership.id)


@operation("cleanrooms.ListCollaborationPrivacyBudgetTemplates")
def list_collaboration_privacy_budget_templates(call: Call, params: Params) -> Output:
    """The collaboration's templates, for every member."""
    return call.page(
        params,
        KIND,
        record,
        "collaborationPrivacyBudgetTemplateSummaries",
        kept=True,
        accounts=fetch.active_accounts(call),
        collaboration=call.collaboration.id,
    )


@operation("cleanrooms.UpdatePrivacyBudgetTemplate")
def update_privacy_budget_template(call: Call, params: Params) -> Output:
    """Replaces the limits of uses; what was used before no longer counts. Of a policy it changes epsilon or
    noise; what was spent stays spent.
    """
    row = _own(call, params)
    if params["privacyBudgetType"] != row.status:
        raise invalid("privacyBudgetType", f"privacyBudgetType must be that of the template, {row.status}.")
    if "parameters" in params and row.status == epsilon.TYPE:
        asked = _parameters(params["parameters"], epsilon.TYPE)
        both = {**row.body["parameters"]["differentialPrivacy"], **asked}
        row = resources.change(call.tx, row, body={"parameters": {"differentialPrivacy": both}})
    elif "parameters" in params:
        limits = _limits(_parameters(params["parameters"], TYPE)["budgetParameters"])
        row = resources.change(call.tx, row, body=_generation(limits, row.name or ""))
    return {"privacyBudgetTemplate": record(row)}


@operation("cleanrooms.DeletePrivacyBudgetTemplate")
def delete_privacy_budget_template(call: Call, params: Params) -> None:
    """Lifts the limit; what was used stays in the book."""
    resources.remove(call.tx, _own(call, params))
