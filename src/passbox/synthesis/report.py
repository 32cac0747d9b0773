"""The report beside synthetic data: what it cost in privacy, what its scores mean, and how useful it is.

One content, in two forms: JSON, and a page that is made from nothing else. Utility and the exact scores are
figures of real rows without noise, so the whole report is for the owners of the data only. `public` is what
may be told to every
member: the claim, the spends, and scores that carry noise. This module knows no files.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson
import pyarrow as pa

from passbox.synthesis import page
from passbox.synthesis.learning import learn
from passbox.synthesis.request import Request
from passbox.synthesis.score import ATTACK_VERSION, Score, Scores
from passbox.synthesis.synthesize import Synthetic
from passbox.synthesis.utility import compare

_MEANINGS = {
    "attack": "How often somebody who guesses that rows close to a synthetic one were used is right about a "
    "row that was and one that was not: 0.5 is a coin, 1 is always.",
    "copies": "How many more of the rows that were used than of those held out appear, to the last value, "
    "among the synthetic rows. Values that many share make copies in both; only the difference tells.",
    "found": "How many of the rows that were used are found by somebody who accepts being wrong about one in "
    "a hundred of the others. A coin finds one in a hundred.",
}


@dataclass(frozen=True)
class Report:
    """content: all that the report says, as JSON knows it."""

    content: Mapping[str, Any]

    def json(self) -> bytes:
        """The whole report, for the owners of the data."""
        return orjson.dumps(self.content, option=orjson.OPT_INDENT_2)

    def html(self) -> str:
        """The whole report as one page that loads nothing, for the owners of the data."""
        return page.render(self.content)

    def public(self) -> dict[str, Any]:
        """What may be told to every member: nothing in it comes from real rows but through the budget."""
        scores = self.content["scores"]
        told = {key: self.content[key] for key in ("table", "privacy")}
        return {**told, "scores": scores if scores and scores["noisy"] else None}


def report(
    made: Synthetic,
    request: Request,
    members: pa.Table,
    held_out: pa.Table,
    *,
    scores: Scores | None = None,
    exact: Scores | None = None,
    seed: int = 0,
) -> Report:
    """Compares real and synthetic rows and writes down everything.

    members, held_out: the parts of `hold_out`; models are tested on the second. scores: the gate's; exact:
    those without noise, for the owners. seed: chooses rows and marginals where there are too many to look
    at all.
    """
    columns = request.columns
    kinds = {column.name: column.kind for column in columns}
    utility = compare(members, made.table, columns, seed)
    learned = learn(members, made.table, held_out, columns, request.target, seed) if request.target else None
    content = {
        "table": {"rows": made.table.num_rows, "columns": len(columns), "target": request.target},
        "privacy": _privacy(made),
        "scores": _scores(scores),
        "exactScores": _scores(exact),
        "utility": {
            "marginals": [asdict(each) for each in utility.marginals],
            "learned": asdict(learned) if learned else None,
            "columns": [
                {"kind": kinds[each.name], "type": str(members.schema.field(each.name).type), **asdict(each)}
                for each in utility.columns
            ],
            "pairs": [list(pair) for pair in utility.pairs],
        },
    }
    # what JSON cannot say is not in the page either
    return Report(orjson.loads(orjson.dumps(content)))


def _privacy(made: Synthetic) -> dict[str, Any]:
    spent = sum(float(spend.epsilon) for spend in made.spends)
    return {
        "epsilon": float(made.epsilon),
        "delta": float(made.delta),
        "accounting": "zero-concentrated differential privacy, discrete Gaussian noise on integer counts",
        "unit": made.unit,
        "private": made.private,
        "spent": spent,
        "spends": [
            {"what": spend.what, "epsilon": float(spend.epsilon), "rho": float(spend.rho)}
            for spend in made.spends
        ],
    }


def _scores(scores: Scores | None) -> dict[str, Any] | None:
    if scores is None:
        return None
    return {
        "attackVersion": ATTACK_VERSION,
        "noisy": scores.noisy,
        "private": scores.private,
        "passed": scores.passed,
        "compared": {
            "members": scores.members,
            "heldOut": scores.held_out,
            "synthetic": scores.synthetic,
        },
        "figures": [_figure(score) for score in (scores.attack, scores.copies, scores.found)],
        "failures": [asdict(failure) for failure in scores.failures],
    }


def _figure(score: Score) -> dict[str, Any]:
    return {**asdict(score), "meaning": _MEANINGS[score.name]}
