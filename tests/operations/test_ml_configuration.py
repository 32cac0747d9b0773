"""ML configurations over boto3: where a member receives; one for each membership."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from lib.room import Room, running
from lib.workshop import Workshop


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


@pytest.fixture(scope="module")
def shop(room: Room) -> Workshop:
    return Workshop(room)


def at(uri: str) -> dict[str, Any]:
    return {"destination": {"s3Destination": {"s3Uri": uri}}}


def test_life(shop: Workshop) -> None:
    client, own = shop.ml(), shop.own()
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_ml_configuration(**own)
    shop.configure()
    first = client.get_ml_configuration(**own)
    assert first["membershipIdentifier"] == shop.memberships["runner"]
    assert first["defaultOutputLocation"]["roleArn"] == shop.role("runner")
    uri = first["defaultOutputLocation"]["destination"]["s3Destination"]["s3Uri"]
    assert uri == f"s3://results-{shop.account('runner')}/room"
    assert isinstance(first["createTime"], datetime)
    shop.configure(roleArn=shop.role("runner"), **at("s3://other/place"))
    second = client.get_ml_configuration(**own)
    assert second["defaultOutputLocation"] == {"roleArn": shop.role("runner"), **at("s3://other/place")}
    assert second["createTime"] == first["createTime"]
    assert second["updateTime"] >= first["updateTime"]
    client.delete_ml_configuration(**own)
    for method in (client.get_ml_configuration, client.delete_ml_configuration):
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            method(**own)


def test_a_destination_may_be_left_out(shop: Workshop) -> None:
    shop.configure("vendor", roleArn=shop.role("vendor"))
    found = shop.ml("vendor").get_ml_configuration(**shop.own("vendor"))
    assert found["defaultOutputLocation"] == {"roleArn": shop.role("vendor")}


def test_a_role_of_another_account(shop: Workshop) -> None:
    with pytest.raises(shop.ml().exceptions.AccessDeniedException, match=shop.account("owner")):
        shop.configure("owner", roleArn=shop.role("runner"))
    with pytest.raises(shop.ml().exceptions.ResourceNotFoundException):
        shop.ml("owner").get_ml_configuration(**shop.own("owner"))


@pytest.mark.parametrize(
    "uri",
    ["https://bucket/x", "s3://", "s3://Bucket/x", "s3://bucket/../up", "s3://bucket//x", "s3://1.2.3.4/x"],
)
def test_a_destination_that_cannot_be(shop: Workshop, uri: str) -> None:
    with pytest.raises(shop.ml().exceptions.ValidationException):
        shop.configure("owner", roleArn=shop.role("owner"), **at(uri))


def test_it_is_nobody_elses(shop: Workshop) -> None:
    shop.configure("vendor")
    client = shop.ml("owner")
    for method in (client.get_ml_configuration, client.delete_ml_configuration):
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            method(**shop.own("vendor"))
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.put_ml_configuration(
            **shop.own("vendor"), defaultOutputLocation={"roleArn": shop.role("owner")}
        )


def test_after_the_collaboration_ended(room: Room) -> None:
    shop = Workshop(room)
    shop.configure()
    shop.cleanrooms("owner").delete_collaboration(collaborationIdentifier=shop.id)
    assert shop.ml().get_ml_configuration(**shop.own())["defaultOutputLocation"]
    with pytest.raises(shop.ml().exceptions.AccessDeniedException):
        shop.configure()
    shop.ml().delete_ml_configuration(**shop.own())
