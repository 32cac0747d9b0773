"""What the gate gives an engine to run of a query under minima: tests/spec/unfailing.md."""

from pathlib import Path

import pytest

from passbox.analysis import Column, Purpose, Table, approve
from passbox.errors import QueryRefused

ME, YOU = "444444444444", "111111111111"
TYPES = {
    "k": "string",
    "s": "string",
    "b": "bigint",
    "i": "int",
    "m": "decimal(10,2)",
    "w": "decimal(38,2)",
    "d": "double",
    "t": "date",
    "z": "timestamp",
    "a": "array<int>",
}
FREE = {"allowedAnalyses": ["ANY_QUERY"], "allowedAnalysisProviders": [ME]}
THRESHOLD = {
    "identityColumns": ["k"],
    "minimumIdentityCount": 3,
    "type": "COUNT_DISTINCT",
    "allowedAggregateExpressionType": "ANY_EXPRESSION",
}
FUNCTIONS = (
    "ABS CAST CEILING COALESCE DATEADD EXTRACT FLOOR LN LOG LOWER ROUND SUBSTRING TO_CHAR TO_DATE TO_NUMBER "
    "TO_TIMESTAMP TRIM TRUNC UPPER"
)
AGGREGATION = {
    "aggregateColumns": [
        {"columnNames": list("sbiwd"), "function": "SUM"},
        {"columnNames": list("d"), "function": "AVG"},
        {"columnNames": ["k"], "function": "COUNT_DISTINCT"},
    ],
    "joinColumns": ["k", "i"],
    "dimensionColumns": ["s", "t"],
    "scalarFunctions": FUNCTIONS.split(),
    "outputConstraints": [{"columnName": "k", "minimum": 3, "type": "COUNT_DISTINCT"}],
}
RULES = {
    "aggregation": ("AGGREGATION", AGGREGATION, AGGREGATION),
    "threshold": ("CUSTOM", FREE, {**FREE, "aggregationThresholds": [THRESHOLD]}),
    "free": ("CUSTOM", FREE, FREE),
}
LINES = (Path(__file__).parent / "unfailing.md").read_text().splitlines()
CASES = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in LINES
    if line.startswith("| ") and not line.startswith("| rule")
]


@pytest.mark.parametrize(("rule", "engine", "query", "run"), CASES, ids=[case[2] for case in CASES])
def test_what_is_run_does_not_fail_for_one_row(rule: str, engine: str, query: str, run: str) -> None:
    kind, mine, yours = RULES[rule]
    columns = tuple(Column(name, type) for name, type in TYPES.items())
    receive = {"allowedResultReceivers": [ME]}
    tables = {
        "mine": Table("mine", ME, columns, kind, mine, receive),
        "yours": Table("yours", YOU, columns, kind, yours, receive),
    }
    try:
        given = approve(query, {}, tables, Purpose(ME, receivers=(ME,), engine=engine)).sql
    except QueryRefused as refusal:
        given = f"refused: {refusal.message}"
    assert run in given
