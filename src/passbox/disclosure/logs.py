"""Which account is given which lines of a container's log, by the association's `containerLogs`.

| the account | is given |
|---|---|
| is named by no policy | nothing; without a policy nobody is given anything, the algorithm's owner included |
| has no ML configuration | nothing |
| is named by a policy that asks for ERROR_SUMMARY or a redaction | nothing, whatever other policies say: a redaction is never ignored, and this version has none |
| is named by a policy whose filterPattern is no RE2 expression | nothing by that policy |
| otherwise | every line in which a filterPattern of a policy that names it is found, in order; all lines of a policy without one |

A pattern is searched for in each line by itself; anchors are the line's. An empty pattern is no filter, as it
is in AWS's console. Pure: knows text, not where it goes.
"""  # noqa: E501  a table

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from passbox.disclosure.outcome import NO_CONFIGURATION, SUCCEEDED, Outcome, refused
from passbox.disclosure.patterns import BadPattern, compile_pattern, lines

Policy = Mapping[str, Any]

NO_POLICY = "No containerLogs policy of the algorithm association names this account."
NO_ERROR_SUMMARY = (
    "A containerLogs policy asks for ERROR_SUMMARY, which is not available in this version; nothing was "
    "published."
)
NO_REDACTION = (
    "A containerLogs policy asks for redaction, which is not available in this version; nothing was "
    "published."
)
BAD_PATTERN = (
    "The filterPattern of the containerLogs policy is not a regular expression (RE2 syntax); nothing was "
    "published."
)
SOME_BAD_PATTERN = (
    "The filterPattern of one containerLogs policy is not a regular expression (RE2 syntax); what only that "
    "policy allows was not published."
)
NOTHING_MATCHED = "No line of the log matches the filterPattern."
EMPTY = "The container wrote no log."


@dataclass(frozen=True)
class LogRelease:
    """text: what the account is given, lines each ended by `\\n`; empty where the outcome says failed."""

    outcome: Outcome
    text: str = ""


class _Filter:
    """What the policies that name one account let through together."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        self.everything = False
        self.patterns: list[Any] = []
        self.bad = 0
        for policy in policies:
            pattern = policy.get("filterPattern", "")
            if not pattern:
                self.everything = True
                continue
            try:
                self.patterns.append(compile_pattern(pattern))
            except BadPattern:
                self.bad += 1

    @property
    def usable(self) -> bool:
        return self.everything or bool(self.patterns)

    def passes(self, line: str) -> bool:
        return self.everything or any(pattern.search(line) is not None for pattern in self.patterns)


def obstacle(policies: Sequence[Policy], account: str) -> str | None:
    """Why an account is given nothing at all by these policies, or None."""
    naming = [policy for policy in policies if account in policy["allowedAccountIds"]]
    if not naming:
        return NO_POLICY
    if any(policy.get("logRedactionConfiguration") for policy in naming):
        return NO_REDACTION
    if any(policy.get("logType", "ALL") != "ALL" for policy in naming):
        return NO_ERROR_SUMMARY
    return None if _Filter(naming).usable else BAD_PATTERN


def passing(text_lines: Iterable[str], policies: Sequence[Policy], account: str) -> list[str]:
    """The lines that the policies let through to an account for which there is no obstacle."""
    allowed = _Filter(policy for policy in policies if account in policy["allowedAccountIds"])
    return [line for line in text_lines if allowed.passes(line)]


def release(
    log: bytes, policies: Sequence[Policy], members: Iterable[str], configured: Collection[str]
) -> dict[str, LogRelease]:
    """What each member is given of a log.

    policies: the association's `containerLogs` for this kind of job
    members:  the accounts to answer for; configured: those of them that have an ML configuration
    """
    split = lines(log)
    return {account: _for_account(split, policies, account, account in configured) for account in members}


def _for_account(split: list[str], policies: Sequence[Policy], account: str, configured: bool) -> LogRelease:
    reason = obstacle(policies, account)
    if reason is not None:
        return LogRelease(refused(reason))
    if not configured:
        return LogRelease(refused(NO_CONFIGURATION.format(what="logs")))
    given = passing(split, policies, account)
    details = EMPTY if not split else NOTHING_MATCHED if not given else None
    if any(_Filter([policy]).bad for policy in policies if account in policy["allowedAccountIds"]):
        details = SOME_BAD_PATTERN
    return LogRelease(Outcome(SUCCEEDED, details), "".join(f"{line}\n" for line in given))
