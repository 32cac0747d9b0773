"""The report as one page: its style and pictures are within, it loads nothing and runs nothing.

Made from the report's content alone. Names and values are the members' text and pass `pictures.text`. The
page's own policy forbids whatever might slip through. This module knows no tables.
"""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from passbox.synthesis import pictures
from passbox.synthesis.pictures import text

_OWNERS = (
    "For the owners of the data only: the figures on utility are computed from real rows without noise. What "
    "may be told to every member is the section “Privacy” and the scores with noise."
)
_MEMBERS = "For every member: all of it was paid for under ε."
_COLUMNS = 120  # pictures of so many columns at most, the least alike first
_MAP = 45  # columns that a map of pairs still has room for

_TITLES = {
    "attack": "Attack score",
    "copies": "Excess of exact copies",
    "found": "Found at 1 % false positives",
}


def render(content: Mapping[str, Any]) -> str:
    """The page of a whole report, or of what every member may see of one."""
    style = files("passbox.synthesis").joinpath("page.css").read_text(encoding="utf-8")
    parts = [_head(content), _privacy(content["privacy"]), _scores(content)]
    if "utility" in content:
        parts += [_utility(content), _columns(content)]
    body = "".join(parts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src '
        "'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" '
        'content="noindex">'
        f"<title>Synthetic data "
        f"report</title><style>{style}</style></head><body><main>{body}</main></body></html>"
    )


def _head(content: Mapping[str, Any]) -> str:
    table, privacy, scores = (
        content["table"],
        content["privacy"],
        content["scores"] or content.get("exactScores"),
    )
    verdict = "not judged" if scores is None else "passed" if scores["passed"] else "failed"
    tone = {"passed": "good", "failed": "bad"}.get(verdict, "")
    facts = [
        ("Verdict", f'<span class="{tone}">{verdict}</span>', ""),
        ("Synthetic rows", f"{table['rows']:,}", ""),
        ("Columns", f"{table['columns']:,}", ""),
        ("ε", f"{privacy['epsilon']:.4g}", ""),
        ("δ", f"{privacy['delta']:.1e}", ""),
        ("Unit of privacy", text(privacy["unit"]), "words"),
    ]
    listed = "".join(
        f'<div><dt>{name}</dt><dd class="{kind}">{value}</dd></div>' for name, value, kind in facts
    )
    return (
        f'<h1>Synthetic data report</h1><p class="soft">{_OWNERS if "utility" in content else _MEMBERS}</p>'
        f'<dl class="facts">{listed}</dl>'
    )


def _privacy(privacy: Mapping[str, Any]) -> str:
    spends = privacy["spends"]
    rows = "".join(
        f'<tr><th scope="row"><span class="swatch swatch-{place % 8}"></span>{text(spend["what"])}</th>'
        f'<td class="number">{spend["epsilon"]:.4f}</td><td class="number">{spend["rho"]:.3g}</td></tr>'
        for place, spend in enumerate(spends)
    )
    warning = (
        ""
        if privacy["private"]
        else '<p class="notice"><strong>Not private.</strong> The randomness of this run can be repeated by '
        "whoever knows its seed, and the noise taken off. Nothing is claimed for it.</p>"
    )
    bar = pictures.stacked(
        [(spend["what"], spend["epsilon"]) for spend in spends], "The budget by what it went for"
    )
    return (
        f"<h2>Privacy</h2>{warning}"
        f"<p>Whatever is concluded from the synthetic rows would have been concluded, at most "
        f"e<sup>ε</sup> times less or "
        f"more likely but for a chance of δ, had {_unit(privacy)} been left out. ε is "
        f"{privacy['epsilon']:.4g}, "
        f"δ is {privacy['delta']:.1e}; the lines below add up to {privacy['spent']:.4f}. "
        f"Accounting: {text(privacy['accounting'], 200)}.</p>"
        f'{bar}<div class="scroll"><table><caption>Where the budget went</caption><thead><tr><th '
        f'scope="col">For</th>'
        f'<th scope="col" class="number">ε</th><th scope="col" class="number">ρ</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _unit(privacy: Mapping[str, Any]) -> str:
    return (
        "any single row of the input"
        if privacy["unit"] == "one row of the input"
        else text(privacy["unit"], 200)
    )


def _scores(content: Mapping[str, Any]) -> str:
    parts = []
    for key, title, note in (
        ("scores", "Scores", "These decide whether the data is handed out"),
        ("exactScores", "The same scores without noise", "For the owners only; these decide nothing"),
    ):
        scores = content.get(key)
        if scores is None:
            continue
        compared = scores["compared"]
        noise = ", with noise that the budget paid for" if scores["noisy"] else ", without noise"
        cards = "".join(_score(figure) for figure in scores["figures"])
        failures = "".join(
            f'<p class="notice">{text(each["message"], 600)}</p>' for each in scores["failures"]
        )
        parts.append(
            f"<h2>{title}</h2><p>{note}{noise}. {compared['members']:,} rows that were used and "
            f"{compared['heldOut']:,} "
            f"that were held out were compared with {compared['synthetic']:,} synthetic rows by "
            f'{text(scores["attackVersion"])}.</p>{failures}<div class="grid">{cards}</div>'
        )
    return "".join(parts)


def _score(figure: Mapping[str, Any]) -> str:
    name, limit = figure["name"], figure["limit"]
    start = 0.5 if name == "attack" else 0.0
    end = 1.0 if name == "attack" else min(1.0, max(1.3 * figure["high"], 2 * limit))
    shown = pictures.scale(
        max(start, figure["value"]),
        max(start, figure["low"]),
        figure["high"],
        limit,
        start,
        max(end, limit, start + 1e-6),
        f"{_TITLES[name]}: {figure['value']:.4f}, from {figure['low']:.4f} to {figure['high']:.4f}, limit "
        f"{limit:.4f}",
    )
    tone, word = ("good", "passed") if figure["passed"] else ("bad", "failed")
    return (
        f'<div class="card"><h3>{_TITLES[name]} <span class="badge {tone}">{word}</span></h3>'
        f'<div class="figure">{figure["value"]:.4f}</div>'
        f'<div class="soft">95 %: {figure["low"]:.4f} to {figure["high"]:.4f}; limit {limit:.4f}</div>{shown}'
        f'<p class="soft">{text(figure["meaning"], 400)} Data that gives nothing away fails this in at most '
        f"{_chance(figure['false_alarm'])} of runs.</p></div>"
    )


def _chance(value: float) -> str:
    return f"{value:.2%}" if value >= 0.0001 else "1 of 10,000"


def _utility(content: Mapping[str, Any]) -> str:
    utility = content["utility"]
    rows = [
        (
            f"{each['ways']}-way, {each['looked_at']:,} of {each['all']:,} marginals",
            each["mean"],
            each["low"],
            each["high"],
            each["floor"],
        )
        for each in utility["marginals"]
    ]
    end = max([row[3] for row in rows] + [row[4] or 0 for row in rows] + [1e-6]) * 1.1
    cards = [
        '<div class="card same"><h3>Total variation</h3>'
        '<p class="soft">The share of rows that would have to change, on average over marginals. The thin '
        "line is what "
        "two samples of these sizes differ by where nothing differs.</p>"
        f"{pictures.intervals(rows, end, 'Mean total variation by number of columns')}</div>"
    ]
    if utility["learned"]:
        cards.append(_learned(utility["learned"]))
    names = [column["name"] for column in utility["columns"]]
    if 2 < len(names) <= _MAP:
        cards.append(
            '<div class="card"><h3>Pairs of columns</h3><p class="soft">Total variation of every two '
            "columns; the darker, "
            "the less alike.</p>"
            f"{pictures.heat(names, [tuple(pair) for pair in utility['pairs']], 'Variation by pair')}</div>"
        )
    return f'<h2>Utility</h2><div class="grid">{"".join(cards)}</div>'


def _learned(learned: Mapping[str, Any]) -> str:
    title = f"<h3>Learning {text(learned['target'])}</h3>"
    if learned["real"] is None:
        return (
            f'<div class="card">{title}<p class="soft">Not measured. {text(learned["note"], 300)}</p></div>'
        )
    rows = [
        (f"trained on {name} rows", one["value"], one["low"], one["high"], None)
        for name, one in (("real", learned["real"]), ("synthetic", learned["synthetic"]))
    ]
    ratio = learned["synthetic"]["value"] / learned["real"]["value"] if learned["real"]["value"] > 0 else None
    kept = f" Synthetic rows keep {ratio:.1%} of it." if ratio is not None else ""
    return (
        f'<div class="card">{title}<p class="soft">{text(learned["measure"])} of gradient boosting, tested '
        f"on "
        f"{learned['tested']:,} real rows that were held out.{kept}</p>"
        f"{pictures.intervals(rows, 1.0, 'What models of real and of synthetic rows reach')}</div>"
    )


def _columns(content: Mapping[str, Any]) -> str:
    columns = sorted(content["utility"]["columns"], key=lambda column: -column["variation"])
    cards = "".join(_column(column) for column in columns[:_COLUMNS])
    more = f" {len(columns) - _COLUMNS} more are in the JSON." if len(columns) > _COLUMNS else ""
    return (
        "<h2>Columns</h2><p>The least alike first: "
        '<span class="swatch swatch-real"></span>real and <span class="swatch '
        'swatch-made"></span>synthetic shares. '
        f'KL is the Kullback-Leibler divergence in nats.{more}</p><div class="grid">{cards}</div>'
    )


def _column(column: Mapping[str, Any]) -> str:
    picture = column["picture"]
    shown = pictures.shares(
        picture["labels"],
        picture["real"],
        picture["synthetic"],
        picture["ordered"],
        f"Shares of real and synthetic rows by {column['name']}",
    )
    return (
        f'<div class="card"><h3>{text(column["name"], 128)}</h3>'
        f'<div class="soft">{text(column["type"])} · variation {column["variation"]:.4f} · KL '
        f"{column['divergence']:.4f}</div>{shown}</div>"
    )
