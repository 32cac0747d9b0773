"""Privacy impact: what differential privacy leaves of queries, before a policy is set and as one is asked."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from passbox.access.call import Call
from passbox.analysis import Purpose
from passbox.analysis.bounded import MEASURES, Bounded
from passbox.errors import ValidationException
from passbox.ledger import epsilon
from passbox.ledger.epsilon import Budget
from passbox.operations.registry import Output, Params, operation
from passbox.state import resources, schemas


@operation("cleanrooms.PreviewPrivacyImpact")
def preview_privacy_impact(call: Call, params: Params) -> Output:
    """How many aggregates of each type a policy would allow."""
    asked = params["parameters"]["differentialPrivacy"]
    total, users = asked["epsilon"] * epsilon.MICRO, asked["usersNoisePerQuery"]
    counts = [
        {"type": type, "maxCount": epsilon.most(measures, total, users)}
        for type, measures in MEASURES.items()
    ]
    return {"privacyImpact": {"differentialPrivacy": {"aggregations": counts}}}


class Charge(NamedTuple):
    """What a query under differential privacy costs: micro-epsilon for each of its measures.

    shown: the modelled DifferentialPrivacyParameters
    """

    budget: Budget
    each: int
    measures: int
    shown: Output

    @property
    def body(self) -> dict[str, Any]:
        """What the query's resource keeps."""
        return {
            "epsilon": {"each": self.each, "measures": self.measures},
            "differentialPrivacy": self.shown,
        }

    @property
    def amount(self) -> int:
        """All of it, in micro-epsilon."""
        return self.each * self.measures

    def reserve(self, call: Call, job: str) -> None:
        """Holds it in the book; raises ValidationException where the budget does not leave it."""
        epsilon.reserve(call.tx, job=job, budget=self.budget, amount=self.amount)


def charge(call: Call, privacy: Bounded, purpose: Purpose, associations: Iterable[str]) -> Charge:
    """What a query costs; raises ValidationException where no policy covers the tables that it reads."""
    budget = _policy(call, purpose, associations)
    shown = {"sensitivityParameters": _sensitivity(privacy)}
    return Charge(budget, epsilon.of_measure(budget.users), len(privacy.sensitivities), shown)


def _sensitivity(privacy: Bounded) -> list[Output]:
    shown = []
    for aggregate in privacy.aggregates:
        one: Output = {
            "aggregationType": aggregate.type,
            "aggregationExpression": aggregate.expression,
            "userContributionLimit": privacy.rows_per_user,
        }
        if aggregate.low is not None and aggregate.high is not None:
            one |= {"minColumnValue": aggregate.low, "maxColumnValue": aggregate.high}
        shown.append(one)
    return shown


def _policy(call: Call, purpose: Purpose, associations: Iterable[str]) -> Budget:
    """The budget that covers a query's tables.

    Whoever runs a query or receives its result cannot set how much it may tell of others' tables.
    """
    template = epsilon.template(call.tx, call.collaboration.id)
    if template is None:
        raise ValidationException(
            "DIFFERENTIAL_PRIVACY_POLICY_NOT_CONFIGURED: a table of the query is under differential privacy, "
            "and the collaboration has no privacy budget template of type DIFFERENTIAL_PRIVACY. The table's "
            "owner must create one (CreatePrivacyBudgetTemplate).",
            reason="INVALID_CONFIGURATION",
        )
    if template.account in (purpose.runner, *purpose.receivers):
        for id in associations:
            association = resources.require(call.tx, "configured_table_association", id)
            rule = schemas.table(call.tx, association).rule or {}
            if rule.get("differentialPrivacy") and association.account != template.account:
                raise ValidationException(
                    f"The privacy budget template was created by {template.account}, who runs the query or "
                    f"receives its result; over {association.name}, which is under differential privacy, "
                    f"only {association.account} or a member who does neither may set it.",
                    reason="INVALID_CONFIGURATION",
                )
    return epsilon.of_template(call.tx, template)
