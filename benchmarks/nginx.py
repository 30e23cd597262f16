"""nginx with the configuration of deploy/nginx, in front of servers on this machine."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.client import HOST
from benchmarks.servers import ROOT, START_S, free_port

_SHIPPED = ROOT / "deploy" / "nginx" / "nginx.conf"
_LOG = 'log_format tried "$status $upstream_status";\n  access_log {folder}/answers tried;'


@dataclass(frozen=True)
class Nginx:
    """``answers``: a file with the statuses of each request, the replicas' after its own. ``errors``: its error log."""

    port: int
    answers: Path
    errors: Path


@contextmanager
def nginx(first: int, second: int | None = None, *, log_answers: bool = False) -> Iterator[Nginx]:
    """In front of one port or two. Raises OSError when it does not start."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise OSError("nginx is not installed")
    with tempfile.TemporaryDirectory() as directory:
        folder, port = Path(directory), free_port()
        text = _SHIPPED.read_text(encoding="utf-8")
        for shipped, here in (
            ("digits-1:8000", f"{HOST}:{first}"),
            ("digits-2:8000", f"{HOST}:{second}" if second else f"{HOST}:{first} down"),
            ("listen 8080", f"listen {HOST}:{port}"),
            ("/tmp/", f"{folder}/"),  # noqa: S108 - the container's own
            ("error_log stderr", f"error_log {folder}/errors"),
            ("access_log off;", _LOG.format(folder=folder) if log_answers else "access_log off;"),
        ):
            if shipped not in text:
                raise ValueError(f"{_SHIPPED} does not contain {shipped}")
            text = text.replace(shipped, here)
        (folder / "nginx.conf").write_text(text, encoding="utf-8")
        folder.chmod(0o777)  # nginx's workers run as another user
        process = subprocess.Popen(
            [program, "-c", folder / "nginx.conf", "-g", "daemon off;"], stderr=subprocess.DEVNULL
        )
        try:
            _wait_until_listening(process, port)
            yield Nginx(port, folder / "answers", folder / "errors")
        finally:
            process.terminate()
            process.wait()


def _wait_until_listening(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < until:
        with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return
        time.sleep(0.05)
    raise OSError("nginx does not start")
