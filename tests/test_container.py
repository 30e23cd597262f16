"""The container images: built, run on a read-only root filesystem, asked for a prediction and stopped.

`make test-image` runs this with docker, or with the command in DIGITS_CONTAINER, which needs `build` and `run`.
"""

import os
import shlex
import shutil
import subprocess
import time
from dataclasses import dataclass

import httpx2
import pytest

from tests.server import ROOT, free_port

TARGETS = {"keras": (), "slim": ("--target", "slim")}  # the options of `build`; the first target needs none
SLIM_MB = 330  # that `slim` may add to its base image
READY_S, STOP_S = 60, 5

# Runs in a container. Prints the megabytes of our layers, the user and group, and the model libraries in them.
_INSPECT = """
import os
from importlib.util import find_spec
from pathlib import Path
files = [path for root in ("/opt/venv", "/srv") for path in Path(root).rglob("*") if path.is_file()]
print(sum(path.lstat().st_size for path in files) // 10**6)
print(os.getuid(), os.getgid())
print(*[name for name in ("tensorflow", "keras", "ai_edge_litert") if find_spec(name)])
"""

pytestmark = pytest.mark.container


@dataclass(frozen=True)
class Image:
    engine: tuple[str, ...]
    name: str
    target: str


def _engine() -> list[str] | None:
    if named := os.environ.get("DIGITS_CONTAINER"):
        return shlex.split(named)
    if shutil.which("docker") and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0:
        return ["docker"]
    return None


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "the container stopped before it was ready"
        try:
            if httpx2.get(f"{url}/readyz", timeout=2).status_code == httpx2.codes.OK:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail("the container was not ready in time")


@pytest.fixture(scope="module", params=TARGETS)
def image(request: pytest.FixtureRequest) -> Image:
    """Built by this run."""
    engine = _engine()
    if engine is None:
        pytest.skip("no docker daemon answers, and DIGITS_CONTAINER is not set")
    image = Image(tuple(engine), f"digits-under-test-{request.param}", request.param)
    subprocess.run([*engine, "build", *TARGETS[image.target], "--tag", image.name, str(ROOT)], check=True)
    return image


def test_the_image_runs_without_privileges_holds_its_own_engine_and_slim_is_small(image: Image) -> None:
    ask = [*image.engine, "run", "--rm", "--read-only", image.name, "python", "-c", _INSPECT]
    megabytes, user, libraries = subprocess.run(ask, check=True, capture_output=True, text=True).stdout.splitlines()

    assert user == "10001 10001"
    assert libraries == {"keras": "tensorflow keras", "slim": "ai_edge_litert"}[image.target]
    assert image.target != "slim" or int(megabytes) <= SLIM_MB


def test_a_container_on_a_read_only_filesystem_reads_a_seven_and_stops_in_time(image: Image) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    seven = (ROOT / "examples" / "seven.png").read_bytes()
    options = ["--rm", "--read-only", "--cap-drop", "ALL", "--publish", f"127.0.0.1:{port}:8000"]
    with subprocess.Popen([*image.engine, "run", *options, image.name]) as process:
        try:
            _wait_until_ready(process, url)
            answer = httpx2.post(f"{url}/predict", content=seven, headers={"Content-Type": "image/png"}, timeout=10)
            process.terminate()
            status = process.wait(STOP_S)
        finally:
            process.kill()

    assert (answer.status_code, answer.json()["digit"]) == (200, 7)
    assert status == 0
