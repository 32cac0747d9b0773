"""An analysis template by the real service: the sealed engine compares its values by their types."""

from collections.abc import Iterator

import pytest

from lib.queries import ENDS, Desk
from lib.service import Service, serving_home, wait

ORDERS = "id,day,owed,word\n9,2013-06-01,1.10,a\n10,2013-06-02,2.00,it's\n100,2013-06-03,30.25,' OR 1=1 --\n"
TEXT = (
    "SELECT id FROM orders WHERE id > :least AND day BETWEEN :start AND :stop AND owed <> :owed "
    "AND word <> :word ORDER BY id"
)
DECLARED = (
    {"name": "least", "type": "INT", "defaultValue": "0"},
    {"name": "start", "type": "DATE", "defaultValue": "2013-06-01"},
    {"name": "stop", "type": "DATE", "defaultValue": "2013-06-30"},
    {"name": "owed", "type": "DECIMAL", "defaultValue": "0"},
    {"name": "word", "type": "VARCHAR", "defaultValue": ""},
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving_home(tmp_path_factory.mktemp("home")) as service:
        yield service


def test_values_are_compared_by_type(service: Service) -> None:
    desk = Desk(service.room)
    template = desk.template(TEXT, *DECLARED, party="partner")
    rule = {"allowedAnalyses": [template], "additionalAnalyses": "NOT_ALLOWED"}
    desk.bring("orders", ORDERS, "CUSTOM", rule)
    asked = [
        ({}, [9, 10, 100]),
        ({"least": "9"}, [10, 100]),  # as texts, '10' and '100' would come before '9'
        ({"start": "2013-06-02", "stop": "2013-06-02"}, [10]),
        ({"owed": "30.250"}, [9, 10]),
        ({"word": "' OR 1=1 --"}, [9, 10]),
    ]
    queries = [(desk.start_template(template, **given), rows) for given, rows in asked]
    for query, rows in queries:
        done = wait(lambda id=query["id"]: desk.get(id), ENDS)
        assert done["status"] == "SUCCESS", done
        [file] = [file for name, file in desk.received("runner").items() if query["id"] in name]
        assert [int(line) for line in file.read_text().split()[1:]] == rows
