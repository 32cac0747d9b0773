"""Which account is given which lines of a container's log, by the association's `containerLogs`.

| the account | is given |
|---|---|
| is named by no policy | nothing; without a policy nobody is given anything, the algorithm's owner included |
| has no ML configuration | nothing |
| is named by a policy that asks for a redaction | what it is given at all, with the redactions of all policies that name it applied |
| is named by a policy whose redaction cannot be done | nothing, whatever other policies say |
| is named by a policy with logType ERROR_SUMMARY | the summary of the log's errors and no line as such, whatever other policies say |
| is named by a policy whose filterPattern is no RE2 expression | nothing by that policy |
| otherwise | every line in which a filterPattern of a policy that names it is found, in order; all lines of a policy without one |

A pattern is searched for in each line by itself, before anything is redacted; anchors are the line's. An
empty pattern is no filter, as it is in AWS's console. With ERROR_SUMMARY a pattern says which error messages
may stand in the summary. Pure: knows text, not where it goes.
"""  # noqa: E501  a table

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from passbox.disclosure import summary
from passbox.disclosure.outcome import NO_CONFIGURATION, SUCCEEDED, Outcome, refused
from passbox.disclosure.redaction import CannotRedact, Redaction
from passbox.disclosure.text import lines
from passbox.patterns import BadPattern, compile_pattern

Policy = Mapping[str, Any]

NO_POLICY = "No containerLogs policy of the algorithm association names this account."
NO_REDACTION = (
    "The redaction that a containerLogs policy asks for cannot be done: {why}. Nothing was published; the "
    "algorithm's owner can associate it again with another logRedactionConfiguration."
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
NO_ERROR = "The log shows no error to summarise; the policy gives error summaries only."
EMPTY = "The container wrote no log."


@dataclass(frozen=True)
class LogRelease:
    """text: what the account is given, lines each ended by `\\n`; empty where the outcome says failed."""

    outcome: Outcome
    text: str = ""


class Rules:
    """What several policies, all of which name one account, let through to it together.

    Made without a check that it can be done: ask `obstacle` first.
    """

    def __init__(self, policies: Iterable[Policy]) -> None:
        self._everything = False
        self._patterns: list[Any] = []
        self.redactions: list[Mapping[str, Any]] = []
        self.summarises = False
        self.bad = 0
        self.named = False
        for policy in policies:
            self.named = True
            self.summarises |= policy.get("logType", "ALL") != "ALL"
            if redaction := policy.get("logRedactionConfiguration"):
                self.redactions.append(redaction)
            pattern = policy.get("filterPattern", "")
            if not pattern:
                self._everything = True
                continue
            try:
                self._patterns.append(compile_pattern(pattern))
            except BadPattern:
                self.bad += 1

    @classmethod
    def of(cls, policies: Sequence[Policy], account: str) -> "Rules":
        """Those of the policies that name the account."""
        return cls(policy for policy in policies if account in policy["allowedAccountIds"])

    def obstacle(self) -> str | None:
        """Why nothing at all can be given by these policies, or None."""
        if not self.named:
            return NO_POLICY
        if not (self._everything or self._patterns):
            return BAD_PATTERN
        try:
            Redaction(self.redactions)
        except CannotRedact as error:
            return NO_REDACTION.format(why=error)
        return None

    def given(self, text_lines: Sequence[str]) -> list[str]:
        """What is let through of a text; CannotRedact where that cannot be found out."""
        return common(text_lines, [self])

    def nothing(self) -> str:
        """What it means that a text has nothing to give."""
        return NO_ERROR if self.summarises else NOTHING_MATCHED

    def matches(self, line: str) -> bool:
        """Whether a filterPattern is found in the line."""
        return any(pattern.search(line) is not None for pattern in self._patterns)

    def passes(self, line: str) -> bool:
        """Whether the line is let through; a summary has no lines, so it holds none of them back."""
        return self._everything or self.summarises or self.matches(line)


def common(text_lines: Sequence[str], all_rules: Sequence[Rules]) -> list[str]:
    """What every one of several rules, at least one, lets through; CannotRedact as soon as one cannot."""
    kept = [line for line in text_lines if all(rules.passes(line) for rules in all_rules)]
    summarising = [rules for rules in all_rules if rules.summarises]
    if summarising:
        kept = summary.summarise(kept, lambda line: all(rules.matches(line) for rules in summarising))
    redactions = [redaction for rules in all_rules for redaction in rules.redactions]
    return Redaction(redactions).applied(kept)


def release(
    log: bytes, policies: Sequence[Policy], members: Iterable[str], configured: Collection[str]
) -> dict[str, LogRelease]:
    """What each member is given of a log.

    policies: the association's `containerLogs` for this kind of job
    members:  the accounts to answer for; configured: those of them that have an ML configuration
    """
    split = lines(log)
    done: dict[str, LogRelease] = {}  # accounts under the same policies are given the same
    released = {}
    for account in members:
        naming = [policy for policy in policies if account in policy["allowedAccountIds"]]
        if naming and account not in configured:
            released[account] = LogRelease(refused(NO_CONFIGURATION.format(what="logs")))
            continue
        key = repr(naming)
        if key not in done:
            done[key] = _released(split, Rules(naming))
        released[account] = done[key]
    return released


def _released(split: list[str], rules: Rules) -> LogRelease:
    reason = rules.obstacle()
    if reason is not None:
        return LogRelease(refused(reason))
    try:
        given = rules.given(split)
    except CannotRedact as error:
        return LogRelease(refused(NO_REDACTION.format(why=error)))
    details = EMPTY if not split else rules.nothing() if not given else None
    if rules.bad:
        details = SOME_BAD_PATTERN
    return LogRelease(Outcome(SUCCEEDED, details), "".join(f"{line}\n" for line in given))
