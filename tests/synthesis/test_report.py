"""The report: one content in two forms, safe to open, and a public part that real rows are not in."""

import json
import re
from fractions import Fraction
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest

from passbox.synthesis import page
from passbox.synthesis.hold_out import hold_out
from passbox.synthesis.noise import seeded
from passbox.synthesis.report import Report, report
from passbox.synthesis.request import Column, Person, Request
from passbox.synthesis.score import Noise, Thresholds, judge
from passbox.synthesis.synthesize import synthesize

EVIL = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>"
VOID = {"meta"}
ROWS = 3000


def drawn() -> pa.Table:
    """A table whose names and values would like to be markup."""
    draw = np.random.default_rng(1)
    group = draw.integers(0, 3, ROWS)
    return pa.table(
        {
            f"name{EVIL}": pa.array([["a", EVIL, "c\u202e\x00"][g] for g in group]),
            "age": pa.array(group * 20 + draw.integers(0, 9, ROWS)),
            "late": pa.array(draw.random(ROWS) < 0.2 + 0.2 * group),
        }
    )


TABLE = drawn()
FIT, HELD = hold_out(TABLE, b"key")
COLUMNS = (
    Column(TABLE.schema.names[0], "categorical"),
    Column("age", "numerical", low=0, high=60),
    Column("late", "categorical"),
)


@pytest.fixture(scope="module")
def made() -> Report:
    """A whole report, with scores of both kinds."""
    request = Request(COLUMNS, Fraction(5), target="late", score=Fraction(1, 20))
    synthetic = synthesize(FIT, request, seeded(1))
    rho = Fraction(1, 5)
    budget = Noise(rho / 20, rho, ROWS, seeded(2))
    told, exact = (
        judge(FIT, HELD, synthetic.table, COLUMNS, Thresholds(0.5), key=b"key", budget=each)
        for each in (budget, None)
    )
    return report(synthetic, request, FIT, HELD, scores=told, exact=exact)


class Reader(HTMLParser):
    """The page as a browser reads it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_is_well_formed_and_runs_and_loads_nothing(made: Report) -> None:
    page = Reader(made.html())
    assert not page.open
    assert not {"script", "img", "link", "iframe", "object", "embed", "base", "form"} & {
        tag for tag, _ in page.tags
    }
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "href", "srcset")]
    style = re.search(r"<style>(.*?)</style>", made.html(), re.DOTALL)
    assert style
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    assert "http" not in made.html().split("</style>")[1]


def test_members_text_is_text(made: Report) -> None:
    page = made.html()
    assert "<script" not in page
    assert "<img" not in page
    assert "\u202e" not in page
    assert "\x00" not in page
    assert EVIL in Reader(page).words


def test_the_page_is_accessible(made: Report) -> None:
    page = Reader(made.html())
    names = [tag for tag, _ in page.tags]
    assert ("html", {"lang": "en"}) in page.tags
    assert names.count("h1") == names.count("main") == 1
    pictures = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(pictures) >= 10
    assert all(picture["role"] == "img" and picture["aria-label"] for picture in pictures)
    assert all(attributes.get("scope") for tag, attributes in page.tags if tag == "th")
    assert "prefers-color-scheme: dark" in made.html()


def test_page_and_json_say_the_same(made: Report) -> None:
    content = json.loads(made.json())
    words = Reader(made.html()).words
    assert content == made.content
    for spend in content["privacy"]["spends"]:
        assert spend["what"] in words
        assert f"{spend['epsilon']:.4f}" in words
    for kind in ("scores", "exactScores"):
        assert [figure["name"] for figure in content[kind]["figures"]] == ["attack", "copies", "found"]
        for figure in content[kind]["figures"]:
            assert f"{figure['value']:.4f}" in words
            assert figure["meaning"] in words
    for marginals in content["utility"]["marginals"]:
        assert f"{marginals['mean']:.4f}" in words


def test_the_spends_add_up_to_no_more_than_the_epsilon_asked(made: Report) -> None:
    privacy = made.content["privacy"]
    total = sum(spend["epsilon"] for spend in privacy["spends"])
    assert 0 < total <= 5 + 1e-9
    assert total == pytest.approx(privacy["spent"])
    assert "score" in [spend["what"] for spend in privacy["spends"]]


def test_a_run_that_can_be_repeated_says_that_it_is_not_private(made: Report) -> None:
    assert "Not private." in Reader(made.html()).words


def test_the_public_part_holds_nothing_of_real_rows(made: Report) -> None:
    told = made.public()
    assert set(told) == {"table", "privacy", "scores"}
    assert told["scores"]["noisy"]
    assert not told["scores"]["private"]  # the run was seeded
    assert EVIL not in json.dumps(told["scores"])
    shown = Reader(page.render(told)).words
    assert "For every member" in shown
    assert "Utility" not in shown
    exact_only = Report({**made.content, "scores": made.content["exactScores"]})
    assert exact_only.public()["scores"] is None


def test_failures_and_their_remedies_are_shown() -> None:
    request = Request(COLUMNS, Fraction(5))
    synthetic = synthesize(FIT, request, seeded(1))
    unique = pa.table({"a": pa.array(np.random.default_rng(2).random(ROWS))})
    fit, held = hold_out(unique, b"key")
    failed = judge(fit, held, fit, [Column("a", "numerical", low=0.0, high=1.0)], Thresholds(0.6), key=b"k")
    words = Reader(report(synthetic, request, FIT, HELD, scores=failed).html()).words
    assert "failed" in words
    assert failed.failures[0].message in words


def test_tables_with_hardly_anything_in_them_have_a_report() -> None:
    """Columns of nulls only, of one value, of booleans; a target that nothing can be learnt of."""
    table = pa.table(
        {
            "void": pa.nulls(ROWS, pa.float64()),
            "gone": pa.nulls(ROWS, pa.string()),
            "same": pa.array([7] * ROWS),
            "flag": pa.array([True] * ROWS),
        }
    )
    columns = (
        Column("void", "numerical", low=0.0, high=1.0),
        Column("gone", "categorical", values=("a", "b")),
        Column("same", "numerical", low=0, high=9),
        Column("flag", "categorical", values=(True, False)),
    )
    request = Request(columns, Fraction(5), target="flag")
    fit, held = hold_out(table, b"key")
    synthetic = synthesize(fit, request, seeded(1))
    exact = judge(fit, held, synthetic.table, columns, Thresholds(0.6), key=b"key")
    words = Reader(report(synthetic, request, fit, held, exact=exact).html()).words
    assert "Not measured." in words
    assert exact.attack.value == pytest.approx(0.5, abs=0.05)


def test_the_unit_of_privacy_is_named() -> None:
    people = TABLE.append_column("person", pa.array([f"p{i % 1000}" for i in range(ROWS)]))
    fit, held = hold_out(people, b"key", person="person")
    request = Request(COLUMNS, Fraction(9), person=Person("person", 3))
    synthetic = synthesize(fit, request, seeded(1))
    words = Reader(report(synthetic, request, fit, held).html()).words
    assert "all rows of one person, of which 3 count" in words
    assert "not judged" in words
