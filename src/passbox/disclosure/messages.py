"""What a container's own words on its failure may tell the members of a room.

A failure file is written by a process that has read everybody's data, and `statusDetails.message` is one
field that every member reads. So a line of it is released only where every member would be given that line
in its log by the association's `containerLogs`: named by a policy, no redaction or summary asked for, the
filterPattern found in it. Otherwise the words are kept back. AWS publishes the first 1,024 characters to
everybody; who wants that here names every member in a policy without a pattern. Pure.
"""

from collections.abc import Sequence

from passbox.disclosure.logs import Policy, obstacle, passing
from passbox.disclosure.patterns import lines

LONGEST = 1024
WITHHELD = (
    "Its failure message is kept back, because not every member may read this algorithm's logs; members whom "
    "a containerLogs policy names find it at the end of their log."
)


def failure_text(file: bytes) -> str:
    """The first 1,024 characters of a failure file, without signs that control a terminal."""
    text = file.decode("utf-8", "replace")[:LONGEST]
    return "".join(
        sign if sign.isprintable() or sign in "\n\t" else "\N{REPLACEMENT CHARACTER}" for sign in text
    )


def released_failure(text: str, policies: Sequence[Policy], members: Sequence[str]) -> str | None:
    """The lines of a failure's text that every member may read; None where there are none."""
    if not members or any(obstacle(policies, account) is not None for account in members):
        return None
    left = lines(text.encode())
    for account in members:
        left = passing(left, policies, account)
    return "\n".join(left).strip() or None


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
