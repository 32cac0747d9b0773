"""What an instance type gives a container here: vCPUs and memory by the published EC2 sizes, as far as this
machine has them. Pure; must not know what runs on it.

A type is `ml.FAMILY.SIZE`. Every family here counts 2 vCPUs as `large`, 4 as `xlarge` and 4 N as `Nxlarge`,
and has a fixed amount of memory for each vCPU; the few sizes that break the rule are listed.
"""

import re
from dataclasses import dataclass

from passbox.errors import JobFailed

GIB = 1 << 30
_ACCELERATED = re.compile(r"ml\.(g|p|trn|inf)[0-9]", re.ASCII)
_TYPE = re.compile(r"ml\.([a-z]+)[0-9][a-z]*\.([0-9]*x?large|medium)", re.ASCII)
_GIB_PER_VCPU = {"c": 2.0, "m": 4.0, "r": 8.0, "t": 4.0}
_EXCEPTIONS = {
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


@dataclass(frozen=True)
class Instance:
    """type as asked for; cpus and memory_bytes: what the job is given."""

    type: str
    cpus: float
    memory_bytes: int


def instance(type: str, *, cpus: float, memory_bytes: int) -> Instance:
    """The instance of a type on a machine that has `cpus` and `memory_bytes` for one job.

    A type larger than the machine is given what the machine has. JobFailed for a type with accelerators,
    which a program would look for in vain, and for one that is not known.
    """
    if _ACCELERATED.match(type):
        raise JobFailed(
            "UNSUPPORTED_INSTANCE_TYPE",
            f"{type} has accelerators and this service has none. Use a type without, for example "
            "ml.m5.xlarge.",
        )
    vcpus, gib = _published(type)
    return Instance(type, min(float(vcpus), cpus), min(int(gib * GIB), memory_bytes))


def _published(type: str) -> tuple[int, float]:
    if type in _EXCEPTIONS:
        return _EXCEPTIONS[type]
    found = _TYPE.fullmatch(type)
    if found is None or found[1] not in _GIB_PER_VCPU:
        raise JobFailed("UNSUPPORTED_INSTANCE_TYPE", f"The instance type {type} is not known here.")
    size = found[2]
    vcpus = 2 if size in ("medium", "large") else 4 * int(size.removesuffix("xlarge") or 1)
    return vcpus, vcpus * _GIB_PER_VCPU[found[1]]
