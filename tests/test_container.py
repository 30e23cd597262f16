"""The container images: built, run on a read-only root filesystem, asked for a prediction and stopped.

`make test-image` runs this with docker, or with the command in DIGITS_CONTAINER, which needs `build` and `run`.
"""

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx2
import pytest

from tests.server import ROOT, free_port

TARGETS = {"keras": (), "slim": ("--target", "slim")}  # the options of `build`; the first target needs none
SLIM_MB = 300  # that `slim` may add to its base image

# Runs in a container. Prints the megabytes of our layers, and the model libraries in them.
_INSPECT = """
from importlib.util import find_spec
from pathlib import Path
files = [path for root in ("/opt/venv", "/srv") for path in Path(root).rglob("*") if path.is_file()]
print(sum(path.lstat().st_size for path in files) // 10**6)
print(*[name for name in ("tensorflow", "keras", "ai_edge_litert") if find_spec(name)])
"""

pytestmark = pytest.mark.container


@dataclass(frozen=True)
class Image:
    engine: tuple[str, ...]
    name: str
    target: str

    def printed(self, code: str) -> list[str]:
        """The lines that Python prints in a container."""
        ask = [*self.engine, "run", "--rm", "--read-only", self.name, "python", "-c", code]
        return subprocess.run(ask, check=True, capture_output=True, text=True).stdout.splitlines()


@dataclass(frozen=True)
class Service:
    process: subprocess.Popen[bytes]
    url: str


def _engine() -> list[str] | None:
    if named := os.environ.get("DIGITS_CONTAINER"):
        return shlex.split(named)
    if shutil.which("docker") and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0:
        return ["docker"]
    return None


def _wait_until_ready(service: Service, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        assert service.process.poll() is None, "the container stopped before it was ready"
        try:
            if httpx2.get(f"{service.url}/readyz", timeout=2).status_code == httpx2.codes.OK:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail(f"the container was not ready within {timeout_s:.0f} s")


@pytest.fixture(scope="module", params=TARGETS)
def image(request: pytest.FixtureRequest) -> Image:
    """Built by this run."""
    engine = _engine()
    if engine is None:
        pytest.skip("no docker daemon answers, and DIGITS_CONTAINER is not set")
    image = Image(tuple(engine), f"digits-under-test-{request.param}", request.param)
    subprocess.run([*engine, "build", *TARGETS[image.target], "--tag", image.name, str(ROOT)], check=True)
    return image


@pytest.fixture
def service(image: Image) -> Iterator[Service]:
    port = free_port()
    options = ["--rm", "--read-only", "--cap-drop", "ALL", "--publish", f"127.0.0.1:{port}:8000"]
    with subprocess.Popen([*image.engine, "run", *options, image.name]) as process:
        service = Service(process, f"http://127.0.0.1:{port}")
        try:
            _wait_until_ready(service, timeout_s=60)
            yield service
        finally:
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()


def test_the_image_runs_as_a_user_without_privileges(image: Image) -> None:
    assert image.printed("import os; print(os.getuid(), os.getgid())") == ["10001 10001"]


def test_the_image_holds_its_own_engine_and_slim_is_small(image: Image) -> None:
    megabytes, libraries = image.printed(_INSPECT)

    assert libraries == {"keras": "tensorflow keras", "slim": "ai_edge_litert"}[image.target]
    assert image.target != "slim" or int(megabytes) <= SLIM_MB


def test_a_container_on_a_read_only_filesystem_reads_a_seven(service: Service) -> None:
    image = (ROOT / "examples" / "seven.png").read_bytes()

    answer = httpx2.post(f"{service.url}/predict", content=image, headers={"Content-Type": "image/png"}, timeout=10)

    assert answer.status_code == httpx2.codes.OK
    assert answer.json()["digit"] == 7


def test_a_container_stops_within_five_seconds_of_sigterm(service: Service) -> None:
    service.process.send_signal(signal.SIGTERM)

    assert service.process.wait(timeout=5) == 0
