"""Log lines: one per event, whatever is in it."""

import json
import logging
import re
import sys

import pytest

from plugin.log import LineFormatter


def line(message: str, *args: object, **extra: object) -> str:
    record = logging.LogRecord("ipam.ipam", logging.INFO, __file__, 1, message, args, None)
    record.created, record.msecs = 1767225600.0, 7.0
    vars(record).update(extra)
    return LineFormatter().format(record)


@pytest.mark.parametrize(
    ("message", "extra", "expected"),
    [
        ("ready", {}, "ready"),
        ("block taken", {"pool": "10.224.0.0/18", "count": 3}, "block taken pool=10.224.0.0/18 count=3"),
        ("refused", {"why": "no room", "who": ""}, 'refused why="no room" who=""'),
        ("refused", {"why": 'a="b"'}, r'refused why="a=\"b\""'),
        ("two\nlines a=b", {"text": "x\ny\x1b"}, r'"two\nlines a=b" text="x\ny\u001b"'),
        ("wanted", {"name_": "größe"}, "wanted name_=größe"),
    ],
)
def test_an_event_and_its_keys(message: str, extra: dict[str, object], expected: str) -> None:
    assert line(message, **extra) == f"2026-01-01T00:00:00.007Z info {expected}"


def test_printf_arguments_work_as_ever() -> None:
    assert line("Listening at: %s (%s)", "unix:/x", 7).endswith("info Listening at: unix:/x (7)")


def test_an_error_comes_with_its_traceback_on_the_same_line() -> None:
    try:
        raise ValueError("no\nroom")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "failed", (), sys.exc_info())
    text = LineFormatter().format(record)
    assert "\n" not in text
    found = re.fullmatch(r"\S+ error failed error=\S+ traceback=(.*)", text)
    assert found
    assert json.loads(found[1]).endswith("ValueError: no\nroom")
