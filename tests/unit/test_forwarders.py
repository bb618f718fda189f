"""Asking a forwarder that is slow to answer, or never does: real processes, which only answer."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from driver import forwarders
from driver.entries import UdpPeer
from driver.forwarder import control
from driver.forwarders import Forwarders, ask
from driver.plan import Put
from driver.state import Forwarder

SERVE = """
import contextlib, os, socket, sys, time
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("ready", flush=True)
while True:
    asking, _ = listener.accept()
    asking.recv(1000)
    {wait}
    with asking, contextlib.suppress(OSError):  # whoever asked may have left
        asking.sendall(sys.argv[2].encode())
"""
SPIN = """
    end = time.monotonic() + {seconds}
    while time.monotonic() < end:
        pass
"""
SPIN_WHILE_BUSY = """
    while os.path.exists(sys.argv[1] + ".busy"):
        pass
"""
CARRIES = Forwarder("fl.7", 7, 8478, ip_address("192.0.2.1"))
PEER = UdpPeer("fl.7", "h2", ip_address("192.0.2.2"), 8478, (ip_network("10.240.2.0/26"),))
ANSWER = {
    "version": control.VERSION,
    "local": "192.0.2.1",
    "networks": [{"link": {"dev": "fl.7", "vni": 7}, "peers": []}],
}


@contextmanager
def process(path: Path, wait: str, answer: object = None) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-I", "-c", SERVE.format(wait=wait), str(path), json.dumps(answer or {"version": 7})]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        try:
            yield running
        finally:
            running.kill()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("SOON", 0.1), ("PATIENCE", 0.3), ("LONGEST", 1.5)):
        monkeypatch.setattr(forwarders, name, seconds)


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


def test_of_what_a_forwarder_says_again_and_again_only_what_is_new_is_read(tmp_path: Path) -> None:
    """It has thousands of peers, and is asked every few seconds."""
    path, door = tmp_path / "forwarder-8478.sock", Forwarders(tmp_path)
    with process(path, "pass", carrying("192.0.2.2", "192.0.2.3")):
        first = list(door.read())
        assert first[:2] == [CARRIES, PEER]
        assert list(map(id, door.read())) == list(map(id, first))
    path.unlink()
    with process(path, "pass", carrying("192.0.2.2", "192.0.2.4")):
        _, stayed, moved = door.read()
    assert stayed is first[1]
    assert moved == replace(PEER, host="h3", address=ip_address("192.0.2.4"), blocks=(ip_network("10.240.3.0/26"),))


def carrying(*peers: str) -> object:
    """The answer of a forwarder that has these, at the addresses that are given: h2 is the first."""
    told = [
        {"host": f"h{number}", "address": address, "blocks": [f"10.240.{number}.0/26"]}
        for number, address in enumerate(peers, start=2)
    ]
    return {**ANSWER, "networks": [{"link": {"dev": "fl.7", "vni": 7}, "peers": told}]}


def test_a_pass_does_not_wait_for_one_that_is_kept_from_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is as it last said, and is told nothing until it answers; the next pass is asked for then."""
    monkeypatch.setattr(forwarders, "LONGEST", 60)
    path, recovered = tmp_path / "forwarder-8478.sock", threading.Event()
    busy, door = path.with_suffix(".sock.busy"), Forwarders(tmp_path, recovered.set)
    with process(path, SPIN_WHILE_BUSY, ANSWER):
        assert list(door.read()) == [CARRIES]
        busy.touch()
        assert list(door.read()) == [CARRIES]
        assert list(door.apply_all([Put(PEER)]).values()) == [
            f"+ {PEER}: the forwarder at {path} gets no processor and does not answer; this waits until it does"
        ]
        assert not recovered.is_set()
        busy.unlink()
        assert recovered.wait(30)
        assert list(door.read()) == [CARRIES]
        assert door.apply_all([Put(PEER)]) == {}


def test_one_that_is_kept_from_running_for_ever_is_ended_while_passes_go_on(tmp_path: Path) -> None:
    path, recovered = tmp_path / "forwarder-8478.sock", threading.Event()
    door = Forwarders(tmp_path, recovered.set)
    with process(path, SPIN_WHILE_BUSY, ANSWER) as running:
        assert list(door.read()) == [CARRIES]
        path.with_suffix(".sock.busy").touch()
        assert list(door.read()) == [CARRIES]
        assert recovered.wait(30)
        assert running.wait(5) == -9
        assert list(door.read()) == []
