"""Channels of synthetic data at the door: what a template may ask for, who pays, and what may be declared."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from lib.room import Room, pays, running
from lib.workshop import Workshop

PEOPLE = "person,age,income,sex,city,late\n" + "".join(
    f"p{n},{n % 90},{n * 7 % 1000}.5,{'fm'[n % 2]},city{n % 5},{'yn'[n % 3 == 0]}\n" for n in range(20)
)
TEXT = "SELECT age, income, sex, city, late FROM people"
COLUMNS = {
    "age": "NUMERICAL",
    "income": "NUMERICAL",
    "sex": "CATEGORICAL",
    "city": "CATEGORICAL",
    "late": "CATEGORICAL",
}
PAYER = "payerConfiguration.syntheticDataPayerAccountId"
PAYMENT = {
    "owner": pays(synthetic=True),
    "runner": pays(query=True, training=True, inference=True),
    "vendor": pays(synthetic=True),
}


def asks(columns: dict[str, str] = COLUMNS, target: str | None = "late", **more: Any) -> dict[str, Any]:
    """syntheticDataParameters."""
    mapping = [
        {"columnName": name, "columnType": type, "isPredictiveValue": name == target}
        for name, type in columns.items()
    ]
    parameters = {"epsilon": 3.0, "maxMembershipInferenceAttackScore": 0.7, **more}
    return {"mlSyntheticDataParameters": {**parameters, "columnClassification": {"columnMapping": mapping}}}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running(tmp_path_factory.mktemp("home")) as room:
        yield room


@pytest.fixture
def shop(room: Room) -> Workshop:
    return _shop(room, PAYMENT)


def _shop(room: Room, payment: dict[str, Any]) -> Workshop:
    shop = Workshop(room, payment)
    shop.bring("people", PEOPLE)
    return shop


def template(shop: Workshop, text: str = TEXT, party: str = "runner", **more: Any) -> dict[str, Any]:
    """A template of synthetic data: the answer's analysisTemplate."""
    made = shop.cleanrooms(party).create_analysis_template(
        **shop.own(party),
        name=f"t {uuid4()}",
        format="SQL",
        source={"text": text},
        syntheticDataParameters=asks(**more),
    )
    found: dict[str, Any] = made["analysisTemplate"]
    return found


def channel(shop: Workshop, arn: str, payer: str | None = "owner", **more: Any) -> dict[str, Any]:
    """A CreateMLInputChannel request. payer: the party that is named for the synthetic data."""
    request = shop.channel_request(f"c {uuid4()}", **more)
    request["inputChannel"]["dataSource"]["protectedQueryInputParameters"]["sqlParameters"] = {
        "analysisTemplateArn": arn
    }
    if payer is not None:
        request["payerConfiguration"] = {"syntheticDataPayerAccountId": shop.account(payer)}
    return request


def submit(shop: Workshop, arn: str, payer: str | None = "owner") -> dict[str, Any]:
    made = shop.ml().create_ml_input_channel(**channel(shop, arn, payer))["mlInputChannelArn"]
    found: dict[str, Any] = shop.get_channel(made)
    return found


def test_two_payers_are_settled_apart(shop: Workshop) -> None:
    arn = template(shop)["arn"]
    for payer in ("owner", "vendor"):
        found = submit(shop, arn, payer)
        assert found["payerConfiguration"] == {
            "computePayerAccountId": shop.account("runner"),
            "syntheticDataPayerAccountId": shop.account(payer),
        }
        parameters = asks()["mlSyntheticDataParameters"]
        assert found["syntheticDataConfiguration"] == {"syntheticDataParameters": parameters}
        [summary] = [
            one
            for one in shop.ml("vendor").list_collaboration_ml_input_channels(**shop.whole())[
                "collaborationMLInputChannelsList"
            ]
            if one["mlInputChannelArn"] == found["mlInputChannelArn"]
        ]
        assert summary["payerConfiguration"] == found["payerConfiguration"]
    reserved = [
        (entry["cost_type"], entry["payer"]) for entry in shop.transfers() if entry["kind"] == "reserve"
    ]
    for payer in ("owner", "vendor"):
        assert reserved.count(("machineLearning.syntheticDataGeneration", shop.account(payer))) >= 1


@pytest.mark.parametrize(
    ("payment", "named", "words"),
    [
        (PAYMENT, None, "must be given"),
        (PAYMENT, "runner", "is not a payer candidate"),
        ({"runner": pays(query=True)}, None, "nobody|no member"),
        ({"runner": pays(query=True)}, "runner", "is not a payer candidate"),
    ],
    ids=["several and none named", "no candidate", "nobody pays by default", "the runner is none by default"],
)
def test_who_may_not_pay(room: Room, payment: dict[str, Any], named: str | None, words: str) -> None:
    shop = _shop(room, payment)
    arn = template(shop)["arn"]
    client = shop.ml()
    with pytest.raises(client.exceptions.ValidationException, match=words) as error:
        client.create_ml_input_channel(**channel(shop, arn, named))
    assert (
        error.value.response["fieldList"][0]["name"] == PAYER if "fieldList" in error.value.response else True
    )


def test_the_only_candidate_is_the_default(room: Room) -> None:
    shop = _shop(room, {**PAYMENT, "vendor": pays()})
    found = submit(shop, template(shop)["arn"], None)
    assert found["payerConfiguration"]["syntheticDataPayerAccountId"] == shop.account("owner")


def test_an_estimate_and_a_cap_cover_the_generating(shop: Workshop) -> None:
    arn = template(shop)["arn"]
    request = channel(shop, arn)
    client = shop.room.passbox(shop.account("runner"))
    costs = client.estimate_cost(**shop.own(), operation="CreateMLInputChannel", parameters=request)["costs"]
    assert [(one["costType"], one["payerAccountId"]) for one in costs] == [
        ("QUERY_COMPUTE", shop.account("runner")),
        ("SYNTHETIC_DATA_GENERATION", shop.account("owner")),
    ]
    assert (costs[1]["unit"], costs[1]["quantityMilliUnits"], costs[1]["amountMicroDollars"]) == (
        "SDGU",
        100,
        200_000,
    )
    owner = shop.room.passbox(shop.account("owner"))
    owner.put_spend_cap(
        **shop.own("owner"), costType="SYNTHETIC_DATA_GENERATION", period="MONTH", limitMicroDollars=399_999
    )
    submit(shop, arn)
    with pytest.raises(shop.ml().exceptions.ServiceQuotaExceededException):
        submit(shop, arn)


def test_two_at_a_time(shop: Workshop) -> None:
    arn = template(shop)["arn"]
    for _ in range(2):
        submit(shop, arn)
    client = shop.ml()
    with pytest.raises(client.exceptions.ServiceQuotaExceededException) as error:
        submit(shop, arn)
    assert (error.value.response["quotaName"], error.value.response["quotaValue"]) == (
        "synthetic data jobs per account",
        2.0,
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SELECT age, income, sex, city FROM people", "the column late, which its result does not have"),
        (
            f"{TEXT.replace('late', 'late, person')}",
            "has the column person, which the template does not classify",
        ),
    ],
    ids=["missing", "beyond"],
)
def test_the_result_must_be_what_is_classified(shop: Workshop, text: str, words: str) -> None:
    arn = template(shop, text)["arn"]
    client = shop.ml()
    with pytest.raises(client.exceptions.ValidationException, match=words):
        client.create_ml_input_channel(**channel(shop, arn))
    assert shop.transfers() == []


def test_a_template_classifies_five_columns_or_more(shop: Workshop) -> None:
    with pytest.raises(shop.cleanrooms().exceptions.ValidationException, match="columnMapping"):
        template(shop, columns=dict(list(COLUMNS.items())[:4]))


def test_a_declaration(shop: Workshop) -> None:
    row = template(shop)
    client, member = (shop.room.passbox(shop.account(party)) for party in ("runner", "vendor"))
    own = {**shop.own(), "analysisTemplateIdentifier": row["id"]}
    whole = {**shop.whole(), "analysisTemplateIdentifier": row["id"]}
    assert member.get_synthetic_data_declaration(**whole)["declaration"] == {}
    said = {
        "columns": [
            {"columnName": "sex", "values": ["f", "m"]},
            {"columnName": "age", "low": "0", "high": "120", "step": "1"},
        ],
        "person": {"columnName": "person", "maximumRows": 3},
        "dependencies": [{"determinants": ["city"], "dependent": "sex"}],
    }
    assert client.put_synthetic_data_declaration(**own, declaration=said)["declaration"] == said
    assert client.put_synthetic_data_declaration(**own, declaration=said)["declaration"] == said
    assert member.get_synthetic_data_declaration(**whole)["declaration"] == said
    # the person's column is now a part of what the query must find
    with pytest.raises(shop.ml().exceptions.ValidationException, match="person tells persons apart"):
        submit(shop, row["arn"])
    assert client.put_synthetic_data_declaration(**own, declaration={})["declaration"] == {}
    submit(shop, row["arn"])
    with pytest.raises(client.exceptions.ConflictException, match="create another template"):
        client.put_synthetic_data_declaration(**own, declaration=said)
    with pytest.raises(member.exceptions.ResourceNotFoundException):
        member.put_synthetic_data_declaration(
            **shop.own("vendor"), analysisTemplateIdentifier=row["id"], declaration=said
        )


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"columns": [{"columnName": "nope"}]}, "does not classify a column nope"),
        ({"columns": [{"columnName": "age"}, {"columnName": "age"}]}, "declared twice"),
        ({"dependencies": [{"determinants": ["x"], "dependent": "age"}]}, "does not classify a column x"),
        ({"person": {"columnName": "age", "maximumRows": 1}}, "leave it out of the classification"),
        ({"person": {"columnName": "who", "maximumRows": 0}}, "maximumRows"),
        ({"columns": [{"columnName": "age", "low": "9", "high": "1"}]}, "must be below its high"),
        ({"columns": [{"columnName": "age", "low": "9"}]}, "both low and high"),
        ({"columns": [{"columnName": "age", "low": "NaN", "high": "Infinity"}]}, "must be finite"),
        ({"columns": [{"columnName": "age", "low": "1", "high": "9", "step": "0"}]}, "above 0"),
        ({"columns": [{"columnName": "age", "values": ["1"]}]}, "NUMERICAL"),
        ({"columns": [{"columnName": "sex", "low": "1", "high": "2"}]}, "CATEGORICAL"),
        ({"columns": [{"columnName": "sex", "values": ["f", "f"]}]}, "declared twice"),
        ({"dependencies": [{"determinants": ["age"], "dependent": "late"}]}, "predictive"),
        (
            {
                "dependencies": [
                    {"determinants": ["age"], "dependent": "sex"},
                    {"determinants": ["sex"], "dependent": "city"},
                ]
            },
            "depend on none",
        ),
    ],
)
def test_a_declaration_that_does_not_fit(shop: Workshop, said: dict[str, Any], words: str) -> None:
    row = template(shop)
    client = shop.room.passbox(shop.account("runner"))
    with pytest.raises(client.exceptions.ValidationException, match=words):
        client.put_synthetic_data_declaration(
            **shop.own(), analysisTemplateIdentifier=row["id"], declaration=said
        )
