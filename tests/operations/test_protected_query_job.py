"""Protected queries by the real service: API, worker and sealed engine.

What a receiver reads is what the rules let through; of a query that fails or is called off nothing leaves.
"""

import csv
import time
from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as parquet
import pytest

from lib.queries import ENDS, Desk, s3
from lib.service import Service, serving_home, wait
from lib.workshop import ledger

EMAILS = 9
CUSTOMERS = "email,segment\n" + "".join(f"e{number},s{number % 2}\n" for number in range(EMAILS))
# of three visitors of each page the customers are those below EMAILS; `rare` has too few of them to be told
PAGES = "email,page,seconds\n" + "".join(
    f"e{number},{'rare' if number == 0 else f'p{number % 2}'},{number}.5\n" for number in range(2 * EMAILS)
)
LIST = {"joinColumns": ["email"], "listColumns": ["segment"], "additionalAnalyses": "NOT_ALLOWED"}
LISTED = "SELECT DISTINCT c.segment, p.page FROM customers c JOIN pages p ON c.email = p.email"
AGGREGATION = {
    "aggregateColumns": [
        {"columnNames": ["email"], "function": "COUNT_DISTINCT"},
        {"columnNames": ["seconds"], "function": "SUM"},
    ],
    "joinColumns": ["email"],
    "dimensionColumns": ["page"],
    "scalarFunctions": [],
    "outputConstraints": [{"columnName": "email", "minimum": 2, "type": "COUNT_DISTINCT"}],
}
AGGREGATED = (
    "SELECT page, COUNT(DISTINCT email) AS people, SUM(seconds) AS seconds FROM totals "
    "GROUP BY page ORDER BY page"
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving_home(tmp_path_factory.mktemp("home")) as service:
        yield service


@pytest.fixture(scope="module")
def desk(service: Service) -> Desk:
    desk = Desk(service.room)
    desk.bring("customers", CUSTOMERS, "LIST", LIST, party="runner")
    desk.bring("pages", PAGES, "LIST", {**LIST, "listColumns": ["page"]})
    desk.bring("totals", PAGES, "AGGREGATION", AGGREGATION)
    desk.bring(
        "many", "n,word\n" + "".join(f"{n},secret{n}\n" for n in range(3000)), "CUSTOM", desk.any_query()
    )
    desk.default("partner", resultFormat="PARQUET", singleFileOutput=True)
    return desk


def ended(desk: Desk, query: Any, status: str = "SUCCESS") -> Any:
    found = wait(lambda: desk.get(query["id"]), ENDS)
    assert found["status"] == status, found
    return found


def of(desk: Desk, party: str, query: Any) -> Any:
    """The one file that a party has received from a query."""
    [file] = [file for name, file in desk.received(party).items() if query["id"] in name]
    return file


def test_a_list_is_read_by_its_receiver(desk: Desk) -> None:
    query = desk.start(LISTED)
    done = ended(desk, query)
    with of(desk, "runner", query).open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["segment", "page"]
    assert sorted(rows[1:]) == [["s0", "p0"], ["s0", "rare"], ["s1", "p1"]]
    # less than a minute on 16 CR.1X
    assert done["statistics"]["billedResourceUtilization"] == {"units": 32 * 60 / 3600}
    [post] = [entry for entry in desk.entries() if entry[0] == "post"]
    assert post == ("post", "runner", 32 * 60 * 1000)


def test_an_aggregation_is_read_by_both_receivers(desk: Desk) -> None:
    query = desk.start(AGGREGATED, desk.distribute(desk.member("partner"), s3(format="CSV")))
    ended(desk, query)
    text, binary = of(desk, "runner", query), of(desk, "partner", query)
    assert (text.name, binary.name) == ("part-00000.csv", "part-00000.parquet")
    rows = parquet.read_table(binary).to_pylist()
    # the page with one visitor is left out without a word
    assert rows == [
        {"page": "p0", "people": 8, "seconds": 76.0},
        {"page": "p1", "people": 9, "seconds": 85.5},
    ]
    with text.open(newline="") as file:
        assert [
            {"page": row["page"], "people": int(row["people"]), "seconds": float(row["seconds"])}
            for row in csv.DictReader(file)
        ] == rows


def test_parquet_for_the_runner(desk: Desk) -> None:
    query = desk.start(
        "SELECT n FROM many WHERE n < :n",
        s3(format="PARQUET", singleFileOutput=True),
        sql={"parameters": {"n": "3"}},
    )
    ended(desk, query)
    assert sorted(parquet.read_table(of(desk, "runner", query))["n"].to_pylist()) == [0, 1, 2]


def test_an_engine_that_fails_says_nothing_of_the_data(desk: Desk) -> None:
    before = len(desk.entries())
    query = desk.start("SELECT CAST(word AS INT) AS n FROM many")
    failed = ended(desk, query, "FAILED")
    assert failed["error"]["code"] == "MALFORMED_QUERY"
    assert failed["error"]["retry"] == {"retryable": False}
    assert "secret" not in str(failed["error"])
    assert [kind for kind, _, _ in desk.entries()[before:]] == ["reserve", "void"]
    assert not [name for name in desk.received("runner") if query["id"] in name]


def test_a_running_query_is_called_off_within_two_seconds(desk: Desk) -> None:
    long = "SELECT COUNT(*) AS n FROM many a, many b, many c WHERE a.n + b.n + c.n = 7"
    query = desk.start(long)
    wait(lambda: desk.get(query["id"]), ("STARTED",))
    asked = time.monotonic()
    assert desk.cancel(query["id"])["status"] == "CANCELLING"
    ended(desk, query, "CANCELLED")
    assert time.monotonic() - asked < 2.0
    assert not [name for name in desk.received("runner") if query["id"] in name]
    lines = [line for line in ledger(desk.room.settings.home)["lines"] if line["collaboration"] == desk.id]
    assert [line["reserved"] for line in lines] == [0]


def test_the_worker_is_killed_in_the_middle_of_a_query(service: Service, desk: Desk) -> None:
    query = desk.start("SELECT COUNT(*) AS n FROM many a, many b WHERE a.word <> b.word")
    wait(lambda: desk.get(query["id"]), ("STARTED",))
    service.kill_worker(query["id"])
    ended(desk, query)
    assert of(desk, "runner", query).read_text() == '"n"\n8997000\n'
    assert service.job(query["id"]).attempt == 2
