"""Protected jobs over boto3, at the door: templates, who may run them, who receives, who pays."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from lib.room import Room, everything, pays, running
from lib.scripts import EVERYTHING, Studio
from lib.workshop import limited, work
from passbox.backends.runtimes.base import Isolation

PAYER = "jobComputePayerAccountId"
RECEIVER = "resultConfiguration.outputConfiguration.member.accountId"
LEAST = 32 * 600 * 1000  # milli-CRPU-seconds of 16 CR.1X for ten minutes
NAMED = {"name": "least", "type": "STRING"}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


@pytest.fixture
def studio(room: Room) -> Studio:
    return Studio(room)


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Studio]:
    """In a room of its own, whose work is then done without what could run a script."""
    with running(tmp_path) as room:
        yield Studio(room)


@pytest.fixture(scope="module")
def shared(room: Room) -> Studio:
    """For tests that submit nothing which stays."""
    return Studio(room)


@pytest.fixture(scope="module")
def template(shared: Studio) -> Any:
    return shared.script(EVERYTHING)


def refuses(studio: Studio, words: str, template: Any, **changes: Any) -> Any:
    with pytest.raises(studio.client().exceptions.ValidationException, match=words) as caught:
        studio.run(template, **changes)
    return caught.value.response


def refuses_template(studio: Studio, words: str, field: str, *tables: str, **changes: Any) -> None:
    studio.put(EVERYTHING, "here/main.py")
    key = changes.pop("key", "here/main.py")
    request = studio.template_request(key, *tables, **changes)
    client = studio.client("partner")
    with pytest.raises(client.exceptions.ValidationException, match=words) as caught:
        client.create_analysis_template(**request)
    assert [one["name"] for one in caught.value.response["fieldList"]] == [field]


def test_a_template_shows_hashes_and_its_place_to_its_author_only(studio: Studio) -> None:
    sha256 = studio.put(EVERYTHING, "code/main.py")
    more = studio.put(b"\x1f\x8b packed", "code/libraries.tar.gz")
    parameters = [{**NAMED, "defaultValue": "7"}]
    request = studio.template_request(
        "code/main.py",
        "people",
        "later",
        libraries="code/libraries.tar.gz",
        analysisParameters=parameters,
        errorMessageConfiguration={"type": "DETAILED"},
    )
    partner = studio.client("partner")
    made = partner.create_analysis_template(**request)["analysisTemplate"]
    hashes = {"entryPointHash": {"sha256": sha256}, "additionalArtifactHashes": [{"sha256": more}]}
    assert made["source"] == request["source"]
    assert made["sourceMetadata"] == {"artifacts": hashes}
    assert (made["format"], made["schema"]) == ("PYSPARK_1_0", {"referencedTables": ["people", "later"]})
    assert made["analysisParameters"] == parameters
    assert made["errorMessageConfiguration"] == {"type": "DETAILED"}
    own = {**studio.own("partner"), "analysisTemplateIdentifier": made["id"]}
    assert partner.get_analysis_template(**own)["analysisTemplate"] == made
    whole = {"collaborationIdentifier": studio.id}
    for party in ("owner", "runner", "partner"):
        client = studio.client(party)
        seen = client.get_collaboration_analysis_template(**whole, analysisTemplateArn=made["arn"])
        shown = seen["collaborationAnalysisTemplate"]
        assert "source" not in shown
        for member in ("sourceMetadata", "schema", "format", "analysisParameters", "name"):
            assert shown[member] == made[member]
        both = client.batch_get_collaboration_analysis_template(**whole, analysisTemplateArns=[made["arn"]])
        assert both["collaborationAnalysisTemplates"] == [shown]
    studio.put("something else", "code/main.py")
    assert partner.get_analysis_template(**own)["analysisTemplate"] == made


def test_templates_that_cannot_be(shared: Studio) -> None:
    place = "source.artifacts.entryPoint.location"
    tables = "schema.referencedTables"
    refuses_template(shared, "1 to 15", tables)
    refuses_template(shared, "1 to 15", tables, *(f"t{n}" for n in range(16)))
    refuses_template(shared, "people twice", tables, "people", "People")
    refuses_template(shared, "is not there", place, "people", key="nothing/main.py")
    refuses_template(shared, r"end in \.py", place, "people", key="here/main.txt")
    refuses_template(shared, "valid name", place, "people", key="here/main-2.py")
    libraries = "source.artifacts.additionalArtifacts[0].location"
    refuses_template(shared, r"end in \.tar\.gz", libraries, "people", libraries="here/libraries.zip")
    refuses_template(shared, "is not there", libraries, "people", libraries="here/libraries.tar.gz")
    wrong = {"name": "n", "type": "BIGINT"}
    refuses_template(shared, "STRING", "analysisParameters", "people", analysisParameters=[wrong])
    wrong = {"name": "1st", "type": "STRING"}
    refuses_template(shared, "start with", "analysisParameters", "people", analysisParameters=[wrong])
    refuses_template(shared, "twice", "analysisParameters", "people", analysisParameters=[NAMED, NAMED])
    shared.put(EVERYTHING, "here/main.py")
    request = shared.template_request("here/main.py", "people")
    request["source"]["artifacts"]["roleArn"] = shared.role("owner")
    client = shared.client("partner")
    with pytest.raises(client.exceptions.AccessDeniedException):
        client.create_analysis_template(**request)


def test_life(studio: Studio) -> None:
    template = studio.script(EVERYTHING)
    worker = {"worker": {"type": "CR.4X", "number": 4}}
    job = studio.run(template, computeConfiguration=worker)
    assert (job["status"], job["computeConfiguration"]) == ("SUBMITTED", worker)
    assert job["membershipId"] == studio.memberships["runner"]
    assert job["jobParameters"] == {"analysisTemplateArn": template["arn"]}
    member = {"member": {"accountId": studio.accounts["partner"]}}
    assert job["resultConfiguration"] == {"outputConfiguration": member}
    assert job[PAYER] == studio.accounts["runner"]
    assert isinstance(job["createTime"], datetime)
    assert not {"statistics", "result", "error"} & set(job)
    assert studio.job(job["id"]) == job
    assert studio.entries() == [("reserve", "runner", 32 * 600 * 1000)]
    [summary] = studio.client().list_protected_jobs(**studio.own())["protectedJobs"]
    direct = {"receiverAccountIds": [studio.accounts["partner"]]}
    assert summary == {
        **{key: job[key] for key in ("id", "membershipId", "membershipArn", "createTime", "status", PAYER)},
        "receiverConfigurations": [
            {
                "analysisType": "DIRECT_ANALYSIS",
                "configurationDetails": {"directAnalysisConfigurationDetails": direct},
            }
        ],
    }
    called_off = studio.call_off(job["id"])
    assert called_off["status"] == "CANCELLING"
    client = studio.client()
    with pytest.raises(client.exceptions.ConflictException):
        studio.call_off(job["id"])


def test_lists(studio: Studio) -> None:
    template = studio.script(EVERYTHING)
    ids = [studio.run(template)["id"] for _ in range(3)]
    listed = everything(studio.client().list_protected_jobs, "protectedJobs", **studio.own())
    assert [one["id"] for one in listed] in (ids, ids[::-1])
    studio.call_off(ids[1])
    waiting = studio.client().list_protected_jobs(**studio.own(), status="SUBMITTED")["protectedJobs"]
    assert {one["id"] for one in waiting} == {ids[0], ids[2]}


def test_nobody_else_sees_or_runs_a_job(studio: Studio) -> None:
    template = studio.script(EVERYTHING)
    job = studio.run(template)
    for party in ("owner", "partner"):
        client = studio.client(party)
        assert client.list_protected_jobs(**studio.own(party))["protectedJobs"] == []
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            studio.job(job["id"], party)
        request = {**studio.job_request(template), **studio.own(party)}
        with pytest.raises(client.exceptions.AccessDeniedException, match="CAN_RUN_JOB"):
            client.start_protected_job(**request)
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            client.start_protected_job(**studio.job_request(template))


def test_who_can_only_query_runs_no_job(room: Room) -> None:
    class Queries(Studio):
        RUNS = ("CAN_QUERY", "CAN_RECEIVE_RESULTS")

    studio = Queries(room)
    client = studio.client()
    with pytest.raises(client.exceptions.AccessDeniedException, match="CAN_RUN_JOB"):
        studio.run(studio.script(EVERYTHING))


def test_templates_that_may_not_run(studio: Studio) -> None:
    missing = {"arn": studio.script(EVERYTHING)["arn"][:-36] + str(uuid4())}
    with pytest.raises(studio.client().exceptions.ResourceNotFoundException):
        studio.run(missing)
    refuses(
        studio, "SQL's; run it with StartProtectedQuery", {"arn": studio.template("SELECT id FROM visits")}
    )
    refuses(studio, "not in the collaboration", studio.script(EVERYTHING, "nowhere"))
    # `visits` is for queries only, and `people` for what the partner wrote
    refuses(studio, "analysisMethod", studio.script(EVERYTHING, "visits"))
    studio.receive("runner")
    refused = refuses(studio, "allowedAnalysisProviders", studio.script(EVERYTHING, party="runner"))
    assert refused["fieldList"][0]["name"] == "jobParameters.analysisTemplateArn"
    studio.lend("listed", "id\n1\n", {"allowedAnalyses": [studio.script(EVERYTHING)["arn"]]})
    refuses(studio, "allowedAnalyses", studio.script(EVERYTHING, "listed"))
    studio.lend("elsewhere", "id\n1\n", receivers=["runner"])
    refuses(studio, "allowedResultReceivers", studio.script(EVERYTHING, "elsewhere"))
    assert studio.entries() == []


def test_a_query_by_a_script_is_refused(shared: Studio, template: Any) -> None:
    client = shared.client()
    with pytest.raises(client.exceptions.ValidationException, match="StartProtectedJob"):
        shared.start_template(template["arn"])


def test_who_receives(studio: Studio, shared: Studio, template: Any) -> None:
    refused = refuses(
        shared,
        f"created it, {shared.accounts['partner']}",
        template,
        resultConfiguration={"outputConfiguration": shared.member("runner")},
    )
    assert refused["fieldList"][0]["name"] == RECEIVER
    named = studio.script(EVERYTHING)
    job = studio.run(named, resultConfiguration={"outputConfiguration": studio.member("partner")})
    assert job["resultConfiguration"] == {"outputConfiguration": studio.member("partner")}
    # the owner writes a script, and may not receive
    refuses(studio, "CAN_RECEIVE_RESULTS", studio.script(EVERYTHING, party="owner"))
    refuses(studio, "defaultJobResultConfiguration", studio.script(EVERYTHING, party="runner"))
    studio.receive("partner", keyPrefix="a/../b")
    message = refuses(studio, "nothing can be delivered", named)["Error"]["Message"]
    assert "partner-own" not in message


def test_parameters(shared: Studio) -> None:
    declared = [NAMED, {"name": "most", "type": "STRING", "defaultValue": "9"}]
    template = shared.script(EVERYTHING, analysisParameters=declared)
    refuses(shared, "least must be given", template)
    refuses(shared, "least must be given", template, parameters={"most": "1"})
    refuses(
        shared, "no parameter other; its parameters are: least, most", template, parameters={"other": "1"}
    )
    refuses(shared, "its parameters are: none", shared.script(EVERYTHING), parameters={"least": "1"})


@pytest.mark.parametrize(
    ("type", "number", "allowed"),
    [
        ("CR.1X", 4, True),
        ("CR.1X", 128, True),
        ("CR.1X", 129, False),
        ("CR.4X", 32, True),
        ("CR.4X", 33, False),
    ],
)
def test_workers(room: Room, type: str, number: int, allowed: bool) -> None:
    studio = Studio(room)
    made, worker = studio.script(EVERYTHING), {"worker": {"type": type, "number": number}}
    if not allowed:
        refuses(studio, "worker.number must be 4 to", made, computeConfiguration=worker)
        return
    studio.run(made, computeConfiguration=worker)
    crpu = {"CR.1X": 2, "CR.4X": 8}[type] * number
    assert studio.entries() == [("reserve", "runner", crpu * 600 * 1000)]


def test_spark_properties_are_refused(shared: Studio, template: Any) -> None:
    worker = {"type": "CR.1X", "number": 4, "properties": {"spark": {"spark.sql.shuffle.partitions": "4"}}}
    refuses(shared, "scripts run without a Spark", template, computeConfiguration={"worker": worker})


@pytest.mark.parametrize(
    ("payment", "named", "outcome"),
    [
        ({}, None, "runner"),
        ({}, "runner", "runner"),
        ({}, "owner", "not a payer candidate"),
        # the runner is a candidate for jobs whoever else is named
        ({"owner": pays(job=True)}, None, "must be given"),
        ({"owner": pays(job=True)}, "owner", "owner"),
        ({"owner": pays(job=True)}, "runner", "runner"),
        ({"owner": pays(job=True), "partner": pays(job=True)}, "partner", "partner"),
        ({"guest": pays(job=True)}, "guest", "not an active member"),
        ({"owner": pays(query=True)}, "owner", "not a payer candidate"),
    ],
    ids=range(9),
)
def test_payers(room: Room, payment: Any, named: str | None, outcome: str) -> None:
    studio = Studio(room, payment)
    made = studio.script(EVERYTHING)
    choice = {} if named is None else {PAYER: studio.accounts[named]}
    if outcome not in studio.accounts:
        message = refuses(studio, outcome, made, **choice)["Error"]["Message"]
        assert PAYER in message
        assert studio.entries() == []
        return
    assert studio.run(made, **choice)[PAYER] == studio.accounts[outcome]
    assert studio.entries() == [("reserve", outcome, LEAST)]


def test_a_payer_that_declines(room: Room) -> None:
    studio = Studio(room, {"owner": pays(job=True)})
    made, owner = studio.script(EVERYTHING), {PAYER: studio.accounts["owner"]}
    kept = studio.run(made, **owner)
    studio.client("owner").update_membership(
        **studio.own("owner"), membershipPaymentConfiguration={"jobCompute": {"isResponsible": False}}
    )
    refuses(studio, "does not accept", made, **owner)
    assert studio.job(kept["id"])[PAYER] == studio.accounts["owner"]


def test_an_estimate_and_a_cap(room: Room) -> None:
    studio = Studio(room, {"owner": pays(job=True)})
    made = studio.script(EVERYTHING)
    request = {**studio.job_request(made), PAYER: studio.accounts["owner"]}
    estimate = room.passbox(studio.accounts["runner"]).estimate_cost(
        **studio.own(), operation="StartProtectedJob", parameters=request
    )
    [cost] = estimate["costs"]
    assert (cost["costType"], cost["payerAccountId"]) == ("JOB_COMPUTE", studio.accounts["owner"])
    assert (cost["quantityMilliUnits"], cost["unit"]) == (LEAST, "CRPU-seconds")
    # 32 CRPU for a sixth of an hour at $2.00
    assert estimate["totalMicroDollars"] == cost["amountMicroDollars"] == -(-32 * 2_000_000 // 6)
    assert studio.entries() == []
    room.passbox(studio.accounts["owner"]).put_spend_cap(
        **studio.own("owner"),
        costType="JOB_COMPUTE",
        period="MONTH",
        limitMicroDollars=estimate["totalMicroDollars"],
    )
    studio.run(made, **{PAYER: studio.accounts["owner"]})
    with pytest.raises(studio.client().exceptions.ServiceQuotaExceededException):
        studio.run(made, **{PAYER: studio.accounts["owner"]})
    studio.run(made, **{PAYER: studio.accounts["runner"]})


def test_a_job_uses_each_of_its_tables_once(studio: Studio) -> None:
    association = studio.lend("rare", "id\n1\n")
    place = f"membership/{studio.memberships['owner']}/configuredtableassociation/{association}"
    arn = f"arn:aws:cleanrooms:us-east-1:{studio.accounts['owner']}:{place}"
    budget = {"resourceArn": arn, "budgetParameters": [{"type": "LIFETIME", "budget": 1}]}
    studio.client("owner").create_privacy_budget_template(
        **studio.own("owner"),
        privacyBudgetType="ACCESS_BUDGET",
        autoRefresh="NONE",
        parameters={"accessBudget": budget},
    )
    made = studio.script(EVERYTHING, "people", "rare")
    studio.run(made)
    refuses(studio, "has no use left", made)
    studio.run(studio.script(EVERYTHING))


def test_the_quota(tmp_path: Path) -> None:
    with limited(tmp_path, protected_jobs_per_membership=1) as room:
        studio = Studio(room)
        made = studio.script(EVERYTHING)
        studio.run(made)
        with pytest.raises(studio.client().exceptions.ServiceQuotaExceededException) as caught:
            studio.run(made)
        assert caught.value.response["quotaName"] == "protected jobs per membership"


def test_no_job_runs_below_the_isolation_that_is_demanded(apart: Studio) -> None:
    apart.room.passbox(apart.accounts["owner"]).put_isolation_demand(**apart.own("owner"), isolation="SEALED")
    job = apart.run(apart.script(EVERYTHING))
    work(apart.room, Isolation.DEGRADED)
    failed = apart.job(job["id"])
    assert (failed["status"], failed["error"]["code"]) == ("FAILED", "INVALID_RESOURCE")
    assert "demands the isolation SEALED" in failed["error"]["message"]
    assert [kind for kind, _, _ in apart.entries()] == ["reserve", "void"]


def test_rules_and_receivers_are_asked_again_when_a_job_begins(apart: Studio) -> None:
    made = apart.script(EVERYTHING)
    waiting = apart.run(made)
    apart.client("partner").delete_analysis_template(
        **apart.own("partner"), analysisTemplateIdentifier=made["id"]
    )
    work(apart.room)
    assert apart.job(waiting["id"])["error"]["code"] == "RESOURCE_NOT_FOUND"
    association = apart.lend("lent", "id\n1\n")
    job = apart.run(apart.script(EVERYTHING, "lent"))
    apart.allow(association, "CUSTOM", ["runner"], verb="update")
    work(apart.room)
    error = apart.job(job["id"])["error"]
    assert (error["code"], error["retry"]) == ("RESOURCE_ACCESS_DENIED", {"retryable": False})
    assert "allowedResultReceivers" in error["message"]
    assert {kind for kind, _, _ in apart.entries()} == {"reserve", "void"}


def test_why_a_job_failed_is_told_to_its_submitter_alone(apart: Studio) -> None:
    made = apart.script(EVERYTHING)
    job = apart.run(made)
    apart.place(made["source"]["artifacts"]["entryPoint"]["location"]["key"]).unlink()
    work(apart.room)
    explain = apart.room.passbox(apart.accounts["runner"]).explain_job
    found = explain(**apart.own(), jobIdentifier=job["id"])
    assert (found["kind"], found["status"]) == ("PROTECTED_JOB", "FAILED")
    assert found["explanation"]["statusCode"] == "INVALID_RESOURCE"
    client = apart.room.passbox(apart.accounts["partner"])
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.explain_job(**apart.own("partner"), jobIdentifier=job["id"])
