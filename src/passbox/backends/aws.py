"""Clients of AWS's services, or of others that speak like them, in a role of one member.

The room's own credentials come from where every AWS client finds them (environment, profile, instance), and
so do endpoints (`AWS_ENDPOINT_URL_S3`, …), proxies and certificates: botocore reads all of that. With its own
credentials the room does one thing, to assume a role: whatever it reads and writes, it does as the member
that let it.

1. A role is assumed for its own account only: another account's is refused, whoever named it.
2. The session's name and external id tell for which membership a role is assumed, so that its trust policy
   can insist on that (`sts:ExternalId`), as it would on `aws:SourceArn`.
3. Credentials last an hour and are renewed where work takes longer. They are kept in memory only.
4. What a service said is for the operator's log; others are given its error code.
"""

import threading
from dataclasses import dataclass
from functools import partial
from typing import Any

from passbox import names
from passbox.errors import Misconfigured, ValidationException
from passbox.names import Role

HOUR = 3600  # the longest that a role may be had which is assumed in another role


@dataclass(frozen=True)
class Patience:
    """Seconds to connect and to wait for each answer, and how often a request is made at most."""

    connect: float = 5.0
    read: float = 60.0
    attempts: int = 6


AT_THE_DOOR = Patience(connect=3.0, read=6.0, attempts=2)


class Clients:
    """botocore's clients, in the roles of members. Threads may share it; a forked process makes its own."""

    def __init__(self, region: str, patience: Patience | None = None) -> None:
        self._region = region
        self._patience = patience or Patience()
        self._lock = threading.Lock()  # botocore's sessions are not for two threads
        self._base: Any = None

    def client(self, service: str, account: str, role: Role, region: str | None = None) -> Any:
        """A client of `service` that acts in `role`.

        Raises ValidationException for a role of another account, and Misconfigured where the room has no
        credentials; a role that cannot be assumed shows when the client is used.
        """
        if names.arn_account(role.arn) != account:
            raise ValidationException(f"The role {role.arn} is not of account {account}.")
        with self._lock:
            self._base = self._base or _session()
            create = partial(self._create, self._base)
            return self._create(_assuming(self._base, create, role), service, region=region)

    def _create(self, session: Any, service: str, region: str | None = None, **credentials: str) -> Any:
        from botocore.config import Config

        config = Config(
            region_name=region or self._region,
            connect_timeout=self._patience.connect,
            read_timeout=self._patience.read,
            retries={"mode": "standard", "total_max_attempts": self._patience.attempts},
            user_agent_appid="passbox",
        )
        return session.create_client(service, config=config, **credentials)


def _session() -> Any:
    import botocore.session

    return botocore.session.Session()


def _assuming(base: Any, create: Any, role: Role) -> Any:
    """A session whose credentials are those of `role`, assumed with the credentials of `base` when needed."""
    from botocore.credentials import (
        AssumeRoleCredentialFetcher,
        CredentialProvider,
        CredentialResolver,
        DeferredRefreshableCredentials,
    )

    own = base.get_credentials()
    if own is None:
        raise Misconfigured(
            "The room has no AWS credentials with which to assume members' roles; set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, for the API and the worker."
        )
    arguments: dict[str, Any] = {"RoleSessionName": "passbox", "DurationSeconds": HOUR}
    if role.membership is not None:
        arguments["ExternalId"] = role.membership
        arguments["RoleSessionName"] = f"passbox-{role.membership.rpartition('/')[2]}"[:64]
    fetcher = AssumeRoleCredentialFetcher(create, own, role.arn, extra_args=arguments)

    class Assumed(CredentialProvider):  # type: ignore[misc]
        METHOD = "custom-passbox-role"

        def load(self) -> Any:
            return DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")

    session = _session()
    session.register_component("data_loader", base.get_component("data_loader"))  # it remembers models
    session.register_component("credential_provider", CredentialResolver([Assumed()]))
    return session


def faults() -> tuple[type[Exception], ...]:
    """What a client raises where a service refuses, is not there, or breaks off; to be caught."""
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

    return (ClientError, BotoCoreError, HTTPClientError)


def code(error: Exception) -> str:
    """The service's error code, or the kind of failure to reach it."""
    response: Any = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code") or type(error).__name__)


def refusal(what: str, error: Exception) -> ValidationException:
    """`what` could not be done, for its owner, with what the service said for the operator."""
    return ValidationException(f"{what} ({code(error)}).", detail=f"{type(error).__name__}: {error}")


def broken() -> tuple[type[Exception], ...]:
    """What reading a body raises where the connection breaks off."""
    from botocore.exceptions import IncompleteReadError, ReadTimeoutError, ResponseStreamingError

    return (IncompleteReadError, ReadTimeoutError, ResponseStreamingError)
