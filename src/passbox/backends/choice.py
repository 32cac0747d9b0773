"""The catalog and the object store that the operator chose, for the API and the worker alike."""

from passbox.backends import aws
from passbox.backends.catalogs.base import Catalog
from passbox.backends.catalogs.glue import Glue
from passbox.backends.catalogs.local import Local as LocalCatalog
from passbox.backends.objects.base import Objects
from passbox.backends.objects.local import Local as LocalObjects
from passbox.backends.objects.s3 import S3
from passbox.settings import Settings


def catalog(settings: Settings) -> Catalog:
    """Where tables are found: PASSBOX_CATALOG."""
    if settings.catalog == "glue":
        return Glue(settings.region, settings.catalog_role)
    return LocalCatalog(settings.accounts)


def objects(settings: Settings) -> Objects:
    """Where results go: PASSBOX_OBJECTS."""
    local = LocalObjects(settings.accounts)
    return S3(aws.Clients(settings.region), local) if settings.objects == "s3" else local
