"""How well jobs are sealed: what members demand, and what was reached.

A demand is a member's own and holds for every job of the collaboration whose data could be its own; the
strictest of the active members counts, when a job starts. Levels are the model's enum, upper case.
"""

from passbox.access import fetch
from passbox.access.call import Call
from passbox.operations.registry import Output, Params, operation
from passbox.state import isolation
from passbox.state.resources import Resource

_KINDS = {
    "ML_INPUT_CHANNEL": "ml_input_channel",
    "TRAINED_MODEL": "trained_model",
    "TRAINED_MODEL_INFERENCE_JOB": "trained_model_inference_job",
}


def _demand(row: Resource) -> Output:
    return {
        "accountId": row.account,
        "isolation": row.body["isolation"].upper(),
        "createTime": row.created,
        "updateTime": row.updated,
    }


@operation("passbox.PutIsolationDemand")
def put_isolation_demand(call: Call, params: Params) -> Output:
    """Sets or replaces what the caller demands; jobs that run already are not ended."""
    return {
        "isolationDemand": _demand(isolation.demand(call.tx, call.membership, params["isolation"].lower()))
    }


@operation("passbox.GetIsolationDemand")
def get_isolation_demand(call: Call, params: Params) -> Output:
    """The level that holds in the collaboration, and who demands what, for every member."""
    collaboration = call.collaboration.id
    return {
        "collaborationIdentifier": collaboration,
        "isolation": isolation.demanded(call.tx, collaboration).upper(),
        "isolationDemands": [_demand(row) for row in isolation.demands(call.tx, collaboration)],
    }


def _reached(row: Resource) -> Output:
    reached = row.body.get("isolation")
    return {
        "jobArn": row.arn,
        "creatorAccountId": row.account,
        "status": row.status,
        "createTime": row.created,
        **({} if reached is None else {"isolation": reached.upper()}),
        **({"versionIdentifier": row.body["versionIdentifier"]} if "versionIdentifier" in row.body else {}),
    }


@operation("passbox.ListJobIsolations")
def list_job_isolations(call: Call, params: Params) -> Output:
    """The isolation that each job of a kind reached, for every member; none yet for one that has not run."""
    kind = _KINDS[params["jobKind"]]
    accounts = fetch.active_accounts(call)
    return call.page(
        params, kind, _reached, "jobIsolations", accounts=accounts, collaboration=call.collaboration.id
    )
