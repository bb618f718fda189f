"""The ports of this host that lead to containers: chosen, and held by a socket each so that nobody else takes them.

Packets never reach these sockets, since the filter sends them on before. They only say that the port is taken, to the
processes of the host and to ourselves."""

import errno
import logging
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from ipaddress import ip_address

from driver.errors import BadRequest, NetworkConflict
from driver.model import PROTOCOLS, Endpoint, PortRequest, Published
from store.ip import IPAddress

log = logging.getLogger(__name__)

EVERY = (ip_address("0.0.0.0"), ip_address("::"))
KINDS = {6: socket.SOCK_STREAM, 17: socket.SOCK_DGRAM, 132: socket.SOCK_STREAM}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
FREEBIND = {4: (socket.IPPROTO_IP, 15), 6: (socket.IPPROTO_IPV6, 78)}  # IP_FREEBIND, IPV6_FREEBIND
TRIES = 16  # ports that the kernel offers for the first family may be taken in the other
DYNAMIC = range(49152, 65536)  # offered where the kernel offers none


class Claims:
    """Where the kernel has no sockets of a protocol, as of SCTP without its module, no process has a port of it. But
    containers may."""

    def __init__(self) -> None:
        self._addresses: defaultdict[tuple[int, int], list[IPAddress]] = defaultdict(list)  # by protocol and port

    def take(self, sockets: ExitStack, protocol: int, address: IPAddress, port: int) -> int:
        """The port, a free one for 0; 0 if it is taken. It is free again when `sockets` are closed."""
        if not port:
            port = next((offer for offer in DYNAMIC if (protocol, offer) not in self._addresses), 0)
        elif any(_overlap(other, address) for other in self._addresses.get((protocol, port), ())):
            return 0
        if port:
            self._addresses[protocol, port].append(address)
            sockets.callback(self._give_back, protocol, address, port)
        return port

    def _give_back(self, protocol: int, address: IPAddress, port: int) -> None:
        self._addresses[protocol, port].remove(address)
        if not self._addresses[protocol, port]:
            del self._addresses[protocol, port]


class Ports:
    """Safe for many threads."""

    def __init__(self, endpoints: Callable[[], Iterable[Endpoint]]) -> None:
        self._endpoints = endpoints
        self._lock = threading.Lock()
        self._claims = Claims()
        self._held: dict[str, ExitStack] = {}  # by endpoint

    def take(self, endpoint: Endpoint, wanted: Sequence[PortRequest]) -> tuple[Published, ...]:
        """All that is wanted, or nothing: NetworkConflict names the port that somebody has."""
        with self._lock, ExitStack() as sockets:
            found: list[Published] = []
            for request in wanted:
                found += _take(sockets, endpoint, request, self._claims)
            self._keep(endpoint.id, sockets.pop_all())
        return tuple(found)

    def start(self) -> None:
        """Take again, after a restart, what the endpoints have, also at an address that this host does not have, or not
        yet. Whatever is wrong with one of them keeps nothing else from starting."""
        for endpoint in self._endpoints():
            with self._lock, ExitStack() as sockets:
                for published in endpoint.published:
                    if (why := self._not_held(sockets, published)) is not None:
                        told = {"port": published, "endpoint": endpoint.id[:12], "why": why}
                        log.error("port not held any more", extra=told)
                self._keep(endpoint.id, sockets.pop_all())

    def _not_held(self, sockets: ExitStack, published: Published) -> str | None:
        at = published.protocol, published.host_address, published.host_port
        try:
            return None if _bind(sockets, *at, self._claims, anywhere=True) else "taken meanwhile"
        except OSError as error:
            return error.strerror

    def stop(self) -> None:
        """They end with the process."""

    def release(self, endpoint_id: str) -> None:
        with self._lock:
            self._let_go(endpoint_id)

    def _keep(self, endpoint_id: str, sockets: ExitStack) -> None:
        self._let_go(endpoint_id)
        self._held[endpoint_id] = sockets

    def _let_go(self, endpoint_id: str) -> None:
        if (former := self._held.pop(endpoint_id, None)) is not None:
            former.close()


def _take(sockets: ExitStack, endpoint: Endpoint, request: PortRequest, claims: Claims) -> list[Published]:
    """The first port of the range that is free at all of the addresses."""
    versions = {address.version for address in endpoint.addresses}
    hosts = [request.host_address] if request.host_address else list(EVERY)
    addresses = [address for address in hosts if address.version in versions]
    if any(address.version == 6 and address.is_loopback for address in hosts):
        raise BadRequest(
            f"-p [{request.host_address}]:...: IPv6 leads nothing from there to a container; use 127.0.0.1"
        )
    if not addresses:
        raise NetworkConflict(f"-p {request.host_address}:...: the container has no IPv{hosts[0].version} address")
    offers = range(request.first, request.last + 1) if request.first else [0] * TRIES
    for offer in offers:
        with ExitStack() as attempt:
            port = offer
            for address in addresses:
                port = _bind(attempt, request.protocol, address, port, claims)
                if not port:
                    break
            else:
                sockets.push(attempt.pop_all())
                return [Published(request.protocol, address, port, request.port) for address in addresses]
    ports = str(request.first) if request.first == request.last else f"{request.first}-{request.last}"
    where = request.host_address or "this host"
    raise NetworkConflict(
        f"port {ports}/{PROTOCOLS[request.protocol]} of {where} is taken by another container or process; "
        "choose another, or none for a free one"
    )


def _bind(
    sockets: ExitStack,
    protocol: int,
    address: IPAddress,
    port: int,
    claims: Claims,
    *,
    anywhere: bool = False,
) -> int:
    """The port, a free one for 0; 0 if it is taken. `anywhere` is also at addresses that this host does not have."""
    try:
        made = socket.socket(FAMILIES[address.version], KINDS[protocol], protocol)
    except OSError as error:
        if error.errno == errno.EPROTONOSUPPORT:
            return claims.take(sockets, protocol, address, port)
        raise
    sockets.callback(made.close)
    if address.version == 6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if anywhere:
        made.setsockopt(*FREEBIND[address.version], 1)
    try:
        _hold(made, str(address), port)
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise NetworkConflict(f"-p {address}:{port}: this host has no address {address}") from None
        if error.errno != errno.EADDRINUSE:
            raise
        return 0
    return int(made.getsockname()[1])


def _hold(made: socket.socket, address: str, port: int) -> None:
    """Connections of a server that has just ended keep nobody off its port, if it would not be kept off itself
    (SO_REUSEADDR). By listening for an instant the socket then keeps off everybody."""
    if made.proto != socket.IPPROTO_TCP:
        made.bind((address, port))
        return
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    made.listen(0)
    made.shutdown(socket.SHUT_RD)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)


def _overlap(one: IPAddress, other: IPAddress) -> bool:
    return one.version == other.version and (one == other or one.is_unspecified or other.is_unspecified)
