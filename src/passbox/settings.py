"""The only reader of the process environment; everything else receives a frozen Settings.

| variable | default | meaning |
|---|---|---|
| PASSBOX_HOME | ~/.passbox | where the service keeps everything |
| PASSBOX_REGION | us-east-1 | the region in ARNs and in accepted signatures |
| PASSBOX_CATALOG | local | where tables are found: `local` (folders) or `glue` |
| PASSBOX_CATALOG_ROLE | passbox-catalog | with `glue`, the role in which each account's catalog is asked |
| PASSBOX_SPARK_REMOTE | | a Spark Connect server, `sc://host:port`, instead of the embedded engine |
| PASSBOX_RUNTIME | bubblewrap | what seals jobs: `bubblewrap`, or `docker` for a Docker or Podman engine |
| PASSBOX_DOCKER_HOST | DOCKER_HOST, else unix:///var/run/docker.sock | the engine's socket |
| PASSBOX_OBJECTS | local | where results go: `local` (folders) or `s3` |

With `glue` and `s3`, botocore finds the room's own credentials and the services' endpoints as in every AWS
client (`AWS_PROFILE`, `AWS_ENDPOINT_URL_S3`, …).
"""

import os
import re
import tomllib
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from passbox.errors import Misconfigured


@dataclass(frozen=True)
class Settings:
    """Where the service lives and how it runs; paths are absolute.

    home/passbox.sqlite     the database            home/key             the key file (0600)
    home/signing-key        the seed of the key that signs run manifests (0600)
    home/accounts/ACCOUNT/  catalog, buckets, logs  home/vault/          data of jobs, nobody's to see
    home/images/            container images        home/scratch/        directories of running jobs
    """

    home: Path
    region: str = "us-east-1"
    unsafe_no_sandbox: bool = False
    catalog: str = "local"
    catalog_role: str = "passbox-catalog"
    objects: str = "local"
    spark_remote: str = ""
    runtime: str = "bubblewrap"
    docker_host: str = "unix:///var/run/docker.sock"

    @property
    def database(self) -> Path:
        return self.home / "passbox.sqlite"

    @property
    def key_file(self) -> Path:
        return self.home / "key"

    @property
    def signing_key_file(self) -> Path:
        return self.home / "signing-key"

    @property
    def accounts(self) -> Path:
        return self.home / "accounts"

    @property
    def vault(self) -> Path:
        return self.home / "vault"

    @property
    def images(self) -> Path:
        return self.home / "images"

    @property
    def scratch(self) -> Path:
        return self.home / "scratch"


_REMOTE = re.compile(r"sc://[A-Za-z0-9.\-\[\]:]+(:[0-9]{1,5})?(/;[\x21-\x7e]*)?", re.ASCII)


def default_home() -> Path:
    """PASSBOX_HOME, else ~/.passbox."""
    return Path(os.environ.get("PASSBOX_HOME") or "~/.passbox").expanduser().absolute()


def default_region() -> str:
    """PASSBOX_REGION, else us-east-1."""
    return os.environ.get("PASSBOX_REGION") or "us-east-1"


def default_backends() -> dict[str, str]:
    """Which backends, as fields of Settings: PASSBOX_CATALOG, … where they are set."""
    allowed = {
        "catalog": ("local", "glue"),
        "catalog_role": None,
        "objects": ("local", "s3"),
        "spark_remote": None,
        "runtime": ("bubblewrap", "docker"),
        "docker_host": None,
    }
    elsewhere = os.environ.get("DOCKER_HOST")
    found = {"docker_host": elsewhere} if elsewhere else {}
    for name, values in allowed.items():
        variable = f"PASSBOX_{name.upper()}"
        value = os.environ.get(variable)
        if value and values is not None and value not in values:
            raise Misconfigured(f"{variable} is {value!r}; it can be {' or '.join(values)}.")
        if value and name == "spark_remote" and not _REMOTE.fullmatch(value):
            raise Misconfigured(f"{variable} is {value!r}; it is written sc://host:port.")
        if value:
            found[name] = value
    return found


def read_toml(path: Path) -> dict[str, Any]:
    """What a file of settings says, numbers exactly; nothing where it is not there."""
    if not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text(), parse_float=Decimal)
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, a number too long, nested too deep
        raise Misconfigured(f"{path}: {error}") from None
