"""Estimates over boto3: the answer and the refusals of the request itself, and nothing left behind."""

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from lib.room import Room, pays, running
from lib.workshop import RECORDS, Workshop, limited

PAYMENT = {
    "owner": pays(query=True, training=True, inference=True),
    "runner": pays(query=True, training=True, inference=True),
}


class Estimated(Workshop):
    """What a channel, a training and an inference job need; two candidates pay for each."""

    def __init__(self, room: Room) -> None:
        super().__init__(room, PAYMENT)
        self.configure()
        owner = self.account("owner")
        self.compute = {"payerConfiguration": {"computePayerAccountId": owner}}
        self.training = {"mlModelTrainingPayerAccountId": owner}
        self.visits = self.active_channel("first", **self.compute)
        self.late = self.active_model(self.visits, "first", **self.training)

    def estimate(self, operation: str, request: Any) -> Any:
        client = self.room.passbox(self.account("runner"))
        return client.estimate_cost(**self.own(), operation=operation, parameters=request)

    def requests(self) -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
        """operation → (the method that submits, a sound request)."""
        client, owner = self.ml(), self.account("owner")
        return {
            "CreateMLInputChannel": (
                client.create_ml_input_channel,
                self.channel_request("again", **self.compute),
            ),
            "CreateTrainedModel": (
                client.create_trained_model,
                self.model_request(self.visits, "again", **self.training),
            ),
            "StartTrainedModelInferenceJob": (
                client.start_trained_model_inference_job,
                self.inference_request(self.late, self.visits, mlModelInferencePayerAccountId=owner),
            ),
        }


OPERATIONS = ("CreateMLInputChannel", "CreateTrainedModel", "StartTrainedModelInferenceJob")
COST_TYPES = {
    "QUERY_COMPUTE": "queryCompute",
    "MODEL_TRAINING": "machineLearning.modelTraining",
    "MODEL_INFERENCE": "machineLearning.modelInference",
}
each_operation = pytest.mark.parametrize("operation", OPERATIONS)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


@pytest.fixture(scope="module")
def shared(room: Room) -> Estimated:
    """For tests that submit nothing which stays."""
    return Estimated(room)


def contents(room: Room) -> list[str]:
    """Everything in the database, in words."""
    with closing(sqlite3.connect(room.settings.database)) as connection:
        return list(connection.iterdump())


@each_operation
def test_it_is_what_the_request_then_reserves(room: Room, operation: str) -> None:
    shop = Estimated(room)
    submit, request = shop.requests()[operation]
    found = shop.estimate(operation, request)
    before = len(shop.transfers())
    submit(**request)
    [reserved] = shop.transfers()[before:]
    [cost] = found["costs"]
    assert reserved["kind"] == "reserve"
    assert {name: cost[name] for name in cost if name not in ("costType", "basis")} == {
        "payerAccountId": shop.account("owner"),
        "quantityMilliUnits": reserved["quantity"],
        "unit": reserved["quantity_unit"],
        "priceMicroDollars": reserved["price"],
        "pricePer": reserved["price_per"],
        **(
            {}
            if reserved["tier_from"] is None
            else {"tierFrom": reserved["tier_from"], "tierPriceMicroDollars": reserved["tier_price"]}
        ),
        "amountMicroDollars": reserved["amount"],
    }
    assert COST_TYPES[cost["costType"]] == reserved["cost_type"]
    assert found["totalMicroDollars"] == reserved["amount"] > 0
    assert cost["basis"]


@each_operation
def test_it_leaves_nothing_behind(room: Room, shared: Estimated, operation: str) -> None:
    before = contents(room)
    first = shared.estimate(operation, shared.requests()[operation][1])
    assert contents(room) == before
    again = shared.estimate(operation, shared.requests()[operation][1])
    assert first["costs"] == again["costs"]
    assert contents(room) == before


def test_the_membership_may_be_left_out_but_not_another(shared: Estimated) -> None:
    request = shared.requests()["CreateTrainedModel"][1]
    whole = shared.estimate("CreateTrainedModel", request)
    del request["membershipIdentifier"]
    assert shared.estimate("CreateTrainedModel", request)["costs"] == whole["costs"]
    with pytest.raises(ClientError) as caught:
        shared.estimate(
            "CreateTrainedModel", {**request, "membershipIdentifier": shared.memberships["owner"]}
        )
    [field] = caught.value.response["fieldList"]
    assert field["name"] == "parameters.membershipIdentifier"


def _other_arn(shop: Estimated) -> str:
    return shop.visits.rpartition("/")[0] + f"/{uuid4()}"


WRONG: list[tuple[str, Callable[[Estimated], dict[str, Any]], str]] = [
    ("CreateMLInputChannel", lambda _: {"name": ""}, "ValidationException"),
    ("CreateMLInputChannel", lambda _: {"retentionInDays": "1"}, "SerializationException"),
    ("CreateMLInputChannel", lambda _: {"inputChannel": None}, "ValidationException"),
    ("CreateMLInputChannel", lambda _: {"name": "first"}, "ConflictException"),
    ("CreateMLInputChannel", lambda _: {"payerConfiguration": {}}, "ValidationException"),
    (
        "CreateMLInputChannel",
        lambda shop: {
            "inputChannel": shop.channel_request(query="SELECT ssn FROM visits")["inputChannel"],
        },
        "ValidationException",
    ),
    (
        "CreateTrainedModel",
        lambda shop: {"mlModelTrainingPayerAccountId": shop.account("vendor")},
        "ValidationException",
    ),
    (
        "CreateTrainedModel",
        lambda shop: {"dataChannels": [{"mlInputChannelArn": _other_arn(shop), "channelName": "train"}]},
        "ResourceNotFoundException",
    ),
    ("CreateTrainedModel", lambda _: {"dataChannels": [{"channelName": "train"}]}, "ValidationException"),
    ("CreateTrainedModel", lambda _: {"name": "first"}, "ConflictException"),
    (
        "StartTrainedModelInferenceJob",
        lambda shop: {"outputConfiguration": {"members": [{"accountId": shop.account("owner")}]}},
        "ValidationException",
    ),
]


@pytest.mark.parametrize(("operation", "changes", "code"), WRONG)
def test_it_refuses_in_the_words_of_the_request(
    room: Room,
    shared: Estimated,
    operation: str,
    changes: Callable[[Estimated], dict[str, Any]],
    code: str,
) -> None:
    submit, request = shared.requests()[operation]
    request |= changes(shared)
    before = contents(room)
    with pytest.raises(ClientError) as estimated:
        shared.estimate(operation, request)
    with pytest.raises(ClientError) as submitted:
        submit(**request)
    assert estimated.value.response["Error"] == submitted.value.response["Error"]
    assert estimated.value.response["Error"]["Code"] == code
    if "fieldList" in submitted.value.response:
        assert estimated.value.response["fieldList"] == submitted.value.response["fieldList"]
    assert contents(room) == before


def test_a_spend_cap_refuses_it(room: Room) -> None:
    shop = Estimated(room)
    cap = {"costType": "MODEL_TRAINING", "period": "MONTH"}
    owner = room.passbox(shop.account("owner"))
    owner.put_spend_cap(**shop.own("owner"), **cap, limitMicroDollars=2 * RECORDS * 10)
    submit, request = shop.requests()["CreateTrainedModel"]
    shop.estimate("CreateTrainedModel", request)
    submit(**request)
    request["name"] = "once more"
    with pytest.raises(ClientError) as estimated:
        shop.estimate("CreateTrainedModel", request)
    with pytest.raises(ClientError) as submitted:
        submit(**request)
    assert estimated.value.response["Error"] == submitted.value.response["Error"]
    assert estimated.value.response["ResponseMetadata"]["HTTPStatusCode"] == 402
    assert estimated.value.response["quotaValue"] == 2 * RECORDS * 10 / 1_000_000


def test_estimates_do_not_use_up_a_quota(tmp_path_factory: pytest.TempPathFactory) -> None:
    with limited(tmp_path_factory.mktemp("home"), training_jobs_per_membership=1) as room:
        shop = Estimated(room)
        submit, request = shop.requests()["CreateTrainedModel"]
        for _ in range(3):
            shop.estimate("CreateTrainedModel", request)
        submit(**request)
        with pytest.raises(ClientError, match="quota of 1"):
            shop.estimate("CreateTrainedModel", {**request, "name": "one more"})


@pytest.mark.parametrize("parameters", [[], "text", 7, True])
def test_what_is_no_request(shared: Estimated, parameters: Any) -> None:
    with pytest.raises(ClientError) as caught:
        shared.estimate("CreateTrainedModel", parameters)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert caught.value.response["fieldList"][0]["name"] == "parameters"


def test_a_name_that_the_request_does_not_have(shared: Estimated) -> None:
    _, request = shared.requests()["CreateTrainedModel"]
    with pytest.raises(ClientError, match="no such member") as caught:
        shared.estimate("CreateTrainedModel", {**request, "mlModelTraningPayerAccountId": "111111111111"})
    assert caught.value.response["fieldList"][0]["name"] == "mlModelTraningPayerAccountId"


@pytest.mark.parametrize("operation", ["DeleteMembership", "cleanroomsml.CreateTrainedModel", ""])
def test_no_other_operation_is_estimated(shared: Estimated, operation: str) -> None:
    with pytest.raises(ClientError) as caught:
        shared.estimate(operation, {})
    assert caught.value.response["fieldList"][0]["name"] == "operation"


def test_only_who_may_submit_may_ask(shared: Estimated) -> None:
    for party in ("owner", "vendor"):
        client = shared.room.passbox(shared.account(party))
        with pytest.raises(client.exceptions.AccessDeniedException):
            client.estimate_cost(**shared.own(party), operation="CreateTrainedModel", parameters={})


def test_among_real_writes_only_the_estimates_are_undone(room: Room) -> None:
    """Changes are committed in groups; an estimate in a group undoes itself and nothing of the others."""
    shop = Estimated(room)
    owner, own = room.passbox(shop.account("owner")), shop.own("owner")
    request = shop.requests()["CreateTrainedModel"][1]
    before = len(shop.transfers())

    def one(number: int) -> None:
        if number % 2:
            shop.estimate("CreateTrainedModel", {**request, "name": f"n{number}"})
        else:
            owner.put_spend_cap(**own, costType="JOB_COMPUTE", period="MONTH", limitMicroDollars=number)
            shop.model(shop.visits, f"n{number}", **shop.training) if number < 8 else None

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(24)))
    made = shop.ml().list_trained_models(**shop.own())["trainedModels"]
    assert sorted(model["name"] for model in made) == ["first", "n0", "n2", "n4", "n6"]
    assert len(shop.transfers()) == before + 4
