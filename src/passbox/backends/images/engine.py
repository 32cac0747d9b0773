"""Images that a Docker or Podman engine of this machine holds, as archives.

Knows the docker SDK; must not know where images are kept. The engine pulls nothing here: what is not there
yet is pulled by the operator, with the operator's credentials.
"""

from pathlib import Path

from passbox.errors import Misconfigured

_SECONDS = 3600
_DETAIL = 1000  # characters of what an engine says


def save(address: str, uri: str, archive: Path) -> None:
    """Writes what `docker save URI` would, from the engine at `address`. Misconfigured where it cannot."""
    try:
        from docker import APIClient
    except ImportError as error:
        raise Misconfigured(
            "an image of a container engine needs the docker SDK: pip install 'passbox[docker]'; or give the "
            "path of an archive"
        ) from error
    try:
        engine = APIClient(base_url=address, version="auto", timeout=_SECONDS)
    except Exception as error:  # the SDK's own errors and those of its transport have no common class
        raise Misconfigured(
            f"no container engine answers at {address}; start it, set PASSBOX_DOCKER_HOST, or give the path "
            "of an archive",
            detail=str(error)[:_DETAIL],
        ) from error
    try:
        with archive.open("wb") as file:
            for chunk in engine.get_image(uri):
                file.write(chunk)
    except OSError as error:  # the SDK's answers are among them
        archive.unlink(missing_ok=True)
        raise Misconfigured(
            f"the engine at {address} does not give {uri}; pull or build it there first",
            detail=str(error)[:_DETAIL],
        ) from error
