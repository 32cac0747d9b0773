"""`passbox payer` and `passbox query` as members run them: in processes of their own, with the usual keys."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lib.room import Room, pays, running
from lib.workshop import RECORDS, Workshop, work
from passbox import client, names, printing

FOREIGN_KEY = (
    X25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
)
COST = f"${RECORDS * 10 / 1_000_000:.6f}"


class Shop(Workshop):
    """The owner pays for training; a channel is there to train on."""

    def __init__(self, room: Room, home: Path) -> None:
        super().__init__(room, {"owner": pays(training=True), "runner": pays(query=True)})
        self.home = home
        self.visits = self.active_channel()

    def run(
        self, *arguments: str, party: str = "owner", status: int = 0, group: str = "payer", **environment: str
    ) -> str:
        """Standard output, or standard error where the command fails."""
        id, secret = self.room.key(self.account(party))
        found = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "HOME": str(self.home),
            "AWS_ACCESS_KEY_ID": id,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_ENDPOINT_URL_PASSBOX": self.room.address,
            **environment,
        }
        command = [sys.executable, "-m", "passbox", group, *arguments]
        environment = {name: value for name, value in found.items() if value}
        ran = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert ran.returncode == status, ran.stderr
        assert "Traceback" not in ran.stderr
        return ran.stderr or ran.stdout if status else ran.stdout

    def json(self, *arguments: str, **more: Any) -> Any:
        return json.loads(self.run(*arguments, "--json", **more))

    def fails(self, *arguments: str, status: int = 1, **more: Any) -> str:
        """The one line of the failure."""
        told = self.run(*arguments, status=status, **more)
        assert status != 1 or (told.count("\n") == 1 and told.startswith("passbox: ")), told
        return told


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    home = tmp_path_factory.mktemp("home")
    with running(home) as room:
        yield Shop(room, tmp_path_factory.mktemp("empty"))


def month() -> str:
    return names.month(names.now())


def cap(shop: Shop, *more: str) -> list[str]:
    return ["--membership", shop.memberships["owner"], "--cost-type", "model-training", *more]


def test_caps(shop: Shop) -> None:
    own = ["--membership", shop.memberships["owner"]]
    assert "No caps" in shop.run("cap", "list", *own)
    told = shop.run("cap", "put", *cap(shop, "--period", "month", "--limit", "25.00"))
    assert "$25.000000" in told
    assert "MODEL_TRAINING" in told
    [listed] = shop.json("cap", "list", *own)["spendCaps"]
    assert (listed["limitMicroDollars"], listed["period"]) == (25_000_000, "MONTH")
    made = shop.json("cap", "put", *cap(shop, "--period", "LIFETIME", "--limit", "0.000001"))["spendCap"]
    assert made["limitMicroDollars"] == 1
    assert shop.json("cap", "delete", *cap(shop, "--period", "lifetime"))["deleted"] is True
    assert "lifted" in shop.run("cap", "delete", *cap(shop, "--period", "month"))
    gone = shop.fails("cap", "delete", *cap(shop, "--period", "month"))
    assert "ResourceNotFoundException: The spend cap MODEL_TRAINING/MONTH was not found." in gone


@pytest.mark.parametrize(
    "limit",
    [
        "-1",
        "abc",
        "0.0000001",
        "inf",
        "nan",
        "1000000001",
        "",
        "1e999999",
        "25.00000000000000000000000000000001",
    ],
)
def test_a_limit_that_is_no_amount(shop: Shop, limit: str) -> None:
    asked = cap(shop, "--period", "month", f"--limit={limit}")
    assert "for example 25.00" in shop.fails("cap", "put", *asked, status=2)


def test_what_the_room_does_not_know_it_says_itself(shop: Shop) -> None:
    told = shop.fails(
        "cap", "put", "--membership", shop.memberships["owner"], "--cost-type", "coffee",
        "--period", "month", "--limit", "1",
    )  # fmt: skip
    assert "enum value set: [QUERY_COMPUTE" in told
    assert "'/month'" in shop.fails("statement", "--month", "november")
    assert "was not found" in shop.fails(
        "cap", "list", "--membership", "00000000-0000-4000-8000-000000000000"
    )


def test_statement_charges_and_rates(shop: Shop) -> None:
    assert "pays nothing in 2020-01" in shop.run("statement", "--month", "2020-01")
    assert "You pay no charges in 2020-01" in shop.run("charges", "--month", "2020-01")
    shop.active_model(shop.visits, "paid")
    told = shop.run("statement", "--month", month())
    assert "250.000 records trained" in told
    assert f"{month()}: {COST}, $0.000000 reserved; not final yet." in told
    found = shop.json("statement", "--month", month())
    assert (found["totalMicroDollars"], found["isFinal"]) == (RECORDS * 10, False)
    assert "ResponseMetadata" not in found
    told = shop.run("charges", "--month", month())
    assert "CHARGE" in told
    assert COST in told
    [charge] = shop.json("charges", "--month", month(), "--collaboration", shop.id)["charges"]
    assert charge["submitterAccountId"] == shop.account("runner")
    assert charge["chargeTime"].startswith(month())
    assert "$0.010000 / 1,000 records" in shop.run("rates")
    assert len(shop.json("rates")["rates"]) == 5


def test_an_estimate(shop: Shop, tmp_path: Path) -> None:
    work(shop.room)
    request = tmp_path / "request.json"
    request.write_text(json.dumps(shop.model_request(shop.visits, "estimated")))
    own = ["--membership", shop.memberships["runner"], "--request", str(request)]
    told = shop.run("estimate", "CreateTrainedModel", *own, party="runner")
    assert f"Estimated {COST}; nothing was submitted." in told
    assert shop.account("owner") in told
    found = shop.json("estimate", "CreateTrainedModel", *own, party="runner")
    assert found["totalMicroDollars"] == RECORDS * 10
    assert "enum value set" in shop.fails("estimate", "Nothing", *own, party="runner")
    request.write_text("{")
    assert "is not JSON" in shop.fails("estimate", "CreateTrainedModel", *own, party="runner")
    request.write_text("[1]")
    assert "must be a JSON object" in shop.fails("estimate", "CreateTrainedModel", *own, party="runner")


def test_the_endpoint_and_the_region_are_options_too(shop: Shop) -> None:
    nowhere = "http://127.0.0.1:1"
    given = ["--endpoint", shop.room.address, "--region", "us-east-1"]
    shop.run("rates", *given, AWS_ENDPOINT_URL_PASSBOX=nowhere, AWS_DEFAULT_REGION="eu-west-1")
    told = shop.fails("rates", AWS_DEFAULT_REGION="eu-west-1")
    assert "InvalidSignatureException" in told
    assert "--region" in told


def test_a_room_that_is_not_there(shop: Shop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    told = shop.fails("rates", "--endpoint", f"http://127.0.0.1:{port}")
    assert f"Nothing answers at http://127.0.0.1:{port}" in told
    assert "Start the room with `passbox serve`" in told
    plain = shop.room.address.replace("http:", "https:")
    assert "AWS_CA_BUNDLE" in shop.fails("rates", "--endpoint", plain)
    assert "endpoint looks like" in shop.fails("rates", "--endpoint", "not a url")


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "There are no credentials."),
        ({"AWS_SECRET_ACCESS_KEY": ""}, "There are no credentials."),
        ({"AWS_ACCESS_KEY_ID": "AKIDNOBODY"}, "Check AWS_ACCESS_KEY_ID"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "Check AWS_SECRET_ACCESS_KEY"),
        ({"AWS_PROFILE": "nobody"}, "nobody"),
    ],
)
def test_credentials_that_do_not_do(shop: Shop, environment: dict[str, str], words: str) -> None:
    environment = {"AWS_EC2_METADATA_DISABLED": "true", **environment}
    assert words in shop.fails("rates", **environment)


def test_credentials_of_a_profile(shop: Shop) -> None:
    id, secret = shop.room.key(shop.account("owner"))
    folder = shop.home / ".aws"
    folder.mkdir()
    (folder / "credentials").write_text(
        f"[payer]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n"
    )
    no_keys = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    assert shop.json("rates", AWS_PROFILE="payer", **no_keys)["rates"]


@pytest.mark.parametrize(
    ("micro", "text"),
    [
        (0, "$0.000000"),
        (1, "$0.000001"),
        (-2500, "-$0.002500"),
        (10**15, "$1,000,000,000.000000"),
        (1_234_567_890_123, "$1,234,567.890123"),
    ],
)
def test_money_to_the_last_digit(micro: int, text: str) -> None:
    assert printing.dollars(micro) == text


@pytest.mark.parametrize(("milli", "text"), [(0, "0.000 a"), (1_234_567, "1,234.567 a"), (-1, "-0.001 a")])
def test_quantities_to_the_last_digit(milli: int, text: str) -> None:
    assert printing.units(milli, "a") == text


def test_the_commands_know_nothing_of_the_house() -> None:
    code = (
        f"import sys; import {client.__name__}; "
        "print([name for name in sys.modules if name.startswith('passbox.')])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert sorted(json.loads(ran.stdout.replace("'", '"'))) == [
        "passbox.client", "passbox.errors", "passbox.printing", "passbox.settings",
    ]  # fmt: skip


def test_a_query_is_previewed(shop: Shop, tmp_path: Path) -> None:
    asked = tmp_path / "query.sql"
    own = ["--membership", shop.memberships["runner"], "--model", shop.association, str(asked)]
    runner = {"party": "runner", "group": "query"}
    asked.write_text("SELECT spent AS paid FROM visits WHERE id > :least")
    told = shop.run("preview", "--parameter", "least=1", *own, **runner)
    for words in ("id, spent", "unlimited", "visits.spent", shop.account("runner"), "nothing was run"):
        assert words in told
    assert shop.json("preview", "--parameter", "least=1", *own, **runner)["allowed"]
    assert "NAME=VALUE" in shop.run("preview", "--parameter", "least", *own, status=2, **runner)
    assert "either FILE.sql" in shop.run("preview", *own, "--template", "arn", status=2, **runner)


def test_a_template_is_previewed_with_its_parameters(shop: Shop) -> None:
    made = shop.cleanrooms("runner").create_analysis_template(
        **shop.own("runner"),
        name="many",
        format="SQL",
        source={"text": "SELECT id FROM visits WHERE id > :least"},
        analysisParameters=[{"name": "least", "type": "INTEGER"}],
    )["analysisTemplate"]["arn"]
    own = ["--membership", shop.memberships["runner"], "--model", shop.association, "--template", made]
    runner = {"party": "runner", "group": "query"}
    assert "nothing was run" in shop.run("preview", "--parameter", "least=1", *own, **runner)
    told = shop.run("preview", "--parameter", "least=one", *own, status=1, **runner)
    assert "least" in told


def test_a_refused_preview_points_at_the_text(shop: Shop, tmp_path: Path) -> None:
    asked = tmp_path / "query.sql"
    asked.write_text("SELECT id,\n       upper(ssn) AS x\nFROM visits\n")
    arguments = [
        "preview",
        "--membership",
        shop.memberships["runner"],
        "--model",
        shop.association,
        str(asked),
    ]
    told = shop.run(*arguments, party="runner", group="query", status=1)
    assert "custom.disallowedOutputColumns" in told
    pointed, caret = [line for line in told.splitlines() if line.startswith("  ")]
    assert pointed[caret.index("^") :].startswith("ssn")


def test_explain_says_why(shop: Shop) -> None:
    model = shop.model(shop.visits, "fails")["trainedModelArn"]
    work(shop.room)
    told = shop.run("explain", model, party="runner", group="job")
    assert "CREATE_FAILED, AlgorithmError" in told
    assert f"algorithm owner {shop.account('vendor')}" in told
    assert "It failed, as its name says." in told
    asked = ("explain", model, "--membership", shop.memberships["owner"])
    assert shop.json(*asked, group="job")["explanation"]["statusCode"] == "AlgorithmError"
    assert "did not fail" in shop.run("explain", shop.visits, party="runner", group="job")
    told = shop.fails("explain", model, group="job")
    assert "was not found" in told
    assert "your own membership with --membership" in told
    told = shop.fails("explain", f"{model}x", "--membership", shop.memberships["owner"], group="job")
    assert "--membership" not in told
    assert "--membership" in shop.fails("explain", "not-an-arn", group="job", status=2)


def test_a_manifest_is_fetched_and_verified(shop: Shop, tmp_path: Path) -> None:
    key, file = tmp_path / "room.pub", tmp_path / "manifest.json"
    home = ("--home", str(shop.room.settings.home))
    key.write_text(shop.run("key", *home, group="room"))
    shop.run("manifest", shop.visits, "--out", str(file), party="runner", group="job")
    told = shop.run(str(file), "--key", str(key), group="verify")
    assert "Signed with the key of the room" in told
    assert shop.json("manifest", shop.visits, party="runner", group="job") == json.loads(file.read_text())
    whole = json.loads(file.read_text())
    whole["manifest"]["submitterAccountId"] = shop.account("vendor")
    file.write_text(json.dumps(whole))
    assert "was changed" in shop.fails(str(file), "--key", str(key), group="verify")
    for broken in ("", "{", "[1]", '{"a": 1.5}', "\0"):
        file.write_text(broken)
        told = shop.fails(str(file), "--key", str(key), group="verify")
        assert told.startswith(f"passbox: {file} is no run manifest: it must be JSON with")
    for signature in (None, [], {}, {"publicKey": 1, "value": ""}, {"publicKey": "", "value": "!"}):
        file.write_text(json.dumps({**whole, "signature": signature}))
        told = shop.fails(str(file), group="verify")
        assert told == "passbox: The manifest or its signature is not of the form that a room gives it.\n"
    for broken in (
        b"",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        b"\xff",
        FOREIGN_KEY,
    ):
        key.write_bytes(broken)
        told = shop.fails(str(file), "--key", str(key), group="verify")
        assert told.startswith(f"passbox: The key {key} is no Ed25519 public key in PEM; ")
