"""KServe's own client against the real server. Its pins are not ours, so that it has an environment of its own."""

import json
import subprocess
from pathlib import Path

import httpx2
import numpy as np
import pytest

from app.imaging.preprocess import ink_from_grey
from tests.drawings import digit_drawn, encoded, enlarged
from tests.server import ROOT

PYTHON = ROOT / ".venv-kserve/bin/python"

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="kserve is not installed: `make test` does it")


def test_kserves_client_is_answered_as_anyone_is(url: str, tmp_path: Path) -> None:
    drawing = enlarged(digit_drawn(7))
    (tmp_path / "7.png").write_bytes(encoded(drawing))
    np.save(tmp_path / "ink.npy", np.stack([ink_from_grey(drawing)] * 2))
    command: list[str | Path] = [PYTHON, ROOT / "tests/kserve_client.py", url, tmp_path / "7.png", tmp_path / "ink.npy"]

    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    expected = httpx2.post(f"{url}/predict", content=encoded(drawing)).json()["probabilities"]

    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert (said["live"], said["ready"], said["model ready"]) == (True, True, True)
    assert said["BYTES, binary"] == [pytest.approx(expected, abs=1e-6)]
    for sent in ("FP32", "FP32, binary"):
        assert said[sent] == [pytest.approx(expected, abs=1e-6)] * 2
