"""Where the service's time goes under load: `python -m benchmarks.profile`. Samples of its stacks, taken by py-spy.

py-spy is fetched by `uv tool run`, and needs leave to look into another process: root, or on Linux
`sysctl kernel.yama.ptrace_scope=0`. What compiled code does counts for the line of Python that called it.
"""

import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.load import generator, uploads
from benchmarks.report import rows
from benchmarks.servers import ROOT, digits, running
from benchmarks.service import SEVEN, warm_up

PY_SPY = "py-spy==0.4.1"
_RATE_HZ = 200
_ROWS = 25
_WAITING = ("_worker (concurrent/", "dequeue (app/")  # py-spy takes threads that wait there for busy ones

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def main(
    engine: Annotated[str, typer.Option(help="keras or litert.")] = "litert",
    way: Annotated[str, typer.Option(help="multipart, raw, json or batch.")] = "multipart",
    connections: Annotated[int, typer.Option(min=1, help="That send at the same time.")] = 16,
    seconds: Annotated[int, typer.Option(min=1, help="How long to look.")] = 10,
) -> None:
    """Print two tables: the functions that the samples fell into, and those of the service that they fell under."""
    ways = uploads(SEVEN.read_bytes())
    with running(digits(engine, engine=engine)) as server:
        warm_up(server, {way: ways[way]})
        loading = threading.Thread(target=server.load, args=(way, ways[way], connections, seconds + 2))
        loading.start()
        stacks = _stacks(server.pid, seconds)
        loading.join()
    total = sum(stacks.values())
    own: Counter[str] = Counter()
    under: Counter[str] = Counter()
    for stack, samples in stacks.items():
        own[stack[-1]] += samples
        under.update(dict.fromkeys({frame for frame in stack if "(app/" in frame}, samples))
    typer.echo(f"{engine}, {way}, {connections} connections ({generator()}): {total} samples of busy threads\n")
    for head, counted in (("in this function itself", own), ("in this function and what it calls", under)):
        shares = ([f"{100 * samples / total:.1f} %", f"`{frame}`"] for frame, samples in counted.most_common(_ROWS))
        typer.echo("\n".join(rows(["share", head], shares)) + "\n")


def _stacks(pid: int, seconds: int) -> dict[tuple[str, ...], int]:
    """Samples by stack, outermost frame first. Raises OSError when py-spy may not look."""
    with tempfile.TemporaryDirectory() as directory:
        raw = Path(directory) / "stacks"
        command = [sys.executable, "-m", "uv", "tool", "run", "-q", "--from", PY_SPY, "py-spy", "record"]
        options = ["--pid", str(pid), "-d", str(seconds), "-r", str(_RATE_HZ), "-F", "-f", "raw", "-o", str(raw)]
        ran = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
        if ran.returncode or not raw.exists():
            raise OSError(f"py-spy: {(ran.stderr or ran.stdout).strip()}")
        lines = raw.read_text(encoding="utf-8").splitlines()
    found: Counter[tuple[str, ...]] = Counter()
    for line in lines:
        stack, _, samples = line.rpartition(" ")
        frames = tuple(frame.replace(f"{ROOT}/", "") for frame in stack.split(";"))
        if not frames[-1].startswith(_WAITING):
            found[frames] += int(samples)
    return found


if __name__ == "__main__":
    try:
        app()
    except OSError as error:
        sys.exit(f"benchmarks: {error}")
