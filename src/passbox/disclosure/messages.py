"""What a container's own words on its failure may tell the members of a room.

A failure file is written by a process that has read everybody's data, and `statusDetails.message` is one
field that every member reads. So of it is told only what the association's `containerLogs` let through to
each and every member, with all of their redactions, and as a summary where one of them is given summaries.
Where a member may read nothing, or a redaction cannot be done, the words are kept back. AWS publishes the
first 1,024 characters to everybody; who wants that here names every member in a policy without a pattern.
Pure.
"""

from collections.abc import Sequence

from passbox.disclosure.logs import Policy, Rules, common
from passbox.disclosure.redaction import CannotRedact
from passbox.disclosure.text import lines, readable

LONGEST = 1024
WITHHELD = (
    "Its failure message is kept back, because not every member may read this algorithm's logs; members whom "
    "a containerLogs policy names find it at the end of their log."
)


def failure_text(file: bytes) -> str:
    """The first 1,024 characters of a failure file, without signs that control a terminal."""
    return readable(file.decode("utf-8", "replace"))[:LONGEST]


def released_failure(text: str, policies: Sequence[Policy], members: Sequence[str]) -> str | None:
    """What every member may read of a failure's text, at most LONGEST characters, or None."""
    if not members:
        return None
    together = [Rules.of(policies, account) for account in members]
    if any(rules.obstacle() is not None for rules in together):
        return None
    try:
        left = common(lines(text.encode()), together)
    except CannotRedact:
        return None
    return "\n".join(left).strip()[:LONGEST] or None


def failure_message(status: int, text: str, policies: Sequence[Policy], members: Sequence[str]) -> str:
    """The message of a container that ended with a status other than 0.

    text: of `failure_text`, empty where the container left no failure file
    members: everybody who may read the job's statusDetails
    """
    own = f"The container ended with exit status {status}."
    if status == 127:
        own += " That is the status of a program that is not in the image."
    if not text.strip():
        return own
    released = released_failure(text, policies, members)
    return released or f"{own} {WITHHELD}"
