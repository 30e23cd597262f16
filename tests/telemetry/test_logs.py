"""The log: JSON lines on standard output, or plain lines on a terminal."""

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from app.telemetry.logs import start_logging


@contextmanager
def logging_started(level: str) -> Iterator[logging.Logger]:
    """The service's logger."""
    loggers = [logging.getLogger(name) for name in ("digits", "uvicorn", "opentelemetry")]
    before = [(logger, logger.handlers, logger.level, logger.propagate) for logger in loggers]
    start_logging(level)
    try:
        yield loggers[0]
    finally:
        for logger, handlers, given, propagate in before:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(given)


def test_a_line_has_its_level_fields_and_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_started("warning") as log:
        log.info("below the level")
        try:
            raise RuntimeError("why")
        except RuntimeError:
            log.exception("%d of %d", 1, 2, extra={"fields": {"digit": 7}})

    [line] = map(json.loads, capsys.readouterr().out.splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line.pop("traceback").endswith("RuntimeError: why")
    assert line == {"level": "error", "message": "1 of 2", "digit": 7}
