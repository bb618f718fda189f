"""What the forwarders of two hosts send each other: pure functions.

Every datagram is one packet of the inner network behind a header of 16 bytes:

     0  version      1 byte, 1
     1  csum_offset  1 byte, as in the virtio-net header
     2  index        2 bytes, which segment of its burst this is
     4  vni          3 bytes
     7  kind         1 byte, the virtio-net header's gso_type, and CHECKSUM
     8  csum_start   2 bytes, as in the virtio-net header
    10  gso_size     2 bytes, payload in each segment but the last
    12  burst        4 bytes, a number that all segments of a burst share

A burst is what the kernel hands over in one piece: a TCP or UDP packet of up to 64 KiB, of which it expects the network
card to make segments. Each datagram carries one segment behind the burst's own IP and TCP headers, unchanged. So no
datagram needs another to be understood: what is lost is lost alone, as without a tunnel, and nothing waits for
anything. Segments that arrive side by side are put together again and handed to the kernel in one piece.

Nobody computes a TCP checksum here: the kernel's is partial, and is completed where the packet leaves the kernels."""

import struct
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import NamedTuple

from driver.forwarder.room import Room

VERSION = 1
HEADER = struct.Struct("!BBHIHHI")
VNET = struct.Struct("=BBHHHH")  # struct virtio_net_hdr: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset
OVERHEAD = HEADER.size
MOST_SEGMENTS = 2048  # of a burst: Linux makes no TCP segments of less than 48 bytes
NEEDS_CSUM = 1  # VIRTIO_NET_HDR_F_NEEDS_CSUM
WHOLE, TCP4, TCP6, UDP, ECN = 0, 1, 4, 5, 0x80  # VIRTIO_NET_HDR_GSO_*
CHECKSUM = 0x40  # in `kind`: the checksum at csum_start + csum_offset is partial
CSUM_OFFSET = {TCP4: 16, TCP6: 16, UDP: 6}
FIN_PSH, CWR = 0x09, 0x80
FRAGMENT = 0x3FFF  # IPv4: more fragments, or an offset

Buffer = bytes | bytearray | memoryview


class Malformed(Exception):
    """No packet of ours, or one that contradicts itself."""


class Packet(NamedTuple):
    """A packet for the kernel: a virtio-net header, and the packet in pieces."""

    vni: int
    source: bytes
    parts: list[Buffer]


def header(vni: int, vnet: Buffer) -> bytes | None:
    """What goes before a packet that is none of a burst; None for a burst."""
    flags, gso_type, _, _, start, offset = VNET.unpack_from(vnet)
    if gso_type != WHOLE:
        return None
    if flags & NEEDS_CSUM:
        return HEADER.pack(VERSION, offset, 0, vni << 8 | CHECKSUM, start, 0, 0)
    return HEADER.pack(VERSION, 0, 0, vni << 8, 0, 0, 0)


def segments(vni: int, burst: int, room: Room, end: int) -> tuple[list[Buffer], int]:
    """A burst, which lies in the room with its virtio-net header, as datagrams of two parts each, and the size that all
    but the last have."""
    _, gso_type, _, gso_size, start, offset = VNET.unpack_from(room.view)
    packet = room.view[VNET.size : end]
    length = _headers_length(gso_type, start, packet)
    if not gso_size or gso_size * MOST_SEGMENTS < len(packet) - length:
        raise Malformed
    rest = (
        HEADER.pack(VERSION, offset, 0, vni << 8 | gso_type | CHECKSUM, start, gso_size, burst)[4:]
        + packet[:length].tobytes()
    )
    full, tail = divmod(len(packet) - length, gso_size)
    count = full + bool(tail)
    parts: list[Buffer] = [b""] * (2 * count)
    parts[::2] = [front + rest for front in _fronts(offset)[:count]]
    parts[1::2] = room.pieces(VNET.size + length, gso_size, gso_size, 0, count)
    if tail:
        parts[-1] = packet[-tail:]
    return parts, OVERHEAD + length + gso_size


def packets(room: Room, end: int, size: int) -> Iterator[Packet | None]:
    """The packets in datagrams of one sender that lie in the room side by side, `size` bytes each but for the last.

    None for each datagram that is no packet of ours."""
    at, batch = 0, room.view[:end]
    while at < end:
        packet, count = None, 1
        try:
            if batch[at + 7] & ~CHECKSUM == WHOLE:
                packet = _whole(batch[at : at + size])
            else:
                packet, count = _segments(room, batch, at, size)
        except (Malformed, struct.error, IndexError):
            pass
        yield packet
        at += count * size


def _whole(datagram: memoryview) -> Packet:
    version, offset, _, kind, start, _, _ = HEADER.unpack_from(datagram)
    packet, flags = datagram[OVERHEAD:], NEEDS_CSUM if kind & CHECKSUM else 0
    if version != VERSION or _total(packet) != len(packet) or (flags and start + offset + 2 > len(packet)):
        raise Malformed
    return Packet(kind >> 8, source(packet), [VNET.pack(flags, WHOLE, 0, 0, start, offset), packet])


def _segments(room: Room, batch: memoryview, at: int, size: int) -> tuple[Packet, int]:
    """The segments of one burst that come there, as one packet, and how many they are."""
    version, offset, first, kind, start, gso_size, _ = HEADER.unpack_from(batch, at)
    headers = _checked_headers(version, offset, kind & 0xFF, start, batch[at + OVERHEAD : at + size])
    payload, begin = _total(headers) - len(headers), OVERHEAD + len(headers)
    if payload <= 0 or gso_size == 0:
        raise Malformed
    last = (payload - 1) // gso_size
    count = _alike(batch[at:], size, _fronts(offset)[first : last + 1], batch[at + 4 : at + begin].tobytes())
    full, tail = count - 1, payload - last * gso_size if first + count > last else gso_size
    if count and min(size, len(batch) - at - full * size) != begin + tail:
        count, tail = full, gso_size  # the last of them is not as long as it says: it is looked at again by itself
    if count == 0 or (full and size != begin + gso_size):
        raise Malformed
    gso_type, length = kind & 0xFF & ~CHECKSUM, (count - 1) * gso_size + tail
    if count == last + 1:
        new: Buffer = headers
    else:
        new = _resized(headers, gso_type, start, first * gso_size, length, first, is_last=first + count > last)
        gso_type &= ~ECN
    gso = (gso_type, len(headers), gso_size) if count > 1 else (WHOLE, 0, 0)
    payloads = room.pieces(begin, size - begin, size, at // size, count)
    payloads[-1] = payloads[-1][:tail]
    return Packet(kind >> 8, source(headers), [VNET.pack(NEEDS_CSUM, *gso, start, offset), new, *payloads]), count


def _alike(batch: memoryview, size: int, fronts: tuple[bytes, ...], rest: bytes) -> int:
    """How many of the first datagrams begin with these fronts, and then with `rest`."""
    length = 4 + len(rest)
    most = min(len(fronts), (len(batch) - length) // size + 1)
    found = b"".join(_begins(length, size, most).unpack_from(batch)) if most else b""
    wanted = rest.join((*fronts[:most], b""))
    if found == wanted:
        return most
    return next(at for at in range(most) if found[at * length :][:length] != wanted[at * length :][:length])


def _checked_headers(version: int, offset: int, kind: int, start: int, packet: memoryview) -> memoryview:
    """The IP and TCP (or UDP) headers of a segment."""
    gso_type, ip = kind & ~CHECKSUM & ~ECN, packet[0] >> 4
    if version != VERSION or not kind & CHECKSUM or CSUM_OFFSET.get(gso_type) != offset:
        raise Malformed
    if ip == 4:
        (fragment,) = struct.unpack_from("!H", packet, 6)
        fits = gso_type != TCP6 and start == (packet[0] & 0xF) * 4 >= 20 and not fragment & FRAGMENT
    else:
        fits = gso_type != TCP4 and start >= 40
    length = _headers_length(gso_type, start, packet)
    if not fits or not start + 8 <= length < len(packet) or (gso_type != UDP and length < start + 20):
        raise Malformed
    return packet[:length]


def _headers_length(gso_type: int, start: int, packet: memoryview) -> int:
    """Not the virtio-net header's hdr_len: for what it forwards, Linux puts another number there."""
    return start + (8 if gso_type == UDP else (packet[start + 12] >> 4) * 4)


def _resized(
    headers: memoryview, gso_type: int, start: int, skipped: int, length: int, first: int, *, is_last: bool
) -> bytearray:
    """The headers of a burst for some of its segments: `length` bytes of payload after `skipped` ones."""
    new, total = bytearray(headers), len(headers) + length
    if new[0] >> 4 == 4:
        (number,) = struct.unpack_from("!H", new, 4)
        struct.pack_into("!HH", new, 2, total, number + first & 0xFFFF)
        new[10:12] = bytes(2)
        struct.pack_into("!H", new, 10, ~_ones_sum(struct.unpack_from(f"!{start // 2}H", new)) & 0xFFFF)
    else:
        struct.pack_into("!H", new, 4, total - 40)
    # The partial checksum is the pseudo header's, and the length is a part of that.
    at = start + CSUM_OFFSET[gso_type & ~ECN]
    (partial,) = struct.unpack_from("!H", new, at)
    struct.pack_into("!H", new, at, _ones_sum((partial, total - start, ~(_total(headers) - start) & 0xFFFF)))
    if gso_type == UDP:
        struct.pack_into("!H", new, start + 4, total - start)
    else:
        (sequence,) = struct.unpack_from("!I", new, start + 4)
        struct.pack_into("!I", new, start + 4, sequence + skipped & 0xFFFFFFFF)
        new[start + 13] &= (0xFF if is_last else ~FIN_PSH) & (~CWR if first else 0xFF)
    return new


def _total(packet: memoryview) -> int:
    """The length of an IP packet, by its own header."""
    version = packet[0] >> 4
    if version == 4 and len(packet) >= 20:
        return packet[2] << 8 | packet[3]
    if version == 6 and len(packet) >= 40:
        return 40 + (packet[4] << 8 | packet[5])
    raise Malformed


def source(packet: memoryview) -> bytes:
    """The packed source address of an IP packet, or some bytes that are no address if it is none."""
    return (packet[12:16] if packet[0] >> 4 == 4 else packet[8:24]).tobytes()


def destination(packet: memoryview) -> bytes:
    return (packet[16:20] if packet[0] >> 4 == 4 else packet[24:40]).tobytes()


def _ones_sum(words: tuple[int, ...]) -> int:
    """The sum of 16-bit words in one's complement, as IP checksums have it."""
    return (sum(words) - 1) % 0xFFFF + 1 if any(words) else 0


@lru_cache(maxsize=128)
def _begins(length: int, size: int, count: int) -> struct.Struct:
    """The first bytes of each of so many datagrams."""
    return struct.Struct(f"{length}s{size - length}x" * (count - 1) + f"{length}s")


@cache
def _fronts(offset: int) -> tuple[bytes, ...]:
    """The first four bytes of the datagrams of a burst, in their order."""
    return tuple(struct.pack("!BBH", VERSION, offset, index) for index in range(MOST_SEGMENTS))
