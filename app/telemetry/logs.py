"""Log lines: JSON on standard output, written by a thread of their own."""

import json
import logging
import logging.handlers
import queue
import sys
import time
from functools import lru_cache
from typing import Any, TextIO

Lines = queue.SimpleQueue[Any]


_LINES_GATHER_S = 0.05


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, message, and what the call gave as ``extra={"fields": {...}}``."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": f"{_second(int(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


@lru_cache(1)
def _second(unix_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(unix_s))


def start_logging(level: str) -> logging.handlers.QueueListener:
    """JSON lines on standard output, written by a thread of their own. Stop the listener to flush."""
    # what no line tells costs each of them time: see "Optimization" in Python's logging HOWTO
    for told in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks", "_srcfile"):
        setattr(logging, told, None)
    lines: Lines = queue.SimpleQueue()
    stream = _Stream(lines)
    stream.setFormatter(JsonFormatter())
    listener = _Listener(lines, stream)
    handler = _UnpreparedQueueHandler(lines)
    for name in ("digits", "uvicorn", "opentelemetry"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level.upper())
        logger.propagate = False
    # of a body that is malformed it writes the byte that is wrong, on standard error where nobody takes its lines
    logging.getLogger("python_multipart").addHandler(logging.NullHandler())
    listener.start()
    return listener


class _Listener(logging.handlers.QueueListener):
    """Sleeps while lines gather: a thread that each line woke would take the interpreter from the request's."""

    def __init__(self, lines: Lines, handler: logging.Handler) -> None:
        super().__init__(lines, handler)
        self._lines = lines

    def dequeue(self, block: bool) -> logging.LogRecord:
        while self._lines.empty():
            time.sleep(_LINES_GATHER_S)
        record: logging.LogRecord = self._lines.get_nowait()
        return record


class _Stream(logging.StreamHandler[TextIO]):
    """Standard output, flushed once all the lines are written that have gathered."""

    def __init__(self, lines: Lines) -> None:
        super().__init__(sys.stdout)
        self._lines = lines
        self._failed = False

    def flush(self) -> None:
        if self._lines.empty():
            super().flush()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's
        """A full disk, or a reader who has gone, costs the log and nothing else. Said once."""
        error = sys.exc_info()[1]
        if not self._failed:
            self._failed = True
            reason = error.strerror if isinstance(error, OSError) else repr(error)
            sys.stderr.write(f"digits: the log cannot be written: {reason}\n")


class _UnpreparedQueueHandler(logging.handlers.QueueHandler):
    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record  # same process: nothing to pickle, so leave formatting to the listener's thread
