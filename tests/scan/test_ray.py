"""`digits scan --ray` on a cluster of two nodes, each with processes of its own; and Ray Data."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.test_cli import digits
from tests.scan.test_scan import keys, scan
from tests.scan.test_shards import PICTURES, folder
from tests.server import ROOT, free_port

pytestmark = pytest.mark.slow

WAIT_S = 180

Node = subprocess.Popen[str]


def launched(*options: str) -> Node:
    """A node with one CPU. `ray start` ends its processes when it ends, and the group holds them all."""
    command = [str(Path(sys.executable).parent / "ray"), "start", "--block", "--num-cpus=1", "--disable-usage-stats"]
    return subprocess.Popen(
        [*command, "--object-store-memory=100000000", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def wait_until_started(node: Node) -> None:
    assert node.stdout is not None
    lines = []
    for line in node.stdout:
        lines.append(line)
        if "Ray runtime started" in line:
            return
    pytest.fail("".join(lines))


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[str, Node]]:
    """The address of a cluster of two nodes, which asks for a token, and the second."""
    port = free_port()
    # without these, `ray start --head` asks for a token if one lies in the home directory, and its nodes send none
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    nodes = [
        launched("--head", f"--port={port}", "--include-dashboard=false", f"--ray-client-server-port={free_port()}")
    ]
    try:
        wait_until_started(nodes[0])
        nodes.append(launched(f"--address=127.0.0.1:{port}"))
        wait_until_started(nodes[1])
        yield f"127.0.0.1:{port}", nodes[1]
    finally:
        monkeypatch.undo()
        for node in nodes[::-1]:
            node.terminate()  # it forgets the address that it wrote down for clusters to come
            with suppress(subprocess.TimeoutExpired):
                node.communicate(timeout=10)
            with suppress(ProcessLookupError):
                os.killpg(node.pid, signal.SIGKILL)
            node.communicate(timeout=WAIT_S)


def test_ray_data_reads_with_the_callable_class(cluster: tuple[str, Node], tmp_path: Path) -> None:
    pq.write_table(pa.table({"bytes": [*PICTURES.values(), b"no picture"]}), tmp_path / "in.parquet")

    subprocess.run(
        [sys.executable, ROOT / "examples" / "ray_data.py", tmp_path / "in.parquet", tmp_path / "out", "1"],
        cwd=ROOT,
        env=os.environ | {"RAY_ADDRESS": cluster[0], "PYTHONPATH": str(ROOT)},
        timeout=WAIT_S,
        check=True,
    )

    read = pq.read_table(tmp_path / "out").to_pylist()
    assert [row["digit"] for row in read] == [*range(10), None]
    assert read[10]["error"] == "unsupported_media_type"


def test_with_one_of_two_nodes_killed_the_results_are_those_of_a_local_scan(
    cluster: tuple[str, Node], tmp_path: Path
) -> None:
    many = folder(tmp_path, {f"{number}-{name}": data for number in range(100) for name, data in PICTURES.items()})
    scan(many, "--out", tmp_path / "local", "--shard", "10")
    address, second = cluster
    command = [sys.executable, "-m", "app.cli", "scan", str(many), "--shard", "10", "--ray", address]
    process = subprocess.Popen([*command, "--out", str(tmp_path / "ray")], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + WAIT_S
    while len(list((tmp_path / "ray").glob("*.parquet"))) < 20:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)

    os.killpg(second.pid, signal.SIGKILL)

    _, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, err) == (0, "")
    assert keys(tmp_path / "ray") == sorted(path.name for path in many.iterdir())
    written = [
        {file.name: file.read_bytes() for file in (tmp_path / out).glob("*.parquet")} for out in ("ray", "local")
    ]
    assert written[0] == written[1]


def test_a_cluster_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"

    ran = digits("scan", "examples", "--out", tmp_path, "--ray", address)

    assert (ran.status, ran.err) == (1, f"digits: no Ray cluster answers at {address}\n")
