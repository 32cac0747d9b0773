"""passbox: a self-hosted clean room for machine learning, spoken to with stock AWS clients.

The services `cleanrooms` and `cleanroomsml` come with every AWS SDK. What a room offers beyond them is the
service `passbox`, whose model lies here: name `models_path()` in AWS_DATA_PATH, and stock boto3 knows it as
well, or make clients from `boto3_session()`. Knows no room of the house.

Imports next to nothing: beside every sandbox a process starts that comes through here.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # importing typing would cost every start milliseconds
if TYPE_CHECKING:
    from typing import Any

__all__ = ["add_models", "boto3_session", "models_path"]


def models_path() -> str:
    """The folder of service models for AWS_DATA_PATH, in the layout that botocore reads."""
    return f"{os.path.dirname(__file__)}/models"  # noqa: PTH120  see above


def add_models(session: Any) -> Any:
    """Makes a botocore session know the service `passbox` too, and returns it."""
    loader = session.get_component("data_loader")
    if models_path() not in loader.search_paths:
        loader.search_paths.append(models_path())
    return session


def boto3_session(**options: Any) -> Any:
    """A boto3.Session with these options that knows the service `passbox` beside all others.

    Raises ImportError, with what to install, where boto3 is not there.
    """
    try:
        import boto3
    except ImportError as error:
        raise ImportError(
            "passbox.boto3_session needs boto3, which the service itself does without: pip install boto3"
        ) from error
    from botocore.session import get_session

    core = add_models(options.pop("botocore_session", None) or get_session())
    return boto3.Session(botocore_session=core, **options)
