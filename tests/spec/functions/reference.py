"""docs/reference/functions.md, rendered from the gate's own tables."""

from passbox.analysis import functions, sail_forms

HEAD = """# Functions

Rendered from `passbox.analysis.functions`; a test holds this page to it. A function that is not here is
refused by the gate. What is *everywhere* has been compared value by value, types and nulls included, with
what Spark answers (`tests/spec/functions`), on the embedded engine, Sail. What is *Spark only* the gate
refuses on Sail, with the reason given here, and allows where the room runs on a Spark
(`PASSBOX_SPARK_REMOTE`).

Whole numbers that may overflow are computed in a wider type on Sail and cast back, so that an overflow fails
as under Spark's ANSI rules. Doubles and floats are compared, ordered, grouped and hashed with one NaN, the
greatest, and one zero, as Spark does. They may differ from Spark's in the last digits, and in a zero's sign.
"""

FORMS = f"""
## Forms that only Spark runs

- Division and remainder of decimals without a double; decimals of unknown digits, or of more than 38.
- A float with a number of another type; text, booleans or bytes in arithmetic; the least whole number as a
  literal.
- Casts to text of doubles, floats, bytes, arrays, maps and structs, also by `||`, `concat` and other
  functions of text; casts of text to boolean; TRY_CAST of text to float, double, decimal
  and date.
- Values of different types in `coalesce`, `if`, `CASE`, `greatest`, …, beyond numbers that Spark would widen
  to a double or a longer whole number; any two types on the sides of `UNION`, `EXCEPT` and `INTERSECT`.
- BETWEEN, CASE and IN that mix doubles or floats with decimals or whole numbers, where Spark would compare
  some pairs as doubles and some not; percentiles of floats; a replacement of `regexp_replace` with `$` or a
  backslash; steps of `date_add` and the like that are no whole number of at most 32 bits.
- NaN and zeros where they cannot be made one: comparisons, sorting, DISTINCT and functions such as
  `array_max` over arrays, keys of maps or structs of doubles or floats, or of types that are not known;
  `NOT IN` of a subquery of doubles; `div` of doubles. Medians and percentiles fail on NaN and infinities,
  covariances on infinities.
- `date - date`, and a date with an interval below a day; an interval as a value.
- `EXTRACT` and `date_part` of anything but {", ".join(sorted(sail_forms.PARTS))}.
- Regular expressions that Java and Rust read in two ways: the dot, `$`, `\\d`, `\\w`, `\\s`, `\\b`, flags,
  lookaround, possessive and lazy quantifiers, those that match nothing at all, and any that is not a literal.
- Formats of dates that are no literals of the letters yyyy, yy, MMMM, MMM, MM, dd, d, HH, hh, h, mm, ss, SSS,
  EEEE, EEE, a, D, Q; to read a date: yyyy, MMM, MM, dd, d, HH, hh, mm, ss, a.
- Time zones that are no region's name (`Europe/Berlin`); `FILTER` before `OVER`; `collect_list` over a
  window.
"""


def render() -> str:
    """The page."""
    lines = [HEAD, "## Allowed\n", "| function | arguments | where |", "|---|---|---|"]
    for name in sorted(functions.ALLOWED):
        reason = functions.SPARK_ONLY.get(name)
        some = "everywhere; some forms Spark only" if name in sail_forms.CHECKED else "everywhere"
        where = some if reason is None else f"Spark only: on Sail, {reason}"
        lines.append(f"| `{name}` | {functions.arity_text(name).split(' argument')[0]} | {where} |")
    lines += [FORMS, "## Refused on every engine\n", "| function | why |", "|---|---|"]
    lines += [f"| `{name}` | it {functions.REFUSED[name]} |" for name in sorted(functions.REFUSED)]
    return "\n".join(lines) + "\n"
