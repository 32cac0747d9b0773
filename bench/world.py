"""A room with a collaboration, an algorithm and an ACTIVE channel, written straight into state.

Knows state and keys; starts no worker and no server.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from passbox.access import keys
from passbox.serve import Dispatcher, application
from passbox.settings import Settings
from passbox.state import accounts, resources
from passbox.state.database import Database
from passbox.wire.model import Requests, load_services

ACCOUNT = "111111111111"
PAYER = "222222222222"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/passbox"
QUOTAS = """\
training_jobs_per_membership = inf
training_jobs_per_account = inf
training_instances_per_account = inf
"""


@dataclass(frozen=True)
class World:
    """settings, the runner's access key, and the identifiers that requests need."""

    settings: Settings
    key: tuple[str, str]
    membership: str
    association: str
    channel: str


def make(home: Path) -> World:
    """Creates the room under an empty directory."""
    settings = Settings(home)
    (home / "quotas.toml").write_text(QUOTAS)
    table = home / "accounts" / ACCOUNT / "catalog" / "db" / "t"
    table.mkdir(parents=True)
    (table / "rows.csv").write_text("id,value\n1,2\n")
    application(settings)
    secret = keys.load_key_file(settings.key_file)
    database = Database(settings.database)
    with database.write() as tx:
        pairs = {}
        for account in (ACCOUNT, PAYER):
            accounts.create(tx, account, account)
            pairs[account] = keys.create(tx, secret, account, None, None)
    call: Any = Dispatcher(settings, database, Requests(load_services()))
    collaboration = call(ACCOUNT, "cleanrooms.CreateCollaboration", _collaboration())["collaboration"]["id"]
    joined = {}
    for account in (ACCOUNT, PAYER):
        payment = {"queryCompute": {"isResponsible": account == PAYER}}
        payment["machineLearning"] = {"modelTraining": {"isResponsible": True}}  # type: ignore[assignment]
        params = {
            "collaborationIdentifier": collaboration,
            "queryLogStatus": "DISABLED",
            "paymentConfiguration": payment,
        }
        joined[account] = call(account, "cleanrooms.CreateMembership", params)["membership"]["id"]
    membership = joined[ACCOUNT]
    algorithm = call(
        ACCOUNT,
        "cleanroomsml.CreateConfiguredModelAlgorithm",
        {"name": "a", "roleArn": ROLE, "trainingContainerConfig": {"imageUri": "registry/image:1"}},
    )["configuredModelAlgorithmArn"]
    association = call(
        ACCOUNT,
        "cleanroomsml.CreateConfiguredModelAlgorithmAssociation",
        {"membershipIdentifier": membership, "configuredModelAlgorithmArn": algorithm, "name": "a"},
    )["configuredModelAlgorithmAssociationArn"]
    channel = _channel(database, membership, association)
    return World(settings, pairs[ACCOUNT], membership, association, channel)


def _collaboration() -> dict[str, Any]:
    pays = {"modelTraining": {"isResponsible": True}}
    return {
        "name": "bench",
        "creatorDisplayName": "runner",
        "creatorMemberAbilities": ["CAN_QUERY"],
        "queryLogStatus": "DISABLED",
        "creatorPaymentConfiguration": {"queryCompute": {"isResponsible": False}, "machineLearning": pays},
        "members": [
            {
                "accountId": PAYER,
                "memberAbilities": [],
                "displayName": "payer",
                "paymentConfiguration": {"queryCompute": {"isResponsible": True}, "machineLearning": pays},
            }
        ],
    }


def _channel(database: Database, membership: str, association: str) -> str:
    """A channel that rests, as the worker would have left it."""
    with database.write() as tx:
        owner = resources.require(tx, "membership", membership)
        id = "00000000-0000-4000-8000-000000000001"
        arn = f"arn:aws:cleanrooms-ml:us-east-1:{ACCOUNT}:membership/{membership}/ml-input-channel/{id}"
        body = {
            "configuredModelAlgorithmAssociations": [association],
            "numberOfRecords": 1000,
            "sources": ["00000000-0000-4000-8000-000000000002"],
        }
        row = owner._replace(kind="ml_input_channel", id=id, arn=arn, name="c", status="ACTIVE", body=body)
        resources.add(tx, row)
    return arn


def trained_model(world: World, name: str) -> dict[str, Any]:
    """The parameters of a CreateTrainedModel that reserves."""
    return {
        "membershipIdentifier": world.membership,
        "name": name,
        "configuredModelAlgorithmAssociationArn": world.association,
        "resourceConfig": {"instanceType": "ml.m5.xlarge", "volumeSizeInGB": 10},
        "dataChannels": [{"mlInputChannelArn": world.channel, "channelName": "train"}],
        "mlModelTrainingPayerAccountId": PAYER,
    }


def configured_table(name: str) -> dict[str, Any]:
    """The parameters of a CreateConfiguredTable."""
    return {
        "name": name,
        "tableReference": {"glue": {"databaseName": "db", "tableName": "t"}},
        "allowedColumns": ["id", "value"],
        "analysisMethod": "DIRECT_QUERY",
    }
