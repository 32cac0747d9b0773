"""Synthetic data: what a template asks for, and what the door asks of a channel whose rows are generated.

A template with `syntheticDataParameters` is for ML input channels only: what its query finds is only learned
from, and the channel holds generated rows. Who pays for the generating is settled apart from who pays for the
query.
"""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal, InvalidOperation
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
    _check_declaration(said, _mapping(row))
    if declaration(row) != said and _used(call, row):
        raise ConflictException(
            "A channel was made by the template with what is declared now; create another template.",
            reason="ALREADY_EXISTS",
        )
    row = resources.change(call.tx, row, body={"syntheticDataDeclaration": said})
    return {"declaration": declaration(row)}


def _used(call: Call, template: Resource) -> bool:
    """Whether a channel was submitted by the template."""
    for channel in resources.find(call.tx, "ml_input_channel", collaboration=call.collaboration.id):
        source = channel.body["inputChannel"]["dataSource"]["protectedQueryInputParameters"]
        if source["sqlParameters"].get("analysisTemplateArn") == template.arn:
            return True
    return False


def _check_declaration(said: Params, mapping: Sequence[Params]) -> None:
    """Refuses what no result could fit: names that are not there, and domains and dependencies that
    contradict themselves."""
    types = {one["columnName"]: one["columnType"] for one in mapping}
    targets = {one["columnName"] for one in mapping if one["isPredictiveValue"]}
    _check_domains(said.get("columns", ()), types)
    _check_dependencies(said.get("dependencies", ()), types, targets)
    if "person" in said and said["person"]["columnName"] in types:
        field = "declaration.person.columnName"
        raise invalid(
            field,
            f"{field}: {said['person']['columnName']} is classified; what tells persons apart is not "
            "generated, so leave it out of the classification.",
        )


def _check_domains(columns: Sequence[Params], types: Mapping[str, str]) -> None:
    for at, one in enumerate(columns):
        name, field = one["columnName"], f"declaration.columns.{at + 1}"
        if name not in types:
            raise invalid(field, f"{field}: the template does not classify a column {name}.")
        if name in [other["columnName"] for other in columns[:at]]:
            raise invalid(field, f"{field}: {name} is declared twice; declare it once.")
        bounds = [key for key in ("low", "high", "step") if key in one]
        if types[name] == "CATEGORICAL" and bounds:
            raise invalid(field, f"{field}: {name} is CATEGORICAL; declare its values, not {bounds[0]}.")
        if types[name] == "NUMERICAL" and "values" in one:
            raise invalid(field, f"{field}: {name} is NUMERICAL; declare low and high, not values.")
        if len(set(one.get("values", ()))) < len(one.get("values", ())):
            raise invalid(field, f"{field}: a value of {name} is declared twice; declare it once.")
        if bounds and not {"low", "high"} <= set(bounds):
            raise invalid(field, f"{field}: declare both low and high of {name}.")
        _check_numbers(field, name, one)


def _check_numbers(field: str, name: str, one: Params) -> None:
    """Of numbers the order; of dates and times, which are no numbers, that of their texts."""
    if "low" not in one:
        return
    low, high = one["low"], one["high"]
    with contextlib.suppress(InvalidOperation):
        low, high = Decimal(low), Decimal(high)
        if not (low.is_finite() and high.is_finite()):
            raise invalid(field, f"{field}: low and high of {name} must be finite.")
    if type(low) is not type(high) or not low < high:
        raise invalid(field, f"{field}: low of {name} must be below its high.")
    try:
        step = Decimal(one.get("step", "1"))
    except InvalidOperation:
        step = Decimal(0)
    if not (step.is_finite() and step > 0):
        raise invalid(field, f"{field}: the step of {name} must be a number above 0.")


def _check_dependencies(
    dependencies: Sequence[Params], types: Mapping[str, str], targets: Collection[str]
) -> None:
    field = "declaration.dependencies"
    dependent = [one["dependent"] for one in dependencies]
    for one in dependencies:
        name = one["dependent"]
        for unknown in sorted({name, *one["determinants"]} - set(types)):
            raise invalid(field, f"{field}: the template does not classify a column {unknown}.")
        if dependent.count(name) > 1:
            raise invalid(field, f"{field}: {name} is declared twice; declare it once.")
        if name in targets:
            raise invalid(field, f"{field}: {name} is the predictive column, which cannot be dependent.")
        if set(one["determinants"]) & set(dependent):
            raise invalid(field, f"{field}: the determinants of {name} must be columns that depend on none.")


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
