"""ICMP echo requests, many at once: who answers, and whether a packet of a given size arrives whole.

An answer is an echo reply, or a "no such host" or "too large for its link" from one who must be beyond the tunnel to
say it: all have crossed it.
Layouts: RFC 792 and RFC 4443. For an IPv4 raw socket the kernel leaves the IP header on what it hands over, for an
IPv6 one it does not, and computes the checksum itself."""

import errno
import os
import secrets
import select
import socket
import struct
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Generic, TypeVar

from driver.kernel.namespaces import within
from store.ip import IPAddress, IPNetwork

ECHO = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence number
REQUEST, REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}
REFUSALS = {4: (3,), 6: (1, 2)}  # no such host, too large for the last link: IPv6 has a type of its own for that
HEADERS = {4: 20 + ECHO.size, 6: 40 + ECHO.size}  # bytes of IP and ICMP
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PROBE = 10, 23, 3  # PROBE: never fragment, whatever is known of the path
TRIES = 3  # requests to each address, as long as none is answered
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Echo:
    to: IPAddress
    source: IPAddress | None = None
    size: int = 84  # bytes of the whole IP packet
    within: tuple[IPNetwork, ...] = ()  # who may refuse in its place


@dataclass(frozen=True, slots=True)
class Answer:
    by: IPAddress | None  # None: nobody
    reply: bool = False  # from the address itself
    refused: str = ""  # why this kernel would not even send it

    def __bool__(self) -> bool:
        return self.by is not None


def ping(wanted: Mapping[K, Sequence[Echo]], timeout: float, netns: str | None = None) -> dict[K, Answer]:
    """For each key the first answer to any of its requests; ends when all keys have one. OSError without the right."""
    if not wanted:
        return {}
    return within(netns, lambda: _Round(wanted).run(timeout))


def ping_one(echo: Echo, netns: str | None = None, timeout: float = 0.9) -> Answer:
    """Why it could not be sent is part of the answer."""
    try:
        return ping({"": [echo]}, timeout, netns)[""]
    except OSError as error:
        return Answer(None, refused=str(error.strerror or error))


class _Round(Generic[K]):
    def __init__(self, wanted: Mapping[K, Sequence[Echo]]) -> None:
        self._wanted = wanted
        self._id = secrets.randbelow(1 << 16)
        self._echoes = [(key, echo) for key, echoes in wanted.items() for echo in echoes]
        self._sockets: dict[tuple[int, IPAddress | None], socket.socket] = {}
        self._found: dict[K, Answer] = {}
        self._refused: dict[K, str] = {}

    def run(self, timeout: float) -> dict[K, Answer]:
        began = time.monotonic()
        try:
            for turn in range(1, TRIES + 1):
                self._send()
                self._listen(began + timeout * turn / TRIES)
        finally:
            for each in self._sockets.values():
                each.close()
        return {key: self._found.get(key) or Answer(None, refused=self._refused.get(key, "")) for key in self._wanted}

    def _send(self) -> None:
        for number, (key, echo) in enumerate(self._echoes):
            if key in self._found:
                continue
            try:
                self._socket(echo).sendto(_request(echo, self._id, number), (str(echo.to), 0))
            except PermissionError as error:
                if error.errno == errno.EPERM and (echo.to.version, echo.source) not in self._sockets:
                    raise
                self._refused[key] = "a rule of this host forbids it"
            except OSError as error:
                self._refused[key] = os.strerror(error.errno or 0)

    def _socket(self, echo: Echo) -> socket.socket:
        version = echo.to.version
        if (version, echo.source) not in self._sockets:
            family, protocol = (
                (socket.AF_INET, socket.IPPROTO_ICMP) if version == 4 else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
            )
            made = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
            level, option = (
                (socket.IPPROTO_IP, IP_MTU_DISCOVER) if version == 4 else (socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER)
            )
            made.setsockopt(level, option, PROBE)
            if echo.source is not None:
                try:
                    made.bind((str(echo.source), 0))
                except OSError:
                    made.close()
                    raise
            self._sockets[version, echo.source] = made
        return self._sockets[version, echo.source]

    def _listen(self, until: float) -> None:
        by_number = {each.fileno(): (each, version) for (version, _), each in self._sockets.items()}
        poll = select.poll()  # which knows descriptors beyond 1023, too
        for number in by_number:
            poll.register(number, select.POLLIN)
        while len(self._found) < len(self._wanted) and (left := until - time.monotonic()) > 0:
            for number, _ in poll.poll(left * 1000):
                each, version = by_number[number]
                data, where = each.recvfrom(1 << 16)
                self._take(version, data, ip_address(where[0].partition("%")[0]))

    def _take(self, version: int, data: bytes, by: IPAddress) -> None:
        heard = read_answer(version, data)
        if heard is None or heard[0] != self._id or heard[1] >= len(self._echoes):
            return
        key, echo = self._echoes[heard[1]]
        if heard[2] and by == echo.to:
            self._found[key] = Answer(by, reply=True)
        elif not heard[2] and any(by in prefix for prefix in echo.within):
            self._found.setdefault(key, Answer(by))


def _request(echo: Echo, identifier: int, number: int) -> bytes:
    version = echo.to.version
    body = bytes(max(echo.size - HEADERS[version], 0))
    head = ECHO.pack(REQUEST[version], 0, 0, identifier, number)
    return ECHO.pack(REQUEST[version], 0, checksum(head + body) if version == 4 else 0, identifier, number) + body


def read_answer(version: int, data: bytes) -> tuple[int, int, bool] | None:
    """Identifier and sequence number of our request, and whether this is its reply; None for anything else. Pure."""
    try:
        icmp = data[(data[0] & 0xF) * 4 :] if version == 4 else data
        kind, _, _, identifier, number = ECHO.unpack_from(icmp)
        if kind == REPLY[version]:
            return identifier, number, True
        if kind not in REFUSALS[version]:
            return None
        asked = icmp[ECHO.size :]
        kind, _, _, identifier, number = ECHO.unpack_from(asked, (asked[0] & 0xF) * 4 if version == 4 else 40)
    except (IndexError, struct.error):
        return None
    return (identifier, number, False) if kind == REQUEST[version] else None


def checksum(data: bytes) -> int:
    """RFC 1071; bytes of an even or odd number."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
