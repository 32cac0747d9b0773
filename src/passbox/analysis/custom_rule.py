"""The custom rule: who may run what, and which columns may not be in the result.

Any query of the gate's own grammar may run if every table's owner allows its template, or its author for
free text. A column of disallowedOutputColumns may filter, join, group and sort, and may be used in FROM
subqueries and WITH queries, but no output of the outermost SELECT may depend on it by its expression: not
renamed, not transformed, not aggregated (COUNT included), not through a window or a subquery. As in AWS
Clean Rooms, this does not stop somebody from inferring values by filtering or sorting: comparisonControls
(`comparisons`) and aggregationThresholds (`thresholds`) are for that.

A control that passbox does not enforce refuses the query instead of being ignored. This module knows the
custom rule; it must not know text.
"""

from collections.abc import Collection, Mapping

from sqlglot import exp

from passbox.analysis import comparisons, place, thresholds
from passbox.analysis.lineage import Lineage
from passbox.analysis.plan import Purpose, Table
from passbox.errors import QueryRefused

# every member of the rule that this module, or one that it names, reads; another one would be a control that
# nobody enforces
_KNOWN = frozenset(
    {
        "allowedAnalyses",
        "allowedAnalysisProviders",
        "additionalAnalyses",
        "disallowedOutputColumns",
        "aggregationThresholds",
        "comparisonControls",
        "differentialPrivacy",  # `differential_privacy`, which the gate asks after the rules
    }
)


def enforce(tree: exp.Query, facts: Lineage, tables: Mapping[str, Table], purpose: Purpose) -> bool:
    """Refuse what the custom rule of a table refuses; True where a threshold changed the tree."""
    for table in tables.values():
        only(
            table, _KNOWN, "which this service does not enforce; a query on the table may run only without it"
        )
        provider(table, purpose, "ANY_QUERY", "queries")
    for table in tables.values():
        _outputs(table, facts)
    comparisons.enforce(facts, tables)
    return thresholds.enforce(tree, facts, tables)


def _outputs(table: Table, facts: Lineage) -> None:
    disallowed = {str(name).lower() for name in (table.rule or {}).get("disallowedOutputColumns") or ()}
    for output in facts.outputs:
        for source in sorted(output.sources):
            if source.table == table.name and source.column.lower() in disallowed:
                raise QueryRefused(
                    f"The output {output.name} depends on {table.name}.{source.column}, which may not be "
                    "in a result in any form. It may be used in WHERE, JOIN, GROUP BY and ORDER BY and "
                    "inside subqueries whose output does not depend on it.",
                    rule="custom.disallowedOutputColumns",
                    table=table.name,
                    column=source.column,
                    allowed=[
                        column.name for column in table.columns if column.name.lower() not in disallowed
                    ],
                    at=place.at(facts.node(output, source)),
                )


def only(table: Table, known: Collection[str], why: str) -> None:
    """Refuse a rule that says more than is `known`; why: what it is that else would be ignored."""
    for member, value in (table.rule or {}).items():
        if member not in known and value not in (None, [], {}):
            raise QueryRefused(
                f"The rule of {table.name} has {member}, {why}.",
                rule=f"custom.{member}",
                table=table.name,
            )


def provider(table: Table, purpose: Purpose, wildcard: str, what: str) -> None:
    """Refuse what allowedAnalyses and allowedAnalysisProviders do not allow.

    wildcard: allows everything that certain accounts wrote; what: `queries` or `jobs`, which it is
    """
    rule = table.rule or {}
    analyses, providers = listed(rule, "allowedAnalyses"), listed(rule, "allowedAnalysisProviders")
    if not analyses:
        raise QueryRefused(
            f"The rule of {table.name} allows no analysis at all.",
            rule="custom.allowedAnalyses",
            table=table.name,
        )
    if purpose.template is not None and purpose.template[0] in analyses:
        return
    author = purpose.runner if purpose.template is None else purpose.template[1]
    if wildcard not in analyses:
        raise QueryRefused(
            f"The rule of {table.name} allows only these analyses: {', '.join(analyses)}; "
            + ("free text is not allowed." if purpose.template is None else f"not {purpose.template[0]}."),
            rule="custom.allowedAnalyses",
            table=table.name,
            allowed=analyses,
        )
    if author not in providers:
        raise QueryRefused(
            f"The rule of {table.name} allows {what} written by {', '.join(providers) or 'nobody'}; this "
            f"one is written by {author}.",
            rule="custom.allowedAnalysisProviders",
            table=table.name,
            allowed=providers,
        )


def listed(rule: Mapping[str, object], member: str) -> list[str]:
    """The texts under a member of a rule."""
    found = rule.get(member)
    return [str(entry) for entry in found] if isinstance(found, list | tuple) else []
