"""The ports of this host that lead to containers: chosen, and held by a socket each so that nobody else takes them.

Packets never reach these sockets, since the filter sends them on before. They only say that the port is taken, to the
processes of the host and to ourselves."""

import errno
import logging
import socket
import threading
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
TRIES = 16  # ports that the kernel offers for the first family may be taken in the other


class Ports:
    """Safe for many threads."""

    def __init__(self, endpoints: Callable[[], Iterable[Endpoint]]) -> None:
        self._endpoints = endpoints
        self._lock = threading.Lock()
        self._held: dict[str, ExitStack] = {}  # sockets, by endpoint

    def take(self, endpoint: Endpoint, wanted: Sequence[PortRequest]) -> tuple[Published, ...]:
        """All that is wanted, or nothing: NetworkConflict names the port that somebody has."""
        with ExitStack() as sockets:
            found = [published for request in wanted for published in _take(sockets, endpoint, request)]
            self._keep(endpoint.id, sockets.pop_all())
        return tuple(found)

    def start(self) -> None:
        """Take again, after a restart, what the endpoints have."""
        for endpoint in self._endpoints():
            with ExitStack() as sockets:
                for published in endpoint.published:
                    if not _bind(sockets, published.protocol, published.host_address, published.host_port):
                        log.error("port taken meanwhile", extra={"port": published, "endpoint": endpoint.id[:12]})
                self._keep(endpoint.id, sockets.pop_all())

    def stop(self) -> None:
        """They end with the process."""

    def release(self, endpoint_id: str) -> None:
        with self._lock:
            sockets = self._held.pop(endpoint_id, None)
        if sockets is not None:
            sockets.close()

    def _keep(self, endpoint_id: str, sockets: ExitStack) -> None:
        with self._lock:
            former = self._held.get(endpoint_id)
            self._held[endpoint_id] = sockets
        if former is not None:
            former.close()


def _take(sockets: ExitStack, endpoint: Endpoint, request: PortRequest) -> list[Published]:
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
                port = _bind(attempt, request.protocol, address, port)
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


def _bind(sockets: ExitStack, protocol: int, address: IPAddress, port: int) -> int:
    """The port, chosen by the kernel if 0; 0 if it is taken."""
    try:
        made = socket.socket(FAMILIES[address.version], KINDS[protocol], protocol)
    except OSError as error:
        if error.errno == errno.EPROTONOSUPPORT:
            return port  # as SCTP where its module is not loaded: no process can have such a port either
        raise
    sockets.callback(made.close)
    if address.version == 6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        made.bind((str(address), port))
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise NetworkConflict(f"-p {address}:{port}: this host has no address {address}") from None
        if error.errno != errno.EADDRINUSE:
            raise
        return 0
    return int(made.getsockname()[1])
