"""IP packets as a kernel makes them, and the segments that a network card would make of them."""

import socket
import struct
from dataclasses import dataclass
from ipaddress import ip_address

from driver.forwarder.wire import NEEDS_CSUM, TCP4, TCP6, UDP, VNET, WHOLE

A, B = {4: "10.240.1.5", 6: "fd77::105"}, {4: "10.240.2.7", 6: "fd77::207"}
FIN, PSH, ACK, CWR = 0x01, 0x08, 0x10, 0x80


@dataclass(frozen=True)
class Burst:
    """What a kernel hands over in one piece."""

    vnet: bytes
    packet: bytes


def tcp(
    payload: bytes, gso_size: int, *, version: int = 4, seq: int = 0xFFFFFF00, ident: int = 0xFFF0, flags: int = ACK
) -> Burst:
    options = bytes.fromhex("0101080a") + bytes(8)
    header = struct.pack("!HHIIBBHHH", 4000, 80, seq, 77, 8 << 4, flags, 512, 0, 0) + options
    return _burst(version, socket.IPPROTO_TCP, header, 16, payload, gso_size, ident, TCP4 if version == 4 else TCP6)


def udp(payload: bytes, gso_size: int, *, version: int = 4, ident: int = 5) -> Burst:
    header = struct.pack("!HHHH", 4000, 53, 8 + len(payload), 0)
    return _burst(version, socket.IPPROTO_UDP, header, 6, payload, gso_size, ident, UDP)


def _burst(
    version: int, proto: int, header: bytes, offset: int, payload: bytes, gso_size: int, ident: int, gso_type: int
) -> Burst:
    partial = _sum(_pseudo(version, proto, len(header) + len(payload)))
    header = header[:offset] + struct.pack("!H", partial) + header[offset + 2 :]
    ip = _ip(version, proto, len(header) + len(payload), ident)
    if len(payload) <= gso_size:
        return Burst(VNET.pack(NEEDS_CSUM, WHOLE, 0, 0, len(ip), offset), ip + header + payload)
    return Burst(VNET.pack(NEEDS_CSUM, gso_type, 0, gso_size, len(ip), offset), ip + header + payload)


def _ip(version: int, proto: int, length: int, ident: int) -> bytes:
    source, target = ip_address(A[version]).packed, ip_address(B[version]).packed
    if version == 6:
        return struct.pack("!IHBB", 6 << 28, length, proto, 63) + source + target
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, ident & 0xFFFF, 0x4000, 63, proto, 0) + source + target
    return header[:10] + struct.pack("!H", ~_sum(header) & 0xFFFF) + header[12:]


def _pseudo(version: int, proto: int, length: int) -> bytes:
    source, target = ip_address(A[version]).packed, ip_address(B[version]).packed
    return source + target + struct.pack("!IHBB", length, 0, 0, proto)


def _sum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total > 0xFFFF:
        total = (total >> 16) + (total & 0xFFFF)
    return total


def on_the_wire(vnet: bytes, packet: bytes) -> list[bytes]:
    """What a network card sends: segments, with complete checksums. An independent account of what is right."""
    flags, gso_type, _, gso_size, start, offset = VNET.unpack(vnet)
    if not flags & NEEDS_CSUM:
        return [packet]
    proto = socket.IPPROTO_TCP if offset == 16 else socket.IPPROTO_UDP
    length = start + ((packet[start + 12] >> 4) * 4 if proto == socket.IPPROTO_TCP else 8)
    version = packet[0] >> 4
    assert packet[start + offset : start + offset + 2] == struct.pack(
        "!H", _sum(_pseudo(version, proto, len(packet) - start))
    )
    assert version == 6 or _sum(packet[:start]) == 0xFFFF
    if gso_type == WHOLE:
        gso_size = max(1, len(packet) - length)
    places = range(length, len(packet), gso_size) or [length]
    return [_segment(packet, start, length, offset, proto, at, gso_size) for at in places]


def _segment(packet: bytes, start: int, length: int, offset: int, proto: int, at: int, gso_size: int) -> bytes:
    made, payload = bytearray(packet[:length]), packet[at : at + gso_size]
    done, is_last = at - length, at + gso_size >= len(packet)
    version, size = packet[0] >> 4, length - start + len(payload)
    if version == 4:
        (ident,) = struct.unpack_from("!H", made, 4)
        made[:start] = _ip(4, proto, size, ident + done // gso_size)
    else:
        made[:start] = _ip(6, proto, size, 0)
    if proto == socket.IPPROTO_UDP:
        struct.pack_into("!H", made, start + 4, size)
    else:
        (seq,) = struct.unpack_from("!I", made, start + 4)
        struct.pack_into("!I", made, start + 4, (seq + done) % (1 << 32))
        made[start + 13] &= (0xFF if is_last else ~(FIN | PSH) & 0xFF) & (~CWR & 0xFF if done else 0xFF)
    made[start + offset : start + offset + 2] = bytes(2)
    checksum = ~_sum(_pseudo(version, proto, size) + bytes(made[start:]) + payload) & 0xFFFF
    struct.pack_into("!H", made, start + offset, checksum)
    return bytes(made) + payload
