"""How far other hosts' clocks are from this one's, by ICMP's timestamps (RFC 792), which their kernels answer: nobody
has to have flannelpy, nor is anything written down for it. They tell the time of day, so whole days are not seen, and
some firewalls let only echoes pass: who does not answer is not told of. There is no such thing in ICMPv6."""

import secrets
import socket
import struct
import time
from collections.abc import Mapping
from ipaddress import IPv4Address, ip_address

from driver.probe import checksum

TIMESTAMP = struct.Struct("!BBHHHIII")  # type, code, checksum, identifier, sequence, originate, receive, transmit
REQUEST, REPLY = 13, 14
DAY = 86_400_000  # milliseconds
NONSTANDARD = 1 << 31  # set in a time that is not of UTC


def ahead(hosts: Mapping[str, IPv4Address], timeout: float) -> dict[str, float]:
    """By how many seconds the clocks of those that answer are ahead of this one. OSError without the right to ask."""
    identifier, names, found = secrets.randbelow(1 << 16), list(hosts), dict[str, float]()
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as made:
        for number, name in enumerate(names):
            try:
                made.sendto(_request(identifier, number, _now()), (str(hosts[name]), 0))
            except OSError:  # no route, or a rule forbids it: the doctor's echoes tell of that
                continue
        until = time.monotonic() + timeout
        while len(found) < len(names) and (left := until - time.monotonic()) > 0:
            made.settimeout(left)
            try:
                data, (by, _) = made.recvfrom(1 << 16)
            except TimeoutError:
                break
            told = read_answer(data, identifier, _now())
            if told and told[0] < len(names) and hosts[names[told[0]]] == ip_address(by):
                found[names[told[0]]] = told[1]
    return found


def read_answer(data: bytes, identifier: int, now: int) -> tuple[int, float] | None:
    """Sequence number and seconds, of an answer to ours; None for anything else. Pure."""
    try:
        kind, _, _, whose, number, sent, came, went = TIMESTAMP.unpack_from(data, (data[0] & 0xF) * 4)
    except (IndexError, struct.error):
        return None
    if kind != REPLY or whose != identifier or (came | went) & NONSTANDARD:
        return None
    there, back = _shortest(came - sent), _shortest(went - now)
    return number, (there + back) / 2000


def _request(identifier: int, number: int, now: int) -> bytes:
    blank = TIMESTAMP.pack(REQUEST, 0, 0, identifier, number, now, 0, 0)
    return TIMESTAMP.pack(REQUEST, 0, checksum(blank), identifier, number, now, 0, 0)


def _now() -> int:
    """Milliseconds since midnight, UTC."""
    return time.time_ns() // 1_000_000 % DAY


def _shortest(difference: int) -> int:
    """Between two times of day, across midnight if that is nearer."""
    return (difference + DAY // 2) % DAY - DAY // 2
