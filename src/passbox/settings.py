"""The only reader of the process environment; everything else receives a frozen Settings.

| variable | default | meaning |
|---|---|---|
| PASSBOX_HOME | ~/.passbox | where the service keeps everything |
| PASSBOX_REGION | us-east-1 | the region in ARNs and in accepted signatures |
"""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Where the service lives and how it runs; paths are absolute.

    home/passbox.sqlite     the database            home/key             the key file (0600)
    home/accounts/ACCOUNT/  catalog, buckets, logs  home/vault/          data of jobs, nobody's to see
    home/images/            container images        home/scratch/        directories of running jobs
    """

    home: Path
    region: str = "us-east-1"
    unsafe_no_sandbox: bool = False

    @property
    def database(self) -> Path:
        return self.home / "passbox.sqlite"

    @property
    def key_file(self) -> Path:
        return self.home / "key"

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


def default_home() -> Path:
    """PASSBOX_HOME, else ~/.passbox."""
    return Path(os.environ.get("PASSBOX_HOME") or "~/.passbox").expanduser().absolute()


def default_region() -> str:
    """PASSBOX_REGION, else us-east-1."""
    return os.environ.get("PASSBOX_REGION") or "us-east-1"
