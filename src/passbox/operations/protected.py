"""What protected queries and protected jobs share: their records, and whether a receiver can be reached."""

from passbox.access.call import Call, invalid
from passbox.errors import ValidationException
from passbox.operations.registry import Output
from passbox.state import receivers, statuses
from passbox.state.receivers import Receiver
from passbox.state.resources import Resource

_MILLISECONDS = 1000
# what the spine and the runtimes say where AWS's list of codes has no word of its own
_CODES = {
    "INVALID_RECEIVER": "INVALID_RESOURCE",
    "DELIVERY_FAILED": "INVALID_RESOURCE",
    "ISOLATION_NOT_REACHED": "INVALID_RESOURCE",
    "SANDBOX_UNAVAILABLE": "INTERNAL_ERROR",
    "SANDBOX_VIOLATION": "INTERNAL_ERROR",
    "TIMED_OUT": "INSUFFICIENT_COMPUTE",
}
_RETRYABLE = ("TRANSIENT_ERROR", "INTERNAL_ERROR")


def common(row: Resource) -> Output:
    """What record and summary of both begin with."""
    return {
        "id": row.id,
        "membershipId": row.membership,
        "membershipArn": row.body["membershipArn"],
        "createTime": row.created,
        "status": row.status,
    }


def outcome(row: Resource) -> Output:
    """The modelled `statistics` of what has come to rest, and the `error` of what failed."""
    own = statuses.OF[row.kind]
    output: Output = {}
    if row.status not in own.under_way:
        billed = row.status == own.done or "partlyDelivered" in row.body
        output["statistics"] = {
            "totalDurationInMillis": round((row.updated - row.created) * _MILLISECONDS),
            "billedResourceUtilization": {"units": row.body["billed"] if billed else 0.0},
        }
    if row.status in (own.failed, own.timed_out):
        details = row.body["statusDetails"]
        code = _CODES.get(details["statusCode"], details["statusCode"])
        retry = {"retryable": code in _RETRYABLE}
        output["error"] = {"code": code, "message": details["message"], "retry": retry}
    return output


def check_receiver(call: Call, receiver: Receiver, id: str, place: str) -> None:
    """Refuses a receiver that may or can not receive. place: the field that names it; id: of the run."""
    if receiver.problem is not None or receiver.location is None:
        raise invalid(place, f"{place}: {receiver.problem}")
    try:
        call.room.objects.check(receiver.account, receivers.address(receiver.location, id), receiver.role)
    except ValidationException as error:
        if receiver.named:
            raise invalid(place, f"{place}: {error.message}") from error
        # where somebody else keeps its results is not the runner's to know
        raise ValidationException(
            f"{place}: nothing can be delivered to the default location of {receiver.account}; it must "
            "give its membership another with UpdateMembership.",
            detail=error.message,
        ) from error
