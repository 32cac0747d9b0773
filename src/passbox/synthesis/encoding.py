"""Arrow columns as arrays of numbers, and back: exact for whole numbers, dates, times and decimals.

A number is what a column counts in: a whole number itself, a date in days, a time or timestamp in its unit,
a decimal in units of its last digit; floats stay floats. NaN counts as null. This module knows no privacy.

"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Array = npt.NDArray[Any]
_LARGEST = float(2**62)
_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def labels_only(kind: pa.DataType) -> bool:
    """Whether values of this type have neither distances nor an order that counts."""
    return not numeric(kind)


def numeric(kind: pa.DataType) -> bool:
    """Whether a column of this type can be numerical."""
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or (pa.types.is_temporal(kind) and not pa.types.is_interval(kind))
        or (pa.types.is_decimal(kind) and kind.bit_width <= 128)
    )


def limits(kind: pa.DataType) -> tuple[int | float, int | float]:
    """The least and greatest number that a type can hold, exact; of dates and timestamps the years 1 to
    9999.
    """
    if pa.types.is_integer(kind):
        info = np.iinfo(kind.to_pandas_dtype())
        return int(info.min), int(info.max)
    if pa.types.is_floating(kind):
        most = float(np.finfo(kind.to_pandas_dtype()).max)
        return -most, most
    if pa.types.is_decimal(kind):
        return 1 - 10**kind.precision, 10**kind.precision - 1
    if pa.types.is_time(kind):
        return 0, 86_400 * _TICKS[kind.unit] - 1
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        day = (
            1
            if pa.types.is_date32(kind)
            else 86_400 * _TICKS["ms" if pa.types.is_date64(kind) else kind.unit]
        )
        return max(-719_162 * day, -(2**62)), min(2_932_897 * day - 1, 2**62)
    return -_LARGEST, _LARGEST


@dataclass(frozen=True)
class Numbers:
    """values: int64 or float64, one for each row, 0 where null; nulls: where, or None for nowhere."""

    values: Array
    nulls: Array | None


def numbers(column: pa.ChunkedArray | pa.Array) -> Numbers:
    """The numbers of a column."""
    flat = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(flat, pa.ChunkedArray):
        flat = pa.concat_arrays(flat.chunks) if flat.num_chunks else pa.array([], flat.type)
    nulls = np.asarray(pc.is_null(flat, nan_is_null=pa.types.is_floating(flat.type)))
    if pa.types.is_floating(flat.type):
        values = np.asarray(pc.cast(flat, pa.float64()).fill_null(0.0), dtype=np.float64)
        values = np.clip(np.where(nulls, 0.0, values), -_LARGEST, _LARGEST)
    else:
        values = _whole(flat, flat.type)
    return Numbers(values, nulls if nulls.any() else None)


def _whole(flat: pa.Array, kind: pa.DataType) -> Array:
    if pa.types.is_decimal(kind):
        return _unscaled(flat, kind)
    if pa.types.is_date32(kind) or pa.types.is_time32(kind):
        flat = flat.view(pa.int32())
    elif pa.types.is_temporal(kind):
        flat = flat.view(pa.int64())
    elif pa.types.is_uint64(kind):
        flat = pc.min_element_wise(flat, pa.scalar(2**62, pa.uint64()))
    whole = pc.cast(flat, pa.int64()).fill_null(0)
    return np.clip(np.asarray(whole, dtype=np.int64), -(2**62), 2**62)


def _unscaled(flat: pa.Array, kind: pa.DataType) -> Array:
    """Decimals in units of the last digit; beyond 2⁶² they are moved to it."""
    wide = pc.cast(flat, pa.decimal128(38, kind.scale)).fill_null(pa.scalar(0).cast(pa.decimal128(38, 0)))
    wide = pc.cast(wide, pa.decimal128(38, kind.scale))
    halves = np.frombuffer(wide.buffers()[1], dtype=np.int64)[2 * wide.offset :][: 2 * len(wide)]
    low, high = halves[0::2], halves[1::2]
    fits = (high == 0) & (low >= 0) | (high == -1) & (low < 0)
    return np.clip(np.where(fits, low, np.where(high < 0, -(2**62), 2**62)), -(2**62), 2**62)


def restored(given: Numbers, kind: pa.DataType) -> pa.Array:
    """An Arrow array of type `kind` from numbers; the inverse of `numbers`."""
    values, nulls = given.values, given.nulls
    if pa.types.is_floating(kind):
        return pa.array(values.astype(np.float64), mask=nulls, from_pandas=False).cast(kind, safe=False)
    whole = values.astype(np.int64)
    if pa.types.is_decimal(kind):
        buffer = np.empty(2 * len(whole), dtype=np.int64)
        buffer[0::2], buffer[1::2] = whole, whole >> 63
        exact = pa.decimal128(kind.precision if kind.bit_width == 128 else 38, kind.scale)
        array = pa.Array.from_buffers(exact, len(whole), [None, pa.py_buffer(buffer)])
        blank = pa.scalar(None, exact)
        array = array if nulls is None else pc.if_else(pa.array(nulls), blank, array)
        return array if exact == kind else array.cast(kind)
    narrow = pa.types.is_date32(kind) or pa.types.is_time32(kind)
    if narrow or pa.types.is_temporal(kind):
        return pa.array(whole.astype(np.int32 if narrow else np.int64), mask=nulls).view(kind)
    return pa.array(whole, mask=nulls).cast(kind)


def number(value: Any, kind: pa.DataType) -> int | float:
    """One Python value of a column's type as its number."""
    found = numbers(pa.array([value], kind)).values[0]
    return float(found) if pa.types.is_floating(kind) else int(found)


def distance(value: Any, kind: pa.DataType) -> int | float:
    """A declared step as a difference of numbers: of dates and times it is a timedelta."""
    if not pa.types.is_temporal(kind):
        return number(value, kind)
    days = pa.types.is_date(kind)
    if days and pa.types.is_date32(kind):
        return int(value.days)
    return int(pa.scalar(value, pa.duration("ms" if days else kind.unit)).value)


def whole_step(kind: pa.DataType) -> int:
    """The least distance of two numbers of a type that holds no floats."""
    return 86_400_000 if pa.types.is_date64(kind) else 1


def plain(value: int | float) -> int | float:
    """The number without the digits that only a float's sum or product brought: 15 of them stay."""
    return value if isinstance(value, int) else float(f"{value:.15g}")


def told(array: pa.Array) -> list[Any]:
    """The values as Python has them; dates and timestamps, of which Python knows fewer, as text in UTC."""
    if pa.types.is_timestamp(array.type):
        array = array.view(pa.timestamp(array.type.unit))  # without a zone, which needs its table
    if pa.types.is_date(array.type) or pa.types.is_timestamp(array.type):
        array = array.cast(pa.string())
    return cast(list[Any], array.to_pylist())
