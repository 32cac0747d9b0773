"""Spark properties of queries and channels over boto3: set where there is a Spark, refused elsewhere."""

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lib.queries import QUERY, Desk
from lib.room import Room, refused, running
from lib.workshop import KINDS, Pretends, Workshop, work
from passbox.jobs import ml_input_channel

PARTITIONS, FAILURES = "spark.sql.shuffle.partitions", "spark.task.maxFailures"


class Records(Pretends):
    """An engine that says what it is and keeps what sessions it was asked for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.properties: list[dict[str, str]] = []

    def run(self, plan: Any, tables: Any, targets: Any, resources: Any, *more: Any) -> Any:
        self.properties.append(dict(resources.properties))
        return super().run(plan, tables, targets, resources, *more)


@pytest.fixture(scope="module")
def sail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("sail")) as room:
        yield room


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("spark"), spark_remote="sc://nowhere.invalid:15002") as room:
        yield room


def asks(**properties: str) -> dict[str, Any]:
    """A computeConfiguration; the keywords are what follows spark.sql."""
    named = {f"spark.sql.{key.replace('_', '.')}": value for key, value in properties.items()}
    return {"worker": {"type": "CR.1X", "number": 2, "properties": {"spark": named}}}


def test_a_query_sets_what_it_asks_for_on_its_session_alone(spark: Room) -> None:
    desk, engine = Desk(spark), Records("spark")
    asked = asks(shuffle_partitions="12", autoBroadcastJoinThreshold="10MB")
    started = desk.start(computeConfiguration=asked)
    assert started["computeConfiguration"] == asked
    work(spark, engine=engine)
    assert desk.get(started["id"])["computeConfiguration"] == asked
    desk.start(computeConfiguration={"worker": {"type": "CR.4X", "number": 2}})
    desk.start()
    work(spark, engine=engine)
    assert engine.properties == [
        {PARTITIONS: "12", "spark.sql.autoBroadcastJoinThreshold": "10485760"},
        {PARTITIONS: "32"},
        {PARTITIONS: "64"},
    ]


def test_a_channel_does_too(spark: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "ml_input_channel", ml_input_channel)  # the real one, down to the engine
    shop, engine = Workshop(spark), Records("spark")
    asked = asks(adaptive_enabled="false")
    arn = shop.channel("tuned", source={"computeConfiguration": asked})
    work(spark, engine=engine)
    found = shop.ml().get_ml_input_channel(**shop.own(), mlInputChannelArn=arn)
    source = found["inputChannel"]["dataSource"]["protectedQueryInputParameters"]
    assert (found["status"], source["computeConfiguration"]) == ("ACTIVE", asked)
    assert engine.properties == [{PARTITIONS: "8", "spark.sql.adaptive.enabled": "false"}]


def test_what_a_session_cannot_set_is_refused_at_every_door(spark: Room) -> None:
    desk, shop = Desk(spark), Workshop(spark)
    place = "computeConfiguration.worker.properties.spark"
    cases = {
        "spark.sql.shuffle.partition": "the nearest is spark.sql.shuffle.partitions",
        "spark.sql.warehouse.dir": "no Spark property that can be set",
        FAILURES: "Spark reads it when it starts",
    }
    for name, words in cases.items():
        worker = {"type": "CR.1X", "number": 2, "properties": {"spark": {name: "4"}}}
        for ask in (
            lambda compute: desk.start(computeConfiguration=compute),
            lambda compute: shop.channel("refused", source={"computeConfiguration": compute}),
            lambda compute: preview(desk, compute),
        ):
            with pytest.raises(ClientError, match=f"{place}.{name}: .*{words}") as caught:
                ask({"worker": worker})
            assert refused(caught.value)[0] == "ValidationException"
    assert desk.entries() == []


def preview(desk: Desk, compute: Any) -> Any:
    client = desk.room.passbox(desk.accounts["runner"])
    return client.preview_query(
        **desk.own(), sqlParameters={"queryString": QUERY}, computeConfiguration=compute
    )


def test_the_embedded_engine_says_that_it_has_none(sail: Room) -> None:
    desk, engine = Desk(sail), Records("sail")
    with pytest.raises(desk.client().exceptions.ValidationException, match="embedded engine has no such"):
        desk.start(computeConfiguration=asks(shuffle_partitions="12"))
    in_utc = {"worker": {"type": "CR.1X", "number": 2, "properties": {"spark": {}}}}
    in_utc["worker"]["properties"]["spark"]["spark.sql.session.timeZone"] = "UTC"
    desk.start(computeConfiguration=in_utc)
    work(sail, engine=engine)
    assert engine.properties == [{}]


def test_an_operator_who_changes_the_engine_fails_what_waits_for_a_spark(spark: Room) -> None:
    desk, engine = Desk(spark), Records("sail")
    started = desk.start(computeConfiguration=asks(shuffle_partitions="12"))
    work(spark, engine=engine)
    found = desk.get(started["id"])
    assert (found["status"], found["error"]["code"]) == ("FAILED", "INVALID_RESOURCE")
    assert PARTITIONS in found["error"]["message"]
    assert engine.properties == []
    assert [entry[0] for entry in desk.entries()] == ["reserve", "void"]
