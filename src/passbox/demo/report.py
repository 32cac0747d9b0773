"""The demo's last word: what each party could see, asked as that party, and what each paid, from the book."""

import json
import shutil
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from passbox.demo.stage import AIRLINE, PARTIES, Stage
from passbox.ledger import book, statements
from passbox.printing import dollars
from passbox.state.database import Database


def make(
    stage: Stage,
    collaboration: str,
    memberships: dict[str, str],
    channel: dict[str, Any],
    model: dict[str, Any],
) -> dict[str, Any]:
    """What each party can see, asked as that party, and what each paid, from the book."""
    database = Database(stage.home / "passbox.sqlite")
    with database.read() as tx:
        book.check(tx)
        lines = statements.lines(tx)
    database.close()
    parties = {}
    for account, name in PARTIES.items():
        tables = stage.cleanrooms(account).list_configured_tables()["configuredTableSummaries"]
        seen = stage.ml(account).get_collaboration_ml_input_channel(
            collaborationIdentifier=collaboration, mlInputChannelArn=channel["mlInputChannelArn"]
        )
        status = stage.ml(account).get_collaboration_trained_model(
            collaborationIdentifier=collaboration, trainedModelArn=model["trainedModelArn"]
        )
        received = sorted(
            path for path in (stage.home / "accounts" / account / "buckets").rglob("*") if path.is_file()
        )
        parties[account] = {
            "name": name,
            "tables": [table["name"] for table in tables],
            "recordsOfChannel": seen["numberOfRecords"],
            "seesSql": _sees_sql(stage, account, memberships[account], channel),
            "logs": status.get("logsStatus") == "PUBLISH_SUCCEEDED",
            "metrics": status.get("metricsStatus") == "PUBLISH_SUCCEEDED",
            "received": [str(path) for path in received],
            "paid": {line.cost_type: line.posted for line in lines if line.payer == account},
        }
    return {
        "collaboration": collaboration,
        "parties": parties,
        "metrics": _metrics(stage.home / "accounts" / AIRLINE / "logs"),
    }


def _sees_sql(stage: Stage, account: str, membership: str, channel: dict[str, Any]) -> bool:
    """Whether a party can read the query behind the channel, by asking for it."""
    client = stage.ml(account)
    try:
        found = client.get_ml_input_channel(
            membershipIdentifier=membership, mlInputChannelArn=channel["mlInputChannelArn"]
        )
    except client.exceptions.ResourceNotFoundException:
        return False
    return "inputChannel" in found


def _metrics(logs: Path) -> dict[str, float]:
    """The model's metrics as the airline was given them."""
    found = {}
    for file in sorted(logs.rglob("*.metrics.jsonl")):
        for row in file.read_text().splitlines():
            metric = json.loads(row)
            found[metric["name"]] = metric["value"]
    return found


def show(report: dict[str, Any]) -> None:
    table = Table(title="Who saw what, and who paid", title_justify="left")
    for column in ("party", "own tables", "could see", "paid"):
        table.add_column(column, overflow="fold")
    for account, party in report["parties"].items():
        sees = [f"channel size ({party['recordsOfChannel']:,} records), not its rows"]
        sees += [
            label
            for key, label in (("seesSql", "the SQL"), ("metrics", "metrics"), ("logs", "logs"))
            if party[key]
        ]
        sees += [Path(path).name for path in party["received"]]
        paid = [f"{cost.split('.')[-1]} {dollars(amount)}" for cost, amount in party["paid"].items()]
        table.add_row(
            f"{party['name']}\n{account}",
            ", ".join(party["tables"]) or "none",
            "; ".join(sees),
            "\n".join(paid) or "nothing",
        )
    width = max(110, shutil.get_terminal_size().columns)
    Console(width=width).print(table)
    metrics = ", ".join(f"{name} {value:.3f}" for name, value in report["metrics"].items())
    print(f"Model (held-out fifth of its training data): {metrics}")
    for account in report["parties"]:
        for path in report["parties"][account]["received"]:
            print(f"{PARTIES[account]} received {path}")
    print(
        f"Done in {report['seconds']:.1f} s. Who paid for what: passbox ledger show --home {report['home']}"
    )
