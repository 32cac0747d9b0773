"""The statuses that work passes through, in one table by kind of job. Knows words and nothing else.

waiting ──▶ working ──▶ done | failed
   ╰───────────┴─▶ called_off ──▶ ending ──▶ cancelled
"""

from typing import NamedTuple


class Statuses(NamedTuple):
    """What the resource of a job is called at each point of its life."""

    waiting: str
    working: str
    done: str
    failed: str
    cancelled: str
    called_off: str
    ending: str
    timed_out: str = ""

    def failed_by(self, code: str) -> str:
        """The status of what failed with a status code: AWS has one of its own for time only in queries."""
        return self.timed_out if code == "TIMED_OUT" and self.timed_out else self.failed

    @property
    def in_progress(self) -> tuple[str, ...]:
        """Those in which it can still be called off."""
        return (self.waiting, self.working)

    @property
    def under_way(self) -> tuple[str, ...]:
        """Those before it comes to rest."""
        return tuple(dict.fromkeys((*self.in_progress, self.called_off, self.ending)))


_CREATED = Statuses(
    "CREATE_PENDING", "CREATE_IN_PROGRESS", "ACTIVE", "CREATE_FAILED", "CREATE_FAILED",
    "CANCEL_PENDING", "CANCEL_IN_PROGRESS",
)  # fmt: skip
_CANCELLABLE = _CREATED._replace(cancelled="INACTIVE")
_DELETED = _CREATED._replace(
    waiting="DELETE_PENDING",
    working="DELETE_IN_PROGRESS",
    done="INACTIVE",
    failed="DELETE_FAILED",
    cancelled="DELETE_FAILED",
)

OF = {
    "ml_input_channel": _CREATED,  # AWS has no cancel of a channel or an export, and no status for one
    "trained_model_export_job": _CREATED,
    "trained_model": _CANCELLABLE,
    "trained_model_inference_job": _CANCELLABLE,
    "protected_query": Statuses(
        "SUBMITTED", "STARTED", "SUCCESS", "FAILED", "CANCELLED", "CANCELLING", "CANCELLING", "TIMED_OUT"
    ),
    "protected_job": Statuses(
        "SUBMITTED", "STARTED", "SUCCESS", "FAILED", "CANCELLED", "CANCELLING", "CANCELLING"
    ),
    "delete_ml_input_channel_data": _DELETED,
    "delete_trained_model_output": _DELETED,
}
