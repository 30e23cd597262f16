"""What an import may do. Who may import whom is a contract in pyproject.toml, which `make check` reads."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

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


def test_importing_the_service_reads_no_file_of_ours_and_loads_no_tensorflow() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / "app").rglob("*.py"))
        if path.name not in {"__init__.py", "__main__.py"}
    ]

    ran = subprocess.run(
        [sys.executable, "-c", _NOTING_IMPORT, str(ROOT), *modules],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert ran.stdout.splitlines() == ["", ""]
