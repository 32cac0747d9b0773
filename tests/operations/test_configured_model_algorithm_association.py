"""Algorithm associations over boto3: an algorithm in a room, and the policies that go with it."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from lib.room import Room, everything, refused, running
from lib.workshop import POLICIES, Workshop, limited, work


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


@pytest.fixture(scope="module")
def shop(room: Room) -> Workshop:
    return Workshop(room)


def get(shop: Workshop, arn: str, party: str = "vendor") -> Any:
    return shop.ml(party).get_configured_model_algorithm_association(
        **shop.own(party), configuredModelAlgorithmAssociationArn=arn
    )


def see(shop: Workshop, arn: str, party: str) -> Any:
    return shop.ml(party).get_collaboration_configured_model_algorithm_association(
        **shop.whole(), configuredModelAlgorithmAssociationArn=arn
    )


def delete(shop: Workshop, arn: str, party: str = "vendor") -> Any:
    return shop.ml(party).delete_configured_model_algorithm_association(
        **shop.own(party), configuredModelAlgorithmAssociationArn=arn
    )


def test_life(shop: Workshop) -> None:
    algorithm = shop.algorithm("of life")
    arn = shop.associate(
        "life", algorithm=algorithm, policies=POLICIES, description="for all", tags={"team": "a"}
    )
    account, membership = shop.account("vendor"), shop.memberships["vendor"]
    assert arn.startswith(
        f"arn:aws:cleanrooms-ml:us-east-1:{account}:membership/{membership}"
        "/configured-model-algorithm-association/"
    )
    found = get(shop, arn)
    assert found["configuredModelAlgorithmAssociationArn"] == arn
    assert found["configuredModelAlgorithmArn"] == algorithm
    assert (found["membershipIdentifier"], found["collaborationIdentifier"]) == (membership, shop.id)
    assert (found["name"], found["description"], found["tags"]) == ("life", "for all", {"team": "a"})
    assert found["privacyConfiguration"] == {"policies": POLICIES}
    assert "creatorAccountId" not in found
    for party in ("runner", "owner", "vendor"):
        seen = see(shop, arn, party)
        assert seen["creatorAccountId"] == account
        hidden = {"tags", "ResponseMetadata"}
        assert {key: seen[key] for key in seen if key not in {"creatorAccountId", *hidden}} == {
            key: found[key] for key in found if key not in hidden
        }
        assert "tags" not in seen
    assert delete(shop, arn)["ResponseMetadata"]["HTTPStatusCode"] == 200
    for again in (lambda: get(shop, arn), lambda: see(shop, arn, "runner"), lambda: delete(shop, arn)):
        with pytest.raises(shop.ml("vendor").exceptions.ClientError) as missing:
            again()
        assert refused(missing.value)[0] == "ResourceNotFoundException"


def test_both_lists(room: Room) -> None:
    shop = Workshop(room)
    arns = [shop.association, *(shop.associate(f"n{number}") for number in range(2))]
    own = shop.associate("the runner's", party="runner")
    client = shop.ml("vendor")
    listed = everything(
        client.list_configured_model_algorithm_associations,
        "configuredModelAlgorithmAssociations",
        **shop.own("vendor"),
    )
    key = "configuredModelAlgorithmAssociationArn"
    assert [entry[key] for entry in listed] == arns
    assert all("creatorAccountId" not in entry for entry in listed)
    listed = everything(
        client.list_collaboration_configured_model_algorithm_associations,
        "collaborationConfiguredModelAlgorithmAssociations",
        **shop.whole(),
    )
    assert [(entry[key], entry["creatorAccountId"]) for entry in listed] == [
        *((arn, shop.account("vendor")) for arn in arns),
        (own, shop.account("runner")),
    ]


def test_anothers_algorithm_is_as_missing(shop: Workshop) -> None:
    algorithm = shop.algorithm("secret", party="owner")
    words = set()
    for one in (algorithm, f"{algorithm[:-36]}{uuid4()}"):
        with pytest.raises(shop.ml().exceptions.ResourceNotFoundException) as missing:
            shop.associate("stolen", algorithm=one)
        words.add(refused(missing.value)[1].replace(one, "X"))
    assert len(words) == 1


def test_anothers_association_cannot_be_read_by_membership_nor_deleted(shop: Workshop) -> None:
    with pytest.raises(shop.ml().exceptions.ResourceNotFoundException):
        get(shop, shop.association, "runner")
    with pytest.raises(shop.ml().exceptions.ResourceNotFoundException):
        delete(shop, shop.association, "runner")


def test_an_association_of_another_room_is_not_seen(room: Room, shop: Workshop) -> None:
    other = Workshop(room, accounts=shop.accounts)
    with pytest.raises(shop.ml().exceptions.ResourceNotFoundException):
        see(shop, other.association, "vendor")
    with pytest.raises(shop.ml().exceptions.ResourceNotFoundException):
        get(shop, other.association)


def test_a_removed_members_association_is_out_of_sight(room: Room) -> None:
    shop = Workshop(room)
    shop.cleanrooms("owner").delete_member(collaborationIdentifier=shop.id, accountId=shop.account("vendor"))
    with pytest.raises(shop.ml().exceptions.ResourceNotFoundException):
        see(shop, shop.association, "runner")
    page = shop.ml().list_collaboration_configured_model_algorithm_associations(**shop.whole())
    assert page["collaborationConfiguredModelAlgorithmAssociations"] == []


STRANGER = "999999999999"


@pytest.mark.parametrize("kind", ["trainedModels", "trainedModelInferenceJobs"])
@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"allowedAccountIds": [STRANGER]}, f"{STRANGER} is not a member"),
        ({"allowedAccountIds": ["MEMBER", STRANGER]}, rf"containerLogs\[0\].allowedAccountIds|{STRANGER}"),
        (
            {
                "allowedAccountIds": ["MEMBER"],
                "logRedactionConfiguration": {"entitiesToRedact": ["NUMBERS", "CUSTOM"]},
            },
            "give both or neither",
        ),
        (
            {
                "allowedAccountIds": ["MEMBER"],
                "logRedactionConfiguration": {
                    "entitiesToRedact": ["NUMBERS"],
                    "customEntityConfig": {"customDataIdentifiers": ["[a-z]+"]},
                },
            },
            "give both or neither",
        ),
        ({"allowedAccountIds": []}, "allowedAccountIds"),
        (
            {"allowedAccountIds": ["MEMBER"], "filterPattern": "rows=("},
            r"containerLogs\[0\]\.filterPattern: 'rows=\(' is not .* RE2 syntax \(missing \)",
        ),
        (
            {"allowedAccountIds": ["MEMBER"], "filterPattern": "(?=rows)"},
            "invalid perl operator.*neither look-around nor back references",
        ),
        (
            # 17 s of work for RE2
            {"allowedAccountIds": ["MEMBER"], "filterPattern": "|".join(["a{1,900}"] * 100)},
            "counts in braces add up to more than 1,000",
        ),
        (
            {
                "allowedAccountIds": ["MEMBER"],
                "logRedactionConfiguration": {
                    "entitiesToRedact": ["CUSTOM"],
                    "customEntityConfig": {"customDataIdentifiers": ["[a-z]+", "[a-z"]},
                },
            },
            r"customEntityConfig\.customDataIdentifiers\[1\]: '\[a-z' is not .* \(missing \]",
        ),
    ],
)
def test_policies_that_cannot_be(shop: Workshop, kind: str, policy: dict[str, Any], words: str) -> None:
    accounts = [shop.account("runner") if one == "MEMBER" else one for one in policy["allowedAccountIds"]]
    policies = {kind: {"containerLogs": [{**policy, "allowedAccountIds": accounts}]}}
    with pytest.raises(shop.ml().exceptions.ValidationException, match=words):
        shop.associate("wrong", policies=policies)


def test_names_are_the_memberships_own(shop: Workshop) -> None:
    shop.associate("taken")
    with pytest.raises(shop.ml().exceptions.ConflictException, match="taken"):
        shop.associate("taken")
    shop.associate("taken", party="runner")


def test_deleting_one_that_work_in_progress_uses(room: Room) -> None:
    shop = Workshop(room)
    shop.configure()

    def in_use() -> None:
        with pytest.raises(shop.ml().exceptions.ConflictException, match="in progress"):
            delete(shop, shop.association)

    shop.channel()
    in_use()
    work(room)
    channel = shop.active_channel("second")
    model = shop.model(channel)["trainedModelArn"]
    in_use()
    work(room)
    shop.inference(model, channel)
    in_use()
    work(room)
    shop.export(model)
    in_use()
    work(room)
    delete(shop, shop.association)
    # what was trained stays readable, and can neither run nor leave any more
    assert shop.ml().get_trained_model(**shop.own(), trainedModelArn=model)["status"] == "ACTIVE"
    for again in (lambda: shop.inference(model, channel, "b"), lambda: shop.export(model, "b")):
        with pytest.raises(shop.ml().exceptions.ResourceNotFoundException):
            again()


def test_a_cancelled_training_lets_go_of_it(room: Room) -> None:
    shop = Workshop(room)
    model = shop.model(shop.active_channel())["trainedModelArn"]
    shop.ml().cancel_trained_model(**shop.own(), trainedModelArn=model)
    with pytest.raises(shop.ml().exceptions.ConflictException):
        delete(shop, shop.association)
    work(room)
    delete(shop, shop.association)


def test_tags(shop: Workshop) -> None:
    arn = shop.associate("tagged", tags={"team": "a"})
    client = shop.ml("vendor")
    client.tag_resource(resourceArn=arn, tags={"team": "b"})
    assert client.list_tags_for_resource(resourceArn=arn)["tags"] == {"team": "b"}
    assert get(shop, arn)["tags"] == {"team": "b"}
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        shop.ml("runner").tag_resource(resourceArn=arn, tags={"team": "c"})
    with pytest.raises(client.exceptions.ValidationException, match="aws:"):
        shop.associate("reserved", tags={"AWS:x": "1"})


def test_the_quota(tmp_path: Any) -> None:
    with limited(tmp_path, configured_model_algorithm_associations=2) as room:
        shop = Workshop(room)
        shop.associate("second")
        with pytest.raises(shop.ml().exceptions.ServiceQuotaExceededException) as full:
            shop.associate("third")
        assert full.value.response["quotaValue"] == 2
        shop.associate("the runner's", party="runner")
        delete(shop, shop.association)
        shop.associate("third")
