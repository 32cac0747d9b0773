"""The tables of a collaboration as `analysis` sees them: columns and rules, active members only."""

from collections.abc import Mapping
from typing import Any, cast

from passbox.analysis.plan import Column, RuleType, Table
from passbox.state import resources
from passbox.state.database import Transaction
from passbox.state.resources import Resource


def associations(tx: Transaction, collaboration: str) -> list[Resource]:
    """The configured table associations of active members, oldest first."""
    active = {
        row.account for row in resources.find(tx, "member", statuses=["ACTIVE"], collaboration=collaboration)
    }
    rows = resources.find(tx, "configured_table_association", collaboration=collaboration)
    return [row for row in rows if row.account in active]


def table(tx: Transaction, association: Resource) -> Table:
    """One association as a Table: allowed columns with types, the table's rule and the association's."""
    configured = resources.require(tx, "configured_table", association.parent or "")
    rule = resources.first(tx, "configured_table_analysis_rule", parent=configured.id)
    collaboration_rule = resources.first(
        tx, "configured_table_association_analysis_rule", parent=association.id
    )
    types = {column["name"]: column["type"] for column in configured.body["columns"]}
    return Table(
        name=association.name or "",
        owner=association.account,
        columns=tuple(Column(name, types[name]) for name in configured.body["allowedColumns"]),
        rule_type=cast(RuleType, rule.name) if rule else None,
        rule=_policy(rule),
        collaboration_rule=_policy(collaboration_rule),
    )


def tables(tx: Transaction, collaboration: str) -> dict[str, Table]:
    """association name → Table, for a whole collaboration."""
    return {row.name or "": table(tx, row) for row in associations(tx, collaboration)}


def _policy(rule: Resource | None) -> Mapping[str, Any] | None:
    """The object under `v1.<type>` of a stored rule."""
    if rule is None:
        return None
    found: Mapping[str, Any] = rule.body["policy"]["v1"][(rule.name or "").lower()]
    return found
