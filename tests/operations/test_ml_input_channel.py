"""ML input channels over boto3: from the request to the row in everybody's view, and the book beside it."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from lib.room import Room, everything, pays, refused, running
from lib.workshop import QUERY, RECORDS, Workshop, expire, limited, work

COMPUTE = "payerConfiguration.computePayerAccountId"
SYNTHETIC = "payerConfiguration.syntheticDataPayerAccountId"
# what AWS shows to the creator alone, by the difference of the two shapes
HIDDEN = {"inputChannel", "kmsKeyArn", "numberOfFiles", "sizeInGb", "protectedQueryIdentifier", "tags"}
META = "ResponseMetadata"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


@pytest.fixture
def shop(room: Room) -> Workshop:
    return Workshop(room)


@pytest.fixture(scope="module")
def shared(room: Room) -> Workshop:
    """For tests that submit nothing which stays."""
    return Workshop(room)


def see(shop: Workshop, arn: str, party: str) -> Any:
    return shop.ml(party).get_collaboration_ml_input_channel(**shop.whole(), mlInputChannelArn=arn)


def delete(shop: Workshop, arn: str, party: str = "runner") -> Any:
    return shop.ml(party).delete_ml_input_channel_data(**shop.own(party), mlInputChannelArn=arn)


def test_life(shop: Workshop) -> None:
    kms = f"arn:aws:kms:us-east-1:{shop.account('runner')}:key/{uuid4()}"
    source = {"resultFormat": "CSV", "computeConfiguration": {"worker": {"type": "CR.4X", "number": 2}}}
    arn = shop.channel(source=source, description="all visits", tags={"team": "a"}, kmsKeyArn=kms)
    account, membership = shop.account("runner"), shop.memberships["runner"]
    prefix = f"arn:aws:cleanrooms-ml:us-east-1:{account}:membership/{membership}/ml-input-channel/"
    assert arn.startswith(prefix)
    found = shop.get_channel(arn)
    assert (found["mlInputChannelArn"], found["membershipIdentifier"]) == (arn, membership)
    assert (found["collaborationIdentifier"], found["name"]) == (shop.id, "visits")
    assert (found["description"], found["tags"], found["kmsKeyArn"]) == ("all visits", {"team": "a"}, kms)
    assert found["configuredModelAlgorithmAssociations"] == [shop.association]
    assert (found["status"], found["retentionInDays"]) == ("CREATE_PENDING", 1)
    assert found["statusDetails"] == {"statusCode": "IN_PROGRESS", "message": "waiting for a worker"}
    assert found["payerConfiguration"] == {"computePayerAccountId": account}
    assert found["inputChannel"] == shop.channel_request(source=source)["inputChannel"]
    assert len(found["protectedQueryIdentifier"]) == 36
    assert isinstance(found["createTime"], datetime)
    assert "numberOfRecords" not in found
    work(shop.room)
    done = shop.get_channel(arn)
    assert (done["status"], done["numberOfRecords"]) == ("ACTIVE", RECORDS)
    assert (done["numberOfFiles"], done["sizeInGb"]) == (1.0, 0.5)
    assert "statusDetails" not in done
    assert done["createTime"] == found["createTime"] <= done["updateTime"]
    [summary] = shop.ml().list_ml_input_channels(**shop.own())["mlInputChannelsList"]
    assert {key: done[key] for key in summary} == summary
    assert {"protectedQueryIdentifier", "payerConfiguration"} <= set(summary)
    assert delete(shop, arn)[META]["HTTPStatusCode"] == 200
    assert shop.get_channel(arn)["status"] == "DELETE_PENDING"
    work(shop.room)
    gone = shop.get_channel(arn)
    assert (gone["status"], gone["numberOfRecords"]) == ("INACTIVE", RECORDS)
    assert not any((shop.room.settings.vault / "ml_input_channel").glob(arn.rpartition("/")[2] + "*"))


def test_what_the_others_see(shop: Workshop) -> None:
    kms = f"arn:aws:kms:us-east-1:{shop.account('runner')}:key/{uuid4()}"
    arn = shop.channel(tags={"a": "b"}, kmsKeyArn=kms, description="seen by all")
    work(shop.room)
    own = shop.get_channel(arn)
    assert set(own) >= HIDDEN
    for party in ("runner", "vendor", "owner"):
        seen = see(shop, arn, party)
        assert seen["creatorAccountId"] == shop.account("runner")
        visible = {key: own[key] for key in own if key not in HIDDEN | {META}}
        assert {key: seen[key] for key in seen if key not in ("creatorAccountId", META)} == visible
        page = shop.ml(party).list_collaboration_ml_input_channels(**shop.whole())
        [summary] = page["collaborationMLInputChannelsList"]
        assert set(summary) & HIDDEN == set()
        assert {key: seen[key] for key in summary} == summary
    for party in ("vendor", "owner"):
        with pytest.raises(shop.ml(party).exceptions.ResourceNotFoundException):
            shop.ml(party).get_ml_input_channel(**shop.own(party), mlInputChannelArn=arn)
        assert shop.ml(party).list_ml_input_channels(**shop.own(party))["mlInputChannelsList"] == []
        with pytest.raises(shop.ml(party).exceptions.ResourceNotFoundException):
            delete(shop, arn, party)


def test_a_failure_is_told_to_all_and_costs_nothing(shop: Workshop) -> None:
    arn = shop.channel("fails")
    work(shop.room)
    for found in (shop.get_channel(arn), see(shop, arn, "owner")):
        assert found["status"] == "CREATE_FAILED"
        assert found["statusDetails"]["statusCode"] == "AlgorithmError"
        assert "numberOfRecords" not in found
    assert [entry["kind"] for entry in shop.transfers()] == ["reserve", "void"]
    assert shop.lines()[0]["posted"] == shop.lines()[0]["reserved"] == 0
    shop.channel("fails")  # the name is free again
    delete(shop, arn)


def test_the_order_of_the_checks(tmp_path: Any) -> None:
    """Each step mends what was refused before; what is wrong further on was wrong all the time."""
    with limited(tmp_path, ml_input_channels=1) as room:
        shop = Workshop(room, {"runner": pays(query=True), "vendor": pays(query=True)})
        elsewhere = Workshop(room, accounts=shop.accounts)
        payer = {"payerConfiguration": {"computePayerAccountId": shop.account("vendor")}}
        taken = shop.channel("taken", **payer)
        request: dict[str, Any] = {
            **shop.channel_request("taken", "SELECT ssn FROM visits"),
            "membershipIdentifier": str(uuid4()),
            "configuredModelAlgorithmAssociations": [elsewhere.association],
            "retentionInDays": 31,
            "payerConfiguration": {"syntheticDataPayerAccountId": shop.account("owner")},
        }

        def fails(code: str, words: str, party: str = "runner") -> None:
            with pytest.raises(ClientError) as refusal:
                shop.ml(party).create_ml_input_channel(**request)
            found, message = refused(refusal.value)
            assert (found, words in message) == (code, True), (found, message)

        fails("ValidationException", "retentionInDays")
        request["retentionInDays"] = 30
        fails("ResourceNotFoundException", "membership")
        request |= shop.own("owner")
        fails("ResourceNotFoundException", "membership")  # somebody else's
        fails("AccessDeniedException", "CAN_QUERY", "owner")
        request |= shop.own()
        fails("ResourceNotFoundException", "configured model algorithm association")
        other = shop.associate("second")
        request["configuredModelAlgorithmAssociations"] = [other]
        fails("ValidationException", "collaborationRule.allowedAdditionalAnalyses")
        shop.allow(shop.table, shop.association, other, verb="update")
        fails("ValidationException", "custom.disallowedOutputColumns")
        request["inputChannel"] = shop.channel_request()["inputChannel"]
        fails("ValidationException", f"{COMPUTE} must be given")
        request["payerConfiguration"] |= payer["payerConfiguration"]
        fails("ValidationException", SYNTHETIC)
        del request["payerConfiguration"]["syntheticDataPayerAccountId"]
        fails("ServiceQuotaExceededException", "quota")
        work(room)
        delete(shop, taken)
        shop.channel("taken", **payer)
        work(room)
        fails("ServiceQuotaExceededException", "quota")


def test_names_among_those_that_live(shop: Workshop) -> None:
    arn = shop.channel()
    for _ in range(2):
        with pytest.raises(shop.ml().exceptions.ConflictException, match="visits"):
            shop.channel()
        work(shop.room)
    delete(shop, arn)
    assert shop.channel() != arn


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT ssn FROM visits", r"custom.disallowedOutputColumns.*visits.*ssn|ssn"),
        ("SELECT nothing FROM visits", "nothing"),
        ("SELECT id FROM secret", "secret"),
        ("SELEC id FROM visits", "."),
        ("SELECT id FROM visits; DROP TABLE visits", "."),
    ],
)
def test_a_query_that_may_not_run(shared: Workshop, query: str, words: str) -> None:
    with pytest.raises(shared.ml().exceptions.ValidationException, match=words):
        shared.channel("refused", query=query)
    assert shared.transfers() == []


def test_a_query_or_a_template(shared: Workshop) -> None:
    source = "inputChannel.dataSource.protectedQueryInputParameters.sqlParameters"
    template = (
        f"arn:aws:cleanrooms:us-east-1:{shared.account('owner')}:membership/{uuid4()}"
        f"/analysistemplate/{uuid4()}"
    )
    request = shared.channel_request("refused")
    parameters = request["inputChannel"]["dataSource"]["protectedQueryInputParameters"]
    for wrong in ({}, {"queryString": QUERY, "analysisTemplateArn": template}):
        parameters["sqlParameters"] = wrong
        with pytest.raises(shared.ml().exceptions.ValidationException, match=source):
            shared.ml().create_ml_input_channel(**request)
    parameters["sqlParameters"] = {"analysisTemplateArn": template}
    with pytest.raises(shared.ml().exceptions.ResourceNotFoundException, match="analysis template"):
        shared.ml().create_ml_input_channel(**request)


@pytest.mark.parametrize(
    ("worker", "words"),
    [
        ({"type": "CR.1X", "number": 129}, "2 to 128"),
        ({"type": "CR.4X", "number": 33}, "2 to 32"),
        ({"type": "CR.8X", "number": 17}, "2 to 16"),
        ({"type": "CR.1X", "number": 1}, "number"),
        ({"type": "CR.2X", "number": 2}, "type"),
    ],
)
def test_workers_that_cannot_be(shared: Workshop, worker: dict[str, Any], words: str) -> None:
    with pytest.raises(shared.ml().exceptions.ValidationException, match=words):
        shared.channel("refused", source={"computeConfiguration": {"worker": worker}})


def test_a_role_of_another_account(shared: Workshop) -> None:
    request = shared.channel_request("refused")
    request["inputChannel"]["roleArn"] = shared.role("owner")
    with pytest.raises(shared.ml().exceptions.AccessDeniedException, match=shared.account("runner")):
        shared.ml().create_ml_input_channel(**request)


@pytest.mark.parametrize("tags", [{"aws:x": "1"}, {f"k{number}": "" for number in range(51)}])
def test_tags_that_cannot_be(shared: Workshop, tags: dict[str, str]) -> None:
    with pytest.raises(shared.ml().exceptions.ValidationException, match="tag"):
        shared.channel("refused", tags=tags)


def test_tags(shop: Workshop) -> None:
    arn = shop.channel(tags={"team": "a"})
    client = shop.ml()
    client.tag_resource(resourceArn=arn, tags={"team": "b", "x": "y"})
    client.untag_resource(resourceArn=arn, tagKeys=["x"])
    assert client.list_tags_for_resource(resourceArn=arn)["tags"] == {"team": "b"}
    assert shop.get_channel(arn)["tags"] == {"team": "b"}
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        shop.ml("owner").list_tags_for_resource(resourceArn=arn)


def test_deleting(shop: Workshop) -> None:
    client = shop.ml()
    arn = shop.channel()
    with pytest.raises(client.exceptions.ConflictException, match="CREATE_PENDING"):
        delete(shop, arn)
    work(shop.room)
    shop.configure()
    model = shop.model(arn)["trainedModelArn"]
    with pytest.raises(client.exceptions.ConflictException, match="in progress"):
        delete(shop, arn)
    work(shop.room)
    shop.inference(model, arn)
    with pytest.raises(client.exceptions.ConflictException, match="in progress"):
        delete(shop, arn)
    work(shop.room)
    delete(shop, arn)
    with pytest.raises(client.exceptions.ConflictException, match="DELETE_PENDING"):
        delete(shop, arn)
    with pytest.raises(client.exceptions.ConflictException, match="DELETE_PENDING"):
        shop.model(arn, "late")
    work(shop.room)
    with pytest.raises(client.exceptions.ConflictException, match="INACTIVE"):
        delete(shop, arn)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        delete(shop, f"{arn[:-36]}{uuid4()}")


def test_the_end_of_its_retention(shop: Workshop) -> None:
    """Rows are never taken from under a job, and nothing new begins once the time is over."""
    arn = shop.active_channel()
    expire(shop.room, arn)
    work(shop.room)
    assert shop.get_channel(arn)["status"] == "INACTIVE"
    arn = shop.active_channel("in use")
    model = shop.model(arn)["trainedModelArn"]
    expire(shop.room, arn)
    work(shop.room)  # the older job first: the deletion
    assert shop.ml().get_trained_model(**shop.own(), trainedModelArn=model)["status"] == "ACTIVE"
    assert shop.get_channel(arn)["status"] == "DELETE_PENDING"
    assert (shop.room.settings.vault / "ml_input_channel" / arn.rpartition("/")[2]).is_dir()
    with pytest.raises(shop.ml().exceptions.ConflictException, match="DELETE_PENDING"):
        shop.model(arn, "too late")
    expire(shop.room, arn)
    work(shop.room)
    assert shop.get_channel(arn)["status"] == "INACTIVE"
    assert not (shop.room.settings.vault / "ml_input_channel" / arn.rpartition("/")[2]).exists()
    # deleted by hand before: the calendar then finds nothing to do
    arn = shop.active_channel("by hand")
    delete(shop, arn)
    work(shop.room)
    expire(shop.room, arn)
    work(shop.room)
    assert shop.get_channel(arn)["status"] == "INACTIVE"


def test_both_lists_by_pages(shop: Workshop) -> None:
    arns = [shop.channel(f"n{number}") for number in range(5)]
    client = shop.ml()
    own = everything(client.list_ml_input_channels, "mlInputChannelsList", **shop.own())
    seen = everything(
        shop.ml("vendor").list_collaboration_ml_input_channels,
        "collaborationMLInputChannelsList",
        **shop.whole(),
    )
    for listed in (own, seen):
        assert [entry["mlInputChannelArn"] for entry in listed] == arns
    token = client.list_ml_input_channels(**shop.own(), maxResults=2)["nextToken"]
    for wrong in (
        lambda: client.list_collaboration_ml_input_channels(**shop.whole(), nextToken=token),
        lambda: client.list_ml_input_channels(**shop.own(), nextToken=token[:-4] + "AAAA"),
        lambda: client.list_ml_input_channels(**shop.own(), maxResults=101),
    ):
        with pytest.raises(client.exceptions.ValidationException):
            wrong()


def test_after_its_creator_left_it_is_out_of_sight(shop: Workshop) -> None:
    arn = shop.active_channel()
    shop.cleanrooms("owner").delete_member(collaborationIdentifier=shop.id, accountId=shop.account("runner"))
    with pytest.raises(shop.ml("owner").exceptions.ResourceNotFoundException):
        see(shop, arn, "owner")
    page = shop.ml("owner").list_collaboration_ml_input_channels(**shop.whole())
    assert page["collaborationMLInputChannelsList"] == []
    # it stays its creator's to read and to clear up
    assert shop.get_channel(arn)["status"] == "ACTIVE"
    delete(shop, arn)
    work(shop.room)
    assert shop.get_channel(arn)["status"] == "INACTIVE"
    with pytest.raises(shop.ml().exceptions.AccessDeniedException):
        shop.channel("another")


def test_the_book_beside_it(room: Room) -> None:
    shop = Workshop(room, {"runner": pays(query=True), "vendor": pays(query=True)})
    payer = {"payerConfiguration": {"computePayerAccountId": shop.account("vendor")}}
    shop.channel(**payer)
    [reserved] = shop.transfers()
    assert (reserved["kind"], reserved["payer"]) == ("reserve", shop.account("vendor"))
    assert (reserved["cost_type"], reserved["unit"]) == ("queryCompute", "usd_micro")
    # 16 workers of CR.1X are 32 CRPU; a minute is reserved, a minute and a half was measured
    assert (reserved["quantity"], reserved["quantity_unit"]) == (32 * 60 * 1000, "CRPU-seconds")
    work(room)
    [line] = shop.lines()
    assert (line["payer"], line["cost_type"], line["jobs"]) == (shop.account("vendor"), "queryCompute", 1)
    assert (line["quantity"], line["unit"]) == (32 * 90 * 1000, "CRPU-seconds")
    assert (line["posted"], line["reserved"]) == (1_600_000, 0)
    assert [entry["kind"] for entry in shop.transfers()] == ["reserve", "post"]


def test_the_quota_counts_what_lives(tmp_path: Any) -> None:
    with limited(tmp_path, ml_input_channels=2) as room:
        shop = Workshop(room)
        first = shop.channel("a")
        shop.channel("fails")
        with pytest.raises(shop.ml().exceptions.ServiceQuotaExceededException) as full:
            shop.channel("c")
        answer = full.value.response
        assert (answer["quotaName"], answer["quotaValue"]) == ("ml input channels", 2)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 402
        work(room)
        shop.channel("c")
        with pytest.raises(shop.ml().exceptions.ServiceQuotaExceededException):
            shop.channel("d")
        delete(shop, first)
        shop.channel("d")
        assert len(shop.transfers()) == len({entry["id"] for entry in shop.transfers()})
