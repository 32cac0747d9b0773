"""The unit of privacy: a row, or a person of whom a bounded number of rows counts."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from passbox.synthesis.request import Person


def bounded(table: pa.Table, person: Person | None) -> pa.Table:
    """The rows that count, without the person's column: the first `cap` of each person, none without one.

    Which rows of a person count depends on no other person's rows, so one person changes at most `cap`
    rows.

    """
    if person is None:
        return table
    column = table[person.column].combine_chunks()
    who = np.asarray(pc.fill_null(pc.dictionary_encode(column).indices, -1), dtype=np.int64)
    order = np.argsort(who, kind="stable")
    ordered = who[order]
    first = np.searchsorted(ordered, ordered, side="left")
    kept = np.zeros(len(who), dtype=bool)
    kept[order] = (np.arange(len(who)) - first < person.cap) & (ordered >= 0)
    return table.filter(pa.array(kept)).drop_columns([person.column])
