"""Synthetic data: what a template asks for, and what the door asks of a channel whose rows are generated.

A template with `syntheticDataParameters` is for ML input channels only: what its query finds is only learned
from, and the channel holds generated rows. Who pays for the generating is settled apart from who pays for the
query.
"""

from collections.abc import Sequence
from typing import Any

from passbox.access import fetch
from passbox.access.call import Call, invalid
from passbox.errors import ConflictException
from passbox.ledger import payers, prices
from passbox.operations import quotas
from passbox.operations.registry import Output, Params, operation
from passbox.operations.submission import IN_PROGRESS, Cost
from passbox.state import questions, resources
from passbox.state.resources import Resource

PAYER = "payerConfiguration.syntheticDataPayerAccountId"
_MAPPING = "columnClassification.columnMapping"
_PLACE = f"syntheticDataParameters.mlSyntheticDataParameters.{_MAPPING}"


def check_template(params: Params) -> None:
    """Refuses a classification that no result could have: a column twice, or two predictive ones."""
    if "syntheticDataParameters" not in params:
        return
    columns = params["syntheticDataParameters"]["mlSyntheticDataParameters"]["columnClassification"]
    mapping = columns["columnMapping"]
    named = [column["columnName"] for column in mapping]
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise invalid(_PLACE, f"{_PLACE}: the column {twice[0]} is classified twice; classify it once.")
    predictive = [column["columnName"] for column in mapping if column["isPredictiveValue"]]
    if len(predictive) > 1:
        raise invalid(_PLACE, f"{_PLACE}: {' and '.join(predictive)} have isPredictiveValue; only one may.")


def template(call: Call, sql: Params) -> Resource | None:
    """The template that `sql` names, if what it asks for is synthetic data."""
    arn = sql.get("analysisTemplateArn")
    found = questions.live(call.tx, call.collaboration.id, arn) if arn is not None else None
    return found if found is not None and "syntheticDataParameters" in found.body else None


def parameters(template: Resource) -> dict[str, Any]:
    """Its MLSyntheticDataParameters."""
    found: dict[str, Any] = template.body["syntheticDataParameters"]["mlSyntheticDataParameters"]
    return found


def declaration(template: Resource) -> dict[str, Any]:
    """What is declared for a template; empty where nothing is."""
    found: dict[str, Any] = template.body.get("syntheticDataDeclaration", {})
    return found


def _mapping(template: Resource) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = parameters(template)["columnClassification"]["columnMapping"]
    return found


def check_outputs(place: str, template: Resource, outputs: Sequence[str]) -> None:
    """Refuses a result whose columns are not those that the template classifies.

    place: what refusals call the query; outputs: the result's columns
    """
    classified = {column["columnName"] for column in _mapping(template)}
    has = {name.lower() for name in outputs}
    if "person" in declaration(template):
        person = declaration(template)["person"]["columnName"]
        if person not in has:
            raise invalid(
                place,
                f"{place}: the template declares that {person} tells persons apart, and its result does not "
                "have that column.",
            )
        has.remove(person)
    if missing := sorted(classified - has):
        said = f"the template classifies the column {missing[0]}, which its result does not have"
    elif extra := sorted(has - classified):
        said = f"its result has the column {extra[0]}, which the template does not classify"
    else:
        return
    raise invalid(
        place,
        f"{place}: {said}; create a template whose {_MAPPING} lists every column of the result, once each.",
    )


def cost(call: Call, members: Sequence[payers.Member], named: str | None) -> Cost:
    """Who pays for the generating, and the least that it costs. Holds the account's quota.

    named: the account that the request names
    """
    channels = resources.find(call.tx, "ml_input_channel", statuses=IN_PROGRESS, account=call.account)
    generated = sum(1 for row in channels if "syntheticDataConfiguration" in row.body)
    quotas.refuse(call, "synthetic_data_jobs_per_account", generated)
    payer = payers.resolve(members, prices.SYNTHETIC_DATA, PAYER, named)
    basis = f"the minimum of {prices.MINIMUM_SDGU / prices.MILLI:g} SDGU; above it {prices.SDGU_FORMULA}"
    return Cost(prices.SYNTHETIC_DATA, payer, prices.MINIMUM_SDGU, basis)


@operation("passbox.PutSyntheticDataDeclaration")
def put_synthetic_data_declaration(call: Call, params: Params) -> Output:
    """Declares once what a template of the caller's has no field for."""
    row = fetch.of_membership(call, "analysis_template", params["analysisTemplateIdentifier"])
    if "syntheticDataParameters" not in row.body:
        raise invalid(
            "analysisTemplateIdentifier",
            "analysisTemplateIdentifier: the template has no syntheticDataParameters; nothing is generated "
            "from it.",
        )
    said = params["declaration"]
    _check_declaration(said, {one["columnName"] for one in _mapping(row)})
    if declaration(row) not in ({}, said):
        raise ConflictException(
            "Something else is declared for the template already, and others may have agreed to it; create "
            "another template.",
            reason="ALREADY_EXISTS",
        )
    row = resources.change(call.tx, row, body={"syntheticDataDeclaration": said})
    return {"declaration": declaration(row)}


def _check_declaration(said: Params, classified: set[str]) -> None:
    named = [one["columnName"] for one in said.get("columns", ())]
    dependent = [one["dependent"] for one in said.get("dependencies", ())]
    for place, names in (("columns", named), ("dependencies", dependent)):
        if twice := sorted({name for name in names if names.count(name) > 1}):
            field = f"declaration.{place}"
            raise invalid(field, f"{field}: {twice[0]} is declared twice; declare it once.")
    determinants = [name for one in said.get("dependencies", ()) for name in one["determinants"]]
    for place, names in (("columns", named), ("dependencies", [*dependent, *determinants])):
        if unknown := sorted(set(names) - classified):
            field = f"declaration.{place}"
            raise invalid(field, f"{field}: the template does not classify a column {unknown[0]}.")
    if "person" in said and said["person"]["columnName"] in classified:
        field = "declaration.person.columnName"
        raise invalid(
            field,
            f"{field}: {said['person']['columnName']} is classified; what tells persons apart is not "
            "generated, so leave it out of the classification.",
        )


@operation("passbox.GetSyntheticDataDeclaration")
def get_synthetic_data_declaration(call: Call, params: Params) -> Output:
    """What is declared for a template, for every member."""
    row = fetch.of_collaboration(call, "analysis_template", params["analysisTemplateIdentifier"])
    return {"declaration": declaration(row)}


@operation("passbox.GetSyntheticDataReport")
def get_synthetic_data_report(call: Call, params: Params) -> Output:
    """The whole report for who owns all that was read, and what everybody may see of it for the others."""
    channel = fetch.of_collaboration(call, "ml_input_channel", params["mlInputChannelArn"])
    report = resources.first(call.tx, "synthetic_data_report", parent=channel.id)
    if report is None:
        fetch.missing("synthetic_data_report", params["mlInputChannelArn"])
    owners = {
        row.account if (row := resources.get(call.tx, "configured_table_association", id)) else None
        for id in channel.body["sources"]
    }
    audience = "OWNER" if owners == {call.account} else "MEMBER"
    return {"audience": audience, "report": report.body[audience.lower()]}
