"""Packets made by hand, as somebody makes them who means no good."""

import socket
import struct
from ipaddress import ip_address

UDP = 17


def udp_packet(source: str, target: str, port: int, payload: bytes) -> bytes:
    """An IPv4 or IPv6 packet with a UDP datagram to `port`."""
    one, other = ip_address(source), ip_address(target)
    length = 8 + len(payload)
    datagram = struct.pack("!HHHH", 4444, port, length, 0) + payload
    if one.version == 4:  # where a datagram needs no checksum
        header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + length, 0, 0, 64, UDP, 0, one.packed, other.packed)
        return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + datagram
    pseudo = one.packed + other.packed + struct.pack("!II", length, UDP)
    datagram = datagram[:6] + struct.pack("!H", checksum(pseudo + datagram) or 0xFFFF) + datagram[8:]
    return struct.pack("!IHBB", 6 << 28, length, UDP, 64) + one.packed + other.packed + datagram


def sctp_init(source: int, target: int) -> bytes:
    """What begins an SCTP association (RFC 9260, 3.3.2): the common header and an INIT chunk."""
    chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 0x01020304, 65536, 1, 1, 1)
    packet = struct.pack("!HHII", source, target, 0, 0) + chunk
    return packet[:8] + struct.pack("<I", crc32c(packet)) + packet[12:]


def crc32c(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def vxlan_payload(vni: int, mac: str, packet: bytes) -> bytes:
    """What a VXLAN tunnel's UDP datagram holds: the packet in a frame to `mac`."""
    return struct.pack("!II", 0x08000000, vni << 8) + frame_of(packet, mac)


def frame_of(packet: bytes, mac: str) -> bytes:
    ether = 0x0800 if packet[0] >> 4 == 4 else 0x86DD
    return bytes.fromhex(mac.replace(":", "")) + bytes.fromhex("020000000042") + struct.pack("!H", ether) + packet


def checksum(data: bytes) -> int:
    words = struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2))
    total: int = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def send_frame(packet: bytes, mac: str, link: str = "eth0") -> None:
    """Put the packet on the link, whatever the routes say."""
    put_on_the_wire(frame_of(packet, mac), link)


def put_on_the_wire(frame: bytes, link: str = "eth0") -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as card:
        card.bind((link, 0))
        card.send(frame)
