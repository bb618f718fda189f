"""What the Engine knows: the only file that uses its API. Never from a request, for the Engine waits for those; but for
one question that it answers at any time (`pools`, docs/adr/0029)."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import get_mixed_type_key, ip_address, ip_network
from typing import Any, TypeVar

import docker
from docker.errors import APIError, DockerException, NotFound, create_api_error_from_http_exception
from docker.utils import version_lt
from requests.exceptions import HTTPError, RequestException

from ipam.model import PoolId
from ipam.spaces import OPTION
from store.ip import IPAddress, IPNetwork, contains
from store.records import NetworkShape

NO_DRIVER = re.compile(r"plugin .*not found|could not resolve driver|/plugins/.*\.sock")
WITHOUT_IPV4 = "1.48"  # the API's version from which networks can be so
TIMEOUT = 10  # seconds for one answer
SHORT_TIMEOUT = 2  # where somebody waits for it
T = TypeVar("T")
BUILT_IN_IPAM = ("default", "null", "dhcp", "")
MOST_NAMES = 32  # of one endpoint: all of a batch go into one request to the store
# Health checks alone would make an event every few seconds for each container.
FOLLOWED = {
    "type": ["network", "container"],
    "event": ["create", "connect", "disconnect", "destroy", "start", "die", "rename"],
}


class EngineUnavailable(Exception):
    """The Engine did not answer. Says nothing about what it has."""


class EngineRefused(EngineUnavailable):
    """The Engine answered that it will not; the message is its own sentence."""


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


@dataclass(frozen=True, slots=True)
class Unstarted:
    """A container that Docker was to start by itself, and could not for want of a network driver."""

    id: str
    name: str
    error: str  # Docker's words


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


class Dockerd:
    def __init__(self, url: str) -> None:
        self._url = url
        self._version: str | None = None  # of the API, as agreed with the Engine when it was last connected to

    def networks(self) -> list[EngineNetwork]:
        """Every network of the Engine, whole; EngineUnavailable if any part of the answer is missing."""
        with self._client() as client:
            listed = client.networks()
            return [network for known in listed if (network := self._whole(client, known["Id"])) is not None]

    def listed(self) -> list[ListedNetwork]:
        """Every network of the Engine, without its containers."""
        with self._client() as client:
            return [ListedNetwork(shape["Id"], read_shape(shape)) for shape in client.networks()]

    def pools(self) -> list[EnginePool]:
        """Of every network; one that is used by two is there twice."""
        with self._client(SHORT_TIMEOUT) as client:
            return [pool for shape in client.networks() for pool in read_pools(shape)]

    def has_network(self, network_id: str) -> bool:
        with self._client() as client:
            try:
                client.inspect_network(network_id)
            except NotFound:
                return False
            return True

    def pid_of(self, container: str) -> int | None:
        """The first process of a container that runs, by name or id; None for any other."""
        with self._client() as client:
            found = self._inspected(client, container)
            return int(found["State"].get("Pid") or 0) or None if found is not None else None

    def users_of(self, network_id: str, name: str) -> list[str]:
        """The names of the containers that need the network, running or not. One that never ran knows its name only."""
        with self._client() as client:
            found = client.containers(all=True, filters={"network": [network_id, name]})
            return sorted(read_name(container) for container in found if _needs(container, network_id, name))

    def create_network(self, shape: NetworkShape) -> str:
        """The id. EngineRefused, also when there is a network of that name."""
        with self._client() as client:
            if not shape.ipv4 and version_lt(client.api_version, WITHOUT_IPV4):
                raise EngineRefused("it has no IPv4, and only Engine 28 and later make such networks")
            return _created(client, "networks", body_of(shape))

    def remove_network(self, network_id: str) -> None:
        """One already gone is fine. EngineRefused while a container is attached."""
        with self._client() as client, suppress(NotFound):
            client.remove_network(network_id)

    def unstarted(self, networks: Collection[str]) -> list[Unstarted]:
        """Of the containers in these networks, by id."""
        with self._client() as client:
            filters = {"network": list(networks), "status": ["created", "exited"]}
            found = [self._inspected(client, c["Id"]) for c in client.containers(all=True, filters=filters)]
            return [u for shape in found if shape is not None and (u := read_unstarted(shape)) is not None]

    def _inspected(self, client: Any, container_id: str) -> Any:
        """None for a container that was removed after it was listed."""
        try:
            return client.inspect_container(container_id)
        except NotFound:
            return None

    def start(self, container_id: str) -> None:
        """One that runs already is fine."""
        with self._client() as client:
            client.start(container_id)

    def running(self) -> dict[str, Glance]:
        """All containers that run, by id. Does not wait while the Engine starts or stops one."""
        with self._client() as client:
            return {shape["Id"]: read_glance(shape) for shape in client.containers()}

    def container(self, container_id: str) -> EngineContainer | None:
        """None if there is no such container. Waits while the Engine starts or stops it."""
        with self._client() as client:
            try:
                return read_container(client.inspect_container(container_id))
            except NotFound:
                return None

    @contextmanager
    def events(self, since: int) -> Iterator[Iterator[Event]]:
        """What the Engine still remembers since then (nanoseconds since the epoch), and what happens from now on.

        Ends, or raises EngineUnavailable, when the Engine does."""
        self._version = None  # whoever connects anew may have another Engine before him
        with self._client() as client:
            stream = client.events(since=f"{since // 10**9}.{since % 10**9:09d}", filters=FOLLOWED, decode=True)
            yield map(read_event, stream)

    @contextmanager
    def _client(self, timeout: int = TIMEOUT) -> Iterator[Any]:
        """A client for each look: an Engine that was restarted, or replaced, answers like any other."""
        try:
            client = self._connected(timeout)
            try:
                yield client
            finally:
                client.close()
        except APIError as error:
            if not _is_other_version(error):
                raise EngineRefused(str(error.explanation or error)) from error
            self._version = None
            raise EngineUnavailable(f"the Docker Engine at {self._url} was replaced: {error}") from error
        except (DockerException, RequestException, OSError) as error:
            self._version = None
            raise EngineUnavailable(f"the Docker Engine at {self._url} does not answer: {error}") from error

    def _connected(self, timeout: int) -> Any:
        """To be asked for its version, the Engine runs two programs: not more often than it can have changed."""
        version = self._version or "auto"
        client = docker.APIClient(base_url=self._url, version=version, timeout=timeout, use_ssh_client=False)
        self._version = client.api_version
        return client

    def _whole(self, client: Any, network_id: str) -> EngineNetwork | None:
        """None for a network that was removed after it was listed."""
        try:
            return read_network(client.inspect_network(network_id))
        except NotFound:
            return None


def _created(client: Any, what: str, body: Mapping[str, Any]) -> str:
    """The id of what is made. The library's own method has no word for a network without IPv4."""
    answer = client.post(f"{client.base_url}/v{client.api_version}/{what}/create", json=body, timeout=TIMEOUT)
    try:
        answer.raise_for_status()
    except HTTPError as error:
        create_api_error_from_http_exception(error)
    return str(answer.json()["Id"])


def _is_other_version(error: APIError) -> bool:
    """Too new or too old for this Engine."""
    return error.status_code == 400 and "client version" in str(error.explanation)


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


def read_pools(shape: Any) -> Iterator[EnginePool]:
    """From GET /networks/ID, or an element of GET /networks."""
    ipam = shape.get("IPAM") or {}
    space = (ipam.get("Options") or {}).get(OPTION, "")
    for config in ipam.get("Config") or [] if ipam.get("Driver") not in BUILT_IN_IPAM else []:
        if config.get("Subnet"):
            pool_id = PoolId(ip_network(config["Subnet"]), _range(config), space)
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
    """From GET /containers/ID; None if it is not to run, or does not run for another reason."""
    error = shape["State"].get("Error") or ""
    kept = shape["HostConfig"].get("RestartPolicy", {}).get("Name") in ("always", "unless-stopped")
    return Unstarted(shape["Id"], shape["Name"].lstrip("/"), error) if kept and NO_DRIVER.search(error) else None


def _needs(shape: Any, network_id: str, name: str) -> bool:
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
    return ip_network(config["IPRange"]) if config.get("IPRange") else None


def _addresses(*texts: str | None) -> tuple[IPAddress, ...]:
    found = []
    for text in texts:
        with suppress(ValueError):
            found.append(ip_address((text or "").partition("/")[0]))
    return tuple(found)
