"""Analysis templates: a query, or a script, that its author may not change once others agree to it.

Its author keeps it under a membership; every active member of the collaboration reads a query in full,
because the owners of tables allow it by its ARN and must see what they allow. Of a script (`script_template`)
they see the hashes; where it lies is its author's to know.
"""

from typing import Any

from passbox import analysis, names
from passbox.access import fetch
from passbox.access.call import Call, invalid
from passbox.analysis import Text, parameters
from passbox.errors import ConflictException, QueryRefused, ResourceNotFoundException, ValidationException
from passbox.operations import quotas, script_template, synthetic_data, template_validation
from passbox.operations.brought import new
from passbox.operations.registry import Output, Params, operation
from passbox.operations.tags import check_tags
from passbox.state import resources
from passbox.state.resources import Resource

KIND = "analysis_template"
_STORED = (
    "description",
    "format",
    "source",
    "analysisParameters",
    "errorMessageConfiguration",
    "syntheticDataParameters",
    "tags",
)


def record(call: Call, row: Resource) -> Output:
    """The modelled AnalysisTemplate, and what of it the collaboration's shape has."""
    [found] = records(call, [row])
    return found


def records(call: Call, rows: list[Resource]) -> list[Output]:
    """The same of several."""
    validated = template_validation.validations(call, rows)
    return [
        {**row.body, **_common(row), "validations": found} for row, found in zip(rows, validated, strict=True)
    ]


def summary(row: Resource) -> Output:
    """The modelled summary, of both scopes."""
    output = {**_common(row), "isSyntheticData": "syntheticDataParameters" in row.body}
    if "description" in row.body:
        output["description"] = row.body["description"]
    return output


def _common(row: Resource) -> Output:
    return {
        "id": row.id,
        "arn": row.arn,
        "name": row.name,
        "collaborationId": row.collaboration,
        "collaborationArn": row.body["collaborationArn"],
        "membershipId": row.membership,
        "membershipArn": row.body["membershipArn"],
        "creatorAccountId": row.account,
        "createTime": row.created,
        "updateTime": row.updated,
    }


@operation("cleanrooms.CreateAnalysisTemplate")
def create_analysis_template(call: Call, params: Params) -> Output:
    """Brings a query or a script into the collaboration; whether it may run is asked each time."""
    check_tags(params.get("tags"))
    _check_format(params)
    synthetic_data.check_template(params)
    made = _script(call, params) if params["format"] == script_template.FORMAT else _query(call, params)
    _check_name(call, params["name"])
    body: dict[str, Any] = {
        **{key: params[key] for key in _STORED if key in params},
        **made,
        "collaborationArn": call.collaboration.arn,
        "membershipArn": call.membership.arn,
    }
    id = names.new_id()
    row = new(call, KIND, params["name"], body, id=id, arn=f"{call.membership.arn}/analysistemplate/{id}")
    return {"analysisTemplate": record(call, resources.add(call.tx, row))}


def _check_format(params: Params) -> None:
    if params["format"] not in ("SQL", script_template.FORMAT):
        raise invalid(
            "format",
            f"format {params['format']} is not available in this version; use SQL or "
            f"{script_template.FORMAT}.",
        )
    if params["format"] == "SQL" and "text" not in params["source"]:
        raise invalid(
            "source.artifacts",
            "source.artifacts are PySpark's; give the query of an SQL template as source.text.",
        )


def _query(call: Call, params: Params) -> Output:
    return {"schema": {"referencedTables": list(_read(call, params).tables)}}


def _script(call: Call, params: Params) -> Output:
    script_template.check(call, params)
    return {
        "schema": {"referencedTables": params["schema"]["referencedTables"]},
        "sourceMetadata": script_template.metadata(call, params["source"]["artifacts"]),
    }


def _read(call: Call, params: Params) -> Text:
    """What the text names, once it is found to be a query whose parameters are those declared."""

    def work() -> Text:
        try:
            read = analysis.read(params["source"]["text"])
            parameters.declare(params.get("analysisParameters", ()), read.parameters)
        except QueryRefused as refusal:
            field = "analysisParameters" if refusal.rule == parameters.RULE else "source.text"
            message = refusal.explained()
            raise ValidationException(message, fields=[(field, message)], reason="INVALID_QUERY") from refusal
        return read

    read: Text = call.aside(KIND, work)
    place = "schema.referencedTables"
    said = params.get("schema", {}).get("referencedTables")
    if said is not None and {name.lower() for name in said} != {name.lower() for name in read.tables}:
        raise invalid(
            place,
            f"{place}: the text reads {', '.join(read.tables)}; leave the field out, it is found by itself.",
        )
    return read


def _check_name(call: Call, name: str) -> None:
    quotas.hold(call, "analysis_templates", KIND, membership=call.membership.id)
    if resources.count(call.tx, KIND, most=1, membership=call.membership.id, name=name):
        raise ConflictException(
            f"An analysis template named {name} exists already; delete it first or choose another name.",
            reason="ALREADY_EXISTS",
        )


@operation("cleanrooms.GetAnalysisTemplate")
def get_analysis_template(call: Call, params: Params) -> Output:
    """The caller's template."""
    return {"analysisTemplate": record(call, _own(call, params))}


def _own(call: Call, params: Params) -> Resource:
    return fetch.of_membership(call, KIND, params["analysisTemplateIdentifier"])


@operation("cleanrooms.ListAnalysisTemplates")
def list_analysis_templates(call: Call, params: Params) -> Output:
    """The caller's templates."""
    key = "analysisTemplateSummaries"
    return call.page(params, KIND, summary, key, kept=True, membership=call.membership.id)


@operation("cleanrooms.UpdateAnalysisTemplate")
def update_analysis_template(call: Call, params: Params) -> Output:
    """Changes the description; nothing else can be, because others have agreed to it."""
    row = _own(call, params)
    if "description" in params:
        row = resources.change(call.tx, row, body={"description": params["description"]})
    return {"analysisTemplate": record(call, row)}


@operation("cleanrooms.DeleteAnalysisTemplate")
def delete_analysis_template(call: Call, params: Params) -> Output:
    """Takes the template out of the collaboration; what waits to run it will fail."""
    resources.remove(call.tx, _own(call, params))
    return {}


@operation("cleanrooms.GetCollaborationAnalysisTemplate")
def get_collaboration_analysis_template(call: Call, params: Params) -> Output:
    """A template of the collaboration, for every member."""
    row = fetch.of_collaboration(call, KIND, params["analysisTemplateArn"])
    return {"collaborationAnalysisTemplate": _shared(record(call, row))}


def _shared(shown: Output) -> Output:
    """What other members see: not where a script lies."""
    if "artifacts" in shown["source"]:
        del shown["source"]
    return shown


@operation("cleanrooms.ListCollaborationAnalysisTemplates")
def list_collaboration_analysis_templates(call: Call, params: Params) -> Output:
    """The collaboration's templates, for every member."""
    key = "collaborationAnalysisTemplateSummaries"
    accounts = fetch.active_accounts(call)
    return call.page(
        params, KIND, summary, key, kept=True, accounts=accounts, collaboration=call.collaboration.id
    )


@operation("cleanrooms.BatchGetCollaborationAnalysisTemplate")
def batch_get_collaboration_analysis_template(call: Call, params: Params) -> Output:
    """Several templates by ARN; those that are not there are listed under `errors`."""
    found, errors = [], []
    for arn in dict.fromkeys(params["analysisTemplateArns"]):
        try:
            found.append(fetch.of_collaboration(call, KIND, arn))
        except ResourceNotFoundException as error:
            errors.append({"arn": arn, "code": error.code, "message": error.message})
    return {
        "collaborationAnalysisTemplates": [_shared(one) for one in records(call, found)],
        "errors": errors,
    }
