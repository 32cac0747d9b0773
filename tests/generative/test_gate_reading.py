"""The gate reads and writes sooner than sqlglot does alone, and to the same end.

Its tokenizer gives sqlglot's tokens, its parser the trees that sqlglot's gives without the gate's short
ways, and what is written is written without a copy, which nothing may change. Each comparison is shown to
fail where there is a difference.
"""

import random
import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlglot import exp
from sqlglot.dialects.spark import Spark

from generative.test_gate import PIECES, mutated
from passbox.analysis import lineage, sail, text, tokenizer
from passbox.analysis.tokenizer import Tokenizer
from passbox.analysis.tree import copied, nodes, same
from passbox.errors import QueryRefused
from spec.spec_text import cases

CASES = cases()
QUERIES = sorted({case.query for case in CASES})
SIGNS = [
    *PIECES,
    *" \t\n\r,.()`'\"\\;:-+*/|<>=!@$#%&^~?[]{}0_eé²\xa0\x0b\u2028",
    *(
        "\r\n",
        "group  by",
        "ORDER\nBY",
        "r'",
        "x'ab'",
        "`a`",
        "'b'",
        "``",
        "1.5",
        "10L",
        "0x1f",
        "show",
        "fetch",
    ),
    *("user-defined", "add jar", "INTEGERS", "double precision", "$$", "/*", "\\'", "a.b", "END", "7"),
]
TEXTS = st.lists(st.tuples(st.sampled_from(SIGNS), st.sampled_from(["", "", " "])), max_size=30).map(
    lambda found: "".join(sign + space for sign, space in found)
)


def _tokens(read: Any) -> object:
    """What a text is read as, or the error of it, to the letter."""
    try:
        return [(t.token_type, t.text, t.line, t.col, t.start, t.end, t.comments) for t in read()]
    except Exception as error:
        return type(error), str(error), str(error.__cause__)


def _alike(query: str) -> bool:
    ours = _tokens(lambda: Tokenizer(Spark()).tokenize(query))
    return ours == _tokens(lambda: Spark().tokenize(query))


@settings(max_examples=1500, deadline=None)
@given(TEXTS)
@example("\r\n)*( ' 3_* ,&r'")
@example("@a @`a`, b group by\n'x''y' -- c\nd /* e */ f")
def test_tokens_are_those_of_sqlglot(query: str) -> None:
    assert _alike(query)


@pytest.mark.parametrize("query", QUERIES)
def test_tokens_of_the_rules_are_those_of_sqlglot(query: str) -> None:
    assert _alike(query)


def _without(lookahead: str) -> re.Pattern[str]:
    assert lookahead in tokenizer._PLAIN.pattern
    return re.compile(tokenizer._PLAIN.pattern.replace(lookahead, ""))


@pytest.mark.parametrize(
    ("part", "other", "query"),
    [
        ("_LONGER", frozenset(), "SELECT a GROUP BY a"),
        ("_WORDS", {}, "SELECT a FROM t"),
        ("_PLAIN", _without("(?!`)"), "SELECT `a``b`"),
        ("_PLAIN", _without(r"(?=[ \t\n,)]|\Z)"), "SELECT 1.5"),
        ("_PLAIN", _without(r"(?=[ \t\n,().]|\Z)"), "SELECT aé"),
        ("_PLAIN", _without(r"(?=[ \t\n])"), "SELECT a -- b"),
    ],
    ids=["words", "keywords", "quotes", "numbers", "letters", "signs"],
)
def test_a_tokenizer_that_looks_less_closely_is_caught(
    part: str, other: object, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer, part, other)
    assert not _alike(query)


@example("a\n-- b\n #add_3# --- ")
@example(" \t\n\n  \xa0 a \n\n")
@given(st.text(" \t\n\r\xa0a-/*1'", max_size=25))
@settings(max_examples=500, deadline=None)
def test_spaces_and_comments_are_those_of_sqlglot(query: str) -> None:
    assert _alike(query)


def test_a_text_is_not_read_beyond_what_is_wanted() -> None:
    assert 10 < len(Tokenizer(Spark()).first("a , " * 100_000, 10)) < 20


def _tree(query: str) -> object:
    """Every node with its parts and its place, or the refusal."""
    try:
        tree = text.parse(query)
    except QueryRefused as refusal:
        return refusal.rule, refusal.message, refusal.at, refusal.place
    plain = (str, bool, type(None))
    return [
        (type(one), one.comments, dict(one.meta), {k: v for k, v in one.args.items() if isinstance(v, plain)})
        for one in nodes(tree)
    ]


def _parsed_alike(query: str) -> bool:
    ours = _tree(query)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(text.PassboxSpark.Parser, "_alone", lambda self, after: None)
        return ours == _tree(query)


@settings(max_examples=500, deadline=None)
@given(st.one_of(mutated(), TEXTS.map("SELECT {}".format)))
def test_trees_are_those_of_sqlglot(query: str) -> None:
    assert _parsed_alike(query)


@pytest.mark.parametrize("query", QUERIES)
def test_trees_of_the_rules_are_those_of_sqlglot(query: str) -> None:
    assert _parsed_alike(query)


def test_random_operators_are_parsed_as_by_sqlglot() -> None:
    """Operands and operators of every rank side by side, brackets and functions between them."""
    chance = random.Random(20)
    operators = "+ - * / % DIV || & | ^ = <> <=> < > <= >= AND OR IN LIKE RLIKE IS BETWEEN NOT :: [ . << >>"
    operands = "a t.a `a` t.`a`.b 1 'x' f(a) f(t.a, 'x') (a) NULL a.* :p CASE THEN END INTERVAL DATE r'x' -1"
    for _ in range(2000):
        words = [
            chance.choice((*operands.split(), *operands.split(), *operators.split(), ",", "AS", "(", ")"))
            if chance.random() < 0.2
            else chance.choice((operands, operators)[place % 2].split())
            for place in range(chance.randint(1, 9))
        ]
        query = f"SELECT {' '.join(words)} FROM t"
        assert _parsed_alike(query), query


@pytest.mark.parametrize(
    ("after", "kind", "query"),
    [
        ("_AFTER_VALUE", "PLUS", "SELECT a + 1 FROM t"),
        ("_AFTER_VALUE", "AND", "SELECT a AND b FROM t"),
        ("_AFTER_OPERAND", "STAR", "SELECT 2 = a * 3 FROM t"),
        ("_AFTER_OPERAND", "DPIPE", "SELECT t.a || 'x' = 'y' FROM t"),
    ],
)
def test_a_parser_that_stops_too_soon_is_caught(
    after: str, kind: str, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, after, getattr(text, after) | {text.TokenType[kind]})
    assert not _parsed_alike(query)


def test_no_operator_ends_an_operand() -> None:
    """Of every rank, so that an operand alone is what each of them would have given."""
    parser = text.PassboxSpark.Parser
    below = {*parser.BITWISE, *parser.TERM, *parser.FACTOR, *parser.EXPONENT, *parser.JSON_OPERATORS}
    below |= {text.TokenType.DPIPE, text.TokenType.DQMARK, text.TokenType.LT, text.TokenType.GT}
    assert not below & text._AFTER_OPERAND
    above = {*parser.DISJUNCTION, *parser.CONJUNCTION, *parser.EQUALITY, *parser.COMPARISON}
    above |= {*parser.RANGE_PARSERS, *parser.IS_PREDICATE_TOKENS, *parser.ASSIGNMENT}
    above |= {text.TokenType.NOT, text.TokenType.ISNULL, text.TokenType.NOTNULL}
    assert not (below | above) & (text._AFTER_VALUE | set(parser.LAMBDA_ARG_TERMINATORS))
    assert not text._OPERANDS & parser.UNARY_PARSERS.keys()


@pytest.mark.parametrize("case", [case for case in CASES if case.allowed], ids=lambda case: case.name)
def test_what_is_written_is_left_as_it_was(case: Any) -> None:
    tree = text.parse(case.query)
    lineage.trace(tree, case.setup.tables)
    with suppress(QueryRefused):  # one for Spark alone
        sail.fit(tree, case.setup.tables, case.setup.parameters)
    before = copied(tree)
    assert [type(one) for one in nodes(before)] == [type(one) for one in nodes(tree)]
    text.render(tree)
    assert same(before, tree)


def test_trees_that_differ_are_not_the_same() -> None:
    tree = text.parse("SELECT a, f(b, 1) FROM t WHERE a = 'x' ORDER BY a DESC LIMIT 3")
    assert same(tree, copied(tree))
    for place, node in enumerate(nodes(tree)):
        for part, value in node.args.items():
            if value and part != "quoted":
                other = copied(tree)
                nodes(other)[place].set(part, exp.Null() if not isinstance(value, str) else f"{value}x")
                assert not same(tree, other), (node, part)
                assert not same(other, tree), (node, part)
