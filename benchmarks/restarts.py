"""`python -m benchmarks.restarts`: two replicas behind nginx, restarted one after the other under load."""

import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Annotated

import typer

from benchmarks.callers import Callers, calling
from benchmarks.load import uploads
from benchmarks.nginx import nginx
from benchmarks.report import rows
from benchmarks.results import machine
from benchmarks.servers import SEVEN, digits, free_port, running

_DEADLINE_S = 300
_CALLERS = 8


@dataclass(frozen=True)
class Restarts:
    """``exits``, ``stop_s``: exit statuses of the replicas, and the seconds that they took to stop.

    ``passed_on``: requests that nginx sent to the other replica, by the status of the first; 502 means no connection.
    ``broken``: connections that a replica closed without an answer.
    """

    callers: Callers
    passed_on: Counter[str]
    broken: int
    exits: list[int]
    stop_s: list[float]


def restart_both(requests: int, drain_s: float, engine: str) -> Restarts:
    """Restarts each replica once, during at least ``requests`` requests. Raises OSError without a server."""
    upload = uploads(SEVEN.read_bytes())["raw"]
    until = time.monotonic() + _DEADLINE_S
    replica = digits("replica", engine=engine, drain_seconds=drain_s)
    exits, stop_s = [], []
    with ExitStack() as stack:
        replicas = [stack.enter_context(running(replica, free_port())) for _ in range(2)]
        with nginx(*(each.port for each in replicas), log_answers=True) as proxy:
            with calling(proxy.port, "/predict", upload, _CALLERS) as callers:
                callers.wait_for(requests // 5, until)
                for each in replicas:
                    started = time.monotonic()
                    exits.append(each.stop())
                    stop_s.append(time.monotonic() - started)
                    stack.enter_context(running(replica, each.port))
                    callers.wait_for(callers.statuses.total() + requests // 5, until)
                callers.wait_for(requests, until)
            answers = proxy.answers.read_text(encoding="ascii").splitlines()
            errors = proxy.errors.read_text(encoding="utf-8", errors="replace")
    passed_on = Counter(line.split()[1].strip(",") for line in answers if "," in line)
    return Restarts(callers, passed_on, errors.count("prematurely") + errors.count("reset by peer"), exits, stop_s)


def main(
    requests: Annotated[int, typer.Option(min=100, help="At least so many.")] = 10_000,
    drain_seconds: Annotated[float, typer.Option(min=0, help="DIGITS_DRAIN_SECONDS of the replicas.")] = 2,
    engine: Annotated[str, typer.Option(help="keras or litert.")] = "litert",
) -> None:
    """Restart two replicas behind nginx under load and count what callers saw. Exit status 1 when a request failed."""
    found = restart_both(requests, drain_seconds, engine)
    head = ["requests", "failed", "p50, p99 ms", "passed on by nginx", "broken connections", "exits", "seconds to stop"]
    row = [
        f"{found.callers.statuses.total():,}",
        found.callers.failures,
        found.callers.latency,
        ", ".join(f"{status}: {count}" for status, count in found.passed_on.items()) or "none",
        str(found.broken),
        str(found.exits),
        " and ".join(f"{seconds:.1f}" for seconds in found.stop_s),
    ]
    typer.echo("\n".join([machine(), "", *rows(head, [row])]))
    if found.callers.failed or found.exits != [0, 0]:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
