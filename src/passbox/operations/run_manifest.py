"""Run manifests: the signed record of a job, with the openings that are the caller's.

Everybody who may see a job sees the same document. A query's is for its submitter, its payer, its receivers
and the owners of its tables. The openings were laid down when it was made; one is added later: who is sent a
model may open what its training left, to compare it with what came.
"""

from passbox.access.call import Call
from passbox.errors import ResourceNotFoundException
from passbox.manifest import canonical, parse
from passbox.operations.job_explanation import job
from passbox.operations.registry import Output, Params, operation
from passbox.state import resources, statuses
from passbox.state.resources import Resource

KIND = "run_manifest"


@operation("passbox.GetRunManifest")
def get_run_manifest(call: Call, params: Params) -> Output:
    """The manifest of a job that has come to rest."""
    row = job(call, params, _is_party)
    found = resources.first(call.tx, KIND, parent=row.id)
    if found is None:
        under_way = row.status in statuses.OF[row.kind].under_way
        why = f"is {row.status}; it is signed when the job is over" if under_way else "ran before manifests"
        raise ResourceNotFoundException(
            f"There is no run manifest of the job {params['jobIdentifier']}: it {why}.",
            resource_id=params["jobIdentifier"],
            resource_type="RUN_MANIFEST",
        )
    mine = {one["files"] for one in _outputs(found)} if _is_sent(call, row) else set()
    return {
        "document": found.body["document"],
        "signature": found.body["signature"],
        "openings": [
            {
                "seal": opening["seal"],
                "nonce": opening["nonce"],
                "value": canonical(opening["value"]).decode(),
            }
            for opening in found.body["openings"]
            if call.account in opening["accounts"] or opening["seal"] in mine
        ],
    }


def _is_party(call: Call, row: Resource) -> bool:
    found = resources.first(call.tx, KIND, parent=row.id)
    return found is not None and call.account in found.body["parties"]


def _is_sent(call: Call, row: Resource) -> bool:
    """Whether the model has been exported to the caller."""
    exports = resources.find(call.tx, "trained_model_export_job", parent=row.id, statuses=["ACTIVE"])
    return any(
        call.account == member["accountId"]
        for export in exports
        for member in export.body["outputConfiguration"]["members"]
    )


def _outputs(found: Resource) -> list[dict[str, str]]:
    outputs: list[dict[str, str]] = parse(found.body["document"]).get("outputs", [])
    return outputs
