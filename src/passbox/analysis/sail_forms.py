"""The forms of a call that Sail does not answer as Spark does, function by function: a reason, or None.

A form is what arguments there are, of what types, and what literals say. This module knows single calls.
"""

import re
from collections.abc import Callable, Mapping, Sequence

from sqlglot import exp

from passbox.analysis.types import Type, digits, element


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


AS_TEXT = _words(
    """
    tinyint smallint int bigint decimal string boolean date void
    """
)
PARTS = _words(
    """
    YEAR QUARTER MONTH WEEK DAY DOY HOUR MINUTE SECOND
    """
)
_TRUNCATED = _words(
    """
    year yyyy yy quarter month mon mm week day dd hour minute second millisecond microsecond
    """
)
_TRUNCATED_DATE = _words(
    """
    year yyyy yy quarter month mon mm week
    """
)
# what a pattern of letters may hold, longest first
_WRITTEN = re.compile(r"(?:yyyy|yy|MMMM|MMM|MM|dd|d|HH|hh|h|mm|ss|SSS|EEEE|EEE|a|D|Q|[^A-Za-z'\[\]{}#]|'')*")
_READ = re.compile(r"(?:yyyy|MMM|MM|dd|d|HH|hh|mm|ss|a|[^A-Za-z'\[\]{}#])*")
_ZONE = re.compile(r"[A-Za-z_]+(?:/[A-Za-z_]+)*")
# the constructs of regular expressions that mean the same to Java and to Rust
_PATTERN = re.compile(
    r"""(?: [^\\.$\[\](){}?*+|^] | \\[^A-Za-z0-9\s] | \\z | \[\^?(?:[^\[\]\\&~-]|[A-Za-z0-9]-[A-Za-z0-9])+-?\]
        | \(\?: | \((?!\?) | \) | \| | \^ | [?*+](?![?*+]) | \{\d+(?:,\d*)?\}(?![?*+]) )*""",
    re.VERBOSE,
)
Check = Callable[[Sequence[exp.Expr], Sequence[Type]], str | None]


def reason(name: str, arguments: Sequence[exp.Expr], types: Sequence[Type]) -> str | None:
    """Why Sail is not asked this call of a function that it otherwise may be asked."""
    for check in (*((_TEXTUAL,) if name in _TEXTS else ()), *_CHECKS.get(name, ())):
        found: str | None = check(arguments, types)
        if found is not None:
            return found
    return None


def pattern(node: exp.Expr) -> str | None:
    """Why a regular expression does not mean the same to both."""
    text = _text(node)
    if text is None:
        return "its regular expression is not a literal"
    if not _PATTERN.fullmatch(text) or _is_idle(text):
        return (
            "its regular expression holds what Java and Rust read in two ways (the dot, $, \\d, \\w, \\s, "
            "flags, lookaround, nothing at all); write classes such as [0-9] and \\\\z for the end"
        )
    return None


def _is_idle(pattern: str) -> bool:
    """Whether it finds nothing at all in an empty text; it is no pattern of ours, then, or a wrong one."""
    try:
        return re.fullmatch(pattern.replace("\\z", "\\Z"), "") is not None
    except re.error:
        return True


def _text(node: exp.Expr) -> str | None:
    """What a literal says to the engine."""
    if isinstance(node, exp.RawString) or (isinstance(node, exp.Literal) and node.is_string):
        return str(node.this)
    return None


def _count(most: int, instead: str) -> Check:
    return lambda arguments, _: instead if len(arguments) > most else None


def _family(allowed: str, instead: str, places: slice = slice(None)) -> Check:
    names = _words(allowed)
    return lambda _, types: instead if any(one.family not in names for one in types[places]) else None


def _word(place: int, allowed: frozenset[str]) -> Check:
    def check(arguments: Sequence[exp.Expr], _: Sequence[Type]) -> str | None:
        text = _text(arguments[place])
        if text is None or text.lower() not in allowed:
            return f"its unit must be one of {', '.join(sorted(allowed))}, as a literal"
        return None

    return check


def _format(place: int, allowed: re.Pattern[str]) -> Check:
    def check(arguments: Sequence[exp.Expr], _: Sequence[Type]) -> str | None:
        if len(arguments) <= place:
            return None
        text = _text(arguments[place])
        if text is None or not allowed.fullmatch(text):
            return "its format must be a literal of the letters that the reference lists"
        return None

    return check


def _not_negative(place: int) -> Check:
    def check(arguments: Sequence[exp.Expr], _: Sequence[Type]) -> str | None:
        if len(arguments) > place and not _is_count(arguments[place]):
            return "a length or place must be a literal of 0 or more here"
        return None

    return check


def _is_count(node: exp.Expr) -> bool:
    return isinstance(node, exp.Literal) and not node.is_string and str(node.this).isdigit()


def _substring(arguments: Sequence[exp.Expr], types: Sequence[Type]) -> str | None:
    if len(arguments) < 3:
        return None
    length = arguments[2]
    counted = isinstance(length, exp.Anonymous) and str(length.this).lower() in _COUNTS
    return _not_negative(1)(arguments, types) or (None if counted else _not_negative(2)(arguments, types))


_COUNTS = _words(
    """
    char_length character_length instr len length locate position
    """
)


def _places(arguments: Sequence[exp.Expr], types: Sequence[Type]) -> str | None:
    if types[0].family not in ("decimal", "unknown"):
        return None
    size = digits(types[0])
    if len(arguments) == 2 and size is not None and str(arguments[1].name) == str(size[1] - 1):
        return None if _is_count(arguments[1]) else "its places must be a literal"
    return "the rounded decimal has another type; cast it to double, or to decimal with fewer places"


def _printed(arguments: Sequence[exp.Expr], types: Sequence[Type]) -> str | None:
    text = _text(arguments[0])
    if text is None or not re.fullmatch(r"(?:[^%]|%[sd]|%%)*", text):
        return "its format must be a literal with %s, %d and %% alone"
    if any(one.family not in AS_TEXT for one in types[1:]):
        return "only text, whole numbers, decimals, booleans and dates have the same text"
    return None


def _arrays_or_text(_: Sequence[exp.Expr], types: Sequence[Type]) -> str | None:
    families = {one.family for one in types}
    if families <= AS_TEXT or (len({one.name for one in types}) == 1 and families <= {"array", "binary"}):
        return None
    return "only text, whole numbers, decimals, booleans and dates have the same text"


def _long_decimal(_: Sequence[exp.Expr], types: Sequence[Type]) -> str | None:
    if any(one.family == "decimal" and (digits(one) or (38, 0))[0] > 18 for one in types):
        return "decimals of more than 18 digits are hashed in another way"
    return "a type that is not known is not hashed" if any(o.family == "unknown" for o in types) else None


def _pattern(place: int) -> Check:
    return lambda arguments, _: pattern(arguments[place])


def _summed(_: Sequence[exp.Expr], types: Sequence[Type]) -> str | None:
    one = types[0]
    if one.family == "decimal" and (digits(one) or (38, 0))[0] > 28:
        return "the digits of the decimal are not known, or too many to be summed; cast it to decimal(28, …)"
    if one.family in ("unknown", "string"):
        return "the type of its argument is not known to be a number; cast it"
    return None


def _replacement(arguments: Sequence[exp.Expr], _: Sequence[Type]) -> str | None:
    text = _text(arguments[2])
    if text is None or "$" in text or "\\" in text:
        return "its replacement must be a literal without $ and backslashes, which Java reads otherwise"
    return None


def _sought(_: Sequence[exp.Expr], types: Sequence[Type]) -> str | None:
    held, sought = element(types[0]), types[1]
    if held.name != sought.name and {held.family, sought.family} & {"float", "double", "decimal"}:
        return "what is sought is not of the type that the array is known to hold; cast it"
    return None


_TEXTUAL = _family(f"{' '.join(AS_TEXT)} binary array", "its argument has another text; cast it", slice(1))
_WHOLES = _family("tinyint smallint int bigint void", "it takes whole numbers alone")
_STEPS = _family("tinyint smallint int void", "it takes a whole number of int or less; cast it", slice(1, 2))
_REGION = _format(1, _ZONE)

_TEXTS = _words(
    """
    ascii bit_length btrim char_length character_length contains encode endswith find_in_set instr
    lcase len length levenshtein locate lower ltrim luhn_check mask md5 octet_length overlay position
    regexp_count regexp_extract regexp_extract_all regexp_instr regexp_like regexp_replace
    regexp_substr repeat replace reverse rlike rtrim sha sha1 sha2 crc32 soundex split split_part
    startswith substring_index translate trim ucase upper url_decode url_encode base64
    """
)
_CHECKS: Mapping[str, Sequence[Check]] = {
    "concat": (_arrays_or_text,),
    "concat_ws": (
        _family(f"{' '.join(AS_TEXT)} array", "only text, whole numbers and dates have the same text"),
    ),
    "string": (_family(" ".join(AS_TEXT), "a value of this type has another text; use CAST where it may"),),
    "boolean": (_family("tinyint smallint int bigint boolean", "it takes words that Spark refuses"),),
    "timestamp": (_family("string timestamp", "of a date it gives a time without a zone; use CAST"),),
    "timestamp_seconds": (_WHOLES,),
    "from_unixtime": (
        _family("tinyint smallint int", "years beyond 9999 are written otherwise; cast to int", slice(1)),
        _format(1, _WRITTEN),
    ),
    "to_unix_timestamp": (_format(1, _READ),),
    "unix_timestamp": (_format(1, _READ),),
    "to_date": (_format(1, _READ),),
    "to_timestamp": (_format(1, _READ),),
    "try_to_timestamp": (_format(1, _READ),),
    "date_format": (_format(1, _WRITTEN),),
    "date_part": (_word(0, frozenset(part.lower() for part in PARTS)),),
    "datepart": (_word(0, frozenset(part.lower() for part in PARTS)),),
    "date_trunc": (
        _word(0, _TRUNCATED),
        lambda _, types: None if types[1].family == "timestamp" else "of a date it has no zone; use trunc",
    ),
    "trunc": (_word(1, _TRUNCATED_DATE),),
    "from_utc_timestamp": (_REGION,),
    "to_utc_timestamp": (_REGION,),
    **dict.fromkeys(
        ("nvl", "ifnull"),
        (
            lambda _, types: (
                "of decimals it gives a double; use coalesce" if types[0].family == "decimal" else None
            ),
        ),
    ),
    "decode": (_count(2, "with pairs of values it is not there; use CASE"),),
    "log": (
        lambda arguments, _: "with one argument it is not there; use ln" if len(arguments) < 2 else None,
    ),
    "regexp_replace": (_count(3, "a place to start from is not there"), _pattern(1), _replacement),
    "regexp_extract": (_pattern(1),),
    "regexp_extract_all": (_pattern(1),),
    "regexp_instr": (_pattern(1),),
    "regexp_like": (_pattern(1),),
    "regexp_substr": (_pattern(1),),
    "regexp_count": (_pattern(1),),
    "rlike": (_pattern(1),),
    "split": (_pattern(1),),
    "format_string": (_printed,),
    "format_number": (
        _family("tinyint smallint int bigint double", "decimals are rounded in another way", slice(1)),
    ),
    "left": (_not_negative(1), _family("string void", "it takes text", slice(1))),
    "right": (_not_negative(1), _family("string void", "it takes text", slice(1))),
    "substr": (_substring, _family("string void", "it takes text", slice(1))),
    "substring": (_substring, _family("string void", "it takes text", slice(1))),
    "lpad": (_family("string void", "it takes text", slice(1)),),
    "rpad": (_family("string void", "it takes text", slice(1)),),
    "elt": (lambda arguments, _: None if _is_count(arguments[0]) else "its place must be a literal",),
    "isnan": (_family("float double", "it takes doubles and floats alone"),),
    "round": (_places,),
    **dict.fromkeys(
        ("ceil", "ceiling", "floor"),
        (lambda arguments, types: _places(arguments, types) if len(arguments) > 1 else None,),
    ),
    "hash": (
        _family(
            "tinyint smallint int bigint float double string boolean date timestamp binary",
            "only plain values that are no decimals are hashed alike",
        ),
    ),
    "xxhash64": (_long_decimal,),
    **dict.fromkeys(("try_add", "try_subtract", "try_multiply", "try_divide", "try_mod"), (_WHOLES,)),
    **dict.fromkeys(("add_months", "date_add", "date_sub", "dateadd"), (_STEPS,)),
    **dict.fromkeys(("array_position", "array_remove"), (_sought,)),
    **dict.fromkeys(
        ("median", "percentile"),
        (
            lambda _, types: (
                "of floats it is computed in floats; cast to double" if types[0].family == "float" else None
            ),
        ),
    ),
    "sum": (_summed,),
    "try_sum": (_summed,),
    "avg": (_summed,),
    "mean": (_summed,),
    "try_avg": (_family("tinyint smallint int bigint float double", "decimals are averaged in another way"),),
}

CHECKED = frozenset(_CHECKS)
