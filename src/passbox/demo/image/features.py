"""How the demo's model sees a row: numbers as they are, texts as categories that were known at training.

Knows pandas; must not know where rows come from. Used by `train` and by `serve`, so both see the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

MOST_CATEGORIES = 254  # what a histogram of 255 bins holds beside the missing value

Categories = Mapping[str, Sequence[str]]


def read(source: Any, columns: Sequence[str] | None = None, categories: Categories | None = None) -> Any:
    """A CSV file or body as a frame. columns: the names where it has no header row."""
    import pandas

    types = dict.fromkeys(categories or {}, "str")
    header = None if columns is not None else 0
    return pandas.read_csv(
        source, header=header, names=columns, dtype=types, keep_default_na=False, na_values=[""]
    )


def known_categories(frame: Any) -> dict[str, list[str]]:
    """The most frequent texts of every column that is not made of numbers."""
    import pandas

    found = {}
    for name in frame.columns:
        if not pandas.api.types.is_numeric_dtype(frame[name]):
            counts = frame[name].value_counts()
            found[name] = sorted(str(text) for text in counts.index[:MOST_CATEGORIES])
    return found


def frame_of(frame: Any, names: Sequence[str], categories: Categories) -> Any:
    """The model's input: the columns `names` in order; texts that training did not know are missing."""
    import pandas

    made = {}
    for name in names:
        if name in categories:
            made[name] = pandas.Categorical(frame[name], categories=list(categories[name]))
        else:
            made[name] = pandas.to_numeric(frame[name], errors="coerce").to_numpy("float64")
    return pandas.DataFrame(made)
