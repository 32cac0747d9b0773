"""Protected queries: an approved query whose result leaves the room, for the receivers its tables allow."""

from typing import Any

from passbox import names
from passbox.access import fetch
from passbox.access.call import Call, invalid
from passbox.analysis import Purpose
from passbox.ledger import payers, prices
from passbox.operations import privacy_impact, protected, query, quotas
from passbox.operations.brought import new
from passbox.operations.member import paying_members
from passbox.operations.registry import Output, Params, operation
from passbox.operations.submission import cancel, submit
from passbox.state import receivers, resources, statuses
from passbox.state.resources import Resource

KIND = "protected_query"
STATUSES = statuses.OF[KIND]


def record(row: Resource) -> Output:
    """The modelled ProtectedQuery."""
    output = {**protected.common(row), **row.body, **protected.outcome(row)}
    if row.status == STATUSES.done:
        output["result"] = {"output": _output(row)}
    return output


def summary(row: Resource) -> Output:
    """The modelled ProtectedQuerySummary."""
    direct = {"receiverAccountIds": row.body["receivers"]}
    return {
        **protected.common(row),
        "queryComputePayerAccountId": row.body["queryComputePayerAccountId"],
        "receiverConfigurations": [
            {
                "analysisType": "DIRECT_ANALYSIS",
                "configurationDetails": {"directAnalysisConfigurationDetails": direct},
            }
        ],
    }


def _output(row: Resource) -> Output:
    """Where the results went: the runner's own place in full, of the others only who they are."""
    asked = row.body["resultConfiguration"]["outputConfiguration"]
    distributed = "distribute" in asked
    locations = asked["distribute"]["locations"] if distributed else [asked]
    output: Output = {}
    for one in locations:
        if "s3" in one:
            output["s3"] = {"location": f"{receivers.address(one['s3'], row.id)}/"}
        else:
            output.setdefault("memberList", []).append({"accountId": one["member"]["accountId"]})
    return {"distribute": output} if distributed else output


@operation("cleanrooms.StartProtectedQuery")
def start_protected_query(call: Call, params: Params) -> Output:
    """Submits a query; who receives its result and who pays for its compute is settled here."""
    worker = query.worker(call, params.get("computeConfiguration", {}), "computeConfiguration")
    sql = params["sqlParameters"]
    configuration = _configuration(call, params)
    found = receivers.receivers(call.tx, call.collaboration.id, call.account, configuration)
    accounts = [one.account for one in found]
    body = {
        "membershipArn": call.membership.arn,
        "sqlParameters": sql,
        "resultConfiguration": {"outputConfiguration": configuration},
        "computeConfiguration": {"worker": worker},
        "receivers": accounts,
    }
    id = names.new_id()
    arn = f"{call.membership.arn}/protectedquery/{id}"  # of our own: AWS gives a query none
    row = new(call, KIND, None, body, status=STATUSES.waiting, id=id, arn=arn)
    for one in found:
        place = f"resultConfiguration.outputConfiguration.{one.field}"
        protected.check_receiver(call, one, row.id, place)
    purpose = Purpose(runner=call.account, receivers=tuple(accounts))
    plan = query.approved(call, sql, "sqlParameters", purpose)
    tables = query.sources(call, plan)
    privacy = None
    if plan.privacy is not None:
        privacy = privacy_impact.charge(call, plan.privacy, purpose, tables)
        body |= privacy.body
    field = "queryComputePayerAccountId"
    members = paying_members(call.tx, call.collaboration.id)
    payer = payers.resolve(members, prices.QUERY_COMPUTE, field, params.get(field))
    quotas.hold(
        call,
        "protected_queries_per_membership",
        KIND,
        STATUSES.under_way,
        membership=call.membership.id,
    )
    row = resources.add(call.tx, row._replace(body={**body, field: payer, "sources": tables}))
    job = submit(call, row, KIND, query.cost(payer, worker), tables=tables)
    if privacy is not None:
        privacy.reserve(call, job.id)
    return {"protectedQuery": record(row)}


def _configuration(call: Call, params: Params) -> dict[str, Any]:
    """The output configuration that was asked for, or the default of the caller's membership."""
    if "resultConfiguration" not in params:
        return _default(call)
    asked: dict[str, Any] = params["resultConfiguration"]["outputConfiguration"]
    place = "resultConfiguration.outputConfiguration"
    if "intermediateTable" in asked:
        place = f"{place}.intermediateTable"
        raise invalid(
            place, f"{place}: intermediate tables are not available in this version; use s3 or member."
        )
    if "distribute" in asked:
        _check_distribution(call, asked["distribute"]["locations"], f"{place}.distribute.locations")
    return asked


def _default(call: Call) -> dict[str, Any]:
    able = receivers.able(call.tx, call.collaboration.id)
    if call.account not in able:
        raise invalid(
            "resultConfiguration",
            f"resultConfiguration must be given: {call.account} does not have the ability "
            f"{receivers.ABILITY}. Name who receives (outputConfiguration.member.accountId): "
            f"{', '.join(able) or 'no active member may'}.",
        )
    location = receivers.default_location(call.tx, call.collaboration.id, call.account)
    if location is None:
        raise invalid(
            "resultConfiguration",
            "resultConfiguration must be given: the membership has no default. Say where the result goes "
            "(outputConfiguration.s3), or give the membership a defaultResultConfiguration with "
            "UpdateMembership.",
        )
    return {"s3": dict(location)}


def _check_distribution(call: Call, locations: list[Params], place: str) -> None:
    if sum("s3" in one for one in locations) > 1:
        raise invalid(place, f"{place}: there can be one s3 location; name other receivers as member.")
    members = [one["member"]["accountId"] for one in locations if "member" in one]
    if call.account in members:
        raise invalid(
            place, f"{place}: {call.account} runs the query; name its location as s3, not as member."
        )
    twice = sorted({account for account in members if members.count(account) > 1})
    if twice:
        raise invalid(place, f"{place}: {twice[0]} is named twice; name each member once.")


@operation("cleanrooms.GetProtectedQuery")
def get_protected_query(call: Call, params: Params) -> Output:
    """The caller's query."""
    return {"protectedQuery": record(fetch.of_membership(call, KIND, params["protectedQueryIdentifier"]))}


@operation("cleanrooms.ListProtectedQueries")
def list_protected_queries(call: Call, params: Params) -> Output:
    """The caller's queries."""
    wanted = [params["status"]] if "status" in params else None
    return call.page(
        params,
        KIND,
        summary,
        "protectedQueries",
        kept=True,
        statuses=wanted,
        membership=call.membership.id,
    )


@operation("cleanrooms.UpdateProtectedQuery")
def update_protected_query(call: Call, params: Params) -> Output:
    """Calls a query off: CANCELLED is the one status that can be asked for."""
    row = fetch.of_membership(call, KIND, params["protectedQueryIdentifier"])
    cancel(call.tx, row)
    return {"protectedQuery": record(resources.require(call.tx, KIND, row.id))}
