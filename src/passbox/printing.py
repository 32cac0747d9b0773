"""How commands print: tables for people, JSON for programs, money and quantities to the last digit."""

import json
import sys
from typing import Any

import click
from rich.console import Console
from rich.table import Table


def show(rows: list[dict[str, Any]], columns: list[str], *, empty: str) -> None:
    """A table for people; `empty` where there are no rows."""
    if not rows:
        click.echo(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    # into a file or a pipe nothing is folded
    console = Console() if sys.stdout.isatty() else Console(width=400)
    for row in rows:
        table.add_row(*("" if row.get(column) is None else str(row[column]) for column in columns))
    console.print(table)


def print_json(value: Any) -> None:
    """The value as JSON, moments in ISO 8601."""
    click.echo(json.dumps(value, indent=2, default=lambda moment: moment.isoformat()))


def dollars(micro: int) -> str:
    """Micro-dollars as people write them: -5 is `-$0.000005`."""
    whole, rest = divmod(abs(micro), 1_000_000)
    return f"{'-' if micro < 0 else ''}${whole:,}.{rest:06}"


def units(milli: int, unit: str) -> str:
    """Thousandths of a unit: 1500 is `1.500 records trained`."""
    whole, rest = divmod(abs(milli), 1000)
    return f"{'-' if milli < 0 else ''}{whole:,}.{rest:03} {unit}"
