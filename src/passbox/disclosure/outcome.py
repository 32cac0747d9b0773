"""What became of one account's share of a job's logs or metrics, as GetTrainedModel shows it to that account.

Pure data. The details are read by the account that they are about and by nobody else.
"""

from dataclasses import dataclass

SUCCEEDED = "PUBLISH_SUCCEEDED"
FAILED = "PUBLISH_FAILED"

NO_CONFIGURATION = (
    "Failed to publish {what} as no ML Config role is set. Call PutMLConfiguration; it holds for jobs that "
    "run after that."
)


@dataclass(frozen=True)
class Outcome:
    """status: PUBLISH_SUCCEEDED or PUBLISH_FAILED; details: the reason, where nothing or not all arrived."""

    status: str
    details: str | None = None

    def stored(self) -> dict[str, str]:
        """As a resource's body keeps it under `published`."""
        return {"status": self.status, **({"details": self.details} if self.details else {})}


def refused(details: str) -> Outcome:
    """Nothing was published, and why."""
    return Outcome(FAILED, details)
