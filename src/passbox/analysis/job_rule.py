"""Jobs: which rows and columns of its tables a script may be handed.

A script can do anything with what it is given, so nothing of a table's rule can be asked of it afterwards.
What may not be in a result is therefore not given at all: columns that are not allowed, and those of
disallowedOutputColumns. A control that only the text of a query could keep (differential privacy, thresholds,
comparisons) refuses the job. Only tables under a custom rule that let in jobs are read, and every owner must
have allowed the template, or the account that wrote it.

This module knows rules; it must not know scripts.
"""

from collections.abc import Mapping, Sequence

from passbox.analysis import collaboration_rule, custom_rule
from passbox.analysis.plan import _KEY, ApprovedJob, ApprovedPlan, Purpose, Table
from passbox.errors import QueryRefused

_KNOWN = frozenset(
    {"allowedAnalyses", "allowedAnalysisProviders", "additionalAnalyses", "disallowedOutputColumns"}
)


def approve(referenced: Sequence[str], tables: Mapping[str, Table], purpose: Purpose) -> ApprovedJob:
    """See `passbox.analysis.approve_job`."""
    if purpose.template is None:
        raise ValueError("a job is by a template")
    by_name = {table.name.lower(): table for table in tables.values()}
    plans: dict[str, ApprovedPlan] = {}
    detailed = True
    for name in referenced:
        table = by_name.get(name.lower())
        if table is None:
            raise QueryRefused(
                f"The template references the table {name}, which is not in the collaboration; its tables "
                f"are: {', '.join(sorted(tables)) or 'none'}.",
                rule="job.referencedTables",
            )
        _enforce(table, purpose)
        plans[name] = _plan(table)
        detailed = detailed and purpose.template[0] in custom_rule.listed(table.rule or {}, "allowedAnalyses")
    return ApprovedJob(plans, detailed, key=_KEY)


def _enforce(table: Table, purpose: Purpose) -> None:
    if "DIRECT_JOB" not in table.methods:
        raise QueryRefused(
            f"The table {table.name} is for queries only; its owner can let in jobs with an analysisMethod "
            "of DIRECT_JOB or MULTIPLE.",
            rule="analysisMethod",
            table=table.name,
        )
    if table.rule_type is None or table.rule is None:
        raise QueryRefused(
            f"The table {table.name} has no analysis rule, so nothing may read it.",
            rule="analysisRule",
            table=table.name,
        )
    if table.rule_type != "CUSTOM":
        raise QueryRefused(
            f"The table {table.name} has an analysis rule of type {table.rule_type}; jobs read only tables "
            "under a CUSTOM rule.",
            rule="analysisRule",
            table=table.name,
        )
    collaboration_rule.enforce(table, purpose)
    custom_rule.only(table, _KNOWN, "which nothing can enforce on a script; only queries may read the table")
    custom_rule.provider(table, purpose, "ANY_JOB", "jobs")


def _plan(table: Table) -> ApprovedPlan:
    """All columns of a table that may be in a result."""
    disallowed = {name.lower() for name in custom_rule.listed(table.rule or {}, "disallowedOutputColumns")}
    columns = tuple(column.name for column in table.columns if column.name.lower() not in disallowed)
    if not columns:
        raise QueryRefused(
            f"Every allowed column of {table.name} is one of disallowedOutputColumns, so a script may "
            "have none.",
            rule="custom.disallowedOutputColumns",
            table=table.name,
        )
    return ApprovedPlan(
        sql=f"SELECT {', '.join(map(_quoted, columns))} FROM {_quoted(table.name)}",  # noqa: S608  quoted
        parameters={},
        tables=(table.name,),
        columns={table.name: tuple(sorted(columns))},
        outputs=columns,
        sources={column: ((table.name, column),) for column in columns},
        key=_KEY,
    )


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
