"""The operator's command line. Users of the room use boto3 or the AWS CLI instead; `passbox payer` is a
client like these.

The operator's commands take --home (default PASSBOX_HOME, else ~/.passbox), and all take --json. What is slow
to import is imported by the command that needs it.
"""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import click

from passbox import client, models_path
from passbox.errors import PassboxError
from passbox.image_command import image
from passbox.names import ACCOUNT, MONTH
from passbox.options import operator_options as _options
from passbox.printing import dollars, print_json, show
from passbox.settings import Settings, default_backends, default_region
from passbox.synthesize_command import synthesize


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="passbox")
def cli() -> None:
    """A clean room for machine learning that speaks the wire protocol of AWS Clean Rooms (ML)."""


cli.add_command(synthesize)


@cli.command()
@_options
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8420,
    show_default=True,
    help="The port; 0 takes a free one.",
)
@click.option("--region", default=default_region, help="The region in ARNs and signatures.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Jobs run at a time.")
@click.option("--tls-certificate", type=click.Path(exists=True, dir_okay=False), help="PEM file.")
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False), help="PEM file.")
@click.option("--unsafe-no-sandbox", is_flag=True, help="Run members' code unsealed. For your own code only.")
def serve(
    home: Path,
    as_json: bool,
    host: str,
    port: int,
    region: str,
    workers: int,
    tls_certificate: str | None,
    tls_key: str | None,
    unsafe_no_sandbox: bool,
) -> None:
    """Run the API and the worker until interrupted."""
    from passbox import service

    settings = Settings(home.absolute(), region, unsafe_no_sandbox, **default_backends())

    def ready(endpoint: str) -> None:
        if as_json:
            click.echo(json.dumps({"endpoint": endpoint, "home": str(settings.home), "region": region}))
        else:
            click.echo(f"passbox is ready at {endpoint} (home {settings.home}, region {region})")
            click.echo(f"  export AWS_DEFAULT_REGION={region}")
            click.echo(f"  export AWS_ENDPOINT_URL_CLEANROOMS={endpoint}")
            click.echo(f"  export AWS_ENDPOINT_URL_CLEANROOMSML={endpoint}")
            click.echo(f"  export AWS_ENDPOINT_URL_PASSBOX={endpoint}")
            click.echo(f"  export AWS_DATA_PATH={models_path()}")
        sys.stdout.flush()

    service.run(
        settings, host, port, workers, ready, certificate=tls_certificate, key=tls_key, json_logs=as_json
    )


@cli.command()
@_options
@click.option("--region", default=default_region, help="The region in ARNs.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Jobs run at a time.")
@click.option("--unsafe-no-sandbox", is_flag=True, help="Run members' code unsealed. For your own code only.")
def work(home: Path, as_json: bool, region: str, workers: int, unsafe_no_sandbox: bool) -> None:
    """Run a worker alone, beside an API that runs elsewhere on this machine."""
    from passbox import telemetry
    from passbox import work as worker

    telemetry.configure(as_json=as_json)
    settings = Settings(home.absolute(), region, unsafe_no_sandbox, **default_backends())
    worker.main(settings, workers)


@cli.group()
def account() -> None:
    """The accounts of this room and their access keys."""


@account.command("create")
@click.argument("number", metavar="ACCOUNT")
@_options
@click.option("--name", required=True, help="A name for people.")
@click.option("--access-key-id", help="Use this id instead of a new one.")
@click.option("--secret-access-key", help="Use this secret instead of a new one.")
def account_create(
    number: str,
    home: Path,
    as_json: bool,
    name: str,
    access_key_id: str | None,
    secret_access_key: str | None,
) -> None:
    """Create an account and print its access key, once."""
    from passbox.access import keys
    from passbox.state import accounts
    from passbox.state.database import Database

    if not ACCOUNT.fullmatch(number):
        raise click.BadParameter(
            "an account has twelve digits, for example 111111111111", param_hint="ACCOUNT"
        )
    if not name.isprintable() or not 0 < len(name) <= 255:
        raise click.BadParameter("1 to 255 characters that can be printed", param_hint="--name")
    settings = Settings(home.absolute())
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = keys.load_key_file(settings.key_file)
    with Database(settings.database).write() as tx:
        accounts.create(tx, number, name)
        id, secret = keys.create(tx, key, number, access_key_id, secret_access_key)
    for folder in ("catalog", "buckets"):
        (settings.accounts / number / folder).mkdir(parents=True, exist_ok=True, mode=0o700)
    if as_json:
        print_json({"account": number, "name": name, "accessKeyId": id, "secretAccessKey": secret})
        return
    click.echo(f"Account {number} ({name}). The secret is shown this once:")
    click.echo(f"  export AWS_ACCESS_KEY_ID={id}")
    click.echo(f"  export AWS_SECRET_ACCESS_KEY={secret}")
    click.echo(f"Its tables go to {settings.accounts / number / 'catalog'}/DATABASE/TABLE/.")


@account.command("list")
@_options
def account_list(home: Path, as_json: bool) -> None:
    """List the accounts."""
    from passbox.state import accounts

    with _database(home).read() as tx:
        rows = [asdict(row) for row in accounts.list_(tx)]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        row["created"] = _when(row["created"])
        row["access_keys"] = ", ".join(row["access_keys"])
    show(
        rows, ["id", "name", "created", "access_keys"], empty="No accounts yet; see `passbox account create`."
    )


@cli.group()
def job() -> None:
    """The work of this room: for its operator, and `explain` for its members."""


@job.command("list")
@_options
def job_list(home: Path, as_json: bool) -> None:
    """List all jobs: who submitted them, how far they are, and under which isolation they ran."""
    from passbox.state import jobs, resources

    hidden = ("outcome", "lease", "worker")
    with _database(home).read() as tx:
        rows, due = [], {}
        for found in jobs.all_(tx):
            due[found.id] = found.lease
            shown = {key: value for key, value in vars(found).items() if key not in hidden}
            resource = resources.by_id(tx, found.resource)
            rows.append({**shown, "isolation": resource.body.get("isolation") if resource else None})
    if as_json:
        print_json(rows)
        return
    for row in rows:
        row["elapsed"] = (
            f"{(row['updated'] if row['state'] == 'ended' else time.time()) - row['created']:.1f} s"
        )
        row["created"] = _when(row["created"])
        row["state"] = row["step"] if row["state"] == "running" else row["state"]
        if due[row["id"]] > time.time() and row["state"] == "queued":
            row["state"], row["elapsed"] = "due", _when(due[row["id"]])
    show(
        rows,
        ["created", "kind", "account", "state", "elapsed", "isolation", "progress", "id"],
        empty="Nothing has been submitted yet.",
    )


@job.command("cancel")
@click.argument("id")
@_options
def job_cancel(id: str, home: Path, as_json: bool) -> None:
    """Call off a job that waits or runs; nothing is charged for it."""
    from passbox.errors import Misconfigured
    from passbox.state import jobs

    with _database(home).write() as tx:
        found = jobs.get(tx, id)
        if found is None:
            raise Misconfigured(f"There is no job {id}; see `passbox job list`.")
        if found.state == "ended" or not jobs.request_cancel(tx, found.resource):
            raise Misconfigured(f"The job {id} has ended, or is finished but for its delivery.")
    if as_json:
        print_json({"id": id, "cancelled": True})
        return
    click.echo(f"{id} is called off; the worker ends it within two seconds.")


def _payer(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is not None and not ACCOUNT.fullmatch(value):
        raise click.BadParameter("an account has twelve digits; see `passbox account list`")
    return value


def _month(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is not None and not MONTH.fullmatch(value):
        raise click.BadParameter("a month is written like 2026-11")
    return value


@cli.group()
def ledger() -> None:
    """The book of money and of the uses of tables."""


@ledger.command("show")
@_options
@click.option("--month", metavar="YYYY-MM", callback=_month, help="One month only.")
@click.option("--payer", metavar="ACCOUNT", callback=_payer, help="One payer only.")
def ledger_show(home: Path, as_json: bool, month: str | None, payer: str | None) -> None:
    """Show who paid for what, month by month."""
    from passbox.ledger import book, statements

    with _database(home).read() as tx:
        book.check_totals(tx)
        lines = [
            line
            for line in statements.lines(tx)
            if month in (None, line.month) and payer in (None, line.payer)
        ]
    if as_json:
        print_json({"balances": True, "lines": [{**asdict(line), "posted": line.posted} for line in lines]})
        return
    rows = [
        {
            **asdict(line),
            "quantity": f"{line.quantity / 1000:,.3f} {line.unit}",
            **{name: dollars(getattr(line, name)) for name in ("charged", "posted", "reserved")},
            "refunded": dollars(line.refunded) if line.refunded else "",
        }
        for line in lines
    ]
    columns = [
        "month", "collaboration", "payer", "cost_type", "jobs", "quantity", "charged", "refunded", "posted",
        "reserved",
    ]  # fmt: skip
    show(rows, columns, empty="Nothing has been charged yet.")
    if lines:
        total = dollars(sum(line.posted for line in lines))
        click.echo(
            f"Total posted {total}; debits and credits are equal (`passbox ledger check` replays the book)."
        )


@ledger.command("transfers")
@_options
@click.option("--month", metavar="YYYY-MM", callback=_month, help="One month only.")
@click.option("--payer", metavar="ACCOUNT", callback=_payer, help="One payer only.")
def ledger_transfers(home: Path, as_json: bool, month: str | None, payer: str | None) -> None:
    """Show the book itself: every transfer, in its order."""
    from passbox.ledger.prices import MONEY
    from passbox.state import transfers

    with _database(home).read() as tx:
        rows = [
            entry._asdict()
            for entry in transfers.all_(tx)
            if month in (None, entry.month) and payer in (None, entry.payer)
        ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        row["at"] = _when(row["at"])
        row["amount"] = dollars(row["amount"]) if row["unit"] == MONEY else f"{row['amount']} {row['unit']}"
    show(rows, ["at", "kind", "amount", "debit", "credit", "id"], empty="The book is empty.")


@ledger.command("budgets")
@_options
def ledger_budgets(home: Path, as_json: bool) -> None:
    """Show how often each table with an access budget can still be used."""
    from passbox.ledger import budgets

    with _database(home).read() as tx:
        rows = [
            {
                "collaboration": budget.template.collaboration,
                "owner": budget.template.account,
                "table": budget.template.body["table"],
                **asdict(limit),
            }
            for budget in budgets.all_(tx)
            for limit in budget.limits
        ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        row["end"] = "" if row["end"] is None else _when(row["end"])
    columns = ["collaboration", "owner", "table", "type", "budget", "remaining", "refresh", "end"]
    show(rows, columns, empty="No table has an access budget.")


@ledger.command("check")
@_options
def ledger_check(home: Path, as_json: bool) -> None:
    """Replay every transfer and compare with the balances."""
    from passbox.ledger import book

    with _database(home).read() as tx:
        checked = book.check(tx)
    if as_json:
        print_json({"balances": True, "transfers": checked})
        return
    click.echo(f"{checked:,} transfers give the balances to the micro-dollar and the use.")


@ledger.command("export")
@_options
@click.option(
    "--month", metavar="YYYY-MM", required=True, callback=_month, help="The month whose charges are exported."
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--format", "form", type=click.Choice(["focus"]), default="focus", show_default=True)
@click.option("--payer", metavar="ACCOUNT", callback=_payer, help="One payer only.")
@click.option("--region", default=default_region, help="The region of the room. Default: PASSBOX_REGION.")
def ledger_export(
    home: Path, as_json: bool, month: str, out: Path, form: str, payer: str | None, region: str
) -> None:
    """Write a month's charges as FOCUS 1.2, to a .csv or .parquet file, for whoever does the accounts."""
    from passbox.ledger import focus_file, statements

    with _database(home).read() as tx:
        found = (one for one in statements.all_charges(tx, month) if payer in (None, one.payer))
        rows = focus_file.export(found, out, region=region)
    if as_json:
        print_json({"format": form, "month": month, "rows": rows, "out": str(out)})
        return
    click.echo(f"{rows:,} charges of {month} are in {out}.")


@cli.group()
def room() -> None:
    """What this room shows of itself."""


@room.command("key")
@_options
def room_key(home: Path, as_json: bool) -> None:
    """Print the public key that this room signs run manifests with, for its members to keep."""
    from passbox.access.keys import load_key_file
    from passbox.manifest import Signer

    signer = Signer(load_key_file(Settings(home.absolute()).signing_key_file))
    if as_json:
        print_json({"keyId": signer.id, "publicKey": signer.public})
        return
    click.echo(signer.public, nl=False)
    click.echo(f"Its id is {signer.id}.", err=True)


@cli.command()
@click.argument("file", type=click.File("rb"), metavar="MANIFEST.json")
@click.option(
    "--key", type=click.File(), metavar="ROOM.pub", help="The room's public key, as `room key` prints."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def verify(file: BinaryIO, key: TextIO | None, as_json: bool) -> None:
    """Check a run manifest, offline: nothing of it was changed, and with --key, that room signed it."""
    from passbox import manifest
    from passbox.errors import Misconfigured

    trusted = None
    if key is not None:
        try:
            trusted = key.read()
            manifest.key_id(trusted)
        except ValueError:
            raise Misconfigured(
                f"The key {key.name} is no Ed25519 public key in PEM; the room's operator prints it with "
                "`passbox room key`."
            ) from None
    try:
        whole = manifest.parse(file.read())
    except ValueError:
        whole = None
    parts = {"manifest", "signature", "openings"}
    if not isinstance(whole, dict) or set(whole) != parts or not isinstance(whole["openings"], list):
        raise Misconfigured(
            f"{file.name} is no run manifest: it must be JSON with {', '.join(sorted(parts))} and nothing "
            "else, as `passbox job manifest ARN --out FILE` writes it."
        )
    checked = manifest.check(whole["manifest"], whole["signature"], whole["openings"], trusted)
    if as_json:
        print_json(
            {
                "genuine": True,
                "keyId": checked.key,
                "keyTrusted": trusted is not None,
                "opened": len(checked.opened),
                "sealed": checked.shut,
            }
        )
        return
    ran = checked.document["job"]
    click.echo(f"Nothing was changed: {ran['kind']} {ran['identifier']} is {checked.document['status']}.")
    click.echo(f"{len(checked.opened)} sealed values are proved, {checked.shut} stay sealed.")
    if trusted is None:
        click.echo(f"Signed with {checked.key}; without --key that may be anybody's.")
    else:
        click.echo(f"Signed with the key of the room, {checked.key}.")


@cli.command()
@_options
def doctor(home: Path, as_json: bool) -> None:
    """Say what this machine can do, and what is missing with the command that fixes it."""
    from passbox import doctor as examination

    findings = examination.examine(Settings(home.absolute(), default_region(), False, **default_backends()))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        rows = [asdict(finding) for finding in findings]
        show(rows, ["what", "state", "detail", "fix"], empty="")
    if any(finding.state == "missing" for finding in findings):
        raise SystemExit(1)


@cli.command()
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), help="Default: a temporary one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def demo(home: Path | None, as_json: bool) -> None:
    """Run the main job on real data in a room of its own: four parties, one model, several payers."""
    from passbox.demo import main_job

    main_job.run(home, as_json=as_json)


cli.add_command(image)
cli.add_command(client.payer)
cli.add_command(client.query)
job.add_command(client.explain)
job.add_command(client.run_manifest)
job.add_command(client.report)


def _database(home: Path) -> Any:
    from passbox.errors import Misconfigured
    from passbox.state.database import Database

    settings = Settings(home.absolute())
    if not settings.database.exists():
        raise Misconfigured(
            f"There is no room at {settings.home} yet; create an account first: "
            f"passbox account create 111111111111 --name NAME --home {settings.home}"
        )
    return Database(settings.database)


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at))


def main() -> None:
    """The entry point: errors are a line that says what to do, and exit status 1."""
    try:
        cli()
    except PassboxError as error:
        # who runs this is the operator, whom the detail is for
        click.echo(f"passbox: {error.message}" + (f" ({error.detail})" if error.detail else ""), err=True)
        raise SystemExit(1) from None
    except OSError as error:
        click.echo(f"passbox: {error}; give another --home, or mend what is at this path.", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
