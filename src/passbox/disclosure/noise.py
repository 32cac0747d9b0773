"""Noise for queries under differential privacy.

Discrete Laplace noise on integers, of OpenDP, from a cryptographic source. This module knows numbers; it must
not know files, SQL, accounts or what a query asks.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from passbox.errors import JobFailed

MICRO = 1_000_000  # of epsilon


def check() -> None:
    """Raises JobFailed where this worker cannot add noise."""
    try:
        import opendp  # noqa: F401
    except ImportError as error:
        raise JobFailed(
            "INTERNAL_ERROR",
            "This service cannot add noise yet, so nothing was read: its operator must install the extra "
            "`privacy` (pip install 'passbox[privacy]').",
        ) from error


def laplace(values: Sequence[int], sensitivity: int, epsilon: int) -> list[int]:
    """The values, each with discrete Laplace noise.

    sensitivity: by how much all values together change at most (L1) when one user comes or goes. epsilon: in
    millionths. OpenDP itself says what a scale costs; it is never less noise than was paid for.
    """
    import opendp.prelude as dp

    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l1_distance(T="i64")
    scale = sensitivity * MICRO / epsilon
    measurement: Any = dp.m.make_laplace(*space, scale=scale)
    while Fraction(measurement.map(sensitivity)) * MICRO > epsilon:
        scale = math.nextafter(scale, math.inf)
        measurement = dp.m.make_laplace(*space, scale=scale)
    noisy: list[int] = measurement(list(values))
    return noisy
