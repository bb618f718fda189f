"""Carries packets: from TUN devices to the peers that have their destinations, and back."""

import errno
import os
import socket
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from driver.forwarder import wire
from driver.forwarder.control import Link, Peer
from driver.forwarder.room import Room
from driver.forwarder.table import Table
from driver.forwarder.underlay import Address, Inbox, Outbox
from driver.forwarder.waiting import waiting

BURST = 32  # packets of one device, or batches of datagrams, before the others have their turn
ROOM = wire.VNET.size + 0xFFFF  # the largest IP packet
GONE = (errno.EBADFD, errno.ENODEV)


@dataclass(slots=True)
class Counters:
    """Packets that were not carried, and why."""

    strangers: int = 0  # datagrams of a sender that is no peer of the network
    malformed: int = 0
    spoofed: int = 0  # inner source address that is not the sender's
    unknown: int = 0  # inner destination that no peer has
    unsent: int = 0  # refused by the underlay: too large, no route, no room
    unwritten: int = 0  # refused by the kernel at the TUN device


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """To a peer, and from it: it may send from another address than it is reached at, as behind NAT."""

    target: Address
    senders: frozenset[Address]


@dataclass(slots=True)
class Tunnel:
    """A network: its device, and its peers."""

    link: Link
    descriptor: int
    port: int  # of all peers
    index: int | None = None  # the device's number: under its name there may be another one by now
    peers: dict[str, Peer] = field(default_factory=dict)
    table: Table[Way] = field(default_factory=Table)
    senders: Counter[Address] = field(default_factory=Counter)  # how many peers have it
    more: Callable[[], object] = field(init=False)  # packets wait
    _ways: dict[str, Way] = field(default_factory=dict)  # by peer

    def __post_init__(self) -> None:
        self.more = waiting(self.descriptor)

    def put(self, peer: Peer) -> None:
        self.drop(peer.host)
        target = peer.address, self.port
        way = Way(target, frozenset((target, *((source, self.port) for source in peer.sources))))
        self.peers[peer.host], self._ways[peer.host] = peer, way
        self.senders.update(way.senders)
        for block in peer.blocks:
            self.table.put(block, way)

    def drop(self, host: str) -> None:
        """A block that another peer has got meanwhile stays with that one."""
        peer = self.peers.pop(host, None)
        if peer is None:
            return
        way = self._ways.pop(host)
        for sender in way.senders:
            self.senders[sender] -= 1
            if not self.senders[sender]:
                del self.senders[sender]
        for block in peer.blocks:
            self.table.remove(block, way)


class Pump:
    def __init__(self, udp: socket.socket) -> None:
        self._counters = Counters()
        self._outbox, self._inbox = Outbox(udp), Inbox(udp)
        self.tunnels: dict[int, Tunnel] = {}  # by VNI
        self._burst = int.from_bytes(os.urandom(4))
        self._room = Room(ROOM)

    def counters(self) -> Counters:
        counted = self._counters
        malformed = counted.malformed + self._inbox.malformed
        return replace(counted, malformed=malformed, unsent=self._outbox.unsent)

    def from_tun(self, tunnel: Tunnel) -> bool:
        """Send what the kernel routed to the device; False when the device is gone."""
        try:
            for _ in range(BURST):
                self._send(tunnel, os.readv(tunnel.descriptor, [self._room.view]))
                if not tunnel.more():
                    break
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno not in GONE:
                raise
            return False
        finally:
            self._outbox.flush()
        return True

    def _send(self, tunnel: Tunnel, end: int) -> None:
        packet = self._room.view[wire.VNET.size : end]
        try:
            way = tunnel.table.find(wire.destination(packet))
            if way is None:
                self._counters.unknown += 1
            elif (header := wire.header(tunnel.link.vni, self._room.view)) is not None:
                self._outbox.queue(header, packet.tobytes(), way.target)
            else:
                self._burst = self._burst + 1 & 0xFFFFFFFF
                parts, size = wire.segments(tunnel.link.vni, self._burst, self._room, end)
                self._outbox.send(parts, size, way.target)
        except (wire.Malformed, IndexError, struct.error):  # whoever is root here can make a device send anything
            self._counters.malformed += 1

    def from_udp(self) -> None:
        """Hand the kernel what peers sent."""
        for end, size, sender in self._inbox.batches(BURST):
            if any(sender in tunnel.senders for tunnel in self.tunnels.values()):
                for packet in wire.packets(self._inbox.room, end, size):
                    self._write(packet, sender)
            else:
                self._counters.strangers += -(-end // size)

    def _write(self, packet: wire.Packet | None, sender: Address) -> None:
        if packet is None:
            self._counters.malformed += 1
            return
        tunnel = self.tunnels.get(packet.vni)
        if tunnel is None or sender not in tunnel.senders:
            self._counters.strangers += 1
        elif (way := tunnel.table.find(packet.source)) is None or sender not in way.senders:
            self._counters.spoofed += 1
        else:
            try:
                os.writev(tunnel.descriptor, packet.parts)
            except OSError:
                self._counters.unwritten += 1
