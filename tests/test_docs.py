"""What the documents show of the code is the code's own; PASSBOX_REWRITE_GOLDEN=1 rewrites it."""

import os
import re
from pathlib import Path

from passbox.ledger import payers, prices
from passbox.operations.failure import FAILURES

DOCS = Path(__file__).parent.parent / "docs"
START, END = "<!-- the decision table -->\n", "<!-- the end of the table -->"
UNUSED = {prices.JOB_COMPUTE, prices.SYNTHETIC_DATA}


def test_who_pays_shows_the_decision_table() -> None:
    path = DOCS / "explanation" / "who-pays.md"
    before, rest = path.read_text().split(START)
    _, after = rest.split(END)
    table = "\n".join(line for line in str(payers.__doc__).splitlines() if line.startswith("|"))
    whole = f"{before}{START}\n{table}\n\n{END}{after}"
    if os.environ.get("PASSBOX_REWRITE_GOLDEN"):
        path.write_text(whole)
    assert path.read_text() == whole


def test_who_pays_shows_the_public_prices() -> None:
    text = (DOCS / "explanation" / "who-pays.md").read_text()
    for cost_type in prices.COST_TYPES:
        [row] = re.findall(rf"^\|.*`{re.escape(cost_type)}`.*$", text, re.MULTILINE)
        price, measure = prices.PUBLISHED[cost_type], prices.MEASURES[cost_type]
        for micro_dollars in filter(None, (price.micro_dollars, price.tier_micro_dollars)):
            assert f"${micro_dollars / prices.MICRO:.2f}" in row
        assert measure.unit in row
        assert f"{measure.per:,}" in row or measure.priced in row


def test_failures_shows_every_code() -> None:
    path = DOCS / "reference" / "failures.md"
    before, _, rest = path.read_text().partition("| code |")
    _, _, after = rest.partition("\n\n")
    head = "| code | what happened | who can change it | by | what to do |\n|---|---|---|---|---|\n"
    rows = [
        f"| `{code}` | {one.what} | {one.decider.lower().replace('_', ' ')} | {one.setting} | {one.change} |"
        for code, one in FAILURES.items()
    ]
    whole = before + head + "\n".join(rows) + "\n\n" + after
    if os.environ.get("PASSBOX_REWRITE_GOLDEN"):
        path.write_text(whole)
    assert path.read_text() == whole


def test_every_picture_and_link_of_the_documents_leads_somewhere() -> None:
    for page in [*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if not target.startswith(("http:", "https:")):
                assert (page.parent / target).exists(), f"{page}: {target}"
