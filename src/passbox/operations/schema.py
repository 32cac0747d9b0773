"""Schemas: the tables of a collaboration as all its members see them, and whether each can be used yet.

A schema is an association seen from the collaboration: allowed columns only, nothing of where the data lies.
"""

from passbox.access.call import Call
from passbox.access.fetch import missing
from passbox.errors import ResourceNotFoundException
from passbox.operations import readiness
from passbox.operations.registry import Output, Params, operation
from passbox.state import resources, schemas
from passbox.state.resources import Resource


def summary(call: Call, association: Resource, configured: Resource) -> Output:
    """The modelled SchemaSummary."""
    membership = association.membership
    output = {
        "name": association.name,
        "type": "TABLE",
        "creatorAccountId": association.account,
        "createTime": association.created,
        "updateTime": max(association.updated, configured.updated),
        "collaborationId": call.collaboration.id,
        "collaborationArn": call.collaboration.arn,
        "analysisRuleTypes": configured.body["analysisRuleTypes"],
        "analysisMethod": configured.body["analysisMethod"],
        "selectedAnalysisMethods": configured.body.get("selectedAnalysisMethods"),
        # this is the form that the model wants here; the association's own ARN has another
        "resourceArn": f"{association.arn.split(':configuredtableassociation/')[0]}:membership/{membership}/"
        f"configuredtableassociation/{association.id}",
    }
    return {key: value for key, value in output.items() if value is not None}


def record(call: Call, association: Resource) -> Output:
    """The modelled Schema. Partition keys are columns like all others here, so their own list is empty."""
    configured = resources.require(call.tx, "configured_table", association.parent or "")
    table = schemas.table(call.tx, association)
    return {
        **summary(call, association, configured),
        "columns": [{"name": column.name, "type": column.type} for column in table.columns],
        "partitionKeys": [],
        "description": association.body.get("description", ""),
        "schemaStatusDetails": readiness.details(call.tx, association),
        "schemaTypeProperties": {
            "configuredTableAssociation": {"configuredTableAssociationId": association.id}
        },
    }


@operation("cleanrooms.ListSchemas")
def list_schemas(call: Call, params: Params) -> Output:
    """The tables of active members. A page leaves out those of removed members, so it may be short."""
    if params.get("schemaType", "TABLE") != "TABLE":
        return {"schemaSummaries": []}
    active = schemas.active_accounts(call.tx, call.collaboration.id)

    def project(association: Resource) -> Output:
        if association.account not in active:
            return {}
        configured = resources.require(call.tx, "configured_table", association.parent or "")
        return summary(call, association, configured)

    kind = "configured_table_association"
    output = call.page(params, kind, project, "schemaSummaries", collaboration=call.collaboration.id)
    return {**output, "schemaSummaries": [entry for entry in output["schemaSummaries"] if entry]}


@operation("cleanrooms.GetSchema")
def get_schema(call: Call, params: Params) -> Output:
    """One table by the name that queries use."""
    return {"schema": record(call, _association(call, params["name"]))}


def _association(call: Call, name: str) -> Resource:
    return schemas.association(call.tx, call.collaboration.id, name) or missing("schema", name)


@operation("cleanrooms.BatchGetSchema")
def batch_get_schema(call: Call, params: Params) -> Output:
    """Several tables by name; those that are not there are listed under `errors`."""
    found, errors = [], []
    for name in dict.fromkeys(params["names"]):
        try:
            found.append(record(call, _association(call, name)))
        except ResourceNotFoundException as error:
            errors.append({"name": name, "code": error.code, "message": error.message})
    return {"schemas": found, "errors": errors}


def rule_record(call: Call, name: str, kind: str) -> Output:
    """The modelled AnalysisRule: the table's policy, the association's, and both as one."""
    association = _association(call, name)
    rule, collaboration_rule = schemas.rules(call.tx, association)
    if rule is None or rule.name != kind:
        raise ResourceNotFoundException(
            f"The schema {name} has no analysis rule of type {kind}.",
            resource_id=name,
            resource_type="CONFIGURED_TABLE_ASSOCIATION",
        )
    output = {
        "collaborationId": call.collaboration.id,
        "type": kind,
        "name": association.name,
        "createTime": rule.created,
        "updateTime": rule.updated,
        "policy": rule.body["policy"],
    }
    if collaboration_rule is not None and collaboration_rule.name == kind:
        both = {**schemas.policy(rule), **schemas.policy(collaboration_rule)}
        output["updateTime"] = max(rule.updated, collaboration_rule.updated)
        output["collaborationPolicy"] = collaboration_rule.body["policy"]
        output["consolidatedPolicy"] = {"v1": {kind.lower(): both}}
    return output


@operation("cleanrooms.GetSchemaAnalysisRule")
def get_schema_analysis_rule(call: Call, params: Params) -> Output:
    """The rule that a table is under, as all members of the collaboration may read it."""
    return {"analysisRule": rule_record(call, params["name"], params["type"])}


@operation("cleanrooms.BatchGetSchemaAnalysisRule")
def batch_get_schema_analysis_rule(call: Call, params: Params) -> Output:
    """Several rules by name and type; those that are not there are listed under `errors`."""
    found, errors = [], []
    for name, kind in dict.fromkeys(
        (one["name"], one["type"]) for one in params["schemaAnalysisRuleRequests"]
    ):
        try:
            found.append(rule_record(call, name, kind))
        except ResourceNotFoundException as error:
            errors.append({"name": name, "type": kind, "code": error.code, "message": error.message})
    return {"analysisRules": found, "errors": errors}
