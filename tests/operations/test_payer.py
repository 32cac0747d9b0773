"""The choice of a payer over boto3: taken by three operations, said by twelve; what moves it or not."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from lib.room import Room, join, pays, refused, running
from lib.workshop import Workshop, work

ALL = pays(query=True, training=True, inference=True)
NOTHING = pays(query=False, training=False, inference=False)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


class Cost(NamedTuple):
    """One of the three costs that a request can name a payer for.

    start: (shop, name, payer or None) → ARN of what was submitted; needs what `prepare` made
    """

    field: str
    type: str
    start: Callable[..., str]


def _named(payer: str | None, field: str) -> dict[str, Any]:
    if payer is None:
        return {}
    for key in reversed(field.split(".")):
        payer = {key: payer}  # type: ignore[assignment]
    return payer  # type: ignore[return-value]


class Stage(Workshop):
    """With what inference and training need, however many payers there are."""

    def __init__(self, room: Room, payment: dict[str, Any] | None = None, party: str = "runner") -> None:
        super().__init__(room, payment)
        self.payer = self.account(party)
        self.configure()
        self.visits = self.active_channel("first", **_named(self.payer, QUERY.field))
        self.late = self.active_model(self.visits, "first", **_named(self.payer, TRAINING.field))

    def submit(self, cost: Cost, name: str, payer: str | None) -> str:
        return cost.start(self, name, _named(payer, cost.field))


QUERY = Cost(
    "payerConfiguration.computePayerAccountId",
    "queryCompute",
    lambda shop, name, named: shop.channel(name, **named),
)
TRAINING = Cost(
    "mlModelTrainingPayerAccountId",
    "machineLearning.modelTraining",
    lambda shop, name, named: shop.model(shop.visits, name, **named)["trainedModelArn"],
)
INFERENCE = Cost(
    "mlModelInferencePayerAccountId",
    "machineLearning.modelInference",
    lambda shop, name, named: shop.inference(shop.late, shop.visits, name, **named),
)
COSTS = [QUERY, TRAINING, INFERENCE]
each_cost = pytest.mark.parametrize("cost", COSTS, ids=lambda cost: cost.type.rpartition(".")[2])


def echoes(shop: Workshop, arn: str) -> dict[str, Any]:
    """operation → the payer that it says of what was submitted, for every operation that shows it."""
    client, other = shop.ml(), shop.ml("owner")
    own, whole = shop.own(), shop.whole()

    def listed(method: Any, key: str, identifier: str, **asked: Any) -> Any:
        return next(entry for entry in method(**asked)[key] if entry[identifier] == arn)

    if "/ml-input-channel/" in arn:
        shown = {
            "get": client.get_ml_input_channel(**own, mlInputChannelArn=arn),
            "get whole": other.get_collaboration_ml_input_channel(**whole, mlInputChannelArn=arn),
            "list": listed(client.list_ml_input_channels, "mlInputChannelsList", "mlInputChannelArn", **own),
            "list whole": listed(
                other.list_collaboration_ml_input_channels,
                "collaborationMLInputChannelsList",
                "mlInputChannelArn",
                **whole,
            ),
        }
        return {name: one["payerConfiguration"]["computePayerAccountId"] for name, one in shown.items()}
    if "/trained-model/" in arn:
        shown = {
            "get": client.get_trained_model(**own, trainedModelArn=arn),
            "get whole": other.get_collaboration_trained_model(**whole, trainedModelArn=arn),
            "list": listed(client.list_trained_models, "trainedModels", "trainedModelArn", **own),
            "list whole": listed(
                other.list_collaboration_trained_models,
                "collaborationTrainedModels",
                "trainedModelArn",
                **whole,
            ),
            "versions": listed(
                client.list_trained_model_versions,
                "trainedModels",
                "trainedModelArn",
                **own,
                trainedModelArn=arn,
            ),
        }
        return {name: one["mlModelTrainingPayerAccountId"] for name, one in shown.items()}
    key = "trainedModelInferenceJobArn"
    shown = {
        "get": client.get_trained_model_inference_job(**own, trainedModelInferenceJobArn=arn),
        "list": listed(client.list_trained_model_inference_jobs, "trainedModelInferenceJobs", key, **own),
        "list whole": listed(
            other.list_collaboration_trained_model_inference_jobs,
            "collaborationTrainedModelInferenceJobs",
            key,
            **whole,
        ),
    }
    return {name: one["mlModelInferencePayerAccountId"] for name, one in shown.items()}


def reserved(shop: Workshop, cost: Cost) -> list[str]:
    """Who the open reservations for a cost debit."""
    entries = shop.transfers()
    ended = {entry["settles"] for entry in entries}
    return [
        entry["payer"]
        for entry in entries
        if entry["cost_type"] == cost.type and entry["kind"] == "reserve" and entry["id"] not in ended
    ]


def update(shop: Workshop, party: str, payment: dict[str, Any]) -> None:
    shop.cleanrooms(party).update_membership(**shop.own(party), membershipPaymentConfiguration=payment)


@each_cost
def test_the_only_candidate_is_the_default(room: Room, cost: Cost) -> None:
    """Nobody is configured, so it is the runner."""
    shop = Stage(room)
    for name, named in (("omitted", None), ("named", shop.account("runner"))):
        arn = shop.submit(cost, name, named)
        assert set(echoes(shop, arn).values()) == {shop.account("runner")}
    assert reserved(shop, cost) == [shop.account("runner")] * 2


@each_cost
def test_the_only_candidate_need_not_be_the_runner(room: Room, cost: Cost) -> None:
    shop = Stage(room, {"owner": ALL, "runner": None}, "owner")
    arn = shop.submit(cost, "omitted", None)
    assert set(echoes(shop, arn).values()) == {shop.account("owner")}
    assert reserved(shop, cost) == [shop.account("owner")]
    with pytest.raises(shop.ml().exceptions.ValidationException, match="not a payer candidate"):
        shop.submit(cost, "the runner", shop.account("runner"))


@each_cost
def test_one_of_several_is_named(room: Room, cost: Cost) -> None:
    shop = Stage(room, {"vendor": ALL, "runner": ALL, "owner": NOTHING})
    invalid = shop.ml().exceptions.ValidationException
    before = len(shop.transfers())
    with pytest.raises(invalid) as refusal:
        shop.submit(cost, "omitted", None)
    message = refused(refusal.value)[1]
    assert message.startswith(f"{cost.field} must be given")
    assert all(shop.account(party) in message for party in ("runner", "vendor"))
    for stranger in (shop.account("owner"), "999999999999"):
        with pytest.raises(invalid, match=f"{cost.field} {stranger} is not a payer candidate"):
            shop.submit(cost, "wrong", stranger)
    with pytest.raises(invalid):
        shop.submit(cost, "no account", "12345")
    assert len(shop.transfers()) == before
    for party in ("runner", "vendor"):
        arn = shop.submit(cost, party, shop.account(party))
        assert set(echoes(shop, arn).values()) == {shop.account(party)}
    assert reserved(shop, cost) == [shop.account("runner"), shop.account("vendor")]
    work(room)
    assert reserved(shop, cost) == []
    posted = [one for one in shop.lines() if one["payer"] == shop.account("vendor") and one["posted"] > 0]
    assert [one["cost_type"] for one in posted] == [cost.type]


@each_cost
def test_declining_and_accepting_again(room: Room, cost: Cost) -> None:
    shop = Stage(room, {"vendor": ALL, "runner": ALL})
    vendor = shop.account("vendor")
    accepted = shop.submit(cost, "accepted", vendor)
    update(shop, "vendor", NOTHING)
    with pytest.raises(shop.ml().exceptions.ValidationException, match=f"{vendor}.*does not accept to pay"):
        shop.submit(cost, "declined", vendor)
    # it is still a candidate, so nobody is the default; and what was submitted is not touched
    with pytest.raises(shop.ml().exceptions.ValidationException, match="must be given"):
        shop.submit(cost, "omitted", None)
    assert set(echoes(shop, accepted).values()) == {vendor}
    work(room)
    assert [one["posted"] > 0 for one in shop.lines() if one["payer"] == vendor] == [True]
    update(shop, "vendor", ALL)
    shop.submit(cost, "accepted again", vendor)


@each_cost
def test_a_payer_that_comes_and_goes(room: Room, cost: Cost) -> None:
    """It pays for what was submitted while it was there, and for nothing before or after."""
    shop = Stage(room, {"runner": ALL, "guest": ALL})
    guest, invalid = shop.account("guest"), shop.ml().exceptions.ValidationException
    with pytest.raises(invalid, match=f"{guest} is a payer candidate.*not an active member"):
        shop.submit(cost, "before", guest)
    with pytest.raises(invalid, match="must be given"):
        shop.submit(cost, "before", None)
    join(room, guest, shop.id, ALL)
    during = shop.submit(cost, "during", guest)
    shop.cleanrooms("owner").delete_member(collaborationIdentifier=shop.id, accountId=guest)
    assert set(echoes(shop, during).values()) == {guest}
    with pytest.raises(invalid, match=f"{guest} is not a payer candidate"):
        shop.submit(cost, "after", guest)
    after = shop.submit(cost, "after", None)
    assert set(echoes(shop, after).values()) == {shop.account("runner")}
    work(room)
    posted = {one["payer"]: one for one in shop.lines() if one["cost_type"] == cost.type}
    assert (posted[guest]["jobs"], posted[guest]["reserved"]) == (1, 0)


@each_cost
def test_the_only_candidate_that_is_left(room: Room, cost: Cost) -> None:
    """It is the default, and may have declined: then nobody pays."""
    shop = Stage(room, {"runner": ALL, "guest": ALL})
    join(room, shop.account("guest"), shop.id, ALL)
    update(shop, "runner", NOTHING)
    shop.submit(cost, "by the guest", shop.account("guest"))
    shop.cleanrooms("owner").delete_member(collaborationIdentifier=shop.id, accountId=shop.account("guest"))
    with pytest.raises(shop.ml().exceptions.ValidationException, match="does not accept to pay"):
        shop.submit(cost, "by nobody", None)
    update(shop, "runner", ALL)
    arn = shop.submit(cost, "by the runner", None)
    assert set(echoes(shop, arn).values()) == {shop.account("runner")}


def test_a_payer_for_what_is_not_incurred(room: Room) -> None:
    shop = Stage(room, {"runner": {**ALL, **pays(query=True, synthetic=True)}})
    field = "payerConfiguration.syntheticDataPayerAccountId"
    with pytest.raises(shop.ml().exceptions.ValidationException, match=field):
        shop.channel("real data", **_named(shop.account("runner"), field))
    assert "syntheticDataPayerAccountId" not in shop.get_channel(shop.visits)["payerConfiguration"]


def test_the_members_see_who_can_pay_and_nothing_of_who_declined(room: Room) -> None:
    """ListMembers shows the collaboration's side; what a membership accepts is its owner's."""
    shop = Workshop(room, {"vendor": ALL, "runner": ALL})

    def seen() -> Any:
        members = shop.cleanrooms("owner").list_members(collaborationIdentifier=shop.id)["memberSummaries"]
        return {one["accountId"]: one["paymentConfiguration"] for one in members}

    before = seen()
    update(shop, "vendor", NOTHING)
    assert seen() == before
    assert before[shop.account("vendor")]["machineLearning"]["modelTraining"] == {"isResponsible": True}


def test_every_operation_of_the_payer_change_shows_it() -> None:
    """The fifteen operations of 2026-05-21, by the service model: three take a payer, twelve say it."""
    import botocore.session

    model = botocore.session.get_session().get_service_model("cleanroomsml")
    fields = {"payerConfiguration", TRAINING.field, INFERENCE.field}

    def has(shape: Any) -> bool:
        if shape is None:
            return False
        members = getattr(shape, "members", {})
        lists = [one.member for one in members.values() if one.type_name == "list"]
        return bool(fields & set(members)) or any(fields & set(getattr(one, "members", {})) for one in lists)

    takes = {name for name in model.operation_names if has(model.operation_model(name).input_shape)}
    says = {name for name in model.operation_names if has(model.operation_model(name).output_shape)}
    assert takes == {"CreateMLInputChannel", "CreateTrainedModel", "StartTrainedModelInferenceJob"}
    assert len(says) == 12
    from passbox.operations import OPERATIONS

    assert {f"cleanroomsml.{name}" for name in takes | says} <= set(OPERATIONS)
