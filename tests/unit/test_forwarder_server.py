"""A forwarder's loop, with sockets in the place of TUN devices."""

import os
import socket
import threading
from pathlib import Path

import msgspec
import pytest

from driver.forwarder import control, tun
from driver.forwarder.control import Answer, Link
from driver.forwarder.pump import Pump
from driver.forwarder.server import Server

PATIENCE = 5  # seconds


def test_a_network_is_taken_away_while_a_packet_of_it_waits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The kernel tells of both at once, and of the request first."""
    busy, go_on = threading.Event(), threading.Event()
    devices = {name: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for name in ("fl.7", "fl.8")}
    path = tmp_path / "forwarder.sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:

        def stay(_: Pump) -> None:
            udp.recv(1)
            busy.set()
            go_on.wait(PATIENCE)

        def attach(name: str) -> int:
            return os.dup(devices[name][0].fileno())

        monkeypatch.setattr(tun, "attach", attach)
        monkeypatch.setattr(tun, "index", {"fl.7": 7, "fl.8": 8}.get)
        monkeypatch.setattr(Pump, "from_udp", stay)
        listener.bind(str(path))
        listener.listen()
        udp.bind(("127.0.0.1", 0))
        server = Server(listener, path, udp, 0)
        for number, (name, (device, _)) in enumerate(devices.items(), start=7):
            device.setblocking(False)
            server._attach(Link(name, number))
        running = threading.Thread(target=server.run, daemon=True)
        running.start()
        request = msgspec.json.encode(control.Detach("fl.8")) + b"\n"
        with asking(path, request[:5]) as told:
            assert carried(path) == ["fl.7", "fl.8"]  # so it has read that, too
            udp.sendto(b"x", udp.getsockname())
            assert busy.wait(PATIENCE)
            told.sendall(request[5:])
            devices["fl.8"][1].send(bytes(30))
            go_on.set()
            assert answer(told) == Answer()
            running.join(0.1)  # no file is opened here before the packet's turn has come: it would have that number
        assert carried(path) == ["fl.7"]
        with asking(path, msgspec.json.encode(control.Stop()) + b"\n") as told:
            answer(told)
        running.join(PATIENCE)
        assert not running.is_alive()
    for pair in devices.values():
        for end in pair:
            end.close()


def carried(path: Path) -> list[str]:
    with asking(path, msgspec.json.encode(control.Ask()) + b"\n") as told:
        return [network.link.dev for network in answer(told).networks]


def asking(path: Path, request: bytes) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(PATIENCE)
    made.connect(str(path))
    made.sendall(request)
    return made


def answer(told: socket.socket) -> Answer:
    with told.makefile("rb") as file:
        return msgspec.json.decode(file.read(), type=Answer)
