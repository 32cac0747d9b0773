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

from collections.abc import Mapping

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
        rule = table.rule or {}
        for member, value in rule.items():
            if member not in _KNOWN and value not in (None, [], {}):
                raise QueryRefused(
                    f"The rule of {table.name} has {member}, which this service does not enforce; a query on "
                    "the table may run only without it.",
                    rule=f"custom.{member}",
                    table=table.name,
                )
        _provider(table, rule, purpose)
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


def _provider(table: Table, rule: Mapping[str, object], purpose: Purpose) -> None:
    analyses = rule.get("allowedAnalyses")
    analyses = [str(entry) for entry in analyses] if isinstance(analyses, list | tuple) else []
    providers = rule.get("allowedAnalysisProviders")
    providers = [str(entry) for entry in providers] if isinstance(providers, list | tuple) else []
    if not analyses:
        raise QueryRefused(
            f"The rule of {table.name} allows no analysis at all.",
            rule="custom.allowedAnalyses",
            table=table.name,
        )
    if purpose.template is not None and purpose.template[0] in analyses:
        return
    author = purpose.runner if purpose.template is None else purpose.template[1]
    if "ANY_QUERY" not in analyses:
        raise QueryRefused(
            f"The rule of {table.name} allows only these analyses: {', '.join(analyses)}; "
            + ("free text is not allowed." if purpose.template is None else f"not {purpose.template[0]}."),
            rule="custom.allowedAnalyses",
            table=table.name,
            allowed=analyses,
        )
    if author not in providers:
        raise QueryRefused(
            f"The rule of {table.name} allows queries written by {', '.join(providers) or 'nobody'}; this "
            f"one is written by {author}.",
            rule="custom.allowedAnalysisProviders",
            table=table.name,
            allowed=providers,
        )
