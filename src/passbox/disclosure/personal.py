"""Where a text holds what can lead to a person: ALL_PERSONALLY_IDENTIFIABLE_INFORMATION.

Two finders, and what either finds counts: `datafog-core` (Rust, linear time, no model), and expressions of
RE2 for what it leaves out. Both rather take too much than too little: every number of five or of seven and
more digits, every date, every UUID goes. Names and places in plain prose are NOT found, nor is what was
encoded; tests/spec/disclosure/personal.md shows what is found and what is missed. Pure.
"""

from collections.abc import Iterator
from typing import Any

from passbox.patterns import compile_pattern

Span = tuple[int, int]

_KEYS = (
    r"(?:first|last|middle|full|maiden|sur|given|family|user|display|customer|patient)[ _-]?name|name|login"
    r"|e-?mail|phone|mobile|address|street|city|postcode|dob|birth[ _-]?(?:date|day|place)"
    r"|date[ _-]?of[ _-]?birth|ssn|nino|passport(?:[ _-]?(?:no|number))?|licen[cs]e[ _-]?(?:no|number|plate)"
    r"|tax[ _-]?id|iban|account[ _-]?(?:no|number)"
    r"|passw(?:or)?d|secret|api[ _-]?key|token|cookie|authorization"
)
_MONTHS = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*"
_STREETS = "(?:Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Dr|Boulevard|Blvd|Court|Ct|Square|Sq|Way|Close)"
_VALUE = r""" *("[^"\n]*"|'[^'\n]*'|[^\s,;}\]]+(?-i: \p{Lu}[^\s,;}\]=]*){0,3})"""
# The first group is what goes; the whole match where there is none.
_EXPRESSIONS = (
    r"""(?:"[^"\n]{1,64}"|[^\s<>(),;]+)@[^\s<>(),;]*\pL[^\s<>(),;]*""",  # addresses of any script; user@host
    r"[+(]{0,2}[0-9](?:[ ()/\-]{0,2}[0-9]){6,}",  # telephones, cards, registers, whatever their country
    r"[0-9]{2,4}(?:\.[0-9]{2,4}){2,4}",  # the same, and dates, with dots
    r"\b[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,3})?\b",  # IBAN
    r"\b[A-Z]{1,3} ?[0-9]{6,10}[A-Z]?\b",  # passports and licences
    r"\b[A-Z]{2}(?: ?[0-9]{2}){3} ?[A-D]\b",  # British national insurance
    r"\b[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}\b",  # network cards
    rf"\b[0-9]{{1,2}}(?:st|nd|rd|th)?[ ./\-]{{1,2}}{_MONTHS}[ .,/\-]{{0,3}}[0-9]{{2,4}}\b",
    rf"""(?i)\b(?:{_KEYS})["']? *[:=]{_VALUE}""",
    r"\b(?:Mr|Mrs|Ms|Dr|Prof)\.? (\p{Lu}[\pL'\-]*(?: \p{Lu}[\pL'\-]*){0,2})",
    rf"\b[0-9]{{1,5}}[a-z]? (?:\p{{Lu}}[\pL'\-]+ ){{1,3}}{_STREETS}\b",
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    r"(?m)^[A-Za-z0-9+/]{40,}={0,2}$",  # the body of a key, whose first line need not be there
)
_OPTIONS = {"detect_uuid": True, "locale": "de"}
_compiled: list[Any] = []


def find(text: str) -> Iterator[Span]:
    """The places of what can lead to a person, in no order; they may overlap.

    ImportError without the library.
    """
    import datafog_core

    for finding in datafog_core.scan(text, _OPTIONS):  # type: ignore[arg-type]
        found = finding.codepoint_range
        yield found.start, found.end
    if not _compiled:
        _compiled.extend(compile_pattern(expression) for expression in _EXPRESSIONS)
    for pattern in _compiled:
        for match in pattern.finditer(text):
            start, end = match.span(1 if pattern.groups else 0)
            if not _is_fraction(text, start):
                yield start, end


def _is_fraction(text: str, start: int) -> bool:
    """Whether the digits that start here are those after a decimal point, as in 0.1234567."""
    return start > 1 and text[start - 1] == "." and text[start - 2].isdigit() and text[start].isdigit()
