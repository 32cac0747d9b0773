"""`passbox image`: the container images of a room, as its operator adds, builds and forgets them."""

from pathlib import Path
from typing import Any

import click

from passbox.errors import Misconfigured
from passbox.names import ACCOUNT
from passbox.options import operator_options
from passbox.printing import print_json, show
from passbox.settings import Settings, default_backends, default_region

_OWNER = click.option(
    "--account", help="The account it belongs to. Default: the one in an ECR path, if it is here."
)


@click.group()
def image() -> None:
    """Container images, known under their registry path."""


@image.command("add")
@click.argument("uri")
@click.argument("path", type=click.Path(exists=True, path_type=Path), required=False)
@operator_options
@_OWNER
def image_add(uri: str, path: Path | None, home: Path, as_json: bool, account: str | None) -> None:
    """Make an OCI layout or archive, or a folder with `train` and `serve`, known as URI.

    Without PATH: the image that a Docker or Podman engine of this machine knows as URI.
    """
    settings, store = _images(home)
    owner = _owner(account, uri, settings)
    if path is None:
        added = store.add_from_engine(uri, settings.docker_host, owner)
    else:
        added = store.add(uri, path, owner)
    _added(uri, added.digest, owner, as_json)


@image.command("build")
@click.argument("uri")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@operator_options
@_OWNER
@click.option("--from", "on", metavar="URI", help="An image to build on. Default: the running Python.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write an OCI archive too.")
def image_build(
    uri: str, folder: Path, home: Path, as_json: bool, account: str | None, on: str | None, out: Path | None
) -> None:
    """Make an image of a folder with `train` or `serve` and a requirements.txt, without an engine."""
    settings, store = _images(home)
    owner = _owner(account, uri, settings)
    built = store.build(uri, folder, owner, on=on or "", out=out)
    _added(uri, built.digest, owner, as_json)


@image.command("export")
@click.argument("uri")
@operator_options
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
def image_export(uri: str, home: Path, as_json: bool, out: Path) -> None:
    """Write an image as an OCI archive, for `docker load`, `podman load` and `passbox image add`."""
    digest = _images(home)[1].export(uri, out)
    if as_json:
        print_json({"uri": uri, "digest": digest, "out": str(out)})
        return
    click.echo(f"{uri} is in {out}, there {digest}")


@image.command("remove")
@click.argument("uri")
@operator_options
def image_remove(uri: str, home: Path, as_json: bool) -> None:
    """Forget an image; jobs that run keep what they run on."""
    from passbox.state import jobs
    from passbox.state.database import Database

    settings, store = _images(home)
    in_use = False
    if settings.database.exists():
        with Database(settings.database).read() as tx:
            in_use = any(found.state == "running" for found in jobs.all_(tx))
    store.remove(uri, in_use=in_use)
    if as_json:
        print_json({"uri": uri, "removed": True})
        return
    click.echo(f"{uri} is forgotten")


def _images(home: Path) -> tuple[Settings, Any]:
    from passbox.backends.images.store import ImageStore

    settings = Settings(home.absolute(), default_region(), False, **default_backends())
    return settings, ImageStore(settings.images)


def _added(uri: str, digest: str, owner: str | None, as_json: bool) -> None:
    if as_json:
        print_json({"uri": uri, "digest": digest, "account": owner})
        return
    click.echo(f"{uri} is {digest}, for {f'account {owner}' if owner else 'every account'}")


def _owner(account: str | None, uri: str, settings: Settings) -> str | None:
    """The account that was given, else that in `ACCOUNT.dkr.ecr.REGION.amazonaws.com/…`, if this room has it.

    Misconfigured where the one that was given is no account of this room.
    """
    number, _, rest = uri.partition(".")
    if account is not None:
        if not _here(account, settings):
            raise Misconfigured(
                f"--account {account} is no account of this room: see `passbox account list`, or make it "
                f"with `passbox account create NUMBER --name NAME --home {settings.home}`."
            )
        return account
    return number if rest.startswith("dkr.ecr.") and _here(number, settings) else None


def _here(account: str, settings: Settings) -> bool:
    """Whether this room has the account."""
    from passbox.state import accounts
    from passbox.state.database import Database

    if not (ACCOUNT.fullmatch(account) and settings.database.exists()):
        return False
    with Database(settings.database).read() as tx:
        return accounts.exists(tx, account)


@image.command("list")
@operator_options
def image_list(home: Path, as_json: bool) -> None:
    """List the images."""
    _, store = _images(home)
    owners = store.owners()
    rows = [{"uri": uri, "digest": found.digest, "account": owners[uri]} for uri, found in store.list()]
    if as_json:
        print_json(rows)
        return
    show(rows, ["uri", "account", "digest"], empty="No images yet; see `passbox image add`.")
