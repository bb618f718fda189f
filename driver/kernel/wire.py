"""How addresses, routes, neighbours and forwarding entries look in netlink's messages: packing and reading, pure.

Layouts: linux/netlink.h (nlmsghdr, nlattr), linux/rtnetlink.h (rtmsg), linux/neighbour.h (ndmsg), linux/if_addr.h
(ifaddrmsg); all in the machine's own byte order, everything aligned to four bytes."""

import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from driver.entries import AnyRoute, Fdb, Local, Neighbour, Route, Unreachable
from driver.host_network import HostRoute
from driver.state import Address
from store.ip import IPAddress, IPNetwork

HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
ATTRIBUTE = struct.Struct("=HH")  # length, type
RTMSG = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
RTNEXTHOP = struct.Struct("=HBxi")  # length, flags, ifindex
NDMSG = struct.Struct("=BxxxiHBB")  # family, ifindex, state, flags, type
IFINFO = struct.Struct("=BxHiII")  # family, type, index, flags, change
IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
NETCONF = 4  # bytes of netconfmsg
U32 = struct.Struct("=I")
S32 = struct.Struct("=i")

NLMSG_ERROR, NLMSG_DONE = 2, 3
NEW_LINK, DEL_LINK, GET_LINK = 16, 17, 18
NEW_ADDRESS, DEL_ADDRESS, GET_ADDRESS = 20, 21, 22
NEW_ROUTE, DEL_ROUTE, GET_ROUTE = 24, 25, 26
NEW_NEIGHBOUR, DEL_NEIGHBOUR, GET_NEIGHBOUR = 28, 29, 30
NEW_SWITCHES = 80  # RTM_NEWNETCONF
REQUEST, MULTI, ACK, DUMP_INTERRUPTED, DUMP = 0x1, 0x2, 0x4, 0x10, 0x300
REPLACE, EXCLUSIVE, CREATE = 0x100, 0x200, 0x400

RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC = 1, 4, 5, 6, 7
RTA_MULTIPATH, RTA_CACHEINFO, RTA_TABLE, RTA_VIA, RTA_PREF = 9, 12, 15, 18, 20
OF_ROUTES = frozenset((RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_CACHEINFO, RTA_TABLE, RTA_PREF))
IFLA_IFNAME = 3
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
NDA_DST, NDA_LLADDR, NDA_CACHEINFO, NDA_IFINDEX, NDA_MASTER = 1, 2, 3, 8, 9
NDA_LINK_NETNSID, NDA_FLAGS_EXT = 10, 15
OF_FDB = frozenset((NDA_DST, NDA_LLADDR, NDA_CACHEINFO, NDA_MASTER, NDA_LINK_NETNSID, NDA_FLAGS_EXT))
NETCONFA_IFINDEX, FORWARDING = 1, 2
ALL_LINKS = -1  # NETCONFA_IFINDEX_ALL
UP, EVERYTHING = 1, 0xFFFFFFFF  # IFF_UP; all flags at once
TYPE_MASK = 0x3FFF  # the rest of an attribute's type are flags

PROTOCOL = 0x66  # marks our routes
EVERY_TABLE, MAIN_TABLE, LOCAL_TABLE = 0, 254, 255
HOST_SCOPE, LINK_SCOPE, GLOBAL_SCOPE = 254, 253, 0
METRIC6 = 1024  # IP6_RT_PRIO_USER: of an IPv6 route that names none
UNICAST, LOCAL, BLACKHOLE, UNREACHABLE, PROHIBIT = 1, 2, 6, 7, 8  # RTN_*
ONLINK = 4  # RTNH_F_ONLINK
NOT_UP = 1 | 16  # RTNH_F_DEAD, RTNH_F_LINKDOWN
PERMANENT = 0x80  # NUD_PERMANENT
SELF = 0x02  # NTF_SELF: the device's own forwarding table
NO_PREFIX_ROUTE, NO_DAD = 0x200, 0x02  # IFA_F_*
FAMILIES = (socket.AF_INET, socket.AF_INET6)


def message(kind: int, flags: int, payload: bytes, sequence: int) -> bytes:
    return HEADER.pack(HEADER.size + len(payload), kind, flags, sequence, 0) + payload


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """(type, flags, sequence number, payload) of each message in what one `recv` gave."""
    for kind, flags, sequence, payloads in runs(data):
        for payload in payloads:
            yield kind, flags, sequence, payload


def runs(data: bytes) -> Iterator[tuple[int, int, int, list[bytes]]]:
    """The same, with the payloads of messages that differ in nothing else together: nearly all of a large table's do,
    and are taken apart in a tenth of the time."""
    at = 0
    while at < len(data):
        head = data[at : at + HEADER.size]
        length, kind, flags, sequence, _ = HEADER.unpack(head)
        size = (length + 3) & ~3
        payloads = []
        for found, payload in _cut(data, at, length, size):
            if found != head:
                break
            payloads.append(payload)
        yield kind, flags, sequence, payloads or [data[at + HEADER.size : at + length]]  # the last may lack its padding
        at += size * (len(payloads) or 1)


def _cut(data: bytes, at: int, length: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Heads and payloads, as if all messages from there on had this length, and with their padding this size."""
    whole = (len(data) - at) // size * size
    each = struct.Struct(f"{HEADER.size}s{length - HEADER.size}s{size - length}x")
    return each.iter_unpack(memoryview(data)[at : at + whole])


def attribute(kind: int, value: bytes) -> bytes:
    return ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def attributes(payload: bytes, at: int) -> dict[int, bytes]:
    found, end = {}, len(payload)
    while at + 4 <= end:
        length, kind = ATTRIBUTE.unpack_from(payload, at)
        if length < 4:
            break
        found[kind & TYPE_MASK] = payload[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def address(value: bytes) -> IPAddress:
    return IPv4Address(value) if len(value) == 4 else IPv6Address(value)


def prefix(family: int, value: bytes | None, length: int) -> IPNetwork:
    if family == socket.AF_INET:
        return IPv4Network((value or bytes(4), length))
    return IPv6Network((value or bytes(16), length))


def family_of(version: int) -> int:
    return socket.AF_INET if version == 4 else socket.AF_INET6


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def was_set_down(link: bytes) -> bool:
    """Not a link that was just made and never up: there, everything has changed."""
    _, _, _, flags, changed = IFINFO.unpack_from(link)
    return not flags & UP and bool(changed & UP) and changed != EVERYTHING


def read_switches(message: bytes) -> tuple[int, dict[int, int]]:
    """A link's number, or ALL_LINKS, and its switches under /proc/sys/net/ipv*/conf that the message is about."""
    found = {kind: S32.unpack(value)[0] for kind, value in attributes(message, NETCONF).items()}
    return found.pop(NETCONFA_IFINDEX, 0), found


# addresses


def pack_address(o: Address, index: int) -> bytes:
    """One that brings no route to its prefix, and is used at once, without a test for a second owner."""
    version, packed = o.address.version, o.address.ip.packed
    flags = NO_PREFIX_ROUTE | (NO_DAD if version == 6 else 0)
    head = IFADDRMSG.pack(family_of(version), o.address.network.prefixlen, 0, GLOBAL_SCOPE, index)
    ours = attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
    return head + ours + attribute(IFA_FLAGS, U32.pack(flags))


# routes


def pack_route(o: AnyRoute, index: int) -> bytes:
    """`index` is that of the route's link, unused for one that ends here."""
    destination, ours = o.destination, attribute(RTA_DST, o.destination.network_address.packed)
    kind, scope, flags, table, tos = UNICAST, GLOBAL_SCOPE, 0, MAIN_TABLE, 0
    if isinstance(o, Unreachable):
        kind = UNREACHABLE
    elif isinstance(o, Local):
        kind, scope, table = LOCAL, HOST_SCOPE, LOCAL_TABLE
        ours += attribute(RTA_OIF, U32.pack(index))
    else:
        ours += attribute(RTA_OIF, U32.pack(index))
        flags = ONLINK if o.onlink else 0
        if o.via is not None:
            ours += attribute(RTA_GATEWAY, o.via.packed)
        elif destination.version == 4:
            scope = LINK_SCOPE
        if o.source is not None:
            ours += attribute(RTA_PREFSRC, o.source.packed)
    if not isinstance(o, Local):
        tos = o.tos
        ours += attribute(RTA_PRIORITY, U32.pack(o.metric)) if o.metric else b""
    family = family_of(destination.version)
    return RTMSG.pack(family, destination.prefixlen, 0, tos, table, PROTOCOL, scope, kind, flags) + ours


def is_ours(route: bytes) -> bool:
    """Whether the payload of a route's message is a route of ours, in the main table or the local one."""
    return route[5] == PROTOCOL and route[4] in (MAIN_TABLE, LOCAL_TABLE)


def index_of_route(route: bytes) -> int | None:
    found = attributes(route, RTMSG.size).get(RTA_OIF)
    return U32.unpack(found)[0] if found else None


def read_route(route: bytes, dev: str) -> AnyRoute:
    family, length, _, tos, _, _, _, kind, flags = RTMSG.unpack_from(route)
    found = attributes(route, RTMSG.size)
    destination, odd = prefix(family, found.get(RTA_DST), length), _odd(found, OF_ROUTES)
    if kind == LOCAL:
        return Local(destination)
    metric = U32.unpack(found[RTA_PRIORITY])[0] if RTA_PRIORITY in found else 0
    metric = 0 if family == socket.AF_INET6 and metric == METRIC6 else metric
    if kind == UNREACHABLE:
        return Unreachable(destination, metric, tos, odd)
    via, source = (address(found[key]) if key in found else None for key in (RTA_GATEWAY, RTA_PREFSRC))
    return Route(dev, destination, via, source, bool(flags & ONLINK), metric, tos, odd)


def _odd(found: dict[int, bytes], usual: frozenset[int]) -> str:
    """The attributes that no entry of ours has, unless somebody changes it: an MTU, several ways, ..."""
    return "".join(f" attribute {kind}" for kind in sorted(found.keys() - usual))


def read_host_routes(route: bytes) -> list[HostRoute]:
    """One for each way that the route has, those that are up first. Nothing of a route of another table, or of one that
    leads nowhere."""
    family, length, _, _, table, _, _, kind, _ = RTMSG.unpack_from(route)
    if table != MAIN_TABLE or kind != UNICAST:
        return []
    found = attributes(route, RTMSG.size)
    index, metric = (U32.unpack(found[key])[0] if key in found else None for key in (RTA_OIF, RTA_PRIORITY))
    destination = prefix(family, found.get(RTA_DST), length)
    if RTA_MULTIPATH in found:
        return [HostRoute(destination, index, False, metric or 0) for index in _ways(found[RTA_MULTIPATH])]
    return [HostRoute(destination, index, not {RTA_GATEWAY, RTA_VIA} & found.keys(), metric or 0)]


def _ways(multipath: bytes) -> list[int]:
    """The links of a route over several, those that are up first."""
    up, down = list[int](), list[int]()
    at = 0
    while at + RTNEXTHOP.size <= len(multipath):
        length, flags, index = RTNEXTHOP.unpack_from(multipath, at)
        (down if flags & NOT_UP else up).append(index)
        at += (max(length, RTNEXTHOP.size) + 3) & ~3
    return up + down


def spoken_for(route: bytes) -> IPNetwork | None:
    """Where a route of any table leads, or forbids to go; None for those that the kernel makes of own addresses."""
    family, length, _, _, _, _, _, kind, _ = RTMSG.unpack_from(route)
    if kind not in (UNICAST, BLACKHOLE, UNREACHABLE, PROHIBIT):
        return None
    return prefix(family, attributes(route, RTMSG.size).get(RTA_DST), length)


# neighbours and forwarding entries


def pack_neighbour(o: Neighbour, index: int) -> bytes:
    head = NDMSG.pack(family_of(o.address.version), index, PERMANENT, 0, 0)
    return head + attribute(NDA_DST, o.address.packed) + attribute(NDA_LLADDR, mac_bytes(o.mac))


def pack_fdb(o: Fdb, index: int) -> bytes:
    return pack_fdb_mac(o, index) + attribute(NDA_DST, o.remote.packed)


def pack_fdb_mac(o: Fdb, index: int) -> bytes:
    """All that there is for this MAC, wherever it leads."""
    head = NDMSG.pack(socket.AF_BRIDGE, index, PERMANENT, SELF, 0)
    return head + attribute(NDA_LLADDR, mac_bytes(o.mac))


def index_of_neighbour(neighbour: bytes) -> int:
    return int(S32.unpack_from(neighbour, 4)[0])


def identity(neighbour: bytes) -> bytes:
    """As much of a neighbour's message as says which it is, and that this is all: up to what changes with time alone
    (NDA_CACHEINFO), whose own head is the last of it."""
    at, end = NDMSG.size, len(neighbour)
    while at + 4 <= end:
        length, kind = ATTRIBUTE.unpack_from(neighbour, at)
        if kind == NDA_CACHEINFO or length < 4:
            return neighbour[: at + 4]
        at += (length + 3) & ~3
    return neighbour


def read_neighbour(neighbour: bytes, dev: str) -> Neighbour | Fdb | None:
    """None for what is no entry of ours: one that was learned, or that names no other host."""
    family, _, state, _, _ = NDMSG.unpack_from(neighbour)
    found = attributes(neighbour, NDMSG.size)
    to, mac = found.get(NDA_DST), found.get(NDA_LLADDR)
    if not to or not mac:
        return None
    if family == socket.AF_BRIDGE:
        odd = _odd(found, OF_FDB) + ("" if state & PERMANENT else " for a time")
        return Fdb(dev, mac.hex(":"), address(to), odd)
    return Neighbour(dev, address(to), mac.hex(":")) if state & PERMANENT else None


def neighbour_named(neighbour: bytes, dev: str) -> Neighbour | None:
    """The neighbour that a message is about, even if there is no MAC; None if it is about something else."""
    to = attributes(neighbour, NDMSG.size).get(NDA_DST)
    return Neighbour(dev, address(to), "") if to and neighbour[0] != socket.AF_BRIDGE else None
