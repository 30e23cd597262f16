"""The files under deploy/ are valid, and name settings and addresses that exist; nginx does what it is there for."""

import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import jsonschema
import kubernetes_validate
import pytest
import yaml

from app.settings import Settings
from tests.server import ROOT, free_port

DEPLOY = ROOT / "deploy"
MANIFESTS = DEPLOY / "kubernetes"
KUBERNETES = "1.33"  # of the schemas
FOREIGN = {"Kustomization", "ServiceMonitor"}  # not of Kubernetes itself: without a schema here


def _documents() -> list[dict[str, Any]]:
    return [document for path in sorted(MANIFESTS.glob("*.yaml")) for document in yaml.safe_load_all(path.read_text())]


def _of_kind(kind: str) -> dict[str, Any]:
    [found] = [document for document in _documents() if document["kind"] == kind]
    return found


def test_every_manifest_fits_the_schema_of_kubernetes() -> None:
    checked = [document for document in _documents() if document["kind"] not in FOREIGN]
    for document in checked:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)

    assert len(checked) == 4


# The fields of a RayJob that ours may have, from KubeRay's types (ray.io/v1); pods are Kubernetes' own.
_PARAMETERS = {"type": "object", "additionalProperties": {"type": "string"}}
_GROUP = {"rayStartParams": _PARAMETERS, "template": {"type": "object"}}
RAY_JOB = {
    "type": "object",
    "additionalProperties": False,
    "required": ["entrypoint", "rayClusterSpec"],
    "properties": {
        "entrypoint": {"type": "string"},
        "shutdownAfterJobFinishes": {"type": "boolean"},
        "ttlSecondsAfterFinished": {"type": "integer"},
        "rayClusterSpec": {
            "type": "object",
            "additionalProperties": False,
            "required": ["headGroupSpec"],
            "properties": {
                "rayVersion": {"type": "string"},
                "enableInTreeAutoscaling": {"type": "boolean"},
                "headGroupSpec": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["rayStartParams", "template"],
                    "properties": _GROUP,
                },
                "workerGroupSpecs": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"],
                        "properties": _GROUP
                        | {
                            "groupName": {"type": "string"},
                            "minReplicas": {"type": "integer"},
                            "maxReplicas": {"type": "integer"},
                        },
                    },
                },
            },
        },
    },
}


def test_the_scan_on_ray_fits_the_schema_of_kuberay() -> None:
    job = yaml.safe_load((DEPLOY / "kuberay" / "scan.yaml").read_text(encoding="utf-8"))

    jsonschema.validate(job["spec"], RAY_JOB)
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ray"}, **group["template"]}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_kustomize_builds_all_of_it() -> None:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    built = subprocess.run(["kubectl", "kustomize", str(MANIFESTS)], capture_output=True, text=True, check=True).stdout

    kinds = sorted(document["kind"] for document in yaml.safe_load_all(built))
    assert kinds == ["Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Service", "ServiceMonitor"]


def test_the_selectors_find_the_pods() -> None:
    labels = _of_kind("Deployment")["spec"]["template"]["metadata"]["labels"]

    assert _of_kind("Deployment")["spec"]["selector"]["matchLabels"] == labels
    assert _of_kind("Service")["spec"]["selector"] == labels
    [pair] = _of_kind("Kustomization")["labels"]
    assert pair["pairs"] == labels == _of_kind("ServiceMonitor")["spec"]["selector"]["matchLabels"]


def test_probes_and_monitors_use_addresses_that_answer(url: str) -> None:
    [container] = _of_kind("Deployment")["spec"]["template"]["spec"]["containers"]
    paths = [container[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")]
    paths += [endpoint["path"] for endpoint in _of_kind("ServiceMonitor")["spec"]["endpoints"]]

    assert [httpx2.get(url + path).status_code for path in paths] == [200, 200, 200, 200]


def test_every_setting_in_these_files_exists() -> None:
    known = {f"DIGITS_{name.upper()}" for name in Settings.model_fields}
    named = {
        name
        for path in DEPLOY.rglob("*")
        if path.is_file()
        for name in re.findall(r"\bDIGITS_[A-Z_]+\b", path.read_text())
    }

    assert len(named) > 5
    assert named <= known


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not installed")
    unit = tmp_path / "digits.service"
    text = (DEPLOY / "systemd" / "digits.service").read_text()
    unit.write_text(text.replace("/opt/digits/.venv/bin/python", "/bin/true"))  # a program that exists

    said = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True)

    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


@contextmanager
def behind_nginx(folder: Path, first: str, second: str) -> Iterator[httpx2.Client]:
    """The shipped configuration with addresses of this machine."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    port = free_port()
    text = (DEPLOY / "nginx" / "nginx.conf").read_text()
    for theirs, ours in (
        ("digits-1:8000", first),
        ("digits-2:8000", second),
        ("listen 8080", f"listen 127.0.0.1:{port}"),
        ("/tmp/", f"{folder}/"),
    ):
        assert theirs in text
        text = text.replace(theirs, ours)
    (folder / "nginx.conf").write_text(text)
    nginx = subprocess.Popen([program, "-p", folder, "-c", folder / "nginx.conf", "-g", "daemon off;"])
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", transport=httpx2.HTTPTransport(retries=5)) as client:
            yield client
    finally:
        nginx.terminate()
        nginx.wait(10)


def test_behind_nginx_one_replica_may_be_gone(url: str, tmp_path: Path) -> None:
    with behind_nginx(tmp_path, url.removeprefix("http://"), f"127.0.0.1:{free_port()}") as client:
        picture = (ROOT / "examples" / "seven.png").read_bytes()
        answers = [client.post("/predict", content=picture) for _ in range(20)]

        assert [answer.json().get("digit") for answer in answers] == [7] * 20
        assert client.post("/predict", content=bytes(11 * 2**20)).status_code == 413
        assert client.get("/metrics").status_code == 404


class Replica(BaseHTTPRequestHandler):
    """A stand-in that refuses `/full` and answers any other POST after a second."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        full = self.path == "/full"
        time.sleep(0 if full else 1)
        self.send_response(503 if full else 200)
        self.send_header("Retry-After", "7")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Replicas(ThreadingHTTPServer):
    request_queue_size = 128


def test_nginx_passes_on_refusals_and_limits_the_requests_in_flight_of_a_client_and_its_headers(tmp_path: Path) -> None:
    with ExitStack() as stack:
        replicas = [stack.enter_context(Replicas(("127.0.0.1", 0), Replica)) for _ in range(2)]
        for replica in replicas:
            threading.Thread(target=replica.serve_forever).start()
            stack.callback(replica.shutdown)
        addresses = [f"127.0.0.1:{replica.server_port}" for replica in replicas]
        client = stack.enter_context(behind_nginx(tmp_path, *addresses))
        full = [client.post("/full", content=b"x") for _ in range(10)]
        address = ("127.0.0.1", client.base_url.port)
        callers = [stack.enter_context(socket.create_connection(address, timeout=10)) for _ in range(80)]
        for caller in callers:
            caller.sendall(b"POST /predict HTTP/1.1\r\nHost: digits\r\nContent-Length: 1\r\n\r\nx")
        answers = [caller.recv(65536).decode() for caller in callers]
        long_line, many = (
            client.post("/predict", content=b"x", headers=headers)
            for headers in ({"A": "a" * 17_000}, {f"A{number}": "a" * 1000 for number in range(80)})
        )

    assert [(answer.status_code, answer.headers.get("retry-after")) for answer in full] == [(503, "7")] * 10
    refused = [answer for answer in answers if answer.startswith("HTTP/1.1 503 ")]
    assert len([answer for answer in answers if answer.startswith("HTTP/1.1 200 ")]) == 64
    assert len(refused) == 16
    assert "Content-Type: application/problem+json\r\n" in refused[0]
    assert "Retry-After: 1\r\n" in refused[0]
    assert '"code":"overloaded"' in refused[0]
    assert [long_line.status_code, many.status_code] == [400, 400]
