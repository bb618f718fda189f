"""The UDP socket: many datagrams in one call, both ways."""

import errno
import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address

from driver.forwarder.room import Room
from driver.forwarder.waiting import waiting
from driver.forwarder.wire import Buffer

UDP_SEGMENT, UDP_GRO = 103, 104  # linux/udp.h, at SOL_UDP
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PROBE = 10, 23, 3  # IP_PMTUDISC_PROBE: never fragment, believe no ICMP
TRUNCATED = 0x20  # MSG_TRUNC
KERNEL_MEMORY = 8 << 20  # bytes of packets under way; the kernel's default is three bursts
MOST_SEGMENTS, MOST_BYTES = 64, 65487  # of one call, in all kernels and both families
LARGEST_BATCH = 0xFFFF
ROOM = 4 * LARGEST_BATCH

Address = tuple[str, int]


def open_socket(address: str, port: int) -> socket.socket:
    """OSError if it is another's, or the address is not on this host."""
    family = socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6
    opened = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        opened.bind((address, port))
        opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, KERNEL_MEMORY)
        opened.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, KERNEL_MEMORY)
        opened.setsockopt(socket.SOL_UDP, UDP_GRO, 1)
        if family == socket.AF_INET:
            opened.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PROBE)
        else:
            opened.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PROBE)
    except OSError:
        opened.close()
        raise
    return opened


def segments_in_one_call(size: int) -> int:
    """How many datagrams of that size."""
    return min(MOST_SEGMENTS, MOST_BYTES // size)


class Outbox:
    """Sends. Single datagrams of one size to one address wait for each other until `flush`, and go in one call."""

    def __init__(self, udp: socket.socket) -> None:
        self.unsent = 0  # datagrams that the kernel refused: too large, no route, no room
        self._udp, self._offloads = udp, True
        self._parts: list[Buffer] = []
        self._size, self._target, self._is_open = 0, ("", 0), False

    def queue(self, header: bytes, packet: bytes, target: Address) -> None:
        size = len(header) + len(packet)
        if not self._is_open or target != self._target or size > self._size or self._is_full():
            self.flush()
            self._size, self._target = size, target
        self._parts += (header, packet)
        self._is_open = size == self._size  # only the last one may be smaller

    def flush(self) -> None:
        parts, self._parts = self._parts, []
        self._is_open = False
        if parts:
            self._call(parts, self._size, self._target)

    def _is_full(self) -> bool:
        return (len(self._parts) // 2 + 1) * self._size > MOST_BYTES or len(self._parts) >= 2 * MOST_SEGMENTS

    def send(self, parts: list[Buffer], size: int, target: Address) -> None:
        """Datagrams of two parts each, `size` bytes all but the last, after all that is queued."""
        self.flush()
        step = 2 * segments_in_one_call(size)
        for at in range(0, len(parts), step):
            self._call(parts[at : at + step], size, target)

    def _call(self, parts: list[Buffer], size: int, target: Address) -> None:
        try:
            if len(parts) == 2:
                self._udp.sendmsg(parts, (), 0, target)
            elif self._offloads:
                self._udp.sendmsg(parts, [(socket.SOL_UDP, UDP_SEGMENT, struct.pack("=H", size))], 0, target)
            else:
                self._one_by_one(parts, size, target)
        except OSError as error:
            if error.errno == errno.EIO and self._offloads and len(parts) > 2:
                self._offloads = False  # the underlay computes no checksums, and so the kernel cuts nothing either
                self._one_by_one(parts, size, target)
            else:
                self.unsent += len(parts) // 2

    def _one_by_one(self, parts: list[Buffer], size: int, target: Address) -> None:
        for at in range(0, len(parts), 2):
            self._call(parts[at : at + 2], size, target)


class Inbox:
    """Receives. What one sender's datagrams of one size is came in several calls is put together again."""

    def __init__(self, udp: socket.socket) -> None:
        self.malformed = 0  # datagrams that can be no packet
        self.room = Room(ROOM)
        self._udp, self._more = udp, waiting(udp.fileno())

    def batches(self, most: int) -> Iterator[tuple[int, int, Address]]:
        """Datagrams of one sender, side by side from the room's beginning on: where they end, the size that all but the
        last have, and the sender; until there are no more, or `most` calls. They are overwritten after the next ones
        were asked for."""
        end = size = 0
        sender: Address = ("", 0)
        for number in range(most):
            if number and not self._more():
                break
            try:
                length, ancillary, flags, address = self._udp.recvmsg_into([self.room.view[end:]], 64)
            except BlockingIOError:
                break
            except OSError:
                continue  # an earlier packet was refused on its way
            segment = struct.unpack_from("=i", ancillary[0][2])[0] if ancillary else length
            if flags & TRUNCATED or length == 0:
                self.malformed += 1
                continue
            fits = address[:2] == sender and (segment == size or length == segment < size)
            if end and not fits:
                yield end, size, sender
                self.room.view[:length] = self.room.view[end : end + length]
                end = 0
            if not end:
                size, sender = segment, address[:2]
            end += length
            if end % size or end + LARGEST_BATCH > ROOM:  # a smaller one is the last of its burst
                yield end, size, sender
                end = 0
        if end:
            yield end, size, sender
