"""What the engine says of a bounded query is what a slow reading of the same rows says.

A user with many rows and extreme values, NULLs, NaN and nobody's rows are among them: whatever they hold, one
user changes no measure by more than its sensitivity.
"""

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from lib.engine import US, Exam
from passbox.analysis import ApprovedPlan, Purpose, Table, approve
from passbox.analysis.bounded import GRAIN
from passbox.backends.runtimes.base import Isolation
from passbox.backends.runtimes.bubblewrap import BubblewrapRuntime

PAGES = ("a", "b", "c")
CALM = [(f"u{i}", PAGES[i % 3], None if i % 7 == 0 else float(i % 13), i % 5) for i in range(60)]
NOBODY = [(None, "a", 3.0, 1)] * 5
VALUES = [1e300, -1e300, math.nan, math.inf, None, 50.0]
LOUD = [("loud", PAGES[i % 2], VALUES[i % 6], 2**31 - 1) for i in range(100)]
QUERY = (
    "SELECT page, count(*) AS n, count(spent) AS k, count(DISTINCT id) AS u, count(DISTINCT times) AS t, "
    "sum(least(greatest(spent, 0), 10)) AS s, avg(least(greatest(spent, -2), 10)) AS a, "
    "stddev(least(greatest(times, 0), 4)) AS d FROM visits WHERE page IN ('a', 'b', 'x') GROUP BY page"
)
# of 4 COUNTs and a SUM; of the sum and count of a mean; of the three of a deviation
SENSITIVITIES = (10, 10, 3, 10, 10 * GRAIN, 10 * GRAIN, 10, 10 * GRAIN, 10, 10 * GRAIN)


@pytest.fixture(scope="module")
def exam(tmp_path_factory: pytest.TempPathFactory) -> Exam:
    runtime = BubblewrapRuntime()
    if runtime.check().isolation is Isolation.NONE:
        pytest.skip("this machine cannot seal")
    made = Exam(runtime, tmp_path_factory.mktemp("exam"))
    for name, rows in (("calm", CALM + NOBODY), ("loud", CALM + NOBODY + LOUD)):
        columns: list[Any] = list(zip(*rows, strict=True))
        types = (pa.string(), pa.string(), pa.float64(), pa.int32())
        arrays = [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)]
        made.parquet(name, pa.Table.from_arrays(arrays, ["id", "page", "spent", "times"]))
    return made


def bounded(exam: Exam, table: str) -> ApprovedPlan:
    rule = {
        "allowedAnalyses": ["ANY_QUERY"],
        "allowedAnalysisProviders": [US],
        "differentialPrivacy": {"columns": [{"name": "id"}]},
    }
    columns = exam.tables[table].columns
    tables = {table: Table(table, US, columns, "CUSTOM", rule, {"allowedResultReceivers": [US]})}
    return approve(QUERY.replace("visits", table), {}, tables, Purpose(US, receivers=(US,)))


def told(exam: Exam, table: str) -> dict[int, list[int]]:
    """cell → measures, as the engine says them."""
    plan = bounded(exam, table)
    assert plan.privacy is not None
    assert plan.privacy.sensitivities == SENSITIVITIES
    files: list[Path]
    _, files = exam.run(plan)
    rows = [row for file in files for row in parquet.read_table(file).to_pylist()]
    return {row["k0"]: [row[f"m{i}"] for i in range(len(SENSITIVITIES))] for row in rows}


def test_calm_rows_are_counted_as_they_are(exam: Exam) -> None:
    found = told(exam, "calm")
    assert set(found) == {0, 1}
    for cell, measures in found.items():
        rows = [row for row in CALM if row[1] == PAGES[cell]]
        spent = [row[2] for row in rows]
        # least and greatest skip NULL, as Spark's do: no value counts as the lower bound
        clipped = [min(max(value or 0.0, 0.0), 10.0) for value in spent]
        mean = [min(max(-2.0 if value is None else value, -2.0), 10.0) for value in spent]
        times = [(row[3] - 2) / 2 for row in rows]
        expected = [
            len(rows),
            sum(value is not None for value in spent),
            len({row[0] for row in rows}),
            len({row[3] for row in rows}),
            sum(clipped) / 10 * GRAIN,
            sum(value - 4 for value in mean) / 6 * GRAIN,
            len(rows),
            sum(times) * GRAIN,
            len(rows),
            sum(value * value for value in times) * GRAIN,
        ]
        assert measures == pytest.approx(expected, abs=len(rows))


def test_one_user_changes_nothing_by_more_than_its_sensitivity(exam: Exam) -> None:
    calm, loud = told(exam, "calm"), told(exam, "loud")
    assert set(loud) == {0, 1}
    for number, sensitivity in enumerate(SENSITIVITIES):
        changed = sum(abs(loud[cell][number] - calm[cell][number]) for cell in loud)
        assert changed <= sensitivity
    assert sum(loud[cell][0] - calm[cell][0] for cell in loud) == 10
