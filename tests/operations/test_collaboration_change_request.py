"""Change requests over boto3: who may do what when, what a change is, and the whole life of a payer."""

from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from lib.room import Room, collaborate, everything, join, named, pays, refused, running
from lib.workshop import Workshop, work

RESULTS, LOGS = "CAN_RECEIVE_RESULTS", "CAN_EXPORT_QUERY_ANALYSIS_LOG"
MODEL, INFERENCE = "CAN_RECEIVE_MODEL_OUTPUT", "CAN_RECEIVE_INFERENCE_OUTPUT"
AUTOMATIC = [
    "ADD_MEMBER",
    "GRANT_RECEIVE_RESULTS_ABILITY",
    "REVOKE_RECEIVE_RESULTS_ABILITY",
    "GRANT_EXPORT_QUERY_ANALYSIS_LOG_ABILITY",
    "REVOKE_EXPORT_QUERY_ANALYSIS_LOG_ABILITY",
]
ALL = pays(query=True, job=True, training=True, inference=True, synthetic=True)
NOTHING = pays(query=False, job=False, training=False, inference=False, synthetic=False)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


def of_member(
    account: str, *abilities: str, payment: Any = None, ml: list[str] | None = None, name: str | None = None
) -> dict[str, Any]:
    """A ChangeInput about a member."""
    member: dict[str, Any] = {"accountId": account, "memberAbilities": list(abilities)}
    if payment is not None:
        member["paymentConfiguration"] = payment
    if ml is not None:
        member["mlMemberAbilities"] = {"customMLMemberAbilities": ml}
    if name is not None:
        member["displayName"] = name
    return {"specificationType": "MEMBER", "specification": {"member": member}}


def of_automatic(*types: str) -> dict[str, Any]:
    """A ChangeInput about what is approved automatically."""
    collaboration = {"autoApprovedChangeTypes": list(types)}
    return {"specificationType": "COLLABORATION", "specification": {"collaboration": collaboration}}


class Team:
    """A collaboration: the creator, who is the runner of queries and jobs, and others, who have joined unless
    `joined` is less than all.
    """

    def __init__(
        self,
        room: Room,
        *abilities: list[str],
        joined: int | None = None,
        ml: list[str] | None = None,
        payment: Any = None,
        creators: Any = None,
        automatic: list[str] | None = None,
    ) -> None:
        self.room = room
        self.creator, *self.others = room.accounts(1 + len(abilities))
        members = [
            named(account, *held, payment=payment, ml=ml)
            for account, held in zip(self.others, abilities, strict=True)
        ]
        more = {} if automatic is None else {"autoApprovedChangeRequestTypes": automatic}
        runner = ("CAN_QUERY", "CAN_RUN_JOB")
        self.id = collaborate(room, self.creator, members, *runner, payment=creators, **more)
        self.memberships = {self.creator: join(room, self.creator, self.id)}
        for account in self.others[:joined]:
            self.memberships[account] = join(room, account, self.id, payment)

    def whole(self) -> dict[str, str]:
        return {"collaborationIdentifier": self.id}

    def ask(self, *changes: dict[str, Any]) -> Any:
        client = self.room.cleanrooms(self.creator)
        answer = client.create_collaboration_change_request(**self.whole(), changes=[*changes])
        return answer["collaborationChangeRequest"]

    def refusal(self, *changes: dict[str, Any], code: str = "ValidationException") -> ClientError:
        """The refusal of a request, which leaves none behind."""
        before = self.requests()
        with pytest.raises(ClientError) as caught:
            self.ask(*changes)
        assert refused(caught.value)[0] == code
        assert self.requests() == before
        return caught.value

    def act(self, account: str, request: str, action: str) -> Any:
        answer = self.room.cleanrooms(account).update_collaboration_change_request(
            **self.whole(), changeRequestIdentifier=request, action=action
        )
        return answer["collaborationChangeRequest"]

    def get(self, request: str, account: str | None = None) -> Any:
        client = self.room.cleanrooms(account or self.creator)
        answer = client.get_collaboration_change_request(**self.whole(), changeRequestIdentifier=request)
        return answer["collaborationChangeRequest"]

    def requests(self) -> list[Any]:
        client = self.room.cleanrooms(self.creator)
        return list(
            client.list_collaboration_change_requests(**self.whole())["collaborationChangeRequestSummaries"]
        )

    def approved(self, *changes: dict[str, Any], voters: list[str] | None = None) -> str:
        """A request that all voters have approved."""
        request = self.ask(*changes)
        for voter in self.others if voters is None else voters:
            request = self.act(voter, request["id"], "APPROVE")
        assert request["status"] == "APPROVED"
        return str(request["id"])

    def commit(self, *changes: dict[str, Any], voters: list[str] | None = None) -> Any:
        return self.act(self.creator, self.approved(*changes, voters=voters), "COMMIT")

    def conflict(self, request: str, action: str = "COMMIT", account: str | None = None) -> str:
        """The message of a conflict, which changes nothing."""
        before, members = self.get(request), self.members()
        with pytest.raises(ClientError) as caught:
            self.act(account or self.creator, request, action)
        code, message = refused(caught.value)
        assert (code, caught.value.response["reason"]) == ("ConflictException", "INVALID_STATE")
        assert caught.value.response["resourceId"] == request
        assert (self.get(request), self.members()) == (before, members)
        return message

    def members(self) -> dict[str, Any]:
        listed = self.room.cleanrooms(self.creator).list_members(**self.whole())["memberSummaries"]
        return {one["accountId"]: one for one in listed}

    def membership(self, account: str) -> Any:
        client = self.room.cleanrooms(account)
        return client.get_membership(membershipIdentifier=self.memberships[account])["membership"]

    def remove(self, account: str) -> None:
        self.room.cleanrooms(self.creator).delete_member(**self.whole(), accountId=account)

    def leave(self, account: str) -> None:
        client = self.room.cleanrooms(account)
        client.delete_membership(membershipIdentifier=self.memberships[account])


# state × action × who → the status after it, or how it is refused. `late` joined after the request was made.
TRANSITIONS = """
state      action    creator    one        other      late      invited   stranger
PENDING    APPROVE   denied     PENDING    PENDING    denied    denied    unseen
PENDING    DENY      denied     DENIED     DENIED     denied    denied    unseen
PENDING    CANCEL    CANCELLED  denied     denied     denied    denied    unseen
PENDING    COMMIT    conflict   denied     denied     denied    denied    unseen
HALF       APPROVE   denied     conflict   APPROVED   denied    denied    unseen
HALF       DENY      denied     conflict   DENIED     denied    denied    unseen
HALF       CANCEL    CANCELLED  denied     denied     denied    denied    unseen
HALF       COMMIT    conflict   denied     denied     denied    denied    unseen
APPROVED   APPROVE   denied     conflict   conflict   denied    denied    unseen
APPROVED   DENY      denied     conflict   conflict   denied    denied    unseen
APPROVED   CANCEL    CANCELLED  denied     denied     denied    denied    unseen
APPROVED   COMMIT    COMMITTED  denied     denied     denied    denied    unseen
DENIED     APPROVE   denied     conflict   conflict   denied    denied    unseen
DENIED     DENY      denied     conflict   conflict   denied    denied    unseen
DENIED     CANCEL    conflict   denied     denied     denied    denied    unseen
DENIED     COMMIT    conflict   denied     denied     denied    denied    unseen
CANCELLED  APPROVE   denied     conflict   conflict   denied    denied    unseen
CANCELLED  DENY      denied     conflict   conflict   denied    denied    unseen
CANCELLED  CANCEL    conflict   denied     denied     denied    denied    unseen
CANCELLED  COMMIT    conflict   denied     denied     denied    denied    unseen
COMMITTED  APPROVE   denied     conflict   conflict   denied    denied    unseen
COMMITTED  DENY      denied     conflict   conflict   denied    denied    unseen
COMMITTED  CANCEL    conflict   denied     denied     denied    denied    unseen
COMMITTED  COMMIT    conflict   denied     denied     denied    denied    unseen
AUTO       APPROVE   denied     denied     denied     denied    denied    unseen
AUTO       DENY      denied     denied     denied     denied    denied    unseen
AUTO       CANCEL    conflict   denied     denied     denied    denied    unseen
AUTO       COMMIT    conflict   denied     denied     denied    denied    unseen
LATE       COMMIT    conflict   denied     denied     denied    denied    unseen
LATE       CANCEL    CANCELLED  denied     denied     denied    denied    unseen
LATE       APPROVE   denied     conflict   conflict   denied    denied    unseen
"""
HOW = {
    "PENDING": [],
    "HALF": [("one", "APPROVE")],
    "APPROVED": [("one", "APPROVE"), ("other", "APPROVE")],
    "LATE": [("one", "APPROVE"), ("other", "APPROVE")],
    "DENIED": [("one", "APPROVE"), ("other", "DENY")],
    "CANCELLED": [("creator", "CANCEL")],
    "COMMITTED": [("one", "APPROVE"), ("other", "APPROVE"), ("creator", "COMMIT")],
    "AUTO": [],
}
CODES = {
    "denied": "AccessDeniedException",
    "conflict": "ConflictException",
    "unseen": "ResourceNotFoundException",
}


class Scene:
    """A request in a state, with an account of every kind."""

    def __init__(self, room: Room, state: str, *, late: bool) -> None:
        automatic = ["GRANT_RECEIVE_RESULTS_ABILITY"] if state == "AUTO" else None
        self.team = team = Team(room, [], [], [], [], joined=2, automatic=automatic)
        one, other, joins, invited = team.others
        self.who = {"creator": team.creator, "one": one, "other": other, "late": joins, "invited": invited}
        self.who["stranger"] = room.account()
        self.request = team.ask(of_member(one, RESULTS))["id"]
        for who, action in HOW[state]:
            team.act(self.who[who], self.request, action)
        if late or state == "LATE":
            team.memberships[joins] = join(room, joins, team.id)
        self.before = team.get(self.request)


@pytest.mark.parametrize(
    "row", TRANSITIONS.strip().splitlines()[1:], ids=lambda row: "-".join(row.split()[:2])
)
def test_every_transition(room: Room, row: str) -> None:
    whos = TRANSITIONS.split("\n")[1].split()[2:]
    state, action, *results = row.split()
    unchanged = Scene(room, state, late=False)
    for who, expected in zip(whos, results, strict=True):
        # who is refused leaves the scene as it was
        fresh = who == "late" or expected not in CODES
        scene = Scene(room, state, late=who == "late") if fresh else unchanged
        if expected not in CODES:
            answer = scene.team.act(scene.who[who], scene.request, action)
            assert answer["status"] == expected
            assert answer == scene.team.get(scene.request)
            assert answer["updateTime"] >= scene.before["updateTime"]
            granted = scene.team.members()[scene.who["one"]]["abilities"] == [RESULTS]
            assert granted is (expected == "COMMITTED")
            continue
        with pytest.raises(ClientError) as caught:
            scene.team.act(scene.who[who], scene.request, action)
        code, message = refused(caught.value)
        assert code == CODES[expected], who
        if expected == "conflict":
            assert caught.value.response["reason"] == "INVALID_STATE"
            assert scene.before["status"] in message
            assert scene.who[who] in message or "possible" in message or "CANCEL" in message
        if expected == "denied":
            assert message.startswith("Only ")
        assert scene.team.get(scene.request) == scene.before


def test_life(room: Room) -> None:
    team = Team(room, [], [LOGS])
    one, other = team.others
    made = team.ask(of_member(one, RESULTS, ml=[MODEL], payment=pays(query=True)), of_automatic("ADD_MEMBER"))
    assert made["collaborationId"] == team.id
    assert (made["status"], made["isAutoApproved"]) == ("PENDING", False)
    assert made["approvals"] == {one: {"status": "PENDING"}, other: {"status": "PENDING"}}
    first, second = made["changes"]
    assert first["types"] == [
        "GRANT_RECEIVE_RESULTS_ABILITY",
        "GRANT_CAN_RECEIVE_MODEL_OUTPUT",
        "ADD_PAYER_CANDIDATE",
    ]
    assert second["types"] == ["EDIT_AUTO_APPROVED_CHANGE_TYPES"]
    assert first["specification"]["member"]["accountId"] == one
    assert second["specification"] == {"collaboration": {"autoApprovedChangeTypes": ["ADD_MEMBER"]}}
    assert {key: first[key] for key in ("specificationType", "specification")} == of_member(
        one, RESULTS, ml=[MODEL], payment=pays(query=True)
    )
    for reader in (team.creator, one, other):
        assert team.get(made["id"], reader) == made
    assert team.requests() == [made]
    voted = team.act(one, made["id"], "APPROVE")
    assert voted["approvals"] == {one: {"status": "APPROVED"}, other: {"status": "PENDING"}}
    assert team.act(other, made["id"], "APPROVE")["status"] == "APPROVED"
    before = team.room.cleanrooms(other).get_collaboration(**team.whole())["collaboration"]
    assert team.members()[one]["abilities"] == []
    done = team.act(team.creator, made["id"], "COMMIT")
    assert (done["status"], done["isAutoApproved"]) == ("COMMITTED", False)
    assert done["approvals"] == {one: {"status": "APPROVED"}, other: {"status": "APPROVED"}}

    member = team.members()[one]
    assert member["abilities"] == [RESULTS]
    assert member["mlAbilities"] == {"customMLMemberAbilities": [MODEL]}
    assert member["paymentConfiguration"]["queryCompute"] == {"isResponsible": True}
    assert member["status"] == "ACTIVE"
    own = team.membership(one)
    assert own["memberAbilities"] == [RESULTS]
    assert own["mlMemberAbilities"] == {"customMLMemberAbilities": [MODEL]}
    after = team.room.cleanrooms(other).get_collaboration(**team.whole())["collaboration"]
    assert after["autoApprovedChangeTypes"] == ["ADD_MEMBER"]
    assert after["updateTime"] >= done["createTime"]
    assert after["updateTime"] > before["updateTime"]
    [listed] = team.room.cleanrooms(one).list_collaborations()["collaborationList"]
    assert listed["updateTime"] == after["updateTime"]


class Case(NamedTuple):
    """What a member has, what is asked for it, and the types that this is."""

    has: list[str]
    ml: list[str] | None
    pays: dict[str, bool]
    asked: list[str]
    asked_ml: list[str] | None
    asked_pays: dict[str, bool] | None
    types: str


NO: dict[str, bool] = {}
CASES = {
    "results": Case([], None, NO, [RESULTS], None, None, "GRANT_RECEIVE_RESULTS_ABILITY"),
    "no results": Case([RESULTS], None, NO, [], None, None, "REVOKE_RECEIVE_RESULTS_ABILITY"),
    "logs": Case([], None, NO, [LOGS], None, None, "GRANT_EXPORT_QUERY_ANALYSIS_LOG_ABILITY"),
    "no logs": Case([LOGS], None, NO, [], None, None, "REVOKE_EXPORT_QUERY_ANALYSIS_LOG_ABILITY"),
    "one for the other": Case(
        [LOGS],
        None,
        NO,
        [RESULTS],
        None,
        None,
        "GRANT_RECEIVE_RESULTS_ABILITY REVOKE_EXPORT_QUERY_ANALYSIS_LOG_ABILITY",
    ),
    "said twice": Case([], None, NO, [RESULTS, RESULTS], None, None, "GRANT_RECEIVE_RESULTS_ABILITY"),
    "models": Case([], None, NO, [], [MODEL], None, "GRANT_CAN_RECEIVE_MODEL_OUTPUT"),
    "no models": Case([], [MODEL], NO, [], [], None, "REVOKE_CAN_RECEIVE_MODEL_OUTPUT"),
    "inferences": Case([], [MODEL], NO, [], [MODEL, INFERENCE], None, "GRANT_CAN_RECEIVE_INFERENCE_OUTPUT"),
    "no inferences": Case([], [INFERENCE], NO, [], [], None, "REVOKE_CAN_RECEIVE_INFERENCE_OUTPUT"),
    "ML left out": Case([], [MODEL], NO, [RESULTS], None, None, "GRANT_RECEIVE_RESULTS_ABILITY"),
    "pays for queries": Case([], None, NO, [], None, {"query": True}, "ADD_PAYER_CANDIDATE"),
    "for jobs": Case([], None, NO, [], None, {"job": True}, "ADD_PAYER_CANDIDATE"),
    "for training": Case([], None, NO, [], None, {"training": True}, "ADD_PAYER_CANDIDATE"),
    "for inference": Case([], None, NO, [], None, {"inference": True}, "ADD_PAYER_CANDIDATE"),
    "for synthetic data": Case([], None, NO, [], None, {"synthetic": True}, "ADD_PAYER_CANDIDATE"),
    "for more": Case(
        [], None, {"query": True}, [], None, {"query": True, "job": True}, "ADD_PAYER_CANDIDATE"
    ),
    "no longer": Case([], None, {"query": True}, [], None, {"query": False}, "REMOVE_PAYER_CANDIDATE"),
    "for another": Case(
        [],
        None,
        {"query": False, "training": True},
        [],
        None,
        {"query": True, "training": False},
        "ADD_PAYER_CANDIDATE REMOVE_PAYER_CANDIDATE",
    ),
    "payment left out": Case(
        [], None, {"query": True}, [LOGS], None, None, "GRANT_EXPORT_QUERY_ANALYSIS_LOG_ABILITY"
    ),
    "all at once": Case(
        [RESULTS],
        [MODEL],
        {"query": True},
        [LOGS],
        [INFERENCE],
        {"query": False, "synthetic": True},
        "REVOKE_RECEIVE_RESULTS_ABILITY GRANT_EXPORT_QUERY_ANALYSIS_LOG_ABILITY "
        "REVOKE_CAN_RECEIVE_MODEL_OUTPUT GRANT_CAN_RECEIVE_INFERENCE_OUTPUT "
        "REMOVE_PAYER_CANDIDATE ADD_PAYER_CANDIDATE",
    ),
    "nothing": Case([RESULTS], [MODEL], {"query": True}, [RESULTS], [MODEL], {"query": True}, ""),
    "nothing said": Case([RESULTS], [MODEL], {"query": True}, [RESULTS], None, None, ""),
    "FALSE as before": Case([], None, NO, [], None, {"query": False, "training": False}, ""),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_types(room: Room, case: Case) -> None:
    team = Team(room, case.has, ml=case.ml, payment=pays(**case.pays) if case.pays else None)
    [member] = team.others
    asked = None if case.asked_pays is None else pays(**case.asked_pays)
    change = of_member(member, *case.asked, ml=case.asked_ml, payment=asked)
    before = team.members()[member]
    if not case.types:
        error = team.refusal(change)
        assert "changes nothing" in refused(error)[1]
        assert error.response["fieldList"][0]["name"] == "changes[0].specification.member"
        return
    assert sorted(team.ask(change)["changes"][0]["types"]) == sorted(case.types.split())
    assert team.members()[member] == before
    team.commit(change)
    after = team.members()[member]
    assert sorted(after["abilities"]) == sorted(set(case.asked))
    ml = case.ml if case.asked_ml is None else case.asked_ml
    assert after.get("mlAbilities", {}).get("customMLMemberAbilities", []) == (ml or [])
    expected = {**dict.fromkeys(("query", "job", "training", "inference", "synthetic"), False), **case.pays}
    assert after["paymentConfiguration"] == pays(**{**expected, **(case.asked_pays or {})})
    assert team.membership(member)["memberAbilities"] == after["abilities"]


def test_the_runner_keeps_what_makes_it_the_runner(room: Room) -> None:
    team = Team(room, [])
    for held in ([RESULTS], ["CAN_QUERY", "CAN_RUN_JOB"], ["CAN_RUN_JOB", LOGS]):
        team.commit(of_member(team.creator, *held))
        after = sorted({*held, "CAN_QUERY", "CAN_RUN_JOB"})
        assert sorted(team.members()[team.creator]["abilities"]) == after
    [member] = team.others
    for ability in ("CAN_QUERY", "CAN_RUN_JOB"):
        error = team.refusal(of_member(member, RESULTS, ability))
        assert f"{ability} cannot be granted to {member}" in refused(error)[1]
        assert error.response["fieldList"][0]["name"] == "changes[0].specification.member.memberAbilities"
    error = team.refusal(of_member(team.creator, RESULTS, payment=pays(job=False)))
    assert "who can run queries and jobs" in refused(error)[1]
    # for jobs it is a candidate in any case, for queries only by default
    assert (
        "changes nothing"
        in refused(team.refusal(of_member(team.creator, LOGS, payment=pays(query=False, job=True))))[1]
    )
    request = team.ask(of_member(team.creator, LOGS, payment=pays(query=True, job=True)))
    assert request["changes"][0]["types"] == ["ADD_PAYER_CANDIDATE"]


def test_what_is_no_change(room: Room) -> None:
    team = Team(room, [], [], joined=1)
    one, other = team.others
    grant = of_member(one, RESULTS)
    wrong = {**grant, "specificationType": "COLLABORATION"}
    assert "needs the specification's member collaboration, not member" in refused(team.refusal(wrong))[1]
    wrong = {**of_automatic("ADD_MEMBER"), "specificationType": "MEMBER"}
    error = team.refusal(grant, wrong)
    assert error.response["fieldList"][0]["name"] == "changes[1].specificationType"
    assert f"Account {one} is changed twice" in refused(team.refusal(grant, of_member(one, LOGS)))[1]
    error = team.refusal(of_automatic("ADD_MEMBER"), of_automatic(AUTOMATIC[1]))
    assert "The collaboration is changed twice" in refused(error)[1]
    assert "changes nothing" in refused(team.refusal(of_automatic()))[1]
    empty = {"specificationType": "COLLABORATION", "specification": {"collaboration": {}}}
    assert "changes nothing" in refused(team.refusal(empty))[1]
    assert "changes nothing" in refused(team.refusal(of_member(one, name="another")))[1]
    error = team.refusal(of_member(room.account()))
    assert error.response["fieldList"][0]["name"] == "changes[0].specification.member.displayName"
    assert "required to invite" in refused(error)[1]
    team.refusal()
    team.refusal(*[of_member(room.account(), name="n") for _ in range(11)])
    # one bad change leaves nothing of the good one
    assert team.refusal(grant, of_member(other))
    for gone, status in ((one, "LEFT"), (other, "REMOVED")):
        (team.leave if status == "LEFT" else team.remove)(gone)
        error = team.refusal(of_member(gone, RESULTS, name="again"))
        assert f"{gone} is {status}" in refused(error)[1]
        assert error.response["fieldList"][0]["name"] == "changes[0].specification.member.accountId"


def test_a_display_name_comes_along(room: Room) -> None:
    team = Team(room, [])
    [member] = team.others
    done = team.commit(
        of_member(member, RESULTS, name="the bank"), of_member(team.creator, LOGS, name="the airline")
    )
    assert [change["types"] for change in done["changes"]] == [
        ["GRANT_RECEIVE_RESULTS_ABILITY"],
        ["GRANT_EXPORT_QUERY_ANALYSIS_LOG_ABILITY"],
    ]
    names = {account: one["displayName"] for account, one in team.members().items()}
    assert names == {member: "the bank", team.creator: "the airline"}
    seen = room.cleanrooms(member).get_collaboration(**team.whole())["collaboration"]
    assert seen["creatorDisplayName"] == "the airline"
    assert team.membership(member)["collaborationCreatorDisplayName"] == "the airline"


def test_a_new_member(room: Room) -> None:
    team = Team(room, [])
    guest = room.account()
    change = of_member(guest, RESULTS, ml=[MODEL], payment=pays(query=False, training=True), name="the guest")
    request = team.approved(change)
    assert team.get(request)["changes"][0]["types"] == [
        "ADD_MEMBER",
        "GRANT_RECEIVE_RESULTS_ABILITY",
        "GRANT_CAN_RECEIVE_MODEL_OUTPUT",
        "ADD_PAYER_CANDIDATE",
    ]
    own = room.cleanrooms(guest)
    with pytest.raises(own.exceptions.ResourceNotFoundException):
        own.get_collaboration(**team.whole())
    assert own.list_collaborations()["collaborationList"] == []
    team.act(team.creator, request, "COMMIT")
    seen = own.get_collaboration(**team.whole())["collaboration"]
    assert seen["memberStatus"] == "INVITED"
    assert [one["id"] for one in own.list_collaborations()["collaborationList"]] == [team.id]
    member = team.members()[guest]
    assert (member["status"], member["displayName"]) == ("INVITED", "the guest")
    assert member["abilities"] == [RESULTS]
    assert member["mlAbilities"] == {"customMLMemberAbilities": [MODEL]}
    assert member["paymentConfiguration"]["machineLearning"]["modelTraining"] == {"isResponsible": True}
    for method in (own.list_collaboration_change_requests, own.list_schemas):
        with pytest.raises(own.exceptions.AccessDeniedException):
            method(**team.whole())
    with pytest.raises(ClientError, match="is missing"):
        join(room, guest, team.id)
    team.memberships[guest] = join(room, guest, team.id, pays(query=False, training=True))
    assert team.membership(guest)["memberAbilities"] == [RESULTS]
    assert team.get(request, guest)["status"] == "COMMITTED"
    # from now on it votes
    assert set(team.ask(of_member(guest))["approvals"]) == {*team.others, guest}


@pytest.mark.parametrize("automatic", AUTOMATIC)
def test_what_is_approved_automatically(room: Room, automatic: str) -> None:
    team = Team(room, [], [RESULTS, LOGS], automatic=[automatic])
    one, other = team.others
    changes = {
        "ADD_MEMBER": of_member(room.account(), name="n"),
        "GRANT_RECEIVE_RESULTS_ABILITY": of_member(one, RESULTS),
        "REVOKE_RECEIVE_RESULTS_ABILITY": of_member(other, LOGS),
        "GRANT_EXPORT_QUERY_ANALYSIS_LOG_ABILITY": of_member(one, LOGS),
        "REVOKE_EXPORT_QUERY_ANALYSIS_LOG_ABILITY": of_member(other, RESULTS),
    }
    for type, change in changes.items():
        if type != automatic:
            made = team.ask(change)
            assert (made["status"], made["isAutoApproved"]) == ("PENDING", False), type
    both = team.ask(changes[automatic], of_member(team.creator, LOGS, payment=pays(query=True)))
    assert (both["status"], both["isAutoApproved"]) == ("PENDING", False)
    before = team.members()
    made = team.ask(changes[automatic])
    assert (made["status"], made["isAutoApproved"]) == ("COMMITTED", True)
    assert made["changes"][0]["types"] == [automatic]
    assert "approvals" not in made
    assert team.members() != before
    assert team.get(made["id"], one) == made


@pytest.mark.parametrize(
    "more",
    [{"payment": pays(query=True)}, {"payment": pays(synthetic=True)}, {"ml": [MODEL]}, {"ml": [INFERENCE]}],
)
def test_a_new_member_brings_no_more_in_than_is_agreed_beforehand(room: Room, more: Any) -> None:
    """Payers and ML abilities have no automatic type, also where they come with a member."""
    team = Team(room, [], automatic=AUTOMATIC)
    made = team.ask(of_member(room.account(), RESULTS, name="n", **more))
    assert (made["status"], made["isAutoApproved"]) == ("PENDING", False)
    made = team.ask(of_member(room.account(), RESULTS, LOGS, name="n"))
    assert (made["status"], made["isAutoApproved"]) == ("COMMITTED", True)
    strict = Team(room, [], automatic=["ADD_MEMBER"])
    assert strict.ask(of_member(room.account(), RESULTS, name="n"))["status"] == "PENDING"


def test_the_automatic_types_are_edited_by_agreement(room: Room) -> None:
    team = Team(room, [], automatic=["ADD_MEMBER"])

    def seen() -> Any:
        return room.cleanrooms(team.creator).get_collaboration(**team.whole())["collaboration"]

    assert seen()["autoApprovedChangeTypes"] == ["ADD_MEMBER"]
    both = ["GRANT_RECEIVE_RESULTS_ABILITY", "REVOKE_RECEIVE_RESULTS_ABILITY"]
    team.commit(of_automatic(*both))
    assert seen()["autoApprovedChangeTypes"] == both
    assert team.ask(of_member(room.account(), name="n"))["status"] == "PENDING"
    assert team.ask(of_member(team.others[0], RESULTS))["status"] == "COMMITTED"
    team.commit(of_automatic())
    assert seen().get("autoApprovedChangeTypes", []) == []
    assert team.ask(of_member(team.others[0]))["status"] == "PENDING"


def test_a_creator_that_is_alone(room: Room) -> None:
    """Nobody is there to ask, so it awaits the commit at once; also where the creator has not joined."""
    creator, invited = room.accounts(2)
    id = collaborate(room, creator, [named(invited)], "CAN_QUERY")
    client = room.cleanrooms(creator)
    made = client.create_collaboration_change_request(
        collaborationIdentifier=id, changes=[of_member(invited, RESULTS)]
    )["collaborationChangeRequest"]
    assert (made["status"], made["isAutoApproved"]) == ("APPROVED", False)
    assert "approvals" not in made
    place = {"collaborationIdentifier": id, "changeRequestIdentifier": made["id"]}
    done = client.update_collaboration_change_request(**place, action="COMMIT")["collaborationChangeRequest"]
    assert done["status"] == "COMMITTED"
    assert client.get_collaboration_change_request(**place)["collaborationChangeRequest"] == done
    member = room.cleanrooms(invited).list_members(collaborationIdentifier=id)["memberSummaries"][1]
    assert (member["status"], member["abilities"]) == ("INVITED", [RESULTS])


def test_nobody_is_outvoted_by_joining_late(room: Room) -> None:
    """What was agreed to before a member joined does not take effect over its head."""
    team = Team(room, [], joined=0)
    [member] = team.others
    request = team.approved(of_member(team.creator, RESULTS), voters=[])
    team.memberships[member] = join(room, member, team.id)
    assert f"{member} joined after it was created" in team.conflict(request)
    assert team.act(team.creator, request, "CANCEL")["status"] == "CANCELLED"
    team.commit(of_member(team.creator, RESULTS))


@pytest.mark.parametrize("way", ["leave", "remove"])
def test_who_is_gone_is_not_waited_for(room: Room, way: str) -> None:
    team = Team(room, [], [], [])
    one, other, third = team.others
    request = team.ask(of_member(one, RESULTS))["id"]
    half = team.ask(of_member(one, LOGS))["id"]
    denied = team.ask(of_member(one, LOGS, RESULTS))["id"]
    team.act(third, denied, "DENY")
    team.act(one, request, "APPROVE")
    getattr(team, way)(other)
    assert team.get(request)["status"] == "PENDING"
    assert team.get(request)["approvals"] == {one: {"status": "APPROVED"}, third: {"status": "PENDING"}}
    with pytest.raises(ClientError) as caught:
        team.act(other, request, "APPROVE")
    assert refused(caught.value)[0] == "ResourceNotFoundException"
    getattr(team, way)(third)
    assert team.get(request)["status"] == "APPROVED"
    assert team.get(request)["approvals"] == {one: {"status": "APPROVED"}}
    assert team.get(half)["status"] == "PENDING"
    assert team.get(denied)["status"] == "DENIED"
    team.act(one, half, "APPROVE")
    # a vote that was given stays when its member goes; and the last one to go leaves nobody to wait for
    last = team.ask(of_member(team.creator, RESULTS))["id"]
    getattr(team, way)(one)
    assert team.get(half)["approvals"] == {one: {"status": "APPROVED"}}
    assert team.get(last)["status"] == "APPROVED"
    assert "approvals" not in team.get(last)
    assert f"{one} is {'LEFT' if way == 'leave' else 'REMOVED'}" in team.conflict(request)
    assert team.act(team.creator, last, "COMMIT")["status"] == "COMMITTED"


def test_a_commit_does_what_was_agreed_or_nothing(room: Room) -> None:
    team = Team(room, [], [])
    one, other = team.others
    both = team.approved(of_member(other, LOGS), of_member(one, payment=pays(query=True)))
    same = team.approved(of_member(one, payment=pays(query=True)))
    stale = team.approved(of_member(one, payment=pays(query=False, training=True)))
    team.commit(of_member(one, RESULTS))
    message = team.conflict(both)  # would take away what was granted meanwhile
    assert "REVOKE_RECEIVE_RESULTS_ABILITY" in message
    assert "CANCEL it and create a new one" in message
    assert team.members()[other]["abilities"] == []
    assert "REVOKE_RECEIVE_RESULTS_ABILITY" in team.conflict(same)
    team.commit(of_member(one))
    assert team.act(team.creator, same, "COMMIT")["status"] == "COMMITTED"
    message = team.conflict(stale)  # would take away queries, which nobody has agreed to
    assert "REMOVE_PAYER_CANDIDATE queryCompute" in message
    assert "changes nothing" in team.conflict(both)
    assert team.act(team.creator, both, "CANCEL")["status"] == "CANCELLED"


def test_types_are_not_enough_to_agree_to(room: Room) -> None:
    """REMOVE_PAYER_CANDIDATE was agreed to for training; it would now be for queries, too."""
    team = Team(room, [], payment=pays(query=False, training=True))
    [member] = team.others
    request = team.approved(of_member(member, payment=pays(query=False, training=False)))
    assert team.get(request)["changes"][0]["types"] == ["REMOVE_PAYER_CANDIDATE"]
    team.commit(of_member(member, payment=pays(query=True)))
    assert "REMOVE_PAYER_CANDIDATE queryCompute" in team.conflict(request)


def test_a_list_that_was_edited_meanwhile(room: Room) -> None:
    team = Team(room, [])
    first = team.approved(of_automatic("ADD_MEMBER"))
    team.commit(of_automatic("GRANT_RECEIVE_RESULTS_ABILITY"))
    assert "-GRANT_RECEIVE_RESULTS_ABILITY" in team.conflict(first)


def test_six_members(room: Room) -> None:
    team = Team(room, [], [], [], joined=1)
    voter = team.others[:1]
    guests = room.accounts(3)
    changes = [of_member(guest, name="n") for guest in guests]
    error = team.refusal(*changes, code="ServiceQuotaExceededException")
    assert (error.response["quotaName"], error.response["quotaValue"]) == ("Members per collaboration", 5)
    late = team.approved(changes[0], voters=voter)
    team.commit(*changes[1:], voters=voter)
    assert "can have 5 members beside its creator, not 6" in team.conflict(late)
    team.remove(team.others[2])  # who is gone makes room
    assert team.act(team.creator, late, "COMMIT")["status"] == "COMMITTED"
    again = team.refusal(
        of_member(guests[0], RESULTS),
        of_member(room.account(), name="n"),
        code="ServiceQuotaExceededException",
    )
    assert refused(again)


def test_who_was_invited_twice(room: Room) -> None:
    team = Team(room, [])
    guest = room.account()
    first, second = (team.approved(of_member(guest, name="n")) for _ in range(2))
    team.act(team.creator, first, "COMMIT")
    assert "changes nothing" in team.conflict(second)
    team.remove(guest)
    assert f"{guest} is REMOVED" in team.conflict(second)


def test_listing(room: Room) -> None:
    team = Team(room, [])
    [member] = team.others
    made = [team.ask(of_member(room.account(), name=f"guest {number}"))["id"] for number in range(5)]
    team.act(member, made[1], "DENY")
    team.act(member, made[2], "APPROVE")
    team.act(team.creator, made[3], "CANCEL")
    key = "collaborationChangeRequestSummaries"
    for account in (team.creator, member):
        client = room.cleanrooms(account)
        listed = everything(client.list_collaboration_change_requests, key, **team.whole())
        assert [one["id"] for one in listed] == made
        assert listed == [team.get(one) for one in made]
        for status, expected in (
            ("PENDING", [made[0], made[4]]),
            ("DENIED", made[1:2]),
            ("APPROVED", made[2:3]),
            ("CANCELLED", made[3:4]),
            ("COMMITTED", []),
        ):
            found = client.list_collaboration_change_requests(**team.whole(), status=status)[key]
            assert [one["id"] for one in found] == expected
    client = room.cleanrooms(member)
    token = client.list_collaboration_change_requests(**team.whole(), maxResults=1)["nextToken"]
    with pytest.raises(client.exceptions.ValidationException):
        client.list_collaboration_change_requests(**team.whole(), status="PENDING", nextToken=token)


def test_anothers_request_does_not_exist(room: Room) -> None:
    team, others = Team(room, []), Team(room, [])
    request = others.ask(of_member(others.others[0], RESULTS))["id"]
    for identifier in (request, str(uuid4())):
        for call in (team.get, lambda one: team.act(team.creator, one, "CANCEL")):
            with pytest.raises(ClientError) as caught:
                call(identifier)
            code, message = refused(caught.value)
            assert code == "ResourceNotFoundException"
            assert message.replace(identifier, "ID").endswith("change request ID was not found.")
    with pytest.raises(ClientError) as caught:
        room.cleanrooms(team.creator).list_collaboration_change_requests(**others.whole())
    assert refused(caught.value)[0] == "ResourceNotFoundException"
    others.remove(others.others[0])
    with pytest.raises(ClientError) as caught:
        others.get(request, others.others[0])
    assert refused(caught.value)[0] == "ResourceNotFoundException"


def test_only_the_creator_asks(room: Room) -> None:
    team = Team(room, [])
    [member] = team.others
    client = room.cleanrooms(member)
    with pytest.raises(client.exceptions.AccessDeniedException, match="the creator of the collaboration"):
        client.create_collaboration_change_request(**team.whole(), changes=[of_member(member, RESULTS)])


# The whole life of a payer.


class Cost(NamedTuple):
    """One of the costs that a run names a payer for: the request's field and the cost type's short name."""

    field: str
    short: str


COSTS = [
    Cost("computePayerAccountId", "query"),
    Cost("mlModelTrainingPayerAccountId", "training"),
    Cost("mlModelInferencePayerAccountId", "inference"),
]
each_cost = pytest.mark.parametrize("cost", COSTS, ids=lambda cost: cost.short)


class Stage(Workshop):
    """A workshop, its creator's requests, and runs that name a payer or none."""

    def __init__(self, room: Room, payment: dict[str, Any] | None = None) -> None:
        super().__init__(room, payment)
        self.configure()
        self.visits = self.active_channel("first")
        self.late = self.active_model(self.visits, "first")

    def run(self, cost: Cost, name: str, payer: str | None = None) -> str:
        """Submits a run; returns its ARN."""
        named = {} if payer is None else {cost.field: self.account(payer)}
        if cost.short == "query":
            return self.channel(name, **({"payerConfiguration": named} if named else {}))
        if cost.short == "training":
            return str(self.model(self.visits, name, **named)["trainedModelArn"])
        return self.inference(self.late, self.visits, name, **named)

    def refused(self, cost: Cost, name: str, payer: str | None = None) -> str:
        """The message of a refused run."""
        with pytest.raises(self.ml().exceptions.ValidationException) as caught:
            self.run(cost, name, payer)
        message = refused(caught.value)[1]
        assert cost.field in message
        return message

    def payer(self, cost: Cost, arn: str) -> str:
        """The payer that a run shows, by its party."""
        if cost.short == "query":
            shown = self.get_channel(arn)["payerConfiguration"]
        elif cost.short == "training":
            shown = self.ml().get_trained_model(**self.own(), trainedModelArn=arn)
        else:
            shown = self.ml().get_trained_model_inference_job(**self.own(), trainedModelInferenceJobArn=arn)
        return next(party for party, account in self.accounts.items() if account == shown[cost.field])

    def change(self, cost: Cost, voters: tuple[str, ...] = ("runner", "vendor"), **who: bool) -> None:
        """A committed request: party → whether it is named for the cost."""
        changes = [
            of_member(
                self.account(party),
                payment=pays(**{cost.short: value}),
                **({"ml": []} if party == "guest" and self._new(party) else {}),
                name="a guest" if self._new(party) else None,
            )
            for party, value in who.items()
        ]
        client = self.cleanrooms("owner")
        made = client.create_collaboration_change_request(**self.whole(), changes=changes)
        place = {**self.whole(), "changeRequestIdentifier": made["collaborationChangeRequest"]["id"]}
        for voter in voters:
            self.cleanrooms(voter).update_collaboration_change_request(**place, action="APPROVE")
        client.update_collaboration_change_request(**place, action="COMMIT")

    def _new(self, party: str) -> bool:
        return self.account(party) not in [
            one["accountId"]
            for one in self.cleanrooms("owner").list_members(**self.whole())["memberSummaries"]
        ]

    def accept(self, cost: Cost, party: str, accepts: bool = True) -> None:
        self.cleanrooms(party).update_membership(
            **self.own(party),
            membershipPaymentConfiguration=pays(**{cost.short: accepts})
            if cost.short == "query"
            else {"machineLearning": pays(**{cost.short: accepts})["machineLearning"]},
        )

    def candidates(self, cost: Cost) -> list[str]:
        """The parties that ListMembers shows as candidates."""
        listed = self.cleanrooms("vendor").list_members(**self.whole())["memberSummaries"]
        account = {number: party for party, number in self.accounts.items()}
        return [account[one["accountId"]] for one in listed if _said(one["paymentConfiguration"], cost)]

    def accepts(self, cost: Cost, party: str) -> bool:
        """What GetMembership shows to the party."""
        seen = self.cleanrooms(party).get_membership(**self.own(party))["membership"]
        return _said(seen["paymentConfiguration"], cost)

    def charged(self, cost: Cost, party: str) -> bool:
        """Whether the ledger has charged the party for the cost."""
        return any(
            line["payer"] == self.account(party) and line["posted"] > 0
            for line in self.lines()
            if line["cost_type"].lower().endswith(cost.short) or cost.short == "query"
        )


def _said(payment: Any, cost: Cost) -> bool:
    if cost.short == "query":
        return bool(payment["queryCompute"]["isResponsible"])
    key = {"training": "modelTraining", "inference": "modelInference"}[cost.short]
    return bool(payment["machineLearning"][key]["isResponsible"])


@each_cost
def test_the_whole_life_of_a_payer(room: Room, cost: Cost) -> None:
    shop = Stage(room)
    assert shop.candidates(cost) == ["runner"]
    before = shop.run(cost, "before")
    assert "CreateCollaborationChangeRequest" in shop.refused(cost, "not yet", "vendor")
    with pytest.raises(ClientError, match="not a payer candidate"):
        shop.accept(cost, "vendor")

    # named, but it has not accepted; the runner, which paid by default, no longer does
    shop.change(cost, vendor=True)
    assert shop.candidates(cost) == ["vendor"]
    assert not shop.accepts(cost, "vendor")
    assert not shop.accepts(cost, "runner")
    for payer in (None, "vendor"):
        assert "does not accept to pay" in shop.refused(cost, "named", payer)
    assert "is not a payer candidate" in shop.refused(cost, "named", "runner")

    shop.accept(cost, "vendor")
    assert shop.accepts(cost, "vendor")
    by_default = shop.run(cost, "by default")
    by_name = shop.run(cost, "by name", "vendor")
    assert [shop.payer(cost, arn) for arn in (before, by_default, by_name)] == ["runner", "vendor", "vendor"]

    # withdrawn with work in flight, which keeps its payer; the default holds again
    shop.change(cost, vendor=False)
    assert shop.candidates(cost) == ["runner"]
    assert not shop.accepts(cost, "vendor")
    assert shop.accepts(cost, "runner")
    assert "is not a payer candidate" in shop.refused(cost, "withdrawn", "vendor")
    assert shop.payer(cost, by_name) == "vendor"
    assert not shop.charged(cost, "vendor")
    work(room)
    assert shop.charged(cost, "vendor")
    assert shop.payer(cost, shop.run(cost, "withdrawn")) == "runner"

    # named again: what it accepted then is no acceptance now
    shop.change(cost, vendor=True)
    assert "does not accept to pay" in shop.refused(cost, "again", "vendor")
    shop.accept(cost, "vendor")
    assert shop.payer(cost, shop.run(cost, "again", "vendor")) == "vendor"


@each_cost
def test_a_second_candidate(room: Room, cost: Cost) -> None:
    """The runner is named along with it, so it goes on paying, and a run has to say who pays."""
    shop = Stage(room)
    shop.change(cost, vendor=True, runner=True)
    assert shop.candidates(cost) == ["runner", "vendor"]
    assert "must be given" in shop.refused(cost, "nobody named")
    assert shop.payer(cost, shop.run(cost, "the runner", "runner")) == "runner"
    assert "does not accept to pay" in shop.refused(cost, "the vendor", "vendor")
    shop.accept(cost, "vendor")
    assert shop.payer(cost, shop.run(cost, "the vendor", "vendor")) == "vendor"
    shop.change(cost, vendor=False)
    assert shop.payer(cost, shop.run(cost, "the only one")) == "runner"
    shop.change(cost, runner=False)  # the last candidate: the default is the runner again
    assert shop.candidates(cost) == ["runner"]
    assert shop.payer(cost, shop.run(cost, "by default")) == "runner"


@each_cost
def test_the_runner_is_asked_too(room: Room, cost: Cost) -> None:
    """It accepts by default what it joined with, not what it is named for later."""
    shop = Stage(room)
    shop.change(cost, owner=True)
    shop.accept(cost, "owner")
    shop.change(cost, runner=True)
    assert not shop.accepts(cost, "runner")
    assert "does not accept to pay" in shop.refused(cost, "named", "runner")
    assert shop.payer(cost, shop.run(cost, "the owner", "owner")) == "owner"
    shop.accept(cost, "runner")
    assert shop.payer(cost, shop.run(cost, "accepted", "runner")) == "runner"


@each_cost
def test_a_candidate_that_is_invited_accepts_by_joining(room: Room, cost: Cost) -> None:
    shop = Stage(room)
    shop.accounts["guest"] = room.account()
    shop.change(cost, guest=True)
    assert shop.candidates(cost) == ["guest"]
    assert "is not an active member" in shop.refused(cost, "invited", "guest")
    with pytest.raises(ClientError, match="is missing"):
        join(room, shop.account("guest"), shop.id)
    shop.memberships["guest"] = join(room, shop.account("guest"), shop.id, pays(**{cost.short: True}))
    assert shop.payer(cost, shop.run(cost, "joined")) == "guest"


@each_cost
@pytest.mark.parametrize("way", ["leaves", "is removed"])
def test_the_only_payer_goes(room: Room, cost: Cost, way: str) -> None:
    """Nobody steps in for it until the others agree on somebody; what it pays for goes on."""
    shop = Stage(room)
    shop.accounts["guest"] = room.account()
    shop.change(cost, guest=True)
    shop.memberships["guest"] = join(room, shop.account("guest"), shop.id, pays(**{cost.short: True}))
    in_flight = shop.run(cost, "in flight", "guest")
    if way == "leaves":
        shop.cleanrooms("guest").delete_membership(**shop.own("guest"))
    else:
        shop.cleanrooms("owner").delete_member(**shop.whole(), accountId=shop.account("guest"))
    for payer in (None, "guest"):
        message = shop.refused(cost, "gone", payer)
        assert "has left the collaboration" in message
        assert "CreateCollaborationChangeRequest" in message
    assert "is not a payer candidate" in shop.refused(cost, "gone", "runner")
    assert shop.payer(cost, in_flight) == "guest"
    work(room)
    assert shop.charged(cost, "guest")

    shop.change(cost, vendor=True)
    assert shop.candidates(cost) == ["vendor"]
    shop.accept(cost, "vendor")
    assert shop.payer(cost, shop.run(cost, "another")) == "vendor"
    shop.change(cost, vendor=False)  # settled anew, so the default is no longer in the way of nobody
    assert shop.candidates(cost) == ["runner"]
    assert shop.payer(cost, shop.run(cost, "by default")) == "runner"


@each_cost
def test_a_payer_that_declines(room: Room, cost: Cost) -> None:
    shop = Stage(room)
    shop.change(cost, vendor=True)
    shop.accept(cost, "vendor")
    accepted = shop.run(cost, "accepted")
    shop.accept(cost, "vendor", accepts=False)
    assert shop.candidates(cost) == ["vendor"]  # whether it accepts is nobody else's to see
    assert "does not accept to pay" in shop.refused(cost, "declined")
    assert shop.payer(cost, accepted) == "vendor"
    shop.change(cost, vendor=False)
    shop.change(cost, vendor=True)
    assert not shop.accepts(cost, "vendor")
    shop.accept(cost, "vendor")
    assert shop.payer(cost, shop.run(cost, "accepted again")) == "vendor"


def test_the_other_cost_types_are_accepted_alike(room: Room) -> None:
    """Jobs and synthetic data: nothing runs on them here, but who is named and what is accepted is shown."""
    team = Team(room, [])
    [member] = team.others
    client = room.cleanrooms(member)
    change = pays(query=False, job=True, synthetic=True)
    team.commit(of_member(member, payment=change))
    shown = team.members()
    assert shown[member]["paymentConfiguration"] == {
        **NOTHING,
        **pays(query=False, job=True, training=False, inference=False, synthetic=True),
    }
    assert shown[team.creator]["paymentConfiguration"]["jobCompute"] == {"isResponsible": True}
    assert team.membership(member)["paymentConfiguration"] == NOTHING
    client.update_membership(
        membershipIdentifier=team.memberships[member], membershipPaymentConfiguration=change
    )
    assert team.membership(member)["paymentConfiguration"] == shown[member]["paymentConfiguration"]
    team.commit(of_member(member, payment=pays(query=False, job=False)))
    expected = pays(query=False, job=False, training=False, inference=False, synthetic=True)
    assert team.membership(member)["paymentConfiguration"] == expected
    team.commit(of_member(team.creator, payment=pays(query=False, synthetic=True)))
    synthetic = team.membership(team.creator)["paymentConfiguration"]["machineLearning"]
    assert synthetic["syntheticDataGeneration"] == {"isResponsible": False}
