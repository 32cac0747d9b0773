"""What members demand of the seal of every job, and that no job runs below it."""

from collections.abc import Iterator
from typing import Any

import pytest

from lib.room import Room, running
from lib.workshop import Workshop, work
from passbox.backends.runtimes.base import Isolation


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


class Shop(Workshop):
    def demand(self, level: str, party: str = "owner") -> Any:
        client = self.room.passbox(self.account(party))
        return client.put_isolation_demand(**self.own(party), isolation=level)["isolationDemand"]

    def holds(self, party: str = "runner") -> Any:
        client = self.room.passbox(self.account(party))
        return client.get_isolation_demand(**self.whole())

    def reached(self, party: str, kind: str = "TRAINED_MODEL") -> list[Any]:
        pages = self.room.passbox(self.account(party)).get_paginator("list_job_isolations")
        found = pages.paginate(**self.whole(), jobKind=kind, PaginationConfig={"PageSize": 1})
        return [one for page in found for one in page["jobIsolations"]]


@pytest.fixture
def shop(room: Room) -> Shop:
    return Shop(room)


def test_nobody_demands_anything_at_first(shop: Shop) -> None:
    found = shop.holds()
    assert (found["isolation"], found["isolationDemands"]) == ("NONE", [])


def test_the_strictest_demand_holds_and_everybody_sees_whose_it_is(shop: Shop) -> None:
    shop.demand("DEGRADED", "runner")
    shop.demand("SEALED")
    for party in ("owner", "runner"):
        found = shop.holds(party)
        assert found["isolation"] == "SEALED"
        assert {one["accountId"]: one["isolation"] for one in found["isolationDemands"]} == {
            shop.account("owner"): "SEALED",
            shop.account("runner"): "DEGRADED",
        }
    first = shop.demand("NONE")
    assert shop.holds()["isolation"] == "DEGRADED"
    assert shop.demand("SEALED")["createTime"] == first["createTime"]


def test_a_member_that_has_left_demands_nothing(shop: Shop) -> None:
    shop.demand("SEALED", "vendor")
    assert shop.holds()["isolation"] == "SEALED"
    shop.ml("vendor").delete_configured_model_algorithm_association(
        **shop.own("vendor"), configuredModelAlgorithmAssociationArn=shop.association
    )
    shop.cleanrooms("vendor").delete_membership(**shop.own("vendor"))
    assert shop.holds()["isolation"] == "NONE"


# demanded × reached → whether a job runs
TABLE = """
NONE      none      runs
NONE      degraded  runs
NONE      sealed    runs
DEGRADED  none      fails
DEGRADED  degraded  runs
DEGRADED  sealed    runs
SEALED    none      fails
SEALED    degraded  fails
SEALED    sealed    runs
"""


@pytest.mark.parametrize("line", TABLE.split("\n")[1:-1])
def test_no_job_runs_below_what_is_demanded(shop: Shop, line: str) -> None:
    demanded, reached, what = line.split()
    visits = shop.active_channel()
    shop.demand(demanded)
    arn = shop.model(visits)["trainedModelArn"]
    work(shop.room, Isolation(reached))
    found = shop.ml().get_trained_model(**shop.own(), trainedModelArn=arn)
    if what == "runs":
        assert found["status"] == "ACTIVE"
        return
    assert found["status"] == "CREATE_FAILED"
    assert found["statusDetails"]["statusCode"] == "ISOLATION_NOT_REACHED"
    assert (
        f"demands the isolation {demanded}, and the worker's machine reaches {reached.upper()}"
        in (found["statusDetails"]["message"])
    )


def test_a_channel_is_held_to_it_as_well_and_tables_are_not_read(shop: Shop) -> None:
    shop.active_channel()
    shop.demand("SEALED")
    arn = shop.channel("another")
    work(shop.room, Isolation.NONE)
    found = shop.get_channel(arn)
    assert found["status"] == "CREATE_FAILED"
    assert found["statusDetails"]["statusCode"] == "ISOLATION_NOT_REACHED"


def test_every_member_sees_what_was_reached(shop: Shop) -> None:
    visits = shop.active_channel()
    models = [shop.model(visits, f"model {number}") for number in range(2)]
    for party in ("owner", "runner"):
        waiting = shop.reached(party)
        assert [one["jobArn"] for one in waiting] == [model["trainedModelArn"] for model in models]
        assert not any("isolation" in one for one in waiting)
    work(shop.room)
    for party in ("owner", "runner"):
        ended = shop.reached(party)
        assert [one["isolation"] for one in ended] == ["SEALED", "SEALED"]
        assert {one["creatorAccountId"] for one in ended} == {shop.account("runner")}
    assert len(shop.reached("owner", "ML_INPUT_CHANNEL")) == 1
