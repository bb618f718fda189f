"""Links and addresses as netlink tells of them. There are as many as containers, and they are looked at after every
change, so what a message says is remembered by its bytes."""

import socket
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_interface
from typing import NamedTuple

from driver.host_network import AddressSeen, LinkSeen
from driver.kernel import wire
from driver.kernel.rawsocket import RawSocket
from driver.state import LinkSwitches
from store.ip import IPAddress

IFLA_ADDRESS, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO, IFLA_AF_SPEC, IFLA_EXT_MASK = 1, 4, 5, 10, 18, 26, 29
IFLA_INET_CONF, IFLA_INET6_CONF = 1, 2  # in IFLA_AF_SPEC: /proc/sys/net/ipv*/conf, 32 bits each
PROXY_ARP, RP_FILTER, ROUTE_LOCALNET, ACCEPT_RA = 2, 7, 25, 3  # their places there: IPV4_DEVCONF_* - 1, DEVCONF_*
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
VXLAN_ID, VXLAN_LOCAL, VXLAN_PORT, VXLAN_LOCAL6 = 1, 4, 15, 17  # IFLA_VXLAN_*, the port in network byte order
VXLAN_SWITCHES = 5, 6, 7  # TTL, TOS and learning: each one byte, and 0 in ours
TUN_TYPE, TUN_MULTI_QUEUE = 3, 7  # IFLA_TUN_*, one byte each
OF_PACKETS = b"\x01"  # IFF_TUN, unlike a TAP device's
ETHERNET = 1  # ARPHRD_ETHER
SKIP_STATISTICS = 8  # RTEXT_FILTER_SKIP_STATS: they change all the time
LINKS = 4096  # remembered, each with its message of 1.3 KB: those of containers come and go
ADDRESSES = 16_384


def dump_links(kernel: RawSocket) -> list[bytes]:
    mask = wire.attribute(IFLA_EXT_MASK, wire.U32.pack(SKIP_STATISTICS))
    return kernel.dump(wire.GET_LINK, wire.IFINFO.pack(0, 0, 0, 0, 0) + mask)


def dump_addresses(kernel: RawSocket) -> list[AddressSeen]:
    heads = [wire.IFADDRMSG.pack(family, 0, 0, 0, 0) for family in wire.FAMILIES]
    return [address_of(raw) for head in heads for raw in kernel.dump(wire.GET_ADDRESS, head)]


@lru_cache(LINKS)
def link_of(raw: bytes) -> LinkSeen:
    _, hardware, index, flags, _ = wire.IFINFO.unpack_from(raw)
    found = wire.attributes(raw, wire.IFINFO.size)
    mtu, other = (wire.U32.unpack(found[kind])[0] if kind in found else None for kind in (IFLA_MTU, IFLA_LINK))
    name, mac = _text(found.get(wire.IFLA_IFNAME, b"")), found.get(IFLA_ADDRESS, b"").hex(":")
    kind = _text(wire.attributes(found.get(IFLA_LINKINFO, b""), 0).get(IFLA_INFO_KIND, b""))
    up, ethernet, ported = bool(flags & wire.UP), hardware == ETHERNET, IFLA_MASTER in found
    return LinkSeen(index, name, up, mtu or 0, other, mac, kind, ethernet, ported)


def _text(value: bytes) -> str:
    """A link's name may be any bytes."""
    return value.rstrip(b"\0").decode(errors="replace")


class Tunnel(NamedTuple):
    """Of a VXLAN device. One that somebody else made may have no address of its own."""

    vni: int
    local: IPAddress
    port: int
    plain: bool  # TTL and TOS as the kernel chooses them, and nothing learned


def tunnel_of(raw: bytes) -> Tunnel:
    """Not through pyroute2: it takes a millisecond, and two threads that read a message at once disturb each other."""
    found = _info_data(raw)
    vni = wire.U32.unpack(found[VXLAN_ID])[0] if VXLAN_ID in found else 0
    local = found.get(VXLAN_LOCAL) or found.get(VXLAN_LOCAL6) or bytes(4)
    plain = not any(any(found.get(switch, b"")) for switch in VXLAN_SWITCHES)
    return Tunnel(vni, wire.address(local), int.from_bytes(found.get(VXLAN_PORT, b""), "big"), plain)


def is_for_a_forwarder(raw: bytes) -> bool:
    """Of a TUN or TAP device: it carries packets and no frames, and has one queue. No other can be opened as such."""
    found = _info_data(raw)
    return found.get(TUN_TYPE, OF_PACKETS) == OF_PACKETS and not any(found.get(TUN_MULTI_QUEUE, b""))


def _info_data(raw: bytes) -> dict[int, bytes]:
    """What a link has because of its kind."""
    info = wire.attributes(wire.attributes(raw, wire.IFINFO.size).get(IFLA_LINKINFO, b""), 0)
    return wire.attributes(info.get(IFLA_INFO_DATA, b""), 0)


@lru_cache(LINKS)
def switches_of(raw: bytes, dev: str) -> LinkSwitches:
    families = wire.attributes(wire.attributes(raw, wire.IFINFO.size).get(IFLA_AF_SPEC, b""), 0)
    conf4 = _conf(families.get(socket.AF_INET, b""), IFLA_INET_CONF)
    conf6 = _conf(families.get(socket.AF_INET6, b""), IFLA_INET6_CONF)
    guarded = conf4(RP_FILTER) == 1 and conf6(ACCEPT_RA) == 0
    return LinkSwitches(dev, conf4(PROXY_ARP) != 0, conf4(ROUTE_LOCALNET) != 0, guarded)


def _conf(family: bytes, kind: int) -> Callable[[int], int]:
    """Each switch by its place, 0 for what this kernel has not."""
    values = wire.attributes(family, 0).get(kind, b"")
    return lambda place: wire.U32.unpack_from(values, 4 * place)[0] if len(values) >= 4 * place + 4 else 0


@lru_cache(ADDRESSES)
def address_of(raw: bytes) -> AddressSeen:
    _, length, flags, scope, index = wire.IFADDRMSG.unpack_from(raw)
    found = wire.attributes(raw, wire.IFADDRMSG.size)
    value = found.get(wire.IFA_LOCAL) or found[wire.IFA_ADDRESS]
    if wire.IFA_FLAGS in found:  # all of them: the head has room for eight
        flags = wire.U32.unpack(found[wire.IFA_FLAGS])[0]
    return AddressSeen(index, ip_interface(f"{wire.address(value)}/{length}"), scope, flags)
