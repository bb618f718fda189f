"""The flows that the kernel tracks: those which a published port led elsewhere are forgotten.

Every packet of a flow is translated as its first one was, whatever the rules say by then. A client that keeps sending
from one port, as UDP's do, would be sent to a container that is gone, or kept from one that has come, for ever. Once
the flow is forgotten its next packet is a first one.

Layouts: linux/netfilter/nfnetlink.h (nfgenmsg) and nfnetlink_conntrack.h (CTA_*); ports and flags of a flow in network
byte order, those of a filter in the machine's own."""

import struct
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from driver.errors import KernelError
from driver.kernel import wire
from driver.kernel.rawsocket import RawSocket
from driver.kernel.seen import dump_addresses
from driver.translations import Entrance, Target
from store.ip import IPAddress

NETLINK_NETFILTER = 12
GET_FLOW, DELETE_FLOW = 1 << 8 | 1, 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET and _DELETE
NFGENMSG = struct.Struct("!BBH")  # family, version, resource
PORT = struct.Struct("!H")
NESTED = 0x8000  # NLA_F_NESTED
TUPLE_ORIGINAL, TUPLE_REPLY, ID, ZONE, FILTER = 1, 2, 12, 18, 25  # CTA_*
TUPLE_IP, TUPLE_PROTO = 1, 2
SOURCE, DESTINATION = {4: 1, 6: 3}, {4: 2, 6: 4}  # CTA_IP_*, by IP version
NUMBER, SOURCE_PORT, DESTINATION_PORT = 1, 2, 3  # CTA_PROTO_*
FILTER_ORIGINAL, BY_NUMBER_AND_PORT = 1, 1 << 3 | 1 << 5  # CTA_FILTER_F_CTA_PROTO_NUM and _DST_PORT


class Flow(NamedTuple):
    to: Target  # what its first packet was sent to
    answering: Target  # who got it, after translation
    identity: bytes  # the attributes by which the kernel knows it


def forget(leading: Mapping[Entrance, Target | None]) -> int:
    """Forget the flows that came in by these and went elsewhere than they lead to (None: nowhere); how many they were.
    KernelError."""
    try:
        own = _own_addresses()
        flows = RawSocket(protocol=NETLINK_NETFILTER)
        try:
            return sum(_forget(flows, entrance, target, own) for entrance, target in leading.items())
        finally:
            flows.close()
    except OSError as error:
        raise KernelError(f"forgetting tracked flows: {error}") from error


def _own_addresses() -> set[IPAddress]:
    links = RawSocket()
    try:
        return {seen.interface.ip for seen in dump_addresses(links)}
    finally:
        links.close()


def _forget(flows: RawSocket, entrance: Entrance, target: Target | None, own: Collection[IPAddress]) -> int:
    head = NFGENMSG.pack(wire.family_of(entrance.address.version), 0, 0)
    stale = [
        (DELETE_FLOW, 0, head + flow.identity)
        for flow in _flows(flows, head, entrance)
        if _came_in(flow, entrance, own) and flow.answering != target
    ]
    flows.change(stale)  # what is refused has just ended by itself
    return len(stale)


def _came_in(flow: Flow, entrance: Entrance, own: Collection[IPAddress]) -> bool:
    """Not what this host forwards to the same port of another."""
    to = flow.to.address
    if entrance.address.is_unspecified:
        return to in own or to.is_loopback
    return to == entrance.address


def _flows(flows: RawSocket, head: bytes, entrance: Entrance) -> Iterator[Flow]:
    """To that port, at any address. Linux before 5.8 does not filter and tells of all."""
    ports = wire.attribute(NUMBER, bytes([entrance.protocol])) + wire.attribute(
        DESTINATION_PORT, PORT.pack(entrance.port)
    )
    request = head + _nested(TUPLE_ORIGINAL, _nested(TUPLE_PROTO, ports))
    request += _nested(FILTER, wire.attribute(FILTER_ORIGINAL, wire.U32.pack(BY_NUMBER_AND_PORT)))
    for raw in flows.dump(GET_FLOW, request):
        found = wire.attributes(raw, NFGENMSG.size)
        protocol, _, to = _read_tuple(found[TUPLE_ORIGINAL])
        if (protocol, to.port) == (entrance.protocol, entrance.port):
            identity = b"".join(
                wire.attribute(kind, found[kind]) for kind in (TUPLE_ORIGINAL, ID, ZONE) if kind in found
            )
            yield Flow(to, _read_tuple(found[TUPLE_REPLY])[1], identity)


def _read_tuple(raw: bytes) -> tuple[int, Target, Target]:
    """IP protocol number, source and destination of one direction; port 0 where the protocol has none."""
    parts = wire.attributes(raw, 0)
    addresses, ports = wire.attributes(parts[TUPLE_IP], 0), wire.attributes(parts[TUPLE_PROTO], 0)
    version = 4 if SOURCE[4] in addresses else 6

    def end(address: dict[int, int], port: int) -> Target:
        return Target(wire.address(addresses[address[version]]), PORT.unpack(ports.get(port, b"\0\0"))[0])

    return ports[NUMBER][0], end(SOURCE, SOURCE_PORT), end(DESTINATION, DESTINATION_PORT)


def _nested(kind: int, value: bytes) -> bytes:
    return wire.attribute(kind | NESTED, value)
