"""Previews: what the gate says about a query, and what the query would read, give out, cost and use up.

The question is the one that the real operations ask; here a refusal is the answer, not an error.
"""

from passbox import names
from passbox.access import fetch
from passbox.access.call import Call, invalid
from passbox.analysis import ApprovedPlan, Purpose
from passbox.errors import QueryRefused, ValidationException
from passbox.ledger import book, budgets, epsilon, payers
from passbox.ledger.prices import MEASURES, QUERY_COMPUTE
from passbox.operations import privacy_impact, query
from passbox.operations.cost_type import MODELLED, modelled_price
from passbox.operations.member import paying_members
from passbox.operations.registry import Output, Params, operation
from passbox.state import receivers, resources, schemas


@operation("passbox.PreviewQuery")
def preview_query(call: Call, params: Params) -> Output:
    """Whether the query may run, and why not or what it would do."""
    worker = query.worker(call, params.get("computeConfiguration", {}), "computeConfiguration")
    purpose = _purpose(call, params)
    answer = query.ask(call, params["sqlParameters"], "sqlParameters", purpose)
    if isinstance(answer, QueryRefused):
        return {"allowed": False, "refusal": _refusal(answer)}
    tables = query.sources(call, answer)
    refusal = _obstacle(call, purpose, tables)
    if refusal is not None:
        return {"allowed": False, "refusal": refusal}
    privacy: Output = {}
    if answer.privacy is not None:
        try:
            charge = privacy_impact.charge(call, answer.privacy, purpose, tables)
        except ValidationException as error:
            return {"allowed": False, "refusal": _plain("differentialPrivacy.policy", error.message)}
        if (spent := epsilon.exhausted(charge.budget, charge.amount)) is not None:
            return {"allowed": False, "refusal": _plain("differentialPrivacy.budget", spent.message)}
        privacy = {
            "privacyCost": {
                "epsilonMicro": charge.amount,
                "remainingEpsilonMicro": charge.budget.remaining,
            }
        }
    plan = {
        "queryText": answer.sql,
        "tables": _tables(call, answer),
        "outputs": [
            {
                "name": name,
                "sources": [
                    {"tableName": table, "columnName": column} for table, column in answer.sources[name]
                ],
            }
            for name in answer.outputs
        ],
        "costs": _costs(call, worker),
        **privacy,
    }
    return {"allowed": True, "plan": plan}


def _obstacle(call: Call, purpose: Purpose, tables: list[str]) -> Output | None:
    """What would be refused although the gate lets it through: receivers who may not, tables used up."""
    for account in purpose.receivers:
        problem = receivers.unable(call.tx, call.collaboration.id, account)
        if problem is not None:
            able = receivers.able(call.tx, call.collaboration.id)
            return {**_plain("receiverAccountIds", problem), "allowedValues": able}
    for id in tables:
        spent = budgets.exhausted(call.tx, id)
        if spent is not None:
            name = resources.require(call.tx, "configured_table_association", id).name or ""
            return {**_plain("accessBudget", spent.message), "tableName": name}
    return None


def _plain(rule: str, message: str) -> Output:
    return {"rule": rule, "message": message, "allowedValues": []}


def _purpose(call: Call, params: Params) -> Purpose:
    arn = params.get("configuredModelAlgorithmAssociationArn")
    if arn is None:
        return Purpose(call.account, receivers=tuple(params.get("receiverAccountIds", [call.account])))
    if "receiverAccountIds" in params:
        raise invalid(
            "receiverAccountIds",
            "receiverAccountIds must be left out where configuredModelAlgorithmAssociationArn is given: a "
            "result feeds a model or is returned, not both.",
        )
    association = fetch.of_collaboration(call, "configured_model_algorithm_association", arn)
    return Purpose(call.account, additional_analysis=association.arn)


def _refusal(refusal: QueryRefused) -> Output:
    line, column = refusal.place or (None, None)
    members = {
        "tableName": refusal.table,
        "columnName": refusal.column,
        "line": line,
        "column": column,
    }
    return {
        "rule": refusal.rule,
        "message": refusal.message,
        "allowedValues": list(refusal.allowed),
        **{name: value for name, value in members.items() if value is not None},
    }


def _tables(call: Call, plan: ApprovedPlan) -> list[Output]:
    tables = []
    for association in schemas.named(call.tx, call.collaboration.id, plan.tables):
        name = association.name or ""
        table = {"name": name, "ownerAccountId": association.account, "columns": list(plan.columns[name])}
        remaining = budgets.remaining(call.tx, association.id)
        tables.append(table if remaining is None else {**table, "remainingUses": remaining})
    return tables


def _costs(call: Call, worker: Params) -> list[Output]:
    """One estimate for each member that could pay."""
    members = paying_members(call.tx, call.collaboration.id)
    now = names.now()
    price = call.room.rates.price(QUERY_COMPUTE, now)

    def counted(payer: str) -> int:
        account = book.payer_account(payer, call.collaboration.id, QUERY_COMPUTE, names.month(now))
        return book.counted(call.tx, price, account)

    able = [
        member.account
        for member in payers.candidates(members, QUERY_COMPUTE)
        if payers.effective(member, QUERY_COMPUTE)
    ]
    return [
        {
            "costType": MODELLED[cost.cost_type],
            "payerAccountId": cost.payer,
            "quantityMilliUnits": cost.quantity,
            "unit": MEASURES[cost.cost_type].unit,
            **modelled_price(price),
            "amountMicroDollars": price.of(cost.quantity, counted(cost.payer)),
            "basis": cost.basis,
        }
        for cost in (query.cost(account, worker) for account in able)
    ]
