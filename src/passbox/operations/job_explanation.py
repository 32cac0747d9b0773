"""Explanations: why a job failed, for whoever asks, as far as they may know it.

| the caller | channel, model, export | inference job | query, PySpark job |
|---|---|---|---|
| submitted it | everything | everything | everything |
| is the one whose setting decides it | as every member | that it failed, the code, the setting, what to change | nothing: it does not exist |
| is another member | everything but charges | that it failed | nothing: it does not exist |
| is no active member (any more) | nothing, but of its own jobs | the same | the same |

That is what AWS's own operations show: every member reads the status details of channels, models and exports,
and of inference jobs, queries and PySpark jobs only whoever submitted them. Here nothing is added but words
that are the same for every job of that code.
"""  # noqa: E501  a table

from collections.abc import Callable

from passbox.access import fetch
from passbox.access.call import Call, invalid
from passbox.operations import failure
from passbox.operations.registry import Output, Params, operation
from passbox.state import resources, statuses
from passbox.state.resources import Resource

SHARED = ("ml_input_channel", "trained_model", "trained_model_export_job")
PROTECTED = ("protected_query", "protected_job")
KINDS = (*SHARED, "trained_model_inference_job", *PROTECTED)
_SILENT = "Why is told to the member that submitted it, and to the one whose setting decides it."


@operation("passbox.ExplainJob")
def explain_job(call: Call, params: Params) -> Output:
    """Why a job that the caller may see failed; that it did not, where it did not."""
    row = job(call, params)
    output = {
        "jobIdentifier": row.id if row.kind in PROTECTED else row.arn,
        "kind": row.kind.upper(),
        "name": row.name,
        "status": row.status,
        "failed": "statusDetails" in row.body,
    }
    if not output["failed"]:
        under_way = row.status in statuses.OF[row.kind].under_way
        told = "is not over yet" if under_way else "did not fail"
        return {**_without(output), "summary": f"The job is {row.status}; it {told}."}
    return {**_without(output), **_explanation(call, row)}


def job(
    call: Call, params: Params, party: Callable[[Call, Resource], bool] = lambda _call, _row: False
) -> Resource:
    """The job that jobIdentifier, versionIdentifier and exportName name, if the caller sees it.

    party: who else may see a query or a PySpark job than whoever submitted it
    """
    identifier = params["jobIdentifier"]
    named = _versions(call, identifier)
    if "versionIdentifier" in params:
        named = [row for row in named if row.body.get("versionIdentifier") == params["versionIdentifier"]]
    if "exportName" in params:
        if any(row.kind != "trained_model" for row in named):
            place = "exportName"
            raise invalid(place, f"{place} goes with the ARN of a trained model as jobIdentifier.")
        exports = [
            row
            for model in named
            for row in resources.find(
                call.tx, "trained_model_export_job", parent=model.id, name=params["exportName"]
            )
        ]
        named = sorted(exports, key=lambda row: row.sequence)
    seen = [row for row in named if _sees(call, row, party)]
    return seen[-1] if seen else fetch.missing("job", identifier)


def _versions(call: Call, identifier: str) -> list[Resource]:
    """What an ARN or an identifier names, whosever it is; several versions, the latest last."""
    if identifier.startswith("arn:"):
        return [row for kind in KINDS for row in resources.find(call.tx, kind, arn=identifier)]
    found = resources.by_id(call.tx, identifier)
    return [found] if found is not None and found.kind in KINDS else []


def _sees(call: Call, row: Resource, party: Callable[[Call, Resource], bool]) -> bool:
    if row.membership == call.membership.id:
        return True
    if row.collaboration != call.collaboration.id:
        return False
    if row.kind in PROTECTED and not party(call, row):
        return False
    open_ = call.collaboration.status == "ACTIVE" and call.member.status == "ACTIVE"
    return open_ and row.account in fetch.active_accounts(call)


def _explanation(call: Call, row: Resource) -> Output:
    details = row.body["statusDetails"]
    code = details["statusCode"]
    meaning = failure.explained(code)
    decider = _decider(call, row, meaning.decider)
    own = row.membership == call.membership.id
    if not own and row.kind not in SHARED and decider != call.account:
        return {"summary": f"The job failed. {_SILENT}"}
    explanation = {
        "statusCode": code,
        "stage": str(row.body["failedAt"]).upper() if "failedAt" in row.body else None,
        "whatHappened": meaning.what,
        "message": details["message"] if own or row.kind in SHARED else None,
        "decider": meaning.decider,
        "deciderAccountId": decider,
        "setting": meaning.setting,
        "nextStep": meaning.change,
        "charged": "partlyDelivered" in row.body if own else None,
    }
    return {"summary": f"{meaning.what} {meaning.change}", "explanation": _without(explanation)}


def _decider(call: Call, row: Resource, party: str) -> str | None:
    """The account of a party, where the job names it."""
    if party == failure.SUBMITTER:
        return row.account
    if party == failure.ALGORITHM_OWNER:
        body = row.body
        if row.kind == "trained_model_export_job":
            body = resources.require(call.tx, "trained_model", body["trainedModelId"]).body
        arn = body.get("configuredModelAlgorithmAssociationArn")
        found = resources.first(call.tx, "configured_model_algorithm_association", arn=arn) if arn else None
        return found.account if found is not None else None
    if party == failure.RECEIVER and "outputConfiguration" in row.body:
        members: list[dict[str, str]] = row.body["outputConfiguration"].get("members", [])
        return members[0]["accountId"] if members else None
    return None


def _without(output: Output) -> Output:
    """The output without what is not there."""
    return {name: value for name, value in output.items() if value is not None}
