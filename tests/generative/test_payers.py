"""Payers under random histories: members, candidates, change requests, acceptances, runs, cancels, crashes
and caps in any order, against a small model of what must come of them.

After every step the book balances and follows from its transfers, no cap is exceeded, and every run is paid
by an account that was a candidate and accepted when it was submitted; at the end nothing is reserved.
"""

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from passbox import names
from passbox.backends.runtimes.base import Isolation
from passbox.errors import (
    AccessDeniedException,
    ConflictException,
    ResourceNotFoundException,
    ServiceQuotaExceededException,
    ValidationException,
)
from passbox.jobs import spine
from passbox.jobs.kind import Result, Workspace
from passbox.ledger import book, caps, statements
from passbox.ledger.prices import MILLI, MODEL_TRAINING
from passbox.manifest import Signer
from passbox.serve import Dispatcher
from passbox.settings import Settings
from passbox.state import jobs, resources, statuses, transfers
from passbox.state.database import Database
from passbox.state.resources import Resource
from passbox.wire.model import Requests, load_services

CREATOR, RUNNER, BANK, SHOP = ACCOUNTS = tuple(f"{digit}" * 12 for digit in range(1, 5))
OTHERS = st.sampled_from(ACCOUNTS)
LEAVERS = st.sampled_from((BANK, SHOP))
LIMITS = st.integers(0, 60_000)
RECORDS = 1_000  # of the channel: a training is estimated at 10,000 micro-dollars
MEASURED = st.integers(0, 3_000)
OCTOBER, NOVEMBER = 1_793_000_000.0, 1_794_000_000.0
LIMITED = ("training_jobs_per_membership", "training_jobs_per_account", "training_instances_per_account")
QUOTAS = "".join(f"{name} = inf\n" for name in LIMITED)
ROLE = f"arn:aws:iam::{RUNNER}:role/passbox"
REQUESTS = Requests(load_services())
POINTS = ("run", "disclose", "before post", "post", "before deliver", "deliver", "delivered")


class Killed(BaseException):
    """The worker was killed here."""


class Trains:
    """A kind of job that measures what it is told."""

    def __init__(self, records: int, *, fails: bool) -> None:
        self.records, self.fails = records, fails

    def plan(self, _tx: Any, _resource: Resource, _tools: Any) -> None:
        pass

    def run(self, _plan: None, _workspace: Workspace, _tools: Any) -> Result:
        failure = ("AlgorithmError", "It failed.") if self.fails else None
        return Result(measured={MODEL_TRAINING: self.records * MILLI}, failure=failure)


def training(flag: bool, *, query: bool = False) -> dict[str, Any]:
    return {
        "queryCompute": {"isResponsible": query},
        "machineLearning": {"modelTraining": {"isResponsible": flag}},
    }


class Payers(RuleBasedStateMachine):
    """candidates: accounts; said: what each membership says; payers, open: job → payer, of all and of those
    under way.
    """

    @initialize(named=st.sets(OTHERS))
    def start(self, named: set[str]) -> None:
        self.directory = tempfile.TemporaryDirectory()
        home = Path(self.directory.name)
        (home / "quotas.toml").write_text(QUOTAS)
        self.patch = pytest.MonkeyPatch()
        self.now = OCTOBER
        self.patch.setattr(names, "now", self.tick)
        self.settings = Settings(home)
        for folder in ("vault/staging", "scratch"):
            (home / folder).mkdir(parents=True)
        self.database = Database(self.settings.database)
        self.dispatch: Any = Dispatcher(self.settings, self.database, REQUESTS)
        self.candidates = set(named)
        self.said: dict[str, bool | None] = {}
        self.active: set[str] = set()
        self.gone: set[str] = set()
        self.memberships: dict[str, str] = {}
        self.requests: dict[str, dict[str, Any]] = {}
        self.limits: dict[tuple[str, str], int] = {}
        self.ceilings: dict[tuple[str, str], int] = {}
        self.payers: dict[str, str] = {}
        self.open: dict[str, str] = {}
        self.models = 0
        members = [
            {
                "accountId": account,
                "memberAbilities": ["CAN_QUERY"] if account == RUNNER else [],
                "displayName": account,
                "paymentConfiguration": training(account in named),
            }
            for account in (RUNNER, BANK, SHOP)
        ]
        self.collaboration = self.dispatch(
            CREATOR,
            "cleanrooms.CreateCollaboration",
            {
                "name": "c",
                "creatorDisplayName": CREATOR,
                "creatorMemberAbilities": [],
                "creatorPaymentConfiguration": training(CREATOR in named),
                "queryLogStatus": "DISABLED",
                "members": members,
            },
        )["collaboration"]["id"]
        for account in (CREATOR, RUNNER):
            self.join(account)
        self.prepare()

    def tick(self) -> float:
        """A clock of the test's own, that never stands still."""
        self.now = round(self.now + 0.001, 3)
        return self.now

    def prepare(self) -> None:
        """What a training needs: an algorithm, its association, and a channel that rests."""
        algorithm = self.dispatch(
            RUNNER,
            "cleanroomsml.CreateConfiguredModelAlgorithm",
            {"name": "a", "roleArn": ROLE, "trainingContainerConfig": {"imageUri": "registry/image:1"}},
        )["configuredModelAlgorithmArn"]
        self.association = self.dispatch(
            RUNNER,
            "cleanroomsml.CreateConfiguredModelAlgorithmAssociation",
            {
                "membershipIdentifier": self.memberships[RUNNER],
                "configuredModelAlgorithmArn": algorithm,
                "name": "a",
            },
        )["configuredModelAlgorithmAssociationArn"]
        with self.database.write() as tx:
            owner = resources.require(tx, "membership", self.memberships[RUNNER])
            body = {
                "configuredModelAlgorithmAssociations": [self.association],
                "numberOfRecords": RECORDS,
                "sources": [],
            }
            id = "00000000-0000-4000-8000-000000000001"
            place = f"membership/{owner.id}/ml-input-channel/{id}"
            self.channel = names.arn("cleanrooms-ml", self.settings.region, RUNNER, place)
            row = owner._replace(
                kind="ml_input_channel", id=id, arn=self.channel, name="c", status="ACTIVE", body=body
            )
            resources.add(tx, row)

    # what the model says

    def who_pays(self) -> tuple[set[str], set[str]]:
        """C and E of the decision table, from the model alone."""
        present = self.candidates - self.gone
        possible = present or self.candidates or {RUNNER}
        able = {
            one
            for one in possible & self.active
            if self.said[one] or (self.said[one] is None and one == RUNNER)
        }
        return possible, able

    def spent(self, payer: str, period: str) -> int:
        with self.database.read() as tx:
            month = names.month(self.now) if period == "MONTH" else None
            accounts = transfers.payer_accounts(payer, self.collaboration, MODEL_TRAINING)
            return sum(transfers.spent(tx, accounts, period=month, unit="usd_micro"))

    # members and candidates

    @rule(account=LEAVERS)
    def join(self, account: str) -> None:
        if account in self.active or account in self.gone:
            return
        found = self.dispatch(
            account,
            "cleanrooms.CreateMembership",
            {
                "collaborationIdentifier": self.collaboration,
                "queryLogStatus": "DISABLED",
                "paymentConfiguration": training(account in self.who_pays()[0], query=account == RUNNER),
            },
        )
        self.memberships[account] = found["membership"]["id"]
        self.said[account] = account in self.who_pays()[0]
        self.active.add(account)

    @rule(account=OTHERS, flag=st.booleans())
    def accept_or_decline(self, account: str, flag: bool) -> None:
        if account not in self.active:
            return

        def update() -> None:
            self.dispatch(
                account,
                "cleanrooms.UpdateMembership",
                {
                    "membershipIdentifier": self.memberships[account],
                    "membershipPaymentConfiguration": {
                        "machineLearning": {"modelTraining": {"isResponsible": flag}}
                    },
                },
            )

        if flag and account not in self.who_pays()[0]:
            with pytest.raises(ValidationException, match="not a payer candidate"):
                update()
            return
        update()
        self.said[account] = flag

    @rule(account=LEAVERS, removed=st.booleans())
    def leave(self, account: str, removed: bool) -> None:
        if account not in self.active:
            return
        if removed:
            params = {"collaborationIdentifier": self.collaboration, "accountId": account}
            self.dispatch(CREATOR, "cleanrooms.DeleteMember", params)
        else:
            params = {"membershipIdentifier": self.memberships[account]}
            self.dispatch(account, "cleanrooms.DeleteMembership", params)
        self.active.discard(account)
        self.gone.add(account)
        for request in self.requests.values():
            if request["status"] == "PENDING" and account in request["waits"]:
                request["waits"].discard(account)
                request["status"] = "PENDING" if request["waits"] else "APPROVED"

    # change requests

    @rule(account=OTHERS, flag=st.booleans())
    def only_propose(self, account: str, flag: bool) -> None:
        self.propose(account, flag)

    def propose(self, account: str, flag: bool) -> str | None:
        def create() -> Any:
            member = {"accountId": account, "memberAbilities": [], "paymentConfiguration": training(flag)}
            return self.dispatch(
                CREATOR,
                "cleanrooms.CreateCollaborationChangeRequest",
                {
                    "collaborationIdentifier": self.collaboration,
                    "changes": [{"specificationType": "MEMBER", "specification": {"member": member}}],
                },
            )["collaborationChangeRequest"]

        if account in self.gone or flag == (account in self.candidates):
            with pytest.raises(ValidationException):
                create()
            return None
        found = create()
        waits = self.active - {CREATOR}
        assert set(found["approvals"]) == waits
        assert found["changes"][0]["types"] == ["ADD_PAYER_CANDIDATE" if flag else "REMOVE_PAYER_CANDIDATE"]
        self.requests[found["id"]] = {
            "account": account, "flag": flag, "status": "PENDING", "waits": set(waits), "voted": set(),
            "voters": set(waits),
        }  # fmt: skip
        return str(found["id"])

    @rule(account=OTHERS, flag=st.booleans())
    def agree(self, account: str, flag: bool) -> None:
        """A request that everybody approves and the creator commits."""
        id = self.propose(account, flag)
        if id is not None:
            for voter in sorted(self.requests[id]["waits"]):
                self.act(id, voter, "APPROVE")
            self.act(id, CREATOR, "COMMIT")

    @precondition(lambda self: getattr(self, "requests", None))
    @rule(
        data=st.data(), account=OTHERS, action=st.sampled_from(["APPROVE"] * 4 + ["DENY", "COMMIT", "CANCEL"])
    )
    def act_on_any(self, data: st.DataObject, account: str, action: str) -> None:
        id = data.draw(st.sampled_from(sorted(self.requests)))
        # whether others may is in the table of tests/operations/test_collaboration_change_request.py
        self.act(id, CREATOR if action in ("COMMIT", "CANCEL") else account, action)

    def act(self, id: str, account: str, action: str) -> None:
        request = self.requests[id]
        before = dict(request)
        try:
            found = self.dispatch(
                account,
                "cleanrooms.UpdateCollaborationChangeRequest",
                {
                    "collaborationIdentifier": self.collaboration,
                    "changeRequestIdentifier": id,
                    "action": action,
                },
            )["collaborationChangeRequest"]
        except (AccessDeniedException, ResourceNotFoundException):
            assert account not in request["voters"] & self.active
            return
        except ConflictException:
            assert not self.possible(request, account, action)
            assert request == before
            return
        assert self.possible(request, account, action)
        if action == "APPROVE":
            request["waits"].discard(account)
            request["voted"].add(account)
            request["status"] = "PENDING" if request["waits"] else "APPROVED"
        else:
            request["status"] = {"DENY": "DENIED", "COMMIT": "COMMITTED", "CANCEL": "CANCELLED"}[action]
        assert found["status"] == request["status"]
        if action == "COMMIT":
            self.commit(request["account"], request["flag"])

    def commit(self, account: str, flag: bool) -> None:
        """What a committed request does in the model."""
        if flag:
            if account in self.active and account not in self.who_pays()[0]:
                self.said[account] = False
            self.candidates.add(account)
        else:
            if self.said.get(account):
                self.said[account] = None
            self.candidates.discard(account)
        self.candidates -= self.gone

    def possible(self, request: dict[str, Any], account: str, action: str) -> bool:
        if action in ("APPROVE", "DENY"):
            return request["status"] == "PENDING" and account in request["waits"]
        if action == "CANCEL":
            return request["status"] in ("PENDING", "APPROVED")
        return (
            request["status"] == "APPROVED"
            and self.active - {CREATOR} <= request["voted"]
            and request["account"] not in self.gone
            and request["flag"] != (request["account"] in self.candidates)
        )

    # caps

    @rule(account=OTHERS, period=st.sampled_from(caps.PERIODS), limit=LIMITS)
    def cap(self, account: str, period: str, limit: int) -> None:
        if account not in self.active:
            return
        spent = self.spent(account, period)
        found = self.dispatch(
            account,
            "passbox.PutSpendCap",
            {
                "membershipIdentifier": self.memberships[account],
                "costType": "MODEL_TRAINING",
                "period": period,
                "limitMicroDollars": limit,
            },
        )["spendCap"]
        assert found["postedMicroDollars"] + found["reservedMicroDollars"] == spent
        self.limits[account, period] = limit
        self.ceilings[account, period] = max(limit, spent)

    @rule(account=OTHERS, period=st.sampled_from(caps.PERIODS))
    def lift(self, account: str, period: str) -> None:
        if account not in self.active:
            return
        params = {
            "membershipIdentifier": self.memberships[account],
            "costType": "MODEL_TRAINING",
            "period": period,
        }
        if self.limits.pop((account, period), None) is None:
            with pytest.raises(ResourceNotFoundException):
                self.dispatch(account, "passbox.DeleteSpendCap", params)
            return
        self.dispatch(account, "passbox.DeleteSpendCap", params)
        del self.ceilings[account, period]

    @rule()
    def month_turns(self) -> None:
        if self.now < NOVEMBER:
            self.now = NOVEMBER
            self.ceilings = {
                key: self.limits[key] if key[1] == "MONTH" else value for key, value in self.ceilings.items()
            }

    # runs

    @rule(data=st.data())
    def submit_to_a_candidate(self, data: st.DataObject) -> None:
        self.submit(data.draw(st.sampled_from(sorted(self.who_pays()[0]))), False)

    @rule(named=st.one_of(st.none(), OTHERS), only_asked=st.booleans())
    def submit(self, named: str | None, only_asked: bool) -> None:
        self.models += 1
        params = {
            "name": f"model {self.models}",
            "configuredModelAlgorithmAssociationArn": self.association,
            "resourceConfig": {"instanceType": "ml.m5.xlarge", "volumeSizeInGB": 10},
            "dataChannels": [{"mlInputChannelArn": self.channel, "channelName": "train"}],
        }
        if named is not None:
            params["mlModelTrainingPayerAccountId"] = named
        possible, able = self.who_pays()
        payer = named if named is not None else next(iter(possible)) if len(possible) == 1 else None
        estimate = RECORDS * 10
        own = {"membershipIdentifier": self.memberships[RUNNER]}

        def run() -> Any:
            if only_asked:
                asked = {**own, "operation": "CreateTrainedModel", "parameters": params}
                return self.dispatch(RUNNER, "passbox.EstimateCost", asked)
            return self.dispatch(RUNNER, "cleanroomsml.CreateTrainedModel", {**own, **params})

        if payer not in able:
            with pytest.raises(ValidationException, match="mlModelTrainingPayerAccountId"):
                run()
            return
        left = [self.limits[payer, one] - self.spent(payer, one) for one in caps.PERIODS
                if (payer, one) in self.limits]  # fmt: skip
        if left and min(left) < estimate:
            with pytest.raises(ServiceQuotaExceededException, match=payer):
                run()
            return
        found = run()
        if only_asked:
            assert [(one["payerAccountId"], one["amountMicroDollars"]) for one in found["costs"]] == [
                (payer, estimate)
            ]
            return
        with self.database.read() as tx:
            [row] = resources.find(tx, "trained_model", arn=found["trainedModelArn"])
            [job] = jobs.of_resource(tx, row.id)
        assert row.body["mlModelTrainingPayerAccountId"] == payer
        self.payers[job.id] = self.open[job.id] = payer

    @precondition(lambda self: getattr(self, "open", None))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(sorted(self.open)))
        with self.database.read() as tx:
            job = jobs.get(tx, id)
            assert job is not None
            arn = resources.require(tx, "trained_model", job.resource).arn
        params = {"membershipIdentifier": self.memberships[RUNNER], "trainedModelArn": arn}
        try:
            self.dispatch(RUNNER, "cleanroomsml.CancelTrainedModel", params)
        except ConflictException:
            assert job.cancel or job.step != "approve"

    @rule(records=MEASURED)
    def work_well(self, records: int) -> None:
        self.work(records, False, None)

    @rule(records=MEASURED, fails=st.booleans(), killed=st.one_of(st.none(), st.sampled_from(POINTS)))
    def work(self, records: int, fails: bool, killed: str | None) -> None:
        """The worker takes the next job; it may be killed on the way, and then the lease runs out."""

        def checkpoint(point: str) -> None:
            if point == killed:
                raise Killed

        with self.database.write() as tx:
            job = jobs.claim(tx, "test")
        if job is None:
            return
        tools: Any = SimpleNamespace(
            vault=self.settings.vault,
            scratch=self.settings.scratch,
            isolation=Isolation.SEALED,
            signer=Signer(b"k" * 32),
            kept=lambda row: self.settings.vault / row.kind / row.id,
        )
        kinds: Any = {"trained_model": Trains(records, fails=fails)}
        try:
            if job.cancel and job.step == "approve":
                raise spine.Cancelled
            spine.walk(self.database, tools, kinds, job, checkpoint)
        except Killed:
            self.now += jobs.LEASE_SECONDS + 1
            return
        except spine.Cancelled:
            status = statuses.OF[job.kind].cancelled
            spine.abandon(self.database, tools, job, status, "CANCELLED", "The job was cancelled.")
        del self.open[job.id]

    # what must hold

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "payers"):
            return
        with self.database.read() as tx:
            book.check(tx)
            for job, payer in self.payers.items():
                entries = transfers.of_job(tx, job)
                kinds = sorted(entry.kind for entry in entries)
                assert {entry.payer for entry in entries} == {payer}
                assert kinds in (["reserve"], ["post", "reserve"], ["reserve", "void"])
                if job not in self.open:
                    assert kinds != ["reserve"]
            reserved = [line.reserved for line in statements.lines(tx)]
        assert sum(reserved) <= len(self.open) * RECORDS * 10
        for (payer, period), ceiling in self.ceilings.items():
            assert self.spent(payer, period) <= ceiling

    def teardown(self) -> None:
        if not hasattr(self, "payers"):
            return
        for _ in range(2 * len(self.open)):
            self.work(RECORDS, False, None)
        assert self.open == {}
        with self.database.read() as tx:
            assert [line for line in statements.lines(tx) if line.reserved] == []
        self.holds()
        self.patch.undo()
        self.database.close()
        self.directory.cleanup()


TestPayers = Payers.TestCase
TestPayers.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
