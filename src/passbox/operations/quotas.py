"""How much of everything there may be: AWS's default quotas, unless the operator set others.

The operator's own limits are lines `name = number` in HOME/quotas.toml, by the names below.
"""

from passbox.access.call import Call
from passbox.errors import ServiceQuotaExceededException

DEFAULTS = {
    "configured_model_algorithms": 1000,
    "configured_model_algorithm_associations": 1000,
    "ml_input_channels": 100,
    "training_jobs_per_membership": 5,
    "training_jobs_per_account": 10,
    "inference_jobs_per_membership": 5,
    "inference_jobs_per_account": 10,
    "trained_model_versions": 100,
}


def hold(call: Call, quota: str, present: int) -> None:
    """Refuses one more where `present` has reached the quota."""
    limit = call.room.quotas.get(quota, DEFAULTS[quota])
    if present >= limit:
        label = quota.replace("_", " ")
        raise ServiceQuotaExceededException(
            f"The quota of {limit} {label} is reached. Wait for or delete some, or have the operator raise "
            f"`{quota}` in quotas.toml.",
            quota_name=label,
            quota_value=limit,
        )
