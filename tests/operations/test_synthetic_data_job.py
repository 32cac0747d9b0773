"""A channel of synthetic data by the real service: sealed query, sealed synthesis, attack score, the bill."""

import csv
import io
import random
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from lib.room import pays
from lib.service import REST, Service, serving_home, wait
from lib.workshop import Workshop

ROWS = 4_000
COLUMNS = {
    "age": "NUMERICAL",
    "spent": "NUMERICAL",
    "sex": "CATEGORICAL",
    "city": "CATEGORICAL",
    "late": "CATEGORICAL",
}
TEXT = "SELECT age, spent, sex, city, late FROM people"
CITIES = ("Ulm", "Bonn", "Kiel", "Jena")


def people() -> str:
    """A table with a rare secret: one row's city is unlike all others."""
    draw = random.Random(5)
    lines = ["person,age,spent,sex,city,late"]
    for number in range(ROWS):
        age = draw.randrange(18, 90)
        late = "yes" if draw.random() < age / 100 else "no"
        city = "Secretville" if number == 7 else draw.choice(CITIES)
        lines.append(f"p{number},{age},{age * 3 + draw.random():.2f},{draw.choice('fm')},{city},{late}")
    return "\n".join(lines) + "\n"


def asks(**more: Any) -> dict[str, Any]:
    mapping = [
        {"columnName": name, "columnType": type, "isPredictiveValue": name == "late"}
        for name, type in COLUMNS.items()
    ]
    parameters = {"epsilon": 3.0, "maxMembershipInferenceAttackScore": 0.7, **more}
    return {"mlSyntheticDataParameters": {**parameters, "columnClassification": {"columnMapping": mapping}}}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving_home(tmp_path_factory.mktemp("home")) as service:
        yield service


@pytest.fixture(scope="module")
def shop(service: Service) -> Workshop:
    payment = {"owner": pays(synthetic=True), "runner": pays(query=True, training=True, inference=True)}
    shop = Workshop(service.room, payment)
    shop.bring("people", people())
    shop.bring("few", "".join(people().splitlines(keepends=True)[:501]))
    return shop


def generate(shop: Workshop, text: str = TEXT, format: str = "CSV", **more: Any) -> Any:
    """Creates a template and a channel by it; the channel once it is at rest."""
    made = shop.cleanrooms().create_analysis_template(
        **shop.own(),
        name=f"t {uuid4()}",
        format="SQL",
        source={"text": text},
        syntheticDataParameters=asks(**more),
    )["analysisTemplate"]
    request = shop.channel_request(f"c {uuid4()}")
    request["inputChannel"]["dataSource"]["protectedQueryInputParameters"] = {
        "sqlParameters": {"analysisTemplateArn": made["arn"]},
        "resultFormat": format,
    }
    arn = shop.ml().create_ml_input_channel(**request)["mlInputChannelArn"]
    return wait(lambda: shop.get_channel(arn), REST, 120)


def kept(shop: Workshop, channel: Any) -> list[Any]:
    """The files that a training on the channel would read."""
    folder = shop.room.settings.vault / "ml_input_channel" / channel["mlInputChannelArn"].rpartition("/")[2]
    return sorted(folder.iterdir()) if folder.exists() else []


def test_generated_rows_of_the_same_schema(shop: Workshop) -> None:
    done = generate(shop)
    assert done["status"] == "ACTIVE", done.get("statusDetails")
    [file] = kept(shop, done)
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert len(rows) == done["numberOfRecords"]
    assert abs(len(rows) - ROWS) < ROWS / 10
    assert list(rows[0]) == list(COLUMNS)
    assert {row["sex"] for row in rows} <= {"f", "m", ""}  # what may be NULL, may be NULL
    assert "Secretville" not in file.read_text()
    assert set(CITIES) <= {row["city"] for row in rows}
    real = {tuple(line.split(",")[1:]) for line in people().splitlines()[1:]}
    same = sum(tuple(row.values()) in real for row in rows)
    assert same < len(rows) / 50
    # what is learned from: the older, the later
    late = [sum(row["late"] == "yes" for row in part) / len(part) for part in _by_age(rows)]
    assert late[1] - late[0] > 0.25
    [score] = done["syntheticDataConfiguration"]["syntheticDataEvaluationScores"]["dataPrivacyScores"][
        "membershipInferenceAttackScores"
    ]
    assert score["attackVersion"] == "DISTANCE_TO_CLOSEST_RECORD_V1"
    assert 0.5 <= score["score"] <= 0.7
    seen = shop.ml("vendor").get_collaboration_ml_input_channel(
        **shop.whole(), mlInputChannelArn=done["mlInputChannelArn"]
    )
    assert seen["syntheticDataConfiguration"] == done["syntheticDataConfiguration"]
    _check_report(shop, done["mlInputChannelArn"])
    posted = {
        (entry["cost_type"], entry["payer"])
        for entry in shop.transfers()
        if entry["kind"] == "post" and entry["unit"] == "usd_micro"
    }
    assert ("machineLearning.syntheticDataGeneration", shop.account("owner")) in posted
    assert ("queryCompute", shop.account("runner")) in posted


def _check_report(shop: Workshop, arn: str) -> None:
    """The owner of the only table is shown all; whoever else is a member, what was paid for."""

    def report(party: str) -> tuple[str, Any]:
        client = shop.room.passbox(shop.account(party))
        found = client.get_synthetic_data_report(**shop.whole(), mlInputChannelArn=arn)
        return found["audience"], found["report"]

    assert [report(party)[0] for party in ("owner", "runner", "vendor")] == ["OWNER", "MEMBER", "MEMBER"]
    whole, told = report("owner")[1], report("vendor")[1]
    assert told == report("runner")[1]
    assert set(told) == {"table", "privacy", "scores"}
    assert {key: whole[key] for key in told} == told
    assert sum(spend["epsilon"] for spend in told["privacy"]["spends"]) <= 3.0
    assert told["scores"]["private"]
    assert whole["utility"]["learned"] is not None


def _by_age(rows: list[dict[str, str]]) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    known = [row for row in rows if row["age"]]
    young = [row for row in known if int(row["age"]) < 45]
    return young, [row for row in known if int(row["age"]) >= 60]


@pytest.mark.parametrize(
    ("text", "more", "code", "words"),
    [
        (TEXT.replace("people", "few"), {}, "INVALID_SYNTHETIC_DATA_INPUT", "1,500"),
        (TEXT.replace("city,", "person AS city,"), {}, "SYNTHESIS_COLUMN_REFUSED", "city"),
    ],
    ids=["too few rows", "a column that identifies"],
)
def test_nothing_can_be_generated(shop: Workshop, text: str, more: Any, code: str, words: str) -> None:
    done = generate(shop, text, **more)
    assert (done["status"], done["statusDetails"]["statusCode"]) == ("CREATE_FAILED", code), done[
        "statusDetails"
    ]
    assert words in done["statusDetails"]["message"]
    assert kept(shop, done) == []


def test_parquet(shop: Workshop) -> None:
    import pyarrow.parquet as parquet

    done = generate(shop, format="PARQUET")
    assert done["status"] == "ACTIVE", done.get("statusDetails")
    [file] = kept(shop, done)
    table = parquet.read_table(file)
    assert table.column_names == list(COLUMNS)
    assert table.num_rows == done["numberOfRecords"]


def test_nothing_of_the_rows_is_left_beside(shop: Workshop, service: Service) -> None:
    generate(shop)
    home = service.settings.home
    left = [path for folder in ("scratch", "vault") for path in (home / folder).rglob("*") if path.is_file()]
    assert not any(b"Secretville" in path.read_bytes() for path in left)
    assert list((home / "scratch").iterdir()) == []
