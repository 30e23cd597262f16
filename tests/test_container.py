"""The images themselves: built, run on a read-only root filesystem, asked for a prediction and told to stop.

`make test-image` runs this with docker if it answers, or with the command that
DIGITS_CONTAINER names; it needs `build` and `run` alone. It takes minutes, so a plain `pytest` leaves it out.
"""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

ROOT = Path(__file__).parent.parent
TARGETS = {"keras": (), "slim": ("--target", "slim")}  # what names it to `build`: without a name it is the first
SLIM_MB = 300  # what `slim` may add to its base

# Run in a container: the megabytes that our layers hold, and which libraries of this they have.
_LOOKING = """
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


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


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
    """Built just now."""
    engine = _engine()
    if engine is None:
        pytest.skip("docker does not answer `info`, and DIGITS_CONTAINER names no other engine")
    image = Image(tuple(engine), f"digits-under-test-{request.param}", request.param)
    subprocess.run([*engine, "build", *TARGETS[image.target], "--tag", image.name, str(ROOT)], check=True)
    return image


@pytest.fixture
def service(image: Image) -> Iterator[Service]:
    port = _free_port()
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
    megabytes, libraries = image.printed(_LOOKING)

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
