"""Privacy budgets: what is left of what a template gives, as its members see it."""

from collections.abc import Iterable

from passbox.access import fetch
from passbox.access.call import Call
from passbox.analysis.bounded import MEASURES
from passbox.ledger import budgets, epsilon
from passbox.ledger.budgets import KIND, Budget
from passbox.operations.privacy_budget_template import record
from passbox.operations.registry import Output, Params, operation
from passbox.state import resources
from passbox.state.database import Transaction
from passbox.state.resources import Resource


def access_budgets(tx: Transaction, associations: Iterable[str]) -> Output:
    """The `privacyBudgets` of what derives from these table associations; nothing where none is limited."""
    found = [budgets.of_table(tx, association) for association in associations]
    shown = [_access_budget(budget) for budget in found if budget is not None]
    return {"privacyBudgets": {"accessBudgets": shown}} if shown else {}


def _access_budget(budget: Budget) -> Output:
    """The modelled AccessBudget."""
    return {
        "resourceArn": budget.template.name,
        "aggregateRemainingBudget": budget.remaining,
        "details": [
            {
                "budgetType": limit.type,
                "budget": limit.budget,
                "remainingBudget": limit.remaining,
                "autoRefresh": limit.refresh,
                "startTime": limit.start,
                "endTime": limit.end,
            }
            for limit in budget.limits
        ],
    }


def _policy(budget: epsilon.Budget) -> Output:
    """The modelled DifferentialPrivacyPrivacyBudget: each count as if nothing else were asked."""
    return {
        "epsilon": budget.total // epsilon.MICRO,
        "aggregations": [
            {
                "type": type,
                "maxCount": epsilon.most(measures, budget.total, budget.users),
                "remainingCount": epsilon.most(measures, budget.remaining, budget.users),
            }
            for type, measures in MEASURES.items()
        ],
    }


def _summary(tx: Transaction, template: Resource) -> Output:
    """The modelled PrivacyBudgetSummary: a budget for each generation of a template."""
    budget = (
        {"differentialPrivacy": _policy(epsilon.of_template(tx, template))}
        if template.status == epsilon.TYPE
        else {"accessBudget": _access_budget(budgets.of_template(tx, template))}
    )
    return {
        **record(template),
        "id": template.body["generation"],
        "createTime": template.body["since"],
        "privacyBudgetTemplateId": template.id,
        "privacyBudgetTemplateArn": template.arn,
        "type": template.status,
        "budget": budget,
    }


def _page(call: Call, params: Params, key: str, bounds: resources.Bounds) -> Output:
    """A page of budgets within bounds, of the type and for the resource that are asked for."""
    bounds["statuses"] = [params["privacyBudgetType"]]
    if "accessBudgetResourceArn" in params:
        bounds["name"] = params["accessBudgetResourceArn"]
    return call.page(params, KIND, lambda row: _summary(call.tx, row), key, **bounds)


@operation("cleanrooms.ListPrivacyBudgets")
def list_privacy_budgets(call: Call, params: Params) -> Output:
    """What is left of the budgets that the caller has set."""
    return _page(call, params, "privacyBudgetSummaries", {"membership": call.membership.id})


@operation("cleanrooms.ListCollaborationPrivacyBudgets")
def list_collaboration_privacy_budgets(call: Call, params: Params) -> Output:
    """What is left of the collaboration's budgets, for every member."""
    scope: resources.Bounds = {
        "accounts": fetch.active_accounts(call),
        "collaboration": call.collaboration.id,
    }
    return _page(call, params, "collaborationPrivacyBudgetSummaries", scope)
