"""What an instance type gives a container here: vCPUs, memory and GPUs by the published EC2 sizes or the
operator's own table, as far as this machine has them. Pure; must not know what runs on it.

A type is `ml.FAMILY.SIZE`. Every family without accelerators counts 2 vCPUs as `large`, 4 as `xlarge` and 4 N
as `Nxlarge`, and has a fixed amount of memory for each vCPU; the few sizes that break the rule are listed. Of
the families with GPUs all sizes count so, and the numbers of their GPUs are listed.

| a type that | is |
|---|---|
| fits | given as it is |
| has more vCPUs or memory than a job may have here | scaled to that, and the job says so |
| the same, where the operator wrote `oversize = "refuse"` | refused with the numbers |
| has GPUs that the machine has too | given them, whole; the rest as above |
| has more GPUs than that, all instances of the job together | refused with the numbers, never scaled |
| is in the operator's table | of that size, with the GPUs that it says, or none |
| has accelerators of another kind (Trainium, Inferentia) | refused |
| is not known | refused |
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from passbox.errors import JobFailed, Misconfigured

GIB = 1 << 30
_OTHER_ACCELERATORS = re.compile(r"ml\.(trn|inf)[0-9]", re.ASCII)
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
_G5 = {"": 1, "2": 1, "4": 1, "8": 1, "12": 4, "16": 1, "24": 4, "48": 8}
_GPUS: Mapping[str, tuple[float, Mapping[str, int]]] = {
    # family: (GiB for each vCPU, {N of Nxlarge: GPUs})
    "g4dn": (4.0, {"": 1, "2": 1, "4": 1, "8": 1, "12": 4, "16": 1}),
    "g5": (4.0, _G5),
    "g6": (4.0, _G5),
    "g6e": (8.0, _G5),
    "p2": (15.25, {"": 1, "8": 8, "16": 16}),
    "p3": (7.625, {"2": 1, "8": 4, "16": 8}),
    "p3dn": (8.0, {"24": 8}),
    "p4d": (12.0, {"24": 8}),
    "p4de": (12.0, {"24": 8}),
    "p5": (2048 / 192, {"48": 8}),
    "p5e": (2048 / 192, {"48": 8}),
    "p5en": (2048 / 192, {"48": 8}),
}
_GPU_EXCEPTIONS: Mapping[str, tuple[int, float, int]] = {
    # type: (vCPUs, GiB, GPUs)
    "ml.p2.16xlarge": (64, 732.0, 16),
    "ml.p5.4xlarge": (16, 256.0, 1),
}
_GPU_TYPE = re.compile(r"ml\.([gp][0-9][a-z]*)\.([0-9]*)xlarge", re.ASCII)
_OVERSIZE = ("scale", "refuse")
_SIZE = {"vcpus": (1, 1024), "memoryGiB": (0.25, 32768)}
_MOST_GPUS = 64


class Size(NamedTuple):
    """What a type has. gib: GiB of memory"""

    vcpus: float
    gib: float
    gpus: int = 0


@dataclass(frozen=True)
class Instance:
    """type as asked for; cpus, memory_bytes and gpus: what the job is given; scaled: a sentence for everybody
    where that is less than the type has."""

    type: str
    cpus: float
    memory_bytes: int
    scaled: str | None = None
    gpus: int = 0


@dataclass(frozen=True)
class Instances:
    """The types of a room. own: the operator's; refuse: what does not fit; gpus: the most that a job may have
    of the machine's"""

    own: Mapping[str, Size] = field(default_factory=dict)
    refuse: bool = False
    gpus: int = _MOST_GPUS

    def give(self, type: str, *, cpus: float, memory_bytes: int, gpus: int = 0, count: int = 1) -> Instance:
        """One of `count` instances of a type on a machine that has `cpus`, `memory_bytes` and `gpus` for one
        job.

        JobFailed for a type that may not be given: see the table.
        """
        vcpus, gib, needed = self.own.get(type) or _published(type)
        gpus = min(gpus, self.gpus)
        if needed * count > gpus:
            raise _too_few(type, needed, count, gpus)
        cpus, memory_bytes = cpus / count, memory_bytes // count
        if vcpus <= cpus and gib * GIB <= memory_bytes:
            return Instance(type, vcpus, int(gib * GIB), gpus=needed)
        many = "" if count == 1 else f" each of {count} instances of"
        sizes = (
            f"{type} has {vcpus:g} vCPUs and {gib:g} GiB of memory;{many} a job may have {cpus:g} and "
            f"{memory_bytes / GIB:.1f} GiB here"
        )
        if self.refuse:
            raise JobFailed("INSTANCE_TYPE_TOO_LARGE", f"{sizes}. Choose a smaller instance type.")
        return Instance(type, min(vcpus, cpus), min(int(gib * GIB), memory_bytes), f"{sizes}.", needed)


def _too_few(type: str, needed: int, count: int, gpus: int) -> JobFailed:
    """A program written for GPUs fails or crawls with fewer, so these are never scaled."""
    many = f"{count} instances of {type} have {needed * count} GPUs" if count > 1 else f"{type} has {needed}"
    of = "" if count > 1 else " GPU" if needed == 1 else " GPUs"
    if gpus == 0:
        return JobFailed(
            "UNSUPPORTED_INSTANCE_TYPE",
            f"{many}{of} and this machine can give a job none. Choose a type without, for example "
            "ml.m5.xlarge; the operator sees with `passbox doctor` what is missing.",
        )
    return JobFailed(
        "INSTANCE_TYPE_TOO_LARGE",
        f"{many}{of} and a job may have {gpus} here. Choose a type with fewer GPUs, or fewer instances.",
    )


def _published(type: str) -> Size:
    if type in _EXCEPTIONS:
        return Size(*_EXCEPTIONS[type])
    if type in _GPU_EXCEPTIONS:
        return Size(*_GPU_EXCEPTIONS[type])
    if _OTHER_ACCELERATORS.match(type):
        raise JobFailed(
            "UNSUPPORTED_INSTANCE_TYPE",
            f"{type} has accelerators of a kind that no job is given here. Choose a type without, for "
            "example ml.m5.xlarge.",
        )
    accelerated = _GPU_TYPE.fullmatch(type)
    if accelerated and accelerated[2] in _GPUS.get(accelerated[1], (0.0, {}))[1]:
        gib, gpus = _GPUS[accelerated[1]]
        vcpus = 4 * int(accelerated[2] or 1)
        return Size(vcpus, vcpus * gib, gpus[accelerated[2]])
    found = _TYPE.fullmatch(type)
    if found is None or found[1] not in _GIB_PER_VCPU:
        raise JobFailed("UNSUPPORTED_INSTANCE_TYPE", f"The instance type {type} is not known here.")
    size = found[2]
    vcpus = 2 if size in ("medium", "large") else 4 * int(size.removesuffix("xlarge") or 1)
    return Size(vcpus, vcpus * _GIB_PER_VCPU[found[1]])


def read_instances(document: Mapping[str, Any], where: str) -> Instances:
    """The operator's table, of a TOML document:

        oversize = "refuse"                 # or "scale", the default
        gpus = 0                            # the most that a job may have of the machine's; all otherwise

        [types."ml.m5.xlarge"]
        vcpus = 2
        memoryGiB = 8
        gpus = 1                        # without this line it has none, whatever is published

    where: what errors call the document
    """
    unknown = sorted(set(document) - {"oversize", "gpus", "types"})
    if unknown:
        raise Misconfigured(f"{where}: there is no setting {unknown[0]}; there are oversize, gpus and types.")
    oversize = document.get("oversize", _OVERSIZE[0])
    if oversize not in _OVERSIZE:
        raise Misconfigured(f"{where}: oversize is {oversize!r}; it can be {' or '.join(_OVERSIZE)}.")
    types = document.get("types", {})
    if not isinstance(types, dict) or not all(isinstance(size, dict) for size in types.values()):
        raise Misconfigured(f'{where}: types holds tables, like [types."ml.m5.xlarge"].')
    own = {type: _own_size(size, f"{where}: {type}") for type, size in types.items()}
    return Instances(own, oversize == "refuse", _own_gpus(document.get("gpus", _MOST_GPUS), where))


def _own_size(size: Mapping[str, Any], where: str) -> Size:
    if set(size) - {"gpus"} != set(_SIZE):
        raise Misconfigured(f"{where} needs vcpus and memoryGiB, and may have gpus.")
    for name, (least, most) in _SIZE.items():
        value = size[name]
        number = type(value) in (int, float, Decimal) and math.isfinite(value)
        if not number or not least <= value <= most:
            raise Misconfigured(f"{where}: {name} must be a number from {least} to {most}.")
    return Size(float(size["vcpus"]), float(size["memoryGiB"]), _own_gpus(size.get("gpus", 0), where))


def _own_gpus(gpus: Any, where: str) -> int:
    if type(gpus) is not int or not 0 <= gpus <= _MOST_GPUS:
        raise Misconfigured(f"{where}: gpus must be a whole number from 0 to {_MOST_GPUS}.")
    return gpus
