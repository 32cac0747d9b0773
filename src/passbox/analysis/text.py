"""Text to tree and back: the only place that talks to sqlglot's Spark dialect.

The dialect of the gate is Spark with its function rewriting switched off: every call stays a name and its
arguments and is printed as it was written, because sqlglot's own Spark to Spark text changes some of them
(PERCENTILE_CONT, to_char). Statements other than a query do not parse at all. This module knows text and
syntax; it must not know tables, columns or rules.
"""

import re
import sys
from collections.abc import Collection
from typing import Any, ClassVar

from sqlglot import exp
from sqlglot.dialects.spark import Spark
from sqlglot.errors import ErrorLevel, ParseError, SqlglotError, TokenError
from sqlglot.generators.hive import HiveGenerator
from sqlglot.generators.spark import SparkGenerator
from sqlglot.parsers.hive import HiveParser
from sqlglot.parsers.spark import SparkParser
from sqlglot.tokenizer_core import Token, TokenType

from passbox.analysis.tokenizer import Tokenizer
from passbox.errors import QueryRefused

MAX_CHARACTERS = 500_000
# The same in what the gate wrote itself: three around each operator on whole numbers, of which 40 may follow
# one another. Ours recurses in Python, which costs no C stack, so the room that this needs is only a number.
MAX_OPEN_WRITTEN = 120
sys.setrecursionlimit(max(sys.getrecursionlimit(), 60 * MAX_OPEN_WRITTEN))
MAX_OPEN = 24  # brackets and CASEs open at once; sqlglot's parser recurses about 20 frames for each
# What bounds the time: every later step is linear in the tokens. Of what the gate wrote itself a comparison
# of doubles has up to nine times the tokens that it was given.
MAX_TOKENS = 20_000
MAX_TOKENS_WRITTEN = 50_000

_OPENING = {TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.CASE}
_CLOSING = {TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.END}
_BRACES = "Braces are not allowed; parameters are written :name."
_REFUSED = {
    **dict.fromkeys((TokenType.L_BRACE, TokenType.R_BRACE), _BRACES),
    **dict.fromkeys((TokenType.BLOCK_START, TokenType.BLOCK_END), _BRACES),
    # sqlglot adds what follows to the SELECT before, whose own LIMIT and columns come first in Spark
    TokenType.PIPE_GT: "Pipes (|>) are not allowed; write WITH queries, one for each step.",
}
_START = {TokenType.SELECT, TokenType.WITH, TokenType.L_PAREN}
_OPERANDS = {TokenType.VAR, TokenType.IDENTIFIER, TokenType.STRING, TokenType.NUMBER}
_AFTER_VALUE = {TokenType.COMMA, TokenType.R_PAREN, TokenType.ALIAS, TokenType.FROM, TokenType.THEN}
_AFTER_VALUE |= {TokenType.WHEN, TokenType.ELSE, TokenType.END}
_AFTER_OPERAND = _AFTER_VALUE | {TokenType.AND, TokenType.OR, TokenType.EQ, TokenType.NEQ, TokenType.IN}
_AFTER_OPERAND |= {TokenType.GTE, TokenType.LTE, TokenType.IS, TokenType.BETWEEN, TokenType.LIKE}
_UNCLOSED = re.compile(r"from \d+:(\d+)")
_TEXTS = {exp.DType.CHAR, exp.DType.VARCHAR}
_TERMINAL_COLOUR = re.compile("\x1b\\[[0-9;]*m")


class PassboxSpark(Spark):
    """Spark SQL as the gate reads it: queries only, function calls left alone."""

    Tokenizer = Tokenizer

    class Parser(SparkParser):
        FUNCTIONS: ClassVar[dict[str, Any]] = {}
        FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {
            name: SparkParser.FUNCTION_PARSERS[name] for name in ("CAST", "TRY_CAST", "EXTRACT")
        }
        NO_PAREN_FUNCTIONS: ClassVar[dict[Any, Any]] = {}
        NO_PAREN_FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {
            "CASE": SparkParser.NO_PAREN_FUNCTION_PARSERS["CASE"]
        }
        STATEMENT_PARSERS: ClassVar[dict[Any, Any]] = {}

        def _parse_disjunction(self) -> exp.Expr | None:
            return self._alone(_AFTER_VALUE) or super()._parse_disjunction()

        def _parse_bitwise(self) -> exp.Expr | None:
            return self._alone(_AFTER_OPERAND) or super()._parse_bitwise()

        def _parse_lambda(self, alias: bool = False) -> exp.Expr | None:
            return self._alone(self.LAMBDA_ARG_TERMINATORS) or super()._parse_lambda(alias)

        def _alone(self, after: Collection[TokenType]) -> exp.Expr | None:
            """A column or a literal, if next comes a sign that is no operator's and so ends it.

            sqlglot would find the same at the end of ten methods, one for each rank of operators.
            """
            index, ahead = self._index, self._next.token_type
            if self._curr.token_type not in _OPERANDS:
                return None
            if ahead is TokenType.DOT and index + 3 < self._tokens_size:
                ahead = self._tokens[index + 3].token_type
            if ahead not in after:
                return None
            found = self._parse_atom()
            if found is not None and self._curr.token_type in after:
                return found
            self._retreat(index)
            return None

        def _parse_types(self, *given: Any, **named: Any) -> exp.Expr | None:
            """As Hive's, which parses the words char and varchar anew for every type that it meets."""
            found = super(HiveParser, self)._parse_types(*given, **named)
            if found is None:
                return None
            for node in found.find_all(exp.DataType) if found.expressions else (found,):
                if node.this in _TEXTS:
                    node.set("this", exp.DType.TEXT)
                    node.set("expressions", None)
            return found

    class Generator(SparkGenerator):
        # Spark's rewriting of what the gate refuses: QUALIFY, DISTINCT ON, ANY, UNNEST, PIVOT, a WITH inside
        TRANSFORMS: ClassVar[dict[Any, Any]] = {
            kind: write
            for kind, write in SparkGenerator.TRANSFORMS.items()
            if kind not in (exp.Select, exp.From, exp.Table, exp.WithinGroup)
        }
        EXPRESSIONS_WITHOUT_NESTED_CTES: ClassVar[set[type[exp.Expr]]] = set()

        def datatype_sql(self, expression: exp.DataType) -> str:
            """As sqlglot's; Hive's parses the word float for every type, to drop sizes that are refused."""
            return super(HiveGenerator, self).datatype_sql(expression)

        def cast_sql(self, expression: exp.Cast, safe_prefix: str | None = None) -> str:
            """As Spark's, which parses the word json for every cast that it meets."""
            if expression.to.this == exp.DType.DECIMAL:
                return super().cast_sql(expression, safe_prefix)
            return super(HiveGenerator, self).cast_sql(expression, safe_prefix)


_DIALECT = PassboxSpark()


def parse(query: str, *, limited: bool = True) -> exp.Query:
    """The one query of a text; a text that holds anything else is refused.

    The limits are for what a member wrote; its regeneration, longer by names and keys, has wider ones.
    """
    if limited and len(query) > MAX_CHARACTERS:
        raise QueryRefused(
            f"The query has {len(query)} characters; at most {MAX_CHARACTERS} are allowed.",
            rule="limits.characters",
        )
    if not query.isascii() and any("\ud800" <= character <= "\udfff" for character in query):
        raise QueryRefused("The query is not valid Unicode text.", rule="syntax")
    tokens = _tokens(query, limited=limited)
    if limited and len(tokens) > MAX_TOKENS:
        raise QueryRefused(
            f"The query has more than {MAX_TOKENS} words and signs, which is the most allowed.",
            rule="limits.tokens",
            at=tokens[MAX_TOKENS].start,
        )
    if len(tokens) > MAX_TOKENS_WRITTEN:
        raise QueryRefused(
            f"With names and keys spelt out the query has more than {MAX_TOKENS_WRITTEN} words and signs, "
            "which is the most allowed; write fewer comparisons, keys or columns.",
            rule="limits.tokens",
        )
    try:
        trees = _DIALECT.parser(error_level=ErrorLevel.RAISE, max_errors=1).parse(tokens, query)
    except ParseError as error:
        raise _syntax(error) from None
    except (ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        # sqlglot's parser is not written to meet every malformed text with its own error
        raise QueryRefused("The query cannot be parsed as Spark SQL.", rule="syntax") from error
    if len(trees) != 1 or not isinstance(trees[0], exp.Query):
        raise QueryRefused(
            "The text must be exactly one query: SELECT …, or WITH … SELECT ….", rule="sql.statement"
        )
    return trees[0]


def _tokens(query: str, *, limited: bool) -> list[Token]:
    try:
        tokens = Tokenizer(_DIALECT).first(query, MAX_TOKENS if limited else MAX_TOKENS_WRITTEN)
    except TokenError as error:
        found = _UNCLOSED.search(str(error.__cause__ or error))
        raise QueryRefused(
            f"The query cannot be read as Spark SQL: {_plain(str(error))}.",
            rule="syntax",
            at=int(found[1]) if found else None,
        ) from None
    while tokens and tokens[-1].token_type == TokenType.SEMICOLON:
        tokens.pop()
    if not tokens or tokens[0].token_type not in _START:
        raise QueryRefused(
            "Only a query may run: the text must start with SELECT or WITH.",
            rule="sql.statement",
            at=tokens[0].start if tokens else None,
        )
    depth = 0
    for token in tokens:
        kind = token.token_type
        if kind == TokenType.SEMICOLON:
            raise QueryRefused(
                "The text must be exactly one query; a second one starts after this semicolon.",
                rule="sql.statement",
                at=token.start,
            )
        if kind in _REFUSED:
            raise QueryRefused(_REFUSED[kind], rule="sql.construct", at=token.start)
        if kind in _OPENING:
            depth += 1
        elif kind in _CLOSING:
            depth -= 1
        if depth > (MAX_OPEN if limited else MAX_OPEN_WRITTEN):
            raise too_deep(token.start) if limited else too_long()
    return tokens


def too_long() -> QueryRefused:
    """The refusal of a query whose text, once the gate has written it for the engine, nests too deeply."""
    return QueryRefused(
        f"At most {MAX_OPEN_WRITTEN // 3} operators on whole numbers may follow one another, because each is "
        "guarded against overflow; cut the chain by a WITH.",
        rule="limits.chain",
    )


def too_deep(at: int | None = None) -> QueryRefused:
    """The refusal of a query that nests deeper than the gate follows, from character `at` on."""
    return QueryRefused(
        f"The query is nested too deeply; at most {MAX_OPEN} brackets or CASEs may be open at once, and long "
        "chains of different operators must be cut by brackets or moved into a WITH.",
        rule="limits.nesting",
        at=at,
    )


def _syntax(error: ParseError) -> QueryRefused:
    first = error.errors[0] if error.errors else {}
    line, last = first.get("line"), first.get("col")
    near = _plain(str(first.get("highlight") or ""))[:40]
    what = _plain(str(first.get("description") or "unexpected text")).rstrip(".")
    return QueryRefused(
        "The query cannot be parsed as Spark SQL" + (f', near "{near}"' if near else "") + f": {what}.",
        rule="syntax",
        place=(line, max(1, last - len(near) + 1)) if line and last else None,
    )


def _plain(text: str) -> str:
    return _TERMINAL_COLOUR.sub("", text).splitlines()[0].strip() if text.strip() else ""


def render(tree: exp.Expr) -> str:
    """The text of a tree: every name quoted, comments dropped, functions as they were written."""
    try:
        return _DIALECT.generator(
            identify=True, comments=False, normalize_functions=False, unsupported_level=ErrorLevel.RAISE
        ).generate(tree, copy=False)
    except SqlglotError as error:
        raise QueryRefused(
            f"The query cannot be written back as Spark SQL: {_plain(str(error))}.", rule="sql.construct"
        ) from None


def label(expression: exp.Expr) -> str:
    """What an output without an alias is called: its own text, as near to Spark's name as we can be."""
    plain = expression.copy()
    for column in plain.find_all(exp.Column):
        if column.args.get("db") is None:
            column.set("table", None)
    return _DIALECT.generator(comments=False, normalize_functions="lower").generate(plain)
