"""A room in state with one algorithm, channels and members, whose containers are programs that a test writes.

Jobs are planned and run as the spine does it, in a workspace of their own, by the real sandbox.
"""

import json
import textwrap
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from passbox import names
from passbox.backends.catalogs.local import Local as Catalog
from passbox.backends.engines.base import Engine
from passbox.backends.images.store import ImageStore
from passbox.backends.objects.local import Local as Objects
from passbox.backends.runtimes.base import Isolation, Runtime
from passbox.jobs import trained_model, trained_model_export_job, trained_model_inference_job
from passbox.jobs.kind import Machine, Result, Tools, Workspace
from passbox.state import resources
from passbox.state.database import Database
from passbox.state.resources import Resource

URI = "registry.example/models/test:1"
OWNER, RUNNER, RECEIVER = "111111111111", "222222222222", "333333333333"
ROOM, MEMBERSHIP = "room", "membership"
S3 = "s3://results/some/prefix/"
ASSOCIATION = "arn:association"
CSV = 'id,name\n1,"a"\n2,"b"\n3,"c"\n'
TRAIN = 'import os\nopen(os.environ["SM_MODEL_DIR"] + "/weights", "w").write("42")\n'

# a server that answers every record with its first field, and tells what it was asked in /tmp
SERVE = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer(200 if self.path == "/ping" else 404)
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.invoked(body)
    def invoked(self, body):
        self.answer(200, b"".join(line.split(b",")[0] + b"\\n" for line in body.splitlines()))
    def log_message(self, *_):
        pass
{changes}
http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Handler).serve_forever()
"""


def server(invoked: str = "", more: str = "") -> str:
    """The program of a server; `invoked`: the body of the method that answers a batch, `body`."""
    changes = textwrap.dedent(more)
    if invoked:
        changes += "def invoked(self, body):\n" + textwrap.indent(textwrap.dedent(invoked).strip(), "    ")
        changes += "\nHandler.invoked = invoked\n"
    return SERVE.format(changes=changes)


class Room:
    """One collaboration. policies: the association's, changed by a test before it runs a job."""

    def __init__(self, home: Path, runtime: Runtime) -> None:
        self.home = home
        (home / "accounts").mkdir()
        self.database = Database(home / "db.sqlite")
        self.images = ImageStore(home / "images")
        self.objects = Objects(home / "accounts")
        self.tools = Tools(
            vault=home / "vault",
            scratch=home / "scratch",
            catalog=Catalog(home / "accounts"),
            objects=self.objects,
            engine=cast(Engine, None),
            runtime=runtime,
            images=self.images,
            isolation=Isolation.SEALED,
            machine=Machine(512 << 20, 2.0),
        )
        self.policies: dict[str, Any] = {}
        self.progress: list[str] = []
        self.published: dict[str, list[bytes]] = {}  # stream → what it held, each time it was published
        self._number = 0
        self._configured = False
        for account in (OWNER, RUNNER, RECEIVER):
            abilities = ["CAN_RECEIVE_INFERENCE_OUTPUT", "CAN_RECEIVE_MODEL_OUTPUT"]
            self.add(
                "member",
                f"{ROOM}/{account}",
                account=account,
                status="ACTIVE",
                membershipArn=f"arn:membership/{account}",
                mlAbilities={"customMLMemberAbilities": abilities if account == RECEIVER else []},
            )
        location = {"roleArn": "role", "destination": {"s3Destination": {"s3Uri": S3}}}
        self.add("ml_configuration", "configuration", account=RECEIVER, defaultOutputLocation=location)

    def close(self) -> None:
        self.database.close()

    def _publish(self, _group: str, stream: str, file: Path) -> None:
        self.published.setdefault(stream, []).append(file.read_bytes())

    def add(self, kind: str, id: str, **values: Any) -> Resource:
        """Stores a resource; keywords that are no columns go into its body."""
        columns = {name: values.pop(name) for name in list(values) if name in Resource._fields}
        now = names.now()
        defaults = {"arn": f"arn:{id}", "account": RUNNER, "collaboration": ROOM, "membership": MEMBERSHIP}
        row = Resource(
            kind=kind, id=id, created=now, updated=now, **cast(Any, {**defaults, **columns, "body": values})
        )
        with self.database.write() as tx:
            return resources.add(tx, row)

    def change(self, kind: str, id: str, **changes: Any) -> None:
        """Changes a stored resource's status, name or body."""
        with self.database.write() as tx:
            resources.change(tx, resources.require(tx, kind, id), **changes)

    def program(self, **roles: str) -> None:
        """Makes a folder of programs, `train` or `serve` and what is beside them, the algorithm's image."""
        self._number += 1
        folder = self.home / f"image{self._number}"
        folder.mkdir()
        for role, code in roles.items():
            (folder / role).write_text("#!/usr/bin/env python3\n" + textwrap.dedent(code))
            (folder / role).chmod(0o755)
        self.images.add(URI, folder)

    def algorithm(self, **training: Any) -> None:
        """The algorithm and its association, with the policies as they are now."""
        if self._configured:
            return
        self._configured = True
        self.add(
            "configured_model_algorithm",
            "algorithm",
            account=OWNER,
            trainingContainerConfig={"imageUri": URI, **training},
            inferenceContainerConfig={"imageUri": URI},
        )
        self.add(
            "configured_model_algorithm_association",
            "association",
            arn=ASSOCIATION,
            account=OWNER,
            parent="algorithm",
            name="association",
            privacyConfiguration={"policies": self.policies},
        )

    def channel(
        self, id: str = "channel", files: Mapping[str, str] | None = None, format: str = "CSV"
    ) -> str:
        """A channel with these files; returns its ARN."""
        files = {"part-00000.csv": CSV} if files is None else files
        row = self.add(
            "ml_input_channel",
            id,
            name=id,
            status="ACTIVE",
            numberOfRecords=3,
            inputChannel={"dataSource": {"protectedQueryInputParameters": {"resultFormat": format}}},
        )
        folder = self.tools.kept(row)
        folder.mkdir(parents=True, mode=0o700)
        for name, text in files.items():
            (folder / name).write_text(text)
        return row.arn

    def training(self, channels: Mapping[str, str] | None = None, **body: Any) -> Resource:
        """A training job that was submitted; channels: name → ARN."""
        self.algorithm()
        if channels is None:
            channels = {"train": self.channel()}
        self._number += 1
        data = [{"channelName": name, "mlInputChannelArn": arn} for name, arn in channels.items()]
        return self.add(
            "trained_model",
            f"model{self._number}",
            **{
                "name": "late arrivals",
                "configuredModelAlgorithmAssociationArn": ASSOCIATION,
                "dataChannels": data,
                "resourceConfig": {"instanceType": "ml.m5.large", "volumeSizeInGB": 1},
                "status": "CREATE_IN_PROGRESS",
                **body,
            },
        )

    def trained(self, code: str = TRAIN, serve: str | None = None, **body: Any) -> Resource:
        """A version that was trained and kept, as the spine does it."""
        self.program(train=code, serve=server() if serve is None else serve)
        row = self.training(**body)
        self.keep(row, self.run(row))
        return row

    def keep(self, row: Resource, result: Result) -> None:
        """Ends a training that succeeded, as the spine does it."""
        assert result.failure is None, result.failure
        assert result.kept is not None
        self.tools.kept(row).parent.mkdir(parents=True, exist_ok=True)
        result.kept.rename(self.tools.kept(row))
        self.change("trained_model", row.id, status="ACTIVE")

    def inference(self, model: Resource, channel: str = "arn:channel", **body: Any) -> Resource:
        """An inference job that was submitted."""
        self._number += 1
        return self.add(
            "trained_model_inference_job",
            f"inference{self._number}",
            **{
                "name": "score/it",
                "configuredModelAlgorithmAssociationArn": ASSOCIATION,
                "trainedModelId": model.id,
                "dataSource": {"mlInputChannelArn": channel},
                "resourceConfig": {"instanceType": "ml.m5.large"},
                "outputConfiguration": {"members": [{"accountId": RECEIVER}]},
                "containerExecutionParameters": {"maxPayloadInMB": 6},
                "status": "CREATE_IN_PROGRESS",
                **body,
            },
        )

    def export(self, model: Resource, **body: Any) -> Resource:
        """An export job that was submitted."""
        self._number += 1
        return self.add(
            "trained_model_export_job",
            f"export{self._number}",
            **{
                "name": "take it",
                "trainedModelId": model.id,
                "outputConfiguration": {"members": [{"accountId": RECEIVER}]},
                **body,
            },
        )

    def run(self, row: Resource, **changes: Any) -> Result:
        """Plans and runs a job; `changes` are made to its plan in between."""
        kind: Any = {
            "trained_model": trained_model,
            "trained_model_inference_job": trained_model_inference_job,
            "trained_model_export_job": trained_model_export_job,
        }[row.kind]
        with self.database.read() as tx:
            plan = kind.plan(tx, row, self.tools)
        self._number += 1
        workspace = Workspace(
            self.tools.scratch / f"{row.id}.{self._number}", self.progress.append, self._publish
        )
        workspace.path.mkdir(parents=True)
        result: Result = kind.run(replace(plan, **changes) if changes else plan, workspace, self.tools)
        return result


def log(result: Result) -> str:
    """What the container wrote."""
    assert result.output is not None
    return result.output.log.read_text()


def said(result: Result) -> Any:
    """The last line of what the container wrote, as JSON."""
    return json.loads(log(result).splitlines()[-1])
