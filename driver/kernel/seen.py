"""Links and addresses as netlink tells of them. There are as many as containers, and they are looked at after every
change, so what a message says is remembered by its bytes."""

from functools import lru_cache
from ipaddress import ip_interface
from typing import Any

from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from driver.host_network import AddressSeen, LinkSeen
from driver.kernel import wire
from driver.kernel.rawsocket import RawSocket

IFLA_ADDRESS, IFLA_MTU, IFLA_LINK, IFLA_LINKINFO, IFLA_EXT_MASK = 1, 4, 5, 18, 29
IFLA_INFO_KIND = 1
ETHERNET = 1  # ARPHRD_ETHER
SKIP_STATISTICS = 8  # RTEXT_FILTER_SKIP_STATS: they change all the time
REMEMBERED = 16_384


def dump_links(socket: RawSocket) -> list[bytes]:
    mask = wire.attribute(IFLA_EXT_MASK, wire.U32.pack(SKIP_STATISTICS))
    return socket.dump(wire.GET_LINK, wire.IFINFO.pack(0, 0, 0, 0, 0) + mask)


def dump_addresses(socket: RawSocket) -> list[AddressSeen]:
    heads = [wire.IFADDRMSG.pack(family, 0, 0, 0, 0) for family in wire.FAMILIES]
    return [address_of(raw) for head in heads for raw in socket.dump(wire.GET_ADDRESS, head)]


@lru_cache(REMEMBERED)
def link_of(raw: bytes) -> LinkSeen:
    _, hardware, index, flags, _ = wire.IFINFO.unpack_from(raw)
    found = wire.attributes(raw, wire.IFINFO.size)
    mtu, other = (wire.U32.unpack(found[kind])[0] if kind in found else None for kind in (IFLA_MTU, IFLA_LINK))
    name, mac = _text(found.get(wire.IFLA_IFNAME, b"")), found.get(IFLA_ADDRESS, b"").hex(":")
    kind = _text(wire.attributes(found.get(IFLA_LINKINFO, b""), 0).get(IFLA_INFO_KIND, b""))
    return LinkSeen(index, name, bool(flags & wire.UP), mtu or 0, other, mac, kind, hardware == ETHERNET)


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode()


@lru_cache(REMEMBERED >> 4)
def details_of(raw: bytes) -> Any:
    """A link with all that depends on its type, as pyroute2 reads it, which takes a millisecond."""
    message = ifinfmsg(wire.message(wire.NEW_LINK, 0, raw, 0))
    message.decode()
    return message


@lru_cache(REMEMBERED)
def address_of(raw: bytes) -> AddressSeen:
    _, length, flags, scope, index = wire.IFADDRMSG.unpack_from(raw)
    found = wire.attributes(raw, wire.IFADDRMSG.size)
    value = found.get(wire.IFA_LOCAL) or found[wire.IFA_ADDRESS]
    if wire.IFA_FLAGS in found:  # all of them: the head has room for eight
        flags = wire.U32.unpack(found[wire.IFA_FLAGS])[0]
    return AddressSeen(index, ip_interface(f"{wire.address(value)}/{length}"), scope, flags)
