"""How much of everything there may be: AWS's default quotas, unless the operator set others.

The operator's own limits are lines `name = number` in HOME/quotas.toml, by the names below; `inf` is no
limit.
"""

import math
from collections.abc import Iterable
from typing import Unpack

from passbox.access.call import Call
from passbox.errors import ServiceQuotaExceededException
from passbox.state import resources
from passbox.state.resources import Filters

DEFAULTS = {
    "access_budget_templates": 25,
    "configured_model_algorithms": 1000,
    "configured_model_algorithm_associations": 1000,
    "ml_input_channels": 100,
    "analysis_templates": 100,
    "protected_queries_per_membership": 5,
    "protected_jobs_per_membership": 5,
    "synthetic_data_jobs_per_account": 2,
    "training_jobs_per_membership": 5,
    "training_jobs_per_account": 10,
    "training_instances_per_account": 10,
    "inference_jobs_per_membership": 5,
    "inference_jobs_per_account": 10,
    "trained_model_versions": 100,
}


def hold(
    call: Call, quota: str, kind: str, statuses: Iterable[str] | None = None, **where: Unpack[Filters]
) -> None:
    """Refuses one more where as many rows of the kind as the quota allows are there."""
    limit = call.room.quotas.get(quota, DEFAULTS[quota])
    if limit == math.inf:
        return
    refuse(call, quota, resources.count(call.tx, kind, most=math.ceil(limit), statuses=statuses, **where))


def refuse(call: Call, quota: str, there: int, more: int = 1) -> None:
    """Refuses `more` of them where, with those that are there, they would be more than the quota allows."""
    limit = call.room.quotas.get(quota, DEFAULTS[quota])
    if limit != math.inf and there + more > math.ceil(limit):
        label = quota.replace("_", " ")
        reached = "reached" if there >= limit else f"not enough for {more} more: {there} are under way"
        raise ServiceQuotaExceededException(
            f"The quota of {limit} {label} is {reached}. Wait for or delete some, or have the operator raise "
            f"`{quota}` in quotas.toml.",
            quota_name=label,
            quota_value=limit,
        )
