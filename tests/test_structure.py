"""Who may import whom, and what an import may do."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Each module of the service and the modules of the service that it imports: no more, and no fewer.
IMPORTS = {
    "app.__main__": {"app.process"},
    "app.access": {"app.errors", "app.problems", "app.quotas", "app.settings"},
    "app.admission": {"app.errors", "app.problems"},
    "app.batching": {"app.errors", "app.preprocessing"},
    "app.cli": {"app.commands", "app.process"},
    "app.client": {
        "app.engine",
        "app.errors",
        "app.predictions",
        "app.preprocessing",
        "app.service",
        "app.settings",
    },
    "app.commands": {
        "app.client",
        "app.decoding",
        "app.errors",
        "app.manifest",
        "app.preprocessing",
        "app.process",
        "app.settings",
    },
    "app.connections": {"app.errors", "app.problems"},
    "app.decision": {"app.manifest"},
    "app.decoding": {"app.errors"},
    "app.drift": {"app.manifest", "app.preprocessing"},
    "app.engine": {"app.errors", "app.manifest", "app.preprocessing"},
    "app.errors": set[str](),
    "app.instruments": set[str](),
    "app.main": {
        "app.access",
        "app.engine",
        "app.errors",
        "app.metrics",
        "app.observability",
        "app.problems",
        "app.routes.docs",
        "app.routes.open_inference",
        "app.routes.operations",
        "app.routes.playground",
        "app.routes.predict",
        "app.routes.tensorflow_serving",
        "app.schemas",
        "app.service",
        "app.settings",
        "app.tracing",
        "app.uploads",
        "app.watchdog",
    },
    "app.machine": set[str](),
    "app.manifest": {"app.errors"},
    "app.metrics": {
        "app.decision",
        "app.drift",
        "app.instruments",
        "app.manifest",
        "app.preprocessing",
        "app.shared_memory",
    },
    "app.observability": {"app.errors", "app.problems"},
    "app.predictions": {"app.decoding", "app.service"},
    "app.preprocessing": {"app.decoding", "app.errors", "app.segmentation"},
    "app.problems": {"app.errors", "app.schemas"},
    "app.process": {"app.observability", "app.server", "app.settings", "app.workers"},
    "app.quotas": {"app.errors"},
    "app.routes.docs": set[str](),
    "app.routes.open_inference": {
        "app.errors",
        "app.preprocessing",
        "app.schemas",
        "app.service",
        "app.settings",
        "app.tensors",
        "app.uploads",
    },
    "app.routes.operations": {
        "app.errors",
        "app.manifest",
        "app.metrics",
        "app.problems",
        "app.schemas",
        "app.service",
    },
    "app.routes.playground": {"app.errors"},
    "app.routes.predict": {
        "app.access",
        "app.admission",
        "app.errors",
        "app.predictions",
        "app.preprocessing",
        "app.problems",
        "app.schemas",
        "app.service",
        "app.settings",
        "app.uploads",
    },
    "app.routes.tensorflow_serving": {
        "app.errors",
        "app.preprocessing",
        "app.schemas",
        "app.service",
        "app.settings",
        "app.tensors",
        "app.uploads",
    },
    "app.schemas": set[str](),
    "app.segmentation": {"app.decoding", "app.errors"},
    "app.service": {
        "app.batching",
        "app.decision",
        "app.decoding",
        "app.engine",
        "app.errors",
        "app.machine",
        "app.manifest",
        "app.metrics",
        "app.preprocessing",
        "app.schemas",
        "app.settings",
        "app.tracing",
    },
    "app.server": {
        "app.admission",
        "app.connections",
        "app.errors",
        "app.machine",
        "app.main",
        "app.metrics",
        "app.observability",
        "app.problems",
        "app.service",
        "app.settings",
    },
    "app.settings": set[str](),
    "app.shared_memory": set[str](),
    "app.tensors": {
        "app.access",
        "app.admission",
        "app.errors",
        "app.preprocessing",
        "app.problems",
        "app.service",
        "app.uploads",
    },
    "app.tracing": set[str](),
    "app.uploads": {"app.errors", "app.machine", "app.schemas", "app.settings"},
    "app.watchdog": set[str](),
    "app.workers": {"app.shared_memory"},
}
OPEN_TO_TRAINING = {
    "app.decision",
    "app.decoding",
    "app.drift",
    "app.engine",
    "app.errors",
    "app.manifest",
    "app.preprocessing",
}
OWNERS = {  # a library -> the only modules of the service that import it
    "ai_edge_litert": {"app.engine"},
    "cv2": {"app.decoding", "app.drift", "app.preprocessing", "app.segmentation"},
    "fastapi": {
        "app.access",
        "app.main",
        "app.routes.open_inference",
        "app.routes.operations",
        "app.routes.predict",
        "app.routes.tensorflow_serving",
        "app.server",
        "app.tensors",
    },
    "httpx2": {"app.client"},
    "keras": {"app.engine"},
    "limits": {"app.quotas"},
    "opentelemetry": {"app.tracing"},
    "PIL": {"app.decoding"},
    "prometheus_client": {"app.instruments", "app.metrics"},
    "pydantic_settings": {"app.settings"},
    "python_multipart": {"app.uploads"},
    "rich": {"app.commands"},
    "tensorflow": {"app.engine"},
    "httptools": {"app.connections"},
    "typer": {"app.commands"},
    "uvicorn": {"app.connections", "app.server"},
}

# Run in a fresh interpreter: imports what it is given, with the files it opens noted as Python reports them.
_NOTING_IMPORT = """
import importlib, sys
opened = []
sys.addaudithook(lambda event, given: opened.append(str(given[0])) if event == "open" else None)
for name in sys.argv[2:]:
    importlib.import_module(name)
root = sys.argv[1]
print(*sorted({path for path in opened if path.startswith(root) and not path.endswith((".py", ".pyc"))
               and "__pycache__" not in path and ".venv" not in path}))
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"tensorflow", "keras", "ai_edge_litert", "training"}))
"""


def _modules(package: str) -> dict[str, Path]:
    """Dotted name -> file, but for packages' own `__init__`."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.name != "__init__.py"
    }


def _imported(path: Path) -> set[str]:
    """Every module that a file imports anywhere in it, with `from package import module` spelt out."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert node.module is not None
            package = ROOT / node.module.replace(".", "/")
            if package.is_dir():  # what is no module of it, such as app.VERSION, is the package's own
                names = [
                    alias.name for alias in node.names if [*package.glob(alias.name), *package.glob(f"{alias.name}.py")]
                ]
                found |= {f"{node.module}.{name}" for name in names}
            else:
                found.add(node.module)
    return found


def _of(package: str, names: set[str]) -> set[str]:
    return {name for name in names if name == package or name.startswith(package + ".")}


def test_every_module_of_the_service_has_its_row_in_the_table() -> None:
    assert set(_modules("app")) == set(IMPORTS)


@pytest.mark.parametrize("module", IMPORTS)
def test_a_module_imports_what_the_table_says(module: str) -> None:
    assert _of("app", _imported(_modules("app")[module])) == IMPORTS[module]


def test_the_architecture_s_table_is_this_one() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("## Training")[0]
    rows = re.findall(r"^\| `([\w.]+)` \|[^|]*\|(.*)\|$", text, re.MULTILINE)
    listed = {f"app.{module}": {f"app.{name}" for name in re.findall(r"`([\w.*]+)`", named)} for module, named in rows}
    routes = {name for name in IMPORTS["app.main"] if name.startswith("app.routes.")}
    table = IMPORTS | {"app.main": IMPORTS["app.main"] - routes | {"app.routes.*"}}

    assert listed == table


def test_no_route_imports_a_route() -> None:
    routes = {name for name in IMPORTS if name.startswith("app.routes.")}

    assert not [name for name in routes if IMPORTS[name] & routes]


def test_the_service_never_imports_training_or_tests() -> None:
    imported = {name: _imported(path) for name, path in _modules("app").items()}

    assert not [name for name, names in imported.items() if _of("training", names) or _of("tests", names)]


@pytest.mark.parametrize("module", _modules("training"))
def test_training_imports_only_what_the_service_opens_to_it(module: str) -> None:
    assert _of("app", _imported(_modules("training")[module])) <= OPEN_TO_TRAINING


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_is_imported_by_its_owners_alone(library: str) -> None:
    importing = {name for name, path in _modules("app").items() if _of(library, _imported(path))}

    assert importing == OWNERS[library]


def test_importing_the_service_reads_no_file_of_ours_and_loads_no_tensorflow() -> None:
    modules = [name for name in IMPORTS if name != "app.__main__"]  # which runs the server

    ran = subprocess.run(
        [sys.executable, "-c", _NOTING_IMPORT, str(ROOT), *modules],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert ran.stdout.splitlines() == ["", ""]
