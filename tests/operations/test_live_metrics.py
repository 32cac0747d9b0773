"""Who is given what is published while a job runs: active members with an ML configuration."""

from collections.abc import Iterator
from typing import Any

import pytest

from lib.room import Room, join, pays, running
from lib.workshop import KINDS, Made, Workshop, work
from passbox.jobs.kind import Result, Tools, Workspace
from passbox.ledger import prices


class Speaks(Made):
    """Publishes while it runs, and notes who had it before it ended."""

    def __init__(self, room: Room) -> None:
        super().__init__(prices.MODEL_TRAINING, {})
        self.room = room
        self.seen: list[str] = []

    def run(self, plan: Any, workspace: Workspace, tools: Tools) -> Result:
        file = workspace.path / "told"
        file.write_text('{"name":"auc","value":0.9,"line":1}\n')
        workspace.publish("TrainedModels", "job.metrics.jsonl", file)
        found = self.room.settings.accounts.glob("*/logs/aws/cleanroomsml/TrainedModels/job.metrics.jsonl")
        self.seen = sorted(path.parts[-6] for path in found)
        return super().run(plan, workspace, tools)


@pytest.fixture
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


def test_active_members_with_an_ml_configuration(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Workshop(room, {"runner": pays(query=True, training=True), "guest": pays(query=True)})
    shop.memberships["guest"] = join(room, shop.account("guest"), shop.id, pays(query=True))
    for party in ("runner", "vendor", "guest"):
        shop.configure(party)
    channel = shop.active_channel(payerConfiguration={"computePayerAccountId": shop.account("runner")})
    shop.cleanrooms("owner").delete_member(**shop.whole(), accountId=shop.account("guest"))
    speaks = Speaks(room)
    monkeypatch.setitem(KINDS, "trained_model", speaks)
    shop.model(channel)
    work(room)
    assert speaks.seen == sorted([shop.account("runner"), shop.account("vendor")])
