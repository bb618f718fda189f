"""Asking a forwarder that is slow to answer, or never does: real processes, which only answer."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from driver import forwarders
from driver.forwarder import control
from driver.forwarders import ask

SERVE = """
import socket, sys, time
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("ready", flush=True)
asking, _ = listener.accept()
asking.recv(1000)
{wait}
asking.sendall(b'{{"version": 7}}\\n')
"""
SPIN = """
end = time.monotonic() + {seconds}
while time.monotonic() < end:
    pass
"""


@contextmanager
def process(path: Path, wait: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-I", "-c", SERVE.format(wait=wait), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        try:
            yield running
        finally:
            running.kill()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarders, "PATIENCE", 0.3)


def test_one_that_gets_little_of_the_processor_is_waited_for(tmp_path: Path) -> None:
    with process(tmp_path / "it", SPIN.format(seconds=0.7)):
        assert ask(tmp_path / "it", control.Ask()) == control.Answer(version=7)


@pytest.mark.parametrize("wait", ["time.sleep(60)", SPIN.format(seconds=60)])
def test_one_that_sleeps_or_never_comes_to_it_is_ended(tmp_path: Path, wait: str) -> None:
    with process(tmp_path / "it", wait) as running:
        assert ask(tmp_path / "it", control.Ask()) is None
        assert running.wait(5) == -9


def test_where_nobody_is_nobody_answers(tmp_path: Path) -> None:
    assert ask(tmp_path / "it", control.Ask()) is None
