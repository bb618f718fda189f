"""What the Engine tells, as values: networks, containers and events, read from its API's JSON. Pure functions."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import get_mixed_type_key, ip_address, ip_network
from typing import Any, TypeVar

from ipam.model import PoolId
from ipam.spaces import OPTION
from store.ip import IPAddress, IPNetwork, contains
from store.records import NetworkShape

FOR_NOW = "(for now)"  # ends each refusal of ours that passes by itself
PASSES = re.compile(
    r"plugin .*not found|could not resolve driver|/plugins/.*\.sock"  # our driver was not there
    rf"|(?:Ipam|Network)Driver\.\w+: .*{re.escape(FOR_NOW)}"
)
T = TypeVar("T")
BUILT_IN_IPAM = ("default", "null", "dhcp", "")
MOST_NAMES = 32  # of one endpoint: all of a batch go into one request to the store


@dataclass(frozen=True, slots=True)
class Attached:
    container: str  # its name
    addresses: tuple[IPAddress, ...]


@dataclass(frozen=True, slots=True)
class EnginePool:
    """One network's pool, if another IPAM than Docker's own has it."""

    id: PoolId
    auxiliary: frozenset[IPAddress]  # --aux-address


@dataclass(frozen=True, slots=True)
class EngineNetwork:
    id: str
    name: str
    pools: tuple[PoolId, ...]  # if another IPAM than Docker's own has them
    endpoints: Mapping[str, Attached]  # by endpoint id
    reserved: frozenset[IPAddress]  # gateways and --aux-address


@dataclass(frozen=True, slots=True)
class ListedNetwork:
    id: str
    shape: NetworkShape
    leased: tuple[EnginePool, ...] = ()  # its pools, if another IPAM than Docker's own has them


@dataclass(frozen=True, slots=True)
class Unstarted:
    """A container that Docker starts by itself, and last could not."""

    id: str
    name: str
    error: str  # Docker's words

    @property
    def passes(self) -> bool:
        """Whether it was for want of our driver, or of what that needed, so that it may work another time."""
        return PASSES.search(self.error) is not None


@dataclass(frozen=True, slots=True)
class EngineEndpoint:
    id: str
    network: str  # what Docker calls it
    names: tuple[str, ...]  # by which others in the network know the container


@dataclass(frozen=True, slots=True)
class EngineContainer:
    id: str
    name: str
    image: str
    labels: Mapping[str, str]
    endpoints: tuple[EngineEndpoint, ...]  # none while it does not run


@dataclass(frozen=True, slots=True)
class Glance:
    """What one question about all containers tells of one that runs."""

    names: frozenset[str]  # its own, and those of links
    endpoints: frozenset[str]  # ids

    def shows(self, known: EngineContainer | None) -> bool:
        """Whether the container may still be as it was known, or unknown because it has no endpoint."""
        if known is None:
            return not self.endpoints
        return known.name in self.names and self.endpoints == {endpoint.id for endpoint in known.endpoints}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a network or a container, as GET /events has it."""

    kind: str  # network or container
    action: str  # one of FOLLOWED["event"]
    id: str  # of the network or container
    attributes: Mapping[str, str]  # name, and a container's labels; for a network also type (its driver) and container
    at: int  # nanoseconds since the epoch, by the Engine's clock


def read_network(shape: Any) -> EngineNetwork:
    """From GET /networks/ID."""
    ipam = shape.get("IPAM") or {}
    config = ipam.get("Config") or []
    endpoints = (shape.get("Containers") or {}).values()
    return EngineNetwork(
        shape["Id"],
        shape["Name"],
        tuple(pool.id for pool in read_pools(shape)),
        {e["EndpointID"]: _attached(e) for e in endpoints},
        frozenset(a for c in config for a in (*_addresses(c.get("Gateway")), *_auxiliary(c))),
    )


def read_listed(shape: Any) -> ListedNetwork:
    """From an element of GET /networks."""
    return ListedNetwork(shape["Id"], read_shape(shape), tuple(read_pools(shape)))


def read_pools(shape: Any) -> Iterator[EnginePool]:
    """From GET /networks/ID, or an element of GET /networks."""
    ipam = shape.get("IPAM") or {}
    space = (ipam.get("Options") or {}).get(OPTION, "")
    for config in ipam.get("Config") or [] if ipam.get("Driver") not in BUILT_IN_IPAM else []:
        if config.get("Subnet"):
            pool_id = PoolId(ip_network(config["Subnet"], strict=False), _range(config), space)
            yield EnginePool(pool_id, frozenset(_auxiliary(config)))


def _auxiliary(config: Any) -> tuple[IPAddress, ...]:
    return _addresses(*(config.get("AuxiliaryAddresses") or {}).values())


def _attached(shape: Any) -> Attached:
    return Attached(shape.get("Name", ""), _addresses(shape.get("IPv4Address"), shape.get("IPv6Address")))


def read_shape(shape: Any) -> NetworkShape:
    """From an element of GET /networks."""
    ipam = shape.get("IPAM") or {}
    config = ipam.get("Config") or []
    reserved = [pair for c in config for pair in (c.get("AuxiliaryAddresses") or {}).items()]
    return NetworkShape(
        name=shape["Name"],
        driver=shape["Driver"],
        ipam_driver=ipam.get("Driver") or "",
        pools=_ordered(ip_network(c["Subnet"], strict=False) for c in config if c.get("Subnet")),
        ranges=_ordered(ip_network(c["IPRange"], strict=False) for c in config if c.get("IPRange")),
        gateways=_ordered(_addresses(*(c.get("Gateway") for c in config))),
        reserved=tuple(sorted(reserved)),
        options=_pairs(shape.get("Options")),
        ipam_options=_pairs(ipam.get("Options")),
        labels=_pairs(shape.get("Labels")),
        internal=bool(shape.get("Internal")),
        attachable=bool(shape.get("Attachable")),
        ipv6=bool(shape.get("EnableIPv6")),
        ipv4=shape.get("EnableIPv4", True) is True,
    )


def body_of(shape: NetworkShape) -> dict[str, Any]:
    """POST /networks/create."""
    return {
        "Name": shape.name,
        "CheckDuplicate": True,
        "Driver": shape.driver,
        "Options": dict(shape.options),
        "IPAM": ipam_of(shape),
        "Internal": shape.internal,
        "Attachable": shape.attachable,
        "Labels": dict(shape.labels),
        "EnableIPv4": shape.ipv4,
        "EnableIPv6": shape.ipv6,
    }


def ipam_of(shape: NetworkShape) -> dict[str, Any]:
    """The IPAM part of POST /networks/create."""
    config: list[dict[str, Any]] = []
    for pool in shape.pools:
        part = {
            "Subnet": str(pool),
            "IPRange": next((str(range_) for range_ in shape.ranges if contains(pool, range_)), None),
            "Gateway": next((str(gateway) for gateway in shape.gateways if gateway in pool), None),
            "AuxiliaryAddresses": {name: text for name, text in shape.reserved if ip_address(text) in pool},
        }
        config.append({name: value for name, value in part.items() if value})
    return {"Driver": shape.ipam_driver, "Config": config, "Options": dict(shape.ipam_options)}


def _ordered(items: Iterable[T]) -> tuple[T, ...]:
    """IPv4 first, and by number: the CLI shuffles several --subnet."""
    return tuple(sorted(items, key=get_mixed_type_key))  # type: ignore[arg-type]


def _pairs(mapping: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((mapping or {}).items()))


def read_name(shape: Any) -> str:
    """From an element of GET /containers/json; one that is just being removed has no name."""
    return str((shape.get("Names") or [shape["Id"][:12]])[0]).lstrip("/")


def read_glance(shape: Any) -> Glance:
    """From an element of GET /containers/json."""
    networks = ((shape.get("NetworkSettings") or {}).get("Networks") or {}).values()
    endpoints = (attached["EndpointID"] for attached in networks if attached and attached.get("EndpointID"))
    return Glance(frozenset(str(name).lstrip("/") for name in shape.get("Names") or ()), frozenset(endpoints))


def read_unstarted(shape: Any) -> Unstarted | None:
    """From GET /containers/ID, of one that does not run; None if it is not to, or if it ended or was stopped: a start
    that works takes the last error away."""
    error = shape["State"].get("Error") or ""
    kept = shape["HostConfig"].get("RestartPolicy", {}).get("Name") in ("always", "unless-stopped")
    return Unstarted(shape["Id"], shape["Name"].lstrip("/"), error) if kept and error else None


def needs(shape: Any, network_id: str, name: str) -> bool:
    attached = (shape.get("NetworkSettings") or {}).get("Networks") or {}
    return any(known.get("NetworkID") == network_id for known in attached.values()) or (
        name in attached and not attached[name].get("NetworkID")
    )


def read_event(shape: Any) -> Event:
    actor = shape["Actor"]
    return Event(shape["Type"], shape["Action"], actor["ID"], actor.get("Attributes") or {}, shape["timeNano"])


def read_container(shape: Any) -> EngineContainer:
    """From GET /containers/ID/json."""
    name, config = shape["Name"].lstrip("/"), shape.get("Config") or {}
    networks = (shape.get("NetworkSettings") or {}).get("Networks") or {}
    return EngineContainer(
        shape["Id"],
        name,
        config.get("Image") or "",
        config.get("Labels") or {},
        tuple(
            EngineEndpoint(attached["EndpointID"], network, _names(name, shape["Id"], attached))
            for network, attached in networks.items()
            if attached and attached.get("EndpointID")
        ),
    )


def _names(name: str, container_id: str, attached: Any) -> tuple[str, ...]:
    """Engines before 25 do not list all of them."""
    listed = (attached.get("DNSNames") or []) + (attached.get("Aliases") or [])
    return tuple(dict.fromkeys([name, container_id[:12], *listed]))[:MOST_NAMES]


def _range(config: Any) -> IPNetwork | None:
    return ip_network(config["IPRange"], strict=False) if config.get("IPRange") else None


def _addresses(*texts: str | None) -> tuple[IPAddress, ...]:
    found = []
    for text in texts:
        with suppress(ValueError):
            found.append(ip_address((text or "").partition("/")[0]))
    return tuple(found)
