"""What a template says about its columns, as a Request: AWS's classification, and what is declared beside it.

AWS's template classifies each column and names the predictive one. What it has no field for may be declared
apart: the domain of a column, the unit of privacy, and columns that follow from others. A declaration is
public: it is made of what its author knows without the data. Values are texts, read as the column's type.

    {
      "columns": [
        {"columnName": "sex", "values": ["F", "M"]},
        {"columnName": "age", "low": "0", "high": "120", "step": "1"}
      ],
      "person": {"columnName": "customer", "maximumRows": 20},
      "dependencies": [{"determinants": ["city"], "dependent": "country"}]
    }

The step of a date is a number of days, that of a time a number of seconds.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, cast

import pyarrow as pa

from passbox.synthesis.request import Column, Dependency, Kind, Person, Request, refused

SCORE_SHARE = Fraction(1, 20)  # of the budget, what the score of the result costs


_KEYS = {
    "": ("columns", "person", "dependencies"),
    "columns": ("columnName", "values", "low", "high", "step"),
    "person": ("columnName", "maximumRows"),
    "dependencies": ("determinants", "dependent"),
}


def known(document: Any) -> None:
    """Raises ValidationException where a declaration, as written, has a key that means nothing."""
    if not isinstance(document, dict):
        return  # which the model refuses
    for place, part in [("", document), *document.items()]:
        for one in part if isinstance(part, list) else [part]:
            for key in one if place in _KEYS and isinstance(one, dict) else ():
                if key not in _KEYS[place]:
                    within = f" within {place}" if place else ""
                    raise refused(
                        place or key,
                        f"The declaration has no key {key}{within}; there are {', '.join(_KEYS[place])}.",
                    )


def request(parameters: Mapping[str, Any], declaration: Mapping[str, Any], schema: pa.Schema) -> Request:
    """The synthesis that a template asks for.

    parameters: modelled MLSyntheticDataParameters; declaration: as above, or empty; schema: of the result
    Raises ValidationException where they do not fit each other; `Request.check` asks for the rest.
    """
    classified = {
        column["columnName"]: column for column in parameters["columnClassification"]["columnMapping"]
    }
    _once("column", [field.name for field in schema], "The table")
    _once(
        "columnName", [column["columnName"] for column in declaration.get("columns", ())], "The declaration"
    )
    declared = {column["columnName"]: column for column in declaration.get("columns", ())}
    person = declaration.get("person")
    names = [field.name for field in schema if person is None or field.name.lower() != person["columnName"]]
    if beyond := sorted(set(declared) - {name.lower() for name in names}):
        raise refused("columns", f"The declaration is about a column {beyond[0]}, which the result has not.")
    predictive = [name for name in names if classified.get(name.lower(), {}).get("isPredictiveValue")]
    return Request(
        columns=tuple(
            _column(
                schema.field(name), classified[name.lower()]["columnType"], declared.get(name.lower(), {})
            )
            for name in names
            if name.lower() in classified
        ),
        # as written, not as a float has it
        epsilon=Fraction(Decimal(repr(parameters["epsilon"]))),
        target=predictive[0] if predictive else None,
        person=None
        if person is None
        else Person(_spelled(person["columnName"], schema), person["maximumRows"]),
        dependencies=tuple(
            Dependency(
                tuple(_spelled(name, schema) for name in one["determinants"]),
                _spelled(one["dependent"], schema),
            )
            for one in declaration.get("dependencies", ())
        ),
        score=SCORE_SHARE,
    )


def _once(key: str, names: Sequence[str], what: str) -> None:
    for at, name in enumerate(names):
        if name in names[:at]:
            raise refused("columns", f"{what} has more than one {key} {name}; each may be there once.")


def _spelled(name: str, schema: pa.Schema) -> str:
    """A column's name as the result spells it; names have no case."""
    for field in schema:
        if field.name.lower() == name.lower():
            return str(field.name)
    raise refused("columns", f"The declaration is about a column {name}, which the result has not.")


def _column(field: pa.Field, kind: str, declared: Mapping[str, Any]) -> Column:
    values = declared.get("values")
    bounds = [
        None if (text := declared.get(key)) is None else _read(field, [text])[0] for key in ("low", "high")
    ]
    step = declared.get("step")
    return Column(
        name=field.name,
        kind=cast(Kind, kind.lower()),
        values=None if values is None else tuple(_read(field, values)),
        low=bounds[0],
        high=bounds[1],
        step=None if step is None else _step(field, step),
    )


def _read(field: pa.Field, texts: Sequence[str]) -> list[Any]:
    """The texts as values of the column's type."""
    try:
        return cast(list[Any], pa.array(texts, pa.string()).cast(field.type).to_pylist())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise refused(
            "columns", f"A declared value of the column {field.name} is not of its type {field.type}."
        ) from error


def _step(field: pa.Field, text: str) -> Any:
    per = 86_400 if pa.types.is_date(field.type) else 1
    if pa.types.is_temporal(field.type):
        [seconds] = _read(pa.field(field.name, pa.float64()), [text])
        return pa.scalar(round(seconds * per * 1e6), pa.duration("us")).as_py()
    return _read(field, [text])[0]
