"""A collaboration whose results leave it, for protected queries.

`owner` created it, brings tables and may not receive; `runner` has CAN_QUERY and may receive; `partner` may
receive; `guest` may receive and has not joined. The work is done by `lib.workshop.work` or a real worker.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from lib.room import Room, collaborate, join, named
from lib.workshop import ledger

RECEIVES = "CAN_RECEIVE_RESULTS"
QUERY = "SELECT id FROM visits"
ENDS = ("SUCCESS", "FAILED", "CANCELLED", "TIMED_OUT")
Rule = Mapping[str, Any]


def s3(bucket: str = "results", prefix: str | None = "room/", format: str = "CSV", **more: Any) -> Any:
    """An output location at the runner's own."""
    location = {"resultFormat": format, "bucket": bucket, **more}
    return {"s3": location if prefix is None else {**location, "keyPrefix": prefix}}


class Desk:
    """The collaboration and its parties. payment: party → its PaymentConfiguration and what it accepts."""

    RUNS: Sequence[str] = ("CAN_QUERY", RECEIVES)

    def __init__(self, room: Room, payment: Mapping[str, Any] | None = None) -> None:
        self.room = room
        payment = payment or {}
        self.accounts = {party: room.account() for party in ("owner", "runner", "partner", "guest")}
        who = self.accounts
        abilities = {"runner": self.RUNS, "partner": (RECEIVES,), "guest": (RECEIVES,)}
        members = [named(who[party], *able, payment=payment.get(party)) for party, able in abilities.items()]
        self.id = collaborate(room, who["owner"], members, payment=payment.get("owner"))
        self.memberships = {
            party: join(room, who[party], self.id, payment.get(party))
            for party in ("owner", "runner", "partner")
        }
        self.bring("visits", "id,secret\n1,x\n2,y\n", "CUSTOM", self.any_query(["secret"]))

    def any_query(self, hidden: Sequence[str] = (), additional: str = "ALLOWED") -> Rule:
        return {
            "allowedAnalyses": ["ANY_QUERY"],
            "allowedAnalysisProviders": [self.accounts["runner"]],
            "additionalAnalyses": additional,
            "disallowedOutputColumns": [*hidden],
        }

    def client(self, party: str = "runner") -> Any:
        return self.room.cleanrooms(self.accounts[party])

    def own(self, party: str = "runner") -> dict[str, str]:
        """The party's membershipIdentifier as a parameter."""
        return {"membershipIdentifier": self.memberships[party]}

    def bring(
        self,
        name: str,
        text: str,
        kind: str,
        rule: Rule,
        *,
        party: str = "owner",
        receivers: Sequence[str] = ("runner", "partner", "owner", "guest"),
        method: str = "DIRECT_QUERY",
        columns: Sequence[str] | None = None,
    ) -> str:
        """Brings a table under a rule, whose results these parties may receive; the association's id.

        columns: those that are allowed, all where not given
        """
        client, owner = self.client(party), self.accounts[party]
        table = client.create_configured_table(
            name=name,
            tableReference=self.room.put_csv(owner, name, text),
            allowedColumns=[*(columns or text.partition("\n")[0].split(","))],
            analysisMethod=method,
        )["configuredTable"]["id"]
        client.create_configured_table_analysis_rule(
            configuredTableIdentifier=table,
            analysisRuleType=kind,
            analysisRulePolicy={"v1": {kind.lower(): rule}},
        )
        brought = client.create_configured_table_association(
            name=name,
            **self.own(party),
            configuredTableIdentifier=table,
            roleArn=f"arn:aws:iam::{owner}:role/passbox",
        )["configuredTableAssociation"]["id"]
        self.allow(brought, kind, receivers, party=party)
        return str(brought)

    def allow(
        self, table: str, kind: str, receivers: Sequence[str], *, verb: str = "create", party: str = "owner"
    ) -> None:
        """Who may receive results of a table."""
        accounts = [self.accounts[receiver] for receiver in receivers]
        policy = {"allowedResultReceivers": accounts}
        getattr(self.client(party), f"{verb}_configured_table_association_analysis_rule")(
            **self.own(party),
            configuredTableAssociationIdentifier=table,
            analysisRuleType=kind,
            analysisRulePolicy={"v1": {kind.lower(): policy}},
        )

    def default(self, party: str, **location: Any) -> None:
        """Gives a party's membership a default location, in its bucket `PARTY-own`."""
        location = {"bucket": f"{party}-own", "resultFormat": "CSV", "keyPrefix": "inbox", **location}
        configuration = {"outputConfiguration": {"s3": location}}
        self.client(party).update_membership(**self.own(party), defaultResultConfiguration=configuration)

    def member(self, party: str) -> Any:
        """An output location that names a party."""
        return {"member": {"accountId": self.accounts[party]}}

    def distribute(self, *locations: Any) -> Any:
        return {"distribute": {"locations": [*locations]}}

    def template(self, text: str, *declared: Rule, party: str = "owner", **more: Any) -> str:
        """Has a party write an analysis template with these parameters; its ARN."""
        made = self.client(party).create_analysis_template(
            **self.own(party),
            name=f"template {uuid4()}",
            format="SQL",
            source={"text": text},
            analysisParameters=[*declared],
            **more,
        )
        return str(made["analysisTemplate"]["arn"])

    def start_template(self, template: str, output: Any = None, **parameters: str) -> Any:
        """Submits a query by a template's ARN; the answer."""
        sql = {"analysisTemplateArn": template, "parameters": parameters}
        request = {**self.request(output=output), "sqlParameters": sql}
        return self.client().start_protected_query(**request)["protectedQuery"]

    def request(self, query: str = QUERY, output: Any = None, **changes: Any) -> dict[str, Any]:
        sql = {"queryString": query, **changes.pop("sql", {})}
        changes.setdefault("resultConfiguration", {"outputConfiguration": output or s3()})
        return {**self.own(), "type": "SQL", "sqlParameters": sql, **changes}

    def start(self, query: str = QUERY, output: Any = None, **changes: Any) -> Any:
        """Submits a query; the answer."""
        return self.client().start_protected_query(**self.request(query, output, **changes))["protectedQuery"]

    def get(self, query: str, party: str = "runner") -> Any:
        return self.client(party).get_protected_query(**self.own(party), protectedQueryIdentifier=query)[
            "protectedQuery"
        ]

    def cancel(self, query: str) -> Any:
        return self.client().update_protected_query(
            **self.own(), protectedQueryIdentifier=query, targetStatus="CANCELLED"
        )["protectedQuery"]

    def received(self, party: str) -> dict[str, Path]:
        """What a party has in its buckets: BUCKET/KEY → file."""
        folder = self.room.settings.accounts / self.accounts[party] / "buckets"
        return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}

    def entries(self) -> list[tuple[str, str, int]]:
        """(kind, payer's party, quantity) of the book's entries of this collaboration, oldest first."""
        parties = {account: party for party, account in self.accounts.items()}
        return [
            (entry["kind"], parties[entry["payer"]], entry["quantity"])
            for entry in ledger(self.room.settings.home)["transfers"]
            if entry["collaboration"] == self.id
        ]
