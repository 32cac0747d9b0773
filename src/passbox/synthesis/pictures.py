"""Small pictures as inline SVG: scales with an interval, stacked bars, real beside synthetic shares, a map
of pairs.

Every picture has a text for those who do not see it, every colour comes from the page's style sheet, and
every word from outside passes `text`. This module knows shapes, not what they mean.
"""

from collections.abc import Sequence
from html import escape

WIDTH = 360


def text(value: object, most: int = 80) -> str:
    """Any value as harmless markup: escaped, controls removed, cut where it is long."""
    plain = "".join(letter if letter.isprintable() else "·" for letter in str(value))
    return escape(plain if len(plain) <= most else plain[: most - 1] + "…")


def frame(body: str, height: float, label: str, width: float = WIDTH, kind: str = "") -> str:
    """An SVG that scales to its place, with what it shows in words."""
    return (
        f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{text(label, 300)}" '
        f'preserveAspectRatio="xMinYMid meet"><title>{text(label, 300)}</title>{body}</svg>'
    )


def scale(value: float, low: float, high: float, limit: float, start: float, end: float, label: str) -> str:
    """A value with its interval on a line, and the limit above which it would fail."""

    def at(each: float) -> float:
        return 8 + (WIDTH - 16) * min(1.0, max(0.0, (each - start) / (end - start)))

    failed = " failed" if value > limit else ""
    marks = [
        f'<line class="track" x1="8" x2="{at(limit):.1f}" y1="20" y2="20"/>',
        f'<line class="track beyond" x1="{at(limit):.1f}" x2="{WIDTH - 8}" y1="20" y2="20"/>',
        f'<line class="whisker{failed}" x1="{at(low):.1f}" x2="{at(high):.1f}" y1="20" y2="20"/>',
        f'<line class="limit" x1="{at(limit):.1f}" x2="{at(limit):.1f}" y1="8" y2="32"/>',
        f'<circle class="dot{failed}" cx="{at(value):.1f}" cy="20" r="5"/>',
        _word(8, 44, f"{start:.3g}"),
        _word(WIDTH - 8, 44, f"{end:.3g}", "end"),
    ]
    if 40 < at(limit) < WIDTH - 40:
        marks.append(_word(at(limit), 44, f"limit {limit:.3g}", "middle"))
    return frame("".join(marks), 50, label)


def intervals(rows: Sequence[tuple[str, float, float, float, float | None]], end: float, label: str) -> str:
    """Rows of (name, value, low, high, mark): bars from 0 with their intervals; a mark is a thin line."""
    body = []
    for place, (name, value, low, high, mark) in enumerate(rows):
        top = place * 34

        def at(each: float) -> float:
            return (WIDTH - 56) * min(1.0, max(0.0, each / end))

        body.append(_word(0, top + 11, name))
        body.append(
            f'<rect class="track-fill" x="0" y="{top + 15}" width="{WIDTH - 56}" height="12" rx="2"/>'
        )
        body.append(
            f'<rect class="bar bar-{place % 2}" x="0" y="{top + 15}" width="{at(value):.1f}" height="12" '
            f'rx="2"/>'
        )
        body.append(
            f'<line class="error" x1="{at(low):.1f}" x2="{at(high):.1f}" y1="{top + 21}" y2="{top + 21}"/>'
        )
        if mark is not None:
            body.append(
                f'<line class="limit" x1="{at(mark):.1f}" x2="{at(mark):.1f}" y1="{top + 12}" '
                f'y2="{top + 30}"/>'
            )
        body.append(_word(WIDTH - 48, top + 25, f"{value:.4f}"))
    return frame("".join(body), 34 * len(rows) + 2, label)


def stacked(parts: Sequence[tuple[str, float]], label: str) -> str:
    """One bar, cut in proportion; parts of nothing are left out."""
    total, body, left = sum(share for _, share in parts) or 1.0, [], 0.0
    for place, (name, share) in enumerate(parts):
        width = WIDTH * 2 * share / total
        body.append(
            f'<rect class="part part-{place % 8}" x="{left:.1f}" y="0" width="{max(0.5, width):.1f}" '
            f'height="28">'
            f"<title>{text(name)}: {share:.4g}</title></rect>"
        )
        left += width
    return frame("".join(body), 28, label, WIDTH * 2, "wide")


def shares(
    labels: Sequence[str], real: Sequence[float], made: Sequence[float], ordered: bool, label: str
) -> str:
    """Real shares as bars and synthetic ones over them: as steps along an order, as bars side by side
    without.
    """
    top = max([*real, *made, 1e-9])
    return _steps(labels, real, made, top, label) if ordered else _bars(labels, real, made, top, label)


def _steps(
    labels: Sequence[str], real: Sequence[float], made: Sequence[float], top: float, label: str
) -> str:
    wide, high = WIDTH / len(labels), 110.0
    body, line = [], []
    for place, (name, ours, theirs) in enumerate(zip(labels, real, made, strict=True)):
        left = place * wide
        body.append(
            f'<rect class="real" x="{left + 0.5:.1f}" y="{high * (1 - ours / top):.1f}" '
            f'width="{max(0.5, wide - 1):.1f}" height="{high * ours / top:.1f}">'
            f"<title>{text(name)}: real {ours:.2%}, synthetic {theirs:.2%}</title></rect>"
        )
        line.append(
            f"{left:.1f},{high * (1 - theirs / top):.1f} {left + wide:.1f},{high * (1 - theirs / top):.1f}"
        )
    body.append(f'<polyline class="made-line" points="{" ".join(line)}"/>')
    body.append(f'<line class="axis" x1="0" x2="{WIDTH}" y1="{high}" y2="{high}"/>')
    body.append(_word(0, high + 14, text(labels[0], 24), raw=True))
    last = [name for name in labels if name != "(null)"][-1:]
    if last:
        body.append(_word(WIDTH, high + 14, text(last[0], 24), "end", raw=True))
    return frame("".join(body), high + 18, label)


def _bars(labels: Sequence[str], real: Sequence[float], made: Sequence[float], top: float, label: str) -> str:
    body = []
    for place, (name, ours, theirs) in enumerate(zip(labels, real, made, strict=True)):
        y, room = place * 18, WIDTH - 170
        body.append(_word(112, y + 11, text(name, 17), "end", raw=True))
        body.append(
            f"<g><title>{text(name)}: real {ours:.2%}, synthetic {theirs:.2%}</title>"
            f'<rect class="real" x="118" y="{y + 1}" width="{room * ours / top:.1f}" height="7"/>'
            f'<rect class="made" x="118" y="{y + 8}" width="{room * theirs / top:.1f}" height="7"/></g>'
        )
        body.append(_word(WIDTH, y + 11, f"{ours:.1%}", "end"))
    return frame("".join(body), 18 * len(labels) + 2, label)


def heat(names: Sequence[str], pairs: Sequence[tuple[int, int, float]], label: str) -> str:
    """The values of pairs as a half square, the greatest darkest; its names beside the rows."""
    size, left = 14, 120
    top = max([value for _, _, value in pairs] + [1e-9])
    body = [
        _word(left - 6, row * size + 11, text(name, 18), "end", raw=True) for row, name in enumerate(names)
    ]
    for first, second, value in pairs:
        body.append(
            f'<rect class="heat" x="{left + first * size}" y="{second * size}" width="{size - 1}" '
            f'height="{size - 1}" fill-opacity="{0.06 + 0.94 * value / top:.3f}">'
            f"<title>{text(names[first])} and {text(names[second])}: {value:.4f}</title></rect>"
        )
    return frame("".join(body), size * len(names) + 2, label, left + size * len(names), "wide")


def _word(x: float, y: float, words: str, anchor: str = "start", raw: bool = False) -> str:
    shown = words if raw else text(words)
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{shown}</text>'
