"""One line per event: `time level event key=value ...`, for people and for `grep`.

Log with `log.info("block taken", extra={"pool": pool})`: every extra becomes a key."""

import json
import logging
import sys
import time
from collections.abc import Iterator

_OURS_NOT = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def setup(level: str) -> None:
    """Everything that is logged in this process, by whomever, goes to stderr in one form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)


class LineFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        event = record.getMessage()
        if "=" in event or '"' in event or not event.isprintable():
            event = json.dumps(event)
        pairs = " ".join(f"{key}={_quoted(str(value))}" for key, value in self._fields(record))
        return f"{stamp}.{int(record.msecs):03}Z {record.levelname.lower()} {event} {pairs}".rstrip()

    def _fields(self, record: logging.LogRecord) -> Iterator[tuple[str, object]]:
        yield from ((key, value) for key, value in vars(record).items() if key not in _OURS_NOT)
        if record.exc_info and record.exc_info[1]:
            yield "error", repr(record.exc_info[1])
            yield "traceback", self.formatException(record.exc_info)


def _quoted(text: str) -> str:
    plain = text and text.isprintable() and not any(sign in text for sign in ' "=')
    return text if plain else json.dumps(text)
