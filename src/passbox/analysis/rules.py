"""Which rules a query must keep: those of every table that it names, all of one type, the strictest winning.

This module knows the order in which rules are asked; it must not know what any of them says.
"""

from collections.abc import Callable, Mapping

from sqlglot import exp

from passbox.analysis import aggregation_rule, collaboration_rule, custom_rule, list_rule
from passbox.analysis.lineage import Lineage
from passbox.analysis.plan import Purpose, Table
from passbox.errors import QueryRefused

Rule = Callable[[exp.Query, Lineage, Mapping[str, Table], Purpose], bool]

_TYPES: Mapping[str, Rule] = {
    "AGGREGATION": aggregation_rule.enforce,
    "LIST": list_rule.enforce,
    "CUSTOM": custom_rule.enforce,
}


def enforce(tree: exp.Query, facts: Lineage, tables: Mapping[str, Table], purpose: Purpose) -> bool:
    """Refuse what a rule of a table that the query reads refuses; True where a rule changed the tree."""
    by_name = {table.name: table for table in tables.values()}
    read = {name: by_name[name] for name in facts.reads}
    for table in read.values():
        if "DIRECT_QUERY" not in table.methods:
            raise QueryRefused(
                f"The table {table.name} is for PySpark jobs only (its analysisMethod is DIRECT_JOB).",
                rule="analysisMethod",
                table=table.name,
            )
        if table.rule_type is None or table.rule is None:
            raise QueryRefused(
                f"The table {table.name} has no analysis rule, so nothing may query it.",
                rule="analysisRule",
                table=table.name,
            )
    types = sorted({str(table.rule_type) for table in read.values()})
    if len(types) > 1:
        first = next(table for table in read.values() if table.rule_type == types[1])
        raise QueryRefused(
            "All tables of a query must have the same type of analysis rule; these have "
            + ", ".join(f"{table.name}: {table.rule_type}" for table in read.values())
            + ".",
            rule="analysisRule",
            table=first.name,
        )
    rule = _TYPES.get(types[0])
    if rule is None:
        raise QueryRefused(
            f"Analysis rules of type {types[0]} are not supported; use AGGREGATION, LIST or CUSTOM.",
            rule="analysisRule",
            table=next(iter(read)),
        )
    for table in read.values():
        collaboration_rule.enforce(table, purpose)
    return rule(tree, facts, read, purpose)
