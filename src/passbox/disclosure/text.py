"""What programs write, as lines of text that show what they hold.

Knows text, not what becomes of it.
"""

import re

# What a terminal obeys instead of showing it: colours, titles, movements.
_ESCAPES = re.compile(
    "\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b\n]*(?:\x07|\x1b\\\\)?"
    "|[PX^_][^\x1b\n]*(?:\x1b\\\\)?|[ -/]*[0-~])"
    "|\x9b[0-?]*[ -/]*[@-~]"
)
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
# Signs that are not seen, and so hide words from whoever looks for them, or turn their order round.
_UNSEEN = re.compile("[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]")


def readable(text: str) -> str:
    """Text that shows what it holds: without escape sequences and unseen signs; other controls but tab, line
    feed and carriage return become U+FFFD."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", _UNSEEN.sub("", _ESCAPES.sub("", text)))


def lines(log: bytes) -> list[str]:
    """The lines of what a program wrote, made `readable`, without their ends; what is not UTF-8 is replaced.

    Only `\\n` and `\\r\\n` end a line: what a program redraws with `\\r` stays one line.
    """
    found = [line.removesuffix("\r") for line in readable(log.decode("utf-8", "replace")).split("\n")]
    if found and not found[-1]:
        found.pop()
    return found
