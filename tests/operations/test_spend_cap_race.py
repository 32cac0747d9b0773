"""Many submissions at once against one cap: two API processes over one home, sixteen clients, and exactly as
many runs are let in as the cap has room for.
"""

import http.client
import multiprocessing
import sqlite3
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest, prepare_request_dict
from botocore.serialize import create_serializer

from lib.room import REGION, Room
from lib.wire_server import serving
from lib.workshop import RECORDS, Workshop, ledger, limited
from passbox.serve import application
from passbox.settings import Settings

CLIENTS, SUBMISSIONS, ADMITTED = 16, 10_000, 1_000
_spawn = multiprocessing.get_context("spawn")


def _serve(home: Path, pipe: Any) -> None:
    """An API process: tells its address, and ends when the pipe does."""
    with serving(application(Settings(home=home, region=REGION))) as address:
        pipe.send(address)
        pipe.poll(None)


@contextmanager
def api_process(home: Path) -> Iterator[str]:
    """The address of an API process of its own over a home."""
    ours, theirs = _spawn.Pipe()
    process = _spawn.Process(target=_serve, args=(home, theirs))
    process.start()
    try:
        assert ours.poll(30)
        yield ours.recv()
    finally:
        ours.send("end")
        process.join(20)
        ours.close()
        theirs.close()


def signed(client: Any, address: str, parameters: dict[str, Any]) -> AWSRequest:
    """The request that boto3 would send to CreateTrainedModel at an address, signed by botocore."""
    model = client.meta.service_model.operation_model("CreateTrainedModel")
    serializer = create_serializer(client.meta.service_model.protocol, include_validation=False)
    made = serializer.serialize_to_request(parameters, model)
    prepare_request_dict(made, address)
    request = AWSRequest(made["method"], made["url"], headers=made["headers"], data=made["body"])
    SigV4Auth(client._request_signer._credentials, "cleanrooms-ml", REGION).add_auth(request)
    return request.prepare()


def drive(address: str, requests: list[Any]) -> Counter[tuple[int, str]]:
    """One client sends its requests one after another: how many of each (status, error)."""
    found: Counter[tuple[int, str]] = Counter()
    with closing(http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)) as connection:
        for request in requests:
            parts = urlsplit(request.url)
            connection.request(request.method, parts.path, request.body, dict(request.headers.items()))
            answer = connection.getresponse()
            answer.read()
            found[answer.status, (answer.getheader("x-amzn-errortype") or "").partition(":")[0]] += 1
    return found


def prepare(room: Room, limit: int) -> tuple[Workshop, str]:
    """A runner whose trainings may cost one payer so many micro-dollars, and the channel to train on."""
    shop = Workshop(room)
    channel = shop.active_channel()
    room.client("passbox", shop.accounts["runner"]).put_spend_cap(
        membershipIdentifier=shop.memberships["runner"],
        costType="MODEL_TRAINING",
        period="LIFETIME",
        limitMicroDollars=limit,
    )
    return shop, channel


def test_exactly_as_many_as_the_cap_admits(tmp_path: Path) -> None:
    unlimited = dict.fromkeys(
        ("training_jobs_per_membership", "training_jobs_per_account", "training_instances_per_account"), "inf"
    )
    with limited(tmp_path, **unlimited) as room:  # type: ignore[arg-type]
        # one record costs ten micro-dollars; the rest of half a run admits nothing
        shop, channel = prepare(room, ADMITTED * RECORDS * 10 + RECORDS * 5)
        with ExitStack() as stack:
            addresses = [stack.enter_context(api_process(tmp_path)) for _ in range(2)]
            shares: list[tuple[str, list[Any]]] = []
            for client in range(CLIENTS):
                address = addresses[client % 2]
                names = [f"model {number}" for number in range(client, SUBMISSIONS, CLIENTS)]
                requests = [signed(shop.ml(), address, shop.model_request(channel, name)) for name in names]
                shares.append((address, requests))
            with ThreadPoolExecutor(CLIENTS) as pool:
                counts = sum(pool.map(lambda share: drive(*share), shares), Counter())
        assert counts == {(200, ""): ADMITTED, (402, "ServiceQuotaExceededException"): SUBMISSIONS - ADMITTED}
        with closing(sqlite3.connect(room.settings.database)) as connection:
            kinds = dict(connection.execute("SELECT kind, count(*) FROM job GROUP BY kind"))
        assert kinds["trained_model"] == ADMITTED
        reserved = [
            one for one in ledger(tmp_path)["transfers"] if one["cost_type"].endswith("modelTraining")
        ]
        assert len(reserved) == ADMITTED
        assert sum(one["amount"] for one in reserved) == ADMITTED * RECORDS * 10
