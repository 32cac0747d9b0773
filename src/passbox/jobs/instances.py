"""What an instance type gives a container here: vCPUs, memory and GPUs by the published EC2 sizes or the
operator's own table, as far as this machine has them. Pure; must not know what runs on it.

A type is `ml.FAMILY.SIZE`. Every family without accelerators counts 2 vCPUs as `large`, 4 as `xlarge` and 4 N
as `Nxlarge`, and has a fixed amount of memory for each vCPU; the few sizes that break the rule are listed.

| a type that | is |
|---|---|
| fits | given as it is |
| has more vCPUs or memory than a job may have here | scaled to that, and the job says so |
| the same, where the operator wrote `oversize = "refuse"` | refused with the numbers |
| has accelerators, and the operator's table does not say otherwise | refused |
| is not known | refused |
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from passbox.errors import JobFailed, Misconfigured

GIB = 1 << 30
_ACCELERATED = re.compile(r"ml\.(g|p|trn|inf)[0-9]", re.ASCII)
_TYPE = re.compile(r"ml\.([a-z]+)[0-9][a-z]*\.([0-9]*x?large|medium)", re.ASCII)
_GIB_PER_VCPU = {"c": 2.0, "m": 4.0, "r": 8.0, "t": 4.0}
_EXCEPTIONS: Mapping[str, tuple[int, float]] = {
    # type: (vCPUs, GiB)
    "ml.t3.medium": (2, 4.0),
    "ml.t3.large": (2, 8.0),
    "ml.c4.xlarge": (4, 7.5),
    "ml.c4.2xlarge": (8, 15.0),
    "ml.c4.4xlarge": (16, 30.0),
    "ml.c4.8xlarge": (36, 60.0),
    "ml.c5n.xlarge": (4, 10.5),
    "ml.c5n.2xlarge": (8, 21.0),
    "ml.c5n.4xlarge": (16, 42.0),
    "ml.c5n.9xlarge": (36, 96.0),
    "ml.c5n.18xlarge": (72, 192.0),
}
_OVERSIZE = ("scale", "refuse")
_SIZE = {"vcpus": (1, 1024), "memoryGiB": (0.25, 32768)}


@dataclass(frozen=True)
class Instance:
    """type as asked for; cpus and memory_bytes: what the job is given; scaled: a sentence for everybody where
    that is less than the type has."""

    type: str
    cpus: float
    memory_bytes: int
    scaled: str | None = None


@dataclass(frozen=True)
class Instances:
    """The types of a room. own: the operator's, as type → (vCPUs, GiB); refuse: what does not fit"""

    own: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    refuse: bool = False

    def give(self, type: str, *, cpus: float, memory_bytes: int, count: int = 1) -> Instance:
        """One of `count` instances of a type on a machine that has `cpus` and `memory_bytes` for one job.

        JobFailed for a type that may not be given: see the table.
        """
        vcpus, gib = self._size(type)
        cpus, memory_bytes = cpus / count, memory_bytes // count
        if vcpus <= cpus and gib * GIB <= memory_bytes:
            return Instance(type, vcpus, int(gib * GIB))
        many = "" if count == 1 else f" each of {count} instances of"
        sizes = (
            f"{type} has {vcpus:g} vCPUs and {gib:g} GiB of memory;{many} a job may have {cpus:g} and "
            f"{memory_bytes / GIB:.1f} GiB here"
        )
        if self.refuse:
            raise JobFailed("INSTANCE_TYPE_TOO_LARGE", f"{sizes}. Choose a smaller instance type.")
        return Instance(type, min(vcpus, cpus), min(int(gib * GIB), memory_bytes), f"{sizes}.")

    def _size(self, type: str) -> tuple[float, float]:
        if type in self.own:
            return self.own[type]
        if _ACCELERATED.match(type):
            raise JobFailed(
                "UNSUPPORTED_INSTANCE_TYPE",
                f"{type} has accelerators and a job here is given none. Use a type without, for example "
                "ml.m5.xlarge.",
            )
        return _published(type)


def _published(type: str) -> tuple[float, float]:
    if type in _EXCEPTIONS:
        return _EXCEPTIONS[type]
    found = _TYPE.fullmatch(type)
    if found is None or found[1] not in _GIB_PER_VCPU:
        raise JobFailed("UNSUPPORTED_INSTANCE_TYPE", f"The instance type {type} is not known here.")
    size = found[2]
    vcpus = 2 if size in ("medium", "large") else 4 * int(size.removesuffix("xlarge") or 1)
    return vcpus, vcpus * _GIB_PER_VCPU[found[1]]


def read_instances(document: Mapping[str, Any], where: str) -> Instances:
    """The operator's table, of a TOML document:

        oversize = "refuse"                 # or "scale", the default

        [types."ml.m5.xlarge"]
        vcpus = 2
        memoryGiB = 8

    A type that it names has these sizes, accelerators or not. where: what errors call the document
    """
    unknown = sorted(set(document) - {"oversize", "types"})
    if unknown:
        raise Misconfigured(f"{where}: there is no setting {unknown[0]}; there are oversize and types.")
    oversize = document.get("oversize", _OVERSIZE[0])
    if oversize not in _OVERSIZE:
        raise Misconfigured(f"{where}: oversize is {oversize!r}; it can be {' or '.join(_OVERSIZE)}.")
    types = document.get("types", {})
    if not isinstance(types, dict) or not all(isinstance(size, dict) for size in types.values()):
        raise Misconfigured(f'{where}: types holds tables, like [types."ml.m5.xlarge"].')
    own = {type: _own_size(size, f"{where}: {type}") for type, size in types.items()}
    return Instances(own, oversize == "refuse")


def _own_size(size: Mapping[str, Any], where: str) -> tuple[float, float]:
    if set(size) != set(_SIZE):
        raise Misconfigured(f"{where} needs vcpus and memoryGiB and nothing else.")
    for name, (least, most) in _SIZE.items():
        value = size[name]
        number = type(value) in (int, float, Decimal) and math.isfinite(value)
        if not number or not least <= value <= most:
            raise Misconfigured(f"{where}: {name} must be a number from {least} to {most}.")
    return float(size["vcpus"]), float(size["memoryGiB"])
