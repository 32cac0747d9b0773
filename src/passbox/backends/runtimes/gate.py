"""Process 1 of a container: it waits until the seal was looked at, runs the program, and tells how it ended.

Knows a shell script and how to bring a shell along into any root; must not know engines or specs. The shell
and `env` are this machine's own, started by their own loader, so an image needs neither. Three pipes in a
directory of the host carry everything:

    gate    one line lets the program begin; process 1 then reads on, and so holds the container's control
            group until its numbers were read
    log     standard output and error of the program
    status  the program's exit status, 128 + signal where it was killed

Process 1 has no variables: engines add some of their own, so `env -i` sets exactly those of the spec.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from passbox.backends import closure
from passbox.errors import Misconfigured

PROGRAMS, PIPES = "/run/passbox/bin", "/run/passbox/io"
_LOADER = "loader"
_TOOLS = {"sh": Path("/bin/sh"), "env": Path("/usr/bin/env")}
_SCRIPT = f"""
exec >{PIPES}/log 2>&1
read -r go <{PIPES}/gate || exit 125
"$@" </dev/null
echo $? >{PIPES}/status
read -r go <{PIPES}/gate
"""


def programs() -> dict[str, str]:
    """What a container brings along: the loader, the shell and `env` with their libraries, as
    {name in PROGRAMS: file of this machine}."""
    brought: dict[str, str] = {}
    for name, tool in _TOOLS.items():
        loader = closure.interpreter(tool)
        if loader is None:
            raise Misconfigured(f"{tool} is not a program that a loader of this machine starts")
        brought |= {name: str(tool), _LOADER: str(loader)}
        brought |= {library.name: str(library) for library in closure.libraries(loader, tool)}
    return brought


def _tool(name: str) -> list[str]:
    return [f"{PROGRAMS}/{_LOADER}", "--library-path", PROGRAMS, f"{PROGRAMS}/{name}"]


def command(arguments: Sequence[str], environment: Mapping[str, str], directory: str) -> list[str]:
    """The command of a container that runs `arguments` in `directory` with exactly this environment and PWD.

    ValueError for a program whose name holds `=`, which `env` would take for a variable.
    """
    if "=" in arguments[0]:
        raise ValueError("the name of a program holds an equals sign, which no container engine can start")
    variables = [f"{name}={value}" for name, value in {"PWD": directory, **environment}.items()]
    program = [*_tool("env"), "-i", "--", *variables, *arguments]
    return [*_tool("env"), "-i", "--", *_tool("sh"), "-c", _SCRIPT, "passbox", *program]
