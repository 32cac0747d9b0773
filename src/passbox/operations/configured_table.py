"""Configured tables: an account's own table, the columns it lends out, and the one rule they are under.

What is checked here is what a rule says about the table's columns; what a query may do under a rule is for
`analysis`. A control that nothing enforces yet is refused, never stored and ignored.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

import orjson

from passbox import names
from passbox.access.call import Call, invalid
from passbox.errors import (
    ConflictException,
    ResourceNotFoundException,
    ServiceQuotaExceededException,
    ValidationException,
)
from passbox.operations.registry import Output, Params, operation
from passbox.operations.tags import check_tags
from passbox.state import resources
from passbox.state.resources import Resource

QUOTA_COLUMNS = 100
QUOTA_RULE_BYTES = 100_000
WILDCARDS = {"ANY_QUERY", "ANY_JOB"}
_ELSEWHERE = {
    "allowedResultReceivers": "set it in the analysis rule of the table's association",
    "allowedAdditionalAnalyses": "set it in the analysis rule of the table's association",
}


def record(table: Resource) -> Output:
    """The modelled ConfiguredTable. The body's `columns` are no member of it and stay here."""
    return {
        **table.body,
        "id": table.id,
        "arn": table.arn,
        "name": table.name,
        "createTime": table.created,
        "updateTime": table.updated,
    }


@operation("cleanrooms.CreateConfiguredTable")
def create_configured_table(call: Call, params: Params) -> Output:
    """Makes a table of the caller's catalog known, with the columns that collaborations may use."""
    check_tags(params.get("tags"))
    _check_methods(params["analysisMethod"], params.get("selectedAnalysisMethods"))
    columns = _describe(call, params["tableReference"])
    _check_allowed(params["allowedColumns"], columns)
    now, id = names.now(), names.new_id()
    body = {
        "description": params.get("description"),
        "tableReference": params["tableReference"],
        "tableType": _table_type(params["tableReference"]),
        "columns": columns,
        "allowedColumns": params["allowedColumns"],
        "analysisMethod": params["analysisMethod"],
        "selectedAnalysisMethods": params.get("selectedAnalysisMethods"),
        "analysisRuleTypes": [],
        "tags": params.get("tags"),
    }
    table = Resource(
        kind="configured_table",
        id=id,
        arn=names.arn("cleanrooms", call.room.region, call.account, f"configuredtable/{id}"),
        account=call.account,
        name=params["name"],
        created=now,
        updated=now,
        body={key: value for key, value in body.items() if value is not None},
    )
    return {"configuredTable": record(resources.add(call.tx, table))}


def _table_type(reference: Mapping[str, Any]) -> str:
    return next(iter(reference)).upper()


def _describe(call: Call, reference: Mapping[str, Any]) -> list[dict[str, str]]:
    """The table's columns; files that have not been looked at yet may be large, so that is done aside."""
    found = call.room.catalog.remembered(call.account, reference)
    if found is None:

        def look() -> Any:
            try:
                return call.room.catalog.describe(call.account, reference)
            except ValidationException as refusal:
                raise invalid("tableReference", refusal.message) from refusal

        found = call.aside(("table", repr(reference)), look)
    return [{"name": column.name.lower(), "type": column.type} for column in found]


def _check_methods(method: str, selected: list[str] | None) -> None:
    if selected is not None and (method != "MULTIPLE" or len(set(selected)) < 2):
        raise invalid(
            "selectedAnalysisMethods",
            "selectedAnalysisMethods names at least two methods and needs analysisMethod MULTIPLE; leave it "
            "out otherwise.",
        )


def _check_allowed(allowed: list[str], columns: list[dict[str, str]]) -> None:
    if len(allowed) > QUOTA_COLUMNS:
        raise ServiceQuotaExceededException(
            f"A configured table can allow {QUOTA_COLUMNS} columns, not {len(allowed)}.",
            quota_name="Allowed columns per configured table",
            quota_value=QUOTA_COLUMNS,
        )
    _check_unique("allowedColumns", allowed)
    known = {column["name"] for column in columns}
    unknown = [name for name in allowed if name.lower() not in known]
    if unknown:
        raise invalid(
            "allowedColumns",
            f"The table has no column {', '.join(unknown)}; its columns are: {', '.join(sorted(known))}.",
        )


def _check_unique(field: str, listed: Iterable[str]) -> None:
    lowered = [name.lower() for name in listed]
    twice = sorted({name for name in lowered if lowered.count(name) > 1})
    if twice:
        raise invalid(field, f"{field} names {', '.join(twice)} twice; name each column once.")


@operation("cleanrooms.GetConfiguredTable")
def get_configured_table(call: Call, params: Params) -> Output:
    """One of the caller's tables."""
    return {"configuredTable": record(call.target)}


@operation("cleanrooms.ListConfiguredTables")
def list_configured_tables(call: Call, params: Params) -> Output:
    """The caller's tables."""
    return call.page(
        params, "configured_table", record, "configuredTableSummaries", kept=True, account=call.account
    )


@operation("cleanrooms.UpdateConfiguredTable")
def update_configured_table(call: Call, params: Params) -> Output:
    """Changes name, description, source, columns or methods; what is left out stays as it is.

    The source is read again where it or the columns change, so that columns added to it since can be allowed.
    """
    table = call.target
    keys = ("description", "tableReference", "allowedColumns", "analysisMethod", "selectedAnalysisMethods")
    changes: dict[str, Any] = {key: params[key] for key in keys if key in params}
    if "analysisMethod" in changes:
        changes.setdefault("selectedAnalysisMethods", None)
    merged = {**table.body, **changes}
    _check_methods(merged["analysisMethod"], merged.get("selectedAnalysisMethods"))
    if "tableReference" in changes or "allowedColumns" in changes:
        changes["columns"] = _describe(call, merged["tableReference"])
        changes["tableType"] = _table_type(merged["tableReference"])
        _check_allowed(merged["allowedColumns"], changes["columns"])
        rule = resources.first(call.tx, "configured_table_analysis_rule", parent=table.id)
        if rule is not None:
            _check_still_used(table, rule, merged["allowedColumns"])
    changed = resources.change(call.tx, table, name=params.get("name"), body=changes)
    return {"configuredTable": record(changed)}


def _check_still_used(table: Resource, rule: Resource, allowed: list[str]) -> None:
    kind = rule.name or ""
    used = {column for _, column in _columns(kind, rule.body["policy"]["v1"][kind.lower()])}
    lost = sorted(used - set(allowed))
    if lost:
        raise ConflictException(
            f"The {kind} analysis rule of this table uses {', '.join(lost)}, so allowedColumns must keep "
            "them; change the rule first.",
            resource_id=table.id,
            resource_type="CONFIGURED_TABLE",
        )


@operation("cleanrooms.DeleteConfiguredTable")
def delete_configured_table(call: Call, params: Params) -> None:
    """Forgets a table and its rule; refused while a collaboration still has it."""
    table = call.target
    used = resources.first(call.tx, "configured_table_association", parent=table.id)
    if used is not None:
        raise ConflictException(
            f"The configured table is associated as {used.name} under membership {used.membership}; delete "
            "the association first.",
            reason="SUBRESOURCES_EXIST",
            resource_id=table.id,
            resource_type="CONFIGURED_TABLE",
        )
    rule = resources.first(call.tx, "configured_table_analysis_rule", parent=table.id)
    if rule is not None:
        resources.remove(call.tx, rule)
    resources.remove(call.tx, table)


def rule_record(table: Resource, rule: Resource) -> Output:
    """The modelled ConfiguredTableAnalysisRule."""
    return {
        "configuredTableId": table.id,
        "configuredTableArn": table.arn,
        "policy": rule.body["policy"],
        "type": rule.name,
        "createTime": rule.created,
        "updateTime": rule.updated,
    }


@operation("cleanrooms.CreateConfiguredTableAnalysisRule")
def create_configured_table_analysis_rule(call: Call, params: Params) -> Output:
    """Puts the table under a rule; it can have one."""
    table, kind = call.target, params["analysisRuleType"]
    _check_rule(table, kind, params["analysisRulePolicy"])
    existing = resources.first(call.tx, "configured_table_analysis_rule", parent=table.id)
    if existing is not None:
        raise ConflictException(
            f"The configured table has an analysis rule of type {existing.name} already, and can have one; "
            "update or delete that one.",
            reason="ALREADY_EXISTS",
            resource_id=table.id,
            resource_type="CONFIGURED_TABLE",
        )
    now = names.now()
    rule = Resource(
        kind="configured_table_analysis_rule",
        id=names.new_id(),
        arn=f"{table.arn}/analysisrule/{kind}",
        account=call.account,
        parent=table.id,
        name=kind,
        created=now,
        updated=now,
        body={"policy": params["analysisRulePolicy"]},
    )
    resources.add(call.tx, rule)
    resources.change(call.tx, table, body={"analysisRuleTypes": [kind]})
    return {"analysisRule": rule_record(table, rule)}


@operation("cleanrooms.GetConfiguredTableAnalysisRule")
def get_configured_table_analysis_rule(call: Call, params: Params) -> Output:
    """The table's rule of a type."""
    return {"analysisRule": rule_record(call.target, _rule(call, params["analysisRuleType"]))}


@operation("cleanrooms.UpdateConfiguredTableAnalysisRule")
def update_configured_table_analysis_rule(call: Call, params: Params) -> Output:
    """Replaces the policy; jobs that are submitted from now on are under the new one."""
    rule = _rule(call, params["analysisRuleType"])
    _check_rule(call.target, params["analysisRuleType"], params["analysisRulePolicy"])
    changed = resources.change(call.tx, rule, body={"policy": params["analysisRulePolicy"]})
    return {"analysisRule": rule_record(call.target, changed)}


@operation("cleanrooms.DeleteConfiguredTableAnalysisRule")
def delete_configured_table_analysis_rule(call: Call, params: Params) -> None:
    """Takes the rule away; without one nothing may query the table, so the owner can always do this."""
    resources.remove(call.tx, _rule(call, params["analysisRuleType"]))
    resources.change(call.tx, call.target, body={"analysisRuleTypes": []})


def _rule(call: Call, kind: str) -> Resource:
    found = resources.first(call.tx, "configured_table_analysis_rule", parent=call.target.id, name=kind)
    if found is None:
        raise ResourceNotFoundException(
            f"The configured table {call.target.id} has no analysis rule of type {kind}.",
            resource_id=call.target.id,
            resource_type="CONFIGURED_TABLE",
        )
    return found


def only_policy(kind: str, policy: Mapping[str, Any]) -> Mapping[str, Any]:
    """The object under `v1.<kind>` of a policy; refused where the policy is of another type."""
    found: Mapping[str, Any] = policy["v1"]
    if kind.lower() not in found:
        raise invalid(
            "analysisRulePolicy",
            f"analysisRulePolicy.v1 holds {', '.join(found)}, but analysisRuleType is {kind}; give both the "
            "same type.",
        )
    size = len(orjson.dumps(policy))
    if size > QUOTA_RULE_BYTES:
        raise ServiceQuotaExceededException(
            f"An analysis rule can have {QUOTA_RULE_BYTES} bytes of JSON, not {size}.",
            quota_name="Analysis rule size in bytes",
            quota_value=QUOTA_RULE_BYTES,
        )
    policy_of_kind: Mapping[str, Any] = found[kind.lower()]
    return policy_of_kind


def _check_rule(table: Resource, kind: str, policy: Mapping[str, Any]) -> None:
    rule = only_policy(kind, policy)
    place = f"analysisRulePolicy.v1.{kind.lower()}"
    allowed = set(table.body["allowedColumns"])
    for field, column in _columns(kind, rule):
        if column not in allowed:
            raise invalid(
                f"{place}.{field}",
                f"{place}.{field} names {column}, which is not among the table's allowedColumns: "
                f"{', '.join(sorted(allowed))}.",
            )
    _CHECKS[kind](place, rule)


def _columns(kind: str, rule: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(field, column) for every column that a rule names."""
    plain = {
        "LIST": ("joinColumns", "listColumns"),
        "AGGREGATION": ("joinColumns", "dimensionColumns"),
        "CUSTOM": ("disallowedOutputColumns",),
    }
    for field in plain[kind]:
        for column in rule.get(field) or ():
            yield field, column
    for entry in rule.get("aggregateColumns") or ():
        for column in entry["columnNames"]:
            yield "aggregateColumns", column
    for constraint in rule.get("outputConstraints") or ():
        yield "outputConstraints", constraint["columnName"]
    for entry in (rule.get("differentialPrivacy") or {}).get("columns") or ():
        yield "differentialPrivacy.columns", entry["name"]
    for entry in rule.get("aggregationThresholds") or ():
        for column in entry["identityColumns"]:
            yield "aggregationThresholds.identityColumns", column
        for threshold in entry.get("outputColumnThresholds") or ():
            yield "aggregationThresholds.outputColumnThresholds", threshold["outputColumnName"]
    for field, columns in (rule.get("comparisonControls") or {}).items():
        for column in columns:
            yield f"comparisonControls.{field}", column


def _check_disjoint(place: str, one: str, ones: set[str], other: str, others: set[str]) -> None:
    both = sorted(ones & others)
    if both:
        raise invalid(
            f"{place}.{one}",
            f"{place}: {', '.join(both)} is in {one} and in {other}; a column can be in one of them only.",
        )


def _check_list(place: str, rule: Mapping[str, Any]) -> None:
    for field in ("joinColumns", "listColumns"):
        _check_unique(f"{place}.{field}", rule[field])
    _check_disjoint(place, "joinColumns", set(rule["joinColumns"]), "listColumns", set(rule["listColumns"]))


def _check_aggregation(place: str, rule: Mapping[str, Any]) -> None:
    for field in ("joinColumns", "dimensionColumns"):
        _check_unique(f"{place}.{field}", rule[field])
    dimensions = set(rule["dimensionColumns"])
    aggregated = {column for entry in rule["aggregateColumns"] for column in entry["columnNames"]}
    _check_disjoint(place, "dimensionColumns", dimensions, "joinColumns", set(rule["joinColumns"]))
    _check_disjoint(place, "dimensionColumns", dimensions, "aggregateColumns", aggregated)


def _check_custom(place: str, rule: Mapping[str, Any]) -> None:
    for field, advice in _ELSEWHERE.items():
        if field in rule:
            raise invalid(
                f"{place}.{field}",
                f"{place}.{field} is not accepted here: {advice}.",
            )
    _check_privacy(place, rule)
    _check_unique(f"{place}.disallowedOutputColumns", rule.get("disallowedOutputColumns") or ())
    analyses = set(rule["allowedAnalyses"])
    providers = rule.get("allowedAnalysisProviders")
    if analyses & WILDCARDS:
        if analyses - WILDCARDS:
            _refuse_mixture(place, "allowedAnalyses")
        if providers is None:
            field = f"{place}.allowedAnalysisProviders"
            raise invalid(field, f"{field} must name the accounts whose queries ANY_QUERY or ANY_JOB allows.")
    elif providers:
        _refuse_mixture(place, "allowedAnalysisProviders")


def _check_privacy(place: str, rule: Mapping[str, Any]) -> None:
    """Differential privacy stands alone: thresholds and comparisons would be asked of exact values."""
    for other in ("aggregationThresholds", "comparisonControls"):
        if rule.get("differentialPrivacy") and rule.get(other):
            raise invalid(
                f"{place}.differentialPrivacy",
                f"{place}.differentialPrivacy cannot be combined with {other}; leave one of them out.",
            )


def _refuse_mixture(place: str, field: str) -> NoReturn:
    raise invalid(
        f"{place}.{field}",
        f"{place} allows templates or accounts, not both: either allowedAnalyses names analysis templates "
        "and allowedAnalysisProviders is left out, or allowedAnalyses is ANY_QUERY (or ANY_JOB) and "
        "allowedAnalysisProviders names accounts.",
    )


_CHECKS = {"LIST": _check_list, "AGGREGATION": _check_aggregation, "CUSTOM": _check_custom}
