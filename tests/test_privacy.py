"""What callers send stays in memory: it reaches no file and no log line, under load either."""

import base64
import signal
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import numpy as np
import pytest

from tests.asking import WAIT_S
from tests.drawings import digit_drawn, encoded, enlarged
from tests.pictures import on_paper
from tests.server import running

# The service with a file size limit of 0: whatever writes a file, native code too, fails and shows up on stderr.
_WITHOUT_FILES = """
import resource, runpy, sys
def report(event, given):
    if event == "open" and isinstance(given[2], int) and given[2] & 3:  # O_WRONLY, O_RDWR
        if given[0] != "/dev/null":
            print("opened for writing:", given[0], file=sys.stderr)
    elif event.startswith("tempfile."):
        print("temporary file:", event, file=sys.stderr)
sys.addaudithook(report)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
sys.argv = ["app"]
runpy.run_module("app", run_name="__main__")
"""
MARKER = "marker-4b1c6e9f"
SMALL = encoded(digit_drawn(7))
NOISE = np.random.default_rng(0).integers(0, 256, (1400, 1400, 3)).astype(np.uint8)
LARGE = encoded(NOISE)  # 5.6 MiB; whether it is read as a digit does not matter
DRAWN = encoded(enlarged(on_paper(digit_drawn(7)), 20))


def test_nothing_that_callers_send_reaches_a_file_or_the_log(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # coverage writes files
    settings = {"engine": "litert", "model_dir": model_dir, "log_level": "debug", "max_images": 3}
    statuses: Counter[int] = Counter()

    def ask(url: str) -> None:
        head = {"X-API-Key": MARKER, "User-Agent": MARKER, "X-Request-ID": f"{MARKER}!", "traceparent": MARKER}
        name, form = f"{MARKER}.png", {"Content-Type": "multipart/form-data; boundary=b"}
        with httpx2.Client(base_url=url, headers=head, timeout=WAIT_S) as client:
            answers = [
                client.post("/predict", files={"file": (name, SMALL)}),
                client.post("/predict", files={"file": (name, LARGE), MARKER: (MARKER, b"other")}),
                client.post("/predict", content=LARGE, headers={"Content-Type": f"image/{MARKER}"}),
                client.post("/predict", json={"image": base64.b64encode(DRAWN).decode(), MARKER: MARKER}),
                client.post("/predict", json={"image": MARKER}),
                client.post("/predict", content=MARKER.encode()),
                client.post(f"/predict?top_k={MARKER}", content=SMALL),
                client.post("/predict", content=SMALL[:80] + MARKER.encode()),
                client.post("/predict/batch", files=[("files", (name, data)) for data in (SMALL, LARGE, b"x")]),
                client.post("/predict", content=f"--b\r\n{MARKER}\x01: x".encode(), headers=form),
                client.post("/v1/models/digits:predict", json={"instances": [{"b64": MARKER}]}),
                client.post(f"/v1/models/{MARKER}:predict", content=MARKER),
                client.post("/v2/models/digits/infer", content=b"\xff" + MARKER.encode()),
                client.get(f"/{MARKER}"),
                client.request(MARKER, "/predict"),
            ]
        statuses.update(answer.status_code for answer in answers)

    with running("-B", "-c", _WITHOUT_FILES, **settings) as process:
        url = process.ready()
        with ThreadPoolExecutor(4) as callers:
            list(callers.map(ask, [url] * 8))
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=WAIT_S) as caller:
            caller.sendall(f"{MARKER}\x00 not HTTP\r\n\r\n".encode())
            caller.recv(4096)
        process.tell(signal.SIGTERM)
        lines = process.rest()
        assert process.status() == 0
        errors = process.errors()

    assert statuses.keys() <= {200, 400, 404, 405, 415, 422}
    assert statuses[200] >= 3 * 8
    assert list(tmp_path.iterdir()) == []
    assert [line for line in errors.splitlines() if not line.startswith("INFO: Created TensorFlow Lite")] == []
    log = "".join(lines)
    assert log.count('"message":"request"') == 14 * 8  # uvicorn itself answers what is not HTTP and unknown methods
    sent = (SMALL, LARGE, DRAWN)
    for secret in (MARKER, *(base64.b64encode(data).decode()[:60] for data in sent)):
        assert secret not in log
    assert "PNG" not in log
