"""`passbox payer`, `passbox query`, `passbox job explain`: what members of a room may see and set.

A client of the wire like any other: botocore, the service model of `passbox`, and credentials from where AWS
clients find theirs. Knows nothing of the house behind it.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import wraps
from typing import Any, TextIO

import click

from passbox import add_models
from passbox.errors import Misconfigured
from passbox.printing import dollars, print_json, show, units
from passbox.settings import default_region

# What to do about a refusal whose own words cannot say it.
_NEXT = {
    "UnrecognizedClientException": "Check AWS_ACCESS_KEY_ID, or AWS_PROFILE.",
    "InvalidSignatureException": "Check AWS_SECRET_ACCESS_KEY, --region and this machine's clock.",
    "UnknownOperationException": "Is the room at --endpoint of the version of this command?",
}


def _client(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command --endpoint, --region and --json, and a client of the room as its first argument."""

    @wraps(command)
    def run(*, endpoint: str | None, region: str | None, **options: Any) -> None:
        with _told(), _connected(endpoint, region) as client:
            command(client, **options)

    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs."),
        click.option("--region", help="The room's region. Default: what AWS clients find, else us-east-1."),
        click.option(
            "--endpoint",
            metavar="URL",
            help="Where the room is. Default: AWS_ENDPOINT_URL_PASSBOX, else http://127.0.0.1:8420.",
        ),
    ):
        run = option(run)
    return run


@contextmanager
def _connected(endpoint: str | None, region: str | None) -> Iterator[Any]:
    from botocore.config import Config
    from botocore.session import get_session

    session = add_models(get_session())
    region = region or session.get_config_variable("region") or default_region()
    # the room refuses by itself, in its own words
    config = Config(parameter_validation=False, retries={"total_max_attempts": 2}, connect_timeout=10)
    try:
        client = session.create_client("passbox", region_name=region, endpoint_url=endpoint, config=config)
    except (ValueError, RecursionError) as error:
        raise Misconfigured(f"{error}. An endpoint looks like http://127.0.0.1:8420.") from None
    try:
        yield client
    finally:
        client.close()


@contextmanager
def _told() -> Iterator[None]:
    """Every failure as one line with the next step."""
    from botocore import exceptions

    try:
        yield
    except exceptions.ClientError as error:
        code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
        raise Misconfigured(" ".join(f"{code}: {message} {_NEXT.get(code, '')}".split())) from None
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError):
        raise Misconfigured(
            "There are no credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to the pair that "
            "`passbox account create` printed, or name a profile in AWS_PROFILE."
        ) from None
    except exceptions.SSLError as error:
        raise Misconfigured(
            " ".join(f"{error} Name its authority's file in AWS_CA_BUNDLE, or use http://.".split())
        ) from None
    except exceptions.ConnectionError as error:
        where = error.kwargs.get("endpoint_url", "the endpoint")
        raise Misconfigured(
            f"Nothing answers at {where}. Start the room with `passbox serve`, or say where it is with "
            "--endpoint or AWS_ENDPOINT_URL_PASSBOX."
        ) from None
    except exceptions.BotoCoreError as error:
        raise Misconfigured(" ".join(f"{error} See `passbox payer --help`.".split())) from None


def _plain(response: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in response.items() if key != "ResponseMetadata"}


def _given(_context: click.Context, _option: click.Parameter, value: str) -> str:
    if not value:
        raise click.BadParameter("it is empty")
    return value


def _upper(_context: click.Context, _option: click.Parameter, value: str) -> str:
    """`model-training`, or `machineLearning.modelTraining`, as the model has it: MODEL_TRAINING."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", _given(_context, _option, value).rpartition(".")[2])
    return words.upper().replace("-", "_")


def _micro(_context: click.Context, _option: click.Parameter, value: str) -> int:
    if re.fullmatch(r"[0-9]{1,10}([.][0-9]{0,6})?", value, re.ASCII) and Decimal(value) <= 10**9:
        return int(Decimal(value) * 1_000_000)
    raise click.BadParameter(
        "dollars, for example 25.00: no sign, at most six decimals and a thousand million"
    )


_month = click.option("--month", required=True, callback=_given, metavar="YYYY-MM", help="The month (UTC).")
_membership = click.option(
    "--membership", required=True, callback=_given, metavar="ID", help="Your membership's identifier."
)
_cost_type = click.option(
    "--cost-type",
    required=True,
    callback=_upper,
    metavar="TYPE",
    help="query-compute, job-compute, model-training, model-inference or synthetic-data-generation.",
)
_period = click.option("--period", required=True, callback=_upper, help="month or lifetime.")


@click.group()
def payer() -> None:
    """What you pay in a room: statements, charges, caps, estimates. Talks to the room as AWS clients do."""


@payer.command("statement")
@_month
@_client
def statement(client: Any, month: str, as_json: bool) -> None:
    """Show what you owe for a month, by collaboration and cost type."""
    found = _plain(client.get_statement(month=month))
    if as_json:
        print_json(found)
        return
    amounts = ("charged", "refunded", "total", "reserved")
    rows = [
        {
            "collaboration": line["collaborationIdentifier"],
            "cost_type": line["costType"],
            "jobs": line["jobs"],
            "quantity": units(line["quantityMilliUnits"], line["unit"]),
            **{name: dollars(line[f"{name}MicroDollars"]) for name in amounts},
        }
        for line in found["lines"]
    ]
    columns = ["collaboration", "cost_type", "jobs", "quantity", *amounts]
    show(rows, columns, empty=f"Account {found['payerAccountId']} pays nothing in {month}.")
    if rows:
        total, reserved = dollars(found["totalMicroDollars"]), dollars(found["reservedMicroDollars"])
        state = "final" if found["isFinal"] else "not final yet"
        click.echo(f"Account {found['payerAccountId']}, {month}: {total}, {reserved} reserved; {state}.")


@payer.command("charges")
@_month
@click.option("--collaboration", metavar="ID", help="Only those of this collaboration.")
@_client
def charges(client: Any, month: str, collaboration: str | None, as_json: bool) -> None:
    """Show the charges and refunds of a month, one by one."""
    asked = {"month": month}
    if collaboration is not None:
        asked["collaborationIdentifier"] = collaboration
    pages = client.get_paginator("list_charges").paginate(**asked)
    found = [charge for page in pages for charge in page["charges"]]
    if as_json:
        print_json({"charges": found})
        return
    rows = [
        {
            "at": charge["chargeTime"].strftime("%Y-%m-%d %H:%M:%SZ"),
            "kind": charge["kind"],
            "cost_type": charge["costType"],
            "quantity": units(charge["quantityMilliUnits"], charge["unit"]),
            "amount": dollars(charge["amountMicroDollars"]),
            "submitter": charge["submitterAccountId"],
            "resource": charge["resourceArn"],
        }
        for charge in found
    ]
    columns = ["at", "kind", "cost_type", "quantity", "amount", "submitter", "resource"]
    show(rows, columns, empty=f"You pay no charges in {month}.")


@payer.command("rates")
@_client
def rates(client: Any, as_json: bool) -> None:
    """Show what runs cost, now and later."""
    found = _plain(client.list_rates())
    if as_json:
        print_json(found)
        return
    rows = [
        {
            "cost_type": rate["costType"],
            "price": _said(rate),
            "from": rate.get("effectiveDate", ""),
        }
        for rate in found["rates"]
    ]
    show(rows, ["cost_type", "price", "from"], empty="This room has no prices.")


def _said(rate: dict[str, Any]) -> str:
    """`$10 / 1,000,000 records`, and the second tier where there is one."""
    said = f"{dollars(rate['priceMicroDollars'])} / {rate['pricedUnit']}"
    if "tierFrom" not in rate:
        return said
    tier = dollars(rate["tierPriceMicroDollars"])
    return f"{said}; above {rate['tierFrom']:,} {rate['unit']} a month {tier}"


@payer.command("estimate")
@click.argument("operation")
@_membership
@click.option(
    "--request",
    required=True,
    type=click.File(),
    metavar="FILE.json",
    help="The request; - is standard input.",
)
@_client
def estimate(client: Any, operation: str, membership: str, request: TextIO, as_json: bool) -> None:
    """Say what a request would reserve; submit nothing.

    OPERATION is what would be called: CreateMLInputChannel, CreateTrainedModel,
    StartTrainedModelInferenceJob, StartProtectedQuery or StartProtectedJob.
    """
    try:
        parameters = json.load(request)
    except (ValueError, RecursionError) as error:
        raise Misconfigured(
            f"{request.name} is not JSON: {error}. It holds the request, an object."
        ) from None
    found = _plain(
        client.estimate_cost(membershipIdentifier=membership, operation=operation, parameters=parameters)
    )
    if as_json:
        print_json(found)
        return
    rows = [
        {
            "cost_type": cost["costType"],
            "payer": cost["payerAccountId"],
            "quantity": units(cost["quantityMilliUnits"], cost["unit"]),
            "amount": dollars(cost["amountMicroDollars"]),
            "basis": cost["basis"],
        }
        for cost in found["costs"]
    ]
    show(rows, ["cost_type", "payer", "quantity", "amount", "basis"], empty="It costs nothing.")
    click.echo(f"Estimated {dollars(found['totalMicroDollars'])}; nothing was submitted.")


@payer.group("cap")
def cap() -> None:
    """The most that you are willing to pay in a collaboration."""


@cap.command("list")
@_membership
@_client
def cap_list(client: Any, membership: str, as_json: bool) -> None:
    """List your caps in a collaboration, and what is left under each."""
    found = _plain(client.list_spend_caps(membershipIdentifier=membership))
    if as_json:
        print_json(found)
        return
    _show_caps(found["spendCaps"])


def _show_caps(caps: list[dict[str, Any]]) -> None:
    amounts = ("limit", "posted", "reserved", "remaining")
    rows = [
        {
            "cost_type": found["costType"],
            "period": found.get("month", found["period"]),
            **{name: dollars(found[f"{name}MicroDollars"]) for name in amounts},
        }
        for found in caps
    ]
    show(rows, ["cost_type", "period", *amounts], empty="No caps; see `passbox payer cap put`.")


@cap.command("put")
@_membership
@_cost_type
@_period
@click.option("--limit", required=True, callback=_micro, metavar="DOLLARS", help="For example 25.00.")
@_client
def cap_put(client: Any, membership: str, cost_type: str, period: str, limit: int, as_json: bool) -> None:
    """Set or replace a cap."""
    found = _plain(
        client.put_spend_cap(
            membershipIdentifier=membership, costType=cost_type, period=period, limitMicroDollars=limit
        )
    )
    if as_json:
        print_json(found)
        return
    _show_caps([found["spendCap"]])


@cap.command("delete")
@_membership
@_cost_type
@_period
@_client
def cap_delete(client: Any, membership: str, cost_type: str, period: str, as_json: bool) -> None:
    """Lift a cap."""
    client.delete_spend_cap(membershipIdentifier=membership, costType=cost_type, period=period)
    if as_json:
        print_json({"costType": cost_type, "period": period, "deleted": True})
        return
    click.echo(f"The cap {cost_type}/{period} is lifted.")


def _owner(membership: str | None, identifier: str) -> str:
    """The membership that asks: the one given, else the one in the job's ARN, which submitted it."""
    within = re.search("membership/([0-9a-f-]{36})/", identifier)
    if membership is None and within is None:
        raise click.UsageError("--membership is missing: only an ARN says which membership submitted it.")
    return membership or str(within and within[1])


def _job(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command ARN, --membership, --version and --export, put together as `asked`."""

    @wraps(command)
    def run(
        client: Any,
        identifier: str,
        membership: str | None,
        version: str | None,
        export: str | None,
        **more: Any,
    ) -> None:
        named = {"versionIdentifier": version, "exportName": export}
        asked = {"membershipIdentifier": _owner(membership, identifier), "jobIdentifier": identifier}
        try:
            command(client, {**asked, **{name: value for name, value in named.items() if value}}, **more)
        except client.exceptions.ResourceNotFoundException as error:
            if membership is None:  # that of the submitter is nothing that another member sees
                error.response["Error"]["Message"] += (
                    " If another member submitted the job, name your own membership with --membership."
                )
            raise

    for option in (
        click.option("--export", metavar="NAME", help="An export of the trained model ARN, by its name."),
        click.option("--version", metavar="ID", help="The version of a trained model. Default: the latest."),
        click.option(
            "--membership", metavar="ID", help="Your membership. Default: the one that submitted the job."
        ),
        click.argument("identifier", metavar="ARN"),
    ):
        run = option(run)
    return run


@click.command("manifest")
@click.option("--out", type=click.Path(dir_okay=False), metavar="FILE", help="Write it there.")
@_client
@_job
def run_manifest(client: Any, asked: dict[str, str], out: str | None, as_json: bool) -> None:
    """Fetch the signed manifest of a job that is over, for `passbox verify`.

    ARN is that of an ML input channel, a trained model or an inference job, or the identifier of a protected
    query. Values that are not yours to see are sealed in it; those that are come with what opens them.
    """
    found = client.get_run_manifest(**asked)
    openings = [{**one, "value": json.loads(one["value"])} for one in found["openings"]]
    whole = {
        "manifest": json.loads(found["document"]),
        "signature": found["signature"],
        "openings": openings,
    }
    if out is None or as_json:
        print_json(whole)
    if out is not None:
        with open(out, "w", encoding="utf-8") as file:  # noqa: PTH123
            json.dump(whole, file, indent=2)
        if not as_json:
            click.echo(f"{out} holds the manifest; check it with: passbox verify {out} --key room.pub")


@click.command("report")
@click.option("--collaboration", metavar="ID", required=True, help="The collaboration of the channel.")
@click.option("--out", type=click.Path(dir_okay=False), metavar="FILE", help="A page, .html; else JSON.")
@click.argument("identifier", metavar="ARN")
@_client
def report(client: Any, identifier: str, collaboration: str, out: str | None, as_json: bool) -> None:
    """Fetch the report on ARN, an ML input channel of synthetic data.

    An account that owns every table of its query is shown all of it; every member, what was paid for under
    epsilon.
    """
    found = client.get_synthetic_data_report(
        collaborationIdentifier=collaboration, mlInputChannelArn=identifier
    )
    if out is None or as_json:
        print_json({"audience": found["audience"], "report": found["report"]})
    if out is None:
        return
    from passbox.synthesis import page

    with open(out, "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(page.render(found["report"]) if out.endswith(".html") else json.dumps(found["report"]))
    if not as_json:
        click.echo(f"{out} holds the report for the {found['audience'].lower()}.")


@click.command("explain")
@_client
@_job
def explain(client: Any, asked: dict[str, str], as_json: bool) -> None:
    """Say why a job failed, whose setting decides it, and what to change.

    ARN is that of an ML input channel, a trained model or an inference job, or the identifier of a protected
    query.
    """
    found = _plain(client.explain_job(**asked))
    if as_json:
        print_json(found)
        return
    why = found.get("explanation")
    if why is None:
        click.echo(found["summary"])
        return
    by = why["decider"].lower().replace("_", " ")
    told = {
        "status": f"{found['status']}, {why['statusCode']}",
        "stage": why.get("stage", "").lower(),
        "what happened": why["whatHappened"],
        "message": why.get("message", ""),
        "who decides": f"{by} {why['deciderAccountId']}" if "deciderAccountId" in why else by,
        "by": why["setting"],
        "what to do": why["nextStep"],
        "charged": "yes, since some results were delivered" if why.get("charged") else "",
    }
    for name, text in told.items():
        if text:
            click.echo(f"{name + ':':<15}{text}")


@click.group()
def query() -> None:
    """What a query may do, before it is run. Talks to the room as AWS clients do."""


def _parameters(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    if any(not sign for _, sign, _ in pairs):
        raise click.BadParameter("NAME=VALUE, for example least=3")
    return {name: value for name, _, value in pairs}


@query.command("preview")
@click.argument("file", type=click.File(), metavar="FILE.sql", required=False)
@_membership
@click.option("--template", metavar="ARN", help="The analysis template that is asked instead of a FILE.")
@click.option("--receiver", multiple=True, metavar="ACCOUNT", help="Who would receive a direct result.")
@click.option("--model", metavar="ARN", help="The algorithm association, of a result that feeds a model.")
@click.option(
    "--parameter", multiple=True, callback=_parameters, metavar="NAME=VALUE", help="A value for :NAME."
)
@_client
def preview(
    client: Any,
    file: TextIO | None,
    membership: str,
    template: str | None,
    receiver: tuple[str, ...],
    model: str | None,
    parameter: dict[str, str],
    as_json: bool,
) -> None:
    """Say whether the query in FILE.sql, or a template, may run and what it would do; run nothing."""
    if (file is None) == (template is None):
        raise click.UsageError("Give either FILE.sql or --template ARN.")
    sql: dict[str, Any] = {"analysisTemplateArn": template}
    if file is not None:
        try:
            sql = {"queryString": file.read()}
        except UnicodeDecodeError as error:
            raise Misconfigured(f"{file.name} is not UTF-8 text: {error}.") from None
    asked: dict[str, Any] = {"receiverAccountIds": [*receiver]} if receiver else {}
    if parameter:
        sql["parameters"] = parameter
    if model is not None:
        asked["configuredModelAlgorithmAssociationArn"] = model
    found = _plain(client.preview_query(membershipIdentifier=membership, sqlParameters=sql, **asked))
    if as_json:
        print_json(found)
    elif found["allowed"]:
        _show_plan(found["plan"])
    else:
        _show_refusal(found["refusal"], sql.get("queryString"))
    if not found["allowed"]:
        raise SystemExit(1)


def _show_refusal(refusal: dict[str, Any], text: str | None) -> None:
    click.echo(f"Refused by {refusal['rule']}: {refusal['message']}")
    if "line" in refusal and text is None:
        click.echo(f"  line {refusal['line']}, column {refusal['column']} of the template")
    elif "line" in refusal and text is not None:
        line, column = refusal["line"], refusal["column"]
        written = text.splitlines()[line - 1] if line <= len(text.splitlines()) else ""
        click.echo(f"  line {line}: {written}\n{' ' * (len(f'  line {line}: ') + column - 1)}^")


def _show_plan(plan: dict[str, Any]) -> None:
    tables = [
        {
            "table": table["name"],
            "owner": table["ownerAccountId"],
            "reads": ", ".join(table["columns"]),
            "uses_left": table.get("remainingUses", "unlimited"),
        }
        for table in plan["tables"]
    ]
    show(tables, ["table", "owner", "reads", "uses_left"], empty="It reads nothing.")
    outputs = [
        {
            "leaves": output["name"],
            "holds": ", ".join(f"{one['tableName']}.{one['columnName']}" for one in output["sources"]),
        }
        for output in plan["outputs"]
    ]
    show(outputs, ["leaves", "holds"], empty="Nothing leaves.")
    costs = [
        {
            "payer": cost["payerAccountId"],
            "amount": dollars(cost["amountMicroDollars"]),
            "basis": cost["basis"],
        }
        for cost in plan["costs"]
    ]
    show(costs, ["payer", "amount", "basis"], empty="Nobody could pay for it.")
    if "privacyCost" in plan:
        cost = plan["privacyCost"]
        spent, left = (cost[name] / 1_000_000 for name in ("epsilonMicro", "remainingEpsilonMicro"))
        click.echo(f"It takes epsilon {spent:g} of the {left:g} that are left of the privacy budget.")
    click.echo("The query may run; nothing was run.")
