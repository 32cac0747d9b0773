"""Protected queries over boto3: who receives, who pays, what is refused, and what the record says."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from lib.queries import QUERY, RECEIVES, Desk, s3
from lib.room import Room, everything, pays, running
from lib.workshop import Pretends, limited, work

PAYER = "queryComputePayerAccountId"
OUTPUT = "resultConfiguration.outputConfiguration"
LEAST = 32 * 60 * 1000  # milli-CRPU-seconds of 16 CR.1X for a minute


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


@pytest.fixture
def desk(room: Room) -> Desk:
    return Desk(room)


@pytest.fixture(scope="module")
def shared(room: Room) -> Desk:
    """For tests that submit nothing which stays."""
    return Desk(room)


def finished(desk: Desk, query: Any, status: str = "SUCCESS") -> Any:
    work(desk.room)
    found = desk.get(query["id"])
    assert found["status"] == status, found
    return found


def refuses(desk: Desk, words: str, query: str = QUERY, output: Any = None, **changes: Any) -> None:
    with pytest.raises(desk.client().exceptions.ValidationException, match=words):
        desk.start(query, output, **changes)


def test_life(desk: Desk) -> None:
    worker = {"worker": {"type": "CR.4X", "number": 2}}
    started = desk.start(computeConfiguration=worker)
    arn = f"arn:aws:cleanrooms:us-east-1:{desk.accounts['runner']}:membership/{desk.memberships['runner']}"
    assert (started["membershipId"], started["membershipArn"]) == (desk.memberships["runner"], arn)
    assert (started["status"], started["sqlParameters"]) == ("SUBMITTED", {"queryString": QUERY})
    assert started["resultConfiguration"] == {"outputConfiguration": s3()}
    assert started["computeConfiguration"] == worker
    assert started[PAYER] == desk.accounts["runner"]
    assert isinstance(started["createTime"], datetime)
    assert not {"statistics", "result", "error"} & set(started)
    assert desk.get(started["id"]) == started
    done = finished(desk, started)
    assert done["result"] == {"output": {"s3": {"location": f"s3://results/room/{started['id']}/"}}}
    assert done["statistics"]["totalDurationInMillis"] > 0
    assert done["statistics"]["billedResourceUtilization"] == {"units": 16 * 90 / 3600}
    assert {key: done[key] for key in started if key != "status"} == {
        key: started[key] for key in started if key != "status"
    }
    [(name, file)] = desk.received("runner").items()
    assert name == f"results/room/{started['id']}/part-00000.csv"
    assert file.read_text() == '"id"\n1\n2\n'
    assert desk.entries() == [("reserve", "runner", 16 * 60_000), ("post", "runner", 16 * 90_000)]
    [summary] = desk.client().list_protected_queries(**desk.own())["protectedQueries"]
    direct = {"receiverAccountIds": [desk.accounts["runner"]]}
    assert summary == {
        **{key: done[key] for key in ("id", "membershipId", "membershipArn", "createTime", "status", PAYER)},
        "receiverConfigurations": [
            {
                "analysisType": "DIRECT_ANALYSIS",
                "configurationDetails": {"directAnalysisConfigurationDetails": direct},
            }
        ],
    }
    staging = desk.room.settings.vault / "staging"
    assert list(staging.iterdir()) == list(desk.room.settings.scratch.iterdir()) == []


@pytest.mark.parametrize("prefix", [None, "", "a/b"])
def test_prefixes(desk: Desk, prefix: str | None) -> None:
    query = desk.start(output=s3(prefix=prefix))
    finished(desk, query)
    folder = f"results/{prefix}/{query['id']}" if prefix else f"results/{query['id']}"
    assert set(desk.received("runner")) == {f"{folder}/part-00000.csv"}


def test_the_default_of_the_membership(desk: Desk) -> None:
    request = desk.request()
    del request["resultConfiguration"]
    with pytest.raises(desk.client().exceptions.ValidationException, match="UpdateMembership"):
        desk.client().start_protected_query(**request)
    desk.default("runner")
    query = desk.client().start_protected_query(**request)["protectedQuery"]
    location = {"bucket": "runner-own", "resultFormat": "CSV", "keyPrefix": "inbox"}
    assert query["resultConfiguration"] == {"outputConfiguration": {"s3": location}}
    desk.default("runner", bucket="another")  # it was settled when the query was submitted
    done = finished(desk, query)
    assert done["result"]["output"]["s3"]["location"] == f"s3://runner-own/inbox/{query['id']}/"
    assert set(desk.received("runner")) == {f"runner-own/inbox/{query['id']}/part-00000.csv"}


def test_another_member_receives(desk: Desk) -> None:
    desk.default("partner")
    query = desk.start(output=desk.member("partner"))
    done = finished(desk, query)
    # where the partner keeps it is not the runner's to know
    assert done["result"] == {"output": {"memberList": [{"accountId": desk.accounts["partner"]}]}}
    assert "partner-own" not in str(done)
    assert desk.received("runner") == {}
    assert set(desk.received("partner")) == {f"partner-own/inbox/{query['id']}/part-00000.csv"}
    assert desk.client("partner").list_protected_queries(**desk.own("partner"))["protectedQueries"] == []
    with pytest.raises(desk.client("partner").exceptions.ResourceNotFoundException):
        desk.get(query["id"], "partner")


def test_several_receive_the_same_rows(desk: Desk) -> None:
    import pyarrow.parquet as parquet

    desk.default("partner", resultFormat="PARQUET")
    query = desk.start(output=desk.distribute(s3(), desk.member("partner")))
    done = finished(desk, query)
    location = {"location": f"s3://results/room/{query['id']}/"}
    members = [{"accountId": desk.accounts["partner"]}]
    assert done["result"] == {"output": {"distribute": {"s3": location, "memberList": members}}}
    [text] = desk.received("runner").values()
    [binary] = desk.received("partner").values()
    assert text.read_text() == '"id"\n1\n2\n'
    assert parquet.read_table(binary)["id"].to_pylist() == [1, 2]
    assert [kind for kind, _, _ in desk.entries()] == ["reserve", "post"]


def test_who_cannot_receive(shared: Desk) -> None:
    account = shared.accounts
    stranger = {"member": {"accountId": shared.room.account()}}
    refuses(shared, f"{OUTPUT}.member: .* is not an active member", output=stranger)
    refuses(shared, f"{account['guest']} is not an active member", output=shared.member("guest"))
    refuses(shared, f"{account['owner']} does not have .*{RECEIVES}", output=shared.member("owner"))
    refuses(shared, "UpdateMembership", output=shared.member("partner"))
    refuses(
        shared, r"distribute.locations\[1\].member", output=shared.distribute(s3(), shared.member("partner"))
    )
    table = {"id": str(uuid4()), "name": "t", "arn": ""}
    table["arn"] = (
        f"arn:aws:cleanrooms:us-east-1:{account['runner']}:membership/{uuid4()}"
        f"/intermediatetable/{table['id']}"
    )
    refuses(shared, "intermediate tables are not available", output={"intermediateTable": table})
    assert shared.entries() == []


def test_a_runner_that_may_not_receive(room: Room) -> None:
    from lib.room import collaborate, join, named

    owner, runner = room.accounts(2)
    id = collaborate(room, owner, [named(runner, "CAN_QUERY")], RECEIVES)
    join(room, owner, id)
    membership = join(room, runner, id)
    client = room.cleanrooms(runner)
    for output in ({}, {"resultConfiguration": {"outputConfiguration": s3()}}):
        with pytest.raises(client.exceptions.ValidationException, match=f"{RECEIVES}.*{owner}"):
            client.start_protected_query(
                membershipIdentifier=membership,
                type="SQL",
                sqlParameters={"queryString": QUERY},
                **output,
            )


def test_a_distribution_that_cannot_be(shared: Desk) -> None:
    one, other = s3(), s3("others")
    refuses(shared, "one s3 location", output=shared.distribute(one, other))
    refuses(shared, "as s3, not as member", output=shared.distribute(one, shared.member("runner")))
    twice = [shared.member("partner")] * 2
    refuses(shared, "named twice", output=shared.distribute(*twice))
    refuses(shared, "locations", output=shared.distribute())


def test_locations_that_cannot_be(desk: Desk) -> None:
    refuses(desk, f"{OUTPUT}.s3: ", output=s3(prefix="a/../b"))
    refuses(desk, "bucket", output=s3("Results"))
    folder = desk.room.settings.accounts / desk.accounts["partner"] / "buckets"
    folder.mkdir(parents=True)
    (folder / "partner-own").write_text("a file where a folder must be")
    desk.default("partner")
    with pytest.raises(desk.client().exceptions.ValidationException) as refusal:
        desk.start(output=desk.member("partner"))
    message = str(refusal.value)
    assert desk.accounts["partner"] in message
    assert "partner-own" not in message


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT secret FROM visits", "custom.disallowedOutputColumns"),
        ("SELECT id FROM feeds", "custom.additionalAnalyses.*feeds"),
        ("SELECT id FROM narrow", "collaborationRule.allowedResultReceivers.*narrow"),
        ("SELECT id FROM visits v JOIN narrow n USING (id)", "."),
        ("SELECT id FROM visits WHERE id = :id", "parameter :id"),
        ("SELEC id FROM visits", "."),
        ("SELECT id FROM nowhere", "nowhere"),
    ],
)
def test_a_query_that_may_not_run(ruled: Desk, query: str, words: str) -> None:
    refuses(ruled, words, query)
    assert ruled.entries() == []


@pytest.fixture(scope="module")
def ruled(room: Room) -> Desk:
    """With tables that allow less: `feeds` may only feed a model, `narrow` be received by the partner."""
    desk = Desk(room)
    desk.bring("feeds", "id\n1\n", "CUSTOM", desk.any_query(additional="REQUIRED"))
    desk.bring("narrow", "id\n1\n", "CUSTOM", desk.any_query(), receivers=["partner"])
    desk.default("partner")
    return desk


def test_every_receiver_must_be_allowed(ruled: Desk) -> None:
    query = "SELECT id FROM narrow"
    refuses(ruled, ruled.accounts["runner"], query, ruled.distribute(s3(), ruled.member("partner")))
    finished(ruled, ruled.start(query, ruled.member("partner")))


def test_text_parameters_and_templates(desk: Desk) -> None:
    template = (
        f"arn:aws:cleanrooms:us-east-1:{desk.accounts['owner']}:membership/{uuid4()}"
        f"/analysistemplate/{uuid4()}"
    )
    for sql in ({}, {"queryString": QUERY, "analysisTemplateArn": template}):
        with pytest.raises(desk.client().exceptions.ValidationException, match="queryString or analysis"):
            desk.client().start_protected_query(**{**desk.request(), "sqlParameters": sql})
    with pytest.raises(desk.client().exceptions.ResourceNotFoundException, match="analysis template"):
        desk.client().start_protected_query(
            **{**desk.request(), "sqlParameters": {"analysisTemplateArn": template}}
        )
    refuses(desk, "type", type="PYTHON")
    query = desk.start("SELECT id FROM visits WHERE id = :id", sql={"parameters": {"id": "1"}})
    assert query["sqlParameters"]["parameters"] == {"id": "1"}
    finished(desk, query)


@pytest.mark.parametrize(
    ("worker", "words"),
    [
        ({"type": "CR.4X", "number": 33}, "computeConfiguration.worker.number must be 2 to 32"),
    ],
)
def test_workers_that_cannot_be(shared: Desk, worker: Any, words: str) -> None:
    refuses(shared, words, computeConfiguration={"worker": worker})


def test_the_payer(room: Room) -> None:
    paying = pays(query=True)
    desk = Desk(room, {"runner": paying, "partner": paying, "guest": paying})
    refuses(desk, f"{PAYER} must be given")
    for party in ("owner", "guest"):  # no candidate, and one that has not joined
        refuses(desk, f"{PAYER} {desk.accounts[party]}", **{PAYER: desk.accounts[party]})
    query = desk.start(**{PAYER: desk.accounts["partner"]})
    assert query[PAYER] == desk.accounts["partner"]
    done = finished(desk, query)
    [summary] = desk.client().list_protected_queries(**desk.own())["protectedQueries"]
    assert done[PAYER] == summary[PAYER] == desk.accounts["partner"]
    assert desk.entries() == [("reserve", "partner", LEAST), ("post", "partner", LEAST // 60 * 90)]


def test_a_payer_by_default(room: Room) -> None:
    desk = Desk(room, {"owner": pays(query=True)})
    assert desk.start()[PAYER] == desk.accounts["owner"]
    desk.client("owner").update_membership(
        **desk.own("owner"), membershipPaymentConfiguration=pays(query=False)
    )
    refuses(desk, "has not joined|has declined|must be an active member")


def test_an_estimate_is_what_is_reserved(room: Room) -> None:
    desk = Desk(room, {"runner": pays(query=True), "partner": pays(query=True)})
    payer = desk.accounts["partner"]
    request = {key: value for key, value in desk.request(**{PAYER: payer}).items() if key not in desk.own()}
    [cost] = room.passbox(desk.accounts["runner"]).estimate_cost(
        **desk.own(), operation="StartProtectedQuery", parameters=request
    )["costs"]
    assert (cost["payerAccountId"], cost["quantityMilliUnits"]) == (payer, LEAST)
    assert desk.entries() == []
    desk.start(**{PAYER: payer})
    assert desk.entries() == [("reserve", "partner", LEAST)]


def test_a_payers_cap_holds(room: Room) -> None:
    desk = Desk(room, {"partner": pays(query=True)})
    desk.room.passbox(desk.accounts["partner"]).put_spend_cap(
        **desk.own("partner"), costType="QUERY_COMPUTE", period="MONTH", limitMicroDollars=1_500_000
    )
    desk.start()  # $1.07 reserved
    with pytest.raises(desk.client().exceptions.ServiceQuotaExceededException, match="cap"):
        desk.start()
    assert [kind for kind, _, _ in desk.entries()] == ["reserve"]


def test_the_quota(tmp_path: Path) -> None:
    with limited(tmp_path, protected_queries_per_membership=1) as room:
        desk = Desk(room)
        query = desk.start()
        with pytest.raises(desk.client().exceptions.ServiceQuotaExceededException) as refusal:
            desk.start()
        assert refusal.value.response["quotaName"] == "protected queries per membership"
        assert desk.cancel(query["id"])["status"] == "CANCELLING"
        with pytest.raises(desk.client().exceptions.ServiceQuotaExceededException):
            desk.start()
        work(room)
        finished(desk, desk.start())


def test_who_may_call(desk: Desk) -> None:
    query = desk.start()
    with pytest.raises(desk.client("partner").exceptions.AccessDeniedException, match="CAN_QUERY"):
        desk.client("partner").start_protected_query(**{**desk.request(), **desk.own("partner")})
    unseen = desk.client().exceptions.ResourceNotFoundException
    with pytest.raises(unseen):
        desk.client().start_protected_query(**{**desk.request(), **desk.own("partner")})
    for party in ("partner", "owner"):
        with pytest.raises(desk.client(party).exceptions.ResourceNotFoundException, match="membership"):
            desk.client(party).get_protected_query(**desk.own(), protectedQueryIdentifier=query["id"])
        with pytest.raises(desk.client(party).exceptions.ResourceNotFoundException, match="protected query"):
            desk.get(query["id"], party)
        assert desk.client(party).list_protected_queries(**desk.own(party))["protectedQueries"] == []
    with pytest.raises(unseen):
        desk.get(str(uuid4()))
    other = Desk(desk.room)
    with pytest.raises(unseen):
        other.cancel(query["id"])
    assert finished(desk, query)


def test_lists(desk: Desk) -> None:
    first = [desk.start()["id"] for _ in range(3)]
    work(desk.room)
    last = desk.start()["id"]
    listed = desk.client().list_protected_queries
    ids = [one["id"] for one in everything(listed, "protectedQueries", **desk.own())]
    assert ids == [*first, last]
    for status, expected in (("SUCCESS", first), ("SUBMITTED", [last]), ("FAILED", [])):
        found = everything(listed, "protectedQueries", **desk.own(), status=status)
        assert [one["id"] for one in found] == expected


def test_a_cancel(desk: Desk) -> None:
    query = desk.start()["id"]
    conflict = desk.client().exceptions.ConflictException
    assert desk.cancel(query)["status"] == desk.get(query)["status"] == "CANCELLING"
    with pytest.raises(conflict, match="CANCELLING"):
        desk.cancel(query)
    work(desk.room)
    ended = desk.get(query)
    assert ended["status"] == "CANCELLED"
    assert ended["statistics"]["billedResourceUtilization"] == {"units": 0.0}
    assert not {"result", "error"} & set(ended)
    with pytest.raises(conflict, match="CANCELLED"):
        desk.cancel(query)
    assert [kind for kind, _, _ in desk.entries()] == ["reserve", "void"]
    assert desk.received("runner") == {}
    done = finished(desk, desk.start())["id"]
    with pytest.raises(conflict, match="SUCCESS"):
        desk.cancel(done)


def test_the_end_of_a_membership_cancels_its_queries(desk: Desk) -> None:
    query = desk.start()["id"]
    desk.client("owner").delete_member(collaborationIdentifier=desk.id, accountId=desk.accounts["runner"])
    work(desk.room)
    assert desk.get(query)["status"] == "CANCELLED"  # its own to read still
    assert desk.received("runner") == {}


def test_a_query_that_fails_costs_nothing(desk: Desk) -> None:
    query = desk.start("SELECT id FROM visits WHERE id = :fails", sql={"parameters": {"fails": "1"}})
    failed = finished(desk, query, "FAILED")
    assert failed["error"] == {
        "code": "INSUFFICIENT_COMPUTE",
        "message": "It failed, as its parameter says.",
        "retry": {"retryable": False},
    }
    assert failed["statistics"]["billedResourceUtilization"] == {"units": 0.0}
    assert "result" not in failed
    assert [kind for kind, _, _ in desk.entries()] == ["reserve", "void"]
    assert desk.received("runner") == {}


def test_a_query_that_takes_too_long_has_timed_out(desk: Desk) -> None:
    query = desk.start("SELECT id FROM visits WHERE id = :late", sql={"parameters": {"late": "1"}})
    late = finished(desk, query, "TIMED_OUT")
    assert late["error"]["code"] == "INSUFFICIENT_COMPUTE"
    assert late["statistics"]["billedResourceUtilization"] == {"units": 0.0}
    assert [kind for kind, _, _ in desk.entries()] == ["reserve", "void"]
    listed = desk.client().list_protected_queries(**desk.own(), status="TIMED_OUT")["protectedQueries"]
    assert [one["id"] for one in listed] == [query["id"] if isinstance(query, dict) else query]


def test_what_changes_before_it_runs(desk: Desk) -> None:
    """The worker asks again: a rule, a receiver and a table may have gone since the submission."""
    desk.default("partner")
    table = desk.bring("others", "id\n1\n", "CUSTOM", desk.any_query())
    query = desk.start("SELECT id FROM others")
    desk.allow(table, "CUSTOM", ["partner"], verb="update")
    error = finished(desk, query, "FAILED")["error"]
    assert (error["code"], desk.accounts["partner"] in error["message"]) == ("MALFORMED_QUERY", True)

    query = desk.start(output=desk.distribute(s3(), desk.member("partner")))
    removed = desk.accounts["partner"]
    desk.client("owner").delete_member(collaborationIdentifier=desk.id, accountId=removed)
    error = finished(desk, query, "FAILED")["error"]
    assert (error["code"], error["retry"]) == ("INVALID_RESOURCE", {"retryable": False})
    assert f"{removed} is not an active member" in error["message"]

    query = desk.start()
    catalog = desk.room.settings.accounts / desk.accounts["owner"] / "catalog" / "db" / "visits"
    (catalog / "part-0.csv").unlink()
    error = finished(desk, query, "FAILED")["error"]
    assert (error["code"], "visits" in error["message"]) == ("INVALID_RESOURCE", True)
    assert "catalog" not in error["message"]
    assert desk.received("runner") == {}
    assert {kind for kind, _, _ in desk.entries()} == {"reserve", "void"}


def test_a_place_that_became_unusable(desk: Desk) -> None:
    desk.default("partner")
    query = desk.start(output=desk.distribute(s3(), desk.member("partner")))
    folder = desk.room.settings.accounts / desk.accounts["partner"] / "buckets"
    folder.mkdir(parents=True)
    (folder / "partner-own").write_text("a file where a folder must be")
    error = finished(desk, query, "FAILED")["error"]
    assert (error["code"], "partner-own" in error["message"]) == ("INVALID_RESOURCE", False)
    assert desk.received("runner") == {}


def test_a_place_that_becomes_unusable_while_it_runs(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one cannot receive, nobody does, and what was posted is given back."""
    desk.default("partner")
    query = desk.start(output=desk.distribute(s3(), desk.member("partner")))
    folder = desk.room.settings.accounts / desk.accounts["partner"] / "buckets"
    run = Pretends.run

    def spoil(*arguments: Any) -> Any:
        folder.mkdir(parents=True)
        (folder / "partner-own").write_text("a file where a folder must be")
        return run(*arguments)

    monkeypatch.setattr(Pretends, "run", spoil)
    failed = finished(desk, query, "FAILED")
    assert failed["error"]["code"] == "INVALID_RESOURCE"
    assert "partner-own" not in str(failed)
    assert failed["statistics"]["billedResourceUtilization"] == {"units": 0.0}
    assert [kind for kind, _, _ in desk.entries()] == ["reserve", "post", "refund"]
    assert desk.received("runner") == {}


def test_who_received_something_did_not_get_it_for_nothing(desk: Desk) -> None:
    """A folder where the last receiver's file must be is seen by nobody before; the others have theirs."""
    desk.default("partner")
    query = desk.start(output=desk.distribute(s3(), desk.member("partner")))
    place = desk.room.settings.accounts / desk.accounts["partner"] / "buckets" / "partner-own" / "inbox"
    (place / query["id"] / "part-00000.csv").mkdir(parents=True)
    failed = finished(desk, query, "FAILED")
    assert "charged, since some were" in failed["error"]["message"]
    assert failed["statistics"]["billedResourceUtilization"]["units"] > 0
    assert [kind for kind, _, _ in desk.entries()] == ["reserve", "post"]
    assert desk.received("runner") != {}
