"""Protected jobs: the script of a PySpark template over the members' tables, its results for who wrote it."""

from typing import Any

from passbox import names
from passbox.access import fetch
from passbox.access.call import Call, invalid
from passbox.analysis import ApprovedJob, Purpose, approve_job
from passbox.errors import QueryRefused, ValidationException
from passbox.ledger import payers, prices
from passbox.operations import protected, query, quotas
from passbox.operations.brought import new
from passbox.operations.member import paying_members
from passbox.operations.registry import Output, Params, operation
from passbox.operations.submission import Cost, cancel, submit
from passbox.state import receivers, resources, schemas, statuses
from passbox.state.resources import Resource

KIND = "protected_job"
STATUSES = statuses.OF[KIND]
_WORKERS = {"CR.1X": (4, 128), "CR.4X": (4, 32)}
_PAYER = "jobComputePayerAccountId"
_RECEIVER = "resultConfiguration.outputConfiguration.member.accountId"


def record(row: Resource) -> Output:
    """The modelled ProtectedJob. Where its receiver keeps the results is not the runner's to know."""
    output = {**protected.common(row), **row.body, **protected.outcome(row)}
    if row.status == STATUSES.done:
        received = [{"accountId": account} for account in row.body["receivers"]]
        output["result"] = {"output": {"memberList": received}}
    return output


def summary(row: Resource) -> Output:
    """The modelled ProtectedJobSummary."""
    direct = {"receiverAccountIds": row.body["receivers"]}
    return {
        **protected.common(row),
        _PAYER: row.body[_PAYER],
        "receiverConfigurations": [
            {
                "analysisType": "DIRECT_ANALYSIS",
                "configurationDetails": {"directAnalysisConfigurationDetails": direct},
            }
        ],
    }


@operation("cleanrooms.StartProtectedJob")
def start_protected_job(call: Call, params: Params) -> Output:
    """Submits a job; what it reads, who receives its results and who pays for it is settled here."""
    compute = params.get("computeConfiguration", {})
    type, number = query.workers(compute, "computeConfiguration", _WORKERS)
    if compute.get("worker", {}).get("properties", {}).get("spark"):
        field = "computeConfiguration.worker.properties"
        raise invalid(field, f"{field}: scripts run without a Spark, so leave its properties out.")
    asked = params["jobParameters"]
    template = _template(call, asked["analysisTemplateArn"])
    account = _receiver(params, template)
    configuration = {"member": {"accountId": account}}
    body: dict[str, Any] = {
        "membershipArn": call.membership.arn,
        "jobParameters": asked,
        "resultConfiguration": {"outputConfiguration": configuration},
        "computeConfiguration": {"worker": {"type": type, "number": number}},
        "receivers": [account],
    }
    values = _values(template, asked.get("parameters", {}))
    if values:
        body["parameterValues"] = values
    id = names.new_id()
    arn = f"{call.membership.arn}/protectedjob/{id}"  # of our own: AWS gives a job none
    row = new(call, KIND, None, body, status=STATUSES.waiting, id=id, arn=arn)
    [receiver] = receivers.receivers(
        call.tx, call.collaboration.id, call.account, configuration, receivers.JOBS
    )
    protected.check_receiver(call, receiver, id, _RECEIVER)
    approved = _approved(call, template, account)
    read = [one.tables[0] for one in approved.tables.values()]
    tables = [association.id for association in schemas.named(call.tx, call.collaboration.id, read)]
    members = paying_members(call.tx, call.collaboration.id)
    payer = payers.resolve(members, prices.JOB_COMPUTE, _PAYER, params.get(_PAYER))
    quotas.hold(
        call, "protected_jobs_per_membership", KIND, STATUSES.under_way, membership=call.membership.id
    )
    row = resources.add(call.tx, row._replace(body={**body, _PAYER: payer, "sources": tables}))
    submit(call, row, KIND, _cost(payer, type, number), tables=tables)
    return {"protectedJob": record(row)}


def _template(call: Call, arn: str) -> Resource:
    template = fetch.of_collaboration(call, "analysis_template", arn)
    if "artifacts" not in template.body["source"]:
        field = "jobParameters.analysisTemplateArn"
        raise invalid(field, f"{field}: the analysis template is SQL's; run it with StartProtectedQuery.")
    return template


def _values(template: Resource, given: dict[str, str]) -> dict[str, str]:
    """Every parameter's value, given or by default."""
    place = "jobParameters.parameters"
    declared = template.body.get("analysisParameters", ())
    defaults = {one["name"]: one.get("defaultValue") for one in declared}
    unknown = sorted(set(given) - set(defaults))
    if unknown:
        has = ", ".join(defaults) or "none"
        raise invalid(
            place, f"{place}: the template has no parameter {unknown[0]}; its parameters are: {has}."
        )
    values = {**defaults, **given}
    missing = [name for name, value in values.items() if value is None]
    if missing:
        raise invalid(place, f"{place}: {missing[0]} must be given; the template has no default for it.")
    return values


def _receiver(params: Params, template: Resource) -> str:
    """As in AWS, who wrote a PySpark template is who receives what it makes."""
    asked = params.get("resultConfiguration", {}).get("outputConfiguration", {})
    account = asked.get("member", {}).get("accountId", template.account)
    if account != template.account:
        raise invalid(
            _RECEIVER,
            f"{_RECEIVER} {account}: the results of a PySpark template go to the member who created it, "
            f"{template.account}.",
        )
    return str(account)


def _approved(call: Call, template: Resource, receiver: str) -> ApprovedJob:
    purpose = Purpose(
        runner=call.account,
        receivers=(receiver,),
        template=(template.arn, template.account),
        engine=call.room.engine,
    )
    tables = schemas.tables(call.tx, call.collaboration.id)
    try:
        return approve_job(template.body["schema"]["referencedTables"], tables, purpose)
    except QueryRefused as refusal:
        field, message = "jobParameters.analysisTemplateArn", refusal.explained()
        raise ValidationException(
            message, fields=[(field, message)], reason="INVALID_CONFIGURATION"
        ) from refusal


def _cost(payer: str, worker: str, number: int) -> Cost:
    """The least that a job on so many workers costs; how long it runs, nobody knows before."""
    seconds = prices.MINIMUM_JOB_SECONDS
    crpu = prices.CRPU_PER_WORKER[worker] * number
    basis = (
        f"{number} {worker} workers ({crpu} CRPU) for the minimum of {seconds} s; a job that takes longer is "
        "charged by the second"
    )
    return Cost(prices.JOB_COMPUTE, payer, prices.crpu_milliseconds(worker, number, 0, seconds), basis)


@operation("cleanrooms.GetProtectedJob")
def get_protected_job(call: Call, params: Params) -> Output:
    """The caller's job."""
    return {"protectedJob": record(fetch.of_membership(call, KIND, params["protectedJobIdentifier"]))}


@operation("cleanrooms.ListProtectedJobs")
def list_protected_jobs(call: Call, params: Params) -> Output:
    """The caller's jobs."""
    wanted = [params["status"]] if "status" in params else None
    return call.page(
        params, KIND, summary, "protectedJobs", kept=True, statuses=wanted, membership=call.membership.id
    )


@operation("cleanrooms.UpdateProtectedJob")
def update_protected_job(call: Call, params: Params) -> Output:
    """Calls a job off: CANCELLED is the one status that can be asked for."""
    row = fetch.of_membership(call, KIND, params["protectedJobIdentifier"])
    cancel(call.tx, row)
    return {"protectedJob": record(resources.require(call.tx, KIND, row.id))}
