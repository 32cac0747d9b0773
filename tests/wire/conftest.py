"""What the wire tests share: botocore's vectors, fetched once."""

from pathlib import Path

import pytest

from lib.botocore_vectors import vectors


@pytest.fixture(scope="session")
def botocore_vectors() -> Path:
    return vectors()
