"""`python -m tests.faulty SWITCH`: the service with the fault that is named in the file SWITCH, while that file exists.

The faults are put around the engine and the clock; everything else is the service as users start it.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from app import server
from app.imaging.preprocess import Ink
from app.inference.service import Service
from app.model.engine import LiteRTEngine, Logits

BLOCKED_S = 1.5
JUMP_S = 24 * 60 * 60


def raises(_logits: Logits, _ink: Ink) -> Logits:
    raise ArithmeticError("secret of ours")


def hangs(logits: Logits, _ink: Ink) -> Logits:
    threading.Event().wait()
    return logits


def hangs_on_the_loop(logits: Logits, ink: Ink) -> Logits:
    return hangs(logits, ink)


def nan_for_sevens(logits: Logits, _ink: Ink) -> Logits:
    logits[logits[:, :10].argmax(axis=1) == 7] = np.nan
    return logits


def nan_unless_blank(logits: Logits, ink: Ink) -> Logits:
    logits[ink.any(axis=(1, 2, 3))] = np.nan
    return logits


def nine_columns(logits: Logits, _ink: Ink) -> Logits:
    return logits[:, :9]


def a_row_too_few(logits: Logits, _ink: Ink) -> Logits:
    return logits[1:]


FAULTS: dict[str, Callable[[Logits, Ink], Logits]] = {
    fault.__name__: fault
    for fault in (raises, hangs, hangs_on_the_loop, nan_for_sevens, nan_unless_blank, nine_columns, a_row_too_few)
}
ON_THE_LOOP = {"", "raises", "nan_for_sevens", "hangs_on_the_loop"}  # in the others a thread runs the engine


def install(switch: Path) -> None:
    def fault() -> str:
        with suppress(FileNotFoundError):
            return switch.read_text(encoding="ascii")
        return ""

    sound, check_ready, now, now_ns = LiteRTEngine.logits, Service.check_ready, time.time, time.time_ns

    def logits(engine: LiteRTEngine, ink: Ink) -> Logits:
        while fault() == "waits":
            time.sleep(0.02)
        if fault() == "fills_the_disk":
            os.dup2(os.open("/dev/full", os.O_WRONLY), sys.stdout.fileno())
        found = sound(engine, ink)
        return FAULTS[name](found, ink) if (name := fault()) in FAULTS else found

    def slow_check_ready(service: Service) -> None:
        if fault() == "blocks_the_loop":
            time.sleep(BLOCKED_S)
        check_ready(service)

    setattr(LiteRTEngine, "logits", logits)  # noqa: B010 - mypy rejects the assignment
    setattr(LiteRTEngine, "runs_inline", property(lambda _: fault() in ON_THE_LOOP))  # noqa: B010
    setattr(Service, "check_ready", slow_check_ready)  # noqa: B010
    time.time = lambda: now() + JUMP_S * (fault() == "clock_jumps")
    time.time_ns = lambda: now_ns() + JUMP_S * 10**9 * (fault() == "clock_jumps")


if __name__ in {"__main__", "__mp_main__"}:  # the latter in a worker
    install(Path(sys.argv[1]))
if __name__ == "__main__":
    server.main()
