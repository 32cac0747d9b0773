"""Everything that passbox refuses, as one small tree.

    PassboxError                     public message + internal detail
    ├── ModelledError                a class of the service models; `wire` turns it into a response
    │   ├── ValidationException
    │   ├── ConflictException
    │   ├── ResourceNotFoundException
    │   ├── AccessDeniedException
    │   ├── ServiceQuotaExceededException
    │   └── ThrottlingException
    ├── QueryRefused                 the gate of `analysis` says no; names rule, table, column and place
    ├── JobFailed                    a job that fails is data: a code and a message that members may read
    └── Misconfigured                the operator must change something; the message says what

The public message may cross to the caller; `detail` is for the operator's log only. A docstring is the
default public message. This module knows no HTTP.
"""

from collections.abc import Iterable
from typing import Any, ClassVar


class PassboxError(Exception):
    """Something went wrong."""

    def __init__(self, message: str | None = None, *, detail: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        self.detail = detail
        super().__init__(self.message)


class ModelledError(PassboxError):
    """The request was refused.

    `members` holds the modelled fields beside `message`; `wire` sends only those that the service's own
    shape of this error has.
    """

    code: ClassVar[str] = ""

    def __init__(self, message: str | None = None, *, detail: str | None = None, **members: Any) -> None:
        super().__init__(message, detail=detail)
        self.members = {name: value for name, value in members.items() if value is not None}

    def __init_subclass__(cls) -> None:
        cls.code = cls.__name__


class ValidationException(ModelledError):
    """The input fails to satisfy the constraints."""

    def __init__(
        self,
        message: str | None = None,
        *,
        fields: list[tuple[str, str]] | None = None,
        reason: str = "FIELD_VALIDATION_FAILED",
        detail: str | None = None,
    ) -> None:
        listed = [{"name": name, "message": text} for name, text in fields or []]
        super().__init__(message, detail=detail, reason=reason, fieldList=listed or None)


class ConflictException(ModelledError):
    """You can't complete this action because another resource depends on this resource."""

    def __init__(
        self,
        message: str | None = None,
        *,
        reason: str = "INVALID_STATE",
        resource_id: str | None = None,
        resource_type: str | None = None,
        detail: str | None = None,
    ) -> None:
        super().__init__(
            message, detail=detail, reason=reason, resourceId=resource_id, resourceType=resource_type
        )


class ResourceNotFoundException(ModelledError):
    """The resource you are requesting does not exist."""

    def __init__(
        self,
        message: str | None = None,
        *,
        resource_id: str = "",
        resource_type: str = "",
        detail: str | None = None,
    ) -> None:
        super().__init__(message, detail=detail, resourceId=resource_id, resourceType=resource_type)


class AccessDeniedException(ModelledError):
    """You do not have sufficient access to perform this action."""

    def __init__(self, message: str | None = None, *, detail: str | None = None) -> None:
        super().__init__(message, detail=detail, reason="INSUFFICIENT_PERMISSIONS")


class ServiceQuotaExceededException(ModelledError):
    """The request would exceed a quota."""

    def __init__(
        self, message: str | None = None, *, quota_name: str, quota_value: float, detail: str | None = None
    ) -> None:
        super().__init__(message, detail=detail, quotaName=quota_name, quotaValue=quota_value)


class ThrottlingException(ModelledError):
    """The request was denied because of request throttling."""


class QueryRefused(PassboxError):
    """The query is not allowed.

    rule:    the rule that decides, as AWS names it, such as `list.listColumns` or `custom.allowedAnalyses`
    table:   the table (association name) whose rule it is, where one decides
    column:  the column that it is about, where one is
    allowed: what could stand there instead, where that can be listed; the message says it in words
    at:      the character of the text, from 0, at which the refused part starts, where there is one
    place:   the same as line and column, from 1; the gate, which has the text, fills it in
    """

    def __init__(
        self,
        message: str,
        *,
        rule: str,
        table: str | None = None,
        column: str | None = None,
        allowed: Iterable[object] = (),
        at: int | None = None,
        place: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(message)
        self.rule = rule
        self.table = table
        self.column = column
        self.allowed = tuple(map(str, allowed))
        self.at = at
        self.place = place

    def explained(self) -> str:
        """Rule, place and message in one line, for whoever wrote the query."""
        where = f" (line {self.place[0]}, column {self.place[1]})" if self.place else ""
        return f"{self.rule}{where}: {self.message}"


class JobFailed(PassboxError):
    """The job failed.

    `code` becomes `statusDetails.statusCode`, the message `statusDetails.message`: both are read by members
    of the collaboration, so neither may hold a value of anybody's data. `detail` is for the operator.
    """

    def __init__(self, code: str, message: str, *, detail: str | None = None) -> None:
        super().__init__(message, detail=detail)
        self.code = code


class Misconfigured(PassboxError):
    """passbox cannot run like this."""
