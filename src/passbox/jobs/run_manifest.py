"""What a job's run manifest says: gathered when the job begins and after it ran, signed when it comes to rest.

| what | who may open it |
|---|---|
| job, submitter, status, isolation, image digest, algorithm association, payers, receivers | it is not sealed |
| the query, or the template's parameters | the submitter |
| the template | the submitter, the tables' owners, who allowed it |
| each table: its rules' versions and hashes, uses before and after | the submitter, the table's owner |
| the channels, models and parameters that went in | the submitter |
| the charge of a payer, and what its caps left before and after | that payer |
| the epsilon that a query cost, and what was left before and after | the submitter, the tables' owners |
| the files that came out | who received them; of a model also who is sent an export of it |

What is not sealed every member reads from AWS's operations already. The seals of what came out of a channel or
a training stand in the sealed inputs of the jobs that use it, so a chain of manifests can be followed by whoever
may open it. Nobody may open the files of a channel: their rows are nobody's to see (docs/decisions/0031).
"""  # noqa: E501  a table

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson

from passbox import manifest, names
from passbox.jobs.kind import Tools
from passbox.ledger import budgets, caps, epsilon
from passbox.ledger.prices import MONEY
from passbox.state import resources, schemas, transfers
from passbox.state.database import Transaction
from passbox.state.jobs import Job
from passbox.state.resources import Resource
from passbox.state.transfers import Transfer

KIND = "run_manifest"
SHARED = ("ml_input_channel", "trained_model", "trained_model_export_job")  # whose details members read
_BY_ID = ("protected_query", "protected_job")  # to which AWS gives no ARN
_DIGESTS = ("trainingContainerImageDigest", "inferenceContainerImageDigest")


def begun(tx: Transaction, resource: Resource, job: str) -> dict[str, Any]:
    """What the job, by its id, goes by, as it is when it begins and its uses and epsilon are spent."""
    tables = [resources.get(tx, "configured_table_association", id) for id in _sources(tx, resource)]
    template = _template(tx, resource)
    return {
        "tables": [_table(tx, table) for table in tables if table is not None],
        "template": None
        if template is None
        # of a script the hashes that others know, not where it lies
        else {
            "analysisTemplateArn": template.arn,
            "sha256": _hash(template.body.get("sourceMetadata") or template.body["source"]),
        },
        "algorithm": _algorithm(tx, resource),
        "privacy": _privacy(tx, resource, job),
    }


def outputs(outcome: Mapping[str, Any], directory: Path) -> list[dict[str, Any]]:
    """The files that stay or leave, by whom they are for: "" for the room itself."""
    found = []
    if outcome["kept"] is not None:
        kept = directory / outcome["kept"]
        paths = {str(path.relative_to(kept)): path for path in sorted(kept.rglob("*")) if path.is_file()}
        found.append({"account": "", "files": _files(paths)})
    for delivery in outcome["deliveries"]:
        paths = {key: directory / path for key, path in sorted(delivery["files"].items())}
        found.append({"account": delivery["account"], "files": _files(paths)})
    return found


def _files(paths: Mapping[str, Path]) -> list[dict[str, Any]]:
    files = []
    for key, path in paths.items():
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        files.append({"key": key, "bytes": path.stat().st_size, "sha256": digest})
    return files


def write(
    tx: Transaction, tools: Tools, job: Job, resource: Resource, left: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Signs and stores the manifest of a job that has come to rest with this resource.

    left: of `outputs`, what stayed or left
    """
    if tools.signer is None or job.kind.startswith("delete_"):
        return
    made = _Manifest()
    document = made.of(tx, job, resource, left)
    now = names.now()
    row = Resource(
        kind=KIND,
        id=names.new_id(),
        arn=f"{resource.arn}/run-manifest",
        account=resource.account,
        collaboration=resource.collaboration,
        membership=resource.membership,
        parent=resource.id,
        created=now,
        updated=now,
        body={
            "document": manifest.canonical(document).decode(),
            "signature": tools.signer.sign(document),
            "openings": made.openings,
            "parties": sorted(made.parties),
        },
    )
    resources.add(tx, row)


class _Manifest:
    """A document in the making, with the openings of what it seals."""

    def __init__(self) -> None:
        self.openings: list[dict[str, Any]] = []
        self.parties: set[str] = set()

    def of(
        self, tx: Transaction, job: Job, resource: Resource, left: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        body, run = resource.body, resource.body.get("run", {})
        details = body.get("statusDetails") if resource.kind in SHARED else None
        self.parties = {resource.account, *body.get("receivers", ())}
        tables = run.get("tables", [])
        owners = [table["ownerAccountId"] for table in tables]
        template = run.get("template")
        document = {
            "version": manifest.VERSION,
            "software": f"passbox {metadata.version('passbox')}",
            "collaborationIdentifier": resource.collaboration,
            "job": {
                "kind": resource.kind.upper(),
                "identifier": resource.id if resource.kind in _BY_ID else resource.arn,
                "name": resource.name,
                "versionIdentifier": body.get("versionIdentifier"),
                "run": job.id,
            },
            "submitterAccountId": resource.account,
            "submittedAt": _milliseconds(resource.created),
            "endedAt": _milliseconds(resource.updated),
            "status": resource.status,
            "statusCode": None if details is None else details["statusCode"],
            "isolation": body.get("isolation"),
            "imageDigest": next((body[name] for name in _DIGESTS if name in body), None),
            "algorithm": run.get("algorithm"),
            "query": self.seal(_sql(resource), [resource.account]),
            "template": self.seal(template, [resource.account, *owners]),
            "tables": [self.seal(table, [resource.account, table["ownerAccountId"]]) for table in tables],
            "privacy": self.seal(run.get("privacy"), [resource.account, *owners]),
            "inputs": self.seal(_inputs(tx, resource), [resource.account]),
            "charges": self.charges(tx, job),
            "outputs": [
                {
                    "receiverAccountId": one["account"] or None,
                    "files": self.seal(one["files"], [one["account"]] if one["account"] else []),
                }
                for one in left
            ],
        }
        self.parties.update(owners)
        return {name: value for name, value in document.items() if value is not None}

    def seal(self, value: Any, accounts: Iterable[str]) -> str | None:
        """The seal of a value, which these accounts may open; None for None."""
        if value is None:
            return None
        seal, opening = manifest.sealed(value)
        self.openings.append({"seal": seal, **opening, "accounts": sorted(set(accounts))})
        return seal

    def charges(self, tx: Transaction, job: Job) -> list[dict[str, Any]]:
        """What each payer paid, a refund as a charge below nothing."""
        found = []
        entries = [one for one in transfers.of_job(tx, job.id) if one.unit == MONEY and one.kind != "reserve"]
        for entry in entries:
            same = [one for one in entries if (one.payer, one.cost_type) == (entry.payer, entry.cost_type)]
            value = {
                "amountMicroDollars": _amount(entry),
                "quantityMilliUnits": entry.quantity,
                "unit": entry.quantity_unit,
                "caps": _caps(tx, entry, sum(map(_amount, same))),
            }
            charge = self.seal(value, [entry.payer])
            found.append({"costType": entry.cost_type, "payerAccountId": entry.payer, "charge": charge})
            self.parties.add(entry.payer)
        return found


def _amount(entry: Transfer) -> int:
    return {"post": entry.amount, "refund": -entry.amount}.get(entry.kind, 0)


def _caps(tx: Transaction, entry: Transfer, spent: int) -> list[dict[str, Any]]:
    """The payer's caps for what it was charged for, as they stand now that the job has `spent` of them."""
    standings = caps.of_cost(
        tx,
        payer=entry.payer,
        collaboration=entry.collaboration,
        cost_type=entry.cost_type,
        month=entry.month,
    )
    return [
        {
            "period": one.cap.period,
            "month": one.month,
            "limitMicroDollars": one.cap.limit,
            "leftBeforeMicroDollars": one.left + spent,
            "leftAfterMicroDollars": one.left,
        }
        for one in standings
    ]


def _privacy(tx: Transaction, resource: Resource, job: str) -> dict[str, Any] | None:
    """The epsilon that a job has just spent; None where it is under no differential privacy."""
    entries = [one for one in transfers.of_job(tx, job) if one.unit == epsilon.UNIT and one.kind == "post"]
    template = epsilon.template(tx, resource.collaboration or "") if entries else None
    if not entries:
        return None
    spent, left = sum(one.amount for one in entries), None
    if template is not None:
        budget = epsilon.of_template(tx, template)
        left = budget.total - budget.used
    return {
        "privacyBudgetTemplateArn": None if template is None else template.arn,
        "spentMicroEpsilon": spent,
        "leftBeforeMicroEpsilon": None if left is None else left + spent,
        "leftAfterMicroEpsilon": left,
    }


def _sources(tx: Transaction, resource: Resource) -> list[str]:
    """The table associations whose uses a job spends, by id."""
    body = resource.body
    if "sources" in body or "dataSource" not in body:
        return list(body.get("sources", []))
    channel = resources.first(tx, "ml_input_channel", arn=body["dataSource"]["mlInputChannelArn"])
    return [] if channel is None else list(channel.body["sources"])


def _table(tx: Transaction, association: Resource) -> dict[str, Any]:
    rules = schemas.rules(tx, association)
    left = budgets.remaining(tx, association.id)
    return {
        "name": association.name,
        "association": association.arn,
        "ownerAccountId": association.account,
        **{
            name: None
            if rule is None
            else {"type": rule.name, "version": rule.version, "sha256": _hash(rule.body["policy"])}
            for name, rule in zip(("analysisRule", "collaborationAnalysisRule"), rules, strict=True)
        },
        "usesBefore": None if left is None else left + 1,
        "usesAfter": left,
    }


def _sql(resource: Resource) -> Any:
    """What was asked: a query's text, or the ARN of its or a job's template, with parameters."""
    channel = resource.body.get("inputChannel")
    if channel is not None:
        return channel["dataSource"]["protectedQueryInputParameters"]["sqlParameters"]
    return resource.body.get("sqlParameters") or resource.body.get("jobParameters")


def _template(tx: Transaction, resource: Resource) -> Resource | None:
    arn = (_sql(resource) or {}).get("analysisTemplateArn")
    return None if arn is None else resources.by_arn(tx, "analysis_template", arn)


def _algorithm(tx: Transaction, resource: Resource) -> dict[str, Any] | None:
    """The association whose policies the job is under, and their hash."""
    body = resource.body
    if resource.kind == "trained_model_export_job":
        body = resources.require(tx, "trained_model", body["trainedModelId"]).body
    several = body.get("configuredModelAlgorithmAssociations", ())
    arn = body.get("configuredModelAlgorithmAssociationArn") or next(iter(several), None)
    found = None if arn is None else resources.first(tx, "configured_model_algorithm_association", arn=arn)
    if found is None:
        return None
    return {
        "configuredModelAlgorithmAssociationArn": found.arn,
        "version": found.version,
        "privacyConfigurationSha256": _hash(found.body.get("privacyConfiguration", {})),
    }


def _inputs(tx: Transaction, resource: Resource) -> dict[str, Any] | None:
    """The channels and models that went in, each with the seals of what came out of it, and parameters."""
    body = resource.body
    channels = list(body.get("dataChannels", []))
    if "dataSource" in body:
        channels.append(body["dataSource"])
    models = [base["trainedFrom"] for base in body.get("incrementalTrainingDataChannels", [])]
    if "trainedModelId" in body:
        models.append(body["trainedModelId"])
    used = [resources.first(tx, "ml_input_channel", arn=one["mlInputChannelArn"]) for one in channels]
    used += [resources.get(tx, "trained_model", id) for id in models]
    if not used:
        return None
    sources = [
        {
            "arn": row.arn,
            "versionIdentifier": row.body.get("versionIdentifier"),
            "outputs": outputs_of(tx, row),
        }
        for row in used
        if row is not None
    ]
    parameters = {name: body[name] for name in ("hyperparameters", "environment") if name in body}
    return {"sources": sources, **parameters}


def outputs_of(tx: Transaction, row: Resource) -> list[str]:
    """The seals of what came out of an earlier job."""
    found = resources.first(tx, KIND, parent=row.id)
    document = {} if found is None else manifest.parse(found.body["document"])
    return [one["files"] for one in document.get("outputs", [])]


def _hash(value: Any) -> str:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
