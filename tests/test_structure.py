"""What the code may import and use. The import layers are a contract in pyproject.toml, checked by `make check`."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator

from app import VERSION
from tests.server import ROOT

SOURCES = sorted(path for folder in ("app", "training") for path in (ROOT / folder).rglob("*.py"))

# Names of dependencies that their documentation does not mention. Underscore attributes are ruff's rule SLF001.
UNDOCUMENTED = re.compile(
    r"""
    (?!(app|training)\.) [\w.]* \._(?!_)                    # a private module or name of another package
    | uvicorn\.(?!(Config|Server|main|run)\b)               # a submodule of uvicorn
    | fastapi\.middleware\.asyncexitstack
    | prometheus_client\.(metrics_core|utils)\b
    | (PIL\.)?Image\.core\b
    | class\ of\ (uvicorn\.Server|Server|HttpToolsProtocol)$
    """,
    re.VERBOSE,
)

# Runs in a fresh interpreter. Prints the files of the project that importing the given modules opens, then the heavy
# packages that they load.
_IMPORT_AND_RECORD = """
import importlib, sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
for name in sys.argv[2:]:
    importlib.import_module(name)
root = sys.argv[1]
print(*sorted({path for path in opened if path.startswith(root) and not path.endswith((".py", ".pyc"))
               and "__pycache__" not in path and ".venv" not in path}))
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"tensorflow", "keras", "ai_edge_litert", "training"}))
"""


def test_importing_the_service_opens_no_project_file_and_loads_no_tensorflow() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in SOURCES
        if path.is_relative_to(ROOT / "app") and path.name not in {"__init__.py", "__main__.py"}
    ]

    ran = subprocess.run(
        [sys.executable, "-c", _IMPORT_AND_RECORD, str(ROOT), *modules],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert ran.stdout.splitlines() == ["", ""]


def _names_used(node: ast.AST) -> Iterator[str]:
    """The dotted names that a node imports, reads or inherits from."""
    match node:
        case ast.Import(names=imported):
            yield from (name.name for name in imported)
        case ast.ImportFrom(module=str(module), names=imported):
            yield from (f"{module}.{name.name}" for name in imported)
        case ast.Attribute(value=ast.Name(id=name), attr=attribute) if not attribute.startswith("_"):
            yield f"{name}.{attribute}"
        case ast.ClassDef(bases=bases):
            yield from (f"class of {ast.unparse(base)}" for base in bases)


def test_only_documented_members_of_dependencies_are_used() -> None:
    used = {
        (str(path.relative_to(ROOT)), name)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in _names_used(node)
        if UNDOCUMENTED.match(name)
    }

    assert used == set()


def test_the_version_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert project["version"] == VERSION


def test_no_test_imports_a_benchmark() -> None:
    importing = re.compile(r"^(from|import) benchmarks\b", re.MULTILINE)

    tests = (ROOT / "tests").rglob("*.py")
    assert [path.name for path in tests if importing.search(path.read_text(encoding="utf-8"))] == []
