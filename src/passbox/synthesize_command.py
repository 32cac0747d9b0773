"""`passbox synthesize`: synthetic data from a file of the caller's own, without a room.

Knows files and how to ask; what is done is `synthesize.generate`'s.
"""

import json
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from passbox.errors import PassboxError
from passbox.printing import print_json, show

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from passbox.synthesize import Generated

_FILE = click.Path(path_type=Path, dir_okay=False)
_OPERATION = "passbox.PutSyntheticDataDeclaration"  # whose model says what a declaration may be


def _number(_context: click.Context, parameter: click.Parameter, value: float) -> float:
    if not math.isfinite(value):
        raise click.BadParameter(f"{value} is no number.", param=parameter)
    return value


def _place(suffixes: tuple[str, ...]) -> Any:
    """A place for a file of one of these kinds, in a directory that is there."""

    def check(_context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
        if value is not None and value.suffix not in suffixes:
            raise click.BadParameter(f"{value} must end in {' or '.join(suffixes)}.", param=parameter)
        if value is not None and not value.absolute().parent.is_dir():
            raise click.BadParameter(f"{value.parent} is no directory; make it first.", param=parameter)
        return value

    return check


@click.command()
@click.argument("file", type=click.Path(exists=True, path_type=Path, dir_okay=False))
@click.option(
    "--epsilon",
    type=click.FloatRange(0.0001, 10),
    callback=_number,
    required=True,
    help="The privacy budget, 0.0001 to 10.",
)
@click.option(
    "--delta", type=click.FloatRange(1e-15, 0.01), callback=_number, default=1e-9, show_default=True
)
@click.option("--target", metavar="COLUMN", help="The column that is to be predicted from the others.")
@click.option(
    "--categorical", metavar="COLUMN,…", default="", help="Columns of numbers or times that are labels."
)
@click.option("--declaration", type=_FILE, help="JSON: domains, person and dependencies that are known.")
@click.option("--max-attack-score", type=click.FloatRange(0.5, 1), default=0.6, show_default=True)
@click.option(
    "--out",
    type=_FILE,
    callback=_place((".parquet", ".csv")),
    required=True,
    help="Where the rows go: .parquet or .csv.",
)
@click.option(
    "--report",
    type=_FILE,
    callback=_place((".html", ".json")),
    help="Where the report goes: .html or .json. It shows the real rows' figures.",
)
@click.option("--seed", type=click.IntRange(0), help="Repeat a run. What it makes is NOT private.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def synthesize(
    file: Path,
    epsilon: float,
    delta: float,
    target: str | None,
    categorical: str,
    declaration: Path | None,
    max_attack_score: float,
    out: Path,
    report: Path | None,
    seed: int | None,
    as_json: bool,
) -> None:
    """Make differentially private synthetic rows from FILE (Parquet or CSV).

    Names and types of the columns count as public; those of a CSV file are read from its rows.
    """
    from passbox.synthesis import Source, Thresholds, seeded
    from passbox.synthesize import generate

    if len({path.absolute() for path in (file, out, report) if path is not None}) < 2 + (report is not None):
        raise click.UsageError("FILE, --out and --report must be different files.")
    try:
        table = _read(file)
        labels = {name for name in categorical.split(",") if name}
        request = _request(table, labels, target, epsilon, delta, declaration)
        source = Source(os.urandom, private=True) if seed is None else seeded(seed)
        found = generate(table, request, Thresholds(score=max_attack_score), source, _say(as_json))
    except PassboxError as error:
        raise click.ClickException(error.message) from error
    if report is not None:
        _report(found, report)
    if not found.scores.passed:
        raise click.ClickException(
            " ".join(failure.message for failure in found.scores.failures) + f" Nothing was written to {out}."
        )
    _write(found.synthetic.table, out)
    if as_json:
        print_json({"out": str(out), **found.report.public()})
        return
    _show(found, out)


def _say(quiet: bool) -> Any:
    """How progress is told: on standard error, unless a program reads."""
    return (lambda _line: None) if quiet else (lambda line: click.echo(f"… {line}", file=sys.stderr))


def _some(names: list[str]) -> str:
    """The first names of a table."""
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _read(file: Path) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.csv as arrow_csv
    import pyarrow.parquet as parquet

    try:
        if file.suffix == ".csv":
            options = arrow_csv.ConvertOptions(strings_can_be_null=True)
            return arrow_csv.read_csv(file, convert_options=options)
        return parquet.read_table(file)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        # its first line: the others quote rows
        told = str(error).splitlines()[0].partition(":")[0]
        kind = "CSV" if file.suffix == ".csv" else "Parquet"
        raise click.ClickException(f"{file} cannot be read as {kind}: {told}.") from error


def _request(
    table: "pa.Table",
    labels: set[str],
    target: str | None,
    epsilon: float,
    delta: float,
    declared: Path | None,
) -> Any:
    """The Request as a template would ask for it: labels are categorical, numbers and times numerical."""
    from dataclasses import replace
    from fractions import Fraction

    from passbox.synthesis import declaration
    from passbox.synthesis.encoding import labels_only

    said = {} if declared is None else _declared(declared)
    for name in sorted({*labels, *([target] if target else [])} - set(table.column_names)):
        raise click.ClickException(f"There is no column {name}; there are {_some(table.column_names)}.")
    person = said.get("person", {}).get("columnName")
    mapping = [
        {
            "columnName": field.name.lower(),
            "columnType": "CATEGORICAL" if field.name in labels or labels_only(field.type) else "NUMERICAL",
            "isPredictiveValue": field.name == target,
        }
        for field in table.schema
        if field.name.lower() != person
    ]
    parameters = {"epsilon": epsilon, "columnClassification": {"columnMapping": mapping}}
    return replace(declaration.request(parameters, said, table.schema), delta=Fraction(str(delta)))


def _declared(file: Path) -> dict[str, Any]:
    """A declaration, held to the same model as over the wire."""
    from passbox.synthesis import declaration
    from passbox.wire.model import Requests, load_services

    try:
        document = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise click.ClickException(f"{file} is not a JSON file: {error}") from error
    declaration.known(document)
    nobody = str(UUID(int=0))
    request = {"membershipIdentifier": nobody, "analysisTemplateIdentifier": nobody, "declaration": document}
    requests = Requests(load_services(("passbox",)))
    found: dict[str, Any] = requests.read(_OPERATION, request)["declaration"]
    return found


def _write(table: "pa.Table", out: Path) -> None:
    """The rows under their name at once, or not at all."""
    from passbox.synthesize import write

    def fill(directory: Path) -> Path:
        rows = directory / "rows"
        write(table, rows, "csv" if out.suffix == ".csv" else "parquet", single=True)
        [file] = rows.iterdir()
        return file

    _at_once(out, fill)


def _at_once(place: Path, fill: "Callable[[Path], Path]") -> None:
    """Moves the file that `fill` writes beside a place to it; nothing is left where that fails."""
    import tempfile

    try:
        with tempfile.TemporaryDirectory(dir=place.absolute().parent) as folder:
            fill(Path(folder)).replace(place)
    except OSError as error:
        raise click.ClickException(
            f"{place} was not written: {error.strerror or error}. "
            "Free some space there, or name another place."
        ) from error


def _show(found: "Generated", out: Path) -> None:
    told = found.report.public()
    privacy = told["privacy"]
    rows = [{"for": one["what"], "epsilon": f"{one['epsilon']:.4f}"} for one in privacy["spends"]]
    show(rows, ["for", "epsilon"], empty="")
    scores = [
        {
            "score": one["name"],
            "value": f"{one['value']:.3f}",
            "interval": f"{one['low']:.3f} to {one['high']:.3f}",
            "allowed": f"{one['limit']:.3f}",
        }
        for one in told["scores"]["figures"]
    ]
    show(scores, ["score", "value", "interval", "allowed"], empty="")
    seeded = "" if privacy["private"] else " NOT PRIVATE: the run was seeded."
    click.echo(
        f"{found.synthetic.table.num_rows:,} rows in {out}: ({privacy['epsilon']:g}, {privacy['delta']:g})-"
        f"differentially private for {privacy['unit']}.{seeded}"
    )


def _report(found: "Generated", file: Path) -> None:
    def fill(directory: Path) -> Path:
        made = directory / "report"
        made.write_bytes(found.report.json() if file.suffix == ".json" else found.report.html().encode())
        return made

    _at_once(file, fill)
