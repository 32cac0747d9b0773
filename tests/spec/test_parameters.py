"""Parameters of templates: `parameters.md`, row by row, and what is declared and given of them."""

import pytest
from botocore.loaders import Loader

from lib.parameters import Given, given
from passbox.analysis import Parameter, parameters
from passbox.errors import QueryRefused

TYPES = Loader().load_service_model("cleanrooms", "service-2")["shapes"]["ParameterType"]["enum"]


@pytest.mark.parametrize("row", given(), ids=lambda row: f"{row.type} {row.text}")
def test_a_value(row: Given) -> None:
    if row.parameter is not None:
        found = parameters.value("p", row.type, row.text)
        assert found == row.parameter
        assert type(found.value) is type(row.parameter.value)
        return
    with pytest.raises(QueryRefused, match=f"The parameter p is .*{row.type}") as caught:
        parameters.value("p", row.type, row.text)
    assert caught.value.rule == parameters.RULE


def test_every_type_of_the_model_has_a_row() -> None:
    assert {row.type for row in given()} == set(TYPES)


def test_a_text_must_be_unicode() -> None:
    for type in ("STRING", "BINARY"):
        with pytest.raises(QueryRefused):
            parameters.value("p", type, "\ud800")


LEAST = {"name": "least", "type": "INT"}
WORD = {"name": "word", "type": "STRING", "defaultValue": ""}


def test_defaults_are_filled_in() -> None:
    bound = parameters.bind([LEAST, WORD], {"least": "3"})
    assert bound == {"least": Parameter("int", 3), "word": Parameter("string", "")}
    assert parameters.bind([LEAST, WORD], {"least": "3", "word": "x"})["word"].value == "x"
    assert parameters.bind([], {}) == {}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "least .INT. has no value and no default"),
        ({"least": "x"}, "'x' is not: give a whole number"),
        ({"least": "1", "Least": "1"}, "no parameter Least; it has least, word"),
    ],
)
def test_what_is_given_is_what_is_declared(values: dict[str, str], words: str) -> None:
    with pytest.raises(QueryRefused, match=words):
        parameters.bind([LEAST, WORD], values)
