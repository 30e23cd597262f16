"""The peers: pinned versions, start commands, and a virtual environment for each."""

import subprocess
import sys
from dataclasses import dataclass

from benchmarks.servers import ROOT, Server, digits

ENVIRONMENTS = ROOT / ".venv-peers"
ONE, TWO = "Digits, 1 process", "Digits, 2 processes"

_RUNTIME = ROOT / "requirements" / "litert.txt"
_QUIET = {"PYTHONPATH": str(ROOT), "BENTOML_DO_NOT_TRACK": "true", "RAY_USAGE_STATS_ENABLED": "0"}


@dataclass(frozen=True)
class Peer:
    """``requirement``: what pip installs beside the service's runtime; empty for the service itself."""

    server: Server
    requirement: str
    configuration: str


def peers() -> list[Peer]:
    """Digits first, then the others."""
    module = "benchmarks.peers."
    form, both = {"multipart": "/predict"}, {"multipart": "/predict", "raw": "/predict"}
    lit, bento, ray, mosec = "litserve==0.2.19", "bentoml==1.4.39", "ray[serve]==2.60.0", "mosec==0.9.8"
    serve = ("-m", module + "ray_server", "{port}")
    fast = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_HA_PROXY": "1"}
    return [
        Peer(digits(ONE, engine="litert"), "", "defaults"),
        Peer(digits(TWO, engine="litert", workers=2), "", "`DIGITS_WORKERS=2`"),
        Peer(
            _server("LitServe", lit, form, "/health", "-m", module + "litserve_server", "{port}"),
            lit,
            "one HTTP process, one worker process",
        ),
        Peer(
            _server(
                "BentoML",
                bento,
                {"multipart": "/predict", "raw": "/predict_raw"},
                "/readyz",
                *("-m", "bentoml", "serve", module + "bentoml_server:DigitService"),
                *("--host", "127.0.0.1", "--port", "{port}"),
            ),
            bento,
            "one worker, asynchronous methods",
        ),
        Peer(
            _server("Ray Serve", ray, both, "/-/healthz", *serve, **fast),
            ray,
            "one replica, `RAY_SERVE_THROUGHPUT_OPTIMIZED=1`, `RAY_SERVE_ENABLE_HA_PROXY=1`",
        ),
        Peer(_server("Ray Serve, defaults", ray, both, "/-/healthz", *serve), ray, "one replica"),
        Peer(
            _server(
                "mosec, 2 processes",
                mosec,
                {"raw": "/inference"},
                "/metrics",
                *("-m", module + "mosec_server", "--address", "127.0.0.1", "--port", "{port}"),
            ),
            mosec,
            "two workers behind its Rust server, batches of up to 8",
        ),
    ]


def install(peer: Peer) -> None:
    """Makes its environment, unless it has this version. Raises OSError with pip's error."""
    directory = ENVIRONMENTS / _name(peer.requirement)
    stamp = directory / "installed"
    wanted = f"{peer.requirement}\n{_RUNTIME.read_text(encoding='utf-8')}"
    if not peer.requirement or (stamp.exists() and stamp.read_text(encoding="utf-8") == wanted):
        return
    pip = (str(directory / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "-q")
    for command in (
        (sys.executable, "-m", "venv", "--clear", str(directory)),
        (*pip, "--no-deps", "--require-hashes", "-r", str(_RUNTIME)),
        (*pip, peer.requirement),
    ):
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise OSError(f"{peer.requirement} cannot be installed: {ran.stderr.strip().splitlines()[-1]}")
    stamp.write_text(wanted, encoding="utf-8")


def _server(name: str, requirement: str, paths: dict[str, str], ready: str, *words: str, **settings: str) -> Server:
    python = ENVIRONMENTS / _name(requirement) / "bin" / "python"
    return Server(name, (str(python), *words), paths, ready, _QUIET | settings)


def _name(requirement: str) -> str:
    return requirement.partition("=")[0].partition("[")[0]
