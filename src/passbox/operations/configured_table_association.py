"""Associations: a configured table brought into a collaboration under a name, and its rule there.

The association's rule says where results may go: to which members, into which models.
"""

from collections.abc import Mapping
from typing import Any

from passbox import names
from passbox.access.call import Call, invalid
from passbox.access.fetch import missing, of_membership
from passbox.errors import AccessDeniedException, ConflictException, ResourceNotFoundException
from passbox.operations.configured_table import only_policy
from passbox.operations.registry import Output, Params, operation
from passbox.operations.tags import check_tags
from passbox.state import resources, schemas
from passbox.state.resources import Resource


def record(call: Call, association: Resource) -> Output:
    """The modelled ConfiguredTableAssociation."""
    return {
        **association.body,
        "id": association.id,
        "arn": association.arn,
        "name": association.name,
        "configuredTableId": association.parent,
        "membershipId": association.membership,
        "membershipArn": call.membership.arn,
        "createTime": association.created,
        "updateTime": association.updated,
    }


@operation("cleanrooms.CreateConfiguredTableAssociation")
def create_configured_table_association(call: Call, params: Params) -> Output:
    """Brings one of the caller's tables into the collaboration, under the name that queries use."""
    check_tags(params.get("tags"))
    table_id = params["configuredTableIdentifier"]
    table = resources.get(call.tx, "configured_table", table_id)
    if table is None or table.account != call.account:
        missing("configured_table", table_id)
    _check_role(call, params["roleArn"])
    _check_name(call, params["name"])
    now, id, membership = names.now(), names.new_id(), call.membership
    path = f"configuredtableassociation/{membership.id}/{id}"
    body = {
        "description": params.get("description"),
        "roleArn": params["roleArn"],
        "configuredTableArn": table.arn,
        "analysisRuleTypes": [],
        "tags": params.get("tags"),
    }
    association = Resource(
        kind="configured_table_association",
        id=id,
        arn=names.arn("cleanrooms", call.room.region, call.account, path),
        account=call.account,
        collaboration=membership.collaboration,
        membership=membership.id,
        parent=table.id,
        name=params["name"],
        created=now,
        updated=now,
        body={key: value for key, value in body.items() if value is not None},
    )
    return {"configuredTableAssociation": record(call, resources.add(call.tx, association))}


def _check_role(call: Call, role: str) -> None:
    if names.arn_account(role) != call.account:
        raise AccessDeniedException(f"roleArn {role} must be a role of account {call.account}.")


def _check_name(call: Call, name: str) -> None:
    """Spark's table names have no case; whose the name is already is not for the caller to know."""
    if schemas.association(call.tx, call.collaboration.id, name) is not None:
        raise ConflictException(
            f"The collaboration has a table of the name {name} already; choose another name.",
            reason="ALREADY_EXISTS",
            resource_id=name,
            resource_type="CONFIGURED_TABLE_ASSOCIATION",
        )


@operation("cleanrooms.GetConfiguredTableAssociation")
def get_configured_table_association(call: Call, params: Params) -> Output:
    """One association under the caller's membership."""
    return {"configuredTableAssociation": record(call, _association(call, params))}


def _association(call: Call, params: Params) -> Resource:
    identifier = params["configuredTableAssociationIdentifier"]
    return of_membership(call, "configured_table_association", identifier)


@operation("cleanrooms.ListConfiguredTableAssociations")
def list_configured_table_associations(call: Call, params: Params) -> Output:
    """The associations under the caller's membership."""
    return call.page(
        params,
        "configured_table_association",
        lambda row: record(call, row),
        "configuredTableAssociationSummaries",
        membership=call.membership.id,
    )


@operation("cleanrooms.UpdateConfiguredTableAssociation")
def update_configured_table_association(call: Call, params: Params) -> Output:
    """Changes description and role."""
    association = _association(call, params)
    if "roleArn" in params:
        _check_role(call, params["roleArn"])
    changes: dict[str, Any] = {key: params[key] for key in ("description", "roleArn") if key in params}
    changed = resources.change(call.tx, association, body=changes)
    return {"configuredTableAssociation": record(call, changed)}


@operation("cleanrooms.DeleteConfiguredTableAssociation")
def delete_configured_table_association(call: Call, params: Params) -> None:
    """Takes the table out of the collaboration, and its rule there with it."""
    association = _association(call, params)
    rule = resources.first(call.tx, "configured_table_association_analysis_rule", parent=association.id)
    if rule is not None:
        resources.remove(call.tx, rule)
    resources.remove(call.tx, association)


def rule_record(association: Resource, rule: Resource) -> Output:
    """The modelled ConfiguredTableAssociationAnalysisRule."""
    return {
        "membershipIdentifier": association.membership,
        "configuredTableAssociationId": association.id,
        "configuredTableAssociationArn": association.arn,
        "policy": rule.body["policy"],
        "type": rule.name,
        "createTime": rule.created,
        "updateTime": rule.updated,
    }


@operation("cleanrooms.CreateConfiguredTableAssociationAnalysisRule")
def create_configured_table_association_analysis_rule(call: Call, params: Params) -> Output:
    """Says who may receive results that hold the table's data, and which models they may feed."""
    association, kind = _association(call, params), params["analysisRuleType"]
    _check_rule(call, association, kind, params["analysisRulePolicy"])
    existing = resources.first(call.tx, "configured_table_association_analysis_rule", parent=association.id)
    if existing is not None:
        raise ConflictException(
            f"The association has an analysis rule of type {existing.name} already, and can have one; update "
            "or delete that one.",
            reason="ALREADY_EXISTS",
            resource_id=association.id,
            resource_type="CONFIGURED_TABLE_ASSOCIATION",
        )
    now = names.now()
    rule = Resource(
        kind="configured_table_association_analysis_rule",
        id=names.new_id(),
        arn=f"{association.arn}/analysisrule/{kind}",
        account=call.account,
        collaboration=association.collaboration,
        membership=association.membership,
        parent=association.id,
        name=kind,
        created=now,
        updated=now,
        body={"policy": params["analysisRulePolicy"]},
    )
    resources.add(call.tx, rule)
    resources.change(call.tx, association, body={"analysisRuleTypes": [kind]})
    return {"analysisRule": rule_record(association, rule)}


@operation("cleanrooms.GetConfiguredTableAssociationAnalysisRule")
def get_configured_table_association_analysis_rule(call: Call, params: Params) -> Output:
    """The association's rule of a type."""
    association = _association(call, params)
    return {"analysisRule": rule_record(association, _rule(call, association, params["analysisRuleType"]))}


@operation("cleanrooms.UpdateConfiguredTableAssociationAnalysisRule")
def update_configured_table_association_analysis_rule(call: Call, params: Params) -> Output:
    """Replaces the policy."""
    association, kind = _association(call, params), params["analysisRuleType"]
    rule = _rule(call, association, kind)
    _check_rule(call, association, kind, params["analysisRulePolicy"])
    changed = resources.change(call.tx, rule, body={"policy": params["analysisRulePolicy"]})
    return {"analysisRule": rule_record(association, changed)}


@operation("cleanrooms.DeleteConfiguredTableAssociationAnalysisRule")
def delete_configured_table_association_analysis_rule(call: Call, params: Params) -> None:
    """Takes the rule away; without one no result that holds the table's data may go anywhere."""
    association = _association(call, params)
    resources.remove(call.tx, _rule(call, association, params["analysisRuleType"]))
    resources.change(call.tx, association, body={"analysisRuleTypes": []})


def _rule(call: Call, association: Resource, kind: str) -> Resource:
    kind_of_row = "configured_table_association_analysis_rule"
    found = resources.first(call.tx, kind_of_row, parent=association.id, name=kind)
    if found is None:
        raise ResourceNotFoundException(
            f"The configured table association {association.id} has no analysis rule of type {kind}.",
            resource_id=association.id,
            resource_type="CONFIGURED_TABLE_ASSOCIATION",
        )
    return found


def _check_rule(call: Call, association: Resource, kind: str, policy: Mapping[str, Any]) -> None:
    rule = only_policy(kind, policy)
    of_table = resources.first(call.tx, "configured_table_analysis_rule", parent=association.parent or "")
    if of_table is None or of_table.name != kind:
        has = f"an analysis rule of type {of_table.name}" if of_table else "no analysis rule"
        raise invalid(
            "analysisRuleType",
            f"analysisRuleType {kind} must be the type of the configured table's rule; the table has {has}.",
        )
    members = [
        row.account
        for row in resources.find(
            call.tx, "member", statuses=["INVITED", "ACTIVE"], collaboration=association.collaboration or ""
        )
    ]
    strangers = [account for account in rule.get("allowedResultReceivers") or () if account not in members]
    if strangers:
        field = f"analysisRulePolicy.v1.{kind.lower()}.allowedResultReceivers"
        raise invalid(
            field,
            f"{field} names {', '.join(strangers)}, not a member of the collaboration; its members are: "
            f"{', '.join(members)}.",
        )
