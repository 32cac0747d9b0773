"""The names of types that tables declare, as Spark's."""

import re

_SIMPLE = "tinyint|smallint|int|bigint|float|double|string|boolean|date|timestamp|binary"
_TYPE = re.compile(rf"{_SIMPLE}|decimal\([1-9][0-9]?,[0-9][0-9]?\)", re.ASCII)
_TEXT = re.compile(r"(var)?char\([1-9][0-9]{0,4}\)", re.ASCII)
_SYNONYMS = {
    "integer": "int", "long": "bigint", "short": "smallint", "byte": "tinyint", "real": "float",
    "decimal": "decimal(10,0)",
}  # fmt: skip


def spark_type(declared: str) -> str | None:
    """The Spark type of a declared one, in any case and with any spaces; None where tables cannot have it."""
    name = declared.lower().replace(" ", "")
    name = _SYNONYMS.get(name, name)
    if _TEXT.fullmatch(name):
        return "string"
    return name if _TYPE.fullmatch(name) else None
