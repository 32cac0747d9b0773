"""The stock AWS CLI is a client: AWS's two services, and ours from the model that ships with us."""

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from lib.environments import binaries
from lib.room import Room, pays, running
from lib.workshop import Workshop
from passbox import models_path


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


def aws(room: Room, account: str, *arguments: str) -> Any:
    """What `aws ARGUMENTS` prints, called by an account; AssertionError with its words where it fails."""
    id, secret = room.key(account)
    environment = {
        "PATH": os.defpath,
        "AWS_ACCESS_KEY_ID": id,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": room.address,
        "AWS_DATA_PATH": str(models_path()),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    command = [str(binaries("aws-cli") / "aws"), "--output", "json", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else None


def test_a_channel_and_its_payer(room: Room) -> None:
    payment = {"runner": pays(query=True), "vendor": pays(query=True)}
    shop = Workshop(room, payment)
    runner, vendor = shop.account("runner"), shop.account("vendor")
    request = {**shop.channel_request(), "payerConfiguration": {"computePayerAccountId": vendor}}
    made = aws(
        room, runner, "cleanroomsml", "create-ml-input-channel", "--cli-input-json", json.dumps(request)
    )
    seen = aws(
        room, vendor, "cleanroomsml", "get-collaboration-ml-input-channel",
        "--collaboration-identifier", shop.id, "--ml-input-channel-arn", made["mlInputChannelArn"],
    )  # fmt: skip
    assert seen["payerConfiguration"] == {"computePayerAccountId": vendor}
    members = aws(room, runner, "cleanrooms", "list-members", "--collaboration-identifier", shop.id)
    assert len(members["memberSummaries"]) == 3
    caps = ("--membership-identifier", shop.memberships["vendor"], "--cost-type", "QUERY_COMPUTE")
    put = aws(
        room, vendor, "passbox", "put-spend-cap", *caps, "--period", "MONTH", "--limit-micro-dollars", "9"
    )
    assert put["spendCap"]["limitMicroDollars"] == 9
    request["name"] = "another"
    with pytest.raises(AssertionError, match="ServiceQuotaExceededException"):
        aws(room, runner, "cleanroomsml", "create-ml-input-channel", "--cli-input-json", json.dumps(request))
