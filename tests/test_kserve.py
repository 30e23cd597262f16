"""KServe's own client against the real server, in an environment of its own because its pins differ from ours."""

import json
import subprocess
from pathlib import Path

import httpx2
import numpy as np
import pytest

from app.imaging.preprocess import find_ink
from tests.drawings import digit_drawn, encoded, enlarged
from tests.server import ROOT

PYTHON = ROOT / ".venv-kserve/bin/python"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="kserve is not installed: `make test-slow` installs it"),
]


def test_kserves_client_gets_the_same_answers(url: str, tmp_path: Path) -> None:
    drawing = enlarged(digit_drawn(7))
    (tmp_path / "7.png").write_bytes(encoded(drawing))
    np.save(tmp_path / "ink.npy", np.stack([find_ink(drawing).ink] * 2))
    command: list[str | Path] = [PYTHON, ROOT / "tests/kserve_client.py", url, tmp_path / "7.png", tmp_path / "ink.npy"]

    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    expected = httpx2.post(f"{url}/predict", content=encoded(drawing)).json()["probabilities"]

    assert ran.returncode == 0, ran.stderr
    answers = json.loads(ran.stdout)
    assert (answers["live"], answers["ready"], answers["model ready"]) == (True, True, True)
    assert answers["BYTES, binary"] == [pytest.approx(expected, abs=1e-6)]
    for sent in ("FP32", "FP32, binary"):
        assert answers[sent] == [pytest.approx(expected, abs=1e-6)] * 2
