"""A collaboration that runs PySpark jobs: the parties of `lib.queries`, tables that let jobs in, and scripts.

`partner` writes the scripts and receives what they make; `runner` has CAN_RUN_JOB; `owner` and `runner` bring
tables.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from lib.queries import RECEIVES, Desk, Rule
from lib.room import Room

BUCKET = "scripts"
EVERYTHING = """\
def entrypoint(context):
    return {"results": {"all": context["referencedTables"]["people"]}}
"""
PEOPLE = "id,name,ssn\n1,ada,s-1\n2,bo,s-2\n3,cy,s-3\n"


class Studio(Desk):
    """The collaboration. Its table `people` lets in every job that the partner writes, without its `ssn`."""

    RUNS: Sequence[str] = ("CAN_QUERY", "CAN_RUN_JOB", RECEIVES)

    def __init__(self, room: Room, payment: Mapping[str, Any] | None = None) -> None:
        super().__init__(room, payment)
        self.receive("partner")
        self.lend("people", PEOPLE, columns=["id", "name"])

    def receive(self, party: str, **location: Any) -> None:
        """Says where a party's membership receives what jobs make."""
        configuration = {
            "outputConfiguration": {"s3": {"bucket": f"{party}-own", "keyPrefix": "jobs", **location}},
            "roleArn": self.role(party),
        }
        self.client(party).update_membership(**self.own(party), defaultJobResultConfiguration=configuration)

    def role(self, party: str) -> str:
        return f"arn:aws:iam::{self.accounts[party]}:role/passbox"

    def any_job(self, by: str = "partner", **more: Any) -> Rule:
        return {"allowedAnalyses": ["ANY_JOB"], "allowedAnalysisProviders": [self.accounts[by]], **more}

    def lend(self, name: str, text: str, rule: Rule | None = None, **more: Any) -> str:
        """Brings a table under a custom rule, for jobs; the association's id."""
        more.setdefault("method", "DIRECT_JOB")
        return self.bring(name, text, "CUSTOM", rule or self.any_job(), **more)

    def put(self, text: str | bytes, key: str, party: str = "partner") -> str:
        """Puts a file into a party's bucket; its SHA-256."""
        content = text.encode() if isinstance(text, str) else text
        path = self.place(key, party)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return hashlib.sha256(content).hexdigest()

    def place(self, key: str, party: str = "partner") -> Path:
        return self.room.settings.accounts / self.accounts[party] / "buckets" / BUCKET / key

    def template_request(
        self, key: str, *tables: str, party: str = "partner", libraries: str | None = None, **changes: Any
    ) -> dict[str, Any]:
        artifacts = {"entryPoint": located(key), "roleArn": self.role(party)}
        if libraries is not None:
            artifacts["additionalArtifacts"] = [located(libraries)]
        made = {
            **self.own(party),
            "name": f"script {uuid4()}",
            "format": "PYSPARK_1_0",
            "source": {"artifacts": artifacts},
            "schema": {"referencedTables": [*tables]},
            **changes,
        }
        return {name: value for name, value in made.items() if value is not None}

    def script(self, text: str, *tables: str, party: str = "partner", **changes: Any) -> Any:
        """Has a party make a template of a script that reads these tables, `people` by itself."""
        key = f"{uuid4()}/analysis.py"
        self.put(text, key, party)
        request = self.template_request(key, *(tables or ("people",)), party=party, **changes)
        return self.client(party).create_analysis_template(**request)["analysisTemplate"]

    def job_request(self, template: Any, **changes: Any) -> dict[str, Any]:
        parameters = {"parameters": changes.pop("parameters")} if "parameters" in changes else {}
        return {
            **self.own(),
            "type": "PYSPARK",
            "jobParameters": {"analysisTemplateArn": template["arn"], **parameters},
            **changes,
        }

    def run(self, template: Any, **changes: Any) -> Any:
        """Submits a job; the answer."""
        return self.client().start_protected_job(**self.job_request(template, **changes))["protectedJob"]

    def job(self, id: str, party: str = "runner") -> Any:
        found = self.client(party).get_protected_job(**self.own(party), protectedJobIdentifier=id)
        return found["protectedJob"]

    def call_off(self, id: str) -> Any:
        return self.client().update_protected_job(
            **self.own(), protectedJobIdentifier=id, targetStatus="CANCELLED"
        )["protectedJob"]

    def results(self, id: str, party: str = "partner") -> dict[str, Path]:
        """What a party received from a job: RESULT/FILE → file."""
        return {
            name.partition(f"{id}/")[2]: path for name, path in self.received(party).items() if id in name
        }


def located(key: str) -> dict[str, Any]:
    """A modelled artifact."""
    return {"location": {"bucket": BUCKET, "key": key}}
