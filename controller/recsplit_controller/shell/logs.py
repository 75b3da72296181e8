"""Logs as JSON lines on stderr: one object a line, with when, how bad, who, what, and the fields that were given along.

Say `log.info("scaled", extra={"fields": {"target": "shop_dense", "count": 3}})`; texts are constant, and what varies is a field.
"""

import json
import logging
import math
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

#: The logger above all of this package's; others' (httpx, urllib3) are heard from warnings on.
NAME = "recsplit_controller"


class JsonLines(logging.Formatter):
    """A record as one line of JSON: `time` (UTC, ISO 8601), `level`, `logger`, `message`, the fields, and `error` with a traceback.

    A field's name never hides one of these. NaN and infinities become null, what JSON doesn't know its text.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        fields = getattr(record, "fields", None)
        extra = fields if isinstance(fields, Mapping) else {}
        return json.dumps(_plain({**extra, **line}), ensure_ascii=False, default=str)


def _plain(value: object) -> object:
    """`value` with what would not be JSON replaced."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def start_logs(*, level: int = logging.INFO, stream: TextIO | None = None) -> logging.Handler:
    """Send this package's logs from `level` on, and everyone's warnings, to `stream` (stderr). Returns the handler, for `stop_logs`."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonLines())
    logging.getLogger().addHandler(handler)
    logging.getLogger(NAME).setLevel(level)
    logging.captureWarnings(True)
    return handler


def stop_logs(handler: logging.Handler) -> None:
    """Undo `start_logs`."""
    logging.getLogger().removeHandler(handler)
    logging.getLogger(NAME).setLevel(logging.NOTSET)
    logging.captureWarnings(False)
