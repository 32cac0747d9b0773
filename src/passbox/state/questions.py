"""What the gate is asked about a query: its own text or a template's, with parameters, and the tables as they
are now. The door and the worker ask the same question, so that they get the same answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from passbox.analysis import ApprovedPlan, Purpose, Table, approve, parameters
from passbox.state import resources, schemas
from passbox.state.database import Transaction
from passbox.state.resources import Resource

MOST_ARTIFACT_BYTES = 1_000_000_000  # of all artifacts of a PySpark template together


@dataclass(frozen=True)
class Question:
    """A query over a collaboration's tables. given: its parameters' values, as texts"""

    template: Resource | None
    text: str
    given: Mapping[str, str]
    tables: Mapping[str, Table]
    purpose: Purpose

    @property
    def is_script(self) -> bool:
        """Whether the template has a script instead of a text, so that it is for jobs only."""
        return self.template is not None and "text" not in self.template.body["source"]

    @property
    def synthetic(self) -> bool:
        """Whether what it gives is only to be learned from, for synthetic data."""
        return self.template is not None and "syntheticDataParameters" in self.template.body

    def approve(self) -> ApprovedPlan:
        """The plan that may run; raises QueryRefused. Takes a while for long texts."""
        if self.template is None:
            return approve(self.text, self.given, self.tables, self.purpose)
        bound = parameters.bind(self.template.body.get("analysisParameters", ()), self.given)
        return approve(self.text, bound, self.tables, self.purpose)


def question(
    tx: Transaction, collaboration: str, sql: Mapping[str, Any], purpose: Purpose
) -> Question | None:
    """What `sql`, modelled parameters with a queryString or an analysisTemplateArn, asks for `purpose`.

    None where the template is not there: deleted, of another collaboration, or of a member that has gone.
    """
    template, text = None, sql.get("queryString", "")
    if "analysisTemplateArn" in sql:
        template = live(tx, collaboration, sql["analysisTemplateArn"])
        if template is None:
            return None
        text = template.body["source"].get("text", "")
        purpose = replace(purpose, template=(template.arn, template.account))
    tables = schemas.tables(tx, collaboration)
    return Question(template, text, sql.get("parameters", {}), tables, purpose)


def live(tx: Transaction, collaboration: str, arn: str) -> Resource | None:
    """A template that may be used in a collaboration: its author brought it there and is active."""
    template = resources.by_arn(tx, "analysis_template", arn)
    if template is None or template.collaboration != collaboration:
        return None
    return template if template.account in schemas.active_accounts(tx, collaboration) else None
