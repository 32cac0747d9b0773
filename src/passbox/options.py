"""The options that every command of the operator has."""

from collections.abc import Callable
from pathlib import Path

import click

from passbox.settings import default_home


def operator_options(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command --home and --json (`home`, `as_json`)."""
    home = click.option(
        "--home",
        type=click.Path(path_type=Path, file_okay=False),
        default=default_home,
        help="Where passbox keeps everything. Default: PASSBOX_HOME, else ~/.passbox.",
    )
    as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
    return home(as_json(command))
