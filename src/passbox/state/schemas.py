"""The tables of a collaboration as `analysis` sees them: columns and rules, active members only."""

from collections.abc import Collection, Mapping
from typing import Any, cast

from passbox.analysis.plan import Column, RuleType, Table
from passbox.state import resources
from passbox.state.database import Transaction
from passbox.state.resources import Resource


def associations(tx: Transaction, collaboration: str) -> list[Resource]:
    """The configured table associations of active members, oldest first."""
    active = active_accounts(tx, collaboration)
    rows = resources.find(tx, "configured_table_association", collaboration=collaboration)
    return [row for row in rows if row.account in active]


def active_accounts(tx: Transaction, collaboration: str) -> set[str]:
    """The accounts of active members."""
    rows = resources.find(tx, "member", statuses=["ACTIVE"], collaboration=collaboration)
    return {row.account for row in rows}


def association(tx: Transaction, collaboration: str, name: str) -> Resource | None:
    """The association that queries call `name`; names have no case."""
    lowered = name.lower()
    rows = associations(tx, collaboration)
    return next((row for row in rows if (row.name or "").lower() == lowered), None)


def named(tx: Transaction, collaboration: str, names: Collection[str]) -> list[Resource]:
    """The associations of these names, written as `tables` writes them."""
    return [row for row in associations(tx, collaboration) if row.name in names]


def rules(tx: Transaction, association: Resource) -> tuple[Resource | None, Resource | None]:
    """The analysis rule of an association's table, and the association's own."""
    rule = resources.first(tx, "configured_table_analysis_rule", parent=association.parent or "")
    own = resources.first(tx, "configured_table_association_analysis_rule", parent=association.id)
    return rule, own


def table(tx: Transaction, association: Resource) -> Table:
    """One association as a Table: allowed columns with types, the table's rule and the association's."""
    configured = resources.require(tx, "configured_table", association.parent or "")
    rule, collaboration_rule = rules(tx, association)
    if rule is None or (collaboration_rule is not None and collaboration_rule.name != rule.name):
        # the table's rule was replaced by one of another type: what was agreed for the old one is void
        collaboration_rule = None
    types = {column["name"]: column["type"] for column in configured.body["columns"]}
    return Table(
        name=association.name or "",
        owner=association.account,
        columns=tuple(Column(name, types[name]) for name in configured.body["allowedColumns"]),
        rule_type=cast(RuleType, rule.name) if rule else None,
        rule=policy(rule) if rule else None,
        collaboration_rule=policy(collaboration_rule) if collaboration_rule else None,
        methods=methods(configured),
    )


def methods(configured: Resource) -> frozenset[str]:
    """What may be done with a configured table: DIRECT_QUERY, DIRECT_JOB, or what MULTIPLE selects."""
    method = configured.body["analysisMethod"]
    both = configured.body.get("selectedAnalysisMethods") or ("DIRECT_QUERY", "DIRECT_JOB")
    return frozenset(both if method == "MULTIPLE" else (method,))


def tables(tx: Transaction, collaboration: str) -> dict[str, Table]:
    """association name → Table, for a whole collaboration."""
    return {row.name or "": table(tx, row) for row in associations(tx, collaboration)}


def policy(rule: Resource) -> Mapping[str, Any]:
    """The object under `v1.<type>` of a stored rule."""
    found: Mapping[str, Any] = rule.body["policy"]["v1"][(rule.name or "").lower()]
    return found
