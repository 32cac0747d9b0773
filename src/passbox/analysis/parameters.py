"""Typed parameters of analysis templates: from AWS's type and a text to a value that an engine binds.

A text is read strictly, in the form that its type has in Spark SQL: what does not fit is refused, not cut,
wrapped or made NULL. Of REAL and DOUBLE it is the nearest value there is. Knows texts and types, and no SQL.
"""

import calendar
import math
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from decimal import Decimal
from typing import NoReturn

from passbox.analysis.plan import Parameter
from passbox.errors import QueryRefused

RULE = "sql.parameter"
_DIGITS = 38  # of a Spark decimal
_WHOLE = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_FIXED = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)")
_DATE = r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
_MIDNIGHT = re.compile(_DATE + "()()()")  # a date has no time, which is midnight
_LOCAL = re.compile(_DATE + r"(?:[ T]([01][0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9])(?:\.([0-9]{1,6}))?)?)?")
_INSTANT = re.compile(_LOCAL.pattern + r"(?:Z|([+-])([01][0-9]):([0-5][0-9]))?")
_DAY_SECONDS = 86_400
_SECOND = 1_000_000  # in microseconds
# the years 1 to 9999, as dates are written
_FIRST = calendar.timegm((1, 1, 1, 0, 0, 0))
_LAST = calendar.timegm((9999, 12, 31, 23, 59, 59))

Reader = Callable[[str], Parameter]
Declared = Iterable[Mapping[str, str]]


def _read(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    """The text taken apart, if it is all of the pattern; ValueError otherwise."""
    found = pattern.fullmatch(text)
    if found is None:
        raise ValueError
    return found


def _whole(type: str, bits: int) -> Reader:
    def read(text: str) -> Parameter:
        value = int(_read(_WHOLE, text)[0])
        if not -(1 << bits - 1) <= value < 1 << bits - 1:
            raise ValueError
        return Parameter(type, value)

    return read


def _decimal(text: str) -> Parameter:
    """Of the number's own precision and scale, as a literal in a query has them."""
    value = Decimal(_read(_FIXED, text)[0])
    _, digits, exponent = value.as_tuple()
    scale = -int(exponent)
    precision = max(len(digits), scale)
    if precision > _DIGITS:
        raise ValueError
    return Parameter(f"decimal({precision},{scale})", value)


def _double(text: str) -> Parameter:
    value = float(_read(_NUMBER, text)[0])
    if not math.isfinite(value):
        raise ValueError
    return Parameter("double", value)


def _float(text: str) -> Parameter:
    value = _double(text).value
    [single] = struct.unpack("<f", struct.pack("<f", value))  # OverflowError where it is out of range
    return Parameter("float", single)


def _boolean(text: str) -> Parameter:
    return Parameter("boolean", {"true": True, "false": False}[text.lower()])


def _seconds(parts: re.Match[str]) -> int:
    """Since 1970, of the date and time that a match starts with; ValueError where there is no such day."""
    year, month, day, hour, minute, second = (int(part or 0) for part in parts.groups()[:6])
    if not 1 <= day <= calendar.monthrange(year, month)[1]:
        raise ValueError
    return calendar.timegm((year, month, day, hour, minute, second))


def _date(text: str) -> Parameter:
    return Parameter("date", _seconds(_read(_MIDNIGHT, text)) // _DAY_SECONDS)


def _microseconds(parts: re.Match[str], seconds: int) -> int:
    if not _FIRST <= seconds <= _LAST:
        raise ValueError
    return seconds * _SECOND + int((parts[7] or "").ljust(6, "0"))


def _timestamp(text: str) -> Parameter:
    """A moment; without an offset it is UTC's, as the session's time zone is."""
    parts = _read(_INSTANT, text)
    offset = int(parts[9] or 0) * 3600 + int(parts[10] or 0) * 60
    seconds = _seconds(parts) - (-offset if parts[8] == "-" else offset)
    return Parameter("timestamp", _microseconds(parts, seconds))


def _timestamp_ntz(text: str) -> Parameter:
    parts = _read(_LOCAL, text)
    return Parameter("timestamp_ntz", _microseconds(parts, _seconds(parts)))


def _string(text: str) -> Parameter:
    return Parameter("string", text)


def _binary(text: str) -> Parameter:
    """The text's bytes in UTF-8, as CAST(text AS BINARY) gives them."""
    return Parameter("binary", text.encode())


_READERS: Mapping[str, tuple[Reader, str]] = {
    name: (reader, form)
    for names, reader, form in (
        ("TINYINT BYTE", _whole("tinyint", 8), "a whole number from -128 to 127"),
        ("SMALLINT SHORT", _whole("smallint", 16), "a whole number from -32768 to 32767"),
        ("INTEGER INT", _whole("int", 32), "a whole number from -2147483648 to 2147483647"),
        ("BIGINT LONG", _whole("bigint", 64), "a whole number of 64 bits"),
        ("DECIMAL NUMERIC", _decimal, f"a number like -12.50, of at most {_DIGITS} digits"),
        ("DOUBLE DOUBLE_PRECISION", _double, "a finite number like -12.5 or 1e-3"),
        ("REAL FLOAT", _float, "a finite number of single precision, like -12.5 or 1e-3"),
        ("BOOLEAN", _boolean, "true or false"),
        ("CHAR CHARACTER VARCHAR STRING", _string, "a text of Unicode characters"),
        ("DATE", _date, "a date like 2026-11-24"),
        (
            "TIMESTAMP TIMESTAMPTZ TIMESTAMP_LTZ",
            _timestamp,
            "a time like 2026-11-24 09:30:00.000, with an offset like Z or +02:00 where it is not UTC",
        ),
        ("TIMESTAMP_NTZ", _timestamp_ntz, "a time without an offset, like 2026-11-24 09:30:00.000"),
        ("VARBYTE BINARY", _binary, "a text of Unicode characters, whose UTF-8 bytes are taken"),
    )
    for name in names.split()
}  # fmt: skip
_TIMES_OF_DAY = ("TIME", "TIMETZ")
_DECIMALS = frozenset({"DECIMAL", "NUMERIC"})
_STAND_INS: tuple[str, ...] = ("0", "true", "2000-01-01")  # every type reads one of them


def value(name: str, type: str, text: str) -> Parameter:
    """The value of the parameter `name`, of AWS's ParameterType `type`, that `text` stands for.

    Raises QueryRefused where the text is not one, or where no engine has the type.
    """
    _check_type(name, type)
    reader, form = _READERS[type]
    try:
        text.encode()  # half of a surrogate pair is no character
        return reader(text)
    except (ValueError, KeyError, OverflowError):
        _refuse(f"The parameter {name} is {type}, and {text!r} is not: give {form}.")


def _check_type(name: str, type: str) -> None:
    if type in _TIMES_OF_DAY:
        _refuse(
            f"The parameter {name} is of type {type}, which no engine here has; declare it as STRING and "
            "compare texts, or as TIMESTAMP."
        )


def declare(declared: Declared, used: frozenset[str]) -> None:
    """Refuse what a template declares where it is not what its text uses, or a default is not of its type.

    declared: AnalysisParameters; used: the names of every `:name` in the text
    """
    names = [one["name"] for one in declared]
    for name in names:
        if names.count(name) > 1:
            _refuse(f"The parameter {name} is declared twice; declare it once.")
    for name in sorted(used - set(names)):
        _refuse(f"The text uses :{name}, which analysisParameters does not declare; declare its type.")
    for one in declared:
        name, type = one["name"], one["type"]
        if name not in used:
            _refuse(f"The parameter {name} is declared but the text does not use :{name}; leave it out.")
        _check_type(name, type)
        if "defaultValue" in one:
            value(name, type, one["defaultValue"])


def bind(declared: Declared, given: Mapping[str, str]) -> dict[str, Parameter]:
    """The typed value of every declared parameter: the given one, else its default.

    Raises QueryRefused for a name that is not declared, a value that is missing and one that does not fit its
    type.
    """
    types = {one["name"]: one for one in declared}
    for name in sorted(given.keys() - types.keys()):
        known = ", ".join(types) or "none"
        _refuse(f"The analysis template has no parameter {name}; it has {known}.")
    values: dict[str, Parameter] = {}
    for name, one in types.items():
        text = given.get(name, one.get("defaultValue"))
        if text is None:
            _refuse(f"The parameter {name} ({one['type']}) has no value and no default; give one.")
        values[name] = value(name, one["type"], text)
    return values


def stand_ins(declared: Declared) -> list[dict[str, Parameter]]:
    """Values that stand for all that parameters may have, of types that `declare` lets through.

    The gate goes by the types of values alone, and only a DECIMAL's follows from its value: where there is
    one, there are two answers, with DECIMALs of few digits and of as many as there can be.
    """
    types = {one["name"]: one["type"] for one in declared}
    choices = [_STAND_INS]
    if not _DECIMALS.isdisjoint(types.values()):
        choices.append(("9" * _DIGITS, *_STAND_INS))
    return [{name: _stand_in(name, type, texts) for name, type in types.items()} for texts in choices]


def _stand_in(name: str, type: str, texts: Iterable[str]) -> Parameter:
    for text in texts:
        with suppress(QueryRefused):
            return value(name, type, text)
    raise LookupError(type)


def _refuse(message: str) -> NoReturn:
    raise QueryRefused(message, rule=RULE)
