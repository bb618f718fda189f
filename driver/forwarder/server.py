"""A forwarder at work: waits for packets and for requests, until it has no network any more."""

import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import msgspec

from driver.forwarder import control, tun
from driver.forwarder.control import Answer
from driver.forwarder.pump import Pump, Tunnel

GRACE = 10.0  # seconds without a network: flannelpy died between starting this and giving it one
PATIENCE = 1.0  # seconds for whoever asks to take the answer
LONGEST_REQUEST = 1 << 20  # bytes


class Server:
    def __init__(self, listener: socket.socket, path: Path, udp: socket.socket, port: int) -> None:
        self._listener, self._path, self._udp, self._port = listener, path, udp, port
        self._pump = Pump(udp)
        self._epoll = select.epoll()
        self._reactions: dict[int, Callable[[], object]] = {}  # by file descriptor
        self._asking: dict[socket.socket, bytes] = {}
        self._decoder = msgspec.json.Decoder(control.Request)
        self._ends = time.monotonic() + GRACE
        self._is_stopped = False

    def run(self) -> None:
        self._watch(self._udp.fileno(), self._pump.from_udp)
        self._watch(self._listener.fileno(), self._accept)
        while not self._is_stopped and (self._pump.tunnels or time.monotonic() < self._ends):
            for descriptor, _ in self._epoll.poll(None if self._pump.tunnels else GRACE):
                if (react := self._reactions.get(descriptor)) is not None:  # else an earlier one has just ended that
                    react()
        self._end()

    def _end(self) -> None:
        """The file goes before this stops to answer, or before `Stop` is answered: later it is another's."""
        self._udp.close()
        if not self._is_stopped:
            self._path.unlink(missing_ok=True)
        self._listener.close()

    def _watch(self, descriptor: int, react: Callable[[], object]) -> None:
        self._epoll.register(descriptor, select.EPOLLIN)
        self._reactions[descriptor] = react

    def _unwatch(self, descriptor: int) -> None:
        self._epoll.unregister(descriptor)
        del self._reactions[descriptor]

    # requests

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            asking, _ = self._listener.accept()
            asking.setblocking(False)
            self._asking[asking] = b""
            self._watch(asking.fileno(), lambda: self._hear(asking))

    def _hear(self, asking: socket.socket) -> None:
        try:
            heard = asking.recv(LONGEST_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            heard = b""
        line = self._asking[asking] + heard
        if heard and not line.endswith(b"\n") and len(line) < LONGEST_REQUEST:
            self._asking[asking] = line
            return
        self._unwatch(asking.fileno())
        del self._asking[asking]
        with asking, suppress(OSError):
            asking.settimeout(PATIENCE)
            if line:
                asking.sendall(msgspec.json.encode(self._answer(line)) + b"\n")

    def _answer(self, line: bytes) -> Answer:
        try:
            return self._done(self._decoder.decode(line))
        except (msgspec.MsgspecError, ValueError, OSError) as error:
            return Answer(error=str(error))

    def _done(self, request: control.Request) -> Answer:
        match request:
            case control.Ask():
                self._give_up_lost()
                return Answer(
                    local=self._udp.getsockname()[0],
                    networks=tuple(
                        control.Network(tunnel.link, tuple(tunnel.peers.values()))
                        for tunnel in self._pump.tunnels.values()
                    ),
                )
            case control.Count():
                return Answer(counters=asdict(self._pump.counters()))
            case control.Stop():
                self._path.unlink(missing_ok=True)
                self._is_stopped = True
            case control.Attach(link):
                self._attach(link)
            case control.Detach(dev):
                for tunnel in self._carrying(dev):
                    self._detach(tunnel)
            case control.PutPeer(dev, peer):
                self._tunnel(dev).put(peer)
            case control.DropPeer(dev, host):
                self._tunnel(dev).drop(host)
        return Answer()

    # networks

    def _carrying(self, dev: str) -> list[Tunnel]:
        return [tunnel for tunnel in self._pump.tunnels.values() if tunnel.link.dev == dev]

    def _tunnel(self, dev: str) -> Tunnel:
        found = self._carrying(dev)
        if not found:
            raise ValueError(f"{dev} is not carried here")
        return found[0]

    def _attach(self, link: control.Link) -> None:
        """Afresh if it is there already: its device may be a new one of the same name."""
        old = self._pump.tunnels.get(link.vni)
        if old is not None:
            self._detach(old)
        tunnel = Tunnel(link, tun.attach(link.dev), self._port, tun.index(link.dev))
        self._pump.tunnels[link.vni] = tunnel
        self._watch(tunnel.descriptor, lambda: self._carry(tunnel))

    def _carry(self, tunnel: Tunnel) -> None:
        if not self._pump.from_tun(tunnel):  # its device was deleted
            self._detach(tunnel)

    def _give_up_lost(self) -> None:
        """A device that is not here any more under its name, because somebody renamed it, moved it to another namespace
        or deleted it, would not be found by anybody: it goes. Who asks makes a new one, and has it carried here."""
        for tunnel in list(self._pump.tunnels.values()):
            if tun.index(tunnel.link.dev) != tunnel.index:
                stands = tun.give_up(tunnel.descriptor)
                self._detach(tunnel)
                if stands:
                    self._ends = time.monotonic() + GRACE

    def _detach(self, tunnel: Tunnel) -> None:
        self._ends = 0.0
        del self._pump.tunnels[tunnel.link.vni]
        self._unwatch(tunnel.descriptor)
        tun.close(tunnel.descriptor)
