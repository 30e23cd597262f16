"""The examples, each run as a reader would run it against the real service."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.drawings import digit_drawn, encoded
from tests.pictures import on_paper, side_by_side
from tests.server import ROOT

EXAMPLES = ROOT / "examples"
COMMANDS = {"predict.sh": ["sh"], "predict.py": [sys.executable], "predict.mjs": ["node"], "predict.go": ["go", "run"]}
WAIT_S = 120  # the first time Go compiles its library


def run(example: str, url: str, *files: Path | str) -> subprocess.CompletedProcess[str]:
    needed = "curl" if example == "predict.sh" else COMMANDS[example][0]
    if shutil.which(needed) is None:
        pytest.skip(f"{needed} is not installed")
    return subprocess.run(
        [*COMMANDS[example], example, *map(str, files)],
        cwd=EXAMPLES,
        env=os.environ | {"DIGITS_URL": url},
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_S,
    )


@pytest.mark.parametrize("example", COMMANDS)
def test_an_example_reads_pictures_and_tells_what_is_wrong(example: str, url: str, tmp_path: Path) -> None:
    clients = {path.name for path in EXAMPLES.iterdir() if path.suffix != ".png"} - {"ray_data.py"}
    assert clients == set(COMMANDS)
    four, several = tmp_path / "four.png", tmp_path / "several.png"
    four.write_bytes(encoded(digit_drawn(4)))
    several.write_bytes(encoded(on_paper(side_by_side([digit_drawn(1), digit_drawn(2)]))))

    ran = run(example, f"{url}/", four, several)

    assert (ran.returncode, ran.stderr) == (0, "")
    first, second = ran.stdout.splitlines()
    assert ('{"digit":4,' in first) if example == "predict.sh" else (first == f"{four}: 4")
    assert "several_digits" in second

    ran = run(example, url, ROOT / "README.md")

    assert ran.returncode != 0
    assert "This is not a supported image format" in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("example", "read"), [("predict.sh", '{"numbers":[{"text":"20745",'), ("predict.py", ": 20745\n")]
)
def test_an_example_reads_a_number(example: str, read: str, url: str) -> None:
    assert read in run(example, url, "--numbers", "number.png").stdout


@pytest.mark.parametrize("example", COMMANDS)
def test_an_example_tells_that_nobody_answers(example: str) -> None:
    with socket.socket() as nobody:  # bound, and not listening
        nobody.bind(("127.0.0.1", 0))
        ran = run(example, f"http://127.0.0.1:{nobody.getsockname()[1]}", EXAMPLES / "seven.png")

    assert ran.returncode != 0
    assert re.search("refused|ECONNREFUSED|connect to", ran.stderr)
    assert "Traceback" not in ran.stderr


def test_the_function_for_browsers_can_be_imported(url: str) -> None:
    """With nothing of Node's but `fetch`, `FormData` and `Blob`, which browsers have."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    script = (
        "const bytes = require('fs').readFileSync('seven.png'); delete globalThis.process;"
        f"import('{EXAMPLES.as_uri()}/predict.mjs')"
        f".then(({{ predict }}) => predict(new Blob([bytes]), '{url}')).then(({{ digit }}) => console.log(digit))"
    )

    ran = subprocess.run(
        ["node", "-e", script], cwd=EXAMPLES, capture_output=True, text=True, check=False, timeout=WAIT_S
    )

    assert (ran.stdout, ran.stderr) == ("7\n", "")
