"""What may run: SQL, the tables' rules and their schemas in; an ApprovedPlan out, or a refusal that names the
rule and the column. Pure: no state, no backends, no clock, no sockets.
"""

from collections.abc import Mapping, Sequence

from passbox.analysis.plan import ApprovedJob, ApprovedPlan, Column, Parameter, Purpose, RuleType, Table, Text

__all__ = [
    "ApprovedJob",
    "ApprovedPlan",
    "Column",
    "Parameter",
    "Purpose",
    "RuleType",
    "Table",
    "Text",
    "approve",
    "approve_job",
    "read",
]


def approve(
    query: str, parameters: Mapping[str, str | Parameter], tables: Mapping[str, Table], purpose: Purpose
) -> ApprovedPlan:
    """Approve one Spark SQL query, or refuse it.

    query:      the text as a member wrote it, at most 500,000 characters
    parameters: name → value for every `:name` in the text and no other, a text or a typed one; values are
                never put into the text
    tables:     the collaboration's tables by association name
    purpose:    who asks, from which template, and what the result is for

    Raises QueryRefused, whose `rule`, `table` and `column` say what decided and whose message says what would
    be allowed. Nothing else is raised, whatever the text is.
    """
    from passbox.analysis import gate  # sqlglot takes a while to import; the API process may never need it

    return gate.approve(query, parameters, tables, purpose)


def read(query: str) -> Text:
    """The tables and parameters that a text names; it must be a query of the gate's grammar.

    Raises QueryRefused, as `approve` does before it looks at tables.
    """
    from passbox.analysis import gate

    return gate.read(query)


def approve_job(referenced: Sequence[str], tables: Mapping[str, Table], purpose: Purpose) -> ApprovedJob:
    """What a script may read of the tables that its template references; `purpose` names the template.

    Raises QueryRefused, as `approve` does.
    """
    from passbox.analysis import job_rule

    return job_rule.approve(referenced, tables, purpose)
