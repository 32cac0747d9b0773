"""The public validator of FOCUS files, focus-validator 1.0.0, run on a file of ours.

It wants libraries older than ours (numpy 1, sqlglot 18), so it lives in an environment of its own under
.cache/, made once by pip from whatever index it is configured for. Its newest rules are those of FOCUS 1.0;
they lie in the package, and it opens no connection. This file is also the program that runs in there.

`stock` is what it says to the file as it stands. `fitted` is what the same rules say after three of its
readings are set right, none of which changes a value:

- names: its rules call four columns other than the specification does, 1.0 and 1.2 alike, and one rule asks
  for `ChargeType`, which has been `ChargeCategory` since 1.0;
- exact decimals: it knows only binary floating point as a decimal;
- CSV: it lets pandas guess types, which makes numbers of accounts, nulls of names such as "NA", and floating
  point of a column of nulls.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_RULES = "1.0"
_RENAMED = {
    "InvoiceIssuerName": "InvoiceIssuer",
    "ProviderName": "Provider",
    "PublisherName": "Publisher",
    "ResourceId": "ResourceID",
}


def unavailable() -> str | None:
    """Why the validator cannot be had here, or None."""
    return "numpy 1 has no builds for this Python" if sys.version_info >= (3, 13) else None


def validate(path: Path, columns: dict[str, str]) -> dict[str, dict[str, str]]:
    """`stock` and `fitted`: the validator's check → passed, failed, errored or skipped.

    columns: the type of each, as in passbox.ledger.focus.COLUMNS.
    """
    from lib.environments import binaries  # not where this file is the program

    python = binaries("focus-validator") / "python"
    command = [str(python), "-I", __file__, str(path), json.dumps(columns)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(f"the validator broke:\n{done.stderr}")
    found: dict[str, dict[str, str]] = json.loads(done.stdout.splitlines()[-1])
    return found


def _main(file: str, columns: dict[str, str]) -> None:
    """Runs in the validator's environment."""
    import focus_validator
    import pandas as pd
    from focus_validator.rules.spec_rules import SpecRules
    from focus_validator.validator import DEFAULT_VERSION_SETS_PATH, Validator

    # it looks for its list of currencies below the working directory
    os.chdir(Path(focus_validator.__file__).parents[1])

    def judge(frame: Any) -> dict[str, str]:
        rules = SpecRules(None, DEFAULT_VERSION_SETS_PATH, _RULES, None)
        rules.load()
        result = rules.validate(frame)
        return {name: check.status.value for name, check in result.checklist.items()}

    validator = Validator(file, None, "console", rules_version=_RULES)
    validator.load()
    stock = validator.focus_data
    fitted = stock
    if file.endswith(".csv"):
        texts = {name: str for name, type_ in columns.items() if type_ != "decimal"}
        fitted = pd.read_csv(file, dtype=texts, keep_default_na=False, na_values=[""])
    for name, type_ in columns.items():
        if type_ == "decimal":
            fitted = fitted.assign(**{name: fitted[name].astype("float64")})
    fitted = fitted.rename(columns=_RENAMED).assign(ChargeType=fitted["ChargeCategory"])
    print(json.dumps({"stock": judge(stock), "fitted": judge(fitted)}))


if __name__ == "__main__":
    _main(sys.argv[1], json.loads(sys.argv[2]))
