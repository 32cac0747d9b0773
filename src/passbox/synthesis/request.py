"""What is asked of a synthesis: columns, their declared domains, the target, the budget and the unit of
privacy.

What is declared here is public: it comes from the template, never from the data. This module knows no data.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from passbox.errors import ValidationException

Kind = Literal["categorical", "numerical"]


@dataclass(frozen=True)
class Column:
    """One column of the table.

    kind:   categorical (labels) or numerical (numbers, dates, times: what has an order and distances).
    values: categorical: all values that may appear, as Python values of the column's type; others count as
    the rest. None: discovered under the budget.
    low, high, step: numerical: bounds and, if there is one, the distance between neighbouring values, as
    Python values of the column's type (step of a date or time: a timedelta). Values beyond the bounds are
    moved to them. None: discovered under the budget.
    rest:   categorical, discovered, of text: the one value that stands for all that are too rare to be
    told.

    """

    name: str
    kind: Kind
    values: tuple[Any, ...] | None = None
    low: Any = None
    high: Any = None
    step: Any = None
    rest: str = "OTHER"


@dataclass(frozen=True)
class Person:
    """The unit of privacy: all rows with one value of `column`, of which at most `cap` count.

    The column itself identifies, so it is not synthesized and not in the output.
    """

    column: str
    cap: int


@dataclass(frozen=True)
class Dependency:
    """`dependent` follows from `determinants`: each combination of their values has one value of it."""

    determinants: tuple[str, ...]
    dependent: str


@dataclass(frozen=True)
class Request:
    """One synthesis.

    columns: every column of the table but the person's, in the table's order.
    epsilon, delta: the claim, for everything that leaves.
    target:  the column that is to be predicted from the others, if there is one.
    rows:    how many rows to make; None: as many as the table has, to within noise.
    person:  the unit of privacy; None: one row.
    fewest:  how many rows there must have been, to within noise, before a twentieth was held out.
    score:   the share of the budget, 0 to 1, that is kept for a score of the result.
    """

    columns: tuple[Column, ...]
    epsilon: Fraction
    delta: Fraction = Fraction(1, 10**9)
    target: str | None = None
    rows: int | None = None
    person: Person | None = None
    dependencies: tuple[Dependency, ...] = field(default=())
    score: Fraction = Fraction(0)
    fewest: int = 1

    def column(self, name: str) -> Column:
        """The column of this name; ValidationException where there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise refused("columns", f"There is no column {name} among the classified ones.")

    def check(self, schema: dict[str, bool]) -> None:
        """Raises ValidationException where request and table do not fit.

        schema: the table's columns in order → whether the type is one that a categorical column may have
        only.
        """
        if self.epsilon <= 0:
            raise refused("epsilon", f"epsilon must be above 0; it is {float(self.epsilon)}.")
        if not 0 < self.delta < 1:
            raise refused("delta", f"delta must lie between 0 and 1; it is {float(self.delta)}.")
        if not 0 <= self.score < 1:
            raise refused("score", f"The score's share must lie between 0 and 1; it is {float(self.score)}.")
        if self.rows is not None and self.rows < 1:
            raise refused("rows", f"rows must be 1 or more; it is {self.rows}.")
        if self.person and self.person.cap < 1:
            raise refused("person", f"A person's cap must be 1 or more; it is {self.person.cap}.")
        names = [column.name for column in self.columns]
        person = [self.person.column] if self.person else []
        if sorted(names + person) != sorted(schema):
            missing = sorted(set(schema) - {*names, *person})
            beyond = sorted({*names, *person} - set(schema))
            raise refused(
                "columns",
                "Every column of the table must be classified once: "
                f"not classified {missing}, not in the table {beyond}.",
            )
        if not set(names) - {self.target}:
            raise refused("columns", "There must be a column beside the target.")
        for column in self.columns:
            _check_column(column, schema[column.name])
        self._check_roles()

    def _check_roles(self) -> None:
        if self.target is not None:
            self.column(self.target)
        seen: set[str] = set()
        for dependency in self.dependencies:
            for name in (*dependency.determinants, dependency.dependent):
                self.column(name)
            if dependency.dependent == self.target:
                raise refused("dependencies", f"The target {self.target} cannot be a dependent column.")
            if dependency.dependent in seen:
                raise refused("dependencies", f"{dependency.dependent} is declared dependent twice.")
            seen.add(dependency.dependent)
        for dependency in self.dependencies:
            if not dependency.determinants or seen & set(dependency.determinants):
                raise refused(
                    "dependencies",
                    f"The determinants of {dependency.dependent} must be columns that depend on none.",
                )


def _check_column(column: Column, labels: bool) -> None:
    declared = (column.low is not None, column.high is not None)
    if column.kind == "categorical":
        if any(declared) or column.step is not None:
            raise refused("columns", f"{column.name} is categorical: declare `values`, not bounds.")
        if column.values is not None and not column.values:
            raise refused("columns", f"{column.name} declares no values: give one or more, or leave it out.")
        if column.values is not None and len(set(column.values)) < len(column.values):
            raise refused("columns", f"{column.name} declares one of its `values` more than once.")
        return
    if labels:
        raise refused("columns", f"{column.name} holds no numbers or times: classify it as categorical.")
    if column.values is not None:
        raise refused("columns", f"{column.name} is numerical: declare `low` and `high`, not values.")
    if declared[0] != declared[1] or (declared[0] and not column.low < column.high):
        raise refused("columns", f"{column.name} must declare both `low` and `high`, low below high.")
    if column.step is not None and not column.step > type(column.step)(0):
        raise refused("columns", f"{column.name} declares a `step` of {column.step}: it must be above 0.")


def refused(field_name: str, message: str) -> ValidationException:
    """The error of a request that cannot be met, with the field that it is about."""
    return ValidationException(message, fields=[(field_name, message)])
