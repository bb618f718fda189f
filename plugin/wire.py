"""Docker's JSON <-> our dataclasses: with handshake.py the only file with Docker's spelling.

The protocol is described in moby, daemon/libnetwork/docs/remote.md and ipam.md, and spelled in
daemon/libnetwork/{drivers,ipams}/remote/api/api.go. Go omits or nulls what is empty, so only ids must be there."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from msgspec import Struct, field

from driver.model import (
    PROTOCOLS,
    EndpointRequest,
    JoinAnswer,
    NetworkRequest,
    PoolData,
    PortRequest,
    StaticRoute,
)
from ipam.errors import IpamError
from ipam.model import AddressRequest, PoolId, PoolRequest
from plugin import fields
from plugin.body import Malformed, Text, decode, shown
from plugin.handshake import ADDRESS_SPACE, Json
from store.ip import IPAddress, IPInterface, IPNetwork, contains

_GATEWAY = "com.docker.network.gateway"
_GATEWAY_FIELD = {4: "Gateway", 6: "GatewayIPv6"}
_CONNECTED, _VIA_NEXT_HOP = 1, 0  # libnetwork's types.CONNECTED and types.NEXTHOP
_MOST_POOLS = 64


# what Docker sends


class _NetworkOptions(Struct):
    driver_options: dict[Text, Text] | None = field(name="com.docker.network.generic", default=None)  # -o
    internal: bool = field(name="com.docker.network.internal", default=False)


class _IpamData(Struct):
    space: Text = field(name="AddressSpace", default="")
    pool: Text = field(name="Pool", default="")
    gateway: Text = field(name="Gateway", default="")
    aux: dict[Text, Text] | None = field(name="AuxAddresses", default=None)


class _GwAllocCheck(Struct):
    options: _NetworkOptions | None = field(name="Options", default=None)


class _NetworkId(Struct):
    network_id: Text = field(name="NetworkID")


class _CreateNetwork(_NetworkId):
    options: _NetworkOptions | None = field(name="Options", default=None)
    v4: list[_IpamData] | None = field(name="IPv4Data", default=None)
    v6: list[_IpamData] | None = field(name="IPv6Data", default=None)


class _AllocateNetwork(_NetworkId):
    options: dict[Text, Text] | None = field(name="Options", default=None)
    v4: list[_IpamData] | None = field(name="IPv4Data", default=None)
    v6: list[_IpamData] | None = field(name="IPv6Data", default=None)


class _Interface(Struct):
    v4: Text = field(name="Address", default="")
    v6: Text = field(name="AddressIPv6", default="")
    mac: Text = field(name="MacAddress", default="")


class _EndpointIds(_NetworkId):
    endpoint_id: Text = field(name="EndpointID")
    options: dict[str, Any] | None = field(name="Options", default=None)


class _CreateEndpoint(_EndpointIds):
    interface: _Interface | None = field(name="Interface", default=None)


class _Join(_EndpointIds):
    sandbox: Text = field(name="SandboxKey", default="")


class _PortMapping(Struct):
    protocol: int = field(name="Proto")
    port: int = field(name="Port")
    host_address: Text = field(name="HostIP", default="")
    first: int = field(name="HostPort", default=0)
    last: int = field(name="HostPortEnd", default=0)


class _PortOptions(Struct):
    mappings: list[_PortMapping] | None = field(name="com.docker.network.portmap", default=None)  # -p


class _ExternalConnectivity(_NetworkId):
    endpoint_id: Text = field(name="EndpointID")
    options: _PortOptions | None = field(name="Options", default=None)


class _Discovery(Struct):
    kind: int = field(name="DiscoveryType")
    data: Any = field(name="DiscoveryData", default=None)


class _RequestPool(Struct):
    space: Text = field(name="AddressSpace", default="")
    pool: Text = field(name="Pool", default="")
    range: Text = field(name="SubPool", default="")
    options: dict[Text, Text] | None = field(name="Options", default=None)
    v6: bool = field(name="V6", default=False)


class _PoolId(Struct):
    pool_id: Text = field(name="PoolID")


class _RequestAddress(_PoolId):
    address: Text = field(name="Address", default="")
    options: dict[Text, Text] | None = field(name="Options", default=None)


class _ReleaseAddress(_PoolId):
    address: Text = field(name="Address")


# requests, as our code wants them


def network_request(body: bytes) -> NetworkRequest:
    said = decode(body, _CreateNetwork)
    options = said.options or _NetworkOptions()
    pools = (*_pools("IPv4Data", said.v4 or [], 4), *_pools("IPv6Data", said.v6 or [], 6))
    if not pools:
        raise Malformed("IPv4Data and IPv6Data are both empty: a network needs a pool of addresses")
    return NetworkRequest(
        fields.identifier("NetworkID", said.network_id), pools, options.driver_options or {}, options.internal
    )


def gateway_check(body: bytes) -> None:
    decode(body, _GwAllocCheck)


def allocated_options(body: bytes) -> Mapping[str, str]:
    """AllocateNetwork's options. Only Swarm managers send it, and only to drivers of global scope."""
    said = decode(body, _AllocateNetwork)
    fields.identifier("NetworkID", said.network_id)
    return said.options or {}


def network_id(body: bytes) -> str:
    return fields.identifier("NetworkID", decode(body, _NetworkId).network_id)


def endpoint_request(body: bytes) -> EndpointRequest:
    said = decode(body, _CreateEndpoint)
    interface = said.interface or _Interface()
    _refuse_endpoint_options(said.options or {})
    given = (("Interface.Address", interface.v4, 4), ("Interface.AddressIPv6", interface.v6, 6))
    return EndpointRequest(
        *_ids(said),
        addresses=tuple(fields.interface(name, text, version) for name, text, version in given if text),
        mac=fields.mac("Interface.MacAddress", interface.mac) if interface.mac else None,
    )


def endpoint_ids(body: bytes) -> tuple[str, str]:
    """NetworkID and EndpointID, which is all that most calls about an endpoint say."""
    return _ids(decode(body, _EndpointIds))


def join_request(body: bytes) -> tuple[str, str, str]:
    """NetworkID, EndpointID, and the container's namespace, which up to Docker 27 does not exist yet at this moment:
    good for telling whether two endpoints are one container's."""
    said = decode(body, _Join)
    return *_ids(said), said.sandbox


def port_requests(body: bytes) -> tuple[str, str, tuple[PortRequest, ...]]:
    """NetworkID, EndpointID, and the ports that `-p` names."""
    said = decode(body, _ExternalConnectivity)
    network_id = fields.identifier("NetworkID", said.network_id)
    mappings = (said.options or _PortOptions()).mappings or []
    return network_id, fields.identifier("EndpointID", said.endpoint_id), tuple(map(_port_request, mappings))


def discovery(body: bytes) -> None:
    decode(body, _Discovery)


def pool_request(body: bytes) -> PoolRequest:
    said = decode(body, _RequestPool)
    version = 6 if said.v6 else 4
    pool = fields.pool("Pool (--subnet)", said.pool, version) if said.pool else None
    range_ = fields.pool("SubPool (--ip-range)", said.range, version) if said.range else None
    if range_ and not pool:
        raise Malformed(f"SubPool (--ip-range) {shown(said.range)} needs a Pool (--subnet) that holds it")
    if range_ and pool and not contains(pool, range_):
        raise Malformed(f"SubPool (--ip-range) {shown(said.range)} is not inside Pool (--subnet) {pool}")
    return PoolRequest(pool, range_, said.options or {}, said.v6)


def pool_id(body: bytes) -> PoolId:
    return _pool_id(decode(body, _PoolId).pool_id)


def address_request(body: bytes) -> AddressRequest:
    said = decode(body, _RequestAddress)
    pool = _pool_id(said.pool_id)
    wanted = fields.address("Address", said.address, pool.pool.version) if said.address else None
    return AddressRequest(pool, wanted, gateway=(said.options or {}).get("RequestAddressType") == _GATEWAY)


def released_address(body: bytes) -> tuple[PoolId, IPAddress]:
    said = decode(body, _ReleaseAddress)
    pool = _pool_id(said.pool_id)
    return pool, fields.address("Address", said.address, pool.pool.version)


# what Docker is told


def gateways_needed() -> Json:
    return {"SkipIPv4": False, "SkipIPv6": False}


def network_options(options: Mapping[str, str]) -> Json:
    return {"Options": dict(options)}


def endpoint_answer(request: EndpointRequest, mac: str) -> Json:
    """libnetwork fails the endpoint when a field that it gave is answered, even with the same value."""
    return {"Interface": {} if request.mac else {"MacAddress": mac}}


def join_answer(answer: JoinAnswer) -> Json:
    return {
        "InterfaceName": {"SrcName": answer.source_link, "DstPrefix": answer.destination_prefix},
        "StaticRoutes": [_route(route) for route in answer.static_routes],
        **{_GATEWAY_FIELD[gateway.version]: str(gateway) for gateway in answer.gateways},
    }


def endpoint_info() -> Json:
    """dockerd drops whatever a remote driver says here."""
    return {"Value": {}}


def pool_answer(pool_id: PoolId, pool: IPNetwork) -> Json:
    return {"PoolID": str(pool_id), "Pool": str(pool), "Data": {}}


def address_answer(given: IPInterface) -> Json:
    return {"Address": str(given), "Data": {}}


# parts


def _ids(said: _EndpointIds) -> tuple[str, str]:
    return fields.identifier("NetworkID", said.network_id), fields.identifier("EndpointID", said.endpoint_id)


def _pools(name: str, said: list[_IpamData], version: int) -> tuple[PoolData, ...]:
    if len(said) > _MOST_POOLS:
        raise Malformed(f"{name} has {len(said)} pools; {_MOST_POOLS} are the most")
    return tuple(_pool_data(f"{name}[{number}]", data, version) for number, data in enumerate(said))


def _pool_data(name: str, said: _IpamData, version: int) -> PoolData:
    if said.pool in ("0.0.0.0/0", "::/0"):
        raise Malformed(f"{name}.Pool is {said.pool}, as from --ipam-driver null: use --ipam-driver {ADDRESS_SPACE}")
    pool = fields.pool(f"{name}.Pool", said.pool, version)
    gateway = fields.inside(pool, f"{name}.Gateway", said.gateway) if said.gateway else None
    aux = ((f"{name}.AuxAddresses[{shown(host)}]", text) for host, text in (said.aux or {}).items())
    return PoolData(pool, gateway, said.space, tuple(fields.inside(pool, where, text).ip for where, text in aux))


def _port_request(said: _PortMapping) -> PortRequest:
    if said.protocol not in PROTOCOLS:
        raise Malformed(f"Proto {said.protocol} of a published port is none of tcp (6), udp (17) and sctp (132)")
    for name, port, least in (("Port", said.port, 1), ("HostPort", said.first, 0), ("HostPortEnd", said.last, 0)):
        if not least <= port <= 65535:
            raise Malformed(f"{name} {port} of a published port is not from {least} to 65535")
    address = fields.host_address("HostIP", said.host_address) if said.host_address else None
    return PortRequest(said.protocol, said.port, address, said.first, max(said.first, said.last))


def _pool_id(text: str) -> PoolId:
    """Only what we gave comes back, so any other spelling, though it parses, is somebody else's."""
    with suppress(IpamError):
        found = PoolId.parse(text)
        if str(found) == text and "%" not in text:
            return found
    raise Malformed(f"PoolID {shown(text)} is not an id that flannelpy gives: one reads like 10.240.0.0/18")


def _refuse_endpoint_options(options: Mapping[str, Any]) -> None:
    """Docker's own options are all `com.docker...`; others come from `docker network connect --driver-opt`."""
    for key, value in options.items():
        if not key.startswith("com.docker."):
            raise Malformed(f"Option {shown(key)} with value {shown(value)} is unknown: endpoints have no --driver-opt")


def _route(route: StaticRoute) -> Json:
    """The destination is always there: later versions of libnetwork dereference a missing one."""
    if route.next_hop is None:
        return {"Destination": str(route.destination), "RouteType": _CONNECTED}
    return {
        "Destination": str(route.destination),
        "RouteType": _VIA_NEXT_HOP,
        "NextHop": str(route.next_hop),
    }
