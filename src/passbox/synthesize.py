"""Synthetic data as a program: files of rows in, files of generated rows and a report out.

The worker starts `main` in a sandbox, for a channel; the command line calls `generate` with the operator's
own files. Joins the rooms `synthesis` and `backends` (for the files); knows no members and no state.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from passbox.errors import JobFailed, PassboxError

if TYPE_CHECKING:
    import pyarrow as pa

    from passbox.backends.engines.writer import Counted
    from passbox.synthesis import Report, Request, Scores, Source, Synthetic, Thresholds

# what starts the program where the package is not installed: its place is the first argument
BOOT = "import sys; sys.path.append(sys.argv[1]); from passbox.synthesize import main; main()"
PROGRESS = "progress: "  # begins the lines of standard output that say how far it is
OUTCOME, DATA, REPORT = "outcome.json", "data", "report.json"
ROWS, COLUMNS = (1_500, 10_000_000), (5, 1_000)  # AWS's limits, but for its most rows, a quarter of ours
TARGET_ROWS, TARGET_VALUES = 1_000, 100
Format = Literal["csv", "parquet"]


@dataclass(frozen=True)
class Generated:
    """synthetic: what was generated, with its claim and what it cost; scores: whether it gives rows away;
    report: both, beside the real rows.
    """

    synthetic: "Synthetic"
    scores: "Scores"
    report: "Report"


def generate(
    table: "pa.Table",
    request: "Request",
    thresholds: "Thresholds",
    source: "Source",
    progress: Callable[[str], None] = lambda _: None,
) -> Generated:
    """Holds a twentieth of the rows out, learns from the others, generates rows, and judges them by both.

    Everything that `synthetic`, `scores` and `report.public` tell is within the request's (epsilon, delta);
    the rest of the report is not. JobFailed or ValidationException: nothing can be generated from this.
    """
    from passbox.synthesis import Noise, hold_out, judge, report, synthesize

    _check_columns(table, request)
    key = source.draw(32)
    person = request.person
    fit, held_out = hold_out(table, key, person.column if person else None)
    synthetic = synthesize(fit, replace(request, fewest=ROWS[0]), source, progress)
    _check_rows(synthetic.table, request)
    progress("Attacking the generated rows.")
    [share] = [spend.rho for spend in synthetic.spends if spend.what == "score"]
    budget = Noise(
        members=share,
        held_out=synthetic.rho,  # whoever is held out is in nothing else, so the whole budget is his
        rows=synthetic.table.num_rows,
        source=source,
        person=person,
    )
    compared = (fit, held_out, synthetic.table, request.columns, thresholds)
    scores = judge(*compared, key=key, budget=budget)
    progress("Comparing real and generated rows.")
    exact = judge(*compared, key=key)
    seed = int.from_bytes(source.draw(4))
    return Generated(
        synthetic,
        scores,
        report(synthetic, request, fit, held_out, scores=scores, exact=exact, seed=seed),
    )


def _check_columns(table: "pa.Table", request: "Request") -> None:
    """What is known before anything is looked at: how many columns, of which names and types."""
    import pyarrow as pa

    from passbox.backends.engines import writer

    fewest, most = COLUMNS
    if not fewest <= len(request.columns) <= most:
        beside = "" if request.person is None else f" beside {request.person.column}"
        raise JobFailed(
            "INVALID_SYNTHETIC_DATA_INPUT",
            f"Synthetic data needs {fewest} to {most:,} columns; there are {len(request.columns)}{beside}.",
        )
    try:
        writer.check(table.schema, "csv")  # refuses what is nested, binary or an interval
    except JobFailed as refused:
        raise JobFailed("SYNTHESIS_COLUMN_REFUSED", refused.message) from refused
    for field in table.schema:
        plain = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_string_view(plain):
            raise JobFailed(
                "SYNTHESIS_COLUMN_REFUSED",
                f"{field.name} is of type {plain}, which is not learned from: cast it to string.",
            )
        if pa.types.is_null(field.type):
            raise JobFailed(
                "SYNTHESIS_COLUMN_REFUSED",
                f"{field.name} has no type, only NULL: leave it out, or cast it to the type it should have.",
            )


def _check_rows(table: "pa.Table", request: "Request") -> None:
    """Asks the generated rows, which are as many as the real ones to within noise, so that the answer tells
    nothing that they do not tell.
    """
    from passbox.synthesis.hold_out import ONE_IN

    most = ROWS[1]
    if table.num_rows > most:
        raise JobFailed(
            "INVALID_SYNTHETIC_DATA_INPUT",
            f"Synthetic data is made from {most:,} rows or fewer; there are about {table.num_rows:,}.",
        )
    if request.target is None:
        return
    target = table[request.target]
    if target.length() - target.null_count < TARGET_ROWS * (ONE_IN - 1) / ONE_IN:
        raise JobFailed(
            "INVALID_SYNTHETIC_DATA_INPUT",
            f"The predictive column {request.target} needs {TARGET_ROWS:,} rows or more in which it is not "
            "NULL.",
        )
    if request.column(request.target).kind == "categorical" and len(target.unique()) > TARGET_VALUES:
        raise JobFailed(
            "INVALID_SYNTHETIC_DATA_INPUT",
            f"The predictive column {request.target} has more than {TARGET_VALUES} different values; group "
            "them in the query, or classify it as numerical.",
        )


def write(table: "pa.Table", directory: Path, format: Format, *, single: bool = False) -> "Counted":
    """The rows as files of a new directory, as a channel has them; as one file where it shall be a single."""
    from passbox.backends.engines import writer

    directory.mkdir()
    options = writer.Options(file_bytes=None) if single else writer.Options()
    return writer.write(table.to_batches(max_chunksize=1 << 16), table.schema, directory, format, options)


def main() -> None:
    """The program of the sandbox: python -c BOOT source asked.json rows made."""
    asked, rows, made = map(Path, sys.argv[2:5])
    document = json.loads(asked.read_text())
    outcome: dict[str, Any] = {"refused": None, "failure": None, "scores": {}}
    try:
        outcome |= _run(document, rows, made)
    except JobFailed as refused:
        outcome["refused"] = [refused.code, refused.message]
    except PassboxError as refused:
        outcome["refused"] = ["INVALID_SYNTHETIC_DATA_INPUT", refused.message]
    (made / OUTCOME).write_text(json.dumps(outcome))


def _run(document: Mapping[str, Any], rows: Path, made: Path) -> dict[str, Any]:
    import pyarrow.parquet as parquet

    from passbox.synthesis import Source, Thresholds, declaration
    from passbox.synthesis.score import ATTACK_VERSION

    parameters = document["parameters"]
    table = parquet.read_table(rows)
    request = declaration.request(parameters, document["declaration"], table.schema)
    thresholds = Thresholds(score=parameters["maxMembershipInferenceAttackScore"])
    source = Source(os.urandom, private=True)
    found = generate(table, request, thresholds, source, lambda line: print(PROGRESS + line, flush=True))
    counted = write(found.synthetic.table, made / DATA, document["format"])
    documents = {"member": found.report.public(), "owner": found.report.content}
    (made / REPORT).write_text(json.dumps(documents))
    score = {"attackVersion": ATTACK_VERSION, "score": found.scores.attack.value}
    return {
        "rows": counted.rows,
        "files": counted.files,
        "bytes": counted.bytes,
        "columns": len(request.columns),
        "scores": {"dataPrivacyScores": {"membershipInferenceAttackScores": [score]}},
        "failure": " ".join(one.message for one in found.scores.failures) or None,
    }
