"""The house keeps its shape: who may import whom, how long things may be, and what is not called at all."""

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "passbox"
FILES = sorted(SOURCE.rglob("*.py"))
GROUND = {"errors", "manifest", "names", "patterns", "settings", "telemetry"}
ROOTS = {"__main__", "serve", "work", "service", "doctor", "demo", "client"}

# room → rooms that it must not know; the roots may know everything
FORBIDDEN = {
    "wire": {"access", "operations", "state", "ledger", "analysis", "disclosure", "jobs", "backends"},
    "access": {"wire", "operations", "jobs", "backends", "disclosure", "analysis"},
    "operations": {"jobs", "backends", "synthesis", "disclosure", "wire"},
    "state": {"wire", "access", "operations", "jobs", "backends", "disclosure", "ledger"},
    "ledger": {"wire", "access", "operations", "jobs", "backends", "disclosure", "analysis"},
    "analysis": {"wire", "access", "operations", "state", "ledger", "jobs", "backends", "disclosure"},
    "disclosure": {"wire", "access", "operations", "state", "ledger", "jobs", "backends", "analysis"},
    "synthesis": {
        "wire",
        "access",
        "operations",
        "state",
        "ledger",
        "jobs",
        "backends",
        "analysis",
        "disclosure",
    },
    "jobs": {"wire", "access", "operations"},
    "backends": {"wire", "access", "operations", "state", "ledger", "jobs", "disclosure"},
}
PURE = ("analysis", "disclosure", "synthesis")
IMPURE_MODULES = {"os", "time", "socket", "subprocess", "datetime", "random", "secrets", "pathlib", "sqlite3"}
CONCRETE = {
    "passbox.backends.engines.sail",
    "passbox.backends.engines.spark",
    "passbox.backends.runtimes.bubblewrap",
    "passbox.backends.runtimes.docker",
    "passbox.backends.runtimes.unsafe",
    "passbox.backends.objects.local",
    "passbox.backends.objects.s3",
    "passbox.backends.catalogs.local",
    "passbox.backends.catalogs.glue",
}
HEAVY = {
    "pysail",
    "pyspark",
    "pyarrow",
    "pandas",
    "numpy",
    "sklearn",
    "boto3",
    "ray",
    "kubernetes",
    "opendp",
    "docker",
}


def module(path: Path) -> str:
    parts = ["passbox", *path.relative_to(SOURCE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports(path: Path) -> Iterator[str]:
    """Every import, lazy ones and those for type checking too."""
    known = {module(file) for file in FILES}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a thing lies"
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                yield below if below in known else str(node.module)


GRAPH = {module(path): sorted(set(imports(path))) for path in FILES}
IDS = [str(path.relative_to(SOURCE)) for path in FILES]


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_the_import_law(path: Path) -> None:
    name = module(path)
    here = room(name)
    for target in GRAPH[name]:
        there = room(target) if target.startswith("passbox") else ""
        assert there not in FORBIDDEN.get(here, set()), f"{name} must not know {target}"
        if here in GROUND:
            assert there in {"", *GROUND}, f"{name} is ground and must not know {target}"
        if target in CONCRETE and not target.startswith(f"passbox.{here}."):
            assert here in ROOTS, f"{name} names the concrete {target}; only the roots may"
        if here in PURE:
            assert target.split(".")[0] not in IMPURE_MODULES, f"{name} is pure and must not import {target}"
        if target.split(".")[0] == "subprocess":
            assert here == "backends", f"{name} starts processes; only backends do"
        if target.split(".")[0] in ("sqlalchemy", "sqlite3"):
            assert here == "state", f"{name} speaks SQL; only state does"


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_the_environment_is_read_in_settings_only(path: Path) -> None:
    if path.name == "settings.py":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        named = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
        if named:
            assert node.attr not in ("environ", "environb", "getenv"), f"{path}:{node.lineno}"


def test_there_are_no_import_cycles() -> None:
    ours = {name: [t for t in targets if t in GRAPH and t != name] for name, targets in GRAPH.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " → ".join([*trail[trail.index(name) :], name])
        if name not in done:
            for target in ours[name]:
                visit(target, (*trail, name))
            done.add(name)

    for name in sorted(ours):
        visit(name, ())


def test_the_api_imports_no_engine() -> None:
    """What `serve` imports when it is imported, followed to the end, is light."""

    def top_level(path: Path) -> set[str]:
        found: set[str] = set()
        body = list(ast.parse(path.read_text()).body)
        for node in body:
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
        return found

    paths = {module(path): path for path in FILES}
    waiting, seen = ["passbox.serve"], set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in paths:
            continue
        seen.add(name)
        for target in top_level(paths[name]):
            assert target.split(".")[0] not in HEAVY, f"{name} imports {target} at start-up"
            waiting.append(target)
    assert "passbox.operations.ml_input_channel" in seen


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_modules_and_functions_are_short_and_say_what_they_are(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) <= 600, f"{path} is too long"
    if text.strip():
        assert ast.get_docstring(tree), f"{path} has no docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 70, f"{path}:{node.lineno} {node.name} has {length} lines"


def test_the_median_module_is_short() -> None:
    lengths = [len(path.read_text().splitlines()) for path in FILES if path.name != "__init__.py"]
    assert statistics.median(lengths) <= 150


def test_no_file_is_dead() -> None:
    """Every module is imported by another one, or is a root, or is run by its path."""
    used = {target for targets in GRAPH.values() for target in targets}
    run_by_path = {"passbox.__main__"}
    dead = [
        name
        for name, path in ((module(path), path) for path in FILES)
        if name not in used | run_by_path and path.name != "__init__.py" and "demo/image" not in str(path)
    ]
    assert dead in ([], ["passbox.backends.runtimes.steward"]), dead
