"""Whether a table can be used in a collaboration yet, and what its owner must do: the status of its schema.

It goes by configuration alone: what stands in the way of every query, for each kind of analysis. All that it
tells, members can read in rules, templates and the list of members. tests/spec/readiness.md is its table.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from passbox.ledger import epsilon
from passbox.operations.configured_table import WILDCARDS
from passbox.operations.registry import Output
from passbox.state import receivers, resources, schemas
from passbox.state.database import Transaction
from passbox.state.resources import Resource

Reasons = list[dict[str, str]]
Policy = Mapping[str, Any]

_ANALYSES = ("DIRECT_ANALYSIS", "ADDITIONAL_ANALYSIS")


def details(tx: Transaction, association: Resource) -> list[Output]:
    """The modelled SchemaStatusDetails of a configured table association: READY, or why not."""
    rule, collaboration_rule = schemas.rules(tx, association)
    found = []
    for analysis in _ANALYSES:
        reasons = _reasons(tx, association, analysis, rule, collaboration_rule)
        detail: Output = {"status": "NOT_READY" if reasons else "READY", "analysisType": analysis}
        if reasons:
            detail["reasons"] = reasons
        if rule is not None:
            detail["analysisRuleType"] = rule.name
        found.append(detail)
    return found


def _reasons(
    tx: Transaction,
    association: Resource,
    analysis: str,
    rule: Resource | None,
    collaboration_rule: Resource | None,
) -> Reasons:
    if rule is None:
        return _reason("ANALYSIS_RULE_MISSING", "The configured table has no analysis rule.")
    policy, collaboration = schemas.policy(rule), association.collaboration or ""
    reasons = _custom(tx, collaboration, policy, analysis) if rule.name == "CUSTOM" else []
    if policy.get("differentialPrivacy"):
        reasons += _privacy(tx, collaboration, analysis)
    additional = policy.get("additionalAnalyses", "NOT_ALLOWED")
    if analysis == "DIRECT_ANALYSIS" and additional == "REQUIRED":
        text = "The analysis rule requires additional analyses, so no member may receive a direct result."
        reasons += _reason("RESULT_RECEIVERS_NOT_ALLOWED", text)
    if analysis == "ADDITIONAL_ANALYSIS" and additional == "NOT_ALLOWED":
        text = "The analysis rule does not allow additional analyses."
        reasons += _reason("ADDITIONAL_ANALYSES_NOT_ALLOWED", text)
    if collaboration_rule is None:
        text = "The association has no collaboration analysis rule."
        return reasons + _reason("COLLABORATION_ANALYSIS_RULE_NOT_CONFIGURED", text)
    if collaboration_rule.name != rule.name:
        text = (
            f"The collaboration analysis rule is of type {collaboration_rule.name}, the configured table's "
            f"of type {rule.name}."
        )
        return reasons + _reason("ANALYSIS_RULE_TYPES_NOT_COMPATIBLE", text)
    destinations = _receivers if analysis == "DIRECT_ANALYSIS" else _models
    return reasons + destinations(tx, collaboration, schemas.policy(collaboration_rule))


def _custom(tx: Transaction, collaboration: str, policy: Policy, analysis: str) -> Reasons:
    """A custom rule must leave something that may run here."""
    code, allowed = "ANALYSIS_TEMPLATES_NOT_CONFIGURED", policy["allowedAnalyses"]
    if not allowed:
        return _reason(code, "The analysis rule allows no analysis template and no other analysis.")
    if analysis == "ADDITIONAL_ANALYSIS" and set(allowed) == {"ANY_JOB"}:
        return _reason(code, "The analysis rule allows jobs only, and what they make may not feed a model.")
    if WILDCARDS & set(allowed):
        return _providers(tx, collaboration, policy.get("allowedAnalysisProviders") or ())
    if not _any_here(tx, "analysis_template", collaboration, allowed):
        text = "None of the analysis templates that the analysis rule allows is in this collaboration."
        return _reason(code, text)
    return []


def _privacy(tx: Transaction, collaboration: str, analysis: str) -> Reasons:
    """Under differential privacy there must be a budget, and nothing may feed a model."""
    if analysis == "ADDITIONAL_ANALYSIS":
        text = "The table is under differential privacy; its data may not feed additional analyses."
        return _reason("ADDITIONAL_ANALYSES_NOT_ALLOWED", text)
    if epsilon.template(tx, collaboration) is None:
        text = "The collaboration has no privacy budget template of type DIFFERENTIAL_PRIVACY."
        return _reason("DIFFERENTIAL_PRIVACY_POLICY_NOT_CONFIGURED", text)
    return []


def _providers(tx: Transaction, collaboration: str, providers: Iterable[str]) -> Reasons:
    code = "ANALYSIS_PROVIDERS_NOT_CONFIGURED"
    if not providers:
        return _reason(code, "The analysis rule names no account whose analyses may run.")
    if schemas.active_accounts(tx, collaboration).isdisjoint(providers):
        text = "None of the accounts whose analyses may run is an active member of this collaboration."
        return _reason(code, text)
    return []


def _receivers(tx: Transaction, collaboration: str, policy: Policy) -> Reasons:
    code, allowed = "RESULT_RECEIVERS_NOT_CONFIGURED", policy.get("allowedResultReceivers")
    if not allowed:
        return _reason(code, "The collaboration analysis rule names no member that may receive results.")
    if set(receivers.able(tx, collaboration)).isdisjoint(allowed):
        text = (
            "None of the members that the collaboration analysis rule names is active with the ability "
            f"{receivers.ABILITY}."
        )
        return _reason(code, text)
    return []


def _models(tx: Transaction, collaboration: str, policy: Policy) -> Reasons:
    code, allowed = "ADDITIONAL_ANALYSES_NOT_CONFIGURED", policy.get("allowedAdditionalAnalyses")
    if not allowed:
        return _reason(code, "The collaboration analysis rule names no additional analysis.")
    kind = "configured_model_algorithm_association"
    if not any("*" in one for one in allowed) and not _any_here(tx, kind, collaboration, allowed):
        text = (
            "None of the configured model algorithm associations that the collaboration analysis rule names "
            "is in this collaboration."
        )
        return _reason(code, text)
    return []


def _any_here(tx: Transaction, kind: str, collaboration: str, arns: Iterable[str]) -> bool:
    """Whether an active member has one of these in the collaboration; without reading what is in it."""
    active = schemas.active_accounts(tx, collaboration)
    return any(
        resources.count(tx, kind, most=1, arn=arn, collaboration=collaboration, accounts=active)
        for arn in arns
    )


def _reason(code: str, message: str) -> Reasons:
    return [{"code": code, "message": message}]
