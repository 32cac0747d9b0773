"""What the kernel says about a started sandbox, read from outside.

Knows /proc; must not know how the sandbox was made: it judges the result, not the recipe. Light enough for
the shepherd to import.
"""

import os

_NAMESPACES = ("net", "pid", "mnt", "user", "ipc", "uts")


def _status(process: int) -> dict[str, str]:
    with open(f"/proc/{process}/status") as file:
        lines = (line.split(":", 1) for line in file if ":" in line)
        return {name: value.strip() for name, value in lines}


def violations(process: int, uid: int, filtered: bool) -> list[str]:
    """What is wrong with the seal of `process`, as sentences; empty means sealed.

    uid: the one host user that it must run as. filtered: whether its system-call filter must be in place yet.
    OSError if the process is gone.
    """
    wrong = []
    for name in _NAMESPACES:
        if os.stat(f"/proc/{process}/ns/{name}").st_ino == os.stat(f"/proc/self/ns/{name}").st_ino:
            wrong.append(f"shares the {name} namespace of the service")
    status = _status(process)
    if status["Uid"].split() != [str(uid)] * 4 or uid == 0:
        wrong.append(f"runs as user {status['Uid']}")
    if status.get("NoNewPrivs") != "1":
        wrong.append("could gain privileges")
    for capabilities in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
        if int(status[capabilities], 16):
            wrong.append(f"has capabilities ({capabilities} {status[capabilities]})")
    if filtered and status.get("Seccomp") != "2":
        wrong.append("has no system-call filter")
    return wrong
