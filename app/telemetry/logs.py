"""Log lines on standard output: JSON, or plain text on a terminal.

The thread that logs a line writes it. A separate thread, with `QueueHandler` and `QueueListener`, costs a request
four times as much: the two threads keep passing Python's interpreter lock to each other.
"""

import logging
import sys
import time
from functools import lru_cache
from typing import TextIO

from pydantic_core import to_json


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, message, and the call's ``extra={"fields": {...}}``."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": f"{_second(int(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return to_json(line, fallback=str).decode()


class PlainFormatter(logging.Formatter):
    """Plain text for a terminal: time, message, and the fields of the JSON line."""

    def format(self, record: logging.LogRecord) -> str:
        fields = ", ".join(f"{name} {value}" for name, value in getattr(record, "fields", {}).items())
        line = f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {record.getMessage()}"
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return f"{line}: {fields}{trace}" if fields else f"{line}{trace}"


@lru_cache(1)
def _second(unix_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(unix_s))


def start_logging(level: str) -> None:
    """Log to standard output from now on."""
    for detail in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
        setattr(logging, detail, False)  # no line shows them: "Optimization" in Python's logging HOWTO
    output = _Output(sys.stdout)
    output.setFormatter(PlainFormatter() if sys.stdout.isatty() else JsonFormatter())
    for name in ("digits", "uvicorn", "opentelemetry"):
        logger = logging.getLogger(name)
        logger.handlers = [output]
        logger.setLevel(level.upper())
        logger.propagate = False
    # it logs bytes of malformed bodies, which without a handler would go to standard error
    logging.getLogger("python_multipart").addHandler(logging.NullHandler())


class _Output(logging.StreamHandler[TextIO]):
    _failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's
        """A full disk or a closed pipe loses lines but does not stop the service. Reported once."""
        if not self._failed:
            self._failed = True
            error = sys.exc_info()[1]
            reason = error.strerror if isinstance(error, OSError) else repr(error)
            sys.stderr.write(f"digits: the log cannot be written: {reason}\n")
