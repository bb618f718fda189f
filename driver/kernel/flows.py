"""The flows that the kernel tracks: those which a published port led elsewhere are forgotten, and those of which the
kernel has not seen all.

Every packet of a flow is translated as its first one was, whatever the rules say by then. A client that keeps sending
from one port, as UDP's do, would be sent to a container that is gone, or kept from one that has come, for ever. Once
the flow is forgotten its next packet is a first one.

Of a flow whose packets went past it for a while (driver/fast_path), the kernel remembers numbers that none of them has
any more, and calls them invalid. Once forgotten, it is one that was there before, of which the kernel expects nothing.

Layouts: linux/netfilter/nfnetlink.h (nfgenmsg) and nfnetlink_conntrack.h (CTA_*); ports and flags of a flow in network
byte order, those of a filter in the machine's own."""

import struct
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from driver.errors import KernelError
from driver.kernel import wire
from driver.kernel.rawsocket import RawSocket
from driver.kernel.seen import dump_addresses
from driver.translations import Entrance, Target
from store.ip import IPAddress, IPNetwork

NETLINK_NETFILTER = 12
GET_FLOW, DELETE_FLOW = 1 << 8 | 1, 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET and _DELETE
NFGENMSG = struct.Struct("!BBH")  # family, version, resource
PORT = struct.Struct("!H")
NESTED = 0x8000  # NLA_F_NESTED
TUPLE_ORIGINAL, TUPLE_REPLY, ID, ZONE, FILTER = 1, 2, 12, 18, 25  # CTA_*
TUPLE_IP, TUPLE_PROTO = 1, 2
SOURCE, DESTINATION = (1, 3), (2, 4)  # CTA_IP_*, of IPv4 and of IPv6
NUMBER, SOURCE_PORT, DESTINATION_PORT = 1, 2, 3  # CTA_PROTO_*
FILTER_ORIGINAL, BY_NUMBER_AND_PORT = 1, 1 << 3 | 1 << 5  # CTA_FILTER_F_CTA_PROTO_NUM and _DST_PORT


FEW = 8  # ports asked for one by one: for each question the kernel walks its whole table, which takes some 10 ms
EVERY: dict[int, IPAddress] = {4: IPv4Address(0), 6: IPv6Address(0)}


class Flow(NamedTuple):
    to: Entrance  # what its first packet was sent to
    answering: Target  # who got it, after translation
    caller: IPAddress  # who sent it
    identity: bytes  # the attributes by which the kernel knows it


def forget(leading: Mapping[Entrance, Target | None]) -> int:
    """Forget the flows that came in by these and went elsewhere than they lead to (None: nowhere); how many they were.
    KernelError."""

    def filters(version: int) -> list[bytes]:
        ports = {(entrance.protocol, entrance.port) for entrance in leading if entrance.address.version == version}
        return [_only(*port) for port in ports] if len(ports) <= FEW else [b""]

    with _explained():
        own = _own_addresses()
        asked = {version: filters(version) for version in EVERY}
        return _forget(asked, lambda flow: _went_elsewhere(flow, leading, own))


def forget_within(pools: Collection[IPNetwork]) -> int:
    """Forget the flows from these pools to these that are not translated; how many they were. KernelError."""

    def is_within(flow: Flow) -> bool:
        ends = flow.caller, flow.to.address
        return flow.to.address == flow.answering.address and all(any(end in pool for pool in pools) for end in ends)

    with _explained():
        return _forget({version: [b""] for version in {pool.version for pool in pools}}, is_within)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise KernelError(f"forgetting tracked flows: {error}") from error


def _own_addresses() -> set[IPAddress]:
    links = RawSocket()
    try:
        return {seen.interface.ip for seen in dump_addresses(links)}
    finally:
        links.close()


def _forget(asked: Mapping[int, Sequence[bytes]], is_stale: Callable[[Flow], bool]) -> int:
    """`asked` are filters by IP version."""
    flows, count = RawSocket(protocol=NETLINK_NETFILTER), 0
    try:
        for version, filters in asked.items():
            head = NFGENMSG.pack(wire.family_of(version), 0, 0)
            found = (_read_flow(raw) for which in filters for raw in flows.dump(GET_FLOW, head + which))
            stale = {flow.identity for flow in found if is_stale(flow)}
            # one that is refused has ended by itself
            flows.change([(DELETE_FLOW, 0, head + identity) for identity in stale])
            count += len(stale)
    finally:
        flows.close()
    return count


def _went_elsewhere(flow: Flow, leading: Mapping[Entrance, Target | None], own: Collection[IPAddress]) -> bool:
    """Not what this host forwards to the same port of another."""
    entrances = [flow.to]
    if flow.to.address in own or flow.to.address.is_loopback:
        entrances.append(flow.to._replace(address=EVERY[flow.to.address.version]))
    return any(entrance in leading and leading[entrance] != flow.answering for entrance in entrances)


def _only(protocol: int, port: int) -> bytes:
    """What asks for the flows to a port alone, at any address. Linux before 5.8 tells of all the same."""
    ports = wire.attribute(NUMBER, bytes([protocol])) + wire.attribute(DESTINATION_PORT, PORT.pack(port))
    by = wire.attribute(FILTER_ORIGINAL, wire.U32.pack(BY_NUMBER_AND_PORT))
    return _nested(TUPLE_ORIGINAL, _nested(TUPLE_PROTO, ports)) + _nested(FILTER, by)


def _read_flow(raw: bytes) -> Flow:
    """Port 0 where the protocol has none."""
    found = wire.attributes(raw, NFGENMSG.size)
    to = Entrance(*_read_end(found[TUPLE_ORIGINAL], DESTINATION, DESTINATION_PORT))
    answering = Target(*_read_end(found[TUPLE_REPLY], SOURCE, SOURCE_PORT)[1:])
    _, caller, _ = _read_end(found[TUPLE_ORIGINAL], SOURCE, SOURCE_PORT)
    identity = b"".join(wire.attribute(kind, found[kind]) for kind in (TUPLE_ORIGINAL, ID, ZONE) if kind in found)
    return Flow(to, answering, caller, identity)


def _read_end(raw: bytes, addresses: Collection[int], port: int) -> tuple[int, IPAddress, int]:
    """IP protocol number, address and port of one end in one direction."""
    parts = wire.attributes(raw, 0)
    of_ip, of_protocol = wire.attributes(parts[TUPLE_IP], 0), wire.attributes(parts[TUPLE_PROTO], 0)
    address = next(of_ip[kind] for kind in addresses if kind in of_ip)
    return of_protocol[NUMBER][0], wire.address(address), PORT.unpack(of_protocol.get(port, b"\0\0"))[0]


def _nested(kind: int, value: bytes) -> bytes:
    return wire.attribute(kind | NESTED, value)
