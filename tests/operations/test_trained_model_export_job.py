"""Export jobs over boto3: the owner's policy, the receiver, names, and the one list that shows them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from lib.room import Room, everything, running
from lib.workshop import POLICIES, Workshop, work


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


class Trained(Workshop):
    """With an ACTIVE channel and model, and an ML configuration of the runner's."""

    def __init__(self, room: Room, **more: Any) -> None:
        super().__init__(room, **more)
        self.configure()
        self.visits = self.active_channel()
        self.late = self.active_model(self.visits)

    def exports(self, party: str = "runner", **more: Any) -> list[Any]:
        return everything(
            self.ml(party).list_collaboration_trained_model_export_jobs,
            "collaborationTrainedModelExportJobs",
            **self.whole(),
            **{"trainedModelArn": self.late, **more},
        )

    def bucket(self, party: str = "runner") -> Path:
        account = self.accounts[party]
        return self.room.settings.accounts / account / "buckets" / f"results-{account}" / "room"


@pytest.fixture
def shop(room: Room) -> Trained:
    return Trained(room)


def test_life(shop: Trained) -> None:
    answer = shop.ml().start_trained_model_export_job(
        **shop.export_request(shop.late, description="take it home")
    )
    assert set(answer) == {"ResponseMetadata"}
    for party in ("runner", "vendor", "owner"):
        [found] = shop.exports(party)
        assert (found["name"], found["description"], found["status"]) == (
            "take", "take it home", "CREATE_PENDING",
        )  # fmt: skip
        assert found["creatorAccountId"] == shop.account("runner")
        assert (found["trainedModelArn"], found["trainedModelVersionIdentifier"]) == (shop.late, "NULL")
        assert found["collaborationIdentifier"] == shop.id
        assert found["membershipIdentifier"] == shop.memberships["runner"]
        assert found["outputConfiguration"] == {"members": [{"accountId": shop.account("runner")}]}
    work(shop.room)
    assert shop.exports()[0]["status"] == "ACTIVE"
    folder = shop.bucket() / shop.id / "late" / shop.account("runner") / "take"
    assert [path.name for path in folder.iterdir()] == ["model.tar.gz"]
    assert {one["cost_type"] for one in shop.transfers()} == {
        "queryCompute", "machineLearning.modelTraining",
    }  # fmt: skip


def test_without_a_policy_nothing_leaves(room: Room) -> None:
    shop = Trained(room, policies=None)
    with pytest.raises(shop.ml().exceptions.AccessDeniedException, match="trainedModelExports"):
        shop.export(shop.late)
    assert shop.exports() == []


def test_who_may_receive(shop: Trained) -> None:
    invalid = shop.ml().exceptions.ValidationException
    with pytest.raises(invalid, match="CAN_RECEIVE_MODEL_OUTPUT"):
        shop.export(shop.late, receiver="owner")
    with pytest.raises(invalid, match="no ML configuration"):
        shop.export(shop.late, receiver="vendor")
    shop.configure("vendor")
    shop.export(shop.late, receiver="vendor")
    work(shop.room)
    assert (shop.bucket("vendor") / shop.id / "late" / shop.account("runner") / "take").is_dir()
    assert not shop.bucket().exists()


def test_a_receiver_that_cannot_receive_any_more(shop: Trained) -> None:
    shop.configure("vendor")
    shop.export(shop.late, receiver="vendor")
    shop.ml("vendor").delete_ml_configuration(**shop.own("vendor"))
    work(shop.room)
    [found] = shop.exports("owner")
    assert (found["status"], found["statusDetails"]["statusCode"]) == ("CREATE_FAILED", "INVALID_RECEIVER")
    assert "results-" not in found["statusDetails"]["message"]  # where it receives is its own to know


def test_only_who_trained_it_exports(shop: Trained) -> None:
    request = shop.export_request(shop.late)
    with pytest.raises(shop.ml("vendor").exceptions.AccessDeniedException, match="CAN_QUERY"):
        shop.ml("vendor").start_trained_model_export_job(**{**request, **shop.own("vendor")})
    with pytest.raises(shop.ml("vendor").exceptions.ResourceNotFoundException):
        shop.ml("vendor").start_trained_model_export_job(**request)


def test_what_is_missing_or_not_active(shop: Trained) -> None:
    missing = shop.ml().exceptions.ResourceNotFoundException
    with pytest.raises(missing):
        shop.export(f"{shop.late[:-36]}{uuid4()}")
    with pytest.raises(missing):
        shop.export(shop.late, trainedModelVersionIdentifier=str(uuid4()))
    with pytest.raises(missing):
        shop.exports(trainedModelArn=f"{shop.late[:-36]}{uuid4()}")
    with pytest.raises(missing):
        shop.exports(trainedModelVersionIdentifier=str(uuid4()))
    pending = shop.model(shop.visits, "pending")["trainedModelArn"]
    with pytest.raises(shop.ml().exceptions.ConflictException, match="CREATE_PENDING"):
        shop.export(pending)


def test_every_version_is_listed_unless_one_is_named(shop: Trained) -> None:
    shop.export(shop.late, "of base")
    second = shop.next_version(shop.visits, shop.late, "second")
    work(shop.room)
    shop.export(shop.late, "of second")
    shop.export(shop.late, "of second, too", trainedModelVersionIdentifier=second)
    assert [one["name"] for one in shop.exports()] == ["of base", "of second", "of second, too"]
    of_second = shop.exports(trainedModelVersionIdentifier=second)
    assert [one["name"] for one in of_second] == ["of second", "of second, too"]
    assert {one["trainedModelVersionIdentifier"] for one in of_second} == {second}


def test_no_export_is_delivered_over_another(shop: Trained) -> None:
    """Exports go to a place made of the model's and the export's name, so that pair is used once."""
    conflict = shop.ml().exceptions.ConflictException
    shop.export(shop.late)
    for _ in range(2):
        with pytest.raises(conflict, match="take"):
            shop.export(shop.late)
        work(shop.room)
    shop.active_model(shop.visits, "other")
    shop.export(shop.active_model(shop.visits, "third"))  # another model's name, another place
    shop.ml().delete_trained_model_output(**shop.own(), trainedModelArn=shop.late)
    work(shop.room)
    again = shop.active_model(shop.visits)  # the name of the deleted one
    with pytest.raises(conflict, match="take"):
        shop.export(again)
    shop.export(again, "take 2")


def test_the_name_of_a_failed_export_is_free(room: Room) -> None:
    shop = Trained(room)
    shop.configure("vendor")
    shop.export(shop.late, receiver="vendor")
    shop.ml("vendor").delete_ml_configuration(**shop.own("vendor"))
    work(room)
    shop.configure("vendor")
    shop.export(shop.late, receiver="vendor")
    work(room)
    assert [one["status"] for one in shop.exports()] == ["CREATE_FAILED", "ACTIVE"]


def test_larger_than_allowed(room: Room) -> None:
    policies = {
        "trainedModelExports": {**POLICIES["trainedModelExports"], "maxSize": {"unit": "GB", "value": 0.01}}
    }
    shop = Trained(room, policies=policies)
    kept = room.settings.vault / "trained_model" / shop.late.rpartition("/")[2]
    with (kept / "model.tar.gz").open("wb") as file:
        file.truncate(10_000_001)
    shop.export(shop.late)
    work(room)
    [found] = shop.exports("vendor")
    assert found["status"] == "CREATE_FAILED"
    assert found["statusDetails"]["statusCode"] == "MAX_EXPORT_SIZE_EXCEEDED"
    assert not shop.bucket().exists()


def test_after_the_collaboration_ended(shop: Trained) -> None:
    shop.export(shop.late)
    shop.cleanrooms("owner").delete_collaboration(collaborationIdentifier=shop.id)
    work(shop.room)
    assert not shop.bucket().exists()
    with pytest.raises(shop.ml().exceptions.AccessDeniedException):
        shop.export(shop.late, "b")
    with pytest.raises(shop.ml().exceptions.ResourceNotFoundException):
        shop.exports()
