"""Text to tokens: sqlglot's Spark tokenizer with a short way for what most of a text is.

sqlglot reads a text character by character. Plain words, quoted names, strings without escapes, whole numbers
and single signs, whose reading depends on nothing but the character after them, are read here by one regular
expression each; at anything else sqlglot's own step is taken, so that the tokens are the same, their places
and comments too. A text of more tokens than are wanted is not read to its end. This module knows characters
and tokens; it must not know what a query is.
"""

import re

from sqlglot.dialects.spark import Spark
from sqlglot.tokenizer_core import Token, TokenizerCore, TokenType

_Spark = Spark.Tokenizer
# What sqlglot looks for beyond a word or a sign: keywords of several words or with signs, comments, quotes.
_LONG = {
    key.upper()
    for key in (*_Spark.KEYWORDS, *_Spark._COMMENTS, *_Spark._QUOTES, *_Spark._FORMAT_STRINGS)
    if not re.fullmatch(r"\w+", key)
}
_FIRST_WORDS = frozenset(found[0] for key in _LONG if (found := re.match(r"\w+", key)))
_SIGNS = {
    sign: kind
    for sign, kind in _Spark.SINGLE_TOKENS.items()
    if sign not in _LONG and sign not in "`;" and kind not in _Spark.COMMANDS
}
_ALONE = "".join(sign for sign in _SIGNS if not any(key.startswith(sign) for key in _LONG))
_WORDS = {
    word: kind
    for word, kind in _Spark.KEYWORDS.items()
    if word not in _FIRST_WORDS and kind not in _Spark.COMMANDS
}
_LONGER = _FIRST_WORDS | {word for word, kind in _Spark.KEYWORDS.items() if kind in _Spark.COMMANDS}
_NAME, _WORD, _SIGN, _SPACED, _STRING, _NUMBER = range(2, 8)
_PLAIN = re.compile(
    r"([ \t\n]*+)(?:"
    r"`([^`\\\r\n]+)`(?!`)"
    r"|([A-Za-z_][A-Za-z0-9_]*)(?=[ \t\n,().]|\Z)"
    rf"|([{re.escape(_ALONE)}])"
    rf"|([{re.escape(''.join(_SIGNS))}])(?=[ \t\n])"
    r"|'([^'\\\r\n]*)'(?!')"
    r"|([0-9]+)(?=[ \t\n,)]|\Z))"
)
_SPACE = re.compile(r"[ \t\n]*+")


class Tokenizer(_Spark):
    """Spark's tokenizer as the gate uses it."""

    def first(self, sql: str, most: int) -> list[Token]:
        """The tokens of a text; where there are more than `most`, some of the first, but more than `most`."""
        core = _Core(self._core)
        core.most = most
        return core.tokenize(sql)

    def tokenize(self, sql: str) -> list[Token]:
        """All tokens of a text."""
        return self.first(sql, len(sql))


class _Core(TokenizerCore):
    __slots__ = ("most",)

    def __init__(self, like: TokenizerCore) -> None:
        for slot in TokenizerCore.__slots__:
            setattr(self, slot, getattr(like, slot))
        self.most = 0

    def _scan(self, check_semicolon: bool = False) -> None:
        if check_semicolon:  # inside a command, whose text is one token
            super()._scan(check_semicolon)
            return
        while not self._end and self.size and len(self.tokens) <= self.most:
            self._plain()
            if not self._end:
                self._step()
        if self.tokens and self._comments:
            self.tokens[-1].comments.extend(self._comments)

    def _step(self) -> None:
        """The next token as sqlglot reads it, a comment, or a space."""
        self._start = self._current
        self._advance()
        if self._char.isspace():
            return
        if self._char in "0123456789":
            self._scan_number()
        elif self._char in self.identifiers:
            self._scan_identifier(self.identifiers[self._char])
        else:
            self._scan_keywords()

    def _plain(self) -> None:
        """The tokens from here on that need no more than a glance."""
        if self._char == "\r":  # whether it ends a line depends on what follows
            return
        sql, tokens, most = self.sql, self.tokens, self.most
        at, line, column = self._current, self._line, self._col
        if self._char == "\n":  # a line ends where its end is left
            line, column = line + 1, 0
        begun = at
        while (found := _PLAIN.match(sql, at)) is not None and len(tokens) <= most:
            kind, space = found.lastindex or _SIGN, found[1]
            text = found[kind]
            if kind == _WORD:
                upper = text.upper()
                if upper in _LONGER or (tokens and tokens[-1].token_type is TokenType.PARAMETER):
                    break
                type = _WORDS.get(upper, TokenType.VAR)
            elif kind == _NAME:
                type = TokenType.IDENTIFIER
            elif kind == _STRING:
                type = TokenType.STRING
            elif kind == _NUMBER:
                type = TokenType.NUMBER
            else:
                type = _SIGNS[text]
            end = found.end()
            if "\n" in space:
                line += space.count("\n")
                column = end - at - space.rfind("\n") - 1
            else:
                column += end - at
            tokens.append(Token(type, text, line, column, at + len(space), end - 1, self._comments))
            self._comments = []
            at = end
        # spaces too, all at once: one by one, each would be asked what comes after all of them
        space = _SPACE.match(sql, at)[0]  # type: ignore[index]  # matches nothing too
        if at == begun and not space:
            return
        if at != begun:
            self._prev_token_line = line
        ends_line = space.endswith("\n")  # then a line ends where this is left, as above
        before = space[:-1] if ends_line else space
        if "\n" in before:
            line += before.count("\n")
            column = len(before) - before.rfind("\n") - 1
        else:
            column += len(before)
        column += ends_line
        at += len(space)
        self._current, self._line, self._col = at, line, column
        self._end = at >= self.size
        self._char, self._peek = sql[at - 1], sql[at : at + 1]
