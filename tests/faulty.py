"""`python -m tests.faulty FAULT SWITCH`: the service with a fault in it, which holds while the file SWITCH exists.

The faults are put around the engine and the clock, in this process alone; all else is the service as people start it.
"""

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from app import process
from app.imaging.preprocess import Ink
from app.inference.service import Service
from app.model.engine import LiteRTEngine, Logits

SWITCH = Path(sys.argv[2]) if __name__ == "__main__" else Path()
BLOCKED_S = 1.5
JUMP_S = 24 * 60 * 60

Answering = Callable[[LiteRTEngine, Ink], Logits]


def raises(_logits: Answering, _engine: LiteRTEngine, _ink: Ink) -> Logits:
    raise ArithmeticError("secret of ours")


def hangs(logits: Answering, engine: LiteRTEngine, ink: Ink) -> Logits:
    threading.Event().wait()
    return logits(engine, ink)


def stands(logits: Answering, engine: LiteRTEngine, ink: Ink) -> Logits:
    while SWITCH.exists():
        time.sleep(0.02)
    return logits(engine, ink)


def nan_for_sevens(logits: Answering, engine: LiteRTEngine, ink: Ink) -> Logits:
    found = logits(engine, ink)
    found[found[:, :10].argmax(axis=1) == 7] = np.nan
    return found


def nine_columns(logits: Answering, engine: LiteRTEngine, ink: Ink) -> Logits:
    return logits(engine, ink)[:, :9]


def a_row_too_few(logits: Answering, engine: LiteRTEngine, ink: Ink) -> Logits:
    return logits(engine, ink)[1:]


def hangs_on_the_loop(logits: Answering, engine: LiteRTEngine, ink: Ink) -> Logits:
    return hangs(logits, engine, ink)


QUICK = {"raises", "nan_for_sevens", "hangs_on_the_loop"}
ENGINE = {
    fault.__name__: fault
    for fault in (raises, hangs, hangs_on_the_loop, stands, nan_for_sevens, nine_columns, a_row_too_few)
}


def main() -> None:
    name, switch = sys.argv[1], SWITCH
    del sys.argv[1:3]
    if name in ENGINE:
        fault, logits = ENGINE[name], LiteRTEngine.logits

        def with_fault(engine: LiteRTEngine, ink: Ink) -> Logits:
            return fault(logits, engine, ink) if switch.exists() else logits(engine, ink)

        setattr(LiteRTEngine, "logits", with_fault)  # noqa: B010 - which a type checker would not have
        LiteRTEngine.runs_inline = name in QUICK  # the others are to stop the engine's thread, not the event loop
    elif name == "clock":
        now, now_ns = time.time, time.time_ns
        time.time = lambda: now() + (JUMP_S if switch.exists() else 0)
        time.time_ns = lambda: now_ns() + (JUMP_S * 10**9 if switch.exists() else 0)
    elif name == "blocked":
        check_ready = Service.check_ready

        def blocking(service: Service) -> None:
            if switch.exists():
                time.sleep(BLOCKED_S)
            check_ready(service)

        setattr(Service, "check_ready", blocking)  # noqa: B010
    process.main()


if __name__ == "__main__":
    main()
